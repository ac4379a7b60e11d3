//! A table as a memory of moments: until when something is known about a key.
//!
//! The same bounds, the same eviction: the moment that is nearest makes room, and a moment that has passed is worth nothing.

use super::{Key, Table};

impl Table {
    /// Remembers a moment for a key; a later one that is known already stays. Who can not be remembered is forgotten.
    pub fn remember(&self, key: Key, until: u64, now: u64) {
        let _ = self.update(key, now, |known| (until > known).then_some(until));
    }

    /// The moment that is remembered for a key; 0: none.
    #[inline]
    pub fn remembered(&self, key: Key) -> u64 {
        self.bucket(key).read(key.bits()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KeyPart, Seed};
    use super::*;

    #[test]
    fn the_latest_moment_of_a_key_is_remembered_and_others_have_none() {
        let table = Table::new(8, Seed([1, 2, 3, 4]));
        let [a, b] = [b"a", b"b"].map(|text| table.key(&[KeyPart::Bytes(text)]));
        assert_eq!(table.remembered(a), 0);
        for until in [500, 900, 700] {
            table.remember(a, until, 100);
        }
        assert_eq!((table.remembered(a), table.remembered(b)), (900, 0));
    }

    #[test]
    fn what_is_over_makes_room() {
        let table = Table::new(1, Seed([1, 2, 3, 4]));
        for number in 0_u32..1000 {
            let key = table.key(&[KeyPart::Bytes(&number.to_le_bytes())]);
            let now = u64::from(number) * 1000 + 1000;
            table.remember(key, now + 500, now);
            assert_eq!(table.remembered(key), now + 500);
        }
        assert_eq!(table.stats().evicted_live, 0);
    }
}
