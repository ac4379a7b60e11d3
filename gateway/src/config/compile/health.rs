//! Active checks of servers, and who is asked for their names.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use probegate_policies::health::Terms;
use secrecy::ExposeSecret as _;

use super::{Context, probe};
use crate::config::shape::List;
use crate::config::value::{Count, ExactPath, Flag, Host, Leaf};
use crate::config::{ConfigPath, raw};
use crate::plan::{HealthCheck, HealthRequest};

/// Nobody learns anything from more checks than this.
const SHORTEST: Duration = Duration::from_millis(100);

/// `host`: the service's own, if it has one.
pub(super) fn check(raw: raw::Health, host: Option<&str>, path: &ConfigPath, cx: &mut Context<'_>) -> HealthCheck {
    let raw::Health { path: at, host: written, token, status, tcp, interval, timeout, fall, rise } = raw;
    let tcp = tcp.is_some_and(|Leaf(Flag(tcp))| tcp);
    let asks =
        [("path", at.is_some()), ("host", written.is_some()), ("token", token.is_some()), ("status", status.is_some())];
    for (key, _) in asks.into_iter().filter(|(_, there)| *there && tcp) {
        let message = format!("`{key}` has no meaning with `tcp: true`: nothing is asked");
        cx.key_error(&path.key(key), message, "remove it, or remove `tcp`");
    }
    let token = token.and_then(|token| probe::app_token(token, &path.key("token"), cx));
    let statuses = status.map(|list| {
        let path = path.key("status");
        if list.is_empty() {
            cx.error(
                &path,
                "`status` is empty: no check would ever pass",
                "write `[200]`, or leave it out for any 2xx",
            );
        }
        let mut statuses = Vec::new();
        for (index, Leaf(Count(status))) in list {
            match u16::try_from(status) {
                Ok(status @ 200..=599) => statuses.push(status),
                _ => {
                    let message = format!("`{status}` is not the status of an answer, expected one from 200 to 599");
                    cx.error(&path.index(index), message, "");
                }
            }
        }
        statuses
    });
    let interval_path = path.key("interval");
    let interval = cx.deadline(interval, path, "interval", Duration::from_secs(10));
    if interval < SHORTEST {
        let message = format!("`interval` is shorter than {} ms", SHORTEST.as_millis());
        cx.error(&interval_path, message, "the default is `10s`");
    }
    let timeout = cx.deadline(timeout, path, "timeout", Duration::from_secs(1));
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let terms = Terms {
        fall: count(cx.number(fall, path, "fall", 1..=1000, 3)),
        rise: count(cx.number(rise, path, "rise", 1..=1000, 2)),
    };
    let ask = (!tcp).then(|| HealthRequest {
        path: at.map_or_else(|| "/healthz".into(), |Leaf(ExactPath(path))| path),
        host: written.map(|Leaf(Host(host))| host).or_else(|| host.map(Into::into)),
        token,
        statuses: statuses.unwrap_or_default(),
    });
    let mut hasher = DefaultHasher::new();
    (interval, timeout, terms).hash(&mut hasher);
    if let Some(HealthRequest { path, host, token, statuses }) = &ask {
        let token = token.as_ref().map(|token| (&token.field, token.secret.expose_secret()));
        (path, host, statuses, token).hash(&mut hasher);
    }
    HealthCheck { ask, interval, timeout, terms, fingerprint: hasher.finish() }
}

/// The servers of DNS to ask.
pub(super) fn resolver(raw: List<Leaf<SocketAddr>>, path: &ConfigPath, cx: &mut Context<'_>) -> Arc<[SocketAddr]> {
    if raw.is_empty() {
        cx.error(path, "`resolver` is empty: no name could be resolved", "write `[\"10.0.0.2:53\"]`, or leave it out");
    }
    raw.into_iter().map(|(_, Leaf(address))| address).collect()
}
