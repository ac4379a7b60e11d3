//! Requests to the admin listener of a running gateway.

use std::fmt;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::say;
use crate::admin;

const PATIENCE: Duration = Duration::from_secs(3);

/// How soon a gateway is asked again that has no time for switches.
const AGAIN: Duration = Duration::from_millis(50);

/// The largest answer that is read.
const LIMIT: u64 = 16 << 20;

/// Which gateway is asked, and how it knows that it may be.
#[derive(Debug, clap::Args)]
pub(super) struct Gateway {
    /// Its admin listener, or `unix:PATH` for its admin socket.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9900")]
    admin: Place,
    /// The header that carries the token in `PROBEGATE_ADMIN_TOKEN`, where the gateway asks for one (`admin.tokens`).
    #[arg(long, value_name = "NAME", default_value = "X-Probe-Token")]
    token_header: String,
}

/// Where a gateway is asked.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// At an address.
    Tcp(SocketAddr),
    /// At a Unix socket.
    Unix(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(_) => Err("a path follows `unix:`".to_owned()),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                "expected an address and a port such as `127.0.0.1:9900`, or `unix:/run/probegate/admin.sock`"
                    .to_owned()
            }),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
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
            if !line(&token) || !line(&self.token_header) {
                return Err(Unanswered::refused("the token is not printable ASCII"));
            }
            write!(fields, "{}: {token}\r\n", self.token_header).ok();
        }
        let end = Instant::now() + PATIENCE;
        let (status, body) = loop {
            let mut sent = false;
            match put(&self.admin, method, target, &fields, patience, &mut sent) {
                // It starts, or another process takes over: a moment.
                Ok((503, _)) if Instant::now() < end => std::thread::sleep(AGAIN),
                Ok(answer) => break answer,
                Err(error) => {
                    return Err(Unanswered { text: format!("no answer from {}: {error}", self.admin), unknown: sent });
                }
            }
        };
        let Ok(value) = serde_json::from_str::<Value>(&body) else {
            return Err(Unanswered::refused(&format!(
                "{} is not the admin listener of a gateway with switches: status {status}",
                self.admin
            )));
        };
        Ok((status, value))
    }
}

/// Why it refuses.
pub(super) fn refusal(value: &Value) -> Unanswered {
    let text = value.get("detail").and_then(Value::as_str).unwrap_or("refused");
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
        Place::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, PATIENCE)?;
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
    let mut answer = String::new();
    stream.take(LIMIT).read_to_string(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let lengths = head.lines().filter_map(|line| line.split_once(':'));
    let length = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value).next();
    if length.and_then(|length| length.trim().parse::<usize>().ok()).is_some_and(|length| body.len() < length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not HTTP"))?;
    Ok((status, body.to_owned()))
}

/// Text that others wrote, as a terminal may get it: nothing of it is an order to the terminal.
pub(super) fn plain(text: &str) -> String {
    // What turns the direction of text around would show something else than there is.
    let turns =
        |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c }).collect()
}
