//! Certificate files are looked at once in a while, by a thread beside the workers. A changed pair is read, checked and swapped in; a
//! broken one leaves everything as it was and says so, once for each change.
//!
//! Contents are compared, not times: symbolic links are followed, and it makes no difference how files come to be replaced. Chain and
//! key are two files and change one after the other, so a change counts once it has stayed the same for two looks. A pair that is not
//! valid yet is looked at again when it is; one that gives up the name that is shown by default, when another one carries it: two
//! that are renewed together may come in any order.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Shared;
use super::fresh::{self, Stale};
use super::pem::{self, LARGEST};
use super::server::{Failed, load, tell_of};
use super::store::{Id, Store};
use crate::config::read_file;
use crate::plan::{Certificate, Plan};
use crate::state::{State, unix_time};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(700);

/// Starts the thread. It ends with the state.
///
/// # Errors
/// The system gives no thread.
pub fn start(state: &Arc<State>) -> io::Result<()> {
    let state = Arc::downgrade(state);
    std::thread::Builder::new().name("certificates".to_owned()).spawn(move || run(&state)).map(drop)
}

fn run(state: &Weak<State>) {
    let mut watch = Watch::default();
    loop {
        std::thread::sleep(LOOK);
        let Some(state) = state.upgrade() else { return };
        watch.look(&state.active().plan, &state.tls, unix_time());
    }
}

#[derive(Debug, Default)]
struct Watch {
    seen: HashMap<Id, Seen>,
}

/// What was found in the files of a certificate, as numbers.
#[derive(Debug)]
struct Seen {
    /// What was acted on.
    settled: Option<u64>,
    /// At the last look.
    last: u64,
    /// Why that was refused, where it may be taken later.
    refused: Option<Stale>,
}

/// A pair of files that a look has to do with.
struct Pair<'a> {
    id: Id,
    files: (&'a Path, &'a Path),
    /// The contents have changed.
    is_new: bool,
    standing: Standing,
    /// Why they were refused at this look.
    failed: Option<Failed>,
}

/// What has become of a pair.
enum Standing {
    /// Nobody has tried it.
    Untried,
    /// It was refused, and may be taken when this is over.
    Waits(Stale),
    /// It is in force, or never will be.
    Settled,
}

impl Watch {
    fn look(&mut self, plan: &Plan, shared: &Shared, now: u64) {
        let mut pairs = self.pairs(plan);
        // Again after every pair that was installed: it may carry what another one gives up. Each is installed once at most.
        while round(&mut pairs, plan, shared, now) {}
        for Pair { id, is_new, standing, failed, .. } in pairs {
            let Some(seen) = self.seen.get_mut(&id) else { continue };
            let refused = if let Standing::Waits(stale) = standing { Some(stale) } else { None };
            if let Some(error) = failed
                && (is_new || seen.refused != refused)
            {
                shared.reload_failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!("changed certificate refused, the one before stays in force: {error}");
            }
            seen.refused = refused;
        }
    }

    /// The pairs whose contents have changed and stayed the same, and those that may be taken later than they changed.
    fn pairs<'a>(&mut self, plan: &'a Plan) -> Vec<Pair<'a>> {
        let certificates = plan.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        // In an order of their own, and each once: listeners may share them.
        let certificates: BTreeMap<_, _> = certificates
            .flat_map(|tls| &tls.certificates)
            .filter_map(|certificate| match certificate {
                Certificate::Files { cert, key } => Some((Id::of(certificate), (cert.as_path(), key.as_path()))),
                Certificate::Acme(_) => None,
            })
            .collect();
        self.seen.retain(|id, _| certificates.contains_key(id));
        let mut pairs = Vec::new();
        for (id, files) in certificates {
            let found = fingerprint(files.0, files.1);
            let seen = self.seen.entry(id.clone()).or_insert(Seen { settled: None, last: found, refused: None });
            let stays = std::mem::replace(&mut seen.last, found) == found;
            let is_new = seen.settled != Some(found);
            let standing = match &seen.refused {
                _ if !stays => continue,
                _ if is_new => Standing::Untried,
                Some(stale) => Standing::Waits(stale.clone()),
                None => continue,
            };
            seen.settled = Some(found);
            pairs.push(Pair { id, files, is_new, standing, failed: None });
        }
        pairs
    }
}

