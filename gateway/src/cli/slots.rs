//! `switch`: moves the requests of a service from one slot to another, and stays until it is known how that ended.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ask::{Gateway, Unanswered, plain};
use super::status::{list, text};
use super::switch::{encode, warn};
use super::{USAGE, print, say};
use crate::config;
use crate::switching::stages;

/// Nothing has moved.
const REFUSED: u8 = 1;
/// It went wrong: everything is back.
const RETURNED: u8 = 3;
/// Somebody wanted it back.
const ABORTED: u8 = 4;
/// Nobody knows how it ended: the gateway does not answer.
const UNKNOWN: u8 = 5;

/// The longest that a stage may last.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The most requests that can be asked for.
const MOST: u32 = 1_000_000;

/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// How long a gateway may not answer, because it is started anew.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(super) struct Switch {
    /// The service, as the configuration calls it.
    service: String,
    /// The slot to switch to. Without it, it is told how the slots are.
    #[arg(conflicts_with = "abort")]
    slot: Option<String>,
    /// The version, or the commit, that every server of the slot has to be.
    #[arg(long, requires = "slot")]
    version: Option<String>,
    /// Shares of the clients that the slot gets one after the other, such as `5,25,50`.
    #[arg(long, value_name = "LIST", requires = "slot")]
    percent: Option<String>,
    /// How long each of them lasts. Default: `30s`.
    #[arg(long, value_name = "TIME", requires = "percent")]
    step: Option<String>,
    /// How long the slot is watched when it has everything. Default: as the service says, else `60s`.
    #[arg(long, value_name = "TIME", requires = "slot")]
    bake: Option<String>,
    /// The share of errors beyond which everything goes back. Default: as the service says, else `5%`.
    #[arg(long, value_name = "PERCENT", requires = "slot")]
    errors: Option<String>,
    /// Requests over which that share is counted at least. Default: as the service says, else 50.
    #[arg(long, value_name = "NUMBER", requires = "slot")]
    min_requests: Option<u32>,
    /// Requests that the slot has to be sent until the end; with fewer, everything goes back.
    #[arg(long, value_name = "NUMBER", requires = "slot")]
    require_requests: Option<u32>,
    /// Ask no server first.
    #[arg(long, requires = "slot", conflicts_with = "version")]
    force: bool,
    /// Do not stay until it is over.
    #[arg(long, requires = "slot")]
    detach: bool,
    /// Stay until the switch that goes on is over, and tell what is seen.
    #[arg(long, conflicts_with_all = ["slot", "abort"])]
    watch: bool,
    /// End the switch that goes on: everything goes back.
    #[arg(long)]
    abort: bool,
    /// The answer of the gateway, as JSON.
    #[arg(long, conflicts_with_all = ["slot", "abort", "watch"])]
    json: bool,
    #[command(flatten)]
    gateway: Gateway,
}

/// Exit codes are in `gateway/docs/blue-green.md`.
pub(super) fn run(arguments: &Switch) -> ExitCode {
    let at = format!("/services/{}/switch", encode(&arguments.service));
    let target = match query(arguments) {
        Ok(query) => format!("{at}?{query}"),
        Err(text) => {
            say(&text);
            return ExitCode::from(USAGE);
        }
    };
    if arguments.abort {
        let answer = match arguments.gateway.quietly("DELETE", &at) {
            Ok(answer) => answer,
            Err(why) => return unanswered(&why),
        };
        if !is(&answer, "changed") {
            say("no switch goes on");
            return ExitCode::from(REFUSED);
        }
        warn(&answer);
        let id = switch(&answer, "id");
        return follow(arguments, &at, &id, ABORTED);
    }
    if arguments.slot.is_some() {
        let answer = match arguments.gateway.quietly("PUT", &target) {
            Ok(answer) => answer,
            Err(why) => return unanswered(&why),
        };
        // Where a version is expected, the servers are asked for it all the same.
        if !is(&answer, "changed") && arguments.version.is_none() {
            say("it was so already");
            return ExitCode::SUCCESS;
        }
        warn(&answer);
        if arguments.detach {
            return ExitCode::SUCCESS;
        }
        return follow(arguments, &at, &switch(&answer, "id"), 0);
    }
    let answer = match arguments.gateway.quietly("GET", &at) {
        Ok(answer) => answer,
        Err(why) => {
            say(&why.text);
            return ExitCode::from(if why.unknown { UNKNOWN } else { REFUSED });
        }
    };
    if arguments.json {
        return print(format!("{answer:#}\n").as_bytes());
    }
    if arguments.watch {
        return follow(arguments, &at, &switch(&answer, "id"), 0);
    }
    print(table(&answer).as_bytes())
}

/// The gateway has not done what it was told, or nobody knows.
fn unanswered(why: &Unanswered) -> ExitCode {
    if why.unknown {
        say(&format!("{}: nobody knows whether it was done, `probegate switch SERVICE` tells", why.text));
        return ExitCode::from(UNKNOWN);
    }
    say(&why.text);
    ExitCode::from(REFUSED)
}

