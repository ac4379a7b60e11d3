//! Watches the frames of an HTTP/2 connection as they pass, nine bytes of each, and bounds what the crate `h2` lets by: frames that cost the
//! sender little and the receiver something (CVE-2019-9512 to 9518, CVE-2023-44487), and what it refuses without telling anybody.
//!
//! The budgets are for ten seconds, and far above what clients do: a browser sends one SETTINGS and some PRIORITY in a connection's life,
//! cancels a page's requests now and then, and tells its windows once for every few frames of data; a gRPC client measures its line with a PING
//! for every round of data. What data justifies grows with the data; the rest is fixed.
//!
//! Invariant: nothing is decoded but frame heads and error codes.

mod frames;

use std::time::Duration;

use self::frames::{Frames, RST_STREAM};

/// For how long a budget lasts.
const PERIOD: Duration = Duration::from_secs(10);

/// SETTINGS, acknowledgements included. Each must be answered; clients send one at the start, and few ever change them.
const SETTINGS: u32 = 50;

/// PING, besides those that data justifies. Each must be answered. Keep-alive pings come every few seconds.
const PINGS: u32 = 500;

/// PRIORITY. Firefox sends six at the start, older browsers one for each request (there are hundreds on a page, not thousands).
const PRIORITIES: u32 = 1000;

/// `RST_STREAM`. Leaving a page cancels what it was loading: some hundred at most, and not every second. A balancer
/// with many users resets more, but not more than half of what it asks for: that much is added for the requests of the period.
const RESETS: u32 = 500;

/// `WINDOW_UPDATE`, besides those that data justifies.
const WINDOWS: u32 = 1000;

/// DATA without data and without an end: of no use to anybody.
const EMPTY: u32 = 100;

/// CONTINUATION. A head within our bound needs few; `h2` bounds those of one head.
const CONTINUATIONS: u32 = 500;

/// Types nobody knows, sent to keep receivers tolerant (RFC 8701), and the rest.
const OTHERS: u32 = 500;

/// For every DATA frame that was sent, this many `WINDOW_UPDATE` or PING frames may come back.
const FOR_EACH_DATA: u32 = 4;

/// And one more for so many bytes of them: Go tells two windows for every 4 KiB that its user reads.
const BYTES_FOR_ONE: u64 = 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const SETTINGS_FRAME: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Error codes with which a request is refused that nobody has seen (RFC 9113 §7).
const REFUSALS: [u32; 5] = [1, 3, 5, 6, 7];

/// Watches one connection.
#[derive(Debug)]
pub struct Guard {
    incoming: Frames,
    outgoing: Frames,
    /// When the current period began.
    since: Duration,
    /// Frames of each kind in this period.
    counts: Counts,
    flooded: bool,
    /// Something was received.
    begun: bool,
    /// Fields that are coming in.
    block: Option<Block>,
    /// Streams that were handed to the gateway: the last one, and which of the 128 before it.
    last: u32,
    recent: u128,
    /// Streams that were refused by `h2` itself.
    refused: u32,
}

/// The fields of a request, or its trailers, on their way: HEADERS and what continues it (RFC 9113 §4.3).
#[derive(Clone, Copy, Debug)]
struct Block {
    /// When it began.
    since: Duration,
    /// The frame at hand ends it.
    last: bool,
}

#[derive(Debug, Default)]
struct Counts {
    settings: u32,
    pings: u32,
    priorities: u32,
    resets: u32,
    windows: u32,
    empty: u32,
    continuations: u32,
    others: u32,
    /// DATA frames sent.
    sent: u32,
    /// Bytes in them.
    bytes: u64,
    /// Requests that were handed to the gateway.
    accepted: u32,
}

impl Guard {
    /// Watches a connection whose first `preface` bytes are no frames.
    pub fn new(preface: usize, now: Duration) -> Self {
        Self {
            incoming: Frames::behind(preface),
            outgoing: Frames::default(),
            since: now,
            counts: Counts::default(),
            flooded: false,
            begun: false,
            block: None,
            last: 0,
            recent: 0,
            refused: 0,
        }
    }

