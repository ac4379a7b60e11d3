//! What requests tell about servers: which are left out, and which are back.

use std::sync::atomic::Ordering;

use probegate_policies::ejection::{Change, Entry, Terms};

use super::{Servers, lock};

impl Servers {
    /// A server did not do its part.
    pub(super) fn failed(&self, index: usize, entry: Entry) {
        let Some(site) = self.sites.get(index) else { return };
        site.state.failures.fetch_add(1, Ordering::Relaxed);
        let terms = if self.sites.len() < 2 { Terms { max_fails: 0, ..self.terms() } } else { self.terms() };
        if terms.max_fails == 0 && !site.state.is_ejected() {
            return;
        }
        let _one_at_a_time = lock(&self.ejecting);
        let now = self.now();
        let mut others = self.sites.iter().enumerate().filter(|(other, one)| *other != index && one.slot == site.slot);
        // Not one that is only ready for a trial: that may fail as well.
        let spare = others.any(|(_, other)| other.state.may_be_asked() && !other.state.is_ejected());
        let change = site.state.change(|record| record.failed(entry, &terms, spare, now));
        match change {
            Change::Nothing => return,
            Change::Returns => return self.is_back(index),
            Change::Leaves => _ = site.state.ejections.fetch_add(1, Ordering::Relaxed),
            Change::Stays => {}
        }
        let seconds = site.state.left_out_for(now).as_secs();
        tracing::warn!(service = &*self.service, server = &*site.label, seconds, "server fails and is left out");
    }

    /// A server did its part. What it means when it fails after all.
    pub(super) fn succeeded(&self, index: usize, entry: Entry) -> Entry {
        let Some(site) = self.sites.get(index) else { return entry };
        let after = site.state.change(|record| record.succeeded(entry));
        if matches!(after, Entry::Back { .. }) {
            self.is_back(index);
        }
        after
    }

    /// A server was left out, and is not any more.
    fn is_back(&self, index: usize) {
        if let Some(site) = self.sites.get(index) {
            site.state.begin_slowly(self.now());
            tracing::info!(service = &*self.service, server = &*site.label, "server is back");
        }
    }

    fn terms(&self) -> Terms {
        self.balancing.terms
    }
}
