//! `maintenance`, `drain` and `undrain`: switches of a running gateway.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::ask::{Gateway, plain};
use super::{USAGE, say};
use crate::config;

/// On or off.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum To {
    /// From now on.
    On,
    /// Not any more.
    Off,
}

#[derive(Debug, clap::Args)]
pub(super) struct Maintenance {
    /// From now on, or not any more.
    to: To,
    /// The service, as the configuration calls it.
    service: String,
    /// When clients are told to come back, such as `10m`.
    #[arg(long, value_name = "TIME")]
    retry_after: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Debug, clap::Args)]
pub(super) struct Drain {
    /// The service, as the configuration calls it.
    service: String,
    /// Its server, as the configuration calls it.
    server: String,
    /// Even if it is the last one.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Debug, clap::Args)]
pub(super) struct Undrain {
    /// The service, as the configuration calls it.
    service: String,
    /// Its server, as the configuration calls it.
    server: String,
    #[command(flatten)]
    gateway: Gateway,
}

pub(super) fn maintenance(arguments: &Maintenance) -> ExitCode {
    let mut target = format!("/services/{}/maintenance", encode(&arguments.service));
    if let Some(text) = &arguments.retry_after {
        match (config::duration(text), arguments.to) {
            (_, To::Off) => {
                say("`--retry-after` has no meaning with `off`");
                return ExitCode::from(USAGE);
            }
            (Ok(time), To::On) if time.as_secs() > 0 => {
                write!(target, "?retry_after={}", time.as_secs()).ok();
            }
            (Ok(_), To::On) => {
                say("`--retry-after` is less than a second");
                return ExitCode::from(USAGE);
            }
            (Err(error), To::On) => {
                say(&format!("`--retry-after`: {error}"));
                return ExitCode::from(USAGE);
            }
        }
    }
    let method = if matches!(arguments.to, To::On) { "PUT" } else { "DELETE" };
    tell(arguments.gateway.ask(method, &target))
}

pub(super) fn drain(arguments: &Drain) -> ExitCode {
    let mut target = drain_target(&arguments.service, &arguments.server);
    if arguments.force {
        target.push_str("?force");
    }
    tell(arguments.gateway.ask("PUT", &target))
}

pub(super) fn undrain(arguments: &Undrain) -> ExitCode {
    tell(arguments.gateway.ask("DELETE", &drain_target(&arguments.service, &arguments.server)))
}

fn drain_target(service: &str, server: &str) -> String {
    format!("/services/{}/servers/{}/drain", encode(service), encode(server))
}

/// Says what the gateway has done.
pub(super) fn tell(answer: Option<Value>) -> ExitCode {
    let Some(answer) = answer else { return ExitCode::FAILURE };
    if answer.get("changed").and_then(Value::as_bool) == Some(false) {
        say("it was so already");
    }
    warn(&answer);
    ExitCode::SUCCESS
}

/// Says what is wrong with what the gateway has done all the same.
pub(super) fn warn(answer: &Value) {
    if let Some(warning) = answer.get("warning").and_then(Value::as_str) {
        say(&format!("warning: {}", plain(warning)));
    }
}

/// Text as a segment of a path.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").ok();
        }
    }
    out
}
