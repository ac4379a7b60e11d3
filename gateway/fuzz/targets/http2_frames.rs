//! Frames of HTTP/2 as the guard counts them: the same however their bytes are cut, and the same as by a slow reading of all of them.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use probegate_fuzz::wire::h2::guard::Guard;

const NOW: Duration = Duration::from_secs(1);

/// What was exchanged before the input.
#[derive(Clone, Copy)]
struct Before {
    /// Requests that were handed to the gateway.
    accepted: u32,
    /// Frames of data that were sent, of 4 KiB each.
    data: u32,
}

fn guard(before: Before) -> Guard {
    let mut guard = Guard::new(0, NOW);
    (0..before.accepted).for_each(|number| guard.accepted(2 * number + 1));
    let data = [&[0, 16, 0, 0, 0, 0, 0, 0, 1][..], &[0; 4096]].concat();
    (0..before.data).for_each(|_| guard.sent(&data));
    guard
}

/// One frame of a sequence that is there at once: type, flags, length, stream, and as much of its payload as there is.
struct Frame<'a> {
    kind: u8,
    flags: u8,
    length: usize,
    stream: u32,
    payload: &'a [u8],
}

fn frames(mut bytes: &[u8]) -> Vec<Frame<'_>> {
    let mut all = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let payload = &rest[..length.min(rest.len())];
        all.push(Frame { kind: head[3], flags: head[4], length, stream, payload });
        bytes = &rest[payload.len()..];
    }
    // The error code of a reset belongs to what is looked at.
    all.pop_if(|last| last.kind == 3 && last.length == 4 && last.payload.len() < 4);
    all
}

/// Whether so many frames are too many.
fn floods(frames: &[Frame<'_>], before: Before) -> bool {
    let justified = before.data * 4 + before.data * 4;
    let count =
        |is: &dyn Fn(&Frame<'_>) -> bool| u32::try_from(frames.iter().filter(|frame| is(frame)).count()).unwrap();
    let kind = |kind: u8| count(&|frame| frame.kind == kind);
    count(&|frame| frame.kind == 0 && frame.length == 0 && frame.flags & 1 == 0) > 100
        || kind(2) > 1000
        || kind(3) > 500 + before.accepted / 2
        || kind(4) > 50
        || kind(6) > 500 + justified
        || kind(8) > 1000 + justified
        || kind(9) > 500
        || count(&|frame| matches!(frame.kind, 5 | 7 | 10..)) > 500
}

/// Whether fields have begun that are not whole.
fn is_open(frames: &[Frame<'_>]) -> bool {
    let Some(begun) = frames.iter().rposition(|frame| frame.kind == 1) else { return false };
    let of_it = &frames[begun..];
    let Some(end) = of_it.iter().position(|frame| matches!(frame.kind, 1 | 9) && frame.flags & 4 != 0) else {
        return true;
    };
    // Its end is the last that there is, and not all of it.
    end + 1 == of_it.len() && of_it[end].payload.len() < of_it[end].length
}

/// Resets with an error, of requests that nobody was handed.
fn refusals(frames: &[Frame<'_>], before: Before) -> u32 {
    let unknown = |stream: u32| before.accepted == 0 || stream > 2 * before.accepted - 1;
    let refuses = |frame: &&Frame<'_>| {
        frame.kind == 3
            && frame.length == 4
            && matches!(frame.payload, [0, 0, 0, 1 | 3 | 5 | 6 | 7])
            && unknown(frame.stream)
    };
    u32::try_from(frames.iter().filter(refuses).count()).unwrap()
}

fuzz_target!(|input: &[u8]| {
    let Some((&[step, repeat, accepted, data], bytes)) = input.split_first_chunk::<4>() else { return };
    let before = Before { accepted: accepted.into(), data: data.into() };
    let bytes = bytes.repeat(usize::from(repeat).max(1));
    let frames = frames(&bytes);
    for step in [usize::from(step).max(1), bytes.len().max(1)] {
        let mut client = guard(before);
        for piece in bytes.chunks(step) {
            let fair = client.received(piece, NOW);
            assert!(fair || client.flooded());
        }
        assert_eq!(client.begun(), !bytes.is_empty());
        assert_eq!(client.flooded(), floods(&frames, before), "{step}");
        assert_eq!(client.head_since(), is_open(&frames).then_some(NOW), "{step}");
        assert_eq!(client.take_refused(), 0, "what the client resets is refused by nobody");

        let mut server = guard(before);
        bytes.chunks(step).for_each(|piece| server.sent(piece));
        assert_eq!(server.take_refused(), refusals(&frames, before), "{step}");
        assert!(!server.flooded() && server.head_since().is_none());
    }
});
