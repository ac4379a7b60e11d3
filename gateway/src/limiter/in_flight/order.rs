//! In which order a request takes its places.
//!
//! Invariant: of two limits that two plans have, one after the other, with who is in them, both plans take the places in the same order. Otherwise a request of the
//! one and a request of the other would each hold what the other waits for.

use crate::limiter::Limiter;
use crate::plan::Plan;

/// For each limit of `plan` its place in the order: that of the file, but for limits that were there before, which keep the order that they had among themselves.
pub(in crate::limiter) fn order(plan: &Plan, earlier: Option<(&Plan, &Limiter)>) -> Vec<usize> {
    let ranks: Vec<Option<usize>> = plan
        .limits
        .iter()
        .map(|limit| {
            let (plan, limiter) = earlier?;
            let index = plan.limits.iter().position(|other| limit.continues(other))?;
            Some(limiter.rank(index))
        })
        .collect();
    merged(&ranks)
}

/// The same for limits of which some had these places before.
fn merged(ranks: &[Option<usize>]) -> Vec<usize> {
    let mut order: Vec<usize> =
        (0..ranks.len()).filter(|index| ranks.get(*index).is_some_and(Option::is_some)).collect();
    order.sort_by_key(|index| ranks.get(*index).copied().flatten());
    for (index, _) in ranks.iter().enumerate().filter(|(_, rank)| rank.is_none()) {
        // Behind the one before it in the file.
        let at = index.checked_sub(1).and_then(|before| order.iter().position(|other| *other == before));
        order.insert(at.map_or(0, |at| at + 1), index);
    }
    let mut places = vec![0; ranks.len()];
    for (place, index) in order.into_iter().enumerate() {
        if let Some(of) = places.get_mut(index) {
            *of = place;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_keep_their_order_and_new_ones_stand_where_the_file_says() {
        assert_eq!(merged(&[None, None, None]), [0, 1, 2]);
        assert_eq!(merged(&[Some(1), Some(0)]), [1, 0], "they have changed places in the file");
        assert_eq!(merged(&[Some(0), None, Some(4)]), [0, 1, 2]);
        assert_eq!(merged(&[None, Some(3), None, Some(1)]), [0, 2, 3, 1]);
        assert_eq!(merged(&[]), [0; 0]);
    }
}
