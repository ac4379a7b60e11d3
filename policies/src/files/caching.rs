//! How long files may be kept by caches, by patterns on their names.

/// What `immutable` stands for: a year, without asking again (RFC 8246).
pub const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// One rule: names, and the `Cache-Control` of the files that have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRule {
    /// Which files.
    pub pattern: Pattern,
    /// The field's value.
    pub value: Box<str>,
}

/// Which names a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Those with a hash of their content in them, as build tools write them: a new content has a new name.
    Hashed,
    /// Those that look like this: `*` is any characters, `?` one. Without a `/`, the last segment is looked at; with one, the whole name below the root.
    Glob(Box<str>),
}

impl Pattern {
    /// Whether a name below the root is one of them.
    pub fn matches(&self, name: &[u8]) -> bool {
        let last = name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        match self {
            Self::Hashed => is_hashed(last),
            Self::Glob(pattern) if pattern.contains('/') => glob(pattern.as_bytes(), name),
            Self::Glob(pattern) => glob(pattern.as_bytes(), last),
        }
    }
}

/// The value for a file: of the first rule that is about it.
pub fn control<'a>(rules: &'a [CacheRule], name: &[u8]) -> Option<&'a str> {
    rules.iter().find(|rule| rule.pattern.matches(name)).map(|rule| &*rule.value)
}

/// Whether a name carries a hash: hexadecimal with digits and letters, eight characters or more, between a dot or a dash and a dot
/// (`app.0123456789ab.css` of Django), or eight characters of base64 with a digit and a capital behind a dash (`app-BhQ3k2aX.js` of Vite). Whatever could
/// be a word or a date is none: to miss a hash costs a question, to see one that is not there costs a year.
fn is_hashed(last: &[u8]) -> bool {
    let mut rest = last;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'.' | b'-')) {
        let dash = rest.get(at) == Some(&b'-');
        let behind = rest.get(at + 1..).unwrap_or_default();
        let hex = behind.iter().position(|&byte| byte == b'.').and_then(|dot| behind.get(..dot)).unwrap_or_default();
        if is_hex_hash(hex)
            || (dash && matches!(behind.get(8), Some(b'.')) && behind.get(..8).is_some_and(is_base64_hash))
        {
            return true;
        }
        rest = behind;
    }
    false
}

fn is_hex_hash(text: &[u8]) -> bool {
    text.len() >= 8
        && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && text.iter().any(u8::is_ascii_digit)
        && text.iter().any(u8::is_ascii_alphabetic)
}

fn is_base64_hash(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        && text.iter().any(u8::is_ascii_digit)
        && text.iter().any(u8::is_ascii_uppercase)
        && text.iter().any(u8::is_ascii_lowercase)
}

/// Whether a text looks like a pattern. Goes back to the last `*` only, so that its cost is bounded by the product of both lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') => (p, t) = (p + 1, t + 1),
            Some(byte) if text.get(t) == Some(byte) => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hashes_are_told_from_words_and_dates() {
        for (name, hashed) in [
            ("css/app.0123456789ab.css", true),
            ("app.55e7cbb9ba48.min.css", true),
            ("index-BhQ3k2aX.js", true),
            ("vendor-react-D3hX9_aZ.js", true),
            ("main.8f3a2b1c.chunk.js", true),
            ("app-8f3a2b1c9d.js", true),
            ("app.css", false),
            ("jquery-ui-autocomplete.js", false),
            ("user-settings.js", false),
            ("backup-20241231.csv", false),
            ("backup.20241231.csv", false),
            ("jquery-3.7.1.min.js", false),
            ("name-version2.js", false),
            ("page-userEdit.js", false),
            ("deadbeef.css", false),
            ("app.deadbeef.css", false),
            ("app.0123456789ab", false),
            ("app-BhQ3k2aX", false),
            ("", false),
            (".-.", false),
        ] {
            assert_eq!(Pattern::Hashed.matches(name.as_bytes()), hashed, "{name}");
        }
    }

    #[test]
    fn patterns_look_at_the_last_segment_or_at_all() {
        for (pattern, name, matches) in [
            ("*.css", "a/b.css", true),
            ("*.css", "a.css/b", false),
            ("assets/*", "assets/a/b.js", true),
            ("assets/*", "x/assets/a.js", false),
            ("*/assets/*", "x/assets/a.js", true),
            ("index.html", "deep/index.html", true),
            ("?.js", "a.js", true),
            ("?.js", "ab.js", false),
            ("*", "anything", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Pattern::Glob(pattern.into()).matches(name.as_bytes()), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn the_first_rule_decides() {
        let rule =
            |pattern: &str, value: &str| CacheRule { pattern: Pattern::Glob(pattern.into()), value: value.into() };
        let rules = [
            CacheRule { pattern: Pattern::Hashed, value: IMMUTABLE.into() },
            rule("*.html", "no-cache"),
            rule("*", "max-age=60"),
        ];
        assert_eq!(control(&rules, b"a.0123456789ab.css"), Some(IMMUTABLE));
        assert_eq!(control(&rules, b"index.html"), Some("no-cache"));
        assert_eq!(control(&rules, b"a.css"), Some("max-age=60"));
        assert_eq!(control(&rules[..2], b"a.css"), None);
    }

    /// The slow way.
    fn reference(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| reference(rest, &text[at..])),
            ([b'?', rest @ ..], [_, more @ ..]) => reference(rest, more),
            ([byte, rest @ ..], [other, more @ ..]) => byte == other && reference(rest, more),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn patterns_mean_what_the_slow_way_says(pattern in "[ab*?]{0,8}", text in "[abc]{0,10}") {
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), reference(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
