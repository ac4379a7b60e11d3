//! What outlives requests: the active plan with everything that hangs on it, the metrics, and whether the gateway is going down.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use probegate_policies::limit::{Seed, Table};
use probegate_policies::now::Now;

use crate::acme::Acme;
use crate::admin;
use crate::aggregates::Aggregates;
use crate::bans::{Bans, Gate};
use crate::clients::Clients;
use crate::draws;
use crate::health::Reports;
use crate::limiter::Limiter;
use crate::plan::Plan;
use crate::reload::Reloads;
use crate::servers::Servers;
use crate::shields::Shields;
use crate::slots::Slots;
use crate::spool::Budget;
use crate::store::Store;
pub use crate::switches::InMaintenance;
use crate::switches::{InSlots, Maintenance, Switches, Turned};
use crate::switching::Runs;
use crate::telemetry::access_log::AccessLogger;
use crate::telemetry::history::History;
use crate::telemetry::metrics::{LimitStats, Metrics, ServiceStats};
use crate::tls::server::{Failed, Listener, Prepared};
use crate::tls::{self, Shared};
use crate::versions::Versions;

/// Clients whose answers may be held back at a time; beyond it, those that have waited least are forgotten.
const LINES: usize = 1 << 16;

/// A plan in force.
#[derive(Debug)]
pub struct Active {
    /// The plan.
    pub plan: Plan,
    /// Its limits with their tables.
    pub limiter: Limiter,
    /// Where its shared limits are counted; `None`: it has none.
    pub store: Option<Arc<Store>>,
    /// What is known about the servers of its services, in the plan's order.
    pub servers: Vec<Arc<Servers>>,
    /// Counters of its services, in the plan's order; a service keeps its counters over reloads.
    pub stats: Vec<Arc<ServiceStats>>,
    /// Counters of its limits, in the plan's order.
    pub limited: Vec<Arc<LimitStats>>,
    /// Who is kept out.
    pub bans: Gate,
    /// The shields before its probes.
    pub shields: Shields,
    /// What apps have said to its probes, by service and probe in the plan's order; `None`: the gateway answers.
    pub histories: Vec<Vec<Option<Arc<History>>>>,
    /// What is known about the services of its aggregates.
    pub aggregates: Aggregates,
    /// TLS on its listeners, in the plan's order.
    pub tls: Vec<Option<Arc<Listener>>>,
    /// Whether its services are in maintenance, in the plan's order.
    maintenance: Vec<Arc<Maintenance>>,
}

impl Active {
    /// Whether the service with this index is in maintenance. One load.
    #[inline]
    pub fn in_maintenance(&self, service: usize) -> Option<InMaintenance> {
        self.maintenance.get(service)?.get()
    }

    /// TLS on the listener that is configured as `address`; `None`: it speaks none.
    pub fn secured(&self, address: SocketAddr) -> Option<&Arc<Listener>> {
        let index = self.plan.listeners.iter().position(|listener| listener.address == address)?;
        self.tls.get(index)?.as_ref()
    }
}

/// Shared by all threads of the gateway.
#[derive(Debug)]
pub struct State {
    active: ArcSwap<Active>,
    /// Counts plans, so that workers notice a new one by comparing a number.
    generation: AtomicU64,
    /// The gateway is going down: its own readiness fails.
    draining: AtomicBool,
    /// The listeners are closed as well.
    closing: AtomicBool,
    /// What still runs is given up.
    cutting: AtomicBool,
    /// A new process has the listening sockets.
    handed_over: AtomicBool,
    /// All listeners are bound and the workers run.
    ready: AtomicBool,
    /// Counters.
    pub metrics: Metrics,
    /// What bodies that wait hold.
    pub spools: Arc<Budget>,
    /// Who has connections open.
    pub clients: Clients,
    /// The lines that answers to the same client share.
    pub lines: Table,
    /// Certificates that are ordered.
    pub acme: Acme,
    /// What active checks have found.
    pub health: Reports,
    /// What people have turned on or off.
    pub switches: Switches,
    /// What is counted of slots.
    pub slots: Slots,
    /// Switches from one slot to another that go on.
    pub runs: Runs,
    /// Who is kept out, and by whom.
    pub bans: Bans,
    /// The Unix socket of the admin listener.
    pub admin_path: Mutex<Option<admin::Bound>>,
    /// Reloads, for those who ask for one.
    pub reloads: Reloads,
    /// Which text the configuration in force was.
    digest: ArcSwap<String>,
    file: OnceLock<PathBuf>,
    /// Where access-log lines go.
    pub access_log: AccessLogger,
    /// The zero of [`Now::nanos`].
    origin: Instant,
    seed: Seed,
    /// What is known about the versions of servers.
    pub versions: Versions,
    /// Certificates, and what resumes sessions.
    pub tls: Shared,
}

