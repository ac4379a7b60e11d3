//! TLS towards apps. Files are read here, so that what is wrong with one is said at its line, and so that a connection that was made
//! under other files is not used under new ones.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};

use super::Context;
use crate::config::value::{DomainName, FilePath, Flag, Leaf};
use crate::config::{ConfigPath, lint, raw};
use crate::plan::{self, OwnCertificate, ServerAddress};
use crate::tls::pem;

/// TLS towards the servers of an upstream, and the name that their certificates must carry if it is another than their host.
pub(super) struct Written {
    pub(super) tls: plan::UpstreamTls,
    pub(super) name: Option<Box<str>>,
}

/// What `tls` of an upstream says. `path` leads to it, or to what stands for an empty one.
pub(super) fn compile(raw: raw::UpstreamTls, path: &ConfigPath, cx: &mut Context<'_>) -> Option<Written> {
    let raw::UpstreamTls { ca, cert, key, server_name, verify } = raw;
    let verify = verify.is_none_or(|Leaf(Flag(verify))| verify);
    if !verify {
        lint::unverified(&path.key("verify"), cx);
        if ca.is_some() {
            cx.key_error(
                &path.key("ca"),
                "`ca` has no meaning with `verify: false`",
                "remove `verify: false`: with its own authority the app can be verified",
            );
        }
    }
    let broken = cx.is_broken(&path.key("ca"));
    let authorities = match ca {
        _ if !verify || broken => Some(Arc::from([])),
        Some(Leaf(FilePath(file))) => authorities(&file, &path.key("ca"), cx),
        None => system(path, cx),
    };
    let certificate = match (cert, key) {
        (None, None) => Some(None),
        (cert, key) => {
            let cert = cx.required(cert, path, "cert", "cert: gateway.pem");
            let key = cx.required(key, path, "key", "key: gateway.key");
            cert.zip(key).and_then(|(Leaf(FilePath(cert)), Leaf(FilePath(key)))| own(&cert, &key, path, cx)).map(Some)
        }
    };
    let (authorities, certificate) = (authorities?, certificate?);
    let mut hasher = DefaultHasher::new();
    (verify, authorities.len()).hash(&mut hasher);
    for authority in authorities.iter() {
        authority.as_ref().hash(&mut hasher);
    }
    if let Some(own) = &certificate {
        for certificate in &own.chain {
            certificate.as_ref().hash(&mut hasher);
        }
        own.key.secret_der().hash(&mut hasher);
    }
    let tls =
        plan::UpstreamTls { authorities, certificate: certificate.map(Arc::new), verify, fingerprint: hasher.finish() };
    Some(Written { tls, name: server_name.map(|Leaf(DomainName(name))| name) })
}

/// The name that a server's certificate must carry; reports where there is none.
pub(super) fn name(
    address: &ServerAddress,
    written: Option<&str>,
    path: &ConfigPath,
    cx: &mut Context<'_>,
) -> Option<ServerName<'static>> {
    let host = match (written, address) {
        (Some(name), _) => name,
        (None, ServerAddress::Name(name, _)) => name,
        (None, ServerAddress::Tcp(address)) => return Some(address.ip().into()),
        (None, ServerAddress::Unix(_)) => {
            cx.error(
                path,
                "a socket has no name that a certificate could carry",
                "write `tls: {server_name: app.internal}` beside `servers`",
            );
            return None;
        }
    };
    let name = ServerName::try_from(host.to_owned()).ok();
    if name.is_none() {
        let message = format!("no certificate can carry the name `{host}`");
        cx.error(path, message, "write `tls: {server_name: app.internal}` beside `servers`");
    }
    name
}

fn authorities(file: &Path, path: &ConfigPath, cx: &mut Context<'_>) -> Option<Arc<[CertificateDer<'static>]>> {
    let content = read(file, path, cx)?;
    let found = pem::certificates(&content).and_then(|found| {
        let mut store = RootCertStore::empty();
        match found.iter().try_for_each(|authority| store.add(authority.clone())) {
            Ok(()) => Ok(found),
            Err(_) => Err("one of its certificates cannot be an authority".to_owned()),
        }
    });
    match found {
        Ok(found) => Some(found.into()),
        Err(flaw) => {
            cx.file_error(path, file, &format!("cannot be used: {flaw}"), "write the authorities into it, in PEM");
            None
        }
    }
}

/// A system without authorities, as in an image without `ca-certificates`, would fail every handshake and never say why.
fn system(path: &ConfigPath, cx: &mut Context<'_>) -> Option<Arc<[CertificateDer<'static>]>> {
    let authorities = cx.authorities();
    if authorities.is_empty() {
        cx.key_error(
            path,
            "the system knows no authority that could vouch for the app",
            "name its own with `tls: {ca: internal-ca.pem}`, or install the system's (package `ca-certificates`)",
        );
        return None;
    }
    Some(authorities)
}

fn own(cert: &Path, key: &Path, path: &ConfigPath, cx: &mut Context<'_>) -> Option<OwnCertificate> {
    let (at_cert, at_key) = (path.key("cert"), path.key("key"));
    let (chain, secret) = (read(cert, &at_cert, cx), read(key, &at_key, cx));
    let chain = chain.and_then(|content| report(pem::certificates(&content), cert, &at_cert, cx));
    let secret = secret.and_then(|content| report(pem::private_key(&content), key, &at_key, cx));
    let (chain, secret) = (chain?, secret?);
    let signing = crate::tls::provider().key_provider.load_private_key(secret.clone_key());
    let fits = match signing.map(|signing| CertifiedKey::new(chain.clone(), signing).keys_match()) {
        Ok(Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown))) => Ok(()),
        Ok(Err(_)) => Err("the key does not belong to the certificate".to_owned()),
        Err(_) => Err("this kind of key is not supported".to_owned()),
    };
    report(fits, key, &at_key, cx)?;
    Some(OwnCertificate { chain, key: secret })
}

fn report<T>(result: Result<T, String>, file: &Path, path: &ConfigPath, cx: &mut Context<'_>) -> Option<T> {
    result.map_err(|flaw| cx.file_error(path, file, &format!("cannot be used: {flaw}"), "")).ok()
}

fn read(file: &Path, path: &ConfigPath, cx: &mut Context<'_>) -> Option<Vec<u8>> {
    match cx.environment().read(file, pem::LARGEST) {
        Ok(content) => Some(content),
        Err(error) => {
            cx.file_error(path, file, &format!("cannot be read: {error}"), "");
            None
        }
    }
}
