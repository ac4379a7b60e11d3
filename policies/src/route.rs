//! Which rule set a path belongs to: path prefixes, and a table of them.

use std::fmt;
use std::str::FromStr;

/// A path and everything below it. `/admin` and `/admin/` are the same; `/` covers every path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPrefix(
    /// Without the trailing slash; the root is empty.
    Box<str>,
);

impl PathPrefix {
    /// As it is written, without the trailing slash; `/` for the root.
    pub fn as_str(&self) -> &str {
        if self.0.is_empty() { "/" } else { &self.0 }
    }

    /// Whether a decoded path is the prefix or lies below it. `/administrator` is not below `/admin`.
    #[inline]
    pub fn covers(&self, path: &[u8]) -> bool {
        path.strip_prefix(self.0.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
    }
}

impl FromStr for PathPrefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        if !text.starts_with('/') {
            return Err(InvalidPrefix::NotAbsolute);
        }
        // `;` and `\` make a path ambiguous, so no path that holds one would ever arrive here.
        let stray = |c: &char| matches!(c, '%' | '?' | '#' | ';' | '\\') || c.is_ascii_control();
        if let Some(found) = text.chars().find(stray) {
            return Err(InvalidPrefix::Character { found });
        }
        if text.contains("//") {
            return Err(InvalidPrefix::EmptySegment);
        }
        if text.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(InvalidPrefix::DotSegment);
        }
        Ok(Self(text.trim_end_matches('/').into()))
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

/// Why a text is no [`PathPrefix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrefix {
    /// Paths start with a slash.
    #[error("a path must start with '/'")]
    NotAbsolute,
    /// Paths are compared decoded and without a query, so that it could never match.
    #[error("a path must not contain {found:?}: it is compared decoded and without a query")]
    Character {
        /// The first character that does not belong.
        found: char,
    },
    /// No canonical path has two slashes in a row.
    #[error("a path must not contain '//'")]
    EmptySegment,
    /// No canonical path has a dot segment.
    #[error("a path must not contain the segments '.' and '..'")]
    DotSegment,
}

/// The same prefix was given twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path {0} is given twice")]
pub struct DuplicatePrefix(
    /// The prefix.
    pub PathPrefix,
);

/// Prefixes and what each of them leads to, an index that means something to the caller.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    /// Longest first, so that the first one that covers is the answer. A scan and not a tree: its cost is set by the
    /// configuration, and no client can choose a path that makes it dear.
    routes: Box<[(PathPrefix, usize)]>,
}

impl RouteTable {
    /// A table of prefixes in any order.
    pub fn new(routes: impl IntoIterator<Item = (PathPrefix, usize)>) -> Result<Self, DuplicatePrefix> {
        let mut routes: Vec<_> = routes.into_iter().collect();
        routes.sort_by(|(a, _), (b, _)| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
        for pair in routes.windows(2) {
            if let [(a, _), (b, _)] = pair
                && a == b
            {
                return Err(DuplicatePrefix(a.clone()));
            }
        }
        Ok(Self { routes: routes.into() })
    }

    /// What the longest prefix that covers a decoded path leads to.
    #[inline]
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        self.routes.iter().find(|(prefix, _)| prefix.covers(path)).map(|&(_, target)| target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> PathPrefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_covers_itself_and_what_is_below() {
        for text in ["/admin", "/admin/"] {
            let admin = prefix(text);
            assert!(admin.covers(b"/admin"));
            assert!(admin.covers(b"/admin/"));
            assert!(admin.covers(b"/admin/users/1"));
            assert!(!admin.covers(b"/administrator"));
            assert!(!admin.covers(b"/Admin"));
            assert!(!admin.covers(b"/"));
            assert_eq!(admin.to_string(), "/admin");
        }
        assert!(prefix("/").covers(b"/"));
        assert!(prefix("/").covers(b"/anything"));
        assert_eq!(prefix("/").to_string(), "/");
    }

    #[test]
    fn a_prefix_that_could_never_match_is_refused() {
        let cases = [
            ("admin", InvalidPrefix::NotAbsolute),
            ("", InvalidPrefix::NotAbsolute),
            ("/a%20b", InvalidPrefix::Character { found: '%' }),
            ("/a?b", InvalidPrefix::Character { found: '?' }),
            ("/a#b", InvalidPrefix::Character { found: '#' }),
            ("/a;b", InvalidPrefix::Character { found: ';' }),
            ("/a//b", InvalidPrefix::EmptySegment),
            ("/a//", InvalidPrefix::EmptySegment),
            ("/a/./b", InvalidPrefix::DotSegment),
            ("/a/..", InvalidPrefix::DotSegment),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<PathPrefix>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn the_longest_prefix_wins_in_any_order_of_writing() {
        let routes = [("/", 0), ("/api", 1), ("/api/admin", 2), ("/apis", 3)];
        for turn in 0..routes.len() {
            let mut turned = routes;
            turned.rotate_left(turn);
            let table = RouteTable::new(turned.map(|(text, target)| (prefix(text), target))).unwrap();
            assert_eq!(table.find(b"/api/admin/x"), Some(2));
            assert_eq!(table.find(b"/api/administrator"), Some(1));
            assert_eq!(table.find(b"/apis"), Some(3));
            assert_eq!(table.find(b"/x"), Some(0));
        }
        assert_eq!(RouteTable::default().find(b"/"), None);
    }

    #[test]
    fn two_spellings_of_one_prefix_are_a_duplicate() {
        let twice = RouteTable::new([(prefix("/a"), 0), (prefix("/b"), 1), (prefix("/a/"), 2)]);
        assert_eq!(twice.unwrap_err(), DuplicatePrefix(prefix("/a")));
    }
}
