//! What the store is told when a request is over: that it counts after all.
//!
//! Nobody waits for it. Should the store not hear of it, the gateway's own table has: see `limiter::shared`.

use std::future::Future as _;
use std::rc::Rc;
use std::task::{Context, Waker};

use probegate_policies::limit::shared::Charge;
use tokio::task::spawn_local;

use super::held::Held;
use crate::plan::{Limit, Plan};
use crate::store::link::Link;

/// Charges of one request that the store has not heard of.
#[derive(Debug, Default)]
#[must_use]
pub struct Late {
    keys: Vec<Vec<u8>>,
    arguments: Vec<u64>,
    /// Under way until they are charged.
    held: Vec<Held>,
}

impl Late {
    /// One more charge, where gateways share the limit.
    pub(super) fn add(&mut self, plan: &Plan, limit: &Limit, mut held: Held) {
        let (Some(key), Some(store)) = (held.shared.take(), &plan.limit_store) else { return };
        self.keys.push(key);
        self.arguments.extend(Charge::late(&limit.quota, store.replicas).in_windows_of(held.key).words());
        self.held.push(held);
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Tells the store over the worker's connection, unless it is known to be gone.
    pub fn send(self, link: Rc<Link>) {
        let Self { keys, arguments, held } = self;
        if keys.is_empty() || !link.store().is_asked() {
            return;
        }
        // Its failure has been counted.
        let mut call = Box::pin(async move { link.ask(&keys, &arguments).await.is_ok() });
        // On its way before anything else that this worker asks: the next request of the same client finds the charge there.
        let is_over = call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        drop(held);
        if !is_over {
            spawn_local(call);
        }
    }
}
