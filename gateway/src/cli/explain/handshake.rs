//! The handshake that `explain` pretends: who the client says it is, and which certificate it would have been shown.

use rustls::SignatureScheme;

use super::Arguments;
use crate::plan::{Acme, Certificate, Listener, Plan};
use crate::request::judge::Handshake;
use crate::tls::pem::{self, Certified};
use crate::tls::store::Id;
use crate::tls::{Shared, name, server};

/// What clients can verify.
const SCHEMES: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256];

/// For an `https://` URL and wherever the arguments speak of a handshake. `instead` is what [`instead`] says.
///
/// # Errors
/// A set that does not exist.
pub(super) fn pretended<'a>(
    plan: &Plan,
    arguments: &'a Arguments,
    host: &'a [u8],
    instead: Option<&'a str>,
) -> Result<Option<Handshake<'a>>, &'a str> {
    let Arguments { client_certificates, server_name, url, .. } = arguments;
    if client_certificates.is_empty() && server_name.is_none() && !url.starts_with("https://") {
        return Ok(None);
    }
    let mut certificate = None;
    for name in client_certificates {
        let index = plan.client_certificates.iter().position(|set| *set.name == **name).ok_or(name.as_str())?;
        certificate = Some(certificate.unwrap_or(0) | 1_u64 << index.min(63));
    }
    let server_name = server_name.as_deref().or_else(|| std::str::from_utf8(host).ok());
    let subject = certificate.map(|_| "the certificate");
    Ok(Some(Handshake { server_name, instead, certificate, subject }))
}

/// The name whose certificate would be shown on `listener`, where that is not for `host` and another of its certificates is.
pub(super) fn instead(plan: &Plan, listener: Option<&Listener>, arguments: &Arguments, host: &[u8]) -> Option<String> {
    // Without another name, the one for the host is asked for.
    let asked = name::normal(arguments.server_name.as_deref()?);
    let index =
        plan.listeners.iter().position(|known| listener.is_some_and(|listener| std::ptr::eq(known, listener)))?;
    let shared = Shared::default();
    let listeners = server::prepare(plan, &shared).ok()?.commit(&shared);
    for certificate in
        plan.listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(|tls| &tls.certificates)
    {
        if let Certificate::Acme(acme) = certificate
            && let Some(certified) = stand_in(acme)
        {
            shared.store.install(&Id::of(certificate), certified);
        }
    }
    let listener = listeners.get(index)?.as_ref()?;
    let shown = listener.shown(Some(&asked), SCHEMES)?;
    listener.instead(Some(&asked), &shown, host).map(str::to_owned)
}

/// A certificate with the names of one that is ordered: no order waits for an explanation.
fn stand_in(acme: &Acme) -> Option<Certified> {
    let names: Vec<_> = acme.domains.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names).ok()?;
    pem::certified(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).ok()
}
