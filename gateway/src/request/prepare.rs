//! From a judged request to the errand for the app: which method, path, host, fields and deadlines.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use probegate_policies::balance;
use probegate_policies::fields::FieldName;
use probegate_policies::forwarded::{Scheme, Towards, UNKNOWN_CLIENT, scheme};
use probegate_policies::proxy;

use super::Received;
use super::deliver::Delivery;
use super::encode::Compressing;
use super::exchange::{Errand, Spools};
use super::headers::UpstreamHead;
use super::intercept;
use super::judge::{Judgement, Part};
use super::target::Target;
use super::throttle::Throttling;
use super::values::{self, Values};
use crate::plan::{Choice, Edits, Errors, Handling, HashKey, ProbeForward, Service, UpstreamProtocol};
use crate::servers::Servers;
use crate::shields::Shield;
use crate::slots::Chosen;
use crate::spool::Budget;
use crate::state::{Active, State};
use crate::wire::Framing;
use crate::wire::head::{Name, Version, elements};
use crate::wire::pipe::Pipes;

/// A request that was let in.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The plan it began with.
    pub active: &'a Active,
    /// The request.
    pub received: &'a Received<'a>,
    /// What it asks for.
    pub asked: &'a Target<'a>,
    /// What was found out about it.
    pub judgement: &'a Judgement<'a>,
    /// Its id.
    pub id: &'a [u8; 32],
    /// The service it goes to.
    pub service: &'a Service,
    /// What is known about its servers.
    pub servers: &'a Arc<Servers>,
    /// How it is handled.
    pub handling: &'a Handling,
    /// What bodies that wait hold together.
    pub budget: &'a Arc<Budget>,
    /// For large bodies that nobody looks at.
    pub pipes: &'a Pipes,
    /// What the process knows.
    pub state: &'a Arc<State>,
    /// The client waits for `100 Continue`.
    pub expects: bool,
}

impl<'a> Case<'a> {
    /// An ordinary request: as the client sent it, but for what only this hop may say. Its head is written into `out`.
    pub fn request(&self, framing: Framing, out: &'a mut Vec<u8>) -> Errand<'a> {
        let received = self.received;
        let method = received.head.method.of(received.bytes);
        let trusted = self.active.plan.client.trusts(received.facts.peer);
        let scheme = scheme(trusted, &received.fields(), received.facts.scheme);
        let port = values::port(self.asked, received.facts, || trusted.then_some(scheme));
        // What belongs to the body and what to the new protocol could not be told apart.
        let http2 = self.service.upstream.protocol == UpstreamProtocol::Http2;
        let upgrade = if framing == Framing::None { upgrade(received, self.service) } else { None };
        let head = UpstreamHead {
            method,
            path: (self.judgement.sent.or_else(|| self.judgement.path.as_ref()?.rewritten)).unwrap_or(self.asked.path),
            query: self.asked.query,
            host: self.host(),
            framing,
            upgrade,
            expects: self.expects,
            trailers: http2 && takes_trailers(received),
            towards: self.towards(scheme, self.asked.authority, port),
            token: None,
            private: &self.active.plan.private_fields,
            edits: self.edits(),
            rewritten: self.judgement.sent.is_some(),
        };
        head.write(out, received.head, received.bytes);
        Errand {
            upstream: &self.service.upstream,
            servers: self.servers,
            key: self.key(),
            chosen: self.chosen(method),
            head: out,
            framing,
            private: &self.active.plan.private_fields,
            edited: self.edited(),
            idempotent: self.service.upstream.balancing.retries.methods.has(method),
            delivery: Delivery {
                to_head: method == b"HEAD",
                asks_head: method == b"HEAD",
                spools: self.handling.buffer_response.then(|| self.spools()),
                compressing: self.compressing(),
                throttling: Some(self.throttling()),
            },
            upgrade,
            expects: self.expects,
            client: self.client(),
            errors: self.intercepting(),
            drops: self.handling.edits.as_ref().map_or(&[], |edits| &edits.answer.drops),
            may_point: self.service.may_point,
            refuse_redirects: false,
            total: None,
        }
    }

    /// A probe, asked as the app wants to be asked: always GET (D10), with its own host and token, and as if over HTTPS, because an app
    /// that redirects to HTTPS would answer the redirect instead of the probe (D15).
    pub fn probe(&self, probe: &'a ProbeForward, out: &'a mut Vec<u8>) -> Errand<'a> {
        let received = self.received;
        let host = self.probe_host(probe);
        let head = UpstreamHead {
            method: b"GET",
            path: probe.path.as_bytes(),
            query: if probe.query { self.asked.query } else { b"" },
            host,
            framing: Framing::None,
            upgrade: None,
            expects: false,
            trailers: false,
            towards: self.towards(Scheme::Https, host, 443),
            token: probe.token.as_ref(),
            private: &self.active.plan.private_fields,
            edits: self.edits(),
            rewritten: self.judgement.sent.is_some(),
        };
        head.write(out, received.head, received.bytes);
        Errand {
            upstream: &self.service.upstream,
            servers: self.servers,
            key: self.key(),
            chosen: self.servers.split().map_or(Chosen::NONE, |split| split.main()),
            head: out,
            framing: Framing::None,
            private: &self.active.plan.private_fields,
            edited: self.edited(),
            idempotent: true,
            // Small, and due as a whole within a second or so: it waits nowhere.
            delivery: Delivery { to_head: received.head.method.of(received.bytes) == b"HEAD", ..Delivery::default() },
            upgrade: None,
            expects: false,
            client: self.client(),
            errors: None,
            drops: &[],
            may_point: false,
            refuse_redirects: true,
            total: Some(probe.timeout),
        }
    }

