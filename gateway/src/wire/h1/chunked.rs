//! The chunked transfer coding (RFC 9112 §7.1), decoded in place, strictly.

use super::trailers;

/// Chunk extensions are skipped; more than this in one line is an attack.
const MAX_EXTENSION: usize = 4096;

/// Chunk extensions of a whole body that its data does not account for.
const MAX_EXCESS: u64 = 16 * 1024;

/// A trailer section larger than this is refused.
const MAX_TRAILERS: usize = 8192;

/// The chunked coding was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidChunk;

/// What one call of [`Decoder::decode`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of data that now lie at the front of the buffer.
    pub produced: usize,
    /// Bytes of the buffer that were used up. What follows them belongs to the next message.
    pub consumed: usize,
    /// The terminating chunk and the trailers have been read.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    SizeMore,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
    /// Nothing can be made of it any more.
    Broken,
}

/// Decodes one body as its bytes arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// Bytes left of the chunk, or the size read so far.
    left: u64,
    /// Hexadecimal digits or extension bytes seen in this line.
    seen: usize,
    trailers: Vec<u8>,
    /// Framing that came without a fair amount of data.
    excess: u64,
}

impl Decoder {
    /// Decodes `bytes`, moving the data of all chunks together at the front.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, InvalidChunk> {
        let (mut at, mut produced) = (0, 0);
        while at < bytes.len() && self.state != State::Done {
            if self.state == State::Data {
                let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                if produced != at {
                    bytes.copy_within(at..at + take, produced);
                }
                produced += take;
                at += take;
                self.left -= take as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            let byte = bytes.get(at).copied().ok_or(InvalidChunk)?;
            at += 1;
            if let Err(invalid) = self.framing_byte(byte) {
                self.state = State::Broken;
                return Err(invalid);
            }
        }
        Ok(Decoded { produced, consumed: at, done: self.state == State::Done })
    }

    /// What may be passed on of the trailer section of a complete body: field lines with CRLF, without the empty line.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), InvalidChunk> {
        self.state = match (self.state, byte) {
            (State::Size | State::SizeMore, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.seen < 15 => {
                self.left = self.left << 4 | u64::from(hex(byte));
                self.seen += 1;
                State::SizeMore
            }
            (State::SizeMore | State::Extension, b'\r') => State::SizeLf,
            (State::SizeMore, b';') => {
                self.seen = 0;
                State::Extension
            }
            // No white space before the semicolon: RFC 9112 §7.1.1 only tolerates it, and recipients have disagreed about it.
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) if self.seen < MAX_EXTENSION => {
                self.seen += 1;
                State::Extension
            }
            (State::SizeLf, b'\n') => {
                // A line may cost as much as its chunk carries, and a little more; the rest is counted.
                let fair = 64 + 2 * self.left;
                self.excess = (self.excess + self.seen as u64).saturating_sub(fair);
                if self.excess > MAX_EXCESS {
                    return Err(InvalidChunk);
                }
                self.seen = 0;
                if self.left == 0 { State::TrailerStart } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::EndLf, b'\n') => {
                self.trailers = trailers::filter(&self.trailers).ok_or(InvalidChunk)?;
                State::Done
            }
            (State::Trailer, b'\r') => {
                self.trailers.push(byte);
                State::TrailerLf
            }
            (State::TrailerLf, b'\n') => {
                self.trailers.push(byte);
                State::TrailerStart
            }
            (State::TrailerStart | State::Trailer, b'\t' | b' '..=b'~' | 0x80..)
                if self.trailers.len() < MAX_TRAILERS =>
            {
                self.trailers.push(byte);
                State::Trailer
            }
            _ => return Err(InvalidChunk),
        };
        Ok(())
    }
}

/// Writes `size` and CRLF as a chunk header into `into` and returns the part that was used.
pub fn header(size: usize, into: &mut [u8; 18]) -> &[u8] {
    let digits = ((usize::BITS - size.leading_zeros()).div_ceil(4)).max(1) as usize;
    for (index, digit) in into.iter_mut().take(digits).enumerate() {
        let nibble = (size >> ((digits - 1 - index) * 4)) & 0xf;
        *digit = b"0123456789abcdef".get(nibble).copied().unwrap_or(b'0');
    }
    for (to, from) in into.iter_mut().skip(digits).zip(*b"\r\n") {
        *to = from;
    }
    into.get(..digits + 2).unwrap_or_default()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `text` in pieces of `step` bytes: data, trailers, unused rest.
    fn decode(text: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>, usize), InvalidChunk> {
        let (mut decoder, mut data, mut used) = (Decoder::default(), Vec::new(), 0);
        for piece in text.chunks(step) {
            let mut piece = piece.to_vec();
            let decoded = decoder.decode(&mut piece)?;
            data.extend_from_slice(&piece[..decoded.produced]);
            used += decoded.consumed;
            if decoded.done {
                return Ok((data, decoder.trailers().to_vec(), text.len() - used));
            }
        }
        Ok((data, b"incomplete".to_vec(), 0))
    }

    #[test]
    fn rfc_9112_7_1_chunks_in_pieces_of_any_size() {
        let text = b"5\r\nhello\r\n1;name=\"value\"\r\n,\r\nA\r\n 123456789\r\n0\r\nX-Sum: 1\r\nB: 2\r\n\r\nGET";
        for step in 1..=text.len() {
            let expected = (b"hello, 123456789".to_vec(), b"X-Sum: 1\r\nB: 2\r\n".to_vec());
            let (data, trailers, rest) = decode(text, step).unwrap();
            assert_eq!((data, trailers), expected, "{step}");
            assert!(rest >= 3 || step < text.len());
        }
    }

    #[test]
    fn rfc_9112_7_1_what_is_refused() {
        for bad in [
            &b"5\nhello\r\n0\r\n\r\n"[..],
            b"5 \r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"+5\r\nhello\r\n",
            b"\r\nhello\r\n",
            b";a=b\r\nhello",
            b"5\r\nhelloX",
            b"5\r\nhello\n",
            b"5\r\nhello\rX",
            b"5\r\r\nhello",
            b"5;a\rb\r\nhello",
            b"5;a\0b\r\nhello",
            b"5;a\nb",
            b"1234567890123456\r\n",
            b"0\r\nA: b\n",
            b"0\r\n\n",
        ] {
            assert_eq!(decode(bad, bad.len()), Err(InvalidChunk), "{bad:?}");
            assert_eq!(decode(bad, 1), Err(InvalidChunk), "{bad:?}");
        }
        let long = [b"5;".to_vec(), vec![b'a'; 5000], b"\r\n".to_vec()].concat();
        assert_eq!(decode(&long, 100), Err(InvalidChunk));
        let trailers = [b"0\r\n".to_vec(), vec![b'a'; 9000], b"\r\n".to_vec()].concat();
        assert_eq!(decode(&trailers, 100), Err(InvalidChunk));
    }

    #[test]
    fn extensions_that_outweigh_the_data_are_refused() {
        let chunk = [b"1;".to_vec(), vec![b'a'; 4000], b"\r\nx\r\n".to_vec()].concat();
        assert_eq!(decode(&chunk.repeat(20), 1000), Err(InvalidChunk));
        assert!(decode(&b"1;a=b\r\nx\r\n".repeat(5000), 1000).is_ok());
    }

    #[test]
    fn headers_are_hexadecimal() {
        for (size, text) in
            [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (65536, "10000\r\n"), (usize::MAX, "ffffffffffffffff\r\n")]
        {
            assert_eq!(header(size, &mut [0; 18]), text.as_bytes());
        }
    }
}
