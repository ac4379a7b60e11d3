//! How the head of a response is written, and what of its client decides about it.

use super::Reply;
use crate::wire::head::Version;
use crate::wire::text::push_number;
use crate::wire::transport::Transport;

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
}
