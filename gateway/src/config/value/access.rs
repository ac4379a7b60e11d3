//! Words that the rules read themselves: networks, host patterns, path prefixes.

use ipnet::IpNet;
use probegate_policies::host::HostPattern;
use probegate_policies::ip::{InvalidNet, parse_net};
use probegate_policies::route::PathPrefix;

use super::{Invalid, Word};

impl Word for IpNet {
    const EXPECTED: &'static str = "a network such as `10.0.0.0/8`, `2001:db8::/32` or a single address";
    const PATTERN: &'static str = "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        parse_net(text).map_err(|reason| match reason {
            InvalidNet::HostBits { suggestion } => {
                let single = text.split_once('/').map_or(text, |(address, _)| address);
                Invalid::new(format!("`{text}` has bits set beyond its prefix"))
                    .hint(format!("write `{suggestion}` for the network, or `{single}` for the single address"))
            }
            InvalidNet::Syntax => Invalid::expected::<Self>(&format!("`{text}`")),
            other => Invalid::new(format!("`{text}` is not a network: {other}")),
        })
    }
}

impl Word for HostPattern {
    const EXPECTED: &'static str = "a host such as `shop.example.com`, `*.example.com` or `*`";
    const PATTERN: &'static str = "^(\\*|(\\*\\.)?[^*/\\s]+)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse().map_err(|_| {
            let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
            if let Some((_, host)) = text.split_once("://") {
                invalid.hint(format!("write `{}`", host.trim_end_matches('/')))
            } else if let Some(host) = text.strip_prefix('.') {
                invalid.hint(format!("write `*.{host}`"))
            } else if let Some((host, port)) = text.rsplit_once(':')
                && port.parse::<u16>().is_ok()
            {
                invalid.hint(format!("write `{host}`: ports are not compared"))
            } else {
                invalid
            }
        })
    }
}

impl Word for PathPrefix {
    const EXPECTED: &'static str = "a path such as `/admin/`";
    const PATTERN: &'static str = "^/[^?#%]*$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse().map_err(|reason| {
            let invalid = Invalid::new(format!("`{text}` is not a path prefix: {reason}"));
            match text {
                _ if text.starts_with(['~', '^']) => {
                    invalid.hint("prefixes are plain text, regular expressions are not supported")
                }
                _ if text.starts_with('/') => invalid,
                _ => invalid.hint(format!("write `/{text}`")),
            }
        })
    }
}
