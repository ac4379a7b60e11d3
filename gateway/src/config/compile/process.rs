//! What concerns the gateway as a whole: listeners, trusted proxies, logs, deadlines, bounds.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use probegate_policies::client::{ForwardingField, Missing, TrustedProxies};
use probegate_policies::ip::IpSet;

use super::Context;
use crate::config::value::{FieldText, FilePath, Leaf, LogLevel, MissingWord, Seconds, Size, Workers};
use crate::config::{ConfigPath, lint, raw};
use crate::plan;

/// Trusted proxies, and where each of them is written.
pub(in crate::config) struct Client {
    pub(in crate::config) proxies: TrustedProxies,
    pub(in crate::config) trusted: Vec<(IpNet, ConfigPath)>,
}

pub(super) fn client_ip(raw: Option<raw::ClientIp>, cx: &mut Context<'_>) -> Client {
    let raw::ClientIp { trusted_proxies, header, missing } = raw.unwrap_or_default();
    let path = ConfigPath::root().key("client_ip");
    let list = path.key("trusted_proxies");
    let trusted: Vec<_> =
        trusted_proxies.into_iter().flatten().map(|(index, Leaf(net))| (net, list.index(index))).collect();
    for (net, path) in &trusted {
        lint::trusted_network(net, path, cx);
    }
    let says_how = header.is_some() || missing.is_some();
    if trusted.is_empty() && says_how && !cx.is_broken(&list) {
        lint::forwarding_without_proxies(&path, cx);
    }
    let field = match header {
        None => ForwardingField::XForwardedFor,
        Some(Leaf(FieldText { name, .. })) => match name.as_str() {
            "x-forwarded-for" => ForwardingField::XForwardedFor,
            "forwarded" => ForwardingField::Forwarded,
            _ => ForwardingField::Single(name),
        },
    };
    let missing = missing.map_or(Missing::Unknown, |Leaf(MissingWord(missing))| missing);
    let set = IpSet::new(trusted.iter().map(|(net, _)| *net));
    Client { proxies: TrustedProxies::new(set, field, missing), trusted }
}

pub(super) fn workers(raw: Option<Leaf<Workers>>, cx: &Context<'_>) -> usize {
    match raw {
        Some(Leaf(Workers::Exactly(number))) => number.get(),
        Some(Leaf(Workers::Auto)) | None => cx.environment().parallelism().max(1),
    }
}

/// The level of the diagnostics log, and the access log.
pub(super) fn log(raw: Option<raw::Log>, cx: &mut Context<'_>) -> (String, plan::AccessLog) {
    let raw::Log { level, access, nginx_errors } = raw.unwrap_or_default();
    let raw::AccessLog { format, to } = access.unwrap_or_default();
    let format = format.map_or(plan::AccessFormat::Json, |Leaf(format)| format);
    if format == plan::AccessFormat::Off && to.is_some() {
        let path = ConfigPath::root().key("log").key("access").key("to");
        cx.key_error(&path, "`to` has no meaning while `format` is `off`", "remove it");
    }
    let level = level.map_or_else(|| "info".to_owned(), |Leaf(LogLevel(level))| level.into());
    let target = to.map_or(plan::LogTarget::Stderr, |Leaf(target)| target);
    let nginx_errors = nginx_errors.map(|Leaf(target)| target);
    if format != plan::AccessFormat::Off
        && nginx_errors.as_ref() == Some(&target)
        && matches!(target, plan::LogTarget::File(_))
    {
        let path = ConfigPath::root().key("log").key("nginx_errors");
        cx.error(&path, "the access log goes to the same file", "name another one: tools that read it know one format");
    }
    (level, plan::AccessLog { format, target, nginx_errors })
}

pub(super) fn timeouts(raw: Option<raw::Timeouts>, cx: &mut Context<'_>) -> plan::Timeouts {
    let raw::Timeouts { head, keep_alive, body, write, tunnel, handshake, connection } = raw.unwrap_or_default();
    let path = ConfigPath::root().key("timeouts");
    plan::Timeouts {
        head: cx.deadline(head, &path, "head", Duration::from_secs(10)),
        keep_alive: cx.deadline(keep_alive, &path, "keep_alive", Duration::from_secs(75)),
        body: cx.deadline(body, &path, "body", Duration::from_secs(30)),
        write: cx.deadline(write, &path, "write", Duration::from_secs(60)),
        tunnel: cx.deadline(tunnel, &path, "tunnel", Duration::from_secs(3600)),
        handshake: cx.deadline(handshake, &path, "handshake", Duration::from_secs(10)),
        connection: cx.deadline(connection, &path, "connection", Duration::from_secs(3600)),
    }
}

