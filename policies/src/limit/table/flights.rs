//! How many requests of a key are under way: a table whose states are numbers of them, and whose clock stands at 0.

use std::cell::Cell;

use super::{NOTHING, Table};
use crate::limit::Key;

impl Table {
    /// One more request of this key is under way. How many there are now, this one included; each has to [`Self::leave`]. Only for a table that counts nothing
    /// else. Whoever can not be remembered is taken for the only one.
    pub fn enter(&self, key: Key) -> u64 {
        let count = Cell::new(1);
        let known = self.update(key, 0, |before| {
            count.set(before.saturating_add(1));
            Some(count.get())
        });
        if known { count.get() } else { 1 }
    }

    /// A request that has entered is over.
    pub fn leave(&self, key: Key) {
        let _ = self.bucket(key).charge(key.bits(), |before| (Some(before.saturating_sub(1)), NOTHING));
    }
}

#[cfg(test)]
mod tests {
    use crate::limit::{KeyPart, Seed, Table};

    #[test]
    fn those_under_way_are_counted_by_key() {
        let table = Table::new(7, Seed([1, 2, 3, 4]));
        let key = |number: u8| table.key(&[KeyPart::Bytes(&[number])]);
        assert_eq!([1, 1, 2, 1].map(|number| table.enter(key(number))), [1, 2, 1, 3]);
        table.leave(key(1));
        table.leave(key(1));
        assert_eq!(table.enter(key(1)), 2);
        table.leave(key(3));
        assert_eq!(table.enter(key(3)), 1, "one that has left without coming is nobody");
    }

    #[test]
    fn who_has_left_makes_room_without_loss() {
        let table = Table::new(7, Seed([1, 2, 3, 4]));
        for number in 0..100_u8 {
            let key = table.key(&[KeyPart::Bytes(&[number])]);
            assert_eq!(table.enter(key), 1);
            table.leave(key);
        }
        assert_eq!(table.stats().evicted_live, 0);
    }
}
