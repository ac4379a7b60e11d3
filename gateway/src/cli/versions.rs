//! `versions`: which versions the servers of a running gateway run, side by side.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ask::Gateway;
use super::print;
use super::status::{list, text};

/// How long servers may take together. Each has the timeout of its probe.
const PATIENCE: Duration = Duration::from_secs(15);

/// How soon it is looked again whether they have answered.
const AGAIN: Duration = Duration::from_millis(50);

/// Exit code where nobody could be asked.
const FAILED: u8 = 2;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// One service; without it, all.
    service: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Gateway,
}

/// Exit 0 if the servers of each service run one version, 1 if not, 2 if that can not be found out.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let target = match &arguments.service {
        Some(service) => format!("/versions/{}", encode(service)),
        None => "/versions".to_owned(),
    };
    let end = Instant::now() + PATIENCE;
    let answer = loop {
        let Some(answer) = arguments.gateway.ask("GET", &target) else { return ExitCode::from(FAILED) };
        let pending = list(&answer, "versions").any(|service| service.get("pending") == Some(&Value::Bool(true)));
        if !pending || Instant::now() >= end {
            break answer;
        }
        std::thread::sleep(AGAIN);
    };
    if arguments.json {
        print(format!("{answer:#}\n").as_bytes())
    } else {
        print(table(&answer).as_bytes())
    };
    if list(&answer, "versions").all(|service| text(service, "agree") == "one") {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The columns of the table.
const COLUMNS: [&str; 7] = ["SERVICE", "SERVER", "VERSION", "COMMIT", "SLOT", "BUILT", "WHY"];

fn table(answer: &Value) -> String {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    let mut notes = String::new();
    for service in list(answer, "versions") {
        let name = text(service, "service");
        let note = match &*text(service, "agree") {
            "one" if is_one(service) => "one version",
            "one" => "one version in each slot",
            "several" => "several versions",
            _ => "not every server tells its version",
        };
        writeln!(notes, "{name}: {note}").ok();
        for server in list(service, "servers") {
            let told = |key: &str| server.get("version").map(|version| text(version, key)).unwrap_or_default();
            let mut why = text(server, "why");
            if server.get("serves") == Some(&Value::Bool(false)) {
                why = format!("gets no requests{}{why}", if why.is_empty() { "" } else { "; " });
            }
            // Whose slot is another than it says itself was deployed to the wrong place.
            let slot = match (text(server, "slot"), told("slot")) {
                (slot, told) if slot.is_empty() || slot == told => told,
                (slot, told) if told.is_empty() => slot,
                (slot, told) => format!("{slot}, says {told}"),
            };
            rows.push([
                name.clone(),
                text(server, "server"),
                told("version"),
                told("commit"),
                slot,
                told("build_time"),
                why,
            ]);
        }
    }
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..COLUMNS.len()).map(|column| width(column).unwrap_or_default()).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:width$}  ").ok();
        }
        writeln!(out, "{}", line.trim_end()).ok();
    }
    out + &notes
}

/// Whether all servers of a service that get requests tell the same.
fn is_one(service: &Value) -> bool {
    let serving = list(service, "servers").filter(|server| server.get("serves") != Some(&Value::Bool(false)));
    let told = serving.map(|server| ["version", "commit"].map(|key| server.get("version").map(|told| text(told, key))));
    let told: Vec<_> = told.collect();
    told.windows(2).all(|pair| matches!(pair, [one, next] if one == next))
}

/// A name as it stands in a path.
fn encode(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").ok();
        }
    }
    out
}
