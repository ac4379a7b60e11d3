//! Requests to the admin listener of a running gateway.

use std::fmt;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use probegate_policies::printable::printable;
use serde_json::Value;

use super::say;
use crate::admin;

/// How long a command waits for an answer, if it does not say otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// How soon a gateway is asked again that has no time for switches.
const AGAIN: Duration = Duration::from_millis(50);

/// The largest answer that is read.
const LIMIT: usize = 16 << 20;

/// Which gateway is asked, and how it knows that it may be.
#[derive(Debug, clap::Args)]
pub(super) struct Gateway {
    /// Its admin listener (an address, or a name of this machine such as `localhost`, with a port), or `unix:PATH` for its admin socket.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9900")]
    admin: Place,
    /// The header that carries the token in `PROBEGATE_ADMIN_TOKEN`, where the gateway asks for one (`admin.tokens`). Default: `Authorization: Bearer`.
    #[arg(long, value_name = "NAME")]
    token_header: Option<String>,
}

/// Where a gateway is asked.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// At one of these addresses: what a name stands for on this machine may be several.
    Tcp(Vec<SocketAddr>),
    /// At a Unix socket.
    Unix(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(_) => Err("a path follows `unix:`".to_owned()),
            None => match text.parse() {
                Ok(address) => Ok(Self::Tcp(vec![address])),
                Err(_) => named(text).map(Self::Tcp),
            },
        }
    }
}

/// What a name and a port stand for, if that is this machine. A token is not sent to where only a resolver says it belongs.
fn named(text: &str) -> Result<Vec<SocketAddr>, String> {
    const EXPECTED: &str = "expected an address and a port such as `127.0.0.1:9900` or `localhost:9900`, or `unix:/run/probegate/admin.sock`";
    let is_name = text.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok());
    if !is_name {
        return Err(EXPECTED.to_owned());
    }
    let found: Vec<_> = text.to_socket_addrs().map_err(|error| format!("{error}: {EXPECTED}"))?.collect();
    if found.is_empty() || found.iter().any(|address| !address.ip().is_loopback()) {
        return Err(
            "names have to lead to this machine, such as `localhost`: write the address of another one".to_owned()
        );
    }
    Ok(found)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addresses) => addresses.first().map_or(Ok(()), |address| address.fmt(f)),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why there is no answer to go on with.
#[derive(Debug)]
pub(super) struct Unanswered {
    /// What is to be told.
    pub(super) text: String,
    /// It may have been done all the same: it was sent, and no answer came back, or one that breaks off.
    pub(super) unknown: bool,
}

impl Unanswered {
    fn refused(text: &str) -> Self {
        Self { text: plain(text), unknown: false }
    }
}

impl Gateway {
    /// The JSON that answers. `None`: it does not, or refuses, which the person at the terminal has been told.
    pub(super) fn ask(&self, method: &str, target: &str) -> Option<Value> {
        self.quietly(method, target).inspect_err(|why| say(&why.text)).ok()
    }

    /// The same, for somebody who may ask again.
    ///
    /// # Errors
    /// What is to be told.
    pub(super) fn quietly(&self, method: &str, target: &str) -> Result<Value, Unanswered> {
        let (status, value) = self.answer(method, target, PATIENCE)?;
        if status == 200 { Ok(value) } else { Err(refusal(&value)) }
    }

