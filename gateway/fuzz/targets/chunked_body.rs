//! Chunked bodies: however the bytes arrive, they mean the same, and they mean what a slow and simple reader finds.
//!
//! The first byte chooses the size of the pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use probegate_fuzz::wire::h1::chunked::{Decoder, InvalidChunk, header};

/// Data, trailers as passed on, bytes used; `None`: it goes on.
type Read = Result<Option<(Vec<u8>, Vec<u8>, usize)>, InvalidChunk>;

fn decode(bytes: &[u8], step: usize) -> Read {
    let (mut decoder, mut data, mut used) = (Decoder::default(), Vec::new(), 0);
    for piece in bytes.chunks(step) {
        let mut piece = piece.to_vec();
        let decoded = decoder.decode(&mut piece)?;
        assert!(decoded.produced <= decoded.consumed && decoded.consumed <= piece.len());
        data.extend_from_slice(&piece[..decoded.produced]);
        used += decoded.consumed;
        if decoded.done {
            return Ok(Some((data, decoder.trailers().to_vec(), used)));
        }
        assert_eq!(decoded.consumed, piece.len());
    }
    Ok(None)
}

/// RFC 9112 §7.1 word by word, for bodies that are there completely. `None`: not one.
fn reference(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let line = |at: usize| -> Option<&[u8]> {
        let rest = bytes.get(at..)?;
        rest.get(..rest.windows(2).position(|pair| pair == b"\r\n")?)
    };
    let plain = |line: &[u8]| line.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
    let (mut at, mut data) = (0, Vec::new());
    loop {
        let size = line(at)?;
        let digits = size.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let extension = &size[digits..];
        if !(1..=15).contains(&digits) || !(extension.is_empty() || extension.starts_with(b";")) || !plain(extension) {
            return None;
        }
        let length = usize::from_str_radix(std::str::from_utf8(&size[..digits]).ok()?, 16).ok()?;
        at += size.len() + 2;
        if length == 0 {
            break;
        }
        data.extend_from_slice(bytes.get(at..at.checked_add(length)?)?);
        at += length;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    loop {
        let trailer = line(at)?;
        at += trailer.len() + 2;
        if trailer.is_empty() {
            return Some((data, at));
        }
        let colon = trailer.iter().position(|&byte| byte == b':')?;
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        if colon == 0 || !trailer[..colon].iter().all(token) || !plain(&trailer[colon..]) {
            return None;
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&step, bytes)) = input.split_first() else { return };
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(whole, decode(bytes, 1));
    assert_eq!(whole, decode(bytes, usize::from(step).max(1)));

    // Bounds of ours that the reference does not know: extensions and trailers of kilobytes.
    if bytes.len() > 2048 {
        return;
    }
    match (&whole, reference(bytes)) {
        (Ok(Some((data, _, used))), Some((expected, end))) => assert_eq!((data, *used), (&expected, end)),
        (Ok(None) | Err(InvalidChunk), None) => return,
        other => panic!("{other:?}"),
    }

    // Written anew, it is the same.
    let Ok(Some((data, trailers, _))) = whole else { return };
    let mut written = Vec::new();
    for chunk in data.chunks(7) {
        written.extend_from_slice(header(chunk.len(), &mut [0; 18]));
        written.extend_from_slice(chunk);
        written.extend_from_slice(b"\r\n");
    }
    for part in [&b"0\r\n"[..], &trailers, b"\r\n"] {
        written.extend_from_slice(part);
    }
    let length = written.len();
    assert_eq!(decode(&written, 5), Ok(Some((data, trailers, length))));
});
