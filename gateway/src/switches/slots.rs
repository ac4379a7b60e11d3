//! What is kept about the slots of a service: which one is active, and the switch that goes on.
//!
//! It is kept with the switches, in their file, and so outlives what they outlive.

use std::time::Duration;

use probegate_policies::switch::{self, Stage, Tolerance};
use serde::{Deserialize, Serialize};

use super::{Switches, Turned};
use crate::plan;
use crate::slots::Share;

/// What is kept about the slots of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
#[serde(deny_unknown_fields)]
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
    /// GET and HEAD that fail are sent to the old slot.
    pub retry: bool,
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

    /// The share of the new slot.
    pub fn share(&self) -> u8 {
        self.stages.get(self.at).map_or(switch::WHOLE, |(share, _)| *share)
    }
}

/// A switch that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

impl InSlots {
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
