//! Certificates, on both sides of the gateway.

use super::{Context, Definitions, Names, files};
use crate::config::shape::{List, Named};
use crate::config::value::{AcmeDirectory, ChallengeWord, DomainName, FilePath, Flag, Leaf, Name, Text};
use crate::config::{ConfigPath, lint, raw, suggest};
use crate::plan;
use crate::tls::pem;

/// Rules ask for a set by a bit of a word.
const MOST_SETS: usize = 64;

/// Sets of client certificates: their names, and what they are.
pub(super) fn sets(
    raw: Option<Named<raw::CertificateSet>>,
    cx: &mut Context<'_>,
) -> (Names<usize>, Vec<plan::CertificateSet>) {
    let mut names = Names::new("client certificate", "client_certificates", cx);
    let mut sets = Vec::new();
    for (name, raw) in raw.unwrap_or_default() {
        let path = ConfigPath::root().key("client_certificates").key(&name);
        let set = raw.and_then(|raw| set(&name, raw, &path, cx));
        let index = set.map(|set| {
            sets.push(set);
            sets.len() - 1
        });
        if sets.len() == MOST_SETS + 1 {
            cx.key_error(&path, format!("there are more than {MOST_SETS} sets of client certificates"), "join some");
        }
        names.define(name, index, cx);
    }
    (names, sets)
}

fn set(name: &str, raw: raw::CertificateSet, path: &ConfigPath, cx: &mut Context<'_>) -> Option<plan::CertificateSet> {
    let raw::CertificateSet { ca, names } = raw;
    let Leaf(FilePath(ca)) = cx.required(ca, path, "ca", "ca: partners.pem")?;
    files::authorities(&ca, &path.key("ca"), cx);
    let ca = cx.environment().resolve(&ca);
    if names.as_ref().is_some_and(List::is_empty) {
        cx.error(
            &path.key("names"),
            "`names` is empty: no certificate would be in the set",
            "leave it out to accept every certificate of the authorities",
        );
    }
    let mut wanted = Vec::new();
    for (index, Leaf(Text(name))) in names.into_iter().flatten() {
        lint::client_name(&name, &path.key("names").index(index), cx);
        wanted.push(name);
    }
    let names = wanted;
    Some(plan::CertificateSet { name: name.into(), ca, names })
}

/// TLS on a listener. The names that its certificates carry are added to `known`.
pub(super) fn listener(
    raw: raw::ListenerTls,
    path: &ConfigPath,
    definitions: &Definitions,
    known: &mut Vec<Box<str>>,
    cx: &mut Context<'_>,
) -> Option<plan::ListenerTls> {
    let raw::ListenerTls { certificates, default, client_certificates } = raw;
    let clients = client_certificates.and_then(|raw| clients(raw, &path.key("client_certificates"), definitions, cx));
    let raw = cx.required(certificates, path, "certificates", "certificates: [{cert: fullchain.pem, key: key.pem}]")?;
    let whole = path;
    let path = whole.key("certificates");
    if raw.is_empty() {
        cx.error(
            &path,
            "`certificates` is empty: no handshake could succeed",
            "write `[{cert: fullchain.pem, key: key.pem}]`",
        );
    }
    let mut certificates = Vec::new();
    let (mut carried, mut broken) = (Vec::new(), false);
    for (index, raw) in raw {
        let Some((certificate, names)) = certificate(raw, &path.index(index), cx) else {
            broken = true;
            continue;
        };
        certificates.push(certificate);
        carried.push(names);
    }
    let default = default.map(|Leaf(DomainName(name))| name);
    if let Some(name) = &default
        && !broken
        && !carried.iter().flatten().any(|known| pem::covers(known, name))
    {
        let names = suggest::list(carried.iter().flatten().map(|name| &**name));
        cx.error(
            &whole.key("default"),
            format!("no certificate of this listener carries `{name}`"),
            format!("name one that is carried: {names}"),
        );
    }
    known.extend(carried.into_iter().flatten());
    Some(plan::ListenerTls { certificates, default, clients })
}

