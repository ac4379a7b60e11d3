//! `top`: which limits of a running gateway are met, and by whom.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use serde_json::Value;

use super::ask::Gateway;
use super::ban::moment;
use super::status::{list, text};
use super::switch::encode;
use super::{USAGE, print, say};
use crate::config;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Top {
    /// Limits: how many requests each has judged, and who is over it or near it.
    Limits(Limits),
}

#[derive(Debug, clap::Args)]
pub(super) struct Limits {
    /// Only this one.
    limit: Option<String>,
    /// Once, and not again and again.
    #[arg(long)]
    once: bool,
    /// As JSON, once.
    #[arg(long)]
    json: bool,
    /// How often it is asked.
    #[arg(long, value_name = "TIME", default_value = "2s")]
    every: String,
    /// Keys of each limit, 64 at the most.
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    keys: u8,
    #[command(flatten)]
    gateway: Gateway,
}

pub(super) fn run(command: &Top) -> ExitCode {
    let Top::Limits(arguments) = command;
    let every = match config::duration(&arguments.every) {
        Ok(every) if !every.is_zero() => every,
        Ok(_) => {
            say("`--every` is no time");
            return ExitCode::from(USAGE);
        }
        Err(error) => {
            say(&format!("`--every`: {error}"));
            return ExitCode::from(USAGE);
        }
    };
    let one = arguments.limit.as_ref().map(|name| format!("/{}", encode(name))).unwrap_or_default();
    let target = format!("/limits{one}?keys={}", arguments.keys);
    let mut before: Option<(Instant, HashMap<String, u64>)> = None;
    loop {
        let Some(answer) = arguments.gateway.ask("GET", &target) else { return ExitCode::FAILURE };
        if arguments.json {
            return print(format!("{answer:#}\n").as_bytes());
        }
        // One limit answers for itself.
        let limits: Vec<&Value> =
            if answer.get("limits").is_some() { list(&answer, "limits").collect() } else { vec![&answer] };
        let now = Instant::now();
        let rate = |limit: &Value| {
            let (then, counts) = before.as_ref()?;
            let more = number(limit, "requests").checked_sub(*counts.get(&text(limit, "limit"))?)?;
            Some(per_second(more, now.duration_since(*then).as_secs_f64()))
        };
        let table = table(&limits, rate);
        if arguments.once {
            return print(table.as_bytes());
        }
        // From the top of the screen, and nothing left of what was there.
        let clear = if io::stdout().is_terminal() { "\u{1b}[H\u{1b}[J" } else { "" };
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(format!("{clear}{table}\n").as_bytes()).and_then(|()| out.flush()) {
            // Whoever has seen enough has closed the pipe.
            let seen = error.kind() == io::ErrorKind::BrokenPipe;
            return if seen { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        drop(out);
        let counts = limits.iter().map(|limit| (text(limit, "limit"), number(limit, "requests"))).collect();
        before = Some((now, counts));
        std::thread::sleep(every);
    }
}

/// The columns of the table.
const TITLES: [&str; 6] = ["LIMIT", "TERMS", "REQUESTS", "PER SECOND", "NEAR", "OVER"];

fn table(limits: &[&Value], rate: impl Fn(&Value) -> Option<String>) -> String {
    if limits.is_empty() {
        return "there are no limits\n".to_owned();
    }
    let mut rows = vec![TITLES.map(str::to_owned)];
    for limit in limits {
        let requests = number(limit, "requests");
        let of = |key: &str| match number(limit, key) {
            0 => "0".to_owned(),
            count => format!("{count} ({})", share(count, requests)),
        };
        rows.push([
            text(limit, "limit"),
            text(limit, "terms"),
            requests.to_string(),
            rate(limit).unwrap_or_else(|| "-".to_owned()),
            of("near"),
            of("over"),
        ]);
    }
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..TITLES.len()).map(|column| width(column).unwrap_or_default()).collect();
    let mut out = String::new();
    // The titles are about no limit.
    let about = std::iter::once(None).chain(limits.iter().map(Some));
    for (row, limit) in rows.iter().zip(about) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:width$}  ").ok();
        }
        writeln!(out, "{}", line.trim_end()).ok();
        if let Some(limit) = limit {
            notes(&mut out, limit);
        }
    }
    out
}

/// What stands below a limit: what would be if it did more than watch, and whom it met.
fn notes(out: &mut String, limit: &Value) {
    if text(limit, "mode") == "shadow" {
        let (over, requests) = (number(limit, "over"), number(limit, "requests"));
        let since = moment(number(limit, "since"));
        writeln!(out, "  shadow: would have refused {} of {requests} requests since {since}", share(over, requests))
            .ok();
    }
    let enforced = number(limit, "enforced");
    if (1..100).contains(&enforced) {
        let (refused, would) = (number(limit, "refused"), number(limit, "would_refuse"));
        writeln!(out, "  enforced for {enforced} % of the keys: refused {refused}, would have refused {would} more")
            .ok();
    }
    let Some(hot) = limit.get("hot") else { return };
    for key in list(hot, "keys") {
        let shown = text(key, "shown");
        let name = if shown.is_empty() { text(key, "key") } else { shown };
        let (most, least, over) = (number(key, "requests"), number(key, "at_least"), number(key, "over"));
        let count = if most == least { most.to_string() } else { format!("{least} to {most}") };
        let seconds = number(hot, "seconds");
        writeln!(out, "  {name}: {count} times near or over in {seconds} s, {over} over").ok();
    }
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a share, for people")]
fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0 %".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    if percent >= 10.0 || percent == 0.0 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

#[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
fn per_second(count: u64, seconds: f64) -> String {
    format!("{:.0}", count as f64 / seconds.max(0.001))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_limit_says_whom_it_met() {
        let key = json!({"key": "00ff", "shown": null, "requests": 9, "at_least": 7, "over": 5});
        let hot = json!({"seconds": 75, "requests": 12, "keys": [key]});
        let limit = json!({"limit": "login", "terms": "5/m, burst 4", "mode": "shadow", "since": 1_800_000_000,
            "requests": 1000, "near": 120, "over": 3, "hot": hot});
        assert_eq!(
            table(&[&limit], |_| None),
            "LIMIT  TERMS         REQUESTS  PER SECOND  NEAR        OVER\n\
             login  5/m, burst 4  1000      -           120 (12 %)  3 (0.3 %)\n  \
             shadow: would have refused 0.3 % of 1000 requests since 2027-01-15T08:00:00Z\n  \
             00ff: 7 to 9 times near or over in 75 s, 5 over\n"
        );
    }
}
