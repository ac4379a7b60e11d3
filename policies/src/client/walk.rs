//! The walk from the right through the entries of a forwarding field.

use std::net::IpAddr;
use std::ops::ControlFlow;

use super::forwarded::{self, Elements};
use super::{Hops, MAX_BYTES, MAX_ENTRIES, Step, UnknownReason, Watch};
use crate::ip::{self, IpSet};
use crate::text::trim_ows;

/// The client and the number of entries to its right, or why it cannot be told.
type Outcome = Result<(IpAddr, u8), UnknownReason>;

/// Goes on with the next line, or has the answer.
type Flow = ControlFlow<Outcome>;

pub(super) struct Walk<'a, W> {
    trusted: &'a IpSet,
    hops: &'a mut Hops,
    watch: &'a mut W,
    /// Entries read so far; empty elements are none.
    entries: u8,
    /// Bytes that may still be walked.
    budget: usize,
    /// The trusted address furthest left so far: the client, should nothing follow.
    last: Option<IpAddr>,
}

impl<'a, W: Watch> Walk<'a, W> {
    pub(super) fn new(trusted: &'a IpSet, hops: &'a mut Hops, watch: &'a mut W) -> Self {
        Self { trusted, hops, watch, entries: 0, budget: MAX_BYTES, last: None }
    }

    /// Walks the lines from the last to the first, each with `line`.
    #[inline]
    pub(super) fn lines<'v>(
        &mut self,
        values: impl DoubleEndedIterator<Item = &'v [u8]>,
        line: impl Fn(&mut Self, &'v [u8]) -> Flow,
    ) -> Outcome {
        for value in values.rev() {
            if let ControlFlow::Break(outcome) = line(self, value) {
                return outcome;
            }
        }
        // Every entry was a trusted proxy: the one furthest left is the best answer there is.
        self.last.map(|ip| (ip, self.entries - 1)).ok_or(UnknownReason::Missing)
    }

    /// One line of `X-Forwarded-For`.
    pub(super) fn list(&mut self, line: &[u8]) -> Flow {
        self.commas(line, ip::parse_node)
    }

    /// One line of `Forwarded` (RFC 7239).
    pub(super) fn forwarded(&mut self, line: &[u8]) -> Flow {
        // Without quotes every comma separates, and what stands left of the stop is never looked at.
        if memchr::memchr(b'"', line).is_none() {
            return self.commas(line, forwarded::node);
        }
        // With quotes, what a comma means depends on everything left of it. A line is small enough to be read as a
        // whole, or it is too long. Lines are read apart: an open quote spoils its own line, never the next proxy's.
        self.spend(line.len() + 1)?;
        let elements = Elements::read(line);
        if elements.unclosed {
            return self.entry(line, None);
        }
        for element in elements.rightmost_first(line) {
            self.entry(element, forwarded::node(element))?;
        }
        // What no longer fitted into `elements` stands behind the largest number of entries.
        if elements.overflow { ControlFlow::Break(Err(UnknownReason::TooLong)) } else { ControlFlow::Continue(()) }
    }

    /// One line in which every comma separates two elements.
    #[inline]
    fn commas(&mut self, line: &[u8], node: impl Fn(&[u8]) -> Option<IpAddr>) -> Flow {
        let mut rest = Some(line);
        while let Some(left) = rest {
            // No further than the budget reaches: a list of a megabyte costs no more than one of 4 KiB.
            let reach = left.len().saturating_sub(self.budget);
            let near = left.get(reach..).unwrap_or_default();
            let element = if let Some(comma) = memchr::memrchr(b',', near) {
                rest = left.get(..reach + comma);
                near.get(comma + 1..).unwrap_or_default()
            } else {
                rest = None;
                left
            };
            self.spend(element.len() + 1)?;
            let element = trim_ows(element);
            if element.is_empty() {
                self.watch.entry(element, Step::Empty);
            } else {
                self.entry(element, node(element))?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Takes the bytes of an element and its separator from the budget.
    #[inline]
    fn spend(&mut self, bytes: usize) -> Flow {
        match self.budget.checked_sub(bytes) {
            Some(left) => {
                self.budget = left;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(Err(UnknownReason::TooLong)),
        }
    }

    /// Judges the next entry to the left.
    #[inline]
    fn entry(&mut self, element: &[u8], node: Option<IpAddr>) -> Flow {
        if usize::from(self.entries) == MAX_ENTRIES {
            return ControlFlow::Break(Err(UnknownReason::TooLong));
        }
        // With another entry to its left, the previous one was a hop.
        if let Some(hop) = self.last.take() {
            self.hops.push(hop);
        }
        self.entries += 1;
        match node {
            None => {
                self.watch.entry(element, Step::Malformed);
                ControlFlow::Break(Err(UnknownReason::Malformed { at: self.entries }))
            }
            Some(ip) if self.trusted.contains(ip) => {
                self.watch.entry(element, Step::Trusted(ip));
                self.last = Some(ip);
                ControlFlow::Continue(())
            }
            Some(ip) => {
                self.watch.entry(element, Step::Client(ip));
                ControlFlow::Break(Ok((ip, self.entries - 1)))
            }
        }
    }
}
