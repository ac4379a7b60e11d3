//! Heads: ours beside httparse, which hyper and many others read with.

use probegate_policies::reason::Reason;

use crate::generate::{Random, attacks, mutated, requests, responses, rounds, samples};
use crate::ours::{self, Head, Read};
use crate::{Class, Ledger};

/// Messages for each source and round.
const COUNT: usize = 100_000;

fn theirs_request(bytes: &[u8]) -> Read<Head, httparse::Error> {
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => Read::Whole(Head {
            first: (request.method.unwrap().to_owned(), request.path.unwrap().to_owned()),
            minor: request.version.unwrap(),
            fields: request.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect(),
            length,
        }),
        Ok(httparse::Status::Partial) => Read::Partial,
        Err(error) => Read::Refused(error),
    }
}

fn theirs_response(bytes: &[u8]) -> Read<Head, httparse::Error> {
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => Read::Whole(Head {
            first: (response.code.unwrap().to_string(), String::new()),
            minor: response.version.unwrap(),
            fields: response.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect(),
            length,
        }),
        Ok(httparse::Status::Partial) => Read::Partial,
        Err(error) => Read::Refused(error),
    }
}

/// A message that only they take: its bytes, as far as they read them, and what they read.
struct Taken {
    bytes: Vec<u8>,
    head: Option<Head>,
    reason: Option<Reason>,
}

impl Taken {
    fn method(&self) -> &str {
        self.head.as_ref().map_or("", |head| &head.first.0)
    }

    fn target(&self) -> &str {
        self.head.as_ref().map_or("", |head| &head.first.1)
    }
}

fn bare_lf(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().any(|(at, &byte)| byte == b'\n' && (at == 0 || bytes[at - 1] != b'\r'))
}

/// Whether more than one empty line, or one that is none, stands in front.
fn leading_lines(bytes: &[u8]) -> usize {
    bytes.chunks(2).take_while(|pair| pair == b"\r\n").count()
}

/// Requests that httparse takes, or would wait for, and we refuse.
const ONLY_THEY_TAKE: &[Class<Taken>] = &[
    Class {
        name: "bare LF",
        why: "RFC 9112 §2.2 lets a recipient take LF for CRLF. One that does and one that does not see different lines.",
        holds: |taken| bare_lf(&taken.bytes),
    },
    Class {
        name: "empty lines in front",
        why: "RFC 9112 §2.2 asks to ignore one. More are a body that nobody declared.",
        holds: |taken| leading_lines(&taken.bytes) > 1,
    },
    Class {
        name: "method in lower case",
        why: "Servers that turn methods into capitals would see HEAD or TRACE where we saw neither.",
        holds: |taken| taken.reason == Some(Reason::RequestLineInvalid) && taken.method().contains(char::is_lowercase),
    },
    Class {
        name: "method of more than 32 bytes",
        why: "No method is as long; it is logged and compared.",
        holds: |taken| taken.reason == Some(Reason::RequestLineInvalid) && taken.method().len() > 32,
    },
    Class {
        name: "fragment in the target",
        why: "RFC 9112 §3.2: it is no part of a target. Some cut it off, others do not.",
        holds: |taken| taken.reason == Some(Reason::RequestLineInvalid) && taken.target().contains('#'),
    },
    Class {
        name: "target beyond ASCII",
        why: "RFC 3986 §2: a URI is ASCII. Servers decode other bytes differently.",
        holds: |taken| taken.reason == Some(Reason::RequestLineInvalid) && !taken.target().is_ascii(),
    },
    Class {
        name: "refused before the end",
        why: "What is wrong already is refused at once; they say that they need more.",
        holds: |taken| taken.head.is_none(),
    },
];

