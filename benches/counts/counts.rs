//! `counts NAME TIMES` does one thing so often: `run.py` counts the instructions. `counts` alone names the things.

use std::hint::black_box;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::process::exit;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use probegate::wire::deadline::Deadlines;
use probegate::wire::h1::reply::{Client, Reply};
use probegate::wire::h1::request::RequestParser;
use probegate::wire::h1::response::ResponseParser;
use probegate::wire::head::{RequestHead, ResponseHead, Version};
use probegate::wire::pace::Pace;
use probegate::wire::transport::Transport;
use probegate::wire::{Answer, ClientFraming, Responder, Written};
use probegate_benches::{BOUNDS, Case, PLAIN, browser, judge, parse, plan};
use probegate_policies::client::{Identity, Known, Source};
use probegate_policies::limit::{Quota, Rate, Seed, Table};
use probegate_policies::now::Now;

/// As an app sends it.
const RESPONSE: &str = "HTTP/1.1 200 OK\r\nServer: gunicorn\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nConnection: keep-alive\r\n\
    Content-Type: text/html; charset=utf-8\r\nX-Frame-Options: DENY\r\nVary: Cookie\r\nContent-Length: 1024\r\n\r\n";

const DATE: [u8; 29] = *b"Sun, 22 Nov 2026 12:00:00 GMT";

/// What is counted.
const NAMES: [&str; 11] = [
    "head/plain",
    "head/browser",
    "head/response",
    "judge/plain",
    "judge/browser",
    "judge/denied",
    "judge/token",
    "limit/admitted",
    "limit/refused",
    "write/refusal",
    "write/passed on",
];

/// Takes everything at once.
struct Sink;

impl Transport for Sink {
    fn try_read(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(black_box(parts).iter().map(|part| part.len()).sum())
    }

    fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_peek(&self, _: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn has_unread(&self) -> bool {
        false
    }

    fn shut_down_write(&self) -> io::Result<()> {
        Ok(())
    }

    fn reset_on_close(&self) {}
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        return NAMES.iter().for_each(|name| eprintln!("{name}"));
    };
    let Some(times) = arguments.next().and_then(|times| times.parse().ok()) else { stop("how often?") };
    match &*name {
        "head/plain" => heads(PLAIN, times),
        "head/browser" => heads(&browser(), times),
        "head/response" => responses(times),
        "judge/plain" => judgements(PLAIN, true, times),
        "judge/browser" => judgements(&browser(), true, times),
        "judge/denied" => judgements(&PLAIN.replace("/products/42", "/admin/users"), false, times),
        "judge/token" => {
            let text = PLAIN.replace("/products/42", "/readyz").replace("\r\n\r\n", "\r\nX-Probe-Token: test\r\n\r\n");
            judgements(&text, true, times);
        }
        "limit/admitted" => limits(Rate { count: 1_000_000, period: 1_000_000_000 }, times),
        "limit/refused" => limits(Rate { count: 1, period: 3_600_000_000_000 }, times),
        "write/refusal" => replies(times, false),
        "write/passed on" => replies(times, true),
        _ => stop("no such thing"),
    }
}

fn heads(text: &str, times: u32) {
    // Once before: a parser or a judge that refuses everything would need fewer instructions.
    let read = parse(text).is_ok_and(|head| head.fields.len() == text.lines().count() - 2);
    require(read, "the head is not read");
    let mut head = RequestHead::default();
    for _ in 0..times {
        black_box(RequestParser::default().advance(black_box(text.as_bytes()), &BOUNDS, &mut head)).ok();
    }
}

fn responses(times: u32) {
    let mut head = ResponseHead::default();
    let read = ResponseParser::default().advance(RESPONSE.as_bytes(), &mut head).is_ok_and(|read| read);
    require(read && head.status == 200, "the answer's head is not read");
    for _ in 0..times {
        black_box(ResponseParser::default().advance(black_box(RESPONSE.as_bytes()), &mut head)).ok();
    }
}

fn judgements(text: &str, admitted: bool, times: u32) {
    let Ok((plan, limiter)) = plan() else { stop("the plan") };
    let Ok(head) = parse(text) else { stop("the head") };
    let mut case = Case::new(&plan, &limiter, &head, text);
    require(judge(&mut case) == admitted, "another verdict");
    for _ in 0..times {
        black_box(judge(black_box(&mut case)));
    }
}

fn limits(rate: Rate, times: u32) {
    let client = Identity::Known(Known { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), source: Source::Peer });
    // Of a table of its own: the second decision is the one that is counted below.
    let (table, quota) = (Table::new(1 << 12, Seed([1, 2, 3, 4])), Quota::new(rate, 0));
    let decided = [1, 2].map(|step| {
        let key = table.client_key(&client, 32, 64);
        table.admit(key, &quota, Now { nanos: step * 1_000_000, unix: 0 }).admitted
    });
    require(decided == [true, rate.count > 1], "another decision");
    let table = Table::new(1 << 12, Seed([1, 2, 3, 4]));
    for step in 1..=u64::from(times) {
        let key = table.client_key(black_box(&client), 32, 64);
        black_box(table.admit(key, &quota, Now { nanos: step * 1_000_000, unix: 0 }));
    }
}

/// Answers of the gateway's own, or those of an app.
fn replies(times: u32, passed_on: bool) {
    let deadlines = Deadlines::new(Instant::now());
    let (deadline, mut out, mut cx) = (deadlines.slot(), Vec::new(), Context::from_waker(Waker::noop()));
    let mut head = ResponseHead::default();
    ResponseParser::default().advance(RESPONSE.as_bytes(), &mut head).ok();
    let (body, fields) = (
        [b'x'; 1024],
        [("Content-Type", &b"application/problem+json"[..]), ("Cache-Control", b"no-store"), ("Vary", b"Accept")],
    );
    for _ in 0..times {
        let client = Client { version: Version::Http11, to_head: false, persists: true };
        let pace = Pace::new(Duration::from_secs(60), 0);
        let mut reply = Reply::new(&Sink, &deadline, pace, &mut out, DATE, client);
        let done = if passed_on {
            reply.start(&head, RESPONSE.as_bytes(), ClientFraming::Length(1024));
            reply.poll_write(&mut cx, black_box(&body), Some(b""), &mut Written::default())
        } else {
            let answer =
                Answer { status: 403, fields: &fields, body: body.first_chunk::<128>().map_or(&[], |body| body) };
            pin!(reply.answer(black_box(&answer))).poll(&mut cx)
        };
        if !matches!(done, Poll::Ready(Ok(()))) {
            stop("a write");
        }
    }
}

fn require(holds: bool, what: &str) {
    if !holds {
        stop(what);
    }
}

fn stop(what: &str) -> ! {
    eprintln!("{what}");
    exit(1)
}
