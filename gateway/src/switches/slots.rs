//! What is kept about the slots of a service: which one is active, and the switch that goes on.
//!
//! It is kept with the switches, in their file, and so outlives what they outlive.

use std::time::Duration;

use probegate_policies::switch::{self, Counts, Stage, Tolerance};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Switches, Turned};
use crate::plan;
use crate::slots::Share;

/// What is kept about the slots of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InSlots {
    /// The slot that was switched to last; `None`: the configuration says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Box<str>>,
    /// A switch that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<Underway>,
    /// The last one that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Ended>,
}

/// A switch that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underway {
    /// What tells it from others.
    pub id: Box<str>,
    /// Where requests come from.
    pub from: Box<str>,
    /// Where they go.
    pub to: Box<str>,
    /// The servers that were checked, as they are written.
    pub servers: Vec<Box<str>>,
    /// Shares of the clients in percent, and how long each lasts, in milliseconds.
    pub stages: Vec<(u8, u64)>,
    /// Which of them it is at.
    pub at: usize,
    /// Percent of errors that are still good.
    pub errors: u32,
    /// Requests over which they are counted at least.
    pub min_requests: u64,
    /// Requests with idempotent methods that fail are sent to the old slot.
    pub retry: bool,
    /// Requests without which it goes back at its end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub required: u64,
    /// What was seen of the new slot when this was written: requests, and how many went wrong.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub seen: (u64, u64),
    /// That is everything: whoever saw it has ended since, as one does, and nobody has gone on yet.
    #[serde(default, skip_serializing_if = "is_false")]
    pub whole: bool,
}

impl Underway {
    /// The stages as they were asked for.
    pub fn stages(&self) -> Vec<Stage> {
        self.stages.iter().map(|(share, time)| Stage { share: *share, time: Duration::from_millis(*time) }).collect()
    }

    /// How many errors are too many.
    pub fn tolerance(&self) -> Tolerance {
        Tolerance { percent: self.errors, min_requests: self.min_requests }
    }

    /// What was seen of the new slot when this was written.
    pub fn seen(&self) -> Counts {
        let (requests, errors) = self.seen;
        Counts { requests, errors }
    }

    /// With this seen of the new slot.
    #[must_use]
    pub fn having_seen(self, Counts { requests, errors }: Counts) -> Self {
        Self { seen: (requests, errors), ..self }
    }

    /// The share of the new slot.
    pub fn share(&self) -> u8 {
        self.stages.get(self.at).map_or(switch::WHOLE, |(share, _)| *share)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

fn is_nothing(seen: &(u64, u64)) -> bool {
    *seen == (0, 0)
}

/// A switch that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// What tells it from others.
    pub id: Box<str>,
    /// Where requests came from.
    pub from: Box<str>,
    /// Where they went, or were to go.
    pub to: Box<str>,
    /// How: a word of [`crate::switching::Outcome`].
    pub outcome: Box<str>,
    /// Why, where it needs words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// When, in seconds since the epoch.
    pub at: u64,
}

/// What a file may say.
mod bounds {
    /// Characters of a name.
    pub(super) const NAME: usize = 64;
    /// Characters of a text for people.
    pub(super) const TEXT: usize = 100_000;
    /// Milliseconds of a stage: a day.
    pub(super) const TIME: u64 = 86_400_000;
    /// Servers of a slot.
    pub(super) const SERVERS: usize = 128;
}

fn is_name(text: &str) -> bool {
    (1..=bounds::NAME).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn is_text(text: &str) -> bool {
    text.len() <= bounds::TEXT && !text.chars().any(char::is_control)
}

impl Underway {
    /// Whether a switch can be like that.
    fn check(&self) -> Result<(), &'static str> {
        let shares = self.stages.iter().map(|(share, _)| *share);
        let grow = shares.clone().zip(shares.skip(1)).all(|(one, next)| one < next);
        match self {
            _ if !is_name(&self.id) => Err("its `id` is none"),
            _ if !is_name(&self.from) || !is_name(&self.to) || self.from == self.to => {
                Err("`from` and `to` are no two slots")
            }
            _ if !grow || self.stages.last().is_none_or(|(share, _)| *share != switch::WHOLE) => {
                Err("`stages` are no shares that grow to 100")
            }
            _ if self.stages.iter().any(|(share, time)| *share == 0 || *time > bounds::TIME) => {
                Err("`stages` has a share of nothing, or a time longer than a day")
            }
            _ if self.at >= self.stages.len() => Err("`at` is behind the last of `stages`"),
            _ if self.errors > 100 || self.min_requests > 1_000_000 => Err("`errors` or `min_requests` is too much"),
            _ if self.required > 1_000_000 => Err("`required` is too much"),
            _ if self.servers.len() > bounds::SERVERS || !self.servers.iter().all(|server| !server.is_empty()) => {
                Err("`servers` are none")
            }
            _ => Ok(()),
        }
    }
}

impl Ended {
    fn check(&self) -> Result<(), &'static str> {
        let names = [&self.id, &self.from, &self.to, &self.outcome];
        if names.into_iter().all(|name| is_name(name)) && is_text(&self.why) {
            Ok(())
        } else {
            Err("it has no such names")
        }
    }
}