/// Requests that we take and httparse refuses.
const ONLY_WE_TAKE: &[Class<Taken>] = &[Class {
    name: "minor versions from 2",
    why: "RFC 9110 §2.5: a higher minor version is read as the highest one known. It goes on as 1.1.",
    holds: |taken| {
        let line =
            taken.bytes.split(|&byte| byte == b'\r').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
        matches!(line, [.., b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'])
    },
}];

fn compare(ledger: &mut Ledger, bytes: &[u8]) {
    let told = || {
        format!(
            "{:?}\n  ours   {:?}\n  theirs {:?}",
            String::from_utf8_lossy(bytes),
            ours::request(bytes),
            theirs_request(bytes)
        )
    };
    match (ours::request(bytes), theirs_request(bytes)) {
        (Read::Whole((head, _)), Read::Whole(theirs)) if head == theirs => ledger.alike(),
        (Read::Partial, Read::Partial) | (Read::Refused(_), Read::Refused(_)) => ledger.alike(),
        (Read::Refused(reason), Read::Whole(theirs)) => {
            let taken = Taken { bytes: bytes[..theirs.length].to_vec(), head: Some(theirs), reason: Some(reason) };
            ledger.differ(ONLY_THEY_TAKE, &taken, told);
        }
        (Read::Refused(reason), Read::Partial) => {
            ledger.differ(ONLY_THEY_TAKE, &Taken { bytes: bytes.to_vec(), head: None, reason: Some(reason) }, told);
        }
        // They look at the bytes of a line, we at whole lines: with its end, the line is refused here too.
        (Read::Partial, Read::Refused(_)) => match ours::request(&[bytes, b"\r\n\r\n"].concat()) {
            Read::Refused(_) => ledger.alike(),
            _ => ledger.differ(ONLY_WE_TAKE, &Taken { bytes: bytes.to_vec(), head: None, reason: None }, told),
        },
        (Read::Whole((head, _)), Read::Refused(_) | Read::Partial) => {
            ledger.differ(
                ONLY_WE_TAKE,
                &Taken { bytes: bytes[..head.length].to_vec(), head: Some(head), reason: None },
                told,
            );
        }
        (Read::Whole(_) | Read::Partial, Read::Whole(_)) => ledger.differ::<()>(&[], &(), told),
    }
}

#[test]
fn request_heads_are_read_as_httparse_reads_them_but_for_what_is_explained() {
    let (mut ledger, mut random) = (Ledger::default(), Random::new());
    let corpus = attacks("request-");
    for bytes in &corpus {
        compare(&mut ledger, bytes);
    }
    for _ in 0..COUNT * rounds() {
        compare(&mut ledger, &mutated(&corpus[random.below(corpus.len())], &mut random));
    }
    for bytes in samples(&requests(), COUNT * rounds()) {
        compare(&mut ledger, &bytes);
    }
    let classes: Vec<Class<()>> = [ONLY_THEY_TAKE, ONLY_WE_TAKE].concat_names();
    ledger.settle(&classes);
}

/// A response that only they take.
struct Answer {
    bytes: Vec<u8>,
    head: Option<Head>,
}

/// Responses that httparse takes, or would wait for, and we refuse.
const ONLY_THEY_TAKE_AS_ANSWER: &[Class<Answer>] = &[
    Class { name: "bare LF", why: "As in requests.", holds: |answer| bare_lf(&answer.bytes) },
    Class {
        name: "empty lines in front",
        why: "RFC 9112 §2.2 speaks of requests only. In front of an answer they are the rest of the one before.",
        holds: |answer| answer.bytes.starts_with(b"\r\n"),
    },
    Class {
        name: "status beyond 100 to 599",
        why: "RFC 9110 §15: a status is 100 to 599. Nobody knows how the body of another one ends.",
        holds: |answer| {
            answer.head.as_ref().is_some_and(|head| !(100..600).contains(&head.first.0.parse::<u16>().unwrap()))
        },
    },
    Class {
        name: "refused before the end",
        why: "What is wrong already is refused at once; they say that they need more.",
        holds: |answer| answer.head.is_none(),
    },
];

fn compare_answer(ledger: &mut Ledger, bytes: &[u8]) {
    let told = || {
        format!(
            "{:?}\n  ours   {:?}\n  theirs {:?}",
            String::from_utf8_lossy(bytes),
            ours::response(bytes),
            theirs_response(bytes)
        )
    };
    match (ours::response(bytes), theirs_response(bytes)) {
        (Read::Whole((head, _)), Read::Whole(theirs)) if head == theirs => ledger.alike(),
        (Read::Partial, Read::Partial) | (Read::Refused(()), Read::Refused(_)) => ledger.alike(),
        (Read::Refused(()), Read::Whole(theirs)) => {
            ledger.differ(
                ONLY_THEY_TAKE_AS_ANSWER,
                &Answer { bytes: bytes[..theirs.length].to_vec(), head: Some(theirs) },
                told,
            );
        }
        (Read::Refused(()), Read::Partial) => {
            ledger.differ(ONLY_THEY_TAKE_AS_ANSWER, &Answer { bytes: bytes.to_vec(), head: None }, told);
        }
        (Read::Partial, Read::Refused(_))
            if matches!(ours::response(&[bytes, b"\r\n\r\n"].concat()), Read::Refused(())) =>
        {
            ledger.alike();
        }
        // We take nothing that they refuse.
        _ => ledger.differ::<()>(&[], &(), told),
    }
}

#[test]
fn response_heads_are_read_as_httparse_reads_them_but_for_what_is_explained() {
    let (mut ledger, mut random) = (Ledger::default(), Random::new());
    let corpus = attacks("answer-");
    for bytes in &corpus {
        compare_answer(&mut ledger, bytes);
    }
    for _ in 0..COUNT * rounds() {
        compare_answer(&mut ledger, &mutated(&corpus[random.below(corpus.len())], &mut random));
    }
    for bytes in samples(&responses(), COUNT * rounds()) {
        compare_answer(&mut ledger, &bytes);
    }
    ledger.settle(ONLY_THEY_TAKE_AS_ANSWER);
}

/// The names of several tables.
trait Names {
    fn concat_names(&self) -> Vec<Class<()>>;
}

impl<T> Names for [&[Class<T>]; 2] {
    fn concat_names(&self) -> Vec<Class<()>> {
        self.iter()
            .flat_map(|table| *table)
            .map(|class| Class { name: class.name, why: class.why, holds: |()| false })
            .collect()
    }
}