    /// Sees what was received. `false`: the client floods.
    pub fn received(&mut self, bytes: &[u8], now: Duration) -> bool {
        if now.saturating_sub(self.since) >= PERIOD {
            self.since = now;
            self.counts = Counts::default();
        }
        self.begun |= !bytes.is_empty();
        let (counts, block) = (&mut self.counts, &mut self.block);
        let mut fair = true;
        self.incoming.pass(bytes, |frame| {
            let last = frame.flags & END_HEADERS != 0;
            match (frame.kind, &mut *block) {
                (HEADERS, _) => *block = Some(Block { since: now, last }),
                (_, Some(Block { last: true, .. })) => *block = None,
                (CONTINUATION, Some(block)) => block.last = last,
                _ => {}
            }
            let bytes = u32::try_from(counts.bytes / BYTES_FOR_ONE).unwrap_or(u32::MAX);
            let justified = counts.sent.saturating_mul(FOR_EACH_DATA).saturating_add(bytes);
            let (count, most) = match frame.kind {
                DATA if frame.length == 0 && frame.flags & END_STREAM == 0 => (&mut counts.empty, EMPTY),
                DATA | HEADERS => return,
                PRIORITY => (&mut counts.priorities, PRIORITIES),
                RST_STREAM => (&mut counts.resets, RESETS.saturating_add(counts.accepted / 2)),
                SETTINGS_FRAME => (&mut counts.settings, SETTINGS),
                PING => (&mut counts.pings, PINGS.saturating_add(justified)),
                WINDOW_UPDATE => (&mut counts.windows, WINDOWS.saturating_add(justified)),
                CONTINUATION => (&mut counts.continuations, CONTINUATIONS),
                _ => (&mut counts.others, OTHERS),
            };
            *count += 1;
            fair &= *count <= most;
        });
        if self.block.is_some_and(|block| block.last) && self.incoming.is_between() {
            self.block = None;
        }
        self.flooded |= !fair;
        fair
    }

    /// When the fields began that are not whole yet.
    pub fn head_since(&self) -> Option<Duration> {
        self.block.map(|block| block.since)
    }

    /// Sees what is sent.
    pub fn sent(&mut self, bytes: &[u8]) {
        let (counts, last, recent, refused) = (&mut self.counts, self.last, self.recent, &mut self.refused);
        self.outgoing.pass(bytes, |frame| match (frame.kind, frame.code) {
            (DATA, _) => {
                counts.sent = counts.sent.saturating_add(1);
                counts.bytes = counts.bytes.saturating_add(frame.length as u64);
            }
            (RST_STREAM, Some(code)) if REFUSALS.contains(&code) && !known(last, recent, frame.stream) => *refused += 1,
            _ => {}
        });
    }

    /// Whether anything was received.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// The client floods.
    pub fn flooded(&self) -> bool {
        self.flooded
    }

    /// A stream was handed to the gateway: whatever becomes of it is the gateway's to tell.
    pub fn accepted(&mut self, stream: u32) {
        self.counts.accepted = self.counts.accepted.saturating_add(1);
        let distance = stream.saturating_sub(self.last) / 2;
        self.recent = self.recent.checked_shl(distance).unwrap_or(0) | 1;
        self.last = stream;
    }

    /// How many requests were refused since the last question, without the gateway having seen them.
    pub fn take_refused(&mut self) -> u32 {
        std::mem::take(&mut self.refused)
    }
}

