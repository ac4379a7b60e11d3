//! The encoders: bytes in, compressed bytes out, and what they cost.

use std::fmt;
use std::io::{self, Write as _};

use probegate_policies::encoding::Coding;

/// Encoders look back this many bytes, as a power of two: what lies farther behind is seldom worth the memory for it. Brotli's own default is 2^22.
const WINDOW: u32 = 17;

/// The encoder of one answer.
pub(super) enum Encoder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zstd(_) => "Zstd",
            Self::Brotli(_) => "Brotli",
            Self::Gzip(_) => "Gzip",
        })
    }
}

impl Encoder {
    /// An encoder for a body of `length` bytes, or of any.
    ///
    /// # Errors
    /// There is no memory for it, or the level is none.
    pub(super) fn new(coding: Coding, level: u8, length: Option<u64>) -> io::Result<Self> {
        Ok(match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), i32::from(level))?;
                encoder.window_log(WINDOW)?;
                // Tables no larger than the window is worth, whatever the level says.
                encoder.set_parameter(zstd::zstd_safe::CParameter::HashLog(WINDOW - 1))?;
                encoder.set_parameter(zstd::zstd_safe::CParameter::ChainLog(WINDOW - 1))?;
                // Makes them smaller still for what is short.
                encoder.set_pledged_src_size(length)?;
                Self::Zstd(encoder)
            }
            Coding::Brotli => {
                // No wider than the body. The hint is bounded, because a large one chooses large tables.
                let hint = length.map_or(0, |length| length.min(1 << 19) as usize);
                let window = if hint == 0 { WINDOW } else { hint.next_power_of_two().ilog2().clamp(10, WINDOW) };
                let params = brotli::enc::BrotliEncoderParams {
                    quality: i32::from(level),
                    lgwin: window.cast_signed(),
                    size_hint: hint,
                    ..brotli::enc::BrotliEncoderParams::default()
                };
                Self::Brotli(Box::new(brotli::CompressorWriter::with_params(Vec::new(), 4096, &params)))
            }
            Coding::Gzip => {
                Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(u32::from(level))))
            }
        })
    }

    /// Memory in bytes that such an encoder takes at the most, about: as measured, rounded up.
    pub(super) fn cost(coding: Coding, level: u8, length: Option<u64>) -> u64 {
        match (coding, level) {
            (Coding::Zstd, _) if length.is_some_and(|length| length <= 16 << 10) => 128 << 10,
            (Coding::Zstd, _) => 1280 << 10,
            (Coding::Brotli, ..=1) => 256 << 10,
            (Coding::Brotli, ..=4) => 2560 << 10,
            (Coding::Brotli, _) => 4096 << 10,
            (Coding::Gzip, _) => 384 << 10,
        }
    }

    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.write_all(data),
            Self::Brotli(encoder) => encoder.write_all(data),
            Self::Gzip(encoder) => encoder.write_all(data),
        }
    }

    /// Everything that was written so far can be read by the client.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
            Self::Gzip(encoder) => encoder.flush(),
        }
    }

    /// Ends the body; returns what is left of it.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }

    /// What has come out and was not taken.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const ALL: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    #[test]
    fn what_was_flushed_can_be_read_and_the_whole_is_the_whole() {
        let text = "so it is said, and so it is written. ".repeat(2000);
        for coding in ALL {
            for length in [None, Some(text.len() as u64)] {
                let mut encoder = Encoder::new(coding, 4, length).unwrap();
                let mut all = Vec::new();
                for part in text.as_bytes().chunks(1000) {
                    encoder.write(part).unwrap();
                    encoder.flush().unwrap();
                    all.append(encoder.output());
                }
                all.append(&mut encoder.finish().unwrap());
                let mut read = Vec::new();
                match coding {
                    Coding::Zstd => zstd::stream::read::Decoder::new(&*all).unwrap().read_to_end(&mut read).unwrap(),
                    Coding::Brotli => brotli::Decompressor::new(&*all, 4096).read_to_end(&mut read).unwrap(),
                    Coding::Gzip => flate2::read::GzDecoder::new(&*all).read_to_end(&mut read).unwrap(),
                };
                assert!(read == text.as_bytes() && all.len() * 5 < text.len(), "{coding:?} {}", all.len());
            }
        }
    }
}
