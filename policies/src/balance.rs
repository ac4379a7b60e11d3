//! Which server gets a request: the choice among those that may be asked.
//!
//! Candidates are handed over as an iterator that is walked more than once, so that nothing is collected on the path of a request. Weights are
//! relative; a server that weighs nothing is no candidate.
//!
//! Invariant: no state but what a round needs ([`Smooth`]); randomness is handed in.

#[cfg(test)]
mod tests;

/// A server that may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its place in the list of servers.
    pub index: usize,
    /// What stands for it in a hash: the same wherever it stands in the list, after a restart and on another machine.
    pub id: u64,
    /// Its share of the requests, relative to the others'. At least 1.
    pub weight: u32,
    /// Requests that it is at.
    pub in_flight: u32,
}

/// The power of two choices: two different servers are drawn, each with the chance that its weight gives it, and the one with less to do for
/// its weight gets the request; with as much to do, the one that was drawn first (Mitzenmacher, "The Power of Two Choices in Randomized Load
/// Balancing", 2001). `random` is spent on both draws.
pub fn two_choices(candidates: impl Iterator<Item = Candidate> + Clone, random: u64) -> Option<usize> {
    let total: u64 = candidates.clone().map(|candidate| u64::from(candidate.weight)).sum();
    let (high, low) = (random >> 32, random & 0xffff_ffff);
    let first = draw(candidates.clone(), total, high)?;
    let others = candidates.filter(|candidate| candidate.index != first.index);
    let Some(second) = draw(others, total.saturating_sub(u64::from(first.weight)), low) else {
        return Some(first.index);
    };
    // Multiplied out: (in flight + 1) / weight.
    let load = |one: Candidate, other: Candidate| (u64::from(one.in_flight) + 1) * u64::from(other.weight);
    Some(if load(second, first) < load(first, second) { second.index } else { first.index })
}

/// One of the candidates by weight; `random` has 32 bits.
fn draw(candidates: impl Iterator<Item = Candidate>, total: u64, random: u64) -> Option<Candidate> {
    // The weights of 128 servers sum up to less than 2^32, so nothing is cut off.
    let mut left = total.saturating_mul(random) >> 32;
    let mut last = None;
    for candidate in candidates {
        let weight = u64::from(candidate.weight);
        if left < weight {
            return Some(candidate);
        }
        left -= weight;
        last = Some(candidate);
    }
    last
}

/// Round robin in which a heavy server's turns lie between those of the others, not in a row: every server gains its weight, the one that
/// has most gets the request and pays what all have gained. Over as many requests as the weights sum up to, each gets exactly its weight.
#[derive(Clone, Debug, Default)]
pub struct Smooth {
    /// What the servers have, by their place in the list.
    credit: Vec<i64>,
}

impl Smooth {
    /// For so many servers.
    pub fn new(servers: usize) -> Self {
        Self { credit: vec![0; servers] }
    }

    /// Whose turn it is.
    pub fn turn(&mut self, candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for candidate in candidates {
            let credit = self.credit.get_mut(candidate.index)?;
            *credit += i64::from(candidate.weight);
            total += i64::from(candidate.weight);
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((candidate.index, *credit));
            }
        }
        let (index, _) = best?;
        *self.credit.get_mut(index)? -= total;
        Some(index)
    }
}

/// Rendezvous hashing with weights: each server draws a number that depends on the key and on nothing but itself, and the highest wins. When a
/// server goes, only its own keys move; when one comes, it takes its share from all others (Thaler and Ravishankar, 1998; the weights after
/// Schindelhauer and Schomaker, 2005).
pub fn rendezvous(key: u64, candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
    let score = |candidate: &Candidate| {
        // The upper 52 bits as a number between 0 and 1, neither of them included.
        let bits = mix(key ^ mix(candidate.id)) >> 12;
        #[expect(clippy::cast_precision_loss, reason = "52 bits fit in a double")]
        let unit = (bits as f64 + 0.5) / (1u64 << 52) as f64;
        f64::from(candidate.weight) / -unit.ln()
    };
    candidates.max_by(|one, other| score(one).total_cmp(&score(other))).map(|candidate| candidate.index)
}

/// What stands for a key or a server in [`rendezvous`]: FNV-1a, mixed. It is no secret, and the same everywhere and always, so that several
/// gateways send a key to the same server.
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    mix(fnv)
}

/// Spreads every bit over all others (the finalizer of `SplitMix64`).
pub(crate) const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The value of a cookie among the values of a request's `Cookie` fields (RFC 6265 §5.4); the first one, if there are several.
pub fn cookie<'a>(fields: impl Iterator<Item = &'a [u8]>, name: &[u8]) -> Option<&'a [u8]> {
    let mut pairs = fields.flat_map(|field| field.split(|byte| *byte == b';'));
    pairs.find_map(|pair| pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"="))
}
