//! What a listener shakes hands with: made once for each plan, one configuration of `rustls` for each way of asking for client
//! certificates.
//!
//! Tickets and remembered sessions are kept apart by what is verified about clients, because a resumed session brings its certificate
//! along without a new verification. They outlive plans as long as that stays the same.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureScheme};

use super::clients::{Clients, Set};
use super::pem::{self, Certified, LARGEST, Unusable, covered};
use super::store::{Id, Shelf};
use super::{Shared, fresh, name, provider};
use crate::config::read_file;
use crate::plan::{Certificate, ClientCertificates, ListenerTls, Plan};
use crate::state::unix_time;

/// Sessions that are remembered for clients of TLS 1.2 that take no tickets.
const SESSIONS: usize = 4096;

/// TLS can not be set up from a plan.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{}`: {error}", path.display())]
pub struct Failed {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: String,
}

impl Failed {
    pub(super) fn new(path: &Path, error: &dyn fmt::Display) -> Self {
        Self { path: path.to_owned(), error: error.to_string() }
    }
}

/// The pair of files of a certificate, read and checked.
///
/// # Errors
/// One of the files can not be read or used.
pub fn load(cert: &Path, key: &Path) -> Result<Certified, Failed> {
    let read = |path: &Path| read_file(path, LARGEST).map_err(|error| Failed::new(path, &error));
    pem::certified(&read(cert)?, &read(key)?).map_err(|unusable| match unusable {
        Unusable::Chain(error) => Failed::new(cert, &error),
        Unusable::Key(error) => Failed::new(key, &error),
    })
}

/// Warns of names that are gone with a certificate.
pub(super) fn tell_of(file: &Path, lost: &[Box<str>]) {
    if !lost.is_empty() {
        tracing::warn!(file = %file.display(), names = ?lost, "the new certificate lacks names of the one before");
    }
}

/// TLS on one listener.
#[derive(Debug)]
pub struct Listener {
    /// Its certificates.
    pub shelf: Arc<Shelf>,
    /// The name whose certificate serves those who ask for none of them.
    pub default: Option<Box<str>>,
    /// For names that belong to no service of their own mind.
    own: Arc<Manner>,
    /// By service, in the plan's order.
    services: Vec<Arc<Manner>>,
}

/// One way of shaking hands.
#[derive(Debug)]
pub struct Manner {
    /// For `rustls`.
    pub config: Arc<ServerConfig>,
    /// Who is asked for a certificate, and how it is judged.
    pub clients: Option<Arc<Clients>>,
}

impl Listener {
    /// How to shake hands with a client that asks for `name` (lower-case); `None`: there is no certificate for it.
    pub fn manner(&self, plan: &Plan, name: Option<&str>) -> Option<&Arc<Manner>> {
        self.serves(name).then(|| self.asked(plan, name))
    }

    /// What is demanded of clients that ask for `name` (lower-case) or for none, whether or not there is a certificate for it now:
    /// a connection may be older than the certificates.
    pub fn clients(&self, plan: &Plan, name: Option<&str>) -> Option<&Clients> {
        self.asked(plan, name).clients.as_deref()
    }

    /// Whether there is a certificate for a client that asks for `name`.
    fn serves(&self, name: Option<&str>) -> bool {
        let has = |name: &str| self.shelf.has(name);
        name.is_some_and(has) || self.default.as_deref().is_some_and(has)
    }

    /// The manner that belongs to `name`: that of its service, else the listener's own.
    fn asked(&self, plan: &Plan, name: Option<&str>) -> &Arc<Manner> {
        let service = name.and_then(|name| plan.hosts.find(name.as_bytes()));
        service.and_then(|index| self.services.get(index)).unwrap_or(&self.own)
    }

