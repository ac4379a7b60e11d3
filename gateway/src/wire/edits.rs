//! Fields of answers that do not pass, or that are put on answers without them: how the configuration has them.

use std::borrow::Cow;
use std::sync::Arc;

use probegate_policies::fields::FieldName;

use super::h1::trailers;
use super::head::ResponseHead;

/// The name of the field that a redirect says where to go with.
pub const LOCATION: &[u8] = b"location";

/// What happens to the fields of an answer besides what every answer gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edits {
    /// Fields of the app's that do not pass, neither before the body nor behind it.
    pub drops: Arc<[FieldName]>,
    /// Groups of field lines with CRLF, an empty line behind each: a group is put on answers that have none of its fields.
    pub defaults: Arc<[u8]>,
    /// The app's paths are not those of clients: redirects of its own are told as clients have to follow them.
    pub prefixes: Option<Prefixes>,
}

/// How the paths of clients and of the app differ. Percent-encoded, without a slash at the end, empty where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefixes {
    /// In front of what clients ask for.
    pub outside: Arc<str>,
    /// In front of what the app sees.
    pub inside: Arc<str>,
}

impl Prefixes {
    /// The path for clients that a `Location` of the app's stands for. `None`: it stays as it is. Only what begins with one slash is a path
    /// of the app's; one that has the prefix for clients already was made by an app that knows of it.
    fn outwards(&self, location: &[u8]) -> Option<Vec<u8>> {
        let below = |path: &[u8], prefix: &str| {
            path.strip_prefix(prefix.as_bytes())
                .is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b'?' | b'#')))
        };
        if !location.starts_with(b"/") || matches!(location.get(1), Some(b'/' | b'\\')) {
            return None;
        }
        if !below(location, &self.inside) || (!self.outside.is_empty() && below(location, &self.outside)) {
            return None;
        }
        // Browsers take `\\` for a slash, and leave tabs and line ends out wherever they stand (WHATWG URL): no path of an app that means well.
        let query = location.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(location.len());
        if location.iter().any(u8::is_ascii_control) || location.iter().take(query).any(|&byte| byte == b'\\') {
            return None;
        }
        let rest = location.get(self.inside.len()..)?;
        let slash: &[u8] = if self.outside.is_empty() && !rest.starts_with(b"/") { b"/" } else { b"" };
        // What is left must not become another host.
        let rest = if self.outside.is_empty() && rest.starts_with(b"//") { return None } else { rest };
        Some([self.outside.as_bytes(), slash, rest].concat())
    }
}

impl Edits {
    /// Whether a field of the app's passes.
    pub fn keeps(&self, name: &[u8]) -> bool {
        !self.drops.iter().any(|dropped| dropped.matches(name))
    }

    /// Whether a field of a final answer passes. `moved`: another `Location` stands in place of the app's.
    pub fn passes(&self, name: &[u8], moved: bool) -> bool {
        self.keeps(name) && !(moved && name.eq_ignore_ascii_case(LOCATION))
    }

    /// The line that stands in place of the app's `Location`, where that says something else to clients than the app meant.
    pub fn location(&self, head: &ResponseHead, bytes: &[u8]) -> Option<Vec<u8>> {
        let prefixes = self.prefixes.as_ref()?;
        let mut locations = head.fields.iter().filter(|field| field.name.of(bytes).eq_ignore_ascii_case(LOCATION));
        let (Some(location), None) = (locations.next(), locations.next()) else { return None };
        let path = prefixes.outwards(location.value.of(bytes))?;
        Some([b"Location: ", &*path, b"\r\n"].concat())
    }

    /// The default lines that belong on an answer. `has` tells whether it has a field.
    pub fn missing(&self, has: impl Fn(&[u8]) -> bool) -> impl Iterator<Item = &[u8]> {
        Groups(&self.defaults).filter(move |group| !lines(group).any(|line| has(name(line))))
    }

    /// Adds the default lines that belong on a head in HTTP/1 whose field lines begin at `first`. What goes out counts, and not what the app said:
    /// a field that its `Connection` nominates does not pass.
    pub fn complete(&self, head: &mut Vec<u8>, first: usize) {
        let sent = head.get(first..).unwrap_or_default();
        let has = |wanted: &[u8]| lines(sent).any(|line| name(line).eq_ignore_ascii_case(wanted));
        let missing: Vec<u8> = self.missing(has).flatten().copied().collect();
        head.extend_from_slice(&missing);
    }

    /// A trailer section without what does not pass.
    pub fn trailers<'a>(&self, section: &'a [u8]) -> Cow<'a, [u8]> {
        trailers::without(section, &self.drops)
    }
}

