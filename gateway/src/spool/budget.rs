//! How much all spools of the process hold together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::plan::Buffers;

/// Bytes held by all spools.
#[derive(Debug, Default)]
pub struct Budget {
    memory: Arc<AtomicU64>,
    disk: Arc<AtomicU64>,
}

impl Budget {
    /// Nothing of the memory yet, of which all spools together may hold `most` bytes.
    pub(super) fn memory(&self, most: u64) -> Held {
        Held { total: Arc::clone(&self.memory), most, own: 0 }
    }

    /// Nothing of the disk yet, of which all spools together may hold `most` bytes.
    pub(super) fn disk(&self, most: u64) -> Held {
        Held { total: Arc::clone(&self.disk), most, own: 0 }
    }

    /// Memory of something else that works on a body: so many bytes, until it is dropped. `None`: they are not there.
    pub fn hold(&self, buffers: &Buffers, bytes: u64) -> Option<Held> {
        let mut held = self.memory(buffers.total_memory);
        held.reserve(bytes).then_some(held)
    }

    /// Bytes of memory in use, and of disk.
    pub fn held(&self) -> (u64, u64) {
        (self.memory.load(Ordering::Relaxed), self.disk.load(Ordering::Relaxed))
    }
}

/// What one spool holds of a total. Given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    total: Arc<AtomicU64>,
    most: u64,
    own: u64,
}

impl Held {
    /// Takes so many bytes more; `false`, and nothing is taken, where they are not there.
    pub(super) fn reserve(&mut self, bytes: u64) -> bool {
        let before = self.total.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.most {
            self.total.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.own += bytes;
        true
    }

    /// So many bytes more for somebody who may outlive this, also beyond what is there: they are taken either way.
    pub(super) fn more(&self, bytes: u64) -> Self {
        self.total.fetch_add(bytes, Ordering::Relaxed);
        Self { total: Arc::clone(&self.total), most: self.most, own: bytes }
    }

    /// Whether so many bytes more are there at the moment.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.total.load(Ordering::Relaxed) + bytes <= self.most
    }

    /// Gives everything back.
    pub(super) fn release(&mut self) {
        self.total.fetch_sub(std::mem::take(&mut self.own), Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}
