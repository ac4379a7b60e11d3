//! The judgement: what may become of a request. Written once, here, in this order:
//!
//! canonical path → client identity → service → probe or route → ban → access → limits; on a listener that redirects, limits → redirect instead of
//! the last two. Probes know no ban. Where the app gets another path than the one that was judged, that is looked at last.
//!
//! Invariant: no I/O, no clock, no protocol. Live requests and `probegate explain` run this same code; `explain` only watches it.

mod aggregates;
mod probes;
mod showing;

use std::net::IpAddr;

use probegate_policies::access::{Facts, Permit, Rule, Trace};
use probegate_policies::client::{Hops, Identity, Missing, Watch};
use probegate_policies::fields::Fields;
use probegate_policies::now::Now;
use probegate_policies::path::{self, Canonical};
use probegate_policies::reason::Reason;

pub use self::showing::{Handshake, Showing};
use self::showing::{demand, is_misdirected};
use super::{hidden, rewrite};
use crate::bans::{Gate, Hit};
use crate::limiter::pending::Pending;
use crate::limiter::{Admission, Asking, Limited, Limiter};
use crate::plan::{Deny, Limit, Plan, Service};

/// What is known about a request when it is judged. `'p`: how long its path is there, which the judgement goes on speaking of.
#[derive(Debug)]
pub struct Question<'p, 'a, F: ?Sized> {
    /// The method.
    pub method: &'a [u8],
    /// The target's path as received, without the query. `*` for `OPTIONS *`.
    pub path: &'p [u8],
    /// The query, with its `?`, or nothing.
    pub query: &'a [u8],
    /// The host the request is for, without port; empty where HTTP/1.0 sent none.
    pub host: &'a [u8],
    /// Its fields.
    pub fields: &'a F,
    /// The address the connection comes from.
    pub peer: IpAddr,
    /// How the client has shown itself.
    pub showing: Showing<'a>,
    /// Who the client is where a trusted proxy names nobody; `None`: as for all listeners.
    pub missing: Option<Missing>,
    /// The listener serves probes, for every host, and nothing else.
    pub probes_only: bool,
    /// The listener sends clients to HTTPS on this port, and this one does not use it yet.
    pub redirect: Option<u16>,
    /// Who is kept out; `None`: nobody.
    pub bans: Option<&'a Gate>,
    /// The time.
    pub now: Now,
    /// The worker that asks, who counts for itself.
    pub worker: usize,
}

impl<F: ?Sized> Question<'_, '_, F> {
    /// What rules are asked with.
    pub fn facts<'f>(&'f self, identity: &'f Identity) -> Facts<'f, F> {
        Facts {
            identity,
            fields: self.fields,
            certificate: self.showing.handshake.and_then(|handshake| handshake.certificate),
            unix: self.now.unix,
        }
    }
}

/// Memory that judgements reuse.
#[derive(Debug, Default)]
pub struct Scratch {
    paths: path::Scratch,
    hops: Hops,
    rewrite: rewrite::Scratch,
}

/// The judgement.
#[derive(Debug)]
pub struct Judgement<'a> {
    /// Who asks.
    pub identity: Identity,
    /// The trusted proxies in between, nearest first.
    pub hops: &'a Hops,
    /// The path in its one meaning; `None` where it has none.
    pub path: Option<Canonical<'a>>,
    /// The path that the app gets, where it is another one.
    pub sent: Option<&'a [u8]>,
    /// Index of the service that the host belongs to.
    pub service: Option<usize>,
    /// Which part of the service the request meets.
    pub part: Part,
    /// The part that the client sees: another one where the one it meets is hidden from it.
    pub seen: Part,
    /// The client is banned, or would be.
    pub banned: Option<Hit>,
    /// What the limits said, where any counted the request.
    pub limited: Option<Limited>,
    /// What it has to wait for before anything follows from the verdict.
    pub pending: Option<Box<Pending>>,
    /// May it pass?
    pub verdict: Result<Way, Refused>,
}

impl<'a> Judgement<'a> {
    /// Who asks is known, and nothing else: the request is refused until something says otherwise.
    fn begun(identity: Identity, hops: &'a Hops) -> Self {
        Self {
            identity,
            hops,
            path: None,
            sent: None,
            service: None,
            part: Part::Rest,
            seen: Part::Rest,
            banned: None,
            limited: None,
            pending: None,
            verdict: Err(Reason::PathInvalid.into()),
        }
    }
}

/// Where a request goes that is not refused.
#[derive(Debug)]
pub enum Way {
    /// In.
    In(Permit),
    /// Once more, over HTTPS on this port.
    Https(u16),
}

impl Way {
    /// Set and slot of the token that let the request in.
    fn slot(&self) -> Option<(&str, &str)> {
        match self {
            Self::In(permit) => permit.slot(),
            Self::Https(_) => None,
        }
    }
}

