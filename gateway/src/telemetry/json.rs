//! JSON written by hand, for lines that are written for every request.

use std::io::Write;

/// Appends `text` as a JSON string. Bytes that are not UTF-8 become U+FFFD: a log line is always valid JSON.
pub fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    // Almost always: the rest looks at one character after the other.
    if text.iter().all(|&byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        out.extend_from_slice(text);
        out.push(b'"');
        return;
    }
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid();
        let mut copied = 0;
        for (at, c) in valid.char_indices() {
            // More than JSON demands: some readers end a line at any of these, and terminals obey some.
            let escaped = c.is_control() || matches!(c, '"' | '\\' | '\u{2028}' | '\u{2029}');
            if escaped {
                out.extend_from_slice(valid.get(copied..at).unwrap_or_default().as_bytes());
                copied = at + c.len_utf8();
                let written = match c {
                    '"' | '\\' => write!(out, "\\{c}"),
                    _ => write!(out, "\\u{:04x}", u32::from(c)),
                };
                debug_assert!(written.is_ok());
            }
        }
        out.extend_from_slice(valid.get(copied..).unwrap_or_default().as_bytes());
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

    #[test]
    fn nothing_that_ends_a_line_somewhere_stays_as_it_is() {
        let mut out = Vec::new();
        push_string(&mut out, "a\u{85}\u{2028}\u{9b}\u{7f}\nö".as_bytes());
        assert_eq!(out, "\"a\\u0085\\u2028\\u009b\\u007f\\u000aö\"".as_bytes());
    }
}