/// Tries every pair that may be taken now, and says whether one was installed.
fn round(pairs: &mut [Pair<'_>], plan: &Plan, shared: &Shared, now: u64) -> bool {
    let mut any = false;
    for pair in pairs {
        let defaults = defaults(plan, &pair.id, &shared.store);
        let may_pass = match &pair.standing {
            Standing::Untried => true,
            Standing::Waits(Stale::Early(from)) => *from <= now,
            Standing::Waits(Stale::Default(name)) => !defaults.contains(&&**name),
            Standing::Waits(Stale::Expired) | Standing::Settled => false,
        };
        if !may_pass {
            continue;
        }
        (pair.standing, pair.failed) = match replace(&pair.id, pair.files, &defaults, shared, now) {
            Ok(installed) => {
                any |= installed;
                (Standing::Settled, None)
            }
            Err((error, stale)) => (stale.map_or(Standing::Settled, Standing::Waits), Some(error)),
        };
    }
    any
}

/// Both files as a number; one that can not be read is a content, too.
fn fingerprint(cert: &Path, key: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in [cert, key] {
        read_file(path, LARGEST).map_err(|error| error.kind()).hash(&mut hasher);
    }
    hasher.finish()
}

/// What listeners show by default of this certificate and could show of no other.
fn defaults<'a>(plan: &'a Plan, id: &Id, store: &Store) -> Vec<&'a str> {
    let carries = |certificate: &Certificate, name: &str| {
        let other = Id::of(certificate);
        let ordered = match certificate {
            Certificate::Acme(acme) => acme.domains.iter().any(|domain| pem::covers(domain, name)),
            Certificate::Files { .. } => false,
        };
        other != *id && (ordered || store.find(&other).is_some_and(|other| other.covers(name)))
    };
    let listeners = plan.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let listeners = listeners.filter(|tls| tls.certificates.iter().any(|certificate| Id::of(certificate) == *id));
    let alone = listeners.filter_map(|tls| {
        let default = tls.default.as_deref()?;
        (!tls.certificates.iter().any(|certificate| carries(certificate, default))).then_some(default)
    });
    alone.collect()
}

