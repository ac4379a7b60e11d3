//! The page for people: one static page with its style and scripts, inside the program, and the events that keep it up to date.
//!
//! Anybody may have the page: it tells nothing, and asks for what it shows like everybody else.
//!
//! Invariant: nothing on it comes from elsewhere, and nothing on it is made from text: browsers are told so (`Content-Security-Policy`).

use std::time::{Duration, Instant};

use super::Call;
use super::route::{Access, Answer, Resource, Route, refusal};
use super::snapshot;
use crate::local::{Page, Request};

/// How often listeners are told how things are.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: "{}",
    routes: &[Route {
        method: "GET",
        path: "/events",
        access: Access::Read,
        summary: "What `/status` says, every other second, as server-sent events; 503 where enough listen already",
        parameters: &[],
        schema: "text/event-stream",
        answer: Answer::Page(events),
    }],
};

/// What a browser may do with the page: ask this address, and nothing else. No script is made from text, no page frames it, nothing is sent on.
const RULES: [(&str, &str); 5] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];

/// A part of the page; `None`: something else is asked for.
pub(super) fn part(request: &Request<'_>) -> Option<Page> {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    let (content_type, text) = match (request.method, request.path) {
        (b"GET" | b"HEAD", b"/") => ("text/html; charset=utf-8", include_str!("page/index.html")),
        (b"GET" | b"HEAD", path) => match path.strip_prefix(b"/page/")? {
            b"style.css" => ("text/css; charset=utf-8", include_str!("page/style.css")),
            b"icon.svg" => ("image/svg+xml", include_str!("page/icon.svg")),
            b"page.js" => (SCRIPT, include_str!("page/page.js")),
            b"act.js" => (SCRIPT, include_str!("page/act.js")),
            b"dom.js" => (SCRIPT, include_str!("page/dom.js")),
            b"feed.js" => (SCRIPT, include_str!("page/feed.js")),
            b"services.js" => (SCRIPT, include_str!("page/services.js")),
            b"slots.js" => (SCRIPT, include_str!("page/slots.js")),
            b"tables.js" => (SCRIPT, include_str!("page/tables.js")),
            b"trouble.js" => (SCRIPT, include_str!("page/trouble.js")),
            b"words.js" => (SCRIPT, include_str!("page/words.js")),
            _ => return None,
        },
        _ => return None,
    };
    let fields = RULES.map(|(name, value)| (name, value.to_owned())).to_vec();
    Some(Page { content_type, fields, ..Page::new(200, text) })
}

fn events(call: &Call<'_>) -> Page {
    let Some(listener) = call.feed.listen() else {
        return refusal(&(503, "too_many_listeners", "enough listen already: ask `/status` instead".to_owned()), &[]);
    };
    Page { content_type: "text/event-stream", feed: Some(listener), ..Page::new(200, event(call)) }
}

/// How things are, as an event.
fn event(call: &Call<'_>) -> Vec<u8> {
    // Without line breaks, which JSON has none of when nobody asks for them.
    format!("data: {}\n\n", snapshot::answer(call)).into_bytes()
}

/// Tells those who listen.
#[derive(Debug)]
pub(super) struct Teller {
    last: Instant,
    generation: u64,
}

impl Teller {
    /// Nobody was told anything yet.
    pub(super) fn new() -> Self {
        Self { last: Instant::now(), generation: 0 }
    }

    /// Tells how things are, if somebody listens and it is time to. A new configuration may name other tokens: whoever listens has to ask again.
    pub(super) fn tell(&mut self, call: &Call<'_>) {
        let generation = call.state.generation();
        if self.generation != generation {
            self.generation = generation;
            call.feed.end();
        }
        if call.feed.is_heard() && self.last.elapsed() >= INTERVAL {
            self.last = Instant::now();
            call.feed.tell(event(call));
        }
    }
}
