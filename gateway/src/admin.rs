//! The admin listener: what the gateway tells about itself and its services, and what people may turn. It has a thread of its own, so that it answers while
//! the workers are busy.
//!
//! Everything that it answers stands in `RESOURCES`: a resource is a file of its own and a line there.

mod aggregates;
mod audit;
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
mod path;
mod probes;
mod pulse;
mod query;
mod reload;
mod route;
mod services;
mod shadow;
mod slots;
mod snapshot;
mod versions;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use self::audit::{Audit, Change};
pub use self::guard::FIELD;
pub use self::path::Bound;
use self::pulse::Pulse;
use self::query::Query;
use self::route::{Access, Answer, Call, Found, Refused, Resource, Route, invalid, refusal};
use crate::local::feed::Feed;
use crate::local::{self, Answered, Door, Page, Request, Socket};
use crate::plan::AdminSocket;
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
    reload::RESOURCE,
    openapi::RESOURCE,
    page::RESOURCE,
];

/// What the thread of the admin listener keeps.
#[derive(Debug, Default)]
struct Lately {
    pulse: Pulse,
    feed: Feed,
}

impl Lately {
    /// A call for what needs neither names nor a query.
    fn call<'a>(&'a self, state: &'a Arc<State>, active: &'a Active) -> Call<'a> {
        let (pulse, feed) = (&self.pulse, &self.feed);
        Call { state, active, pulse, feed, names: Vec::new(), query: Query::default(), may_look: true }
    }
}

/// What every request is answered from.
#[derive(Clone, Debug)]
struct Desk {
    state: Arc<State>,
    lately: Arc<Lately>,
    audit: Audit,
}

/// The admin listener, as it starts.
#[derive(Debug)]
pub struct Admin(Desk);

impl Admin {
    /// One that answers nowhere yet.
    pub fn new(state: &Arc<State>) -> Self {
        Self(Desk {
            state: Arc::clone(state),
            lately: Arc::default(),
            audit: Audit::new(Arc::clone(&state.metrics.audit_failing)),
        })
    }

    /// Answers at an address.
    ///
    /// # Errors
    /// The system gives no thread or no event loop.
    pub fn at_address(&self, socket: Socket) -> io::Result<()> {
        tracing::info!(address = %socket.address, "admin listener");
        let (address, desk) = (socket.address, self.0.clone());
        let end = desk.clone().replaced(true);
        let counts = Arc::clone(&desk.state.metrics.local);
        local::start("admin", socket, counts, move |request| desk.answer(Some(address), request), end)
    }

    /// Answers at a path.
    ///
    /// # Errors
    /// The socket cannot be made, or the system gives no thread or no event loop.
    pub fn at_path(&self, socket: &AdminSocket, takes_over: bool) -> io::Result<()> {
        let (listener, bound) = path::bind(socket, takes_over)?;
        tracing::info!(path = %socket.path.display(), "admin socket");
        self.0.state.admin_path.lock().unwrap_or_else(PoisonError::into_inner).replace(bound);
        let desk = self.0.clone();
        let tells = desk.state.active().plan.admin.is_none();
        let end = desk.clone().replaced(tells);
        let counts = Arc::clone(&desk.state.metrics.local);
        local::start("admin-socket", Door::Unix(listener), counts, move |request| desk.answer(None, request), end)
    }
}

impl Desk {
    /// Ends when another process answers. Reads the counters until then, and `tells` whoever listens: one of two doors does.
    async fn replaced(self, tells: bool) {
        let (mut teller, mut attempted) = (page::Teller::new(), None);
        while !self.state.is_handed_over() {
            self.lately.pulse.beat(&self.state);
            let active = self.state.active();
            if tells {
                teller.tell(&self.lately.call(&self.state, &active));
                self.audit.attempt(active.plan.audit.as_deref(), &mut attempted, self.state.generation());
                self.audit.rest(active.plan.audit.as_deref());
            }
            tokio::time::sleep(TICK).await;
        }
        self.lately.feed.end();
    }

