//! Messages to read: attacks that were changed a little, and what a grammar of odd parts makes up.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::corpus;

/// How many times more messages than usual.
pub(crate) fn rounds() -> usize {
    std::env::var("PROBEGATE_DIFFERENTIAL_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap())
}

fn seed() -> u64 {
    std::env::var("PROBEGATE_DIFFERENTIAL_SEED").map_or(1, |seed| seed.parse().unwrap())
}

/// Small and the same everywhere (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ seed().wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % end
    }
}

/// Pieces that parsers have disagreed about.
const ODD: [&[u8]; 40] = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\r\n",
    b"\n\n",
    b" ",
    b"\t",
    b"  ",
    b"\0",
    b"\x0b",
    b"\x0c",
    b"\x1b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b":",
    b";",
    b",",
    b"#",
    b"?",
    b"/",
    b"\\",
    b"\"",
    b"0",
    b"1",
    b"9",
    b"a",
    b"A",
    b"+",
    b"-",
    b"_",
    b"0x",
    b"HTTP/1.",
    b"HTTP/1.1",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b" folded\r\n",
    b"chunked",
    b"\xc3\xa9",
    b"=",
];

/// The bytes of every case of files that begin with `prefix`, without very long ones.
pub(crate) fn attacks(prefix: &str) -> Vec<Vec<u8>> {
    let cases = corpus::groups(prefix).into_iter().flat_map(|group| group.cases);
    cases.map(|case| case.sent).filter(|sent| sent.len() < 4000).collect()
}

/// `base` with a few changes.
pub(crate) fn mutated(base: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = base.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(out.len() + 1);
        let length = random.below(6).min(out.len() - at);
        let odd = ODD[random.below(ODD.len())];
        match random.below(6) {
            0 => drop(out.splice(at..at, odd.iter().copied())),
            1 => drop(out.splice(at..(at + 1).min(out.len()), odd.iter().copied())),
            2 => drop(out.drain(at..at + length)),
            3 => {
                let part = out[at..at + length].to_vec();
                drop(out.splice(at..at, part));
            }
            4 => {
                if let Some(byte) = out.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            _ => out.truncate(at.max(out.len() / 2)),
        }
    }
    out
}

/// So many values of a strategy, always the same.
pub(crate) fn samples<T: std::fmt::Debug>(strategy: &impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, random);
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

fn one_of(usual: &'static [&'static str], odd: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![12 => proptest::sample::select(usual), 1 => proptest::sample::select(odd)].prop_map(str::to_owned)
}

fn line_end() -> impl Strategy<Value = String> {
    one_of(&["\r\n"], &["\n", "\r", "\r\r\n", "\r\n ", "\n\r"])
}

fn field() -> impl Strategy<Value = String> {
    let name = one_of(
        &[
            "Host",
            "X",
            "content-length",
            "Transfer-Encoding",
            "Connection",
            "Accept",
            "Cookie",
            "X-Long-Name_with.odd~chars",
        ],
        &["", " X", "X ", "X\t", "X\0", "(X)", "\u{e9}", "X\r"],
    );
    let colon = one_of(&[":", ": ", ":\t "], &["", " :", "::", "="]);
    let value = one_of(
        &["a", "", "0", "5", "chunked", "close", "a b", "tab\there", "\u{e9}\u{ff}", "x ", "\"q\""],
        &["\0", "\x0b", "\x7f", "a\rb", "\n", "+5", "5, 5", "chunked, chunked", "gzip"],
    );
    (name, colon, value, line_end()).prop_map(|(name, colon, value, end)| format!("{name}{colon}{value}{end}"))
}

/// Request heads, most of them nearly right.
pub(crate) fn requests() -> impl Strategy<Value = Vec<u8>> {
    let before = one_of(&[""], &["\r\n", "\r\n\r\n", "\n", " "]);
    let method = one_of(
        &["GET", "POST", "OPTIONS", "M-SEARCH", "PUT"],
        &["get", "", "G(T", "G T", "\u{e9}", "PRI", "AAAAAAAAAABBBBBBBBBBCCCCCCCCCCDDD"],
    );
    let blank = one_of(&[" "], &["", "  ", "\t", "\x0b"]);
    let target = one_of(
        &["/", "/a?b=c", "*", "http://a/b", "a:80", "/%41;x=y", "/\"<>{}|^`\\"],
        &["", "/a b", "/#f", "/\u{e9}", "/\0", "/\x7f", "/\t"],
    );
    let version = one_of(
        &["HTTP/1.1", "HTTP/1.0"],
        &["HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "http/1.1", "HTTP/1.", "HTTP/1.10", "", "HTTP/0.9"],
    );
    let first = (before, method, blank, target, " ", version, line_end());
    (first, proptest::collection::vec(field(), 0..6), line_end()).prop_map(
        |((before, method, blank, target, space, version, end), fields, last)| {
            format!("{before}{method}{blank}{target}{space}{version}{end}{}{last}", fields.concat()).into_bytes()
        },
    )
}

/// Response heads.
pub(crate) fn responses() -> impl Strategy<Value = Vec<u8>> {
    let before = one_of(&[""], &["\r\n", "\n", " "]);
    let version = one_of(&["HTTP/1.1", "HTTP/1.0"], &["HTTP/1.2", "HTTP/2", "http/1.1", "ICY", ""]);
    let blank = one_of(&[" "], &["", "  ", "\t"]);
    let status =
        one_of(&["200", "404", "100", "204", "599"], &["099", "600", "000", "999", "20", "2000", "+20", "2O0"]);
    let phrase =
        one_of(&[" OK", "", " ", " Not Found", " D\u{e9}j\u{e0} vu"], &[" \0", "  ", "\t", " a\rb", "OK", " \x7f"]);
    (before, version, blank, status, phrase, line_end(), proptest::collection::vec(field(), 0..6), line_end()).prop_map(
        |(before, version, blank, status, phrase, end, fields, last)| {
            format!("{before}{version}{blank}{status}{phrase}{end}{}{last}", fields.concat()).into_bytes()
        },
    )
}

/// Chunked bodies.
pub(crate) fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let size = one_of(
        &["1", "a", "A", "05", "3"],
        &[
            "",
            " 3",
            "3 ",
            "3\t",
            "0x3",
            "+3",
            "-3",
            "3_0",
            "g",
            "ffffffffffffffff",
            "10000000000000003",
            "00000000000000000003",
            "\0",
        ],
    );
    let extension =
        one_of(&["", ";a", ";a=b", ";a=\"b;c\""], &[" ;a", "; a", ";\0", ";\n", ";a\rb", ";\u{e9}", ";\x7f", ",", ";"]);
    let data = one_of(&["exact"], &["short", "long"]);
    let chunk = (size, extension, line_end(), data, line_end()).prop_map(|(size, extension, end, data, last)| {
        let length = usize::from_str_radix(size.trim(), 16).unwrap_or(3).min(20);
        let length = match &*data {
            "short" => length.saturating_sub(1),
            "long" => length + 1,
            _ => length,
        };
        format!("{size}{extension}{end}{}{last}", "d".repeat(length))
    });
    let last = one_of(&["0", "00", "0;a"], &["", "0 ", "-0"]);
    (proptest::collection::vec(chunk, 0..4), last, line_end(), proptest::collection::vec(field(), 0..3), line_end())
        .prop_map(|(chunks, last, end, trailers, close)| {
            format!("{}{last}{end}{}{close}", chunks.concat(), trailers.concat()).into_bytes()
        })
}
