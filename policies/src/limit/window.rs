//! Fixed windows, counted as django-ratelimit 4.1 counts them, for those who move a decorator to the edge.
//!
//! A window ends at a second that belongs to it, and windows of different keys end at different times: each key has a stagger of its own. A request counts also
//! where it is refused, and exactly the rate's count of them pass in one window. Across the end of a window twice as many may pass within a moment: that is
//! what fixed windows are.
//!
//! The whole state of a key is one number, the end of its window and what was counted in it. Invariant: that number is larger than the clock (`clock`) exactly as
//! long as the window lasts, so that the table can tell who is worth remembering.

use std::fmt::{self, Write};
use std::net::IpAddr;

use super::{Decision, Quota};

pub(super) const SECOND: u64 = 1_000_000_000;

/// Bits of the state that count.
const COUNT_BITS: u32 = 28;

/// The most that can be counted.
pub(super) const MOST: u64 = (1 << COUNT_BITS) - 1;

/// The largest count of a rate that fixed windows can have.
pub const MAX_COUNT: u32 = (1 << COUNT_BITS) - 2;

/// What states are compared with, at this second since the Unix epoch.
#[inline]
pub(super) const fn clock(unix: u64) -> u64 {
    if unix >> (64 - COUNT_BITS - 1) == 0 { unix << COUNT_BITS } else { u64::MAX >> 1 }
}

/// The last second of the window that `unix` lies in, for windows of `period` seconds.
#[inline]
pub const fn end(unix: u64, period: u64, stagger: u32) -> u64 {
    if period <= 1 {
        return unix;
    }
    let end = unix - unix % period + stagger as u64 % period;
    if end < unix { end + period } else { end }
}

/// Judges `quantity` requests at once against what was counted. Gives the new state, or `None` where it does not change.
#[inline]
pub(super) fn decide(before: u64, unix: u64, stagger: u32, quota: &Quota, quantity: u64) -> (Option<u64>, Decision) {
    let unix = clock(unix) >> COUNT_BITS;
    let end = end(unix, quota.window() / SECOND, stagger);
    let counted = counted(before, end);
    let after = counted.saturating_add(quantity).min(MOST);
    // The end belongs to the window, and the second that has begun may be over at once.
    let decision = judge(counted, (end + 1 - unix).saturating_mul(SECOND), quota, quantity);
    let next = state(end, after);
    let changes = quantity > 0 && next != before;
    (changes.then_some(next), decision)
}

/// What `quantity` requests at once are told, where so many were counted in a window that is over in `left` nanoseconds.
#[inline]
pub(super) fn judge(counted: u64, left: u64, quota: &Quota, quantity: u64) -> Decision {
    let after = counted.saturating_add(quantity).min(MOST);
    let limit = u64::from(quota.limit());
    let admitted = after <= limit;
    let retry_after = match admitted {
        true => 0,
        false if quantity > limit => u64::MAX,
        false => left,
    };
    let remaining = u32::try_from(limit.saturating_sub(after)).unwrap_or(u32::MAX);
    Decision { admitted, remaining, reset: left, retry_after, delay: 0 }
}

/// What a state has counted in the window with this end.
#[inline]
pub(super) const fn counted(state: u64, end: u64) -> u64 {
    if state >> COUNT_BITS == end { state & MOST } else { 0 }
}

/// The state of a window with this end, in which so many were counted.
#[inline]
pub(super) const fn state(end: u64, counted: u64) -> u64 {
    end << COUNT_BITS | counted
}

/// The state with one request less in it.
#[inline]
pub(super) const fn refund(state: u64) -> u64 {
    if state & MOST == 0 { state } else { state - 1 }
}

/// Whether two states belong to the same window.
pub(super) const fn is_same(state: u64, other: u64) -> bool {
    state >> COUNT_BITS == other >> COUNT_BITS
}

/// Where windows of a key end within their period: the CRC-32 of its text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stagger(u32);

impl Stagger {
    pub(super) const fn new() -> Self {
        Self(u32::MAX)
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            for nibble in [byte & 0xF, byte >> 4] {
                let [low, ..] = self.0.to_le_bytes();
                let index = usize::from((low ^ nibble) & 0xF);
                self.0 = (self.0 >> 4) ^ NIBBLES.get(index).copied().unwrap_or(0);
            }
        }
    }

    /// The address as people write it.
    pub(super) fn feed_ip(&mut self, ip: IpAddr) {
        let written = write!(self, "{ip}");
        debug_assert!(written.is_ok());
    }

    pub(super) const fn value(self) -> u32 {
        !self.0
    }
}

impl Write for Stagger {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.feed(text.as_bytes());
        Ok(())
    }
}

/// What four bits make of the reflected polynomial 0xEDB88320 (ISO 3309, as in zlib).
const NIBBLES: [u32; 16] = [
    0x0000_0000,
    0x1DB7_1064,
    0x3B6E_20C8,
    0x26D9_30AC,
    0x76DC_4190,
    0x6B6B_51F4,
    0x4DB2_6158,
    0x5005_713C,
    0xEDB8_8320,
    0xF00F_9344,
    0xD6D6_A3E8,
    0xCB61_B38C,
    0x9B64_C2B0,
    0x86D3_D2D4,
    0xA00A_E278,
    0xBDBD_F21C,
];

#[cfg(test)]
mod tests;