/// Field lines, each with its CRLF.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == b'\n')
}

/// Whether a line that is put on an answer of the gateway's own gives way to what that says itself. What one says of `Vary` and `Set-Cookie` does not take
/// back what the other does.
pub fn yields(line: &[u8], said: impl Fn(&[u8]) -> bool) -> bool {
    let name = name(line);
    said(name) && !name.eq_ignore_ascii_case(b"vary") && !name.eq_ignore_ascii_case(b"set-cookie")
}

/// The name in a field line.
pub fn name(line: &[u8]) -> &[u8] {
    line.split(|&byte| byte == b':').next().unwrap_or_default()
}

/// The groups of a text, each without the empty line behind it.
struct Groups<'a>(&'a [u8]);

impl<'a> Iterator for Groups<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memmem::find(self.0, b"\r\n\r\n")?;
        let (group, rest) = self.0.split_at_checked(end + 2)?;
        self.0 = rest.get(2..).unwrap_or_default();
        Some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_comes_whole_or_not_at_all() {
        let edits = Edits {
            drops: Arc::new(["x-debug".parse().unwrap()]),
            defaults: Arc::from(&b"A: 1\r\n\r\nX-Frame-Options: DENY\r\nContent-Security-Policy: x\r\n\r\n"[..]),
            prefixes: None,
        };
        let missing = |known: &'static [u8]| -> Vec<u8> {
            edits.missing(move |name| name.eq_ignore_ascii_case(known)).flatten().copied().collect()
        };
        assert_eq!(missing(b"other"), b"A: 1\r\nX-Frame-Options: DENY\r\nContent-Security-Policy: x\r\n");
        assert_eq!(missing(b"content-security-policy"), b"A: 1\r\n");
        assert_eq!(missing(b"a"), b"X-Frame-Options: DENY\r\nContent-Security-Policy: x\r\n");
        assert!(edits.keeps(b"X-Other") && !edits.keeps(b"X-DEBUG"));
        assert_eq!(&*edits.trailers(b"X-Debug: 1\r\nX-Sum: 2\r\n"), b"X-Sum: 2\r\n");
    }

    #[test]
    fn a_redirect_of_the_app_is_told_as_clients_have_to_follow_it() {
        let outwards = |outside: &str, inside: &str, location: &str| {
            let prefixes = Prefixes { outside: outside.into(), inside: inside.into() };
            prefixes.outwards(location.as_bytes()).map(|path| String::from_utf8(path).unwrap())
        };
        for (location, told) in [
            ("/login/?next=/", Some("/api/login/?next=/")),
            ("/", Some("/api/")),
            ("/?a", Some("/api/?a")),
            ("/apis", Some("/api/apis")),
            // The app knows of the prefix (`FORCE_SCRIPT_NAME`).
            ("/api/login/", None),
            ("/api", None),
            // Not paths of the app's.
            ("//evil.example/", None),
            ("/\\evil.example/", None),
            ("https://shop.example/", None),
            ("login/", None),
            ("?a", None),
            ("", None),
        ] {
            assert_eq!(outwards("/api", "", location).as_deref(), told, "{location}");
        }
        assert_eq!(outwards("/api", "/v2", "/v2/x").as_deref(), Some("/api/x"));
        assert_eq!(outwards("/api", "/v2", "/x"), None);
        assert_eq!(outwards("", "/v2", "/v2/x").as_deref(), Some("/x"));
        assert_eq!(outwards("", "/v2", "/v2").as_deref(), Some("/"));
        assert_eq!(outwards("", "/v2", "/v2?a").as_deref(), Some("/?a"));
        // What is left must not be another host, as browsers read it.
        for location in [
            "/v2//evil.example",
            "/v2/\\evil.example/",
            "/v2\\\\evil.example/",
            "/v2/\t/evil.example/",
            "/v2/\t\\evil.example/",
            "/v2\t//evil.example/",
            "/v2/x\u{7f}",
            "/v2/x\\y",
            "/v2/x?a\t",
        ] {
            assert_eq!(outwards("", "/v2", location), None, "{location:?}");
            if !location.starts_with("/v2//") {
                assert_eq!(outwards("/api", "/v2", location), None, "{location:?}");
            }
        }
        assert_eq!(outwards("/api", "/v2", "/v2//x").as_deref(), Some("/api//x"));
        assert_eq!(outwards("", "/v2", "/v2/x?next=a\\b").as_deref(), Some("/x?next=a\\b"));
        assert_eq!(outwards("", "/v2", "/v2/./x").as_deref(), Some("/./x"));
    }
}
