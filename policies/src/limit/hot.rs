//! Which keys meet a limit most often: a list of fixed size, however many keys there are.
//!
//! Space-Saving (Metwally, Agrawal and El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data Streams", 2005). A key that is not in a full list takes the
//! place of the one that was seen least, and begins with its count. Lists that were kept apart, one by each worker, are added up when somebody looks (Agarwal and
//! others, "Mergeable Summaries", 2012).
//!
//! Invariants, of one list and of a sum of lists that see `total` keys together:
//! * A key was seen [`Entry::seen`] times at the most, and at least `seen - excess` times.
//! * A key that was seen more than `total / capacity` times is in the list.
//! * The list is sorted, the key that was seen most first.

use std::collections::HashMap;

use super::Key;

/// How long a window of [`Recent`] is, in nanoseconds.
pub const WINDOW: u64 = 60_000_000_000;

/// Keys that were seen, and how often.
#[derive(Clone, Debug)]
pub struct Hot<L> {
    entries: Vec<Entry<L>>,
    capacity: usize,
    total: u64,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<L> {
    /// Which.
    pub key: Key,
    /// What it is called.
    pub label: L,
    /// How often it was seen, at the most.
    pub seen: u64,
    /// How much of that may have been others.
    pub excess: u64,
    /// How often it was over its limit, at the least.
    pub over: u64,
}

impl<L> Hot<L> {
    /// An empty list for `capacity` keys, at least one. It takes memory as keys come.
    pub fn new(capacity: usize) -> Self {
        Self { entries: Vec::new(), capacity: capacity.max(1), total: 0 }
    }

    /// A key was seen. `over`: over its limit. `label` is asked when the key comes into the list.
    pub fn add(&mut self, key: Key, over: bool, label: impl FnOnce() -> L) {
        self.total = self.total.saturating_add(1);
        let at = self.entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| self.enter(key, label()));
        let Some(seen) = self.entries.get(at).map(|entry| entry.seen) else { return };
        // The first of those that were seen as often: one more keeps the order there.
        let first = self.entries.partition_point(|entry| entry.seen > seen);
        self.entries.swap(first, at);
        if let Some(entry) = self.entries.get_mut(first) {
            entry.seen = seen.saturating_add(1);
            entry.over = entry.over.saturating_add(over.into());
        }
    }

    /// Where a new key is. It was not seen yet, but for what the one before it leaves behind.
    fn enter(&mut self, key: Key, label: L) -> usize {
        let last = self.entries.len().saturating_sub(1);
        match self.entries.last_mut() {
            Some(entry) if last + 1 >= self.capacity => {
                *entry = Entry { key, label, seen: entry.seen, excess: entry.seen, over: 0 };
                last
            }
            _ => {
                self.entries.push(Entry { key, label, seen: 0, excess: 0, over: 0 });
                self.entries.len() - 1
            }
        }
    }

    /// The keys, the one that was seen most first.
    pub fn entries(&self) -> &[Entry<L>] {
        &self.entries
    }

    /// How many were seen, all keys together.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.total = 0;
    }

    /// How often a key may have been seen that is not in the list.
    fn unlisted(&self) -> u64 {
        self.entries.last().filter(|_| self.entries.len() >= self.capacity).map_or(0, |entry| entry.seen)
    }
}

impl<L: Clone> Hot<L> {
    /// The sum of several lists.
    pub fn sum<'a>(capacity: usize, lists: impl Iterator<Item = &'a Self>) -> Self
    where
        L: 'a,
    {
        let mut sums: HashMap<Key, (Entry<L>, u64)> = HashMap::new();
        let (mut total, mut unlisted) = (0_u64, 0_u64);
        for list in lists {
            let missed = list.unlisted();
            total = total.saturating_add(list.total);
            unlisted = unlisted.saturating_add(missed);
            for entry in &list.entries {
                let of = sums.entry(entry.key);
                let (sum, known) = of.or_insert_with(|| (Entry { seen: 0, excess: 0, over: 0, ..entry.clone() }, 0));
                sum.seen = sum.seen.saturating_add(entry.seen);
                sum.excess = sum.excess.saturating_add(entry.excess);
                sum.over = sum.over.saturating_add(entry.over);
                *known += missed;
            }
        }
        let mut entries: Vec<_> = sums
            .into_values()
            .map(|(entry, known)| {
                // Lists that do not have it may have forgotten it.
                let missed = unlisted - known;
                let (seen, excess) = (entry.seen.saturating_add(missed), entry.excess.saturating_add(missed));
                Entry { seen, excess, ..entry }
            })
            .collect();
        entries.sort_by(|a, b| b.seen.cmp(&a.seen).then_with(|| a.key.bits().cmp(&b.key.bits())));
        let capacity = capacity.max(1);
        entries.truncate(capacity);
        Self { entries, capacity, total }
    }
}

/// The keys of this window and of the one before: who was hot last week does not stand before who is today.
#[derive(Clone, Debug)]
pub struct Recent<L> {
    window: u64,
    now: Hot<L>,
    before: Hot<L>,
}

impl<L> Recent<L> {
    /// Nobody, with `capacity` keys for each window.
    pub fn new(capacity: usize) -> Self {
        Self { window: 0, now: Hot::new(capacity), before: Hot::new(capacity) }
    }

    /// A key was seen at this moment: see [`Hot::add`].
    pub fn add(&mut self, key: Key, over: bool, now: u64, label: impl FnOnce() -> L) {
        self.turn(now);
        self.now.add(key, over, label);
    }

    /// The lists that count at this moment.
    pub fn at(&mut self, now: u64) -> [&Hot<L>; 2] {
        self.turn(now);
        [&self.now, &self.before]
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.now.clear();
        self.before.clear();
    }

    fn turn(&mut self, now: u64) {
        let window = now / WINDOW;
        // One that is late belongs to those of today.
        if window <= self.window {
            return;
        }
        std::mem::swap(&mut self.now, &mut self.before);
        if window - self.window > 1 {
            self.before.clear();
        }
        self.now.clear();
        self.window = window;
    }
}

/// How much time the lists of [`Recent::at`] cover, in nanoseconds, where the clock began at 0.
pub fn covered(now: u64) -> u64 {
    now.min(WINDOW + now % WINDOW)
}

#[cfg(test)]
mod tests;
