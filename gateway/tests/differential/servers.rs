//! hyper at the other end of a pipe, and whole messages beside it: where heads end, and where bodies do.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use probegate::wire::Framing;
use probegate_policies::reason::Reason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use crate::generate::{Random, attacks, mutated, requests, responses, rounds, samples};
use crate::ours::{self, Head, Read};
use crate::{Class, Ledger};

/// Messages for each source and round.
const COUNT: usize = 20_000;

/// Data and trailers, with names in lower case.
pub(crate) type Whole = (Vec<u8>, Vec<(String, Vec<u8>)>);

/// What hyper made of bytes as a server.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// It refused them, or waited for more.
    Nothing,
    /// It found a request.
    Request {
        /// Method and target.
        first: (String, String),
        /// Its fields, names in lower case, sorted.
        fields: Vec<(String, Vec<u8>)>,
        /// Its body; none when it was broken or did not end.
        body: Result<Whole, ()>,
    },
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn sorted(fields: &hyper::HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<_> =
        fields.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    fields.sort();
    fields
}

async fn collected<B: Body<Data = Bytes>>(body: B) -> Result<Whole, ()> {
    let body = body.collect().await.map_err(|_| ())?;
    let trailers = body.trailers().map(sorted).unwrap_or_default();
    Ok((body.to_bytes().to_vec(), trailers))
}

