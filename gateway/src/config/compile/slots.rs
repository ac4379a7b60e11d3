//! Slots: which servers belong together, and how requests move between them.

use std::time::Duration;

use probegate_policies::switch::Tolerance;

use super::balance::{self, Special};
use super::{Context, names};
use crate::config::shape::{List, Named};
use crate::config::value::{Flag, Leaf, Name, Percent, Seconds, ServerWord};
use crate::config::{ConfigPath, raw};
use crate::plan;

/// The keys of a service about its slots.
pub(super) struct Written {
    pub(super) slots: Option<Named<raw::UpstreamSlot>>,
    pub(super) active: Option<Leaf<Name>>,
    pub(super) switch: Option<raw::Switching>,
}

/// A server as it is written: where, and what.
pub(super) type WrittenServer = (ConfigPath, ServerWord, Special);

/// Slots with their servers.
pub(super) type Compiled = (Box<plan::Slots>, Vec<WrittenServer>);

/// The slots of the service at `path`, and their servers. `None`: it has none, or they are broken. `appless`: it asks no app.
pub(super) fn slots(raw: Written, appless: bool, path: &ConfigPath, cx: &mut Context<'_>) -> Option<Compiled> {
    let Written { slots, active, switch } = raw;
    let at = path.key("slots");
    let Some(slots) = slots else {
        for (key, _) in [("active", active.is_some()), ("switch", switch.is_some())].iter().filter(|(_, said)| *said) {
            if !cx.is_broken(&at) {
                let message = format!("`{key}` has no meaning here: the service has no slots");
                cx.key_error(&path.key(key), message, "remove it, or write `slots: {blue: {servers: […]}, green: …}`");
            }
        }
        return None;
    };
    if appless {
        let hint = "remove `slots`, or put the redirect into a route";
        cx.key_error(&at, "with `redirect` beside it, these servers would never be asked", hint);
        return None;
    }
    let names = slots.names();
    if names.len() < 2 {
        let hint = "write a second one, or `upstream: {servers: […]}` in place of `slots`";
        cx.error(&at, "one slot is none: there is nothing to switch to", hint);
    } else if names.len() > plan::Slots::MOST {
        let message = format!("{} slots are more than the {} that are allowed", names.len(), plan::Slots::MOST);
        cx.error(&at, message, "two are enough for most: they take turns");
    }
    let (mut each, mut servers) = (Vec::new(), Vec::new());
    for (name, slot) in slots {
        let path = at.key(&name);
        names::check(&name, &path, cx);
        let Some(raw::UpstreamSlot { servers: list }) = slot else { continue };
        let Some(list) = cx.required(list, &path, "servers", "servers: [\"127.0.0.1:8000\"]") else { continue };
        let path = path.key("servers");
        let first = servers.len();
        if list.is_empty() {
            cx.error(&path, "`servers` is empty: nobody would answer", "write `[\"127.0.0.1:8000\"]`");
        }
        for (index, server) in list {
            let path = path.index(index);
            servers.extend(balance::server(server, &path, cx).map(|(word, special)| (path, word, special)));
        }
        let own = servers.get(first..).unwrap_or_default();
        if !own.is_empty() && own.iter().all(|(_, _, special)| special.backup) {
            let message = "every server of the slot is a backup: there is nothing that they stand in for";
            cx.error(&path, message, "remove `backup` at one");
        }
        let bits = (first..servers.len()).fold(0_u128, |bits, index| {
            bits | u32::try_from(index).ok().and_then(|index| 1_u128.checked_shl(index)).unwrap_or(0)
        });
        each.push(plan::Slot { name, servers: bits });
    }
    let switch = switching(switch.unwrap_or_default(), &path.key("switch"), cx);
    let example = format!("active: {}", names.first().map_or("blue", |name| name));
    let Leaf(Name(active)) = cx.required(active, path, "active", &example)?;
    let Some(active) = each.iter().position(|slot| slot.name == active) else {
        if !names.contains(&active) {
            let known = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let message = format!("`{active}` is not a slot of the service");
            cx.error(&path.key("active"), message, format!("its slots are {known}"));
        }
        return None;
    };
    let active = u8::try_from(active).ok()?;
    Some((Box::new(plan::Slots { each, active, switch }), servers))
}

/// The servers of an upstream: those of its slots, or those that it lists itself.
pub(super) fn or_servers(
    slots: Option<Compiled>,
    servers: Option<List<raw::Server>>,
    slotted: bool,
    path: &ConfigPath,
    cx: &mut Context<'_>,
) -> Option<(Option<Box<plan::Slots>>, Vec<WrittenServer>)> {
    let at = path.key("servers");
    if slotted {
        if servers.is_some() {
            let hint = "move them into one of the slots";
            cx.key_error(&at, "`servers` has no meaning here: the service has slots, and these would be in none", hint);
        }
        return slots.map(|(slots, servers)| (Some(slots), servers));
    }
    let servers = cx.required(servers, path, "servers", "servers: [\"127.0.0.1:8000\"]")?;
    if servers.is_empty() {
        cx.error(&at, "`servers` is empty: nobody would answer", "write `[\"127.0.0.1:8000\"]`");
    }
    let list = servers.into_iter().filter_map(|(index, server)| {
        let path = at.index(index);
        balance::server(server, &path, cx).map(|(word, special)| (path, word, special))
    });
    Some((None, list.collect()))
}

fn switching(raw: raw::Switching, path: &ConfigPath, cx: &mut Context<'_>) -> plan::Switching {
    let default = plan::Switching::default();
    let raw::Switching { sticky, bake, errors, min_requests, retry } = raw;
    let Tolerance { percent, min_requests: least } = default.tolerance;
    let least = usize::try_from(least).unwrap_or(usize::MAX);
    let percent = errors.map_or(percent, |Leaf(Percent(percent))| percent);
    let bake = bake.map_or(default.bake, |Leaf(Seconds(time))| time);
    if bake > Duration::from_secs(86_400) {
        cx.error(&path.key("bake"), "`bake` is longer than a day", "the default is `60s`");
    }
    plan::Switching {
        sticky: sticky.and_then(|raw| balance::hash_key(raw, &path.key("sticky"), cx)).unwrap_or(default.sticky),
        bake,
        tolerance: Tolerance {
            percent,
            min_requests: u64::try_from(cx.number(min_requests, path, "min_requests", 1..=1_000_000, least))
                .unwrap_or(u64::MAX),
        },
        retry: retry.is_none_or(|Leaf(Flag(retry))| retry),
    }
}
