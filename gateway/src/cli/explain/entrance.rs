//! The request to explain, as it would arrive.

use std::rc::Rc;

use probegate_policies::forwarded::Scheme;
use probegate_policies::host::parse_authority;

use super::Arguments;
use crate::connection::Facts;
use crate::plan::{Listener, Plan};

/// Where the request would come in.
pub(super) struct Entrance<'a> {
    /// The listener that the URL leads to: the one with its port, else the first of its scheme; `None` for a path alone.
    pub(super) listener: Option<&'a Listener>,
    /// What would be known about the connection.
    pub(super) facts: Facts,
}

impl<'a> Entrance<'a> {
    /// The one that the arguments lead to.
    pub(super) fn of(plan: &'a Plan, arguments: &Arguments) -> Self {
        let parts = arguments.url.split_once("://");
        let secure = parts.is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"));
        let listener = parts.and_then(|(_, rest)| {
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            let port = parse_authority(authority.as_bytes()).ok().and_then(|authority| authority.port);
            let port = port.unwrap_or(if secure { 443 } else { 80 });
            let of_scheme = || plan.listeners.iter().filter(|listener| listener.tls.is_some() == secure);
            of_scheme().find(|listener| listener.address.port() == port).or_else(|| of_scheme().next())
        });
        let from = (arguments.from, 0).into();
        let mut facts = Facts::plain(from, from, Rc::new(listener.map_or(from, |listener| listener.address)));
        if secure {
            facts.scheme = Scheme::Https;
        }
        facts.redirect_https = listener.and_then(|listener| listener.redirect_https);
        facts.probes_only = listener.is_some_and(|listener| listener.probes_only);
        facts.missing = listener.and_then(|listener| listener.missing);
        Self { listener, facts }
    }
}

/// The request as it would arrive.
pub(super) fn head(arguments: &Arguments) -> Vec<u8> {
    let rest = arguments.url.split_once("://").map(|(_, rest)| rest);
    let host = rest.map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
    let target = match (rest, host) {
        (Some(rest), Some(host)) => rest.get(host.len()..).filter(|path| !path.is_empty()).unwrap_or("/").to_owned(),
        _ => arguments.url.clone(),
    };
    let mut head = format!("{} {target} HTTP/1.1\r\n", arguments.method);
    let names_host = arguments.fields.iter().any(|field| field.to_ascii_lowercase().starts_with("host:"));
    if !names_host {
        head.push_str(&format!("Host: {}\r\n", host.unwrap_or("localhost")));
    }
    for field in &arguments.fields {
        head.push_str(&format!("{field}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}