pub(super) fn bounds(raw: Option<raw::Bounds>, cx: &mut Context<'_>) -> plan::Bounds {
    let raw::Bounds {
        head,
        fields,
        target,
        connections,
        connections_per_client,
        requests_per_connection,
        handshakes,
        streams,
        streams_per_client,
        body_rate,
        write_rate,
    } = raw.unwrap_or_default();
    let path = ConfigPath::root().key("bounds");
    let bounds = plan::Bounds {
        head: size(head, &path.key("head"), 32 << 10, cx),
        fields: cx.number(fields, &path, "fields", 8..=1000, 100),
        target: size(target, &path.key("target"), 8 << 10, cx),
        connections: cx.number(connections, &path, "connections", 1..=1 << 24, 16_384),
        connections_per_client: cx.number(connections_per_client, &path, "connections_per_client", 1..=1 << 24, 1024),
        requests_per_connection: cx.number(
            requests_per_connection,
            &path,
            "requests_per_connection",
            1..=usize::MAX >> 1,
            10_000,
        ),
        handshakes: cx.number(handshakes, &path, "handshakes", 1..=1 << 20, 1024),
        streams: cx.number(streams, &path, "streams", 1..=10_000, 100),
        streams_per_client: cx.number(streams_per_client, &path, "streams_per_client", 1..=1 << 24, 2048),
        body_rate: cx.number(body_rate, &path, "body_rate", 0..=1 << 30, 240) as u64,
        write_rate: cx.number(write_rate, &path, "write_rate", 0..=1 << 30, 240) as u64,
    };
    if bounds.target > bounds.head {
        let message = format!(
            "`target` ({} bytes) is larger than `head` ({} bytes), which it is a part of",
            bounds.target, bounds.head
        );
        let key = if cx.origin(&path.key("target")).line > 0 { "target" } else { "head" };
        cx.error(&path.key(key), message, "make `head` larger or `target` smaller");
    }
    bounds
}

/// A size of something that is held in memory for each connection. Positions in a head are 16 bits wide, with room to spare.
fn size(raw: Option<Leaf<Size>>, path: &ConfigPath, default: usize, cx: &mut Context<'_>) -> usize {
    let Some(Leaf(Size(bytes))) = raw else { return default };
    if let Ok(bytes @ 0x200..=0xf000) = usize::try_from(bytes) {
        return bytes;
    }
    let key = path.last_key().unwrap_or_default();
    let message = format!("`{key}` is {bytes} bytes, expected a size from 512 bytes to 60KiB");
    cx.error(path, message, format!("the default is `{}KiB`", default >> 10));
    default
}

/// Memory and disk for bodies that wait.
pub(super) fn buffers(raw: Option<raw::Buffers>, cx: &mut Context<'_>) -> plan::Buffers {
    let raw::Buffers { memory, total_memory, disk, total_disk, timeout, directory } = raw.unwrap_or_default();
    let path = ConfigPath::root().key("buffers");
    let bytes = |raw: Option<Leaf<Size>>, default| raw.map_or(default, |Leaf(Size(bytes))| bytes);
    let (memory, total_memory) = (bytes(memory, 64 << 10), bytes(total_memory, 256 << 20));
    let (disk, total_disk) = (bytes(disk, 1 << 30), bytes(total_disk, 4 << 30));
    for (part, whole, names) in
        [(memory, total_memory, ["memory", "total_memory"]), (disk, total_disk, ["disk", "total_disk"])]
    {
        if part > whole {
            let [part, whole] = names;
            let key = if cx.origin(&path.key(part)).line > 0 { part } else { whole };
            let message = format!("`{part}`, for one body, is more than `{whole}`, for all of them");
            cx.error(&path.key(key), message, format!("make `{whole}` larger or `{part}` smaller"));
        }
    }
    let folder = match directory {
        Some(Leaf(FilePath(folder))) => cx.environment().resolve(&folder),
        None => match cx.environment().variable("TMPDIR") {
            Some(folder) if !folder.is_empty() => PathBuf::from(OsString::from_vec(folder)),
            _ => PathBuf::from("/tmp"),
        },
    };
    lint::buffers(&folder, cx);
    let timeout = cx.deadline(timeout, &path, "timeout", Duration::from_secs(30));
    let memory = usize::try_from(memory).unwrap_or(usize::MAX);
    plan::Buffers { memory, total_memory, disk, total_disk, timeout, folder }
}

pub(super) fn shutdown(raw: Option<raw::Shutdown>, cx: &mut Context<'_>) -> plan::Shutdown {
    let raw::Shutdown { delay, drain } = raw.unwrap_or_default();
    let path = ConfigPath::root().key("shutdown");
    plan::Shutdown {
        // Zero is fine here: most load balancers look away on their own.
        delay: delay.map_or(Duration::ZERO, |Leaf(Seconds(delay))| delay),
        drain: cx.deadline(drain, &path, "drain", Duration::from_secs(30)),
    }
}

/// The folder for what must survive the gateway.
pub(super) fn storage(raw: Option<Leaf<FilePath>>, cx: &Context<'_>) -> PathBuf {
    match raw {
        Some(Leaf(FilePath(path))) => cx.environment().resolve(&path),
        // systemd sets it for `StateDirectory=`; of several folders, the first is ours.
        None => match cx.environment().variable("STATE_DIRECTORY") {
            Some(folders) if !folders.is_empty() => {
                let first = folders.split(|&byte| byte == b':').next().unwrap_or_default();
                PathBuf::from(OsString::from_vec(first.to_vec()))
            }
            _ => PathBuf::from("/var/lib/probegate"),
        },
    }
}
