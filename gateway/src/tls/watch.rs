//! Certificate files are looked at once in a while, by a thread beside the workers. A changed pair is read, checked and swapped in; a
//! broken one leaves everything as it was and says so, once for each change.
//!
//! Contents are compared, not times: symbolic links are followed, and it makes no difference how files come to be replaced. Chain and
//! key are two files and change one after the other, so a change counts once it has stayed the same for two looks.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::pem::{Certified, LARGEST};
use super::server::load;
use super::store::Id;
use super::{Shared, server};
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
        watch.look(&state.active().plan, &state.tls);
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
}

impl Watch {
    fn look(&mut self, plan: &Plan, shared: &Shared) {
        let certificates = plan.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let certificates: Vec<_> = certificates.flat_map(|tls| &tls.certificates).collect();
        self.seen.retain(|id, _| certificates.iter().any(|certificate| Id::of(certificate) == *id));
        for certificate in certificates {
            let Certificate::Files { cert, key } = certificate else { continue };
            let id = Id::of(certificate);
            let found = fingerprint(cert, key);
            let seen = self.seen.entry(id.clone()).or_insert(Seen { settled: None, last: found });
            let stays = std::mem::replace(&mut seen.last, found) == found;
            if stays && seen.settled != Some(found) {
                seen.settled = Some(found);
                replace(&id, cert, key, shared);
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

/// Reads a changed pair, and swaps it in where it can be used.
fn replace(id: &Id, cert: &Path, key: &Path, shared: &Shared) {
    let before = shared.store.find(id);
    match load(cert, key).and_then(|new| fresh(cert, new, before.as_deref())) {
        Ok(new) if before.is_some_and(|before| before.key.cert == new.key.cert) => {}
        Ok(new) => {
            tracing::info!(file = %cert.display(), names = ?new.names, expires = new.not_after, "certificate replaced");
            shared.store.install(id, new);
        }
        Err(error) => {
            shared.reload_failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!("changed certificate refused, the one before stays in force: {error}");
        }
    }
}

/// An expired certificate must not take the place of one that is valid.
fn fresh(cert: &Path, new: Certified, before: Option<&Certified>) -> Result<Certified, server::Failed> {
    let now = unix_time();
    if new.not_after < now && before.is_some_and(|before| before.not_after >= now) {
        return Err(server::Failed { path: cert.to_owned(), error: "the certificate has expired".to_owned() });
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{Source, System, compile};

    fn write(folder: &Path, name: &str) -> String {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        made.cert.pem()
    }

    #[test]
    fn a_changed_pair_is_swapped_in_and_a_broken_one_is_counted_once() {
        let folder = std::env::temp_dir().join(format!("probegate-watch-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        write(&folder, "one.example");
        let text = "listeners: [{address: \"127.0.0.1:0\", tls: {certificates: [{cert: cert.pem, key: key.pem}]}}]\n\
            services: {app: {upstream: {servers: [\"127.0.0.1:1\"]}}}\n";
        let source = Source { name: "x".to_owned(), text: text.to_owned() };
        let plan = compile(&source, &System::new(&folder)).unwrap().plan;
        let shared = Shared::default();
        let listeners = server::prepare(&plan, &shared).unwrap().commit(&shared);
        let shelf = &listeners[0].as_ref().unwrap().shelf;
        let failures = || shared.reload_failures.load(Ordering::Relaxed);
        let mut watch = Watch::default();
        let mut look = || watch.look(&plan, &shared);
        look();
        look();
        assert!(shelf.has("one.example") && failures() == 0);
        write(&folder, "two.example");
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
        write(&folder, "three.example");
        (0..2).for_each(|_| look());
        assert!(shelf.has("three.example") && failures() == 2);
        fs::remove_dir_all(&folder).unwrap();
    }
}