/// Gives `bytes` and their end to hyper as a server; what it made of the first request.
pub(crate) fn serve(bytes: &[u8]) -> Asked {
    runtime().block_on(async {
        let (mut client, server) = duplex(1 << 20);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let found = Arc::new(Mutex::new(Asked::Nothing));
        let service = service_fn(|request: Request<Incoming>| {
            let found = Arc::clone(&found);
            async move {
                if matches!(*found.lock().unwrap(), Asked::Nothing) {
                    let (head, body) = request.into_parts();
                    let first = (head.method.to_string(), head.uri.to_string());
                    let asked = Asked::Request { first, fields: sorted(&head.headers), body: collected(body).await };
                    *found.lock().unwrap() = asked;
                }
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let server = hyper::server::conn::http1::Builder::new()
            .keep_alive(false)
            .half_close(true)
            .max_headers(300)
            .serve_connection(TokioIo::new(server), service);
        // How the connection ends is of no interest.
        server.await.ok();
        drop(client);
        Arc::try_unwrap(found).map_or(Asked::Nothing, |found| found.into_inner().unwrap())
    })
}

/// A request that they read otherwise.
struct Otherwise {
    head: Head,
    reason: Option<Reason>,
    bytes: Vec<u8>,
}

impl Otherwise {
    fn values(&self, name: &str) -> Vec<&[u8]> {
        self.head
            .fields
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| &value[..])
            .collect()
    }
}

/// Framing that hyper settles somehow and we refuse.
const ONLY_THEY_TAKE: &[Class<Otherwise>] = &[
    Class {
        name: "length with coding",
        why: "RFC 9112 §6.1 allows to drop the length. Who sends both wants two readers to differ.",
        holds: |it| !it.values("content-length").is_empty() && !it.values("transfer-encoding").is_empty(),
    },
    Class {
        name: "equal lengths",
        why: "RFC 9112 §6.3 allows to take one. Nobody who means well says it twice.",
        holds: |it| it.values("content-length").len() > 1,
    },
    Class {
        name: "more than one coding",
        why: "Another coding under `chunked` is none that we could take off (RFC 9112 §6.1: 501); `chunked` twice is malformed.",
        holds: |it| {
            let values = it.values("transfer-encoding");
            values.len() > 1 || values.iter().any(|value| value.contains(&b','))
        },
    },
    Class {
        name: "length of more than 18 digits",
        why: "Zeros in front make it neither larger nor clearer.",
        holds: |it| it.values("content-length").iter().any(|value| value.len() > 18),
    },
];

/// Requests that we read and hyper does not.
const ONLY_WE_TAKE: &[Class<Otherwise>] = &[
    Class {
        name: "minor versions from 2",
        why: "RFC 9110 §2.5: read as 1.1, and sent on as 1.1.",
        holds: |it| {
            it.bytes.windows(7).any(|at| at == b"HTTP/1.") && !matches!(ours_minor(&it.bytes), Some(b'0' | b'1'))
        },
    },
    Class {
        name: "target that is no URI",
        why: "The `http` crate wants the characters of RFC 3986. Browsers send more of them, and the app decides what they mean; \
              `target` refuses what is neither a path, `*` nor an absolute URI.",
        holds: |it| it.head.first.1.parse::<hyper::Uri>().is_err(),
    },
];

fn ours_minor(bytes: &[u8]) -> Option<u8> {
    let line = bytes.split(|&byte| byte == b'\r').find(|line| !line.trim_ascii().is_empty())?;
    line.last().copied()
}

fn compare(ledger: &mut Ledger, bytes: &[u8]) {
    let (ours, theirs) = (ours::request(bytes), serve(bytes));
    let told = || format!("{:?}\n  ours   {ours:?}\n  theirs {theirs:?}", String::from_utf8_lossy(bytes));
    let Read::Whole((head, framing)) = &ours else {
        // What httparse takes of these is explained in `heads`; hyper reads heads with it.
        return;
    };
    let it = Otherwise { head: head.clone(), reason: framing.err(), bytes: bytes.to_vec() };
    let rest = &bytes[head.length..];
    let body = match framing {
        Err(_) => Read::Refused(()),
        Ok(Framing::None) => Read::Whole(Vec::new()),
        Ok(Framing::Length(length)) => match rest.get(..usize::try_from(*length).unwrap()) {
            Some(body) => Read::Whole(body.to_vec()),
            None => Read::Partial,
        },
        Ok(_) => match ours::chunked(rest) {
            Read::Whole((data, _, _)) => Read::Whole(data),
            Read::Partial => Read::Partial,
            Read::Refused(()) => Read::Refused(()),
        },
    };
    match (&theirs, it.reason) {
        (Asked::Nothing, Some(_)) => ledger.alike(),
        (Asked::Nothing, None) => ledger.differ(ONLY_WE_TAKE, &it, told),
        (Asked::Request { .. }, Some(_)) => ledger.differ(ONLY_THEY_TAKE, &it, told),
        (Asked::Request { first, fields, body: theirs }, None) => {
            let mut sent: Vec<_> =
                head.fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
            sent.sort();
            // hyper spells absolute targets its own way; paths stay as they are.
            let target = first.1 == head.first.1 || !head.first.1.starts_with('/');
            let agree = match (&body, theirs) {
                (Read::Whole(data), Ok((theirs, _))) => data == theirs,
                (Read::Partial | Read::Refused(()), Err(())) => true,
                // Bodies have their own classes: see `bodies`.
                (Read::Refused(()), Ok(_)) if *framing == Ok(Framing::Chunked) => true,
                _ => false,
            };
            if first.0 == head.first.0 && target && *fields == sent && agree {
                ledger.alike();
            } else {
                ledger.differ::<()>(&[], &(), told);
            }
        }
    }
}

#[test]
fn whole_requests_end_where_hyper_ends_them_but_for_what_is_explained() {
    let (mut ledger, mut random) = (Ledger::default(), Random::new());
    let corpus: Vec<_> = attacks("request-framing").into_iter().chain(attacks("request-targets")).collect();
    for bytes in &corpus {
        compare(&mut ledger, bytes);
    }
    for _ in 0..COUNT * rounds() {
        compare(&mut ledger, &mutated(&corpus[random.below(corpus.len())], &mut random));
    }
    for mut bytes in samples(&requests(), COUNT * rounds()) {
        bytes.extend_from_slice(b"0\r\n\r\n");
        compare(&mut ledger, &bytes);
    }
    let names = ONLY_THEY_TAKE.iter().chain(ONLY_WE_TAKE);
    let classes: Vec<Class<()>> =
        names.map(|class| Class { name: class.name, why: class.why, holds: |()| false }).collect();
    ledger.settle(&classes);
}

/// Gives `bytes` and their end to hyper as a client that asked with GET; status and body of the final answer.
fn answered(bytes: &[u8]) -> Option<(u16, Result<Whole, ()>)> {
    runtime().block_on(async {
        let (client, mut server) = duplex(1 << 20);
        let (mut sender, connection) =
            hyper::client::conn::http1::Builder::new().max_headers(300).handshake(TokioIo::new(client)).await.unwrap();
        let bytes = bytes.to_vec();
        let answer = async move {
            // The answer comes when the request is there: what comes earlier is refused as unasked for.
            let mut request = [0; 1024];
            let count = server.read(&mut request).await.unwrap();
            assert!(count > 0);
            server.write_all(&bytes).await.unwrap();
            server.shutdown().await.unwrap();
        };
        let request = Request::get("/").header("host", "a").body(Empty::<Bytes>::new()).unwrap();
        let ask = async move {
            let response = sender.send_request(request).await.ok()?;
            let status = response.status().as_u16();
            Some((status, collected(response.into_body()).await))
        };
        let ((), _, answered) = tokio::join!(answer, connection, ask);
        answered
    })
}

/// An answer that they read otherwise.
struct Answer {
    head: Head,
}

impl Answer {
    fn values(&self, name: &str) -> Vec<&[u8]> {
        let fields = self.head.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| &value[..]).collect()
    }
}

/// Answers that hyper takes and we refuse.
const ONLY_THEY_TAKE_AS_ANSWER: &[Class<Answer>] = &[
    Class {
        name: "length with coding",
        why: "As in requests: an app that sends both was talked into it.",
        holds: |it| !it.values("content-length").is_empty() && !it.values("transfer-encoding").is_empty(),
    },
    Class { name: "equal lengths", why: "As in requests.", holds: |it| it.values("content-length").len() > 1 },
    Class {
        name: "list of equal lengths",
        why: "RFC 9112 §6.3 allows to take one. It is left over from two fields that somebody joined.",
        holds: |it| it.values("content-length").iter().any(|value| value.contains(&b',')),
    },
    Class {
        name: "coding that is not `chunked` alone",
        why: "hyper reads until the end, or takes `chunked` off and leaves the rest on. A client behind us could not tell.",
        holds: |it| it.values("transfer-encoding").iter().any(|value| !value.eq_ignore_ascii_case(b"chunked")),
    },
    Class {
        name: "length of more than 18 digits",
        why: "As in requests.",
        holds: |it| it.values("content-length").iter().any(|value| value.len() > 18),
    },
    Class {
        name: "broken length where no body follows",
        why: "204 and 304 have none whatever is said (RFC 9112 §6.3), so hyper does not look. We would pass the field on.",
        holds: |it| {
            let broken = |value: &&[u8]| value.is_empty() || !value.iter().all(u8::is_ascii_digit);
            matches!(&*it.head.first.0, "204" | "304") && it.values("content-length").iter().any(broken)
        },
    },
    Class {
        name: "coding twice",
        why: "`chunked` is applied once (RFC 9112 §6.1).",
        holds: |it| it.values("transfer-encoding").len() > 1,
    },
];

fn compare_answer(ledger: &mut Ledger, bytes: &[u8]) {
    let Read::Whole((head, framing)) = ours::response(bytes) else {
        return;
    };
    // Interim answers are followed by another one.
    if head.first.0.starts_with('1') {
        return;
    }
    let rest = &bytes[head.length..];
    let body = match framing {
        None => Read::Refused(()),
        Some(Framing::None) => Read::Whole(Vec::new()),
        Some(Framing::UntilClose) => Read::Whole(rest.to_vec()),
        Some(Framing::Length(length)) => match rest.get(..usize::try_from(length).unwrap()) {
            Some(body) => Read::Whole(body.to_vec()),
            None => Read::Partial,
        },
        Some(Framing::Chunked) => match ours::chunked(rest) {
            Read::Whole((data, _, _)) => Read::Whole(data),
            Read::Partial => Read::Partial,
            Read::Refused(()) => Read::Refused(()),
        },
    };
    let theirs = answered(bytes);
    let told = || format!("{:?}\n  ours   {framing:?} {body:?}\n  theirs {theirs:?}", String::from_utf8_lossy(bytes));
    match (&body, &theirs) {
        (_, None) if framing.is_none() => ledger.alike(),
        (_, Some(_)) if framing.is_none() => {
            ledger.differ(ONLY_THEY_TAKE_AS_ANSWER, &Answer { head: head.clone() }, told);
        }
        (Read::Whole(data), Some((status, Ok((theirs, _)))))
            if head.first.0 == status.to_string() && data == theirs =>
        {
            ledger.alike();
        }
        (Read::Partial | Read::Refused(()), Some((_, Err(())))) => ledger.alike(),
        (Read::Refused(()), Some((_, Ok(_)))) if framing == Some(Framing::Chunked) => ledger.alike(),
        _ => ledger.differ::<()>(&[], &(), told),
    }
}

#[test]
fn whole_answers_end_where_hyper_ends_them_but_for_what_is_explained() {
    let (mut ledger, mut random) = (Ledger::default(), Random::new());
    let corpus = attacks("answer-");
    for bytes in &corpus {
        compare_answer(&mut ledger, bytes);
    }
    for _ in 0..COUNT * rounds() {
        compare_answer(&mut ledger, &mutated(&corpus[random.below(corpus.len())], &mut random));
    }
    for mut bytes in samples(&responses(), COUNT * rounds()) {
        bytes.extend_from_slice(b"0\r\n\r\n");
        compare_answer(&mut ledger, &bytes);
    }
    ledger.settle(ONLY_THEY_TAKE_AS_ANSWER);
}
