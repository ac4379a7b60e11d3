//! `ban`: who is kept out of a running gateway, and why.

use std::fmt::Write as _;
use std::process::ExitCode;

use chrono::DateTime;
use serde_json::Value;

use super::ask::Gateway;
use super::status::{list, text};
use super::switch::{encode, tell};
use super::{USAGE, print, say};
use crate::config;
use crate::plan::BY_HAND;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Ban {
    /// Who is banned.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Keep a client out.
    Add {
        /// Its address. Of an IPv6 address, the network of 64 bits around it.
        address: String,
        /// For how long, such as `1h`.
        #[arg(long = "for", value_name = "TIME", default_value = "24h")]
        time: String,
        /// Why, for whoever asks.
        #[arg(long, default_value = "")]
        reason: String,
        /// Even if it is in network `internal`.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Let a client in again, and forget what it did.
    Lift {
        /// Its address.
        #[arg(required_unless_present = "all")]
        address: Option<String>,
        /// All of them.
        #[arg(long, conflicts_with = "address")]
        all: bool,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Say whether a client is banned, why, and how far it is from it. Exit 0: it is not. 1: it is, or nobody could be asked.
    Why {
        /// Its address.
        address: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        gateway: Gateway,
    },
}

pub(super) fn run(command: &Ban) -> ExitCode {
    match command {
        Ban::List { json, gateway } => {
            let Some(answer) = gateway.ask("GET", "/bans") else { return ExitCode::FAILURE };
            if *json { print(format!("{answer:#}\n").as_bytes()) } else { print(table(&answer).as_bytes()) }
        }
        Ban::Add { address, time, reason, force, gateway } => {
            let seconds = match config::duration(time) {
                Ok(time) if time.as_secs() > 0 => time.as_secs(),
                Ok(_) => {
                    say("`--for` is less than a second");
                    return ExitCode::from(USAGE);
                }
                Err(error) => {
                    say(&format!("`--for`: {error}"));
                    return ExitCode::from(USAGE);
                }
            };
            let force = if *force { "&force" } else { "" };
            let target = format!("/bans/{}?for={seconds}&reason={}{force}", encode(address), encode(reason));
            tell(gateway.ask("PUT", &target))
        }
        Ban::Lift { address, gateway, .. } => {
            let target =
                address.as_ref().map_or_else(|| "/bans".to_owned(), |address| format!("/bans/{}", encode(address)));
            let Some(answer) = gateway.ask("DELETE", &target) else { return ExitCode::FAILURE };
            if let Some(warning) = answer.get("warning").and_then(Value::as_str) {
                say(&format!("warning: {warning}"));
            }
            match answer.get("lifted").and_then(Value::as_u64) {
                Some(0) | None => say("nobody was banned"),
                Some(count) if address.is_none() => say(&format!("{count} lifted")),
                Some(_) => {}
            }
            ExitCode::SUCCESS
        }
        Ban::Why { address, json, gateway } => {
            let Some(answer) = gateway.ask("GET", &format!("/bans/{}", encode(address))) else {
                return ExitCode::FAILURE;
            };
            let banned =
                list(&answer, "policies").any(|policy| is(policy, "banned") && text(policy, "mode") == "enforce");
            let printed =
                if *json { print(format!("{answer:#}\n").as_bytes()) } else { print(explained(&answer).as_bytes()) };
            if banned { ExitCode::FAILURE } else { printed }
        }
    }
}

/// The columns of the list.
const TITLES: [&str; 6] = ["CLIENT", "POLICY", "LEFT", "UNTIL", "COUNT", "WHY"];

fn table(answer: &Value) -> String {
    let mut rows = vec![TITLES.map(str::to_owned)];
    for ban in list(answer, "bans") {
        let shadow = if text(ban, "mode") == "shadow" { " (shadow)" } else { "" };
        rows.push([
            text(ban, "client"),
            text(ban, "policy") + shadow,
            seconds(number(ban, "left")),
            moment(number(ban, "until")),
            text(ban, "count"),
            text(ban, "text"),
        ]);
    }
    let mut out = String::new();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..TITLES.len()).map(|column| width(column).unwrap_or_default()).collect();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:width$}  ").ok();
        }
        writeln!(out, "{}", line.trim_end()).ok();
    }
    out
}

/// What `why` says.
fn explained(answer: &Value) -> String {
    let mut out = String::new();
    let client = text(answer, "client");
    for policy in list(answer, "policies") {
        let (name, shadow) = (text(policy, "policy"), text(policy, "mode") == "shadow");
        let last = policy.get("last").filter(|last| !last.is_null());
        let mut line = match last {
            Some(ban) if is(policy, "banned") => {
                let word = if shadow { "would be banned" } else { "is banned" };
                format!("{word} for {} more, until {}", seconds(number(ban, "left")), moment(number(ban, "until")))
            }
            _ => "is not banned".to_owned(),
        };
        if let Some(ban) = last {
            let why = text(ban, "text");
            let why = if why.is_empty() { why } else { format!(": {why}") };
            write!(line, "; ban {} of {}{why}", number(ban, "count"), moment(number(ban, "since"))).ok();
        }
        if let Some(never) = policy.get("never").and_then(Value::as_str) {
            write!(line, "; never, because it is {never}").ok();
        } else if let Some(max) = policy.get("max_offences").and_then(Value::as_u64) {
            let (count, window) = (number(policy, "offences"), seconds(number(policy, "window")));
            write!(line, "; {count} of {max} offences in {window}").ok();
        }
        // Bans by hand are spoken of where there are any.
        if name != BY_HAND || last.is_some() || policy.get("never").is_some_and(Value::is_string) {
            writeln!(out, "{client} {line} ({name}{})", if shadow { ", shadow" } else { "" }).ok();
        }
    }
    if out.is_empty() {
        writeln!(out, "{client} is not banned").ok();
    }
    out
}

fn is(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// `1h`, `9m59s`.
pub(super) fn seconds(number: u64) -> String {
    let parts = [(number / 86_400, "d"), (number / 3600 % 24, "h"), (number / 60 % 60, "m"), (number % 60, "s")];
    let mut text = String::new();
    for (count, unit) in parts.iter().filter(|(count, _)| *count > 0) {
        write!(text, "{count}{unit}").ok();
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Seconds since the epoch, for people.
pub(super) fn moment(unix: u64) -> String {
    let time = i64::try_from(unix).ok().and_then(|unix| DateTime::from_timestamp(unix, 0));
    time.map_or_else(|| unix.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_say_them() {
        assert_eq!([0, 59, 60, 3600, 86_399, 90_061].map(seconds), ["0s", "59s", "1m", "1h", "23h59m59s", "1d1h1m1s"]);
        assert_eq!(moment(1_800_000_000), "2027-01-15T08:00:00Z");
    }
}