/// Reads a changed pair, and swaps it in where it can be used; `false`: it is in force already.
///
/// # Errors
/// It changes nothing: why, and what may be over some time.
fn replace(
    id: &Id,
    (cert, key): (&Path, &Path),
    defaults: &[&str],
    shared: &Shared,
    now: u64,
) -> Result<bool, (Failed, Option<Stale>)> {
    let before = shared.store.find(id);
    let new = load(cert, key).map_err(|error| (error, None))?;
    let lost = fresh::check(&new, before.as_deref(), defaults, now);
    let lost = lost.map_err(|stale| (Failed::new(cert, &stale), Some(stale)))?;
    if before.is_some_and(|before| before.key.cert == new.key.cert) {
        return Ok(false);
    }
    tell_of(cert, &lost);
    tracing::info!(file = %cert.display(), names = ?new.names, expires = new.not_after, "certificate replaced");
    shared.store.install(id, new);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Source, System, compile};
    use crate::tls::server;

    /// Writes a pair for these names, valid from a day in January 2020 on.
    fn write(folder: &Path, names: &[&str], day: u8, until: i32) {
        write_as(folder, "", names, day, until);
    }

    fn write_as(folder: &Path, prefix: &str, names: &[&str], day: u8, until: i32) {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, day);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(folder.join(format!("{prefix}cert.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(folder.join(format!("{prefix}key.pem")), key.serialize_pem()).unwrap();
    }

    /// 5 January 2020.
    const NOW: u64 = 1_578_182_400;

    /// A folder, and the plan of a listener with the pair in it.
    fn setting(name: &str, default: &str) -> (PathBuf, Plan) {
        let folder = std::env::temp_dir().join(format!("probegate-watch-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        write(&folder, &["one.example", "also.example"], 1, 2999);
        let plan = plan(&folder, &format!("{{certificates: [{{cert: cert.pem, key: key.pem}}]{default}}}"));
        (folder, plan)
    }

    /// The plan of two listeners with the same TLS.
    fn plan(folder: &Path, tls: &str) -> Plan {
        let text = format!(
            "listeners: [{{address: \"127.0.0.1:1\", tls: {tls}}}, {{address: \"127.0.0.1:2\", tls: {tls}}}]\n\
             services: {{app: {{upstream: {{servers: [\"127.0.0.1:1\"]}}}}}}\n"
        );
        let source = Source { name: "x".to_owned(), text };
        compile(&source, &System::new(folder)).unwrap().plan
    }

    #[test]
    fn a_changed_pair_is_swapped_in_and_a_broken_one_is_counted_once() {
        let (folder, plan) = setting("broken", "");
        let shared = Shared::default();
        let listeners = server::prepare(&plan, &shared).unwrap().commit(&shared);
        let shelf = &listeners[0].as_ref().unwrap().shelf;
        let failures = || shared.reload_failures.load(Ordering::Relaxed);
        let mut watch = Watch::default();
        let mut look = || watch.look(&plan, &shared, NOW);
        look();
        look();
        assert!(shelf.has("one.example") && failures() == 0);
        write(&folder, &["two.example"], 1, 2999);
        look();
        assert!(shelf.has("one.example"), "not before it has stayed the same");
        look();
        assert!(shelf.has("two.example") && !shelf.has("one.example"));
        fs::write(folder.join("key.pem"), "garbage").unwrap();
        (0..5).for_each(|_| look());
        assert!(shelf.has("two.example") && failures() == 1);
        fs::remove_file(folder.join("cert.pem")).unwrap();
        (0..5).for_each(|_| look());
        assert!(shelf.has("two.example") && failures() == 2);
        write(&folder, &["three.example"], 1, 2999);
        (0..2).for_each(|_| look());
        assert!(shelf.has("three.example") && failures() == 2);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_pair_that_is_not_valid_yet_waits_until_it_is() {
        let (folder, plan) = setting("early", "");
        let shared = Shared::default();
        let listeners = server::prepare(&plan, &shared).unwrap().commit(&shared);
        let shelf = &listeners[0].as_ref().unwrap().shelf;
        let failures = || shared.reload_failures.load(Ordering::Relaxed);
        let mut watch = Watch::default();
        write(&folder, &["two.example"], 6, 2999);
        (0..5).for_each(|_| watch.look(&plan, &shared, NOW));
        assert!(shelf.has("one.example") && !shelf.has("two.example"));
        assert_eq!(failures(), 1);
        watch.look(&plan, &shared, NOW + 24 * 3600);
        assert!(shelf.has("two.example") && failures() == 1);
        // One that has expired never does.
        write(&folder, &["three.example"], 1, 2020);
        (0..5).for_each(|day| watch.look(&plan, &shared, NOW + (2 + day) * 24 * 3600));
        assert!(shelf.has("two.example") && failures() == 2);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_shown_by_default_does_not_vanish() {
        let (folder, plan) = setting("default", ", default: one.example");
        let shared = Shared::default();
        let listeners = server::prepare(&plan, &shared).unwrap().commit(&shared);
        let shelf = &listeners[0].as_ref().unwrap().shelf;
        let failures = || shared.reload_failures.load(Ordering::Relaxed);
        let mut watch = Watch::default();
        write(&folder, &["two.example"], 1, 2999);
        (0..3).for_each(|_| watch.look(&plan, &shared, NOW));
        assert!(shelf.has("one.example") && !shelf.has("two.example"));
        assert_eq!(failures(), 1);
        // A name that is not the default may.
        write(&folder, &["one.example", "two.example"], 1, 2999);
        (0..3).for_each(|_| watch.look(&plan, &shared, NOW));
        assert!(shelf.has("two.example") && !shelf.has("also.example"));
        assert_eq!(failures(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn pairs_that_are_renewed_together_hand_the_default_over_in_any_order() {
        // Looked at in the order of their paths.
        for (name, giver, taker) in [("giver", "a-", "b-"), ("taker", "b-", "a-")] {
            let folder = std::env::temp_dir().join(format!("probegate-watch-{name}-first-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            let write = |prefix: &str, names: &[&str]| write_as(&folder, prefix, names, 1, 2999);
            write(giver, &["one.example", "two.example"]);
            write(taker, &["three.example"]);
            let pairs = "{cert: a-cert.pem, key: a-key.pem}, {cert: b-cert.pem, key: b-key.pem}";
            let plan = plan(&folder, &format!("{{certificates: [{pairs}], default: one.example}}"));
            let shared = Shared::default();
            let listeners = server::prepare(&plan, &shared).unwrap().commit(&shared);
            let shelf = &listeners[0].as_ref().unwrap().shelf;
            let failures = || shared.reload_failures.load(Ordering::Relaxed);
            let mut watch = Watch::default();
            let mut look = |count: usize| (0..count).for_each(|_| watch.look(&plan, &shared, NOW));
            look(2);
            // Together: one look takes both, and nothing was wrong.
            write(giver, &["two.example"]);
            write(taker, &["one.example", "three.example"]);
            look(2);
            let holds = |prefix: &str, name: &str| {
                let files =
                    |prefix: &str| [folder.join(format!("{prefix}cert.pem")), folder.join(format!("{prefix}key.pem"))];
                let [cert, key] = files(prefix);
                shared.store.find(&Id::of(&Certificate::Files { cert, key })).unwrap().covers(name)
            };
            assert!(!holds(giver, "one.example") && holds(taker, "one.example") && failures() == 0, "{name}");
            // Back, one after the other: what was refused, and said once, is taken when the other one is there.
            write(taker, &["three.example"]);
            look(5);
            assert!(holds(taker, "one.example") && failures() == 1, "{name}");
            write(giver, &["one.example", "two.example"]);
            look(2);
            assert!(holds(giver, "one.example") && !holds(taker, "one.example") && failures() == 1, "{name}");
            look(3);
            assert!(shelf.has("one.example") && shelf.has("three.example") && failures() == 1, "{name}");
            fs::remove_dir_all(&folder).unwrap();
        }
    }
}
