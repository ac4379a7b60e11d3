//! `status`: a running gateway at a glance.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use serde_json::Value;

use super::ask::{Gateway, plain};
use super::ban::{moment, seconds};
use super::print;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Gateway,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let Some(answer) = arguments.gateway.ask("GET", "/status") else { return ExitCode::FAILURE };
    if arguments.json {
        return print(format!("{answer:#}\n").as_bytes());
    }
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    print(told(&answer, colour).as_bytes())
}

/// Everything that a person wants to see first.
fn told(answer: &Value, colour: bool) -> String {
    let mut out = gateway(answer);
    let slotted =
        list(answer, "services").flat_map(|service| list(service, "servers")).any(|server| server["slot"].is_string());
    let columns = ["SERVICE", "SLOT", "SERVER", "STATE", "IN FLIGHT", "WHY"];
    let mut servers = Table::new(if slotted { &columns } else { &["SERVICE", "SERVER", "STATE", "IN FLIGHT", "WHY"] });
    let mut slots = Table::new(&["SERVICE", "SLOT", "SHARE", "IN FLIGHT", "REQUESTS", "ERRORS"]);
    let mut traffic = Table::new(&["SERVICE", "REQUESTS/S", "ERRORS/S", "REFUSED/S", "P50", "P99"]);
    let mut probes = Table::new(&["SERVICE", "PROBE", "STATE", "SINCE", "LAST"]);
    let mut notes = String::new();
    for service in list(answer, "services") {
        let name = text(service, "service");
        if let Some(on) = service.get("maintenance").filter(|on| !on.is_null()) {
            let until = on.get("retry_after").and_then(Value::as_u64);
            let until =
                until.map(|seconds| format!(", clients are told to come back after {seconds} s")).unwrap_or_default();
            writeln!(notes, "{name}: in maintenance{until}").ok();
        }
        for slot in list(service, "slots") {
            let share = format!("{} %", text(slot, "percent"));
            let counts = ["in_flight", "requests", "errors"].map(|key| text(slot, key));
            slots.row([name.clone(), text(slot, "slot"), share].into_iter().chain(counts));
        }
        if let Some(to) = service.get("switching_to").and_then(Value::as_str) {
            writeln!(notes, "{name}: a switch to {} goes on", plain(to)).ok();
        }
        for server in list(service, "servers") {
            let [label, in_flight, why] = ["server", "in_flight", "why"].map(|key| text(server, key));
            let slot = slotted.then(|| slot(server));
            servers.row(std::iter::once(name.clone()).chain(slot).chain([label, how(server), in_flight, why]));
        }
        if let Some(rates) = service.pointer("/traffic/windows/1m").filter(|rates| !rates.is_null()) {
            let per_second = ["requests_per_second", "errors_per_second", "refused_per_second"];
            let latency = ["/latency_ms/p50", "/latency_ms/p99"].map(|at| {
                rates.pointer(at).and_then(Value::as_f64).map_or_else(String::new, |ms| format!("{ms:.1} ms"))
            });
            let rates = per_second.map(|key| format!("{:.1}", rates.get(key).and_then(Value::as_f64).unwrap_or(0.0)));
            traffic.row(std::iter::once(name.clone()).chain(rates).chain(latency));
        }
        for probe in list(service, "probes") {
            let since = probe.get("since").and_then(Value::as_u64).map(|at| moment(at / 1000)).unwrap_or_default();
            probes.row([name.clone(), text(probe, "probe"), text(probe, "state"), since, last(probe)]);
        }
    }
    for table in [
        attention(answer),
        servers,
        slots,
        aggregates(answer),
        traffic,
        probes,
        limits(answer),
        certificates(answer),
        denials(answer),
    ] {
        let shown = table.show(colour);
        if !shown.is_empty() {
            write!(out, "\n{shown}").ok();
        }
    }
    let bans = answer.pointer("/bans/count").and_then(Value::as_u64).unwrap_or_default();
    if bans > 0 {
        writeln!(notes, "{bans} {}: `probegate ban list`", if bans == 1 { "ban" } else { "bans" }).ok();
    }
    if !notes.is_empty() {
        write!(out, "\n{notes}").ok();
    }
    out
}

