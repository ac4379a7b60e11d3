//! Secrets that must not reach a log: values of token-like query parameters, and what stands before the `@` of an authority.

use probegate_policies::secrecy::is_secret;

/// Appends a request target with the values of secret query parameters replaced.
pub fn push_target(out: &mut Vec<u8>, target: &[u8]) {
    let at = target.iter().position(|&byte| byte == b'?').map_or(target.len(), |at| at + 1);
    let (path, query) = target.split_at(at);
    push_path(out, path);
    for (index, parameter) in query.split(|&byte| byte == b'&').enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        let shown = shown(parameter);
        out.extend_from_slice(parameter.get(..shown).unwrap_or_default());
        if shown < parameter.len() {
            out.extend_from_slice(b"[redacted]");
        }
    }
}

/// How much of a parameter may be shown: everything, or up to the first secret value. Some servers take `;` for another `&`.
fn shown(parameter: &[u8]) -> usize {
    let mut start = 0;
    for piece in parameter.split(|&byte| byte == b';') {
        if let Some(equals) = piece.iter().position(|&byte| byte == b'=')
            && is_secret(piece.get(..equals).unwrap_or_default())
        {
            return start + equals + 1;
        }
        start += piece.len() + 1;
    }
    parameter.len()
}

/// `http://user:password@host/` is refused, but logged.
fn push_path(out: &mut Vec<u8>, path: &[u8]) {
    let absolute = !path.starts_with(b"/");
    let user = absolute.then(|| memchr::memmem::find(path, b"://")).flatten().and_then(|scheme| {
        let from = scheme + 3;
        let authority = path.get(from..)?.split(|&byte| byte == b'/').next()?;
        Some((from, from + memchr::memrchr(b'@', authority)?))
    });
    match user {
        Some((from, at)) => {
            out.extend_from_slice(path.get(..from).unwrap_or_default());
            out.extend_from_slice(b"[redacted]");
            out.extend_from_slice(path.get(at..).unwrap_or_default());
        }
        None => out.extend_from_slice(path),
    }
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
            ("/a?x=1;token=abc;y=2", "/a?x=1;token=[redacted]"),
            ("http://user:secret@host/a?b=c", "http://[redacted]@host/a?b=c"),
            ("http://host/a@b", "http://host/a@b"),
            ("/@/a://b@c", "/@/a://b@c"),
            ("/a?b=1;token=a;c&d=2", "/a?b=1;token=[redacted]&d=2"),
            ("/a?b=1;c=2", "/a?b=1;c=2"),
            ("http://me:pass@a/b@c?d", "http://[redacted]@a/b@c?d"),
            ("http://a/b@c", "http://a/b@c"),
        ] {
            let mut out = Vec::new();
            push_target(&mut out, target.as_bytes());
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