/// A certificate, and the names it carries.
fn certificate(
    raw: raw::Certificate,
    path: &ConfigPath,
    cx: &mut Context<'_>,
) -> Option<(plan::Certificate, Vec<Box<str>>)> {
    let raw::Certificate { cert, key, acme: ordered } = raw;
    let ordered_here = ordered.is_some() || cx.is_broken(&path.key("acme"));
    if ordered_here && (cert.is_some() || key.is_some()) {
        cx.key_error(
            &path.key("acme"),
            "a certificate comes from files or is ordered by ACME, not both",
            "write two certificates, or remove one of the two",
        );
        return None;
    }
    if ordered_here {
        let acme = acme(ordered?, &path.key("acme"), cx)?;
        let names = acme.domains.clone();
        return Some((plan::Certificate::Acme(acme), names));
    }
    let cert = cx.required(cert, path, "cert", "cert: fullchain.pem");
    let key = cx.required(key, path, "key", "key: key.pem");
    let (Leaf(FilePath(cert)), Leaf(FilePath(key))) = (cert?, key?);
    let certified = files::pair(&cert, &key, path, cx)?;
    let (cert, key) = (cx.environment().resolve(&cert), cx.environment().resolve(&key));
    Some((plan::Certificate::Files { cert, key }, certified.names.to_vec()))
}

fn acme(raw: raw::Acme, path: &ConfigPath, cx: &mut Context<'_>) -> Option<plan::Acme> {
    let raw::Acme { domains, email, directory, ca, challenges } = raw;
    let ca = ca.map(|Leaf(FilePath(ca))| {
        files::authorities(&ca, &path.key("ca"), cx);
        cx.environment().resolve(&ca)
    });
    let email = email.map(|Leaf(Text(email))| email);
    if email.as_ref().is_some_and(|email| !email.contains('@')) {
        cx.error(&path.key("email"), "`email` is not an e-mail address", "write one such as `ops@example.com`");
    }
    let challenges: Vec<_> = match challenges {
        None => vec![plan::Challenge::TlsAlpn01, plan::Challenge::Http01],
        Some(list) if list.is_empty() => {
            cx.error(&path.key("challenges"), "`challenges` is empty: no order could succeed", "leave it out");
            Vec::new()
        }
        Some(list) => list.into_iter().map(|(_, Leaf(ChallengeWord(challenge)))| challenge).collect(),
    };
    let directory = directory.map_or_else(AcmeDirectory::production, |Leaf(directory)| directory).0;
    let raw = cx.required(domains, path, "domains", "domains: [shop.example.com]")?;
    let path = path.key("domains");
    if raw.is_empty() {
        cx.error(&path, "`domains` is empty: there is nothing to order", "write `[shop.example.com]`");
    }
    let mut domains: Vec<Box<str>> = Vec::new();
    for (index, Leaf(DomainName(domain))) in raw {
        let path = path.index(index);
        if domains.contains(&domain) {
            cx.error(&path, format!("`{domain}` is listed twice"), "remove one of the two");
        }
        lint::acme_name(&domain, ca.is_some(), &path, cx);
        domains.push(domain);
    }
    Some(plan::Acme { domains, email, directory, ca, challenges })
}

/// Which client certificates are asked for.
pub(super) fn clients(
    raw: raw::ClientCertificates,
    path: &ConfigPath,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> Option<plan::ClientCertificates> {
    let raw::ClientCertificates { accept, required } = raw;
    let raw = cx.required(accept, path, "accept", "accept: [partners]")?;
    let path = path.key("accept");
    if raw.is_empty() {
        cx.error(&path, "`accept` is empty: no certificate would do", "name a set of `client_certificates`");
    }
    let accept = raw
        .into_iter()
        .filter_map(|(index, Leaf(Name(name)))| definitions.certificates.find(&name, &path.index(index), cx).copied())
        .collect();
    Some(plan::ClientCertificates { accept, required: required.is_some_and(|Leaf(Flag(required))| required) })
}