    /// Answers. `address`: where the listener is; `None`: at a path.
    fn answer(&self, address: Option<SocketAddr>, request: &Request<'_>) -> Answered {
        if let Some(page) = page::part(request) {
            return page.into();
        }
        let (route, names) = match route::find(RESOURCES, request.method, request.path) {
            Found::Route(route, names) => (route, names),
            Found::Method(methods) => {
                let mut page = refused(405, "method_not_allowed", "the method is not allowed here");
                page.fields.push(("Allow", methods.join(", ").replace("GET", "GET, HEAD")));
                return page.into();
            }
            Found::Nothing => {
                return refused(404, "not_found", "there is nothing here; `/openapi.json` says what is where").into();
            }
        };
        let active = self.state.active();
        let tokens = &active.plan.admin_tokens;
        let judge = |access| guard::judge(access, request, address, tokens, unix_time());
        let who = judge(route.access);
        let may_look = if route.access == Access::Open { judge(Access::Read).is_ok() } else { who.is_ok() };
        let page = who.as_ref().map_err(Clone::clone).and_then(|_| self.act(route, names, &active, request, may_look));
        if route.access != Access::Write {
            let mut page = page.unwrap_or_else(|why| refusal(&why, &[]).into());
            if let (Answered::Now(Page { feed: Some(listener), .. }), Ok(who)) = (&mut page, &who) {
                listener.until(guard::expiry(who, tokens));
            }
            return page;
        }
        let mut target = String::from_utf8_lossy(request.path).into_owned();
        if !request.query.is_empty() {
            target = format!("{target}?{}", String::from_utf8_lossy(request.query));
        }
        let may = who.is_ok();
        let who = who.unwrap_or_else(|_| guard::known(request, address, tokens, unix_time()));
        let change = Change { who, method: route.method, target, status: 200, reason: None, may };
        match page {
            Ok(Answered::Later(page)) => self.watch(change, page),
            Ok(Answered::Now(page)) => {
                self.note(change, &page);
                self.warned(page).into()
            }
            Err(why) => {
                let page = refusal(&why, &[]);
                self.note(change, &page);
                page.into()
            }
        }
    }

    /// Does what is asked for by those who may.
    fn act(
        &self,
        route: &'static Route,
        names: Vec<String>,
        active: &Active,
        request: &Request<'_>,
        may_look: bool,
    ) -> Result<Answered, Refused> {
        if request.has_body {
            let text = "a body means nothing here: parameters stand in the query".to_owned();
            return Err((400, "body_unexpected", text));
        }
        let known: Vec<_> = route.parameters.iter().map(|parameter| parameter.name).collect();
        let query = match route.answer {
            // Whoever asks for a probe or for metrics may add what it likes.
            Answer::Page(_) => Query::default(),
            _ => Query::of(request.query, &known).map_err(|text| invalid(text).0)?,
        };
        // Held until a switch is turned and written, so that a hand-over begins behind it.
        let held = (route.access == Access::Write).then(|| self.state.switches.hold());
        if held.as_ref().is_some_and(|held| !self.state.is_in_charge() || held.is_none()) {
            // The other process may write its own switches at this moment.
            return Err((503, "handing_over", "processes change at this moment: ask again".to_owned()));
        }
        let call = Call { names, query, may_look, ..self.lately.call(&self.state, active) };
        Ok(match route.answer {
            Answer::Page(make) => make(&call).into(),
            Answer::Json(make) => match make(&call) {
                Ok(value) => route::page(200, "application/json", &value).into(),
                Err((why, known)) => refusal(&why, &known).into(),
            },
            Answer::Slow(make) => {
                let (state, Call { names, query, .. }) = (Arc::clone(&self.state), call);
                let (tell, told) = oneshot::channel();
                let run = move || {
                    // Whoever asked may be gone.
                    tell.send(make(&state, &names, &query)).ok();
                };
                let started = std::thread::Builder::new().name("admin-slow".to_owned()).spawn(run);
                started.map_err(|error| (503, "no_thread", error.to_string()))?;
                Answered::Later(told)
            }
        })
    }

    /// Writes down how a change ends that takes its time.
    fn watch(&self, change: Change, page: oneshot::Receiver<Page>) -> Answered {
        let (tell, told) = oneshot::channel();
        let desk = self.clone();
        tokio::task::spawn_local(async move {
            if let Ok(page) = page.await {
                desk.note(change, &page);
                tell.send(desk.warned(page)).ok();
            }
        });
        Answered::Later(told)
    }

    /// Says of a change that it is not written down, where it is not.
    fn warned(&self, page: Page) -> Page {
        if page.status >= 400 || !self.audit.is_failing() || self.state.active().plan.audit.is_none() {
            return page;
        }
        let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_slice(&page.body) else { return page };
        let mut text = "it is not written down in the file of `admin.audit`, as the log tells".to_owned();
        if let Some(other) = fields.get("warning").and_then(serde_json::Value::as_str) {
            text = format!("{other}; {text}");
        }
        fields.insert("warning".to_owned(), text.into());
        Page { body: format!("{:#}\n", serde_json::Value::Object(fields)).into_bytes(), ..page }
    }

    fn note(&self, change: Change, page: &Page) {
        let active = self.state.active();
        self.audit.write(active.plan.audit.as_deref(), &Change { status: page.status, reason: page.reason, ..change });
    }
}

fn refused(status: u16, reason: &'static str, text: &str) -> Page {
    refusal(&(status, reason, text.to_owned()), &[])
}

/// A time in milliseconds, with three places.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
