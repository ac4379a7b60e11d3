//! The diagnostics log: what the gateway has to say about itself, on standard error. Pingora's records arrive here as well.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// Changes the level of a running log.
#[derive(Clone, Debug)]
pub struct Level {
    handle: reload::Handle<EnvFilter, tracing_subscriber::Registry>,
}

impl Level {
    /// Puts a new filter in force. One that can not be understood changes nothing; the configuration has checked it before.
    pub fn set(&self, filter: &str) {
        if let Err(error) = parse(filter).map(|filter| self.handle.reload(filter)) {
            tracing::warn!(%error, "the log level was not changed");
        }
    }
}

/// Starts the log: text for a terminal, JSON lines otherwise, so that one parser reads diagnostics and access log.
pub fn start(filter: &str) -> Level {
    let filter = parse(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = if std::io::stderr().is_terminal() {
        registry.with(format.with_target(false)).try_init()
    } else {
        registry.with(format.json().flatten_event(true).with_current_span(false).with_span_list(false)).try_init()
    };
    // A second log in one process (tests in the library) keeps the first.
    started.ok();
    Level { handle }
}

/// A filter. What Pingora has to say below a warning is about its own workings: shown only where the level asks for everything.
fn parse(filter: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    match filter {
        "debug" | "trace" => EnvFilter::try_new(filter),
        _ => EnvFilter::try_new(format!("pingora=warn,pingora_core=warn,{filter}")),
    }
}
