//! The admin listener: what the gateway tells about itself and its services, and what people may turn. It has a thread of its own, so that it answers while
//! the workers are busy.
//!
//! Everything that it answers stands in `RESOURCES`: a resource is a file of its own and a line there.

mod aggregates;
mod bans;
mod certificates;
mod configuration;
mod control;
mod denials;
mod guard;
mod limits;
mod openapi;
mod own;
mod page;
mod probes;
mod pulse;
mod query;
mod route;
mod services;
mod shadow;
mod slots;
mod snapshot;
mod versions;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::guard::FIELD;
use self::pulse::Pulse;
use self::query::Query;
use self::route::{Access, Answer, Call, Found, Resource, Route, invalid, refusal};
use crate::local::feed::Feed;
use crate::local::{self, Page, Request, Socket};
use crate::readiness;
use crate::state::{Active, State, unix_time};
use crate::wire::deadline::TICK;

/// Everything that is answered.
const RESOURCES: &[Resource] = &[
    own::RESOURCE,
    snapshot::RESOURCE,
    services::RESOURCE,
    slots::RESOURCE,
    probes::RESOURCE,
    aggregates::RESOURCE,
    versions::RESOURCE,
    limits::RESOURCE,
    bans::RESOURCE,
    shadow::RESOURCE,
    certificates::RESOURCE,
    denials::RESOURCE,
    configuration::RESOURCE,
    openapi::RESOURCE,
    page::RESOURCE,
];

/// Starts to answer.
///
/// # Errors
/// The system gives no thread or no event loop.
pub fn start(socket: Socket, state: Arc<State>) -> io::Result<()> {
    tracing::info!(address = %socket.address, "admin listener");
    let lately = Arc::new(Lately::default());
    let (watched, known) = (Arc::clone(&state), Arc::clone(&lately));
    let replaced = async move {
        let mut teller = page::Teller::new();
        while !watched.is_handed_over() {
            known.pulse.beat(&watched);
            teller.tell(&known.call(&watched, &watched.active()));
            tokio::time::sleep(TICK).await;
        }
        known.feed.end();
    };
    let address = socket.address;
    local::start("admin", socket, move |request| answered(&state, &lately, address, request), replaced)
}

/// What the thread of the admin listener keeps.
#[derive(Debug, Default)]
struct Lately {
    pulse: Pulse,
    feed: Feed,
}

impl Lately {
    /// A call for what needs neither names nor a query.
    fn call<'a>(&'a self, state: &'a Arc<State>, active: &'a Active) -> Call<'a> {
        Call { state, active, pulse: &self.pulse, feed: &self.feed, names: Vec::new(), query: Query::default() }
    }
}

fn answered(state: &Arc<State>, lately: &Lately, address: SocketAddr, request: &Request<'_>) -> Page {
    if let Some(page) = page::part(request) {
        return page;
    }
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
    answer(route, &Call { names, query, ..lately.call(state, &active) })
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
    readiness::reasons(state, &state.active()).first().map(|wrong| wrong.reason)
}

/// A time in milliseconds, with three places.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
