//! Certificate files are looked at once in a while, by a thread beside the workers. A changed pair is read, checked and swapped in; a
//! broken one leaves everything as it was and says so, once for each change.
//!
//! Contents are compared, not times: symbolic links are followed, and it makes no difference how files come to be replaced. Chain and
//! key are two files and change one after the other, so a change counts once it has stayed the same for two looks. A pair that is not
//! valid yet is looked at again when it is.

use std::collections::HashMap;
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
    /// When what was refused is valid, in seconds since 1970.
    again: Option<u64>,
}

impl Watch {
    fn look(&mut self, plan: &Plan, shared: &Shared, now: u64) {
        let certificates = plan.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let certificates: Vec<_> = certificates.flat_map(|tls| &tls.certificates).collect();
        self.seen.retain(|id, _| certificates.iter().any(|certificate| Id::of(certificate) == *id));
        for certificate in certificates {
            let Certificate::Files { cert, key } = certificate else { continue };
            let id = Id::of(certificate);
            let found = fingerprint(cert, key);
            let seen = self.seen.entry(id.clone()).or_insert(Seen { settled: None, last: found, again: None });
            let stays = std::mem::replace(&mut seen.last, found) == found;
            if stays && (seen.settled != Some(found) || seen.again.is_some_and(|again| again <= now)) {
                seen.settled = Some(found);
                let defaults = defaults(plan, &id, &shared.store);
                seen.again = replace(&id, (cert, key), &defaults, shared, now);
            }
        }
    }
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

/// Reads a changed pair, and swaps it in where it can be used. Gives back when to try again.
fn replace(id: &Id, (cert, key): (&Path, &Path), defaults: &[&str], shared: &Shared, now: u64) -> Option<u64> {
    let before = shared.store.find(id);
    let checked = load(cert, key).map_err(|error| (error, None)).and_then(|new| {
        let lost = fresh::check(&new, before.as_deref(), defaults, now).map_err(|stale| {
            let again = if let Stale::Early(from) = stale { Some(from) } else { None };
            (Failed::new(cert, &stale), again)
        })?;
        Ok((new, lost))
    });
    match checked {
        Ok((new, _)) if before.is_some_and(|before| before.key.cert == new.key.cert) => None,
        Ok((new, lost)) => {
            tell_of(cert, &lost);
            tracing::info!(file = %cert.display(), names = ?new.names, expires = new.not_after, "certificate replaced");
            shared.store.install(id, new);
            None
        }
        Err((error, again)) => {
            shared.reload_failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!("changed certificate refused, the one before stays in force: {error}");
            again
        }
    }
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
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, day);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(folder.join("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    }

    /// 5 January 2020.
    const NOW: u64 = 1_578_182_400;

    /// A folder, and the plan of a listener with the pair in it.
    fn setting(name: &str, default: &str) -> (PathBuf, Plan) {
        let folder = std::env::temp_dir().join(format!("probegate-watch-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        write(&folder, &["one.example", "also.example"], 1, 2999);
        let tls = format!("{{certificates: [{{cert: cert.pem, key: key.pem}}]{default}}}");
        let text = format!(
            "listeners: [{{address: \"127.0.0.1:0\", tls: {tls}}}]\nservices: {{app: {{upstream: {{servers: [\"127.0.0.1:1\"]}}}}}}\n"
        );
        let source = Source { name: "x".to_owned(), text };
        let plan = compile(&source, &System::new(&folder)).unwrap().plan;
        (folder, plan)
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
}
