//! `status`: services and servers of a running gateway.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::ask::Gateway;
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
    let Some(answer) = arguments.gateway.ask("GET", "/services") else { return ExitCode::FAILURE };
    if arguments.json { print(format!("{answer:#}\n").as_bytes()) } else { print(table(&answer).as_bytes()) }
}

/// The columns of the table, and what is in them.
const COLUMNS: [(&str, &str); 4] =
    [("SERVER", "server"), ("STATE", "state"), ("IN FLIGHT", "in_flight"), ("WHY", "why")];

fn table(answer: &Value) -> String {
    let mut rows = vec![std::iter::once("SERVICE").chain(COLUMNS.map(|(title, _)| title)).map(str::to_owned).collect()];
    let mut notes = String::new();
    for service in list(answer, "services") {
        let name = text(service, "service");
        if let Some(on) = service.get("maintenance").filter(|on| !on.is_null()) {
            let until = on.get("retry_after").and_then(Value::as_u64);
            let until =
                until.map(|seconds| format!(", clients are told to come back after {seconds} s")).unwrap_or_default();
            writeln!(notes, "{name}: in maintenance{until}").ok();
        }
        for server in list(service, "servers") {
            rows.push(
                std::iter::once(name.clone()).chain(COLUMNS.map(|(_, key)| text(server, key))).collect::<Vec<_>>(),
            );
        }
    }
    let mut out = String::new();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..=COLUMNS.len()).map(|column| width(column).unwrap_or_default()).collect();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:width$}  ").ok();
        }
        writeln!(out, "{}", line.trim_end()).ok();
    }
    out + &notes
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn text(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}
