//! Server names in one spelling, wherever a handshake tells one.
//!
//! A name in a handshake has no dot at its end (RFC 6066 §3), and the same host is `shop.example.com.` in a URL. We are tolerant: the dot
//! goes, here and nowhere else, and so does the difference between capitals and small letters.

use std::borrow::Cow;

use rustls::server::ClientHello;

/// A name in its one spelling: lower-case, without the dot of the root.
pub fn normal(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() }
}

/// The name that a client asks for.
pub fn asked(hello: &ClientHello<'_>) -> Option<Box<str>> {
    hello.server_name().map(|name| normal(name).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6066_3_a_name_has_one_spelling() {
        for (written, read) in
            [("shop.example", "shop.example"), ("Shop.Example.", "shop.example"), ("a..", "a."), ("", "")]
        {
            assert_eq!(&*normal(written), read, "{written}");
        }
    }
}