/// A part of what is kept about the slots of a service, if it is what it should be.
fn part<T: DeserializeOwned>(
    value: &mut Value,
    key: &str,
    check: impl FnOnce(&T) -> Result<(), &'static str>,
    problem: &mut impl FnMut(String),
) -> Option<T> {
    let found = value.get_mut(key).map(Value::take).filter(|found| !found.is_null())?;
    let read = serde_json::from_value::<T>(found).map_err(|error| error.to_string());
    let checked = read.and_then(|found| check(&found).map(|()| found).map_err(str::to_owned));
    checked.map_err(|why| problem(format!("`{key}`: {why}"))).ok()
}

impl InSlots {
    /// What a file says; what can not be understood, or can not be, is told and left out.
    pub(super) fn read(mut value: Value, mut problem: impl FnMut(String)) -> Self {
        if !value.is_object() {
            problem("they are no object".to_owned());
        }
        let name = |text: &String| if is_name(text) { Ok(()) } else { Err("it is no name of a slot") };
        Self {
            active: part(&mut value, "active", name, &mut problem).map(Into::into),
            switch: part(&mut value, "switch", Underway::check, &mut problem),
            last: part(&mut value, "last", Ended::check, &mut problem),
        }
    }

    /// The split of the requests in a plan with these slots. What the plan does not have any more does not count.
    pub fn share(&self, slots: &plan::Slots) -> Share {
        let active = self.active.as_deref().and_then(|name| slots.index(name)).unwrap_or(slots.active);
        let Some(switch) = &self.switch else { return Share::whole(active) };
        match (slots.index(&switch.from), slots.index(&switch.to)) {
            (Some(from), Some(to)) => Share { from, to, percent: switch.share(), retry: switch.retry },
            (Some(one), None) | (None, Some(one)) => Share::whole(one),
            (None, None) => Share::whole(active),
        }
    }
}

impl Switches {
    /// What is kept about the slots of a service.
    pub fn slots(&self, service: &str) -> InSlots {
        self.kept().record.slots.get(service).cloned().unwrap_or_default()
    }

    /// All services with a switch that goes on.
    pub fn underway(&self) -> Vec<(Box<str>, Underway)> {
        let kept = self.kept();
        let slots = kept.record.slots.iter();
        slots.filter_map(|(service, slots)| Some((service.clone(), slots.switch.clone()?))).collect()
    }

    /// Keeps what was seen by switches that go on, each by its id and with whether that is everything, and writes it once. Why that will not survive the
    /// process. Whoever calls this has leave to ([`Switches::hold`]).
    pub(crate) fn keep_seen(&self, all: &[(Box<str>, Counts, bool)]) -> Option<String> {
        let mut kept = self.kept();
        let mut changed = false;
        for switch in kept.record.slots.values_mut().filter_map(|slots| slots.switch.as_mut()) {
            if let Some((_, seen, whole)) = all.iter().find(|(id, ..)| *id == switch.id) {
                let to = Underway { whole: *whole, ..switch.clone().having_seen(*seen) };
                changed |= to != *switch;
                *switch = to;
            }
        }
        if changed { kept.save() } else { None }
    }

    /// Tells `tell` what is kept about the slots of services, by name, while none of that changes.
    pub fn with_slots(&self, tell: impl FnOnce(&dyn Fn(&str) -> InSlots)) {
        let kept = self.kept();
        tell(&|service| kept.record.slots.get(service).cloned().unwrap_or_default());
    }

    /// Keeps what is known about the slots of a service from now on, and has it told before it is written: a disk may take its time. Whoever calls this
    /// has leave to ([`Switches::hold`]).
    pub(crate) fn keep_slots(&self, service: &str, to: InSlots, tell: impl FnOnce(&InSlots)) -> Turned {
        self.turn(|kept| {
            tell(&to);
            let changed = kept.record.slots.get(service) != Some(&to);
            if to == InSlots::default() {
                kept.record.slots.remove(service);
            } else {
                kept.record.slots.insert(service.into(), to);
            }
            changed
        })
    }
}
