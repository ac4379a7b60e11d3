//! A table of host names, some with a wildcard.

use std::fmt;
use std::str::FromStr;

use super::{Authority, InvalidHost, parse_authority};

/// The longest name that is looked up; DNS allows 253 bytes.
const MAX_HOST: usize = 256;

/// The host names that one site answers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// One name, lower-case, without a trailing dot.
    Exact(Box<str>),
    /// Every name with one or more labels before this one: holds `example.com` for `*.example.com`.
    Wildcard(Box<str>),
    /// `*`: whatever no other pattern matches.
    Any,
}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (name, wildcard) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        match parse_authority(name.as_bytes())? {
            Authority { port: Some(_), .. } => return Err(InvalidHost::Port),
            Authority { host: [b'[', ..], .. } if wildcard => return Err(InvalidHost::Literal),
            Authority { host, .. } if host.contains(&b'*') => return Err(InvalidHost::Character),
            Authority { .. } => {}
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into_boxed_str();
        Ok(if wildcard { Self::Wildcard(name) } else { Self::Exact(name) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(name) => write!(f, "*.{name}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// The same pattern was given twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host {0} is given twice")]
pub struct DuplicateHost(
    /// The pattern.
    pub HostPattern,
);

/// Host names and what each of them leads to, an index that means something to the caller.
#[derive(Clone, Debug, Default)]
pub struct HostTable {
    exact: Names,
    wildcards: Names,
    any: Option<usize>,
}

impl HostTable {
    /// A table of patterns in any order.
    pub fn new(hosts: impl IntoIterator<Item = (HostPattern, usize)>) -> Result<Self, DuplicateHost> {
        let (mut exact, mut wildcards, mut any) = (Vec::new(), Vec::new(), None);
        for (pattern, target) in hosts {
            match pattern {
                HostPattern::Exact(name) => exact.push((name, target)),
                HostPattern::Wildcard(name) => wildcards.push((name, target)),
                HostPattern::Any if any.replace(target).is_some() => return Err(DuplicateHost(HostPattern::Any)),
                HostPattern::Any => {}
            }
        }
        Ok(Self {
            exact: Names::new(exact).map_err(|name| DuplicateHost(HostPattern::Exact(name)))?,
            wildcards: Names::new(wildcards).map_err(|name| DuplicateHost(HostPattern::Wildcard(name)))?,
            any,
        })
    }

    /// What a host leads to, given without its port: its own name before the longest wildcard before `*`. Case and one
    /// trailing dot make no difference. A name longer than any in DNS leads nowhere.
    #[inline]
    pub fn find(&self, host: &[u8]) -> Option<usize> {
        let host = host.strip_suffix(b".").unwrap_or(host);
        let mut buffer = [0; MAX_HOST];
        let lower = buffer.get_mut(..host.len())?;
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        self.exact.find(lower).or_else(|| self.find_wildcard(lower)).or(self.any)
    }

    fn find_wildcard(&self, host: &[u8]) -> Option<usize> {
        if self.wildcards.0.is_empty() {
            return None;
        }
        // From the left, so that the longest parent is asked for first.
        memchr::memchr_iter(b'.', host).find_map(|dot| self.wildcards.find(host.get(dot + 1..)?))
    }
}

/// Sorted names. A binary search needs no hash of bytes that a client chose.
#[derive(Clone, Debug, Default)]
struct Names(Box<[(Box<str>, usize)]>);

impl Names {
    /// Gives back a name that occurs twice.
    fn new(mut names: Vec<(Box<str>, usize)>) -> Result<Self, Box<str>> {
        names.sort_unstable();
        for pair in names.windows(2) {
            if let [(a, _), (b, _)] = pair
                && a == b
            {
                return Err(a.clone());
            }
        }
        Ok(Self(names.into()))
    }

    #[inline]
    fn find(&self, name: &[u8]) -> Option<usize> {
        let index = self.0.binary_search_by(|(known, _)| known.as_bytes().cmp(name)).ok()?;
        self.0.get(index).map(|&(_, target)| target)
    }
}
