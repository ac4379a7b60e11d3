//! Whom a request is charged to. Nothing is allocated.

use std::hash::Hasher;

use probegate_policies::client::Identity;
use probegate_policies::fields::Fields;
use probegate_policies::limit::{Key, KeyBuilder, KeyPart, Table, query_values};
use probegate_policies::now::Now;

use crate::plan::{Limit, LimitPart};

/// Methods that are counted by their name. Others are one: a client can invent as many as it likes.
const METHODS: [&[u8]; 9] = [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE"];

/// What limits count a request by.
#[derive(Debug)]
pub struct Asking<'a, F: ?Sized> {
    /// Its method.
    pub method: &'a [u8],
    /// Its path in the most general reading, so that no other spelling of it is another path.
    pub path: &'a [u8],
    /// Its query.
    pub query: &'a [u8],
    /// Its host, without port.
    pub host: &'a [u8],
    /// Its fields.
    pub fields: &'a F,
    /// Who asks.
    pub identity: &'a Identity,
    /// The name of the service.
    pub service: &'a str,
    /// The path of the route; empty where it belongs to none.
    pub route: &'a str,
    /// Set and slot of the token that let it in.
    pub token: Option<(&'a str, &'a str)>,
    /// Whom the client's certificate names, where one was verified.
    pub certificate: Option<&'a str>,
    /// No rule refuses it, and it is not sent elsewhere: it is in flight if its limits let it in.
    pub goes_in: bool,
    /// When.
    pub now: Now,
    /// The worker that asks.
    pub worker: usize,
}

impl<F: ?Sized> Asking<'_, F> {
    /// The method, where it is one that is counted by its name.
    pub(super) fn known_method(&self) -> Option<&'static [u8]> {
        METHODS.into_iter().find(|known| *known == self.method)
    }

    /// The host without the dot of the root.
    pub(super) fn bare_host(&self) -> &[u8] {
        self.host.strip_suffix(b".").unwrap_or(self.host)
    }
}

/// Whom this limit charges.
#[inline]
pub(super) fn key<F: Fields + ?Sized>(table: &Table, limit: &Limit, asking: &Asking<'_, F>) -> Key {
    let mut key = table.build_key(&limit.quota);
    feed(&mut key, limit, asking);
    key.finish()
}

/// Puts the key together.
#[inline]
pub(super) fn feed<H: Hasher, F: Fields + ?Sized>(key: &mut KeyBuilder<H>, limit: &Limit, asking: &Asking<'_, F>) {
    let wanted = &limit.key;
    let client =
        KeyPart::Client { identity: asking.identity, v4_prefix: wanted.v4_prefix, v6_prefix: wanted.v6_prefix };
    for part in &wanted.parts {
        match part {
            LimitPart::ClientIp => key.part(&client),
            LimitPart::Header(name) => key.value(asking.fields.values(name), &client),
            LimitPart::Cookie(name) => {
                let lines = asking.fields.lines().filter(|(name, _)| name.eq_ignore_ascii_case(b"cookie"));
                key.cookie(lines.map(|(_, value)| value), name.as_bytes(), &client);
            }
            LimitPart::Query(name) => key.spelled(query_values(asking.query, name.as_bytes()), &client),
            LimitPart::Path => key.part(&KeyPart::Bytes(asking.path)),
            LimitPart::Method => {
                key.part(&KeyPart::Bytes(asking.known_method().unwrap_or_default()));
            }
            LimitPart::Host => {
                key.spelled([asking.bare_host().iter().map(u8::to_ascii_lowercase)].into_iter(), &client);
            }
            LimitPart::Service => key.part(&KeyPart::Bytes(asking.service.as_bytes())),
            LimitPart::Route => {
                key.part(&KeyPart::Bytes(asking.service.as_bytes()));
                key.part(&KeyPart::Bytes(asking.route.as_bytes()));
            }
            LimitPart::Token => {
                let token = asking.token.into_iter().flat_map(|(set, slot)| [set.as_bytes(), slot.as_bytes()]);
                key.known(token, &client);
            }
            LimitPart::ClientCertificate => {
                key.known(asking.certificate.into_iter().map(str::as_bytes), &client);
            }
        }
    }
}
