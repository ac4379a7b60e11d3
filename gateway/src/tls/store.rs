//! The certificates of the gateway, and which of them answers for a name.
//!
//! Files and ACME install into the one store. A listener looks names up on a [`Shelf`] of its own, which holds only what the
//! configuration gives it. Looking up takes no lock; a change builds the index of a shelf anew and swaps it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use rustls::SignatureScheme;

use super::pem::Certified;
use crate::plan::Certificate;

/// Which certificate of the configuration something is: the same over reloads and renewals.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Box<str>);

impl Id {
    /// Of a certificate in the configuration.
    pub fn of(certificate: &Certificate) -> Self {
        let text = match certificate {
            Certificate::Files { cert, key } => format!("{}\0{}", cert.display(), key.display()),
            Certificate::Acme(acme) => format!("acme\0{}\0{}", acme.directory, acme.domains.join("\0")),
        };
        Self(text.into())
    }
}

/// All certificates.
#[derive(Debug, Default)]
pub struct Store {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Id, Arc<Certified>>,
    shelves: Vec<Weak<Shelf>>,
}

/// The certificates of one listener, by name.
#[derive(Debug)]
pub struct Shelf {
    ids: Vec<Id>,
    index: ArcSwap<Index>,
}

#[derive(Debug, Default)]
struct Index {
    exact: HashMap<Box<str>, Vec<Arc<Certified>>, ahash::RandomState>,
    /// By the name behind `*.`.
    wildcards: HashMap<Box<str>, Vec<Arc<Certified>>, ahash::RandomState>,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a certificate in, or in the place of the one before. Handshakes from now on use it.
    pub fn install(&self, id: &Id, certified: Certified) {
        let mut inner = self.lock();
        inner.entries.insert(id.clone(), Arc::new(certified));
        let Inner { entries, shelves } = &mut *inner;
        shelves.retain(|shelf| {
            let Some(shelf) = shelf.upgrade() else { return false };
            if shelf.ids.contains(id) {
                shelf.index.store(Arc::new(Index::of(&shelf.ids, entries)));
            }
            true
        });
    }

    /// Puts a certificate in the place of `before`. Where another one has come in meanwhile, it was read later and stays.
    pub fn replace(&self, id: &Id, certified: Certified, before: Option<&Arc<Certified>>) {
        let now = self.find(id);
        if now.as_ref().map(Arc::as_ptr) == before.map(Arc::as_ptr) {
            self.install(id, certified);
        }
    }

    /// The certificate that is installed as `id`.
    pub fn find(&self, id: &Id) -> Option<Arc<Certified>> {
        self.lock().entries.get(id).cloned()
    }

    /// A shelf that holds these certificates, those that are there and those that will be installed.
    pub fn shelf(&self, ids: Vec<Id>) -> Arc<Shelf> {
        let mut inner = self.lock();
        let shelf = Arc::new(Shelf { index: ArcSwap::from_pointee(Index::of(&ids, &inner.entries)), ids });
        inner.shelves.push(Arc::downgrade(&shelf));
        shelf
    }

    /// Forgets what the configuration does not name any more.
    pub fn retain(&self, ids: &[Id]) {
        self.lock().entries.retain(|id, _| ids.contains(id));
    }

    /// Every certificate's first name with the end of its validity, in seconds since 1970; the earliest where several share the name.
    pub fn expiries(&self) -> Vec<(Box<str>, u64)> {
        let mut found: Vec<(Box<str>, u64)> = Vec::new();
        for certified in self.lock().entries.values() {
            let Some(name) = certified.names.first() else { continue };
            match found.iter_mut().find(|(known, _)| known == name) {
                Some((_, until)) => *until = certified.not_after.min(*until),
                None => found.push((name.clone(), certified.not_after)),
            }
        }
        found.sort();
        found
    }
}