    /// What says that the body of an answer may be replaced by a page. The clients of gRPC read none.
    fn intercepting(&self) -> Option<&'a Errors> {
        let errors = self.handling.errors.as_deref().filter(|errors| !errors.intercept.is_empty())?;
        let mut kinds = self.received.fields().of(Name::ContentType);
        (!kinds.any(intercept::is_grpc)).then_some(errors)
    }

    /// `Host` of a probe: as configured, else as the client says, where it has to name one of the service's.
    fn probe_host(&self, probe: &'a ProbeForward) -> &'a [u8] {
        let own = probe.own.as_deref().filter(|_| self.received.facts.probes_only);
        probe.host.as_deref().or(own).map_or_else(|| self.host(), str::as_bytes)
    }

    /// The shield before the probe that is asked for.
    pub fn shield(&self) -> Option<&'a Arc<Shield>> {
        let Part::Probe(index) = self.judgement.part else { return None };
        self.active.shields.of(self.judgement.service?, index)
    }

    /// What keeps the request together with others, where the service says so and the request has it.
    fn key(&self) -> Option<u64> {
        let Choice::Hash(key) = &self.service.upstream.balancing.choice else { return None };
        self.of(key)
    }

    /// The slot it goes to, where the service has some: while requests move from one to another, the same for the same client.
    fn chosen(&self, method: &[u8]) -> Chosen {
        let (Some(split), Some(slots)) = (self.servers.split(), &self.service.upstream.slots) else {
            return Chosen::NONE;
        };
        let key = || self.of(&slots.switch.sticky).or_else(|| self.of(&HashKey::ClientIp));
        // What does no harm twice; GET and HEAD whatever is said about other servers.
        let methods = &self.service.upstream.balancing.retries.methods;
        split.choose(matches!(method, b"GET" | b"HEAD") || methods.has(method), key)
    }

    /// What stands for what the request has in common with others.
    fn of(&self, key: &HashKey) -> Option<u64> {
        let fields = self.received.fields();
        match key {
            HashKey::ClientIp => self.judgement.identity.known().map(|ip| match ip.to_canonical() {
                IpAddr::V4(ip) => balance::hash(&ip.octets()),
                // One customer's network, as limits count it.
                IpAddr::V6(ip) => balance::hash(ip.octets().get(..8).unwrap_or_default()),
            }),
            HashKey::Header(name) => fields.spelled(name).next().map(balance::hash),
            HashKey::Cookie(name) => balance::cookie(fields.spelled("cookie"), name.as_bytes()).map(balance::hash),
        }
    }

    /// Whether the answer may be compressed.
    pub fn compressing(&self) -> Option<Compressing<'a>> {
        let plan = self.handling.compression.as_deref()?;
        Some(Compressing { plan, request: self.received, spools: self.spools() })
    }

    /// How fast the answer may go.
    pub fn throttling(&self) -> Throttling<'a> {
        Throttling::new(&self.handling.bandwidth, self.state, self.judgement)
    }

    /// Where bodies may wait.
    pub fn spools(&self) -> Spools<'a> {
        Spools { buffers: &self.active.plan.buffers, budget: self.budget, pipes: self.pipes }
    }

    fn towards<'t>(&'t self, scheme: Scheme, host: &'t [u8], port: u16) -> Towards<'t> {
        let Judgement { identity, hops, .. } = self.judgement;
        Towards { identity, hops, scheme, host, port, request_id: self.id }
    }

    /// Whose request it is, in the terms of the PROXY protocol: the client, with its port where it is the peer; where nobody knows the
    /// client, the placeholder that `X-Forwarded-For` names too.
    fn client(&self) -> proxy::Header {
        let facts = self.received.facts;
        let known = self.judgement.identity.known();
        let port = if known == Some(facts.peer) { facts.peer_port } else { 0 };
        let ip = known.unwrap_or(IpAddr::V4(UNKNOWN_CLIENT));
        let source = SocketAddr::new(ip, port);
        proxy::Header::Relayed { source, destination: SocketAddr::new(facts.local, facts.local_port) }
    }

    /// For what the configuration asks about the request.
    pub fn values(&self) -> Values<'a> {
        let Self { active, received, asked, judgement, id, service, .. } = *self;
        Values { plan: &active.plan, received, asked, judgement, id, service }
    }

    /// What the configuration changes about the request.
    fn edits(&self) -> Option<(&'a Edits, Values<'a>)> {
        self.handling.edits.as_ref().map(|edits| (&**edits, self.values()))
    }

    /// Fields that do not come back as trailers.
    fn edited(&self) -> &'a [FieldName] {
        self.handling.edits.as_ref().map_or(&[], |edits| &edits.request.named)
    }

    /// `Host` for the app.
    fn host(&self) -> &'a [u8] {
        let host = self.handling.edits.as_ref().and_then(|edits| edits.request.host.as_deref());
        host.map_or(self.asked.authority, str::as_bytes)
    }
}

