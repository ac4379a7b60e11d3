//! Words about the store of shared limits.

use schemars::{Schema, json_schema};

use super::address::store_address;
use super::choice::choice;
use super::{Invalid, Word};
use crate::config::suggest;
use crate::plan::{OnFailure, ServerAddress};

/// The customary port.
const PORT: u16 = 6379;

/// What happens while the store is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnFailureWord(pub(crate) OnFailure);

choice!(
    OnFailureWord, "`local`, `open` or `closed`",
    "local" => Self(OnFailure::Local), "open" => Self(OnFailure::Open), "closed" => Self(OnFailure::Closed),
);

/// A server of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreUrl {
    /// How it is reached.
    pub(crate) address: ServerAddress,
    /// Over TLS.
    pub(crate) tls: bool,
    /// The database.
    pub(crate) database: u32,
    /// As written.
    pub(crate) label: Box<str>,
}

impl Word for StoreUrl {
    const EXPECTED: &'static str =
        "a server such as `redis://redis.internal:6379`, `rediss://…` for TLS, or `unix:/run/redis.sock`";
    const PATTERN: &'static str =
        "^(unix:/.+|(rediss?|valkeys?)://([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?(/[0-9]*)?)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        if text.contains('@') {
            // What was found is not repeated: there may be a password in it.
            return Err(Invalid::new("an address carries no user and no password")
                .hint("write `user: NAME` and `password: {env: REDIS_PASSWORD}` beside it"));
        }
        let invalid = || Invalid::expected::<Self>(&format!("`{text}`"));
        if text.starts_with("unix:") {
            let address = store_address(text).ok_or_else(invalid)?;
            return Ok(Self { address, tls: false, database: 0, label: text.into() });
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(invalid().hint(format!("write `redis://{text}`")));
        };
        let tls = match scheme {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err(invalid()),
        };
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if database.is_empty() { 0 } else { database.parse().map_err(|_| invalid())? };
        let address = store_address(authority).or_else(|| store_address(&format!("{authority}:{PORT}")));
        Ok(Self { address: address.ok_or_else(invalid)?, tls, database, label: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let name = |name: &str, port| ServerAddress::Name(name.into(), port);
        let cases = [
            ("redis://redis.internal", name("redis.internal", 6379), false, 0),
            ("redis://redis:7000/3", name("redis", 7000), false, 3),
            ("rediss://127.0.0.1:6380/", ServerAddress::Tcp("127.0.0.1:6380".parse().unwrap()), true, 0),
            ("valkey://[::1]", ServerAddress::Tcp("[::1]:6379".parse().unwrap()), false, 0),
            ("unix:/run/redis.sock", ServerAddress::Unix("/run/redis.sock".into()), false, 0),
        ];
        for (text, address, tls, database) in cases {
            let url = StoreUrl::from_text(text).unwrap();
            assert_eq!((url.address, url.tls, url.database), (address, tls, database), "{text}");
        }
        for wrong in ["", "redis", "http://a", "redis://", "redis://a:0", "redis://a/b", "redis://a:1/2/3", "unix:run"]
        {
            assert!(StoreUrl::from_text(wrong).is_err(), "{wrong}");
        }
        let secret = StoreUrl::from_text("redis://:hunter2@a:1").unwrap_err();
        assert!(!secret.to_string().contains("hunter2"));
    }
}
