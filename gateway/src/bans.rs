//! Clients that are kept out: by the policies of a plan, and by people. Both outlive plans and, in a file, processes.
//!
//! Invariant: whoever may never be banned ([`Gate::exempt`]) is not counted either, and comes out when a new plan says so. What a request looks at
//! ([`Gate::find`]) has no lock; what it writes when it offends has one that nobody waits for; the file is written by a thread of its own.

pub mod exchange;
pub mod file;
mod gate;
mod heard;
mod jail;
pub mod keeper;
mod letter;
mod lifts;
pub mod outbox;
mod own;
mod telling;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use std::{io, thread};

use arc_swap::ArcSwap;
use probegate_policies::ban::{Cause, Client, Clock};
use probegate_policies::ip::IpSet;
use probegate_policies::limit::Seed;

pub use gate::{Exempt, Gate, Hit};
pub use jail::{Jail, JailStats, LONGEST};
pub use outbox::{Change, Outbox};

use crate::plan::{BY_HAND, Plan};
use file::Written;
use lifts::Lifts;

/// What people wait for the disk. Whoever asks the admin listener whether it is alive waits for as long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Threads that write for people at the same time.
const WRITERS: usize = 8;

/// All bans.
#[derive(Debug)]
pub struct Bans {
    kept: Mutex<Kept>,
    by_hand: Arc<Jail>,
    shared: Arc<Shared>,
    /// Of all bans and lifts.
    clock: Arc<Clock>,
    /// The change that the file knows of; locked while it is written.
    written: Arc<Mutex<u64>>,
    seed: Seed,
}

/// What requests that offend touch.
#[derive(Debug, Default)]
struct Shared {
    /// The addresses of this machine.
    own: ArcSwap<IpSet>,
    /// Grows whenever there is something to be written down.
    changes: AtomicU64,
    /// What other gateways are to hear of.
    outbox: Outbox,
    /// Who was let in, for gateways that have not heard of it. Locked after what is kept, and before books.
    lifts: Mutex<Lifts>,
}

impl Shared {
    fn lifts(&self) -> MutexGuard<'_, Lifts> {
        self.lifts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is locked when plans change, when people ask, and when the file is written.
#[derive(Debug, Default)]
struct Kept {
    /// By name.
    jails: BTreeMap<Box<str>, Arc<Jail>>,
    /// How many bans each name has pronounced, and the like: a policy that comes back goes on.
    stats: BTreeMap<Box<str>, Arc<JailStats>>,
    folder: PathBuf,
    /// What the file says about policies, for the first plan; `None`: there was one.
    unread: Option<Written>,
    /// The file is there, and nobody could read it: it is put aside before another one is written.
    unreadable: bool,
}

impl Bans {
    /// Those that `folder` holds.
    pub fn load(folder: &Path, seed: Seed) -> Self {
        let clock = Arc::default();
        let bans = Self {
            kept: Mutex::new(Kept { unread: Some(Written::default()), ..Kept::default() }),
            by_hand: Arc::new(Jail::by_hand(&clock, seed)),
            shared: Arc::new(Shared { lifts: Mutex::new(Lifts::new(Arc::clone(&clock))), ..Shared::default() }),
            clock,
            written: Arc::default(),
            seed,
        };
        bans.look_around();
        bans.read_again(folder, crate::state::unix_time());
        bans
    }

    /// Takes over what another process has written to `folder` meanwhile, and nothing else: that one may have lifted what was read before. `now` in
    /// seconds since the epoch.
    pub fn read_again(&self, folder: &Path, now: u64) {
        let mut kept = self.kept();
        folder.clone_into(&mut kept.folder);
        match file::read(folder) {
            Ok(mut written) => {
                written.set_back(now);
                // What was written while it was lifted.
                for (client, at) in std::mem::take(&mut written.lifts) {
                    self.shared.lifts().lift(client, at, now);
                }
                written.retain(|client, ban| self.shared.lifts().at(client, now) < Some(ban.since));
                take_over(&self.by_hand, std::mem::take(&mut written.by_hand), now);
                for (name, jail) in &kept.jails {
                    take_over(jail, written.of(name, jail.is_shadow()), now);
                }
                if let Some(unread) = &mut kept.unread {
                    *unread = written;
                }
                kept.unreadable = false;
            }
            Err(error) => {
                kept.unreadable = true;
                let path = file::path(folder);
                tracing::warn!(path = %path.display(), %error, "bans can not be read: nobody is banned");
            }
        }
    }

    /// The bans of a plan. Whoever is banned by a policy that stays is banned on, unless the plan says that it may not be.
    pub fn attach(&self, plan: &Plan, now: u64) -> Gate {
        let mut kept = self.kept();
        kept.folder.clone_from(&plan.storage);
        let mut jails = BTreeMap::new();
        let mut unread = kept.unread.take().unwrap_or_default();
        let Kept { jails: before, stats, .. } = &mut *kept;
        for policy in &plan.bans {
            let stats = Arc::clone(stats.entry(policy.name.clone()).or_default());
            let earlier = before.get(&policy.name).filter(|jail| jail.is_shadow() == policy.shadow);
            let jail = Jail::new(policy, earlier.map(|jail| &**jail), stats, &self.clock, self.seed, now);
            if earlier.is_none() {
                jail.restore(unread.of(&policy.name, policy.shadow), now);
                if policy.shadow {
                    tracing::info!(policy = &*policy.name, "bans are tried only: nobody is kept out (`mode: shadow`)");
                }
            }
            jails.insert(policy.name.clone(), Arc::new(jail));
        }
        let of_plan = plan.bans.iter().filter_map(|policy| jails.get(&policy.name).map(Arc::clone)).collect();
        let gate = Gate::new(of_plan, Arc::clone(&self.by_hand), Arc::clone(&self.shared));
        gate.release(plan);
        // What an earlier plan had and this one has not is gone with the next line that is written.
        kept.jails = jails;
        self.shared.changes.fetch_add(1, Ordering::Relaxed);
        gate
    }

