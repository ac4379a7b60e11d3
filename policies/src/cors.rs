//! Which origins may read answers (the Fetch standard's CORS protocol): origins as they are configured, compared as browsers send them.
//!
//! Browsers write an origin in one way only: scheme and host in lower case, no default port. So an origin is compared byte by byte, and one that
//! no browser would send is refused where it is written.

use std::fmt;
use std::str::FromStr;

/// The origins that may read answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// All, without credentials.
    Any,
    /// These.
    Listed(Box<[OriginPattern]>),
}

impl Origins {
    /// Whether the value of `Origin` is one of them. Where all are, nobody looks.
    pub fn hold(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(patterns) => patterns.iter().any(|pattern| pattern.matches(origin)),
        }
    }
}

/// One origin, or all subdomains of a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginPattern {
    /// The origin; for subdomains everything up to and with `//`.
    start: Box<str>,
    /// For subdomains: everything from the dot behind the star on, the port included.
    end: Option<Box<str>>,
}

impl OriginPattern {
    /// Whether the value of `Origin` is this one.
    pub fn matches(&self, origin: &[u8]) -> bool {
        let Some(end) = &self.end else { return origin == self.start.as_bytes() };
        let labels = origin.strip_prefix(self.start.as_bytes()).and_then(|rest| rest.strip_suffix(end.as_bytes()));
        labels.is_some_and(is_host)
    }

    /// Whether it is `null`: the origin of files, sandboxes and redirects, which anybody can have.
    pub fn is_null(&self) -> bool {
        self.end.is_none() && &*self.start == "null"
    }
}

/// Labels of lower-case letters, digits and `-`, none of them empty.
fn is_host(text: &[u8]) -> bool {
    let label = |label: &[u8]| {
        !label.is_empty() && label.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    text.split(|&byte| byte == b'.').all(label)
}

impl FromStr for OriginPattern {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        if text == "null" {
            return Ok(Self { start: text.into(), end: None });
        }
        let (scheme, rest) = text.split_once("://").ok_or(InvalidOrigin::Scheme)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(plain) {
            return Err(InvalidOrigin::Scheme);
        }
        if rest.contains(['/', '?', '#', '@']) {
            return Err(InvalidOrigin::Path);
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(InvalidOrigin::Case);
        }
        // The colon behind an IPv6 address in brackets, or the only one.
        let (host, port) = match rest.rfind(':').filter(|&at| !rest.get(at..).unwrap_or_default().contains(']')) {
            Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
            None => (rest, None),
        };
        if let Some(port) = port {
            let number: u16 = port.parse().map_err(|_| InvalidOrigin::Port)?;
            if number == 0 || port != number.to_string() {
                return Err(InvalidOrigin::Port);
            }
            if matches!((scheme, number), ("http", 80) | ("https", 443)) {
                return Err(InvalidOrigin::DefaultPort);
            }
        }
        let (named, star) = host.strip_prefix("*.").map_or((host, false), |named| (named, true));
        let literal = !star && named.starts_with('[') && super::host::parse_authority(named.as_bytes()).is_ok();
        if !literal && !is_host(named.as_bytes()) {
            return Err(InvalidOrigin::Host);
        }
        if !star {
            return Ok(Self { start: text.into(), end: None });
        }
        let start = format!("{scheme}://");
        let end = text.get(start.len() + 1..).unwrap_or_default();
        Ok(Self { start: start.into(), end: Some(end.into()) })
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.end {
            None => f.write_str(&self.start),
            Some(end) => write!(f, "{}*{end}", self.start),
        }
    }
}

/// Why a text is no origin as a browser would send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrigin {
    /// No scheme.
    #[error("an origin begins with a scheme, such as `https://`")]
    Scheme,
    /// More than scheme, host and port.
    #[error("an origin ends with the host or its port: no path, no slash")]
    Path,
    /// Upper case.
    #[error("browsers send origins in lower case")]
    Case,
    /// No port.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// The scheme's own port.
    #[error("browsers leave the scheme's own port out")]
    DefaultPort,
    /// No host, or a star elsewhere than in front.
    #[error("the host is not a name, with or without `*.` in front of it")]
    Host,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> OriginPattern {
        text.parse().unwrap()
    }

    #[test]
    fn an_origin_is_compared_exactly() {
        let shop = pattern("https://shop.example");
        assert!(shop.matches(b"https://shop.example"));
        for other in [
            "http://shop.example",
            "https://shop.example:443",
            "https://shop.example:8443",
            "https://shop.example.evil.example",
            "https://a.shop.example",
            "https://shop.example/",
            "https://SHOP.example",
            "null",
            "",
        ] {
            assert!(!shop.matches(other.as_bytes()), "{other}");
        }
        assert!(pattern("https://[::1]:8443").matches(b"https://[::1]:8443"));
        assert!(pattern("capacitor://localhost").matches(b"capacitor://localhost"));
        assert!(pattern("null").matches(b"null") && pattern("null").is_null());
    }

    #[test]
    fn subdomains_are_meant_by_a_star_and_the_host_itself_is_not() {
        let any = pattern("https://*.shop.example:8443");
        assert_eq!(any.to_string(), "https://*.shop.example:8443");
        assert!(any.matches(b"https://a.shop.example:8443") && any.matches(b"https://a.b.shop.example:8443"));
        for other in [
            "https://shop.example:8443",
            "https://.shop.example:8443",
            "https://a.shop.example",
            "https://evil.example/.shop.example:8443",
            "https://evil.example#.shop.example:8443",
            "https://user@a.shop.example:8443",
            "https://a..shop.example:8443",
            "https://evilshop.example:8443",
            "https://a:1.shop.example:8443",
            "null",
        ] {
            assert!(!any.matches(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_no_origin() {
        for (text, error) in [
            ("shop.example", InvalidOrigin::Scheme),
            ("https:shop.example", InvalidOrigin::Scheme),
            ("https://shop.example/", InvalidOrigin::Path),
            ("https://user@shop.example", InvalidOrigin::Path),
            ("https://Shop.example", InvalidOrigin::Case),
            ("https://shop.example:443", InvalidOrigin::DefaultPort),
            ("http://shop.example:80", InvalidOrigin::DefaultPort),
            ("https://shop.example:0443", InvalidOrigin::Port),
            ("https://shop.example:http", InvalidOrigin::Port),
            ("https://*", InvalidOrigin::Host),
            ("https://a.*.example", InvalidOrigin::Host),
            ("https://", InvalidOrigin::Host),
            ("*", InvalidOrigin::Scheme),
        ] {
            assert_eq!(text.parse::<OriginPattern>(), Err(error), "{text}");
        }
    }
}