/// Tells what is seen until it is over. `aborted`: the code for a switch that was aborted here, which is what was wanted.
fn follow(arguments: &Switch, at: &str, id: &str, wanted: u8) -> ExitCode {
    let (mut since, mut process, mut heard) = (0, String::new(), Instant::now());
    loop {
        let answer = match arguments.gateway.quietly("GET", &format!("{at}?since={since}")) {
            Ok(answer) => answer,
            Err(_) if heard.elapsed() < PATIENCE => {
                thread::sleep(LOOK);
                continue;
            }
            Err(why) => {
                say(&format!("{}: nobody knows how it ended", why.text));
                return ExitCode::from(UNKNOWN);
            }
        };
        heard = Instant::now();
        let now = text(&answer, "process");
        if !process.is_empty() && process != now {
            say("the gateway is another process now");
            since = 0;
            process = now;
            continue;
        }
        process = now;
        if switch(&answer, "id") != id {
            say("it was forgotten, before anything moved, or another one began since");
            return ExitCode::from(REFUSED);
        }
        let Some(found) = answer.get("switch") else { return ExitCode::from(UNKNOWN) };
        let mut told = String::new();
        for line in list(found, "lines") {
            let seconds = line.get("at").and_then(Value::as_u64).unwrap_or_default() / 1000 % 86_400;
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            writeln!(told, "{hours:02}:{minutes:02}:{seconds:02}Z {}", text(line, "text")).ok();
        }
        print(told.as_bytes());
        since = found.get("next").and_then(Value::as_u64).unwrap_or_default();
        let outcome = text(found, "outcome");
        let code = match &*outcome {
            "" => {
                thread::sleep(LOOK);
                continue;
            }
            "done" => 0,
            "returned" => RETURNED,
            "aborted" => ABORTED,
            _ => REFUSED,
        };
        let why =
            Some(text(found, "why")).filter(|why| !why.is_empty()).map_or(String::new(), |why| format!(": {why}"));
        say(&format!("{} {outcome}{why}", text(&answer, "service")));
        return if wanted != 0 && code == wanted { ExitCode::SUCCESS } else { ExitCode::from(code) };
    }
}

/// What the command line wants, as the gateway wants to be told.
fn query(arguments: &Switch) -> Result<String, String> {
    let mut query = Vec::new();
    let mut put = |name: &str, value: &str| query.push(format!("{name}={}", encode(value)));
    if let Some(slot) = &arguments.slot {
        put("to", slot);
    }
    if let Some(version) = &arguments.version {
        if version.is_empty() {
            return Err("`--version` is empty: name one, or leave it out".to_owned());
        }
        put("version", version);
    }
    if let Some(percent) = &arguments.percent {
        stages(percent, Duration::ZERO, Duration::ZERO)?;
        put("percent", percent);
    }
    for (name, time) in [("step", &arguments.step), ("bake", &arguments.bake)] {
        if let Some(time) = time {
            let time = config::duration(time).map_err(|error| format!("`--{name}`: {error}"))?;
            if time > LONGEST {
                return Err(format!("`--{name}` is more than a day"));
            }
            put(name, &time.as_secs_f64().to_string());
        }
    }
    if let Some(errors) = &arguments.errors {
        let percent = errors.trim_end_matches('%');
        if percent.parse::<u8>().ok().is_none_or(|percent| percent > 100) {
            return Err(format!("`--errors` is `{errors}`, expected a share from 0 to 100 %"));
        }
        put("errors", percent);
    }
    for (name, number) in [("min_requests", arguments.min_requests), ("require_requests", arguments.require_requests)] {
        if let Some(number) = number {
            if number > MOST {
                return Err(format!("`--{}` is more than {MOST}", name.replace('_', "-")));
            }
            put(name, &number.to_string());
        }
    }
    if arguments.force {
        put("force", "true");
    }
    Ok(query.join("&"))
}

fn switch(answer: &Value, key: &str) -> String {
    answer.get("switch").map(|switch| text(switch, key)).unwrap_or_default()
}

fn is(answer: &Value, key: &str) -> bool {
    answer.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn table(answer: &Value) -> String {
    let mut out = String::new();
    for slot in list(answer, "slots") {
        let servers: Vec<_> = list(slot, "servers").filter_map(Value::as_str).map(plain).collect();
        writeln!(
            out,
            "{}: {} % of the clients, {} in flight, {} of {} requests went wrong, servers {}",
            text(slot, "slot"),
            text(slot, "percent"),
            text(slot, "in_flight"),
            text(slot, "errors"),
            text(slot, "requests"),
            servers.join(", "),
        )
        .ok();
    }
    for (key, called) in [("switch", "last switch"), ("last", "before it")] {
        let Some(found) = answer.get(key).filter(|found| !text(found, "id").is_empty()) else { continue };
        let (outcome, why) = (text(found, "outcome"), text(found, "why"));
        let how = if outcome.is_empty() { format!("goes on ({})", text(found, "phase")) } else { outcome };
        let why = if why.is_empty() { why } else { format!(": {why}") };
        let (from, to) = (text(found, "from"), text(found, "to"));
        let way = if from == to { format!("of {to}, which had everything") } else { format!("from {from} to {to}") };
        writeln!(out, "{called}, {way}: {how}{why}").ok();
    }
    out
}
