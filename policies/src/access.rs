//! Who may pass: rules over networks and tokens, and the proof that one of them let a request in.
//!
//! Invariant: only [`Rule::judge`] makes a [`Permit`], and what cannot be decided refuses: an unknown client is in no
//! network (D1), a token sent twice is no token (D17), and an empty list of rules lets nobody in (D5).

mod refusal;
mod token;

use std::fmt;
use std::sync::Arc;

pub use refusal::Refusal;
pub use token::{InvalidDigest, Slot, TokenDigest, TokenSet};

use crate::client::Identity;
use crate::fields::Fields;
use crate::ip::IpSet;

/// Where a rule was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Line of the configuration, counted from 1; 0 for a rule that is built in.
    pub line: u32,
}

/// A condition and where it was written.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Where it was written.
    pub origin: Origin,
    /// Whom it lets in.
    pub condition: Condition,
}

/// Whom a rule lets in.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Everybody, unknown clients among them.
    Anyone,
    /// Known clients in a network.
    Network {
        /// The name the configuration gives it.
        name: Box<str>,
        /// Its addresses.
        set: Arc<IpSet>,
    },
    /// Whoever presents one of the secrets.
    Token(Arc<TokenSet>),
    /// Clients whose certificate was verified against one set of authorities (and names).
    Certificate {
        /// The name the configuration gives the set.
        name: Box<str>,
        /// Its bit in [`Facts::certificate`].
        bit: u8,
    },
    /// Whom at least one rule lets in, asked in order. A token field sent twice refuses as soon as it is reached,
    /// whatever stands behind it; a rule before it that lets the request in has never looked at the field.
    Any(Box<[Rule]>),
    /// Whom every rule lets in, asked in order.
    All(Box<[Rule]>),
}

/// What rules judge.
#[derive(Debug)]
pub struct Facts<'a, F: ?Sized> {
    /// Who the client is.
    pub identity: &'a Identity,
    /// What it sent.
    pub fields: &'a F,
    /// The sets of client certificates that the client's certificate belongs to, a bit for each; `None`: it showed none. Whoever fills
    /// this has verified the certificate.
    pub certificate: Option<u64>,
    /// When, in seconds since the Unix epoch.
    pub unix: u64,
}

/// Proof that a rule let the request in.
#[derive(Clone, Debug)]
#[must_use]
pub struct Permit {
    /// The first secret that counted; shared, because a permit outlives the plan it was given under.
    token: Option<(Arc<TokenSet>, usize)>,
}

impl Permit {
    /// The names of the token set and of its slot, when a token let the request in.
    pub fn slot(&self) -> Option<(&str, &str)> {
        let (set, index) = self.token.as_ref()?;
        Some((&set.name, &set.slots().get(*index)?.name))
    }
}

/// What `explain` watches while rules are judged; `()` ignores it.
pub trait Trace {
    /// A rule and its outcome. The rules inside `any` and `all` come before it, one level deeper; those that did not
    /// need to be asked do not come.
    fn rule(&mut self, _depth: usize, _rule: &Rule, _outcome: Result<(), Refusal>) {}
}

impl Trace for () {}

impl Rule {
    /// Lets everybody in.
    pub fn anyone() -> Self {
        Self { origin: Origin { line: 0 }, condition: Condition::Anyone }
    }

    /// Whether it lets in everybody, so that being let in says nothing about a client.
    pub fn is_for_anyone(&self) -> bool {
        match &self.condition {
            Condition::Anyone => true,
            Condition::Network { .. } | Condition::Token(_) | Condition::Certificate { .. } => false,
            Condition::Any(rules) => rules.iter().any(Self::is_for_anyone),
            Condition::All(rules) => rules.iter().all(Self::is_for_anyone),
        }
    }

    /// Lets a request in, or says why not.
    #[inline]
    pub fn judge<F: Fields + ?Sized>(&self, facts: &Facts<'_, F>, trace: &mut impl Trace) -> Result<Permit, Refusal> {
        self.judge_at(0, facts, trace)
    }

    fn judge_at<F: Fields + ?Sized>(
        &self,
        depth: usize,
        facts: &Facts<'_, F>,
        trace: &mut impl Trace,
    ) -> Result<Permit, Refusal> {
        let outcome = match &self.condition {
            Condition::Anyone => Ok(Permit { token: None }),
            Condition::Network { set, .. } => match facts.identity {
                Identity::Known(known) if set.contains(known.ip) => Ok(Permit { token: None }),
                Identity::Known(_) => Err(Refusal::OutsideNetwork),
                Identity::Unknown(_) => Err(Refusal::IdentityUnknown),
            },
            Condition::Token(set) => {
                let slot = set.check(facts.fields, facts.unix);
                slot.map(|index| Permit { token: Some((Arc::clone(set), index)) })
            }
            Condition::Certificate { bit, .. } => match facts.certificate {
                Some(sets) if sets.checked_shr(u32::from(*bit)).is_some_and(|sets| sets & 1 == 1) => {
                    Ok(Permit { token: None })
                }
                Some(_) => Err(Refusal::CertificateWrong),
                None => Err(Refusal::CertificateMissing),
            },
            Condition::Any(rules) => any(rules, depth, facts, trace),
            Condition::All(rules) => all(rules, depth, facts, trace),
        };
        trace.rule(depth, self, outcome.as_ref().map(|_| ()).map_err(|&refusal| refusal));
        outcome
    }
}

fn any<F: Fields + ?Sized>(
    rules: &[Rule],
    depth: usize,
    facts: &Facts<'_, F>,
    trace: &mut impl Trace,
) -> Result<Permit, Refusal> {
    let mut told = Refusal::LEAST_TELLING;
    for rule in rules {
        match rule.judge_at(depth + 1, facts, trace) {
            Ok(permit) => return Ok(permit),
            Err(Refusal::TokenDuplicated) => return Err(Refusal::TokenDuplicated),
            Err(refusal) => told = told.more_telling(refusal),
        }
    }
    Err(told)
}

fn all<F: Fields + ?Sized>(
    rules: &[Rule],
    depth: usize,
    facts: &Facts<'_, F>,
    trace: &mut impl Trace,
) -> Result<Permit, Refusal> {
    let mut agreed: Result<Permit, Refusal> = Err(Refusal::LEAST_TELLING);
    for rule in rules {
        let permit = rule.judge_at(depth + 1, facts, trace)?;
        agreed = Ok(match agreed {
            Ok(first @ Permit { token: Some(_) }) => first,
            _ => permit,
        });
    }
    agreed
}

/// As written in the configuration: `any [network internal, token probe]`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, rules) = match &self.condition {
            Condition::Anyone => return f.write_str("anyone"),
            Condition::Network { name, .. } => return write!(f, "network {name}"),
            Condition::Token(set) => return write!(f, "token {}", set.name),
            Condition::Certificate { name, .. } => return write!(f, "client_certificate {name}"),
            Condition::Any(rules) => ("any", rules),
            Condition::All(rules) => ("all", rules),
        };
        write!(f, "{word} [")?;
        for (index, rule) in rules.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{rule}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests;
