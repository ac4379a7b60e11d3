//! Chunked bodies: ours beside hyper's, which reads them as a server.

use crate::generate::{Random, attacks, bodies, mutated, rounds, samples};
use crate::ours::{self, Read};
use crate::servers::{Asked, serve};
use crate::{Class, Ledger};

/// Bodies for each source and round.
const COUNT: usize = 30_000;

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Lines of `body` that end with CRLF or LF.
fn has_line(body: &[u8], like: impl Fn(&[u8]) -> bool) -> bool {
    body.split(|&byte| byte == b'\n').any(like)
}

/// Bodies that hyper takes and we refuse.
const ONLY_THEY_TAKE: &[Class<[u8]>] = &[
    Class {
        name: "blank behind a size",
        why: "RFC 9112 §7.1.1 has them in front of extensions only as bad white space. Parsers have disagreed about where the size ends.",
        holds: |body| {
            has_line(body, |line| {
                let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                digits > 0 && line.get(digits).is_some_and(|byte| matches!(byte, b' ' | b'\t'))
            })
        },
    },
    Class {
        name: "control character in an extension",
        why: "RFC 9112 §7.1.1: tokens and quoted strings have none. Somebody may take it for the end of the line.",
        holds: |body| {
            has_line(body, |line| {
                let end = line.strip_suffix(b"\r").unwrap_or(line);
                let begin = end.iter().position(|&byte| byte == b';').unwrap_or(end.len());
                end[begin..].iter().any(|&byte| byte < 0x20 && byte != b'\t' || byte == 0x7f)
            })
        },
    },
    Class {
        name: "size of more than 15 digits",
        why: "Zeros in front make it neither larger nor clearer; 15 digits are more than any body has.",
        holds: |body| has_line(body, |line| line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count() > 15),
    },
    Class {
        name: "bare LF in trailers",
        why: "As in heads. hyper splits the section by CRLF and the lines again by LF.",
        holds: |body| body.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r'),
    },
];

fn compare(ledger: &mut Ledger, body: &[u8]) {
    let ours = ours::chunked(body);
    let theirs = serve(&[HEAD, body].concat());
    let told = || format!("{:?}\n  ours   {ours:?}\n  theirs {theirs:?}", String::from_utf8_lossy(body));
    let whole = match &theirs {
        Asked::Request { body: Ok((data, trailers)), .. } => Some((data, trailers)),
        _ => None,
    };
    match (&ours, whole) {
        (Read::Whole((data, lines, _)), Some((theirs, trailers))) => {
            // What we pass on of the trailers is what was sent, without what may not pass.
            let kept = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).all(|line| {
                let (name, value) = line.split_at(line.iter().position(|&byte| byte == b':').unwrap());
                let (name, value) = (name.to_ascii_lowercase(), value[1..].trim_ascii());
                trailers.iter().any(|(theirs, other)| theirs.as_bytes() == name && other == value)
            });
            if data == theirs && kept { ledger.alike() } else { ledger.differ::<[u8]>(&[], body, told) }
        }
        (Read::Partial | Read::Refused(()), None) => ledger.alike(),
        (Read::Refused(()), Some(_)) => ledger.differ(ONLY_THEY_TAKE, body, told),
        // We take nothing that they refuse, and wait for nothing that they have whole.
        (Read::Partial, Some(_)) | (Read::Whole(_), None) => ledger.differ::<[u8]>(&[], body, told),
    }
}

#[test]
fn chunked_bodies_are_read_as_hyper_reads_them_but_for_what_is_explained() {
    let (mut ledger, mut random) = (Ledger::default(), Random::new());
    let corpus: Vec<Vec<u8>> = attacks("request-chunks")
        .into_iter()
        .map(|request| request[request.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4..].to_vec())
        .collect();
    for body in &corpus {
        compare(&mut ledger, body);
    }
    for _ in 0..COUNT * rounds() {
        compare(&mut ledger, &mutated(&corpus[random.below(corpus.len())], &mut random));
    }
    for body in samples(&bodies(), COUNT * rounds()) {
        compare(&mut ledger, &body);
    }
    ledger.settle(ONLY_THEY_TAKE);
}
