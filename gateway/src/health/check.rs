//! One check: a new connection, one request, one answer.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use probegate_policies::client::{Hops, Identity, Known, Source};
use probegate_policies::forwarded::{self, Scheme, Towards};
use probegate_policies::health;
use probegate_policies::proxy;
use probegate_policies::reason::Reason;
use secrecy::ExposeSecret as _;

use crate::plan::{AppToken, HealthCheck, Server, ServerAddress, Upstream, UpstreamProtocol};
use crate::upstream::{Channel, Pools, Reuse};
use crate::wire::buffer::Buffer;
use crate::wire::deadline::Deadline;
use crate::wire::head::ResponseHead;
use crate::wire::{Framing, RequestSink, ResponseSource, WriteFailed, h1, h2};

/// What is read of an answer behind its head, so that the server can finish it.
const BODY: usize = 64 * 1024;

/// The first size of the buffer.
const BUFFER: usize = 8 * 1024;

/// Why a check did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// There was no answer.
    Reason(Reason),
    /// There was one with this status.
    Status(u16),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reason(reason) => f.write_str(reason.text()),
            Self::Status(status) => write!(f, "it answers with status {status}"),
        }
    }
}

/// Checks the server with this index.
///
/// # Errors
/// It did not pass.
pub(super) async fn run(
    pools: &Pools,
    upstream: &Upstream,
    index: usize,
    check: &HealthCheck,
    deadline: &Deadline,
) -> Result<(), Failed> {
    let Some(ask) = &check.ask else {
        deadline.arm(check.timeout);
        let connected = pools.connect(upstream, index, Reuse::No, &proxy::Header::Own, deadline, None).await;
        deadline.disarm();
        return connected.map(drop).map_err(Failed::Reason);
    };
    let question = Question { path: &ask.path, host: ask.host.as_deref(), token: ask.token.as_ref() };
    let answer = question.put(pools, upstream, index, check.timeout, deadline).await;
    match answer {
        Ok((status, _)) if health::passes(status, &ask.statuses) => Ok(()),
        Ok((status, _)) => Err(Failed::Status(status)),
        Err(reason) => Err(Failed::Reason(reason)),
    }
}

/// What a server is asked by the gateway itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// The path.
    pub(crate) path: &'a str,
    /// `Host`; `None`: the server's own address.
    pub(crate) host: Option<&'a str>,
    /// A token that the app wants to see.
    pub(crate) token: Option<&'a AppToken>,
}

impl Question<'_> {
    /// Puts it to the server with this index: the status and, of the body, what is read of it.
    ///
    /// # Errors
    /// There is no answer within `timeout`.
    pub(crate) async fn put(
        &self,
        pools: &Pools,
        upstream: &Upstream,
        index: usize,
        timeout: Duration,
        deadline: &Deadline,
    ) -> Result<(u16, Vec<u8>), Reason> {
        let server = upstream.servers.get(index).ok_or(Reason::UpstreamUnreachable)?;
        deadline.arm(timeout);
        // Never one that served another check: whether the server takes new ones is the question. It speaks for nobody.
        let answer = match pools.connect(upstream, index, Reuse::No, &proxy::Header::Own, deadline, None).await {
            Err(reason) => Err(reason),
            Ok(connection) => {
                let head = head(*self, server, upstream.protocol);
                let (mut buffer, mut response) = (Buffer::new(BUFFER), ResponseHead::default());
                match &connection.channel {
                    Channel::Own(link) => {
                        let sink = h1::client::RequestWriter::new(link, deadline, None, &head, Framing::None);
                        let source = h1::client::ResponseReader::new(link, deadline, None, &mut buffer, &mut response);
                        ask(sink, source).await
                    }
                    Channel::Shared(stream) => {
                        let secured = upstream.tls.is_some();
                        let sink =
                            h2::client::RequestWriter::new(stream, deadline, None, &head, Framing::None, secured);
                        let source =
                            h2::client::ResponseReader::new(stream, deadline, None, &mut buffer, &mut response);
                        ask(sink, source).await
                    }
                }
            }
        };
        deadline.disarm();
        answer
    }
}

async fn ask(mut sink: impl RequestSink, mut source: impl ResponseSource) -> Result<(u16, Vec<u8>), Reason> {
    sink.head().await.map_err(|WriteFailed { error, .. }| {
        if error.kind() == std::io::ErrorKind::TimedOut { Reason::UpstreamTimeout } else { Reason::UpstreamClosed }
    })?;
    let status = loop {
        source.head().await?;
        match source.view().0.status {
            101 => return Err(Reason::UpstreamInvalid),
            100..=199 => {}
            status => break status,
        }
    };
    let framing = source.framing(false)?;
    source.begin(framing);
    let mut body = Vec::new();
    while body.len() < BODY {
        let part = source.part().await?;
        body.extend_from_slice(part.data);
        if part.end.is_some() {
            break;
        }
    }
    Ok((status, body))
}

/// The request. As if over HTTPS, because an app that redirects to HTTPS would answer the redirect (D15), and by this machine.
fn head(ask: Question<'_>, server: &Server, protocol: UpstreamProtocol) -> Vec<u8> {
    let own = match &server.address {
        ServerAddress::Tcp(address) => address.to_string(),
        ServerAddress::Name(name, port) => format!("{name}:{port}"),
        ServerAddress::Unix(_) => "localhost".to_owned(),
    };
    let host = ask.host.unwrap_or(&own);
    let mut out =
        format!("GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: probegate\r\nAccept: */*\r\n", ask.path).into_bytes();
    let identity = Identity::Known(Known { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), source: Source::Peer });
    let id = format!("{:032x}", fastrand::u128(..));
    let towards = Towards {
        identity: &identity,
        hops: &Hops::default(),
        scheme: Scheme::Https,
        host: host.as_bytes(),
        port: 443,
        request_id: id.as_bytes(),
    };
    forwarded::write(&mut out, &towards);
    if let Some(token) = ask.token {
        for part in [token.field.as_bytes(), b": ", token.secret.expose_secret(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    // HTTP/2 has no such field (RFC 9113 §8.2.2).
    if protocol == UpstreamProtocol::Http1 {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}
