//! The key that a WebSocket's opening carries in HTTP/1 (RFC 6455 §4.2.2). A client of HTTP/2 sends none; towards the app, the gateway does.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// What the server must show that it knows.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// `Sec-WebSocket-Key` for a nonce.
pub fn key(nonce: [u8; 16]) -> [u8; 24] {
    base64(&nonce)
}

/// The `Sec-WebSocket-Accept` that answers a key.
pub fn accept(key: &[u8; 24]) -> [u8; 28] {
    let mut text = [0; 60];
    for (to, from) in text.iter_mut().zip(key.iter().chain(GUID)) {
        *to = *from;
    }
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text).as_ref())
}

/// Base64 with padding (RFC 4648 §4); `N` is the length that `bytes` come to.
fn base64<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [b'='; N];
    for (three, four) in bytes.chunks(3).zip(out.chunks_mut(4)) {
        let word = three.iter().enumerate().fold(0, |word, (index, &byte)| word | u32::from(byte) << (16 - 8 * index));
        for (index, char) in four.iter_mut().enumerate().take(three.len() + 1) {
            let bits = word >> (18 - 6 * index) & 0x3f;
            *char = ALPHABET.get(bits as usize).copied().unwrap_or(b'=');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_6455_1_3_the_example() {
        let key = key(*b"the sample nonce");
        assert_eq!(&key, b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(&accept(&key), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