    /// Status and JSON of what it answers within `patience`.
    ///
    /// # Errors
    /// What is to be told.
    pub(super) fn answer(&self, method: &str, target: &str, patience: Duration) -> Result<(u16, Value), Unanswered> {
        let mut fields = format!("{}: 1\r\n", admin::FIELD);
        if let Ok(token) = std::env::var("PROBEGATE_ADMIN_TOKEN") {
            let line = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            let header = self.token_header.as_deref();
            if !line(&token) || !header.is_none_or(line) {
                return Err(Unanswered::refused("the token is not printable ASCII"));
            }
            match header {
                Some(header) => write!(fields, "{header}: {token}\r\n").ok(),
                None => write!(fields, "Authorization: Bearer {token}\r\n").ok(),
            };
        }
        let end = Instant::now() + PATIENCE;
        let (status, body) = loop {
            let mut sent = false;
            match put(&self.admin, method, target, &fields, patience, &mut sent) {
                // It starts, or another process takes over: a moment.
                Ok((503, _)) if Instant::now() < end => std::thread::sleep(AGAIN),
                Ok(answer) => break answer,
                Err(error) => {
                    return Err(Unanswered { text: silence(&self.admin, &error, patience), unknown: sent });
                }
            }
        };
        // An app answers in JSON as well, and so does a listener for clients: whoever refuses here says why.
        match serde_json::from_str::<Value>(&body) {
            Ok(value) if status == 200 || value.get("reason").is_some_and(Value::is_string) => Ok((status, value)),
            _ => Err(Unanswered::refused(&format!(
                "{} is not the admin listener of a gateway: it answers with status {status}",
                self.admin
            ))),
        }
    }
}

/// What there is to say about an answer that did not come.
pub(super) fn silence(place: &Place, error: &io::Error, patience: Duration) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no answer from {place} within {} s: is this the admin listener?", patience.as_secs())
        }
        io::ErrorKind::UnexpectedEof => {
            format!("no answer from {place}, which closed the connection: is this the admin listener?")
        }
        _ => format!("no answer from {place}: {error}"),
    }
}

/// Why it refuses.
pub(super) fn refusal(value: &Value) -> Unanswered {
    let text = value.get("detail").and_then(Value::as_str).unwrap_or("refused");
    let reason = value.get("reason").and_then(Value::as_str);
    if reason == Some("token_missing") {
        return Unanswered::refused(&format!(
            "{text}; commands take theirs from the variable `PROBEGATE_ADMIN_TOKEN`, and send it in another header with `--token-header NAME`"
        ));
    }
    let known = value.get("known").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let known: Vec<_> = known.map(|name| format!("`{name}`")).collect();
    if known.is_empty() {
        return Unanswered::refused(text);
    }
    Unanswered::refused(&format!("{text}; there is {}", known.join(", ")))
}

/// One request: the status and the body of its answer.
///
/// # Errors
/// There is none in time, or none that can be read.
pub(super) fn ask(place: &Place, method: &str, target: &str, fields: &str) -> io::Result<(u16, String)> {
    put(place, method, target, fields, PATIENCE, &mut false)
}

/// The same. `sent`: it may have arrived.
fn put(
    place: &Place,
    method: &str,
    target: &str,
    fields: &str,
    patience: Duration,
    sent: &mut bool,
) -> io::Result<(u16, String)> {
    match place {
        Place::Tcp(addresses) => {
            let mut tried = Err(io::ErrorKind::AddrNotAvailable.into());
            for address in addresses {
                tried = TcpStream::connect_timeout(address, PATIENCE).map(|stream| (stream, address));
                if tried.is_ok() {
                    break;
                }
            }
            let (stream, address) = tried?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            *sent = true;
            exchange(stream, &address.to_string(), method, target, fields)
        }
        Place::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            *sent = true;
            exchange(stream, "localhost", method, target, fields)
        }
    }
}

fn exchange(
    mut stream: impl Read + Write,
    host: &str,
    method: &str,
    target: &str,
    fields: &str,
) -> io::Result<(u16, String)> {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 8192];
    // One that is no gateway may keep the connection open.
    while !is_whole(&answer) {
        match stream.read(&mut piece)? {
            0 => break,
            count => answer.extend_from_slice(piece.get(..count).unwrap_or_default()),
        }
        if answer.len() > LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
        }
    }
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let answer = String::from_utf8(answer).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not text"))?;
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    if length(head).is_some_and(|length| body.len() < length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not HTTP"))?;
    Ok((status, body.to_owned()))
}

/// The length of the body, where the head tells one.
fn length(head: &str) -> Option<usize> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    value.trim().parse().ok()
}

/// Whether all of an answer is here that tells its length.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return false };
    let (head, body) = answer.split_at(end);
    std::str::from_utf8(head).ok().and_then(length).is_some_and(|length| body.len() >= length.saturating_add(4))
}

/// Text that others wrote, as a terminal may get it: nothing of it is an order to the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(printable).collect()
}
