//! From the path of a request to the name of a file below a root.

use crate::probe::ProbeKind;
use crate::route::PathPrefix;

/// A name below a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// Segments with one `/` between them, none of them empty, `.` or `..`; empty for the root itself.
    pub relative: &'a [u8],
    /// The path ends with a slash: a folder is asked for, and nothing else.
    pub folder: bool,
}

/// The name that a canonical path stands for behind the prefix of its route, which is cut off (nginx's `alias`). `None`: no file can have it, or none
/// with this name is shown.
///
/// `path` was decoded once ([`crate::path`]), and is not decoded again. A slash that came percent-encoded is a slash; what such a slash makes of
/// the path (`..`, empty segments) is refused here.
pub fn of<'a>(path: &'a [u8], prefix: &PathPrefix, dotfiles: bool) -> Option<Name<'a>> {
    let prefix = prefix.as_str().trim_end_matches('/');
    let below = path.strip_prefix(prefix.as_bytes())?;
    let Some(below) = below.strip_prefix(b"/") else {
        // The folder itself, without its slash.
        return below.is_empty().then_some(Name { relative: b"", folder: false });
    };
    let (relative, folder) = match below.strip_suffix(b"/") {
        Some(relative) => (relative, true),
        None => (below, below.is_empty()),
    };
    if relative.is_empty() {
        // `/static//` has an empty segment.
        return (below.is_empty()).then_some(Name { relative, folder });
    }
    is_shown(relative, dotfiles).then_some(Name { relative, folder })
}

/// Whether every segment of a name is one that a file can have and that may be shown.
fn is_shown(relative: &[u8], dotfiles: bool) -> bool {
    if relative.iter().any(|&byte| matches!(byte, 0 | b'\\')) {
        return false;
    }
    let mut first = true;
    relative.split(|&byte| byte == b'/').all(|segment| match segment {
        b"" | b"." | b".." => false,
        // RFC 8615: made to be shown.
        b".well-known" if std::mem::take(&mut first) => true,
        [b'.', ..] => dotfiles,
        _ => {
            first = false;
            true
        }
    })
}

/// Whether the page of a single-page app may stand for a name where there is no file: only for one that does not look like a file (its last segment has
/// no dot), and never for the path of a probe, mapped or not, because whoever asks for one would take any page for "healthy". Names that are words are
/// those of pages where they stand deeper.
pub fn may_stand_in(path: &[u8], name: Name<'_>) -> bool {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let last = name.relative.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let of_probe = || NO_WORDS.iter().any(|probe| probe.as_bytes().eq_ignore_ascii_case(last));
    !last.contains(&b'.') && !of_probe() && !is_probe(path) && !is_probe(&[b"/", name.relative].concat())
}

/// Names that nothing else has.
const NO_WORDS: [&str; 4] = ["healthz", "readyz", "startupz", "livez"];

/// Names that orchestrators ask for, besides those of the probes here.
const PROBES: [&str; 6] = ["/livez", "/health", "/healthcheck", "/ready", "/live", "/ping"];

