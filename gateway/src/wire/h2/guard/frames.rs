//! Finds the heads of frames in a sequence of bytes, however they are cut.
//!
//! Invariant: nothing is kept of a frame but its head, and the error code of a reset.

/// Length of a frame's head (RFC 9113 §4.1).
const HEAD: usize = 9;

/// The type of frame whose payload is looked at.
pub(super) const RST_STREAM: u8 = 3;

/// Where in the sequence of frames one direction stands.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Bytes before the next head.
    skip: usize,
    /// The head, and the first bytes of what follows it where it is an error code.
    head: [u8; HEAD + 4],
    have: usize,
}

/// A frame's head.
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) length: usize,
    pub(super) stream: u32,
    /// The error code of `RST_STREAM`.
    pub(super) code: Option<u32>,
}

impl Frames {
    /// Frames that begin behind so many bytes.
    pub(super) fn behind(skip: usize) -> Self {
        Self { skip, ..Self::default() }
    }

    /// Whether the last frame is whole. The head of the next may have begun.
    pub(super) fn is_between(&self) -> bool {
        self.skip == 0
    }

    /// Goes on with these bytes, and shows every frame whose head is whole.
    pub(super) fn pass(&mut self, bytes: &[u8], mut seen: impl FnMut(&Frame)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(rest.len());
                self.skip -= skipped;
                rest = rest.get(skipped..).unwrap_or_default();
                continue;
            }
            let wanted = if self.have >= HEAD { HEAD + 4 } else { HEAD };
            let take = (wanted - self.have).min(rest.len());
            if let (Some(to), Some(from)) = (self.head.get_mut(self.have..self.have + take), rest.get(..take)) {
                to.copy_from_slice(from);
            }
            self.have += take;
            rest = rest.get(take..).unwrap_or_default();
            if self.have < wanted {
                return;
            }
            let [a, b, c, kind, flags, s0, s1, s2, s3, e0, e1, e2, e3] = self.head;
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if kind == RST_STREAM && length == 4 && self.have == HEAD {
                self.skip = 0;
                // The next round reads the code into the bytes behind the head.
                self.head = [a, b, c, kind, flags, s0, s1, s2, s3, 0, 0, 0, 0];
                if rest.is_empty() {
                    return;
                }
                continue;
            }
            let code = (self.have > HEAD).then(|| u32::from_be_bytes([e0, e1, e2, e3]));
            self.skip = if code.is_some() { 0 } else { length };
            self.have = 0;
            seen(&Frame { kind, flags, length, stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]), code });
        }
    }
}
