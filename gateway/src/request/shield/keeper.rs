//! Both ends of an answer that is kept: who takes it from the app, and who gives it again.

use std::future::{Future, ready};
use std::task::{Context, Poll};

use probegate_policies::reason::Reason;

use crate::shields::{Kept, LARGEST};
use crate::wire::edits::Edits;
use crate::wire::head::{Framing, ResponseHead};
use crate::wire::{Answer, ClientFraming, ClientGone, Part, RequestBody, Responder, ResponseSource, Stamp, Written};

/// Takes an answer from the app, up to the [`LARGEST`] that is kept.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    head: Option<(ResponseHead, Vec<u8>)>,
    body: Vec<u8>,
    /// There was more.
    pub(super) overflowed: bool,
}

impl Keeper {
    /// The answer; `None`: there was none.
    pub(super) fn kept(self) -> Option<Kept> {
        let (head, bytes) = self.head?;
        Some(Kept::new(&head, &bytes, self.body))
    }
}

impl Responder for Keeper {
    fn stamp(&mut self, _stamp: &Stamp<'_>, _edits: Option<Edits>) {}

    fn interim(&mut self, _head: &ResponseHead, _bytes: &[u8]) -> impl Future<Output = Result<(), ClientGone>> {
        ready(Ok(()))
    }

    fn start(&mut self, head: &ResponseHead, bytes: &[u8], _framing: ClientFraming) {
        let fields = head.fields.clone();
        let head =
            ResponseHead { status: head.status, reason: head.reason, version: head.version, fields, len: head.len };
        self.head = Some((head, bytes.to_vec()));
    }

    fn retract(&mut self) -> bool {
        self.head = None;
        self.body.clear();
        true
    }

    fn started(&self) -> bool {
        self.head.is_some()
    }

    fn go_on(&mut self) -> impl Future<Output = Result<(), ClientGone>> {
        ready(Ok(()))
    }

    fn poll_write(
        &mut self,
        _cx: &mut Context<'_>,
        data: &[u8],
        _end: Option<&[u8]>,
        _written: &mut Written,
    ) -> Poll<Result<(), ClientGone>> {
        if self.body.len() + data.len() > LARGEST {
            self.overflowed = true;
            return Poll::Ready(Err(ClientGone::Closed));
        }
        self.body.extend_from_slice(data);
        Poll::Ready(Ok(()))
    }

    fn answer(&mut self, _answer: &Answer<'_>) -> impl Future<Output = Result<(), ClientGone>> {
        ready(Ok(()))
    }

    fn close(&mut self) {}

    fn truncate(&mut self) {}

    fn sent(&self) -> u64 {
        self.body.len() as u64
    }

    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// The body of a question: none.
#[derive(Debug)]
pub(super) struct Nothing;

impl RequestBody for Nothing {
    fn framing(&self) -> Framing {
        Framing::None
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn has_buffered(&mut self) -> bool {
        true
    }

    fn received(&self) -> u64 {
        0
    }

    async fn read(&mut self) -> Result<Option<&[u8]>, Reason> {
        Ok(None)
    }

    fn limit(&mut self, _most: u64) {}

    fn discard(&mut self) -> bool {
        true
    }

    fn trailers(&self) -> &[u8] {
        &[]
    }
}

/// Gives a kept answer.
#[derive(Debug)]
pub(super) struct Again<'a>(&'a Kept);

impl<'a> Again<'a> {
    pub(super) fn new(kept: &'a Kept) -> Self {
        Self(kept)
    }
}

impl ResponseSource for Again<'_> {
    fn head(&mut self) -> impl Future<Output = Result<(), Reason>> {
        ready(Ok(()))
    }

    fn received(&self) -> bool {
        true
    }

    fn view(&self) -> (&ResponseHead, &[u8]) {
        self.0.view()
    }

    fn framing(&mut self, _asked_head: bool) -> Result<Framing, Reason> {
        let length = self.0.body().len() as u64;
        Ok(if length == 0 { Framing::None } else { Framing::Length(length) })
    }

    fn begin(&mut self, _framing: Framing) {}

    fn has_buffered(&mut self) -> bool {
        true
    }

    fn part(&mut self) -> impl Future<Output = Result<Part<'_>, Reason>> {
        ready(Ok(Part { data: self.0.body(), end: Some(&[]) }))
    }

    fn is_reusable(&self) -> bool {
        true
    }

    fn leave_rest(self) {}
}