/// Whether a stream was handed to the gateway. Those long past are taken for it.
fn known(last: u32, recent: u128, stream: u32) -> bool {
    stream <= last && recent.checked_shr((last - stream) / 2).is_none_or(|bits| bits & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_millis(5);

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn frames_are_counted_however_their_bytes_come() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let one =
            [frame(PING, 0, 0, &[1; 8]), frame(DATA, 0, 1, &[0; 100]), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])].concat();
        for step in [1, 3, 7, 9, 10, 1000] {
            let mut guard = Guard::new(preface.len(), START);
            let bytes = [preface.to_vec(), one.repeat(usize::try_from(PINGS).unwrap())].concat();
            assert!(bytes.chunks(step).all(|piece| guard.received(piece, START)), "{step}");
            assert_eq!((guard.counts.pings, guard.counts.resets), (PINGS, PINGS), "{step}");
            assert!(!guard.received(&frame(PING, 0, 0, &[1; 8]), START) && guard.flooded());
        }
    }

    #[test]
    fn fields_are_on_their_way_from_the_first_byte_behind_a_head_to_the_last() {
        let later = START + PERIOD;
        let mut guard = Guard::new(0, START);
        guard.received(&frame(HEADERS, END_STREAM | END_HEADERS, 1, b"fields"), START);
        assert_eq!(guard.head_since(), None, "whole at once");
        let head = frame(HEADERS, END_HEADERS, 3, b"fields");
        let (most, last) = head.split_at(head.len() - 1);
        guard.received(most, START);
        assert_eq!(guard.head_since(), Some(START));
        guard.received(last, later);
        assert_eq!(guard.head_since(), None);
        guard.received(&frame(HEADERS, 0, 5, b"some"), later);
        guard.received(&frame(CONTINUATION, 0, 5, b"more"), later + PERIOD);
        assert_eq!(guard.head_since(), Some(later), "since it began");
        let end = [frame(CONTINUATION, END_HEADERS, 5, b""), frame(HEADERS, 0, 7, b"next")].concat();
        guard.received(&end, later + PERIOD);
        assert_eq!(guard.head_since(), Some(later + PERIOD), "those of the next one");
        let data = frame(DATA, 0, 7, b"data");
        guard.received(&[&frame(CONTINUATION, END_HEADERS, 7, b""), &data[..10]].concat(), later);
        assert_eq!(guard.head_since(), None, "what is not whole now is data");
    }

    #[test]
    fn a_budget_is_for_ten_seconds() {
        let mut guard = Guard::new(0, START);
        let settings = frame(SETTINGS_FRAME, 0, 0, &[]);
        for second in 0..10 {
            assert!(guard.received(&settings.repeat(50), START + second * PERIOD), "{second}");
        }
        assert!(!guard.received(&settings, START + 9 * PERIOD + PERIOD / 2));
    }

    #[test]
    fn each_kind_has_its_own_bound() {
        for (kind, payload, most) in [
            (SETTINGS_FRAME, &b""[..], SETTINGS),
            (PING, &[0; 8], PINGS),
            (PRIORITY, &[0; 5], PRIORITIES),
            (RST_STREAM, &[0; 4], RESETS),
            (WINDOW_UPDATE, &[0; 4], WINDOWS),
            (DATA, b"", EMPTY),
            (CONTINUATION, b"", CONTINUATIONS),
            (0xfa, b"grease", OTHERS),
        ] {
            let mut guard = Guard::new(0, START);
            let frame = frame(kind, 0, 1, payload);
            assert!((0..most).all(|_| guard.received(&frame, START)), "{kind}");
            assert!(!guard.received(&frame, START), "{kind}");
        }
        let mut guard = Guard::new(0, START);
        assert!((0..10_000).all(|_| guard.received(&frame(DATA, END_STREAM, 1, b""), START)), "an end is no waste");
    }

    #[test]
    fn data_justifies_windows_and_pings() {
        let mut guard = Guard::new(0, START);
        for _ in 0..10_000 {
            guard.sent(&frame(DATA, 0, 1, b"some"));
            assert!(guard.received(&frame(WINDOW_UPDATE, 0, 1, &[0; 4]).repeat(2), START));
            assert!(guard.received(&frame(PING, 0, 0, &[0; 8]), START));
        }
    }

    #[test]
    fn bytes_justify_windows() {
        let mut guard = Guard::new(0, START);
        for _ in 0..10_000 {
            guard.sent(&frame(DATA, 0, 1, &[0; 16384]));
            assert!(guard.received(&frame(WINDOW_UPDATE, 0, 1, &[0; 4]).repeat(8), START));
        }
    }

    #[test]
    fn requests_justify_half_as_many_resets() {
        let (mut guard, mut fast) = (Guard::new(0, START), Guard::new(0, START));
        let reset = frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
        for number in 0..10_000 {
            guard.accepted(2 * number + 1);
            assert!(number % 2 == 0 || guard.received(&reset, START));
        }
        let ended = (0..10_000).find(|number| {
            fast.accepted(2 * number + 1);
            !fast.received(&reset, START)
        });
        assert!(ended.is_some_and(|number| number <= 2 * RESETS), "resetting every request: {ended:?}");
    }

    #[test]
    fn refusals_that_nobody_has_seen_are_found() {
        let mut guard = Guard::new(0, START);
        guard.accepted(1);
        guard.accepted(5);
        guard.sent(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 1]));
        guard.sent(&frame(RST_STREAM, 0, 5, &[0, 0, 0, 1]));
        guard.sent(&frame(RST_STREAM, 0, 9, &[0, 0, 0, 8]));
        assert_eq!(guard.take_refused(), 0);
        let bytes = [frame(RST_STREAM, 0, 3, &[0, 0, 0, 1]), frame(RST_STREAM, 0, 7, &[0, 0, 0, 7])].concat();
        bytes.chunks(4).for_each(|piece| guard.sent(piece));
        assert_eq!((guard.take_refused(), guard.take_refused()), (2, 0));
        guard.accepted(1001);
        guard.sent(&frame(RST_STREAM, 0, 5, &[0, 0, 0, 1]));
        guard.sent(&frame(RST_STREAM, 0, 999, &[0, 0, 0, 1]));
        assert_eq!(guard.take_refused(), 1);
    }
}