    /// The names in the certificate that a client is shown that asks for `name` (lower-case) and knows these signature schemes.
    pub fn shown(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<[Box<str>]>> {
        choose(&self.shelf, self.default.as_deref(), name, schemes).map(|certified| Arc::clone(&certified.names))
    }

    /// Where a request for `host` should have come over a connection with another certificate: the name whose certificate, with the names
    /// `shown`, it came with. A host that no certificate here is for is at home wherever it is served.
    pub fn instead<'a>(&'a self, asked: Option<&'a str>, shown: &[Box<str>], host: &[u8]) -> Option<&'a str> {
        let host = std::str::from_utf8(host).ok()?;
        let host = host.strip_suffix('.').unwrap_or(host);
        // As it mostly is.
        if asked.is_some_and(|asked| asked.eq_ignore_ascii_case(host)) || covered(shown, host) {
            return None;
        }
        let asked = asked.filter(|asked| covered(shown, asked));
        self.shelf.has(&name::normal(host)).then(|| asked.or(self.default.as_deref()).unwrap_or_default())
    }
}

/// What resumes sessions, by what is verified about clients.
#[derive(Default)]
pub(crate) struct Resumption {
    kept: Mutex<HashMap<u64, Resumed>>,
}

type Resumed = (Arc<dyn ProducesTickets>, Arc<ServerSessionMemoryCache>);

/// Without the keys of tickets.
impl fmt::Debug for Resumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumption").finish_non_exhaustive()
    }
}

impl Resumption {
    fn of(&self, verification: u64) -> Result<Resumed, rustls::Error> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.get(&verification) {
            return Ok(found.clone());
        }
        let made: Resumed = (Ticketer::new()?, ServerSessionMemoryCache::new(SESSIONS));
        kept.insert(verification, made.clone());
        Ok(made)
    }

    fn retain(&self, verifications: &HashSet<u64>) {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|verification, _| verifications.contains(verification));
    }
}

/// Finds the certificate for a handshake.
#[derive(Debug)]
struct Resolver {
    shelf: Arc<Shelf>,
    default: Option<Box<str>>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = name::asked(&hello);
        let found = choose(&self.shelf, self.default.as_deref(), name.as_deref(), hello.signature_schemes());
        found.map(|certified| Arc::clone(&certified.key))
    }
}

/// The certificate for a client that asks for `name`: that of the name, else that of the default.
fn choose(
    shelf: &Shelf,
    default: Option<&str>,
    name: Option<&str>,
    schemes: &[SignatureScheme],
) -> Option<Arc<Certified>> {
    let find = |name: &str| shelf.find(name, schemes);
    name.and_then(find).or_else(|| default.and_then(find))
}

/// A pair that was read, to take the place of what was in force then.
#[derive(Debug)]
struct Loaded {
    id: Id,
    file: PathBuf,
    certified: Certified,
    before: Option<Arc<Certified>>,
    /// Names that only the one before carries.
    lost: Vec<Box<str>>,
}

/// Everything that a plan needs for TLS; nothing has changed yet.
#[derive(Debug)]
pub struct Prepared {
    /// For each listener of the plan.
    pub listeners: Vec<Option<Arc<Listener>>>,
    loaded: Vec<Loaded>,
    ids: Vec<Id>,
    verifications: HashSet<u64>,
}

impl Prepared {
    /// Puts the certificates in force.
    pub fn commit(self, shared: &Shared) -> Vec<Option<Arc<Listener>>> {
        for Loaded { id, file, certified, before, lost } in self.loaded {
            tell_of(&file, &lost);
            shared.store.replace(&id, certified, before.as_ref());
        }
        shared.store.retain(&self.ids);
        shared.resumption.retain(&self.verifications);
        self.listeners
    }
}

/// Reads what `plan` names and makes everything that its listeners need.
///
/// # Errors
/// A file can not be read or used, or must not take the place of what is in force ([`fresh`]). Nothing has changed then.
pub fn prepare(plan: &Plan, shared: &Shared) -> Result<Prepared, Failed> {
    let (mut loaded, mut ids) = (Vec::new(), Vec::new());
    let mut sets: HashMap<usize, Set> = HashMap::new();
    let mut verifications = HashSet::new();
    let mut listeners = Vec::new();
    for listener in &plan.listeners {
        let Some(tls) = &listener.tls else {
            listeners.push(None);
            continue;
        };
        let own: Vec<Id> = tls.certificates.iter().map(Id::of).collect();
        for (id, certificate) in own.iter().zip(&tls.certificates) {
            if let Certificate::Files { cert, key } = certificate
                && !ids.contains(id)
            {
                let (certified, before) = (load(cert, key)?, shared.store.find(id));
                // What the listeners show by default was compared when the configuration was read.
                let lost = fresh::check(&certified, before.as_deref(), &[], unix_time());
                let lost = lost.map_err(|error| Failed::new(cert, &error))?;
                loaded.push(Loaded { id: id.clone(), file: cert.clone(), certified, before, lost });
            }
            ids.push(id.clone());
        }
        let mut maker = Maker {
            plan,
            shared,
            tls,
            http2: listener.http2,
            shelf: shared.store.shelf(own),
            sets: &mut sets,
            made: HashMap::new(),
        };
        let own = maker.manner(tls.clients.as_ref())?;
        let services =
            plan.services.iter().map(|service| maker.manner(service.clients.as_ref().or(tls.clients.as_ref())));
        let services = services.collect::<Result<_, _>>()?;
        verifications.extend(maker.made.keys());
        let shelf = maker.shelf;
        listeners.push(Some(Arc::new(Listener { shelf, default: tls.default.clone(), own, services })));
    }
    Ok(Prepared { listeners, loaded, ids, verifications })
}

