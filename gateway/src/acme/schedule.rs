//! When a certificate is ordered: renewal, waiting after failures, and how many orders an hour may see.
//!
//! Invariant: no clock and no randomness. Times are seconds since the epoch, chance is a number that is handed in (its share of 2³²).

/// Orders an hour that one certificate may have. Let's Encrypt takes five failed validations of a name an hour.
pub const ORDERS_OF_A_CERTIFICATE: usize = 5;

/// Orders an hour that one authority sees from this storage. Let's Encrypt takes 300 in three hours from an account.
pub const ORDERS_OF_AN_AUTHORITY: usize = 100;

/// The span that orders are counted over, in seconds.
pub const HOUR: u64 = 3600;

const DAY: u64 = 24 * HOUR;

/// Before the next kind of challenge is tried: what failed first may have been a router that does not pass port 443 on.
const NEXT_KIND: u64 = 5;

/// The first wait after all kinds of challenges have failed.
const FIRST_WAIT: u64 = 300;

/// The first wait after the authority could not be reached: asking again costs nobody anything.
const FIRST_UNREACHED: u64 = 10;

/// The time a certificate is valid for, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The first second.
    pub not_before: u64,
    /// The last one.
    pub not_after: u64,
}

impl Life {
    /// Whether it is valid.
    pub fn holds(self, now: u64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    fn span(self) -> u64 {
        self.not_after.saturating_sub(self.not_before)
    }
}

/// When to renew where the authority says nothing: at two thirds of its life, or up to a twentieth earlier, so that certificates made
/// together are not renewed together.
pub fn two_thirds(life: Life, chance: u32) -> u64 {
    let span = life.span();
    life.not_before + span / 3 * 2 - share(span / 20, chance)
}

/// When to renew where the authority names a window (RFC 9773 §4.2): at a moment in it that chance picks. A window that makes no sense,
/// or ends when less than a twentieth of the life is left, is not believed.
pub fn in_window(start: u64, end: u64, life: Life, chance: u32) -> Option<u64> {
    let last = life.not_after.saturating_sub(life.span() / 20);
    (start < end && end <= last).then(|| start + share(end - start, chance))
}

/// When the window is to be asked for again: as the authority says, but at least each day and at most each hour.
pub fn ask_again(seconds: u64) -> u64 {
    seconds.clamp(HOUR, DAY)
}

/// What kept the last orders from becoming a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failures {
    /// The authority was asked this many times in a row and could not be reached.
    Unreached(u32),
    /// This many orders in a row failed, with this many kinds of challenges to try.
    Refused(u32, u32),
}

/// Seconds to wait before the next order: doubled with each failure, to a day at most, and up to a quarter less by chance.
pub fn back_off(failures: Failures, chance: u32) -> u64 {
    let (first, doubled) = match failures {
        Failures::Unreached(count) => (FIRST_UNREACHED, count.saturating_sub(1)),
        Failures::Refused(count, kinds) if count < kinds => (NEXT_KIND, 0),
        Failures::Refused(count, kinds) => (FIRST_WAIT, count - kinds.min(count)),
    };
    let wait = first.saturating_mul(1 << doubled.min(16)).min(DAY);
    wait - share(wait / 4, chance)
}

/// When one more order keeps within `most` an hour, given when earlier ones were placed.
pub fn room(orders: &[u64], most: usize, now: u64) -> u64 {
    // A time in the future is from before the clock was set right.
    let mut recent: Vec<u64> = orders.iter().copied().filter(|&at| at <= now && now - at < HOUR).collect();
    recent.sort_unstable();
    match recent.len().checked_sub(most) {
        None => now,
        Some(over) => recent.get(over).map_or(now, |&at| at + HOUR),
    }
}

/// The part of `span` that `chance` stands for.
fn share(span: u64, chance: u32) -> u64 {
    let part = (u128::from(span) * u128::from(chance)) >> 32;
    u64::try_from(part).unwrap_or(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Life = Life { not_before: 1_000_000, not_after: 1_000_000 + 90 * DAY };

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life_or_a_little_earlier() {
        assert_eq!(two_thirds(LIFE, 0), LIFE.not_before + 60 * DAY);
        let early = two_thirds(LIFE, u32::MAX);
        assert!(early > LIFE.not_before + 55 * DAY && early < LIFE.not_before + 56 * DAY, "{early}");
    }

    #[test]
    fn a_window_is_followed_and_one_that_makes_no_sense_is_not() {
        let (start, end) = (LIFE.not_before + 50 * DAY, LIFE.not_before + 52 * DAY);
        assert_eq!(in_window(start, end, LIFE, 0), Some(start));
        assert_eq!(in_window(start, end, LIFE, 1 << 31), Some(start + DAY));
        // A window in the past asks for renewal at once: the certificate may be about to be revoked.
        assert_eq!(in_window(1, 2, LIFE, 0), Some(1));
        assert_eq!(in_window(end, start, LIFE, 0), None);
        assert_eq!(in_window(start, LIFE.not_after, LIFE, 0), None);
        assert_eq!((ask_again(0), ask_again(6 * HOUR), ask_again(99 * DAY)), (HOUR, 6 * HOUR, DAY));
    }

    #[test]
    fn the_next_kind_of_challenge_is_tried_soon_and_then_waits_double_up_to_a_day() {
        let refused = |count| back_off(Failures::Refused(count, 2), 0);
        assert_eq!([1, 2, 3, 4].map(refused), [5, 300, 600, 1200]);
        assert_eq!((refused(30), refused(u32::MAX)), (DAY, DAY));
        assert_eq!(back_off(Failures::Refused(1, 1), 0), 300);
        assert_eq!(back_off(Failures::Refused(2, 1), 0), 600);
        let unreached = |count| back_off(Failures::Unreached(count), 0);
        assert_eq!([1, 2, 3].map(unreached), [10, 20, 40]);
        assert_eq!(unreached(u32::MAX), DAY);
        assert!((226..=300).contains(&back_off(Failures::Refused(2, 2), u32::MAX)));
    }

    #[test]
    fn there_is_room_for_so_many_orders_an_hour() {
        let now = 10_000_000;
        assert_eq!(room(&[], 2, now), now);
        assert_eq!(room(&[now - HOUR, now - 10], 2, now), now);
        assert_eq!(room(&[now - 10, now - 20], 2, now), now - 20 + HOUR);
        assert_eq!(room(&[now - 10, now - 30, now - 20], 2, now), now - 20 + HOUR);
        // The clock was set back since: what lies ahead does not count.
        assert_eq!(room(&[now + 10, now + 20], 2, now), now);
    }
}