impl Index {
    fn of(ids: &[Id], entries: &HashMap<Id, Arc<Certified>>) -> Self {
        let mut index = Self::default();
        for certified in ids.iter().filter_map(|id| entries.get(id)) {
            for name in certified.names.iter() {
                let (map, key) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut index.wildcards, parent),
                    None => (&mut index.exact, &**name),
                };
                map.entry(key.into()).or_default().push(Arc::clone(certified));
            }
        }
        for list in index.exact.values_mut().chain(index.wildcards.values_mut()) {
            // The cheap signature first, and of two alike the one that lasts longer.
            list.sort_by_key(|certified| (!certified.is_light(), std::cmp::Reverse(certified.not_after)));
        }
        index
    }

    /// The certificates for a name, best first: its own before those of its wildcard.
    fn find<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<Certified>> {
        let wildcard = name.split_once('.').and_then(|(_, parent)| self.wildcards.get(parent));
        self.exact.get(name).into_iter().chain(wildcard).flatten()
    }
}

impl Shelf {
    /// Whether a certificate is there for `name` (lower-case).
    pub fn has(&self, name: &str) -> bool {
        self.index.load().find(name).next().is_some()
    }

    /// The certificate for `name` (lower-case) that a client with these signature schemes can verify; where there is none, the best one.
    pub fn find(&self, name: &str, schemes: &[SignatureScheme]) -> Option<Arc<Certified>> {
        let index = self.index.load();
        let suits = |certified: &&Arc<Certified>| certified.key.key.choose_scheme(schemes).is_some();
        // One that does not suit ends the handshake with the alert that says so.
        index.find(name).find(suits).or_else(|| index.find(name).next()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pem;

    fn certified(names: &[&str], rsa: bool) -> Certified {
        let params =
            rcgen::CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
        let algorithm = if rsa { &rcgen::PKCS_RSA_SHA256 } else { &rcgen::PKCS_ECDSA_P256_SHA256 };
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let cert = params.self_signed(&key).unwrap();
        pem::certified(cert.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    fn id(name: &str) -> Id {
        Id(name.into())
    }

    const EC: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
    const RSA: SignatureScheme = SignatureScheme::RSA_PSS_SHA256;

    #[test]
    fn names_find_their_own_certificate_before_a_wildcard_and_the_kind_the_client_can_verify() {
        let store = Store::default();
        let shelf = store.shelf(vec![id("ec"), id("rsa"), id("wild")]);
        assert!(!shelf.has("shop.example"));
        for (name, names, rsa) in
            [("ec", "shop.example", false), ("rsa", "shop.example", true), ("wild", "*.example", false)]
        {
            store.install(&id(name), certified(&[names], rsa));
        }
        store.install(&id("elsewhere"), certified(&["other.example"], false));
        let of = |name: &str| store.find(&id(name)).unwrap();
        let found = |name: &str, schemes: &[SignatureScheme]| shelf.find(name, schemes);
        assert!(Arc::ptr_eq(&found("shop.example", &[RSA, EC]).unwrap(), &of("ec")));
        assert!(Arc::ptr_eq(&found("shop.example", &[RSA]).unwrap(), &of("rsa")));
        assert!(Arc::ptr_eq(&found("other.example", &[EC]).unwrap(), &of("wild")), "not on this shelf");
        assert!(found("a.b.example", &[EC]).is_none(), "a wildcard stands for one label");
        assert!(found("example", &[EC]).is_none());
        assert!(Arc::ptr_eq(&found("shop.example", &[]).unwrap(), &of("ec")));
    }

    #[test]
    fn a_replaced_certificate_is_found_at_once_and_a_forgotten_one_keeps_serving_its_shelf() {
        let store = Store::default();
        store.install(&id("a"), certified(&["a.example"], false));
        let shelf = store.shelf(vec![id("a")]);
        let before = shelf.find("a.example", &[EC]).unwrap();
        store.install(&id("a"), certified(&["a.example", "b.example"], false));
        assert!(!Arc::ptr_eq(&before, &shelf.find("a.example", &[EC]).unwrap()));
        assert!(shelf.has("b.example"));
        assert_eq!(store.expiries().len(), 1);
        store.retain(&[]);
        assert!(store.expiries().is_empty() && shelf.has("b.example"));
    }
}
