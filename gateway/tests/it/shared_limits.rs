//! Limits that several gateways share through a real Redis.

mod basics;
mod counts;
mod faults;
mod load;
mod outages;
mod script;
mod servers;
mod silence;

use crate::harness::{Builder, Config, Gateway, Redis, Upstream};

/// A configuration with this store, and more lines for it.
fn config(app: &Upstream, url: &str, limits: &str, service: &str, store: &str) -> String {
    let mut top = format!("{limits}\nlimit_store:\n  redis: \"{url}\"\n");
    if !store.contains("replicas") {
        top.push_str("  replicas: 3\n");
    }
    for line in store.lines() {
        top.push_str("  ");
        top.push_str(line);
        top.push('\n');
    }
    Config::before(app).top(&top).service(service).to_string()
}

/// A gateway that shares its limits in this server.
fn gateway(app: &Upstream, redis: &Redis, limits: &str, service: &str) -> Gateway {
    // Nothing here is about a processor that is busy with other tests.
    gateway_with(app, &redis.url(), limits, service, "timeout: 900ms").start()
}

/// One that is not started yet, with more lines for the store.
fn gateway_with(app: &Upstream, url: &str, limits: &str, service: &str, store: &str) -> Builder {
    Gateway::with(config(app, url, limits, service, store))
}
