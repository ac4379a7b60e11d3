//! Which servers a request could go to, and what happens when one fails.

use std::fmt::Write as _;

use crate::plan::{Methods, Upstream};

/// Lines for what the servers are, when one is left out, what waits and what is sent again; none for a server that is alone and not bounded.
pub(super) fn lines(upstream: &Upstream) -> Vec<(&'static str, String)> {
    let (servers, balancing) = (&upstream.servers, &upstream.balancing);
    let bounded = servers.iter().any(|server| server.max_in_flight.is_some());
    if servers.len() < 2 && !bounded {
        return Vec::new();
    }
    let mut list = Vec::new();
    for (index, server) in servers.iter().enumerate() {
        let mut text = format!("`{}`", server.label);
        let mut notes = Vec::new();
        if let Some((_, slot)) = upstream.slots.as_ref().and_then(|slots| slots.of(index)) {
            notes.push(format!("slot {}", slot.name));
        }
        if server.weight != 1 {
            notes.push(format!("weight {}", server.weight));
        }
        if let Some(most) = server.max_in_flight {
            notes.push(format!("{most} at a time"));
        }
        if server.backup {
            notes.push("backup".to_owned());
        }
        if !notes.is_empty() {
            // Writing to a string does not fail.
            write!(text, " ({})", notes.join(", ")).ok();
        }
        list.push(text);
    }
    let list = list.join(", ");
    let mut lines = Vec::new();
    if let Some(slots) = &upstream.slots {
        let active = slots.get(slots.active).map_or("", |slot| &*slot.name);
        lines.push(("slots", format!("`{active}`, unless `probegate switch` has said another one")));
        lines.push(("switch", slots.switch.to_string()));
    }
    if servers.len() > 1 {
        lines.push(("servers", format!("{}: {list}", balancing.choice)));
        let terms = &balancing.terms;
        if terms.max_fails > 0 {
            let (fails, time) = (terms.max_fails, terms.fail_timeout);
            let mut text = format!("after {fails} failures within {time:?}, for {time:?} and longer each time");
            if !balancing.fail_on.is_empty() {
                write!(text, "; statuses {} are failures", numbers(&balancing.fail_on)).ok();
            }
            if !balancing.slow_start.is_zero() {
                write!(text, "; its whole share again after {:?}", balancing.slow_start).ok();
            }
            lines.push(("left out", text));
        }
    } else {
        lines.push(("servers", list));
    }
    if bounded {
        let queue = &balancing.queue;
        let text = match queue.max {
            0 => "nothing waits".to_owned(),
            max => format!("{max} requests wait, for {:?}", queue.timeout),
        };
        lines.push(("queue", text));
    }
    let retries = &balancing.retries;
    let mut text = match retries.attempts {
        0 => "what was sent is not sent again".to_owned(),
        attempts => format!(
            "{attempts} times where that does no harm, {} % of all requests and {} a second",
            retries.share.percent, retries.share.min_per_second
        ),
    };
    if retries.methods != Methods::ALL {
        write!(text, "; only {}", retries.methods).ok();
    }
    if retries.on_timeout {
        text.push_str("; at a timeout, too");
    }
    if !retries.on_status.is_empty() {
        write!(text, "; at statuses {}, too", numbers(&retries.on_status)).ok();
    }
    lines.push(("retries", text));
    lines
}

fn numbers(statuses: &[u16]) -> String {
    statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}
