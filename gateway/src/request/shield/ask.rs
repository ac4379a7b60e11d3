//! The ask itself: a task of its own, which puts the gateway's own question to the app and tells everybody who waits how that ended.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use probegate_policies::access::Permit;
use probegate_policies::client::{Hops, Identity, Unknown, UnknownReason};
use probegate_policies::forwarded::UNKNOWN_CLIENT;
use probegate_policies::host::parse_authority;
use probegate_policies::path::{self, Scratch};
use probegate_policies::reason::Reason;

use super::keeper::{Keeper, Nothing};
use crate::connection::Facts;
use crate::plan::Serve;
use crate::request::Received;
use crate::request::exchange::{self, Exchanged, Tools};
use crate::request::judge::{Judgement, Part};
use crate::request::prepare::Case;
use crate::request::remember;
use crate::request::target::Target;
use crate::shields::{Asked, Flying, Landed, Question, Source};
use crate::state::Active;
use crate::wire::head::ResponseHead;
use crate::wire::{self, buffer::Buffer};
use crate::worker::Worker;

/// The first size of the buffer for the answer.
const BUFFER: usize = 16 * 1024;

/// Everything that an ask needs and that its client may take away.
struct Ask {
    permit: Permit,
    flying: Flying,
    worker: Rc<Worker>,
    #[expect(clippy::redundant_allocation, reason = "as in `Worker::active`")]
    active: Rc<Arc<Active>>,
    service: usize,
    probe: usize,
    question: Question,
    id: [u8; 32],
    local: SocketAddr,
    listener: Rc<SocketAddr>,
    settles: bool,
}

/// Has the app asked. `false`: it can not be for everybody, because the request belongs to a plan that is not in force any more. That tells
/// nothing about the app: whoever asks next begins anew.
pub(super) fn start(
    permit: Permit,
    flying: Flying,
    worker: &Worker,
    case: &Case<'_>,
    question: &Question,
    settles: bool,
) -> bool {
    let (Some(service), Part::Probe(probe)) = (case.judgement.service, case.judgement.part) else {
        flying.cancel();
        return false;
    };
    begin(permit, flying, worker, case.active, (service, probe), question, settles, case.id, case.received.facts)
}

/// The same for the probe with these indices. `settles`: as in [`History::add`](crate::telemetry::history::History::add). `id` and `facts` are those of the request for which it begins.
#[expect(clippy::too_many_arguments, reason = "what a task of its own needs, and cannot borrow")]
pub fn begin(
    permit: Permit,
    flying: Flying,
    worker: &Worker,
    asked_under: &Active,
    (service, probe): (usize, usize),
    question: &Question,
    settles: bool,
    id: &[u8; 32],
    facts: &Facts,
) -> bool {
    let active = worker.active();
    let is_in_force = std::ptr::eq(&raw const **active, std::ptr::from_ref(asked_under));
    let (Some(worker), true) = (worker.handle(), is_in_force) else {
        flying.cancel();
        return false;
    };
    let ask = Ask {
        permit,
        flying,
        worker,
        active,
        service,
        probe,
        question: question.clone(),
        id: *id,
        local: SocketAddr::new(facts.local, facts.local_port),
        listener: Rc::clone(&facts.listener),
        settles,
    };
    tokio::task::spawn_local(run(ask));
    true
}

async fn run(ask: Ask) {
    let Ask { permit, flying, worker, active, service: at, probe: index, question, id, local, listener, settles } = ask;
    let Some((service, servers)) = active.plan.services.get(at).zip(active.servers.get(at)) else { return };
    let Some(Serve::Forward(probe)) = service.probes.get(index).map(|probe| &probe.serve) else { return };
    let gone = servers.gone();

    let fields: [(&str, &[u8]); 3] =
        [("Host", &question.host), ("User-Agent", b"probegate"), ("Accept", &question.accept)];
    let Some((head, text)) = wire::own::request(&[probe.path.as_bytes(), &question.query].concat(), &fields) else {
        debug_assert!(false, "the question is not one");
        return;
    };
    let asked = Target {
        path: probe.path.as_bytes(),
        query: &question.query,
        authority: &question.host,
        host: parse_authority(&question.host).map_or(b"", |authority| authority.host),
        port: parse_authority(&question.host).ok().and_then(|authority| authority.port),
    };
    let nobody = IpAddr::V4(UNKNOWN_CLIENT);
    let facts = Facts::plain(SocketAddr::new(nobody, 0), local, listener);
    let received = Received {
        head: &head,
        bytes: &text,
        broken: None,
        asks_upgrade: false,
        demands_upgrade: false,
        started: Instant::now(),
        complete: Instant::now(),
        at: Duration::ZERO,
        facts: &facts,
        ended: None,
    };
    let mut scratch = Scratch::default();
    let judgement = Judgement {
        identity: Identity::Unknown(Unknown { reason: UnknownReason::Missing, peer: nobody }),
        hops: &Hops::default(),
        path: path::canonicalise(asked.path, &mut scratch).ok(),
        sent: None,
        service: Some(at),
        part: Part::Probe(index),
        seen: Part::Probe(index),
        limited: None,
        pending: None,
        banned: None,
        verdict: Err(Reason::Panicked.into()),
    };
    let case = Case {
        active: &active,
        received: &received,
        asked: &asked,
        judgement: &judgement,
        id: &id,
        service,
        servers,
        handling: service.handling(None),
        budget: &worker.state.spools,
        pipes: &worker.pipes,
        state: &worker.state,
        expects: false,
    };
    let (mut out, mut buffer, mut response) = (Vec::new(), Buffer::new(BUFFER), ResponseHead::default());
    let deadline = worker.deadlines.slot();
    let mut tools = Tools { pools: &worker.pools, deadline: &deadline, buffer: &mut buffer, response: &mut response };
    let mut keeper = Keeper::default();
    flying.departs();
    let exchanged = exchange::run(permit, &case.probe(probe, &mut out), &mut tools, &mut Nothing, &mut keeper).await;
    let Exchanged { server, status, answered, sent, failed, .. } = exchanged;
    if matches!(status, Some(401 | 403)) && failed.is_none() {
        // Once for each answer that is kept, not for each client that gets it.
        tracing::warn!(
            service = &*service.name,
            probe = service.probes.get(index).map(|probe| probe.kind.name()),
            status,
            "the app refuses a probe: where it lets clients in itself, write `cache: off`"
        );
    }
    let landed = match (failed, keeper.overflowed) {
        (_, true) => Landed::Large,
        (Some(_), _) if worker.state.is_cutting() => Landed::Silence(Reason::ShuttingDown),
        (Some(reason), _) => Landed::Silence(reason),
        (None, _) => {
            keeper.kept().map_or(Landed::Silence(Reason::UpstreamInvalid), |kept| Landed::Answer(Arc::new(kept)))
        }
    };
    let asked = Asked { server, status, answered, sent };
    let reason = if let Landed::Silence(reason) = &landed { Some(*reason) } else { None };
    // An ask that was cut off because this process ends tells nothing about the app.
    let settles = settles && reason != Some(Reason::ShuttingDown);
    remember::probe_heard(&active, (at, index), &asked, reason, received.started, (Source::Miss, settles));
    flying.land(landed, asked, gone);
}