impl State {
    /// The state around a first plan. `seed` keeps clients from aiming at each other's place in the tables.
    ///
    /// # Errors
    /// A certificate can not be read or used.
    pub fn new(plan: Plan, seed: Seed, access_log: AccessLogger) -> Result<Arc<Self>, Failed> {
        let (metrics, tls) = (Metrics::new(plan.workers), Shared::default());
        let listeners = tls::server::prepare(&plan, &tls)?.commit(&tls);
        let switches = Switches::load(&plan.storage);
        let bans = Bans::load(&plan.storage, seed);
        let (slots, origin) = (Slots::default(), metrics.origin);
        let active = activate(plan, listeners, None, &seed, &metrics, (&switches, &bans, &slots), origin);
        Ok(Arc::new(Self {
            active: ArcSwap::from_pointee(active),
            generation: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            cutting: AtomicBool::new(false),
            handed_over: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            metrics,
            spools: Arc::default(),
            clients: Clients::default(),
            lines: Table::new(LINES, seed),
            acme: Acme::default(),
            health: Reports::default(),
            switches,
            slots,
            runs: Runs::default(),
            bans,
            admin_path: Mutex::default(),
            reloads: Reloads::default(),
            digest: ArcSwap::default(),
            file: OnceLock::new(),
            access_log,
            origin,
            seed,
            versions: Versions::default(),
            tls,
        }))
    }

    /// The plan in force.
    pub fn active(&self) -> Arc<Active> {
        self.active.load_full()
    }

    /// Which text the configuration in force was: its SHA-256 in hexadecimal; empty: nobody said.
    pub fn digest(&self) -> Arc<String> {
        self.digest.load_full()
    }

    /// The configuration in force was this text.
    pub fn set_digest(&self, digest: String) {
        self.digest.store(Arc::new(digest));
    }

    /// Where configurations are read; `None`: nowhere.
    pub fn file(&self) -> Option<&Path> {
        self.file.get().map(PathBuf::as_path)
    }

    /// Configurations are read there. Once.
    pub fn set_file(&self, path: &Path) {
        self.file.set(std::path::absolute(path).unwrap_or_else(|_| path.to_owned())).ok();
    }

    /// Grows whenever a plan is swapped in.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Puts a new plan in force. Requests that run keep the one they began with.
    pub fn swap(&self, plan: Plan, prepared: Prepared) {
        let before = self.active.load_full();
        let listeners = prepared.commit(&self.tls);
        let kept = (&self.switches, &self.bans, &self.slots);
        let active = activate(plan, listeners, Some(&before), &self.seed, &self.metrics, kept, self.origin);
        self.active.store(Arc::new(active));
        // Whatever was switched meanwhile was told to the servers of the plan before.
        self.apply_drains();
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Tells the servers of the plan in force which of them are drained, and how requests are split between their slots.
    pub fn apply_drains(&self) {
        let active = self.active.load();
        apply_drains(&active, &self.switches);
        self.switches.with_slots(|kept| {
            for (service, servers) in active.plan.services.iter().zip(&active.servers) {
                if let (Some(slots), Some(split)) = (&service.upstream.slots, servers.split()) {
                    split.set(kept(&service.name).share(slots));
                }
            }
        });
    }

    /// Keeps what is known about the slots of a service from now on, for requests first. Whoever calls this has leave to
    /// ([`Switches::hold`]).
    pub fn keep_slots(&self, service: &str, to: InSlots) -> Turned {
        self.switches.keep_slots(service, to, |kept| {
            let active = self.active.load();
            let mut services = active.plan.services.iter().zip(&active.servers);
            if let Some((service, servers)) = services.find(|(known, _)| &*known.name == service)
                && let (Some(slots), Some(split)) = (&service.upstream.slots, servers.split())
            {
                split.set(kept.share(slots));
            }
        })
    }

    /// Whether everything is bound and running, or was.
    pub fn is_open(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Everything is bound and running.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Whether the gateway is going down.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether the gateway is going down, and no new process takes its place.
    pub fn is_ending(&self) -> bool {
        self.is_draining() && !self.is_handed_over()
    }

    /// From now on the gateway is going down.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether no new connection is accepted any more.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// From now on no new connection is accepted.
    pub fn start_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether nothing is waited for any more: every deadline has passed.
    #[inline]
    pub fn is_cutting(&self) -> bool {
        self.cutting.load(Ordering::Acquire)
    }

    /// From now on nothing is waited for.
    pub fn start_cutting(&self) {
        self.cutting.store(true, Ordering::Release);
    }

    /// Whether a new process answers on the admin listener.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }

    /// Whether what is kept on the disk is this process's to write: it has taken over or was alone, and no other has taken over from it.
    pub fn is_in_charge(&self) -> bool {
        self.is_open() && !self.is_handed_over()
    }

    /// A new process has taken over.
    pub fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Release);
    }

