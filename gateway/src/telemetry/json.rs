//! JSON written by hand, for lines that are written for every request.

/// Appends `text` as a JSON string. Bytes that are not UTF-8 become U+FFFD: a log line is always valid JSON.
pub fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                0..=0x1f | 0x7f => {
                    out.extend_from_slice(b"\\u00");
                    for nibble in [byte >> 4, byte & 0xf] {
                        out.push(b"0123456789abcdef".get(usize::from(nibble)).copied().unwrap_or(b'0'));
                    }
                }
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_become_valid_json() {
        let all: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        push_string(&mut out, &all);
        let parsed: String = serde_json::from_slice(&out).unwrap();
        assert!(parsed.starts_with("\0\u{1}"));
        assert!(parsed.contains("\"#$"));
    }
}
