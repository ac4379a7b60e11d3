//! Names that carry secrets, which must not reach a log or a page.

/// Parameters and fields whose names contain one of these carry secrets.
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

/// Whether a parameter or field with this name carries a secret. `code` is secret as a whole name only (OAuth): it is a common part of harmless ones.
pub fn is_secret(name: &[u8]) -> bool {
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
    fn names_that_sound_like_secrets_are_known() {
        for secret in ["X-Api-Token", "authorization", "code", "key", "%74oken", "sessionid", "X-Auth-Key"] {
            assert!(is_secret(secret.as_bytes()), "{secret}");
        }
        for harmless in ["X-Tenant", "zipcode", "q", "monkey", ""] {
            assert!(!is_secret(harmless.as_bytes()), "{harmless}");
        }
    }
}
