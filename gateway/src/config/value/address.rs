//! Words for addresses: where the gateway listens, where apps listen, where logs go.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::{Invalid, Word};
use crate::plan::{LogTarget, ServerAddress};

impl Word for SocketAddr {
    const EXPECTED: &'static str = "an address and a port such as `0.0.0.0:8080` or `[::]:8080`";
    const PATTERN: &'static str = "^([0-9.]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        if let Ok(address) = text.parse() {
            return Ok(address);
        }
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Err(invalid.hint(format!("add a port: `{}`", Self::new(ip, 8080))));
        }
        Err(match text.rsplit_once(':') {
            Some(("" | "*", port)) if port.parse::<u16>().is_ok() => {
                invalid.hint(format!("write `0.0.0.0:{port}`, or `[::]:{port}` for IPv6 as well"))
            }
            Some(("localhost", port)) if port.parse::<u16>().is_ok() => {
                invalid.hint(format!("write `127.0.0.1:{port}`"))
            }
            _ => invalid,
        })
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{number}`"));
        Err(if number <= 0xffff { invalid.hint(format!("write `0.0.0.0:{number}`")) } else { invalid })
    }
}

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerWord {
    /// How it is reached.
    pub(crate) address: ServerAddress,
    /// As written.
    pub(crate) label: Box<str>,
    /// Whether it is spoken to over TLS, if it says so: `https://`, `http://`.
    pub(crate) tls: Option<bool>,
}

impl Word for ServerWord {
    const EXPECTED: &'static str = "a server such as `127.0.0.1:8000`, `app:8000` or `unix:/run/app.sock`";
    const PATTERN: &'static str = "^(unix:/.+|(https?://)?([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}/?)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::expected::<Self>(&format!("`{text}`"));
        let (tls, bare) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(bare), _) => (Some(true), bare),
            (_, Some(bare)) => (Some(false), bare),
            (None, None) => (None, text),
        };
        let address = if let Some(path) = text.strip_prefix("unix:") {
            unix(path).ok_or_else(|| invalid().hint("a socket is written as an absolute path: `unix:/run/app.sock`"))?
        } else {
            let authority = bare.strip_suffix('/').unwrap_or(bare);
            if authority.contains(['/', '?']) {
                return Err(Invalid::but("a server has no path", &format!("`{text}`"))
                    .hint("clients' paths are passed on as they are"));
            }
            tcp(authority).ok_or_else(|| {
                if missing_port(authority) {
                    Invalid::new(format!("server `{text}` has no port")).hint(format!("write `{authority}:8000`"))
                } else {
                    invalid()
                }
            })?
        };
        Ok(Self { address, label: text.into(), tls })
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{number}`"));
        Err(if number <= 0xffff { invalid.hint(format!("write `127.0.0.1:{number}`")) } else { invalid })
    }
}

/// A server that is not one of HTTP: `HOST:PORT`, or `unix:` with a path.
pub(super) fn store_address(text: &str) -> Option<ServerAddress> {
    text.strip_prefix("unix:").map_or_else(|| tcp(text), unix)
}

fn unix(path: &str) -> Option<ServerAddress> {
    let path = path.strip_prefix("//").unwrap_or(path);
    // sockaddr_un holds 108 bytes, the last one NUL.
    (path.starts_with('/') && path.len() < 108 && !path.contains('\0'))
        .then(|| ServerAddress::Unix(PathBuf::from(path)))
}

fn tcp(authority: &str) -> Option<ServerAddress> {
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return (address.port() != 0).then_some(ServerAddress::Tcp(address));
    }
    let (name, port) = authority.rsplit_once(':')?;
    let port =
        port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse::<u16>().ok())?.filter(|&port| port != 0)?;
    is_host_name(name).then(|| ServerAddress::Name(name.to_ascii_lowercase().into(), port))
}

fn missing_port(authority: &str) -> bool {
    let v6 = authority.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    v6.is_some_and(|ip| ip.parse::<IpAddr>().is_ok())
        || authority.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4())
        || is_host_name(authority)
}

/// A name that can be looked up: labels as in RFC 1123, with the `_` that Docker Compose allows in service names.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let last = name.rsplit('.').next().unwrap_or(name);
    // `127.0.0.256` is a mistyped address, not a name.
    name.len() <= 253 && name.split('.').all(label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

impl Word for LogTarget {
    const EXPECTED: &'static str = "`stderr`, `stdout` or the absolute path of a file";
    const PATTERN: &'static str = "^(stderr|stdout|/.+)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        match text {
            "stderr" => Ok(Self::Stderr),
            "stdout" => Ok(Self::Stdout),
            _ if Path::new(text).is_absolute() => Ok(Self::File(text.into())),
            "-" => Err(Invalid::expected::<Self>("`-`").hint("write `stdout`")),
            _ => Err(Invalid::expected::<Self>(&format!("`{text}`"))
                .hint(format!("write `/var/log/{}`", text.trim_start_matches("./")))),
        }
    }
}