fn gateway(answer: &Value) -> String {
    let at = |pointer: &str| answer.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let part = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (running, wanted) = (at("/gateway/workers"), at("/configuration/workers"));
    let workers = if running == wanted {
        String::new()
    } else {
        format!("; {running} workers run, and {wanted} after a restart")
    };
    format!(
        "probegate {}, {}, up {}, {} connections; configuration {} since {}{workers}\n",
        part("/gateway/version"),
        part("/gateway/state"),
        seconds(at("/gateway/uptime")),
        at("/gateway/connections"),
        at("/configuration/generation"),
        moment(at("/configuration/since")),
    )
}

/// What is wrong with the gateway, and aggregates that do not pass, or not with all of their services.
fn attention(answer: &Value) -> Table {
    let mut table = Table::new(&["NEEDS ATTENTION", "STATE", "WHY"]);
    let gateway = answer.get("gateway").into_iter();
    for (key, word) in [("reasons", "not ready"), ("warnings", "warning")] {
        for wrong in gateway.clone().flat_map(|gateway| list(gateway, key)) {
            let about = text(wrong, "about");
            let about = if about.is_empty() { "gateway".to_owned() } else { format!("gateway: {about}") };
            table.row([about, word.to_owned(), format!("{}: {}", text(wrong, "reason"), text(wrong, "text"))]);
        }
    }
    let now = answer.get("time").and_then(Value::as_u64).unwrap_or_default();
    for aggregate in list(answer, "aggregates") {
        let state = word(aggregate);
        if state == "fail" || state == "warn" {
            let asked = aggregate.get("asked").and_then(Value::as_u64).filter(|_| text(aggregate, "from") == "probes");
            let age = asked.map(|at| now.saturating_sub(at)).filter(|&age| age > 60);
            let age = age.map(|age| format!(", asked {} ago", seconds(age))).unwrap_or_default();
            let name = format!("aggregate: {}", text(aggregate, "aggregate"));
            table.row([name, state, wrong(aggregate) + &age]);
        }
    }
    table
}

/// How an aggregate is.
fn word(aggregate: &Value) -> String {
    let pending = aggregate.get("pending") == Some(&Value::Bool(true));
    if pending { "not asked".to_owned() } else { text(aggregate, "status") }
}

/// Who of an aggregate does not pass, or has something said about it.
fn wrong(aggregate: &Value) -> String {
    let wrong = list(aggregate, "checks").filter_map(|check| {
        let why = text(check, "reason");
        (!why.is_empty()).then(|| format!("{} {why}", text(check, "name")))
    });
    wrong.collect::<Vec<_>>().join(", ")
}

/// How a server is. Of one that was never checked and has answered nobody, nothing is known: that it may be asked does not make it `up`.
fn how(server: &Value) -> String {
    let number = |key: &str| server.get(key).and_then(Value::as_u64).unwrap_or_default();
    let answered = number("requests") > number("failures") + number("in_flight");
    let state = text(server, "state");
    if state == "up" && text(server, "health") == "unknown" && !answered { "not checked".to_owned() } else { state }
}

/// The slot of a server, and whether it gets no requests.
fn slot(server: &Value) -> String {
    let idle = server.get("in_turn") == Some(&Value::Bool(false));
    if idle { format!("{}, not in turn", text(server, "slot")) } else { text(server, "slot") }
}

/// What the app said last: `503 in 12.1 ms`.
fn last(probe: &Value) -> String {
    let Some(last) = probe.get("last").filter(|last| !last.is_null()) else { return String::new() };
    let what = last.get("status").and_then(Value::as_u64).map_or_else(|| text(last, "reason"), |code| code.to_string());
    let ms = last.get("ms").and_then(Value::as_f64).unwrap_or_default();
    format!("{what} in {ms:.1} ms")
}

/// What is said about several services at once, and who of them does not pass, or has something said about it.
fn aggregates(answer: &Value) -> Table {
    let mut table = Table::new(&["AGGREGATE", "PATH", "STATE", "FROM", "WHY"]);
    for aggregate in list(answer, "aggregates") {
        let [name, path, from] = ["aggregate", "path", "from"].map(|key| text(aggregate, key));
        table.row([name, path, word(aggregate), from, wrong(aggregate)]);
    }
    table
}

/// Limits that somebody has met.
fn limits(answer: &Value) -> Table {
    let mut table = Table::new(&["LIMIT", "MODE", "REQUESTS", "REFUSED", "WOULD REFUSE", "WAITING"]);
    for limit in list(answer, "limits") {
        let keys = ["limit", "mode", "requests", "refused", "would_refuse", "waiting"];
        table.row(keys.map(|key| text(limit, key)));
    }
    table
}

