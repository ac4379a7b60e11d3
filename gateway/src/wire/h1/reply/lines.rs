//! How the head of a response is written, and what of its client decides about it.

use std::io::IoSlice;

use super::Reply;
use crate::wire::edits;
use crate::wire::head::Version;
use crate::wire::text::{push_number, reason_phrase};
use crate::wire::transport::Transport;
use crate::wire::{Answer, COPIED, ClientGone};

/// Everything about the client that decides how a response is written.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The version of the request.
    pub version: Version,
    /// The request was HEAD.
    pub to_head: bool,
    /// The client may send another request on this connection.
    pub persists: bool,
}

impl<T: Transport> Reply<'_, T> {
    pub(super) fn status_line(&mut self, status: u16, reason: &[u8]) {
        self.out.extend_from_slice(b"HTTP/1.1 ");
        push_number(self.out, u64::from(status));
        self.out.push(b' ');
        self.out.extend_from_slice(reason);
        self.out.extend_from_slice(b"\r\n");
    }

    pub(super) fn connection_line(&mut self) {
        match (self.client.persists, self.client.version) {
            (false, _) => self.out.extend_from_slice(b"Connection: close\r\n"),
            (true, Version::Http10) => self.out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (true, Version::Http11 | Version::Http2) => {}
        }
    }

    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        for part in [name, b": ", value, b"\r\n"] {
            self.out.extend_from_slice(part);
        }
    }

    /// Whether an answer of the gateway's own goes out as it usually does.
    pub fn is_usual(&self) -> bool {
        self.is_plain() && !self.started && self.out.is_empty()
    }

    /// Whether nothing about its client or its service makes it another one.
    pub(super) fn is_plain(&self) -> bool {
        self.client.persists && self.client.version == Version::Http11 && !self.client.to_head && self.edits.is_none()
    }

    /// Begins an answer of the gateway's own, and gives the body that follows its head.
    pub(super) fn begin_with<'b>(&mut self, answer: &Answer<'b>) -> &'b [u8] {
        self.begin();
        self.out.reserve(512 + answer.body.len().min(COPIED));
        self.status_line(answer.status, reason_phrase(answer.status).as_bytes());
        let date = self.date;
        self.field(b"Date", &date);
        for (name, value) in answer.fields {
            self.field(name.as_bytes(), value);
        }
        match self.edits.as_deref() {
            None => self.out.extend_from_slice(&self.lines),
            Some(edits) => {
                // What such an answer says of itself stays: an error is not to be kept because the app's answers may be.
                let has =
                    |name: &[u8]| answer.fields.iter().any(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
                let lines = edits::lines(&self.lines).filter(|line| !edits::yields(line, has));
                lines.chain(edits.missing(has)).for_each(|text| self.out.extend_from_slice(text));
            }
        }
        // RFC 9110 §8.6: never with 204.
        if answer.status != 204 {
            self.out.extend_from_slice(b"Content-Length: ");
            push_number(self.out, answer.body.len() as u64);
            self.out.extend_from_slice(b"\r\n");
        }
        self.connection_line();
        self.out.extend_from_slice(b"\r\n");
        let body = if self.client.to_head { &[] } else { answer.body };
        self.sent += body.len() as u64;
        body
    }

    /// Sends what is in `out`, as far as that takes no waiting. `false`: something of it is left, whatever the reason.
    fn send_now(&mut self) -> bool {
        let sent = self.transport.try_write(&[IoSlice::new(self.out)]).unwrap_or(0);
        self.out.drain(..sent);
        self.out.is_empty()
    }

    /// Sends what is in `out`, and the body behind it.
    pub(super) async fn send_out(&mut self, body: &[u8]) -> Result<(), ClientGone> {
        // Nearly always, all of it goes at once.
        let sent = if body.is_empty() && self.send_now() {
            Ok(())
        } else {
            let out = std::mem::take(self.out);
            let sent = match body {
                [] => self.send(&mut [IoSlice::new(&out)]).await,
                body => self.send(&mut [IoSlice::new(&out), IoSlice::new(body)]).await,
            };
            *self.out = out;
            sent
        };
        self.out.clear();
        sent
    }
}