fn is_probe(path: &[u8]) -> bool {
    let known = |known: &str| known.as_bytes().eq_ignore_ascii_case(path);
    ProbeKind::ALL
        .iter()
        .any(|kind| path.strip_prefix(b"/").is_some_and(|name| kind.name().as_bytes().eq_ignore_ascii_case(name)))
        || PROBES.iter().any(|name| known(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::path::{Scratch, canonicalise};

    fn name(path: &str, prefix: &str, dotfiles: bool) -> Option<(String, bool)> {
        let name = of(path.as_bytes(), &prefix.parse().unwrap(), dotfiles)?;
        Some((String::from_utf8(name.relative.to_vec()).unwrap(), name.folder))
    }

    #[test]
    fn the_prefix_is_cut_off() {
        for (path, prefix, expected) in [
            ("/static/a.css", "/static/", Some(("a.css", false))),
            ("/static/a/b.css", "/static", Some(("a/b.css", false))),
            ("/static/a/", "/static/", Some(("a", true))),
            ("/static/", "/static/", Some(("", true))),
            ("/static", "/static/", Some(("", false))),
            ("/", "/", Some(("", true))),
            ("/a", "/", Some(("a", false))),
            ("/staticfiles/a", "/static/", None),
            ("/other", "/static/", None),
            ("/static//", "/static/", None),
            ("/static//a", "/static/", None),
            ("/static/a//", "/static/", None),
            ("//", "/", None),
            ("//evil.example", "/", None),
        ] {
            assert_eq!(name(path, prefix, false), expected.map(|(name, folder)| (name.to_owned(), folder)), "{path}");
        }
    }

    #[test]
    fn what_no_file_can_be_named_or_none_is_shown_by() {
        for path in [
            "/s/..",
            "/s/../x",
            "/s/a/../../x",
            "/s/.",
            "/s/./a",
            "/s/a\\b",
            "/s/..\\x",
            "/s/a\0.css",
            "/s/.env",
            "/s/.git/config",
            "/s/a/.htaccess",
            "/s/a/.well-known/x",
            "/s/.well-known/.secret",
            "/s/.well-known/../x",
        ] {
            assert_eq!(name(path, "/s/", false), None, "{path}");
        }
        assert_eq!(name("/.well-known/x", "/", false), Some((".well-known/x".into(), false)));
        assert_eq!(name("/.git/config", "/", true), Some((".git/config".into(), false)));
        assert_eq!(name("/..", "/", true), None);
        assert_eq!(name("/...", "/", true), Some(("...".into(), false)));
    }

    #[test]
    fn a_page_stands_in_for_no_file_and_no_probe() {
        for (path, stands) in [
            ("/", true),
            ("/users/7", true),
            ("/users/7/", true),
            ("/app.js", false),
            ("/img/logo.png", false),
            ("/v1.2/users", true),
            ("/healthz", false),
            ("/readyz/", false),
            ("/startupz", false),
            ("/version", false),
            ("/livez", false),
            ("/Healthz", false),
            ("/healthz/detail", true),
        ] {
            let name = of(path.as_bytes(), &"/".parse().unwrap(), false).unwrap();
            assert_eq!(may_stand_in(path.as_bytes(), name), stands, "{path}");
        }
        // Nor for one below the route.
        for (path, stands) in [
            ("/shop/healthz", false),
            ("/shop/Ready", false),
            ("/shop/a/b/Livez", false),
            ("/shop/people/health", true),
            ("/shop/chairs", true),
        ] {
            let name = of(path.as_bytes(), &"/shop/".parse().unwrap(), false).unwrap();
            assert_eq!(may_stand_in(path.as_bytes(), name), stands, "{path}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn no_path_leads_out_of_the_root(pieces in prop::collection::vec(prop::sample::select(vec![
            "/", "/", "..", ".", "\\", "%2f", "%2e", "%5c", "%00", "%252e", "a", "s", ".well-known", ";", "%c0%ae",
        ]), 0..12), dotfiles in any::<bool>()) {
            let path = format!("/s/{}", pieces.concat());
            let mut scratch = Scratch::default();
            let Ok(canonical) = canonicalise(path.as_bytes(), &mut scratch) else { return Ok(()) };
            let Some(name) = of(canonical.path, &"/s/".parse().unwrap(), dotfiles) else { return Ok(()) };
            prop_assert!(!name.relative.starts_with(b"/") && !name.relative.ends_with(b"/"));
            prop_assert!(!name.relative.contains(&0) && !name.relative.contains(&b'\\'));
            if !name.relative.is_empty() {
                for segment in name.relative.split(|&byte| byte == b'/') {
                    prop_assert!(!matches!(segment, b"" | b"." | b".."));
                    prop_assert!(dotfiles || !segment.starts_with(b".") || segment == b".well-known");
                }
            }
        }
    }
}