    /// Those that people have pronounced.
    pub fn by_hand(&self) -> &Jail {
        &self.by_hand
    }

    /// Looks for the addresses of this machine. Whether there are others than before.
    pub fn look_around(&self) -> bool {
        match own::addresses() {
            Ok(set) => {
                let set = Arc::new(set);
                self.shared.own.swap(Arc::clone(&set)) != set
            }
            Err(error) => {
                tracing::warn!(%error, "the addresses of this machine are not known: they could be banned");
                false
            }
        }
    }

    /// Ends what is over.
    pub fn expire(&self, now: u64) {
        self.clock.pass(now);
        // One that is waited for here must not keep others from being asked.
        self.jails().iter().for_each(|jail| jail.expire(now));
        if self.clock.was_set_back() {
            // Else, the next start would find the ends of a clock that was ahead, and others would never hear of bans that began then.
            self.changed();
            self.shared.outbox.tell_all();
        }
    }

    /// What other gateways are to hear of.
    pub fn outbox(&self) -> &Outbox {
        &self.shared.outbox
    }

    /// Somebody bans a client, for so many seconds from `now` on.
    pub fn ban(&self, client: Client, cause: Cause, seconds: u64, now: u64) {
        let lifts = self.shared.lifts();
        let ban = self.by_hand.ban(client, cause, seconds, lifts.at(client, now), now);
        drop(lifts);
        self.shared.outbox.put(|| Change::Ban { policy: BY_HAND.into(), shadow: false, client, ban });
        self.changed();
    }

    /// Something was changed that the file is to know.
    fn changed(&self) {
        self.shared.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes them, if the file does not know them yet. On a disk that hangs, it hangs as well.
    ///
    /// # Errors
    /// The file stays as it was.
    pub fn write(&self) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.shared.changes.load(Ordering::Relaxed);
        if *written == number {
            return Ok(());
        }
        let (folder, text) = {
            let kept = self.kept();
            let jails = kept.jails.iter().map(|(name, jail)| (name.clone(), (jail.is_shadow(), jail.written())));
            let lifts = self.shared.lifts().known(crate::state::unix_time());
            (kept.folder.clone(), Written { policies: jails.collect(), by_hand: self.by_hand.written(), lifts })
        };
        if text.is_empty() && !file::path(&folder).exists() {
            *written = number;
            return Ok(());
        }
        if self.kept().unreadable {
            file::put_aside(&folder)?;
            self.kept().unreadable = false;
        }
        file::write(&folder, &text)?;
        *written = number;
        Ok(())
    }

    /// Lifts a client's bans, and forgets what it did; `None`: everybody's. How many were in force.
    pub fn lift(&self, client: Option<Client>, now: u64) -> usize {
        self.clock.pass(now);
        // Of bans by clocks that are ahead, and of those that follow another lift, later than they are.
        let at = self.jails().iter().map(|jail| jail.latest(client)).fold(now, u64::max);
        // It is kept until others have heard of it, whatever happens to the store or this process, and in case that bans are shared later.
        self.shared.lifts().lift(client, at, now);
        let lifted = self.lift_before(client, at, now);
        self.shared.outbox.put(|| Change::Lift { client, at });
        self.changed();
        lifted
    }

    /// All of them.
    fn jails(&self) -> Vec<Arc<Jail>> {
        self.kept().jails.values().chain([&self.by_hand]).map(Arc::clone).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts these bans in the place of those that are in a jail. Whoever is among them is not let in for a moment.
fn take_over(jail: &Jail, bans: file::Clients, now: u64) {
    let stay: HashSet<Client> = bans.iter().map(|(client, _)| *client).collect();
    jail.lift_where(|client| !stay.contains(&client), now);
    jail.restore(bans, now);
}

/// Writes them by a thread of its own, and says why they are not written (yet).
pub fn save(bans: impl Fn() -> io::Result<()> + Send + 'static) -> Option<String> {
    // Those that hang on a disk stay until it answers, however often people ask.
    static WRITING: AtomicUsize = AtomicUsize::new(0);
    if WRITING.fetch_add(1, Ordering::Relaxed) >= WRITERS {
        WRITING.fetch_sub(1, Ordering::Relaxed);
        return Some("the disk does not answer".to_owned());
    }
    let (tell, told) = mpsc::channel();
    let write = move || {
        let written = bans();
        WRITING.fetch_sub(1, Ordering::Relaxed);
        // Nobody may wait any more.
        tell.send(written).ok();
    };
    match thread::Builder::new().name("bans".to_owned()).spawn(write) {
        Err(error) => {
            WRITING.fetch_sub(1, Ordering::Relaxed);
            Some(error.to_string())
        }
        Ok(_) => match told.recv_timeout(PATIENCE) {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the disk does not answer".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests;
