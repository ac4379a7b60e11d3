//! The checksum that version 2 may carry: CRC-32C (RFC 3720 appendix B.4), the Castagnoli polynomial.

/// The polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum of the bytes of all parts, one behind the other.
pub fn crc32c<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    // Bit by bit: this runs at most once for a connection, over some hundred bytes, where a load balancer sends a checksum at all.
    !parts.into_iter().flatten().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3720_b_4_the_published_examples() {
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c([&b"123456789"[..]]), 0xe306_9283);
        assert_eq!(crc32c([&[0; 32][..]]), 0x8a91_36aa);
        assert_eq!(crc32c([&[0xff; 32][..]]), 0x62a8_ab43);
        assert_eq!(crc32c([&up[..10], &up[10..]]), 0x46dd_794e);
        assert_eq!(crc32c([]), 0);
    }
}