/// Which part of a service a path belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// No rule or limit of its own.
    #[default]
    Rest,
    /// Index into the service's probes.
    Probe(usize),
    /// Index into the service's routes.
    Route(usize),
    /// None of any service: index into [`Plan::aggregates`].
    Aggregate(usize),
}

impl Part {
    /// The route, where it is one.
    #[inline]
    pub fn route(self) -> Option<usize> {
        match self {
            Self::Route(index) => Some(index),
            Self::Rest | Self::Probe(_) | Self::Aggregate(_) => None,
        }
    }
}

/// A refusal: why, and what the client gets to see of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// What the client sees.
    pub deny: Deny,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self { reason, deny: Deny::Forbidden }
    }
}

/// What `explain` watches. Live requests are watched by `()`, which costs nothing.
pub trait Observer: Watch + Trace {
    /// The service was chosen.
    fn service(&mut self, _service: &Service) {}
    /// The part was chosen.
    fn part(&mut self, _service: &Service, _part: Part) {}
    /// These limits of the plan are asked this.
    fn limits<F: Fields + ?Sized>(
        &mut self,
        _plan: &Plan,
        _limits: impl Iterator<Item = usize>,
        _asking: &Asking<'_, F>,
    ) {
    }
}

impl Observer for () {}

/// Judges a request.
pub fn judge<'a, F: Fields + ?Sized>(
    plan: &Plan,
    limiter: &Limiter,
    question: &Question<'a, '_, F>,
    scratch: &'a mut Scratch,
    observer: &mut impl Observer,
) -> Judgement<'a> {
    let Scratch { paths, hops, rewrite } = scratch;
    hops.clear();
    let path = path::canonicalise(question.path, paths);
    let missing = || question.missing.unwrap_or_else(|| plan.client.missing());
    let identity = plan.client.resolve_where(question.peer, question.fields, hops, observer, missing);
    let mut judgement = Judgement::begun(identity, hops);
    match path {
        Ok(path) => judgement.path = Some(path),
        // `OPTIONS *` asks about the server as a whole: no path, and no rule that a path could meet.
        Err(_) if question.path == b"*" && question.method == b"OPTIONS" => {}
        Err(_) => return judgement,
    }
    judgement.verdict = enter(plan, limiter, question, &mut judgement, observer);
    if let Ok(Way::In(_)) = judgement.verdict
        && let Some(service) = judgement.service.and_then(|index| plan.services.get(index))
        && let Some(wanted) =
            service.handling(judgement.part.route()).edits.as_ref().and_then(|edits| edits.rewrite.as_ref())
    {
        let path = judgement.path.as_ref().and_then(|path| path.rewritten).unwrap_or(question.path);
        match rewrite::apply(service, judgement.part, wanted, path, rewrite) {
            Ok(sent) => judgement.sent = Some(sent),
            Err(refused) => judgement.verdict = Err(refused),
        }
    }
    judgement.seen = judgement.part;
    if let Err(Refused { deny: Deny::Hidden, .. }) = judgement.verdict {
        judgement.seen = hidden::seen(plan, question, &judgement);
    }
    judgement
}

/// Who asks, without a judgement: for what is answered before one.
pub fn identify<'a, F: Fields + ?Sized>(
    plan: &Plan,
    peer: IpAddr,
    fields: &F,
    scratch: &'a mut Scratch,
) -> Judgement<'a> {
    let hops = &mut scratch.hops;
    hops.clear();
    let identity = plan.client.resolve(peer, fields, hops, &mut ());
    Judgement::begun(identity, hops)
}

