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

    /// How often nobody was there, at any of them, or the slot that is asked became another one.
    pub fn gone(&self) -> u64 {
        let gone: u64 = self.sites.iter().map(|site| site.state.gone.load(Ordering::Relaxed)).sum();
        gone + self.split().map_or(0, |split| split.turns())
    }

    fn comes_back(self: &Arc<Self>, site: &Site) {
        site.state.begin_slowly(self.now());
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.look();
        }
    }

    /// Whether no other server of its slot than this one may be asked.
    pub fn is_last(&self, label: &str) -> bool {
        let own = self.sites.iter().find(|site| &*site.label == label).and_then(|site| site.slot);
        let mut others = self.sites.iter().filter(|site| &*site.label != label && site.slot == own);
        // Not one that is down either.
        others.all(|site| !site.state.may_be_asked())
    }

    /// Why nobody of this slot may be asked, or of all of them where there are none.
    pub fn refusal(&self, slot: Option<u8>) -> Reason {
        if self.sites.iter().filter(|site| site.slot == slot).all(|site| site.state.is_drained()) {
            Reason::UpstreamDrained
        } else {
            Reason::UpstreamDown
        }
    }
}
