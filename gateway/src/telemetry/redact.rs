//! Secrets that must not reach a log: values of token-like query parameters.

/// Parameters whose names contain one of these carry secrets.
const SECRET_NAMES: [&[u8]; 12] = [
    b"token",
    b"secret",
    b"passw",
    b"pwd",
    b"apikey",
    b"api_key",
    b"api-key",
    b"auth",
    b"signature",
    b"sig",
    b"session",
    b"credential",
];

/// Appends a request target with the values of secret query parameters replaced.
pub fn push_target(out: &mut Vec<u8>, target: &[u8]) {
    let at = target.iter().position(|&byte| byte == b'?').map_or(target.len(), |at| at + 1);
    let (path, query) = target.split_at(at);
    out.extend_from_slice(path);
    for (index, parameter) in query.split(|&byte| byte == b'&').enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        match parameter.iter().position(|&byte| byte == b'=') {
            Some(equals) if is_secret(parameter.get(..equals).unwrap_or_default()) => {
                out.extend_from_slice(parameter.get(..=equals).unwrap_or_default());
                out.extend_from_slice(b"[redacted]");
            }
            _ => out.extend_from_slice(parameter),
        }
    }
}

/// `code` is secret as a whole name only (OAuth): it is a common part of harmless ones.
fn is_secret(name: &[u8]) -> bool {
    // A name that hides behind percent-encoding is not worth decoding for a log.
    name.contains(&b'%')
        || name.eq_ignore_ascii_case(b"code")
        || name.eq_ignore_ascii_case(b"key")
        || SECRET_NAMES.iter().any(|secret| name.windows(secret.len()).any(|part| part.eq_ignore_ascii_case(secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_like_values_are_replaced_and_others_are_not() {
        for (target, expected) in [
            ("/a", "/a"),
            ("/a?", "/a?"),
            ("/a?page=2&q=token", "/a?page=2&q=token"),
            ("/a?Access_Token=abc&x=1", "/a?Access_Token=[redacted]&x=1"),
            ("/cb?code=abc&state=1", "/cb?code=[redacted]&state=1"),
            ("/a?zipcode=123", "/a?zipcode=123"),
            ("/a?password", "/a?password"),
            ("/a?%74oken=abc", "/a?%74oken=[redacted]"),
        ] {
            let mut out = Vec::new();
            push_target(&mut out, target.as_bytes());
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
