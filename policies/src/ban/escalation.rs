//! How long a ban lasts: longer for whoever was banned before.

use std::time::Duration;

/// How long bans last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// The first ban, in seconds; at least 1.
    time: u64,
    /// How often that, by how many bans there were before; the last one holds for all further ones. Empty: always once.
    multipliers: Box<[u32]>,
}

impl Escalation {
    /// The longest ban, in seconds: ten years, so that no sum with a clock overflows.
    pub const LONGEST: u64 = 10 * 366 * 86_400;

    /// Bans of `time`, in whole seconds and at least one, times the multiplier that belongs to the number of bans before.
    pub fn new(time: Duration, multipliers: impl Into<Box<[u32]>>) -> Self {
        Self { time: time.as_secs().clamp(1, Self::LONGEST), multipliers: multipliers.into() }
    }

    /// Seconds for whoever was banned `earlier` times before.
    pub fn seconds(&self, earlier: u32) -> u64 {
        let last = self.multipliers.len().saturating_sub(1);
        let index = usize::try_from(earlier).unwrap_or(usize::MAX).min(last);
        let multiplier = self.multipliers.get(index).copied().unwrap_or(1).max(1);
        self.time.saturating_mul(multiplier.into()).min(Self::LONGEST)
    }

    /// The longest ban of all, in seconds.
    pub fn longest(&self) -> u64 {
        let most = self.multipliers.iter().copied().max().unwrap_or(1).max(1);
        self.time.saturating_mul(most.into()).min(Self::LONGEST)
    }

    /// The multipliers.
    pub fn multipliers(&self) -> &[u32] {
        &self.multipliers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_grow_as_those_of_fail2ban_and_then_stay() {
        let escalation = Escalation::new(Duration::from_secs(600), [1, 2, 4, 8, 16, 32, 64]);
        let minutes: Vec<u64> = (0..9).map(|earlier| escalation.seconds(earlier) / 60).collect();
        assert_eq!(minutes, [10, 20, 40, 80, 160, 320, 640, 640, 640]);
        assert_eq!(escalation.seconds(u32::MAX), 38_400);
    }

    #[test]
    fn no_ban_is_shorter_than_a_second_or_longer_than_ten_years() {
        assert_eq!(Escalation::new(Duration::ZERO, []).seconds(7), 1);
        assert_eq!(Escalation::new(Duration::from_secs(3), [0]).seconds(0), 3);
        assert_eq!(Escalation::new(Duration::MAX, [u32::MAX]).seconds(0), Escalation::LONGEST);
    }
}