/// Whether the client says that it takes trailers (RFC 9110 §10.1.4).
fn takes_trailers(received: &Received<'_>) -> bool {
    received.head.fields.of(Name::HopByHop).any(|field| {
        field.name.of(received.bytes).eq_ignore_ascii_case(b"te")
            && elements(field.value.of(received.bytes)).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
    })
}

/// The protocol the client wants to switch to and may: GET in HTTP/1.1 with `Connection: upgrade` (or what stands for it in HTTP/2,
/// [`crate::wire::h2::head`]) and one protocol that the
/// configuration allows. Anything else is served as if it had not asked (RFC 9110 §7.8).
pub fn upgrade<'a>(received: &Received<'a>, service: &Service) -> Option<&'a [u8]> {
    // HTTP/2 has no upgrades (RFC 9113 §8.6).
    let asks = received.asks_upgrade
        && service.upstream.protocol != UpstreamProtocol::Http2
        && received.head.version != Version::Http10
        && received.head.method.of(received.bytes) == b"GET";
    if !asks {
        return None;
    }
    let mut protocols = received.fields().of(Name::Upgrade).flat_map(elements);
    let (protocol, None) = (protocols.next()?, protocols.next()) else { return None };
    service.upgrades.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(protocol)).then_some(protocol)
}
