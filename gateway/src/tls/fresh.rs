//! Whether a new certificate may take the place of the one in force: one answer for files that change and for a reload.
//!
//! Invariant: pure, and in favour of what works: who is served today is served after the change.

use super::pem::{Certified, moment};

/// Why the certificate before has to stay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// It has expired, and the one before has not.
    #[error("the certificate has expired, and the one before is valid")]
    Expired,
    /// It is valid from this time on, in seconds since 1970, and the one before is valid now.
    #[error("the certificate is not valid before {}, and the one before is valid", moment(*.0))]
    Early(u64),
    /// It lacks a name that is a listener's `default`, and nobody else would be shown by default.
    #[error("the certificate lacks `{0}`, which is the `default` of a listener")]
    Default(Box<str>),
}

/// Compares a certificate with the one `before`, at `now` in seconds since 1970. `defaults` are the names that have to stay. Gives back the
/// names that are lost.
///
/// # Errors
/// The one before has to stay.
pub fn check(new: &Certified, before: Option<&Certified>, defaults: &[&str], now: u64) -> Result<Vec<Box<str>>, Stale> {
    let Some(before) = before else { return Ok(Vec::new()) };
    if (before.not_before..=before.not_after).contains(&now) {
        if new.not_after < now {
            return Err(Stale::Expired);
        }
        if new.not_before > now {
            return Err(Stale::Early(new.not_before));
        }
    }
    let lost = |name: &str| before.covers(name) && !new.covers(name);
    if let Some(&default) = defaults.iter().find(|&&default| lost(default)) {
        return Err(Stale::Default(default.into()));
    }
    Ok(before.names.iter().filter(|name| !new.covers(name)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pem;

    fn made(names: &[&str], not_before: u64, not_after: u64) -> Certified {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let cert = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let made = pem::certified(cert.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        Certified { not_before, not_after, ..made }
    }

    #[test]
    fn what_works_stays_until_something_works_as_well() {
        let names = ["a.example"];
        let (valid, expired, early) = (made(&names, 100, 300), made(&names, 50, 150), made(&names, 250, 400));
        let check = |new, before| check(new, before, &[], 200);
        assert_eq!(check(&valid, Some(&valid)), Ok(Vec::new()));
        assert_eq!(check(&expired, Some(&valid)), Err(Stale::Expired));
        assert_eq!(check(&early, Some(&valid)), Err(Stale::Early(250)));
        for new in [&expired, &early, &valid] {
            for before in [None, Some(&expired), Some(&early)] {
                assert_eq!(check(new, before), Ok(Vec::new()), "nothing better is in force");
            }
        }
        assert!(Stale::Early(0).to_string().contains("not valid before 1970-01-01T00:00:00Z"));
    }

    #[test]
    fn names_that_vanish_are_told_and_a_default_does_not_vanish() {
        let before = made(&["a.example", "b.example", "x.c.example"], 0, 9);
        let new = made(&["a.example", "*.c.example"], 0, 9);
        assert_eq!(check(&new, Some(&before), &["a.example", "x.c.example"], 1), Ok(vec!["b.example".into()]));
        assert_eq!(check(&new, Some(&before), &["b.example"], 1), Err(Stale::Default("b.example".into())));
        // A name that the one before did not carry is not lost.
        assert_eq!(check(&new, Some(&before), &["z.example"], 1), Ok(vec!["b.example".into()]));
        let wild = made(&["*.example"], 0, 9);
        assert_eq!(
            check(&made(&["a.example"], 0, 9), Some(&wild), &["b.example"], 1).unwrap_err().to_string(),
            "the certificate lacks `b.example`, which is the `default` of a listener"
        );
    }
}