fn certificates(answer: &Value) -> Table {
    let mut table = Table::new(&["CERTIFICATE", "STATE", "UNTIL", "LEFT", "FROM"]);
    for certificate in answer.get("certificates").into_iter().flat_map(|all| list(all, "certificates")) {
        let number = |key: &str| certificate.get(key).and_then(Value::as_u64);
        let names: Vec<_> = list(certificate, "names").filter_map(Value::as_str).collect();
        table.row([
            names.join(" "),
            text(certificate, "state"),
            number("not_after").map(moment).unwrap_or_default(),
            number("left").map(|left| seconds(left - left % 3600)).unwrap_or_default(),
            text(certificate, "source"),
        ]);
    }
    table
}

/// The last few of them.
fn denials(answer: &Value) -> Table {
    let mut table = Table::new(&["REFUSED AT", "CLIENT", "REQUEST", "STATUS", "WHY"]);
    for denial in list(answer, "denials").take(5) {
        let at = denial.get("time").and_then(Value::as_u64).unwrap_or_default();
        let request = format!("{} {}{}", text(denial, "method"), text(denial, "host"), text(denial, "path"));
        let policy = text(denial, "policy");
        let why =
            if policy.is_empty() { text(denial, "reason") } else { format!("{} ({policy})", text(denial, "reason")) };
        table.row([moment(at / 1000), text(denial, "client"), request, text(denial, "status"), why]);
    }
    table
}

/// Rows whose columns stand below each other.
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(titles: &[&str]) -> Self {
        Self { rows: vec![titles.iter().map(|&title| title.to_owned()).collect()] }
    }

    /// What a client has sent is text, and not what moves a cursor.
    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| plain(&cell)).collect());
    }

    /// Nothing where there are no rows.
    fn show(&self, colour: bool) -> String {
        let mut out = String::new();
        if self.rows.len() < 2 {
            return out;
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
        for (index, row) in self.rows.iter().enumerate() {
            let last = row.iter().rposition(|cell| !cell.is_empty());
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let shade = if colour { shade(index == 0, cell) } else { "" };
                let end = if shade.is_empty() { "" } else { "\u{1b}[0m" };
                // Behind the last cell there is nothing to align.
                let width = if Some(column) >= last { 0 } else { *width };
                write!(line, "{shade}{cell}{end}{:pad$}", "", pad = width.saturating_sub(cell.chars().count())).ok();
                if Some(column) < last {
                    line.push_str("  ");
                }
            }
            writeln!(out, "{}", line.trim_end()).ok();
        }
        out
    }
}

/// The colour of a cell, as a terminal is told; empty: none.
fn shade(is_title: bool, cell: &str) -> &'static str {
    match cell {
        _ if is_title => "\u{1b}[1m",
        "up" | "good" | "valid" | "pass" => "\u{1b}[32m",
        "down" | "bad" | "fail" | "not ready" | "expired" | "missing" => "\u{1b}[31m",
        "warn" | "warning" | "left out" | "on trial" | "drained" | "not yet valid" => "\u{1b}[33m",
        _ => "",
    }
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// For a terminal.
pub(super) fn text(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::String(text)) => plain(text),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_with_and_without_colour() {
        let mut table = Table::new(&["A", "STATE", "WHY"]);
        table.row(["one".to_owned(), "up".to_owned(), String::new()]);
        table.row(["b\u{1b}[31m".to_owned(), "drained".to_owned(), "by hand".to_owned()]);
        let plain = table.show(false);
        assert_eq!(plain, "A       STATE    WHY\none     up\nb\u{fffd}[31m  drained  by hand\n");
        let coloured = table.show(true);
        assert!(coloured.contains("\u{1b}[32mup\u{1b}[0m"));
        let mut bare = coloured.clone();
        for code in ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[32m", "\u{1b}[33m"] {
            bare = bare.replace(code, "");
        }
        assert_eq!(bare, plain);
        assert_eq!(Table::new(&["A"]).show(true), "");
        assert_eq!(super::plain("a\u{202e}b\u{2067}c\u{200f}"), "a\u{fffd}b\u{fffd}c\u{fffd}");
    }
}
