//! Answers of the gateway's own as they were written the last time: one that is given again is copied, with the id of its request put in, rather than
//! composed once more.
//!
//! Only the most common form is kept: HTTP/1.1, with a body, on a connection that goes on. Invariant: nothing of a client is in it.

use std::ops::Range;

/// An answer, head and body.
#[derive(Debug)]
pub struct Known {
    /// All of its bytes.
    pub bytes: Vec<u8>,
    /// Where the id of its request stands, where it stands anywhere.
    pub id: Option<Range<usize>>,
    /// How many bytes its body has.
    pub body: u64,
    /// The lines of the stamp that it bears.
    pub lines: Box<[u8]>,
}

impl Known {
    /// An answer as it was written. `None`: it does not say the id that it should say, so that nobody could put another one in its place.
    pub fn new(bytes: Vec<u8>, id: Option<&[u8; 32]>, body: u64, lines: &[u8]) -> Option<Self> {
        let place = id.map(|id| bytes.windows(id.len()).rposition(|part| part == id).map(|at| at..at + id.len()));
        let id = match place {
            Some(None) => return None,
            Some(found) => found,
            None => None,
        };
        Some(Self { bytes, id, body, lines: lines.into() })
    }

    /// Whether these bytes are in it.
    pub fn says(&self, text: &[u8]) -> bool {
        self.bytes.windows(text.len().max(1)).any(|part| part == text)
    }

    /// Writes it, to a request with this id.
    #[inline]
    pub fn write(&self, id: &[u8; 32], out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.bytes);
        if let Some(place) = self.id.clone().and_then(|place| out.get_mut(place)?.first_chunk_mut::<32>()) {
            *place = *id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_put_in_its_place_and_nothing_else_changes() {
        let (first, other) = ([b'1'; 32], [b'2'; 32]);
        let bytes = [b"head\r\n\r\n{\"request_id\":\"", &first[..], b"\"}\n"].concat();
        let known = Known::new(bytes.clone(), Some(&first), 50, b"").unwrap();
        let mut out = b"before".to_vec();
        known.write(&other, &mut out);
        assert_eq!(out, [b"head\r\n\r\n{\"request_id\":\"", &other[..], b"\"}\n"].concat());
        assert!(Known::new(bytes.clone(), Some(&other), 50, b"").is_none(), "it does not say this id");
        Known::new(bytes.clone(), None, 50, b"").unwrap().write(&other, &mut out);
        assert_eq!(out, bytes);
    }
}