/// Makes the manners of one listener, each once.
struct Maker<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    tls: &'a ListenerTls,
    /// HTTP/2 is offered.
    http2: bool,
    shelf: Arc<Shelf>,
    sets: &'a mut HashMap<usize, Set>,
    made: HashMap<u64, Arc<Manner>>,
}

impl Maker<'_> {
    fn manner(&mut self, clients: Option<&ClientCertificates>) -> Result<Arc<Manner>, Failed> {
        let verification = self.verification(clients)?;
        if let Some(made) = self.made.get(&verification) {
            return Ok(Arc::clone(made));
        }
        let clients = clients.map(|clients| self.clients(clients)).transpose()?.map(Arc::new);
        let setup = |error: rustls::Error| Failed::new(Path::new("TLS"), &error);
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(setup)?;
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients) as _),
            None => builder.with_no_client_auth(),
        };
        let resolver = Resolver { shelf: Arc::clone(&self.shelf), default: self.tls.default.clone() };
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        let (ticketer, sessions) = self.shared.resumption.of(verification).map_err(setup)?;
        config.ticketer = ticketer;
        config.session_storage = sessions;
        // Our order, not the client's: OpenSSL's clients name AES-256 with SHA-384 first, for which processors have less help. AES-128 is as safe
        // against everything known (RFC 8446 §9.1 makes it the one that all must have), and a handshake costs a fifth less.
        config.ignore_client_order = true;
        // One ticket for each connection: browsers use one, and each costs keys and a seal.
        config.send_tls13_tickets = 1;
        // What stands first is taken where the client knows both.
        let protocols = [&b"h2"[..], b"http/1.1"];
        let first = usize::from(!self.http2);
        config.alpn_protocols = protocols.iter().skip(first).map(|protocol| protocol.to_vec()).collect();
        let manner = Arc::new(Manner { config: Arc::new(config), clients });
        self.made.insert(verification, Arc::clone(&manner));
        Ok(manner)
    }

    fn clients(&mut self, clients: &ClientCertificates) -> Result<Clients, Failed> {
        let sets: Vec<&Set> = clients.accept.iter().filter_map(|index| self.sets.get(index)).collect();
        Clients::new(&sets, clients.required).map_err(|error| {
            let set = clients.accept.first().and_then(|&index| self.plan.client_certificates.get(index));
            Failed::new(set.map_or_else(|| Path::new("TLS"), |set| &set.ca), &error)
        })
    }

    /// What is verified about clients, as a number: authorities by their content, names, and whether a certificate is required.
    fn verification(&mut self, clients: Option<&ClientCertificates>) -> Result<u64, Failed> {
        let mut hasher = DefaultHasher::new();
        let Some(clients) = clients else {
            return Ok(hasher.finish());
        };
        clients.required.hash(&mut hasher);
        for &index in &clients.accept {
            let Some(set) = self.plan.client_certificates.get(index) else { continue };
            let loaded = match self.sets.entry(index) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    let pem = read_file(&set.ca, LARGEST).map_err(|error| Failed::new(&set.ca, &error))?;
                    let authorities = pem::certificates(&pem).map_err(|error| Failed::new(&set.ca, &error))?;
                    entry.insert(Set { index, authorities, names: set.names.clone() })
                }
            };
            (index, &loaded.names).hash(&mut hasher);
            for authority in &loaded.authorities {
                authority.as_ref().hash(&mut hasher);
            }
        }
        Ok(hasher.finish())
    }
}
