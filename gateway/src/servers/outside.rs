//! What is known about servers from elsewhere: from active checks, and from people.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use probegate_policies::reason::Reason;

use super::{Health, Servers, Site};

impl Servers {
    /// What active checks say about a server from now on. One that comes up gets its share slowly.
    pub fn set_health(self: &Arc<Self>, server: usize, health: Health) {
        let Some(site) = self.sites.get(server) else { return };
        let before = site.state.health();
        if site.state.set_health(health) && before == Health::Down {
            self.comes_back(site);
        }
    }

    /// Whether a server gets no new requests from now on. One that gets them again gets its share slowly.
    pub fn set_drained(self: &Arc<Self>, server: usize, drained: bool) {
        let Some(site) = self.sites.get(server) else { return };
        if site.state.set_drained(drained) && !drained {
            self.comes_back(site);
        }
    }

    /// Nobody was there: whoever is there next may be another one.
    pub fn was_gone(&self, server: usize) {
        if let Some(site) = self.sites.get(server) {
            site.state.gone.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often nobody was there, at any of them.
    pub fn gone(&self) -> u64 {
        self.sites.iter().map(|site| site.state.gone.load(Ordering::Relaxed)).sum()
    }

    fn comes_back(self: &Arc<Self>, site: &Site) {
        site.state.begin_slowly(self.now());
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.look();
        }
    }

    /// Why nobody may be asked.
    pub fn refusal(&self) -> Reason {
        if self.sites.iter().all(|site| site.state.is_drained()) {
            Reason::UpstreamDrained
        } else {
            Reason::UpstreamDown
        }
    }
}