/// The part of the judgement that may end early.
fn enter<F: Fields + ?Sized>(
    plan: &Plan,
    limiter: &Limiter,
    question: &Question<'_, '_, F>,
    judgement: &mut Judgement<'_>,
    observer: &mut impl Observer,
) -> Result<Way, Refused> {
    if !plan.aggregates.is_empty()
        && let Some(index) = aggregates::find(plan, question, judgement)
    {
        return aggregates::judge(plan, index, question, judgement, observer);
    }
    if question.probes_only {
        return probes::enter(plan, question, judgement, observer);
    }
    let index = plan.hosts.find(question.host).ok_or(Reason::HostUnknown)?;
    let service = plan.services.get(index).ok_or(Reason::HostUnknown)?;
    judgement.service = Some(index);
    observer.service(service);
    if question.showing.handshake.is_some_and(|handshake| is_misdirected(plan, index, handshake)) {
        return Err(Reason::HostMisdirected.into());
    }

    // `OPTIONS *` is about all of the service: what guards its root guards that.
    let (path, readings) =
        judgement.path.as_ref().map_or((&b"/"[..], [None; 2]), |path| (path.path, [path.folded, path.cut]));
    judgement.part = part(service, path);
    // A spelling that a server behind us could read as another part of the service is not let through on the strength of one
    // reading (D16).
    let mut others = readings.into_iter().flatten().map(|reading| part(service, reading));
    let other = others.find(|other| *other != judgement.part).or_else(|| probe_behind_slash(service, path));
    if let Some(other) = other {
        let denies = [deny(service, judgement.part), deny(service, other)];
        let deny = denies.into_iter().find(|deny| *deny != Deny::Forbidden).unwrap_or_default();
        return Err(Refused { reason: Reason::PathAmbiguous, deny });
    }
    observer.part(service, judgement.part);
    if !matches!(judgement.part, Part::Probe(_))
        && let Some(gate) = question.bans
    {
        judgement.banned = gate.find(plan, index, &judgement.identity, question.now.unix);
        if let Some(hit) = judgement.banned.filter(|hit| !hit.shadow) {
            return Err(Refused { reason: Reason::Banned, deny: hit.deny });
        }
    }
    // A client that is sent to HTTPS is asked there. Probes have rules of their own.
    if question.redirect.is_none() && !matches!(judgement.part, Part::Probe(_)) {
        demand(service, question.showing)?;
    }

    let facts = question.facts(&judgement.identity);
    let (rule, limits) = match judgement.part {
        Part::Probe(index) => return probes::judge(service, index, question.method, &facts, observer),
        Part::Route(index) => {
            let route = service.routes.get(index).ok_or(Reason::PathInvalid)?;
            (Some(&route.allow), route.limits.as_slice())
        }
        Part::Rest | Part::Aggregate(_) => (None, &[][..]),
    };
    let way = match (question.redirect, rule) {
        // No rule is asked: the answer would tell strangers what is guarded, and the request comes again.
        (Some(port), _) => Ok(Way::Https(port)),
        (None, Some(rule)) => rule.judge(&facts, observer).map(Way::In),
        (None, None) => Rule::anyone().judge(&facts, &mut ()).map(Way::In),
    };
    // Refused requests count as well: whoever guesses tokens is limited like everybody else.
    // A limit that the service and the route name counts once.
    let added = limits.iter().filter(|limit| !service.limits.contains(limit));
    let limits = service.limits.iter().chain(added).copied();
    let handshake = question.showing.handshake;
    let asking = Asking {
        method: question.method,
        path: readings[0].unwrap_or(path),
        query: question.query,
        host: question.host,
        fields: question.fields,
        identity: &judgement.identity,
        service: &service.name,
        route: judgement
            .part
            .route()
            .and_then(|index| service.routes.get(index))
            .map_or("", |route| route.path.as_str()),
        token: way.as_ref().ok().and_then(Way::slot),
        certificate: handshake
            .filter(|shown| shown.certificate.is_some_and(|sets| sets != 0))
            .and_then(|shown| shown.subject),
        goes_in: matches!(way, Ok(Way::In(_))),
        now: question.now,
        worker: question.worker,
    };
    observer.limits(plan, limits.clone(), &asking);
    let Admission { limited, pending } = limiter.admit(plan, limits, &asking);
    (judgement.limited, judgement.pending) = (limited, pending);
    if let Some(limited) = judgement.limited.filter(|limited| !limited.decision.admitted) {
        let denied = way.is_err().then(|| deny(service, judgement.part));
        let seen = if denied == Some(Deny::Hidden) { hidden::seen(plan, question, judgement) } else { judgement.part };
        let reason = plan.limits.get(limited.limit).map_or(Reason::LimitExceeded, Limit::reason);
        return Err(hidden::by_limit(service, seen, denied, reason, Some(limited.limit)));
    }
    if matches!(way, Ok(Way::Https(_))) && question.host.is_empty() {
        // HTTP/1.0 without a host: there is no place to send the client to.
        return Err(Reason::HostMissing.into());
    }
    way.map_err(|refusal| Refused { reason: refusal.into(), deny: deny(service, judgement.part) })
}

/// Which part of the service a path belongs to.
pub(super) fn part(service: &Service, path: &[u8]) -> Part {
    match service.probes.iter().position(|probe| probe.path.as_bytes() == path) {
        Some(index) => Part::Probe(index),
        None => service.route_table.find(path).map_or(Part::Rest, Part::Route),
    }
}

/// Many servers answer `/readyz/` as `/readyz`: neither a probe here nor safe to pass on.
pub(super) fn probe_behind_slash(service: &Service, path: &[u8]) -> Option<Part> {
    let cut = path.strip_suffix(b"/")?;
    service.probes.iter().position(|probe| probe.path.as_bytes() == cut).map(Part::Probe)
}

/// What strangers see of a part.
pub(super) fn deny(service: &Service, part: Part) -> Deny {
    match part {
        Part::Probe(index) => service.probes.get(index).map(|probe| probe.deny),
        Part::Route(index) => service.routes.get(index).map(|route| route.deny),
        Part::Rest | Part::Aggregate(_) => None,
    }
    .unwrap_or_default()
}
