//! What a client is told about its limits: when it is refused, and with answers that pass where the configuration says so.

use probegate_policies::limit::{Decision, headers};

use super::answer::Fields;
use super::judge::Judgement;
use crate::plan::{Limit, Plan, Telling};

/// The values of fields about a limit, in one piece of memory.
#[derive(Debug, Default)]
pub struct Texts {
    bytes: Vec<u8>,
    /// Where each field's value ends.
    ends: [usize; 5],
}

/// In the order of the values.
const NAMES: [&str; 5] =
    ["RateLimit-Policy", "RateLimit", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"];

impl Texts {
    /// Those about this decision. Only those pay for them whom they are told.
    pub fn new(limit: &Limit, decision: &Decision) -> Self {
        let mut texts = Self { bytes: Vec::with_capacity(128), ends: [0; 5] };
        let Self { bytes, ends: [policy, state, most, left, reset] } = &mut texts;
        headers::write_policy(bytes, &limit.name, &limit.quota);
        *policy = bytes.len();
        headers::write_state(bytes, &limit.name, decision);
        *state = bytes.len();
        (*most, *left, *reset) = (*state, *state, *state);
        if limit.tells.legacy {
            headers::write_number(bytes, limit.quota.limit().into());
            *most = bytes.len();
            headers::write_number(bytes, decision.remaining.into());
            *left = bytes.len();
            headers::write_number(bytes, headers::reset_seconds(decision));
            *reset = bytes.len();
        }
        texts
    }

    /// Name and value of each.
    fn fields(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends);
        let values = starts.zip(self.ends).map(|(start, end)| self.bytes.get(start..end).unwrap_or_default());
        NAMES.into_iter().zip(values).filter(|(_, value)| !value.is_empty())
    }

    /// Adds them to the fields of a refusal.
    pub fn push<'a>(&'a self, fields: &mut Fields<'a>) {
        for (name, value) in self.fields() {
            fields.push(name, value);
        }
    }
}

/// Writes field lines for an answer to a request that its limits have let in: about the one with the least left.
pub fn lines(plan: &Plan, judgement: &Judgement<'_>, out: &mut Vec<u8>) {
    let Some(limited) = judgement.limited.filter(|limited| limited.decision.admitted) else { return };
    let Some(limit) = plan.limits.get(limited.limit).filter(|limit| limit.tells.when == Telling::Always) else {
        return;
    };
    for (name, value) in Texts::new(limit, &limited.decision).fields() {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}