    /// The time as the policies want it, from one reading of the monotonic clock. The wall clock is read with it.
    #[inline]
    pub fn now(&self, instant: Instant) -> Now {
        let nanos = instant.saturating_duration_since(self.origin).as_nanos();
        Now { nanos: u64::try_from(nanos).unwrap_or(u64::MAX).max(1), unix: unix_time() }
    }

    /// What keeps clients from aiming at each other's place in the tables.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// The zero of the monotonic clock.
    pub fn origin(&self) -> Instant {
        self.origin
    }
}

/// Seconds since the Unix epoch; 0 where the clock stands before it.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn activate(
    plan: Plan,
    tls: Vec<Option<Arc<Listener>>>,
    before: Option<&Active>,
    seed: &Seed,
    metrics: &Metrics,
    (switches, bans, slots): (&Switches, &Bans, &Slots),
    origin: Instant,
) -> Active {
    let limiter = Limiter::new(&plan, metrics.workers(), before.map(|before| (&before.plan, &before.limiter)), seed);
    let limiter = limiter.drawing(|draw| draws::keep(draw, &plan));
    let store = Store::new(plan.limit_store.as_ref(), before.and_then(|before| before.store.as_ref()));
    // First, as it forgets what the configuration says as well.
    let maintenance = switches.attach(&plan);
    let splits = slots.attach(&plan, |service, slots| switches.slots(service).share(slots));
    let servers = plan.services.iter().zip(splits).map(|(service, split)| {
        let earlier =
            before.and_then(|before| before.servers.iter().find(|servers| *servers.service() == *service.name));
        Servers::new(
            &service.name,
            &service.upstream,
            earlier.map(|earlier| &**earlier),
            split,
            origin,
            metrics.workers(),
        )
    });
    let shields = Shields::new(&plan, before.map(|before| (&before.plan, &before.shields)), metrics, origin);
    let aggregates = Aggregates::new(&plan, before.map(|before| (&before.plan, &before.aggregates)));
    let servers = servers.collect();
    let histories = metrics.histories.attach(&plan);
    let stats = plan.services.iter().map(|service| metrics.service(&service.name)).collect();
    let limited = plan.limits.iter().map(|limit| metrics.limit(&limit.name)).collect();
    let bans = bans.attach(&plan, unix_time());
    let active = Active {
        plan,
        limiter,
        store,
        servers,
        stats,
        limited,
        bans,
        shields,
        histories,
        aggregates,
        tls,
        maintenance,
    };
    apply_drains(&active, switches);
    for servers in active.servers.iter().filter(|servers| servers.sites().iter().all(|site| site.state.is_drained())) {
        tracing::warn!(service = servers.service(), "every server is drained: nobody answers");
    }
    active
}

fn apply_drains(active: &Active, switches: &Switches) {
    // Under one lock, so that whoever comes later tells what is newer.
    switches.with_drained(|is_drained| {
        for servers in &active.servers {
            for (index, site) in servers.sites().iter().enumerate() {
                servers.set_drained(index, is_drained(servers.service(), &site.label));
            }
        }
    });
}
