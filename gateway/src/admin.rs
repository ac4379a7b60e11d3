//! The admin listener: what the gateway tells about itself and its services, and what people may turn. It has a thread of its own, so that it answers while
//! the workers are busy.
//!
//! Everything that it answers stands in [`RESOURCES`]: a resource is a file of its own and a line there.

mod bans;
mod certificates;
mod configuration;
mod control;
mod denials;
mod guard;
mod limits;
mod openapi;
mod own;
mod probes;
mod pulse;
mod query;
mod route;
mod services;
mod shadow;
mod snapshot;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::guard::FIELD;
use self::pulse::Pulse;
use self::query::Query;
use self::route::{Access, Answer, Call, Found, Resource, Route, invalid, refusal};
use crate::local::{self, Page, Request, Socket};
use crate::state::{State, unix_time};
use crate::wire::deadline::TICK;

/// Everything that is answered.
const RESOURCES: &[Resource] = &[
    own::RESOURCE,
    snapshot::RESOURCE,
    services::RESOURCE,
    probes::RESOURCE,
    limits::RESOURCE,
    bans::RESOURCE,
    shadow::RESOURCE,
    certificates::RESOURCE,
    denials::RESOURCE,
    configuration::RESOURCE,
    openapi::RESOURCE,
];

/// Starts to answer.
///
/// # Errors
/// The system gives no thread or no event loop.
pub fn start(socket: Socket, state: Arc<State>) -> io::Result<()> {
    tracing::info!(address = %socket.address, "admin listener");
    let pulse = Arc::new(Pulse::default());
    let (watched, beats) = (Arc::clone(&state), Arc::clone(&pulse));
    let replaced = async move {
        while !watched.is_handed_over() {
            beats.beat(&watched);
            tokio::time::sleep(TICK).await;
        }
    };
    let address = socket.address;
    local::start("admin", socket, move |request| page(&state, &pulse, address, request), replaced)
}

fn page(state: &Arc<State>, pulse: &Pulse, address: SocketAddr, request: &Request<'_>) -> Page {
    let refused = |status, reason, text: &str| refusal(&(status, reason, text.to_owned()), &[]);
    let (route, names) = match route::find(RESOURCES, request.method, request.path) {
        Found::Route(route, names) => (route, names),
        Found::Method(methods) => {
            let mut page = refused(405, "method_not_allowed", "the method is not allowed here");
            page.fields.push(("Allow", methods.join(", ").replace("GET", "GET, HEAD")));
            return page;
        }
        Found::Nothing => {
            return refused(404, "not_found", "there is nothing here; `/openapi.json` says what is where");
        }
    };
    // Held until a switch is turned and written, so that a hand-over begins behind it.
    let held = (route.access == Access::Write).then(|| state.switches.hold());
    if held.as_ref().is_some_and(|held| !state.is_open() || state.is_handed_over() || held.is_none()) {
        // The other process may write its own switches at this moment.
        return refused(503, "handing_over", "processes change at this moment: ask again");
    }
    let active = state.active();
    if let Err(why) = guard::judge(route.access, request, address, active.plan.admin_token.as_deref(), unix_time()) {
        tracing::warn!(reason = why.1, method = route.method, path = route.path, "the admin listener refuses");
        return refusal(&why, &[]);
    }
    let known: Vec<_> = route.parameters.iter().map(|parameter| parameter.name).collect();
    let query = match Query::of(request.query, &known) {
        Ok(query) => query,
        Err(text) => return refusal(&invalid(text).0, &[]),
    };
    answer(route, &Call { state, active: &active, pulse, names, query })
}

fn answer(route: &Route, call: &Call<'_>) -> Page {
    match route.answer {
        Answer::Page(make) => make(call),
        Answer::Json(make) => match make(call) {
            Ok(value) => route::page(200, "application/json", &value),
            Err((why, known)) => refusal(&why, &known),
        },
    }
}

/// Why the gateway takes no traffic; `None`: it does.
fn readiness(state: &State) -> Option<&'static str> {
    match () {
        () if state.is_ready() => None,
        () if state.is_draining() => Some("draining"),
        () => Some("starting"),
    }
}

/// A time in milliseconds, with three places.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
