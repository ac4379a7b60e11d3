//! `demo`: the gateway in front of a small app of its own, with a token made for the occasion, and the commands to try.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use super::run::start;
use super::{USAGE, colour, say};
use crate::config::{self, Source};
use crate::listen::{self, Activated, Listening};
use crate::local::{self, Page, Request, Socket};
use crate::plan::{Listener, Plan};
use crate::server::Options;
use crate::wire::head::Name;

const TEMPLATE: &str = include_str!("demo.yaml");

/// Starts the app and the gateway before it.
pub(super) fn run(address: SocketAddr, admin: SocketAddr) -> ExitCode {
    let app = listen::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1, 1).map_err(|error| error.to_string());
    let app = app.and_then(|listening| Socket::new(listening).map_err(|error| error.to_string()));
    let started = app.and_then(|socket| {
        let server = socket.address;
        local::start("demo-app", socket, Arc::default(), page, std::future::pending())
            .map(|()| server)
            .map_err(|error| error.to_string())
    });
    let server = match started {
        Ok(server) => server,
        Err(error) => {
            say(&format!("the demo app cannot be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let token = format!("{:032x}", fastrand::u128(..));
    let text = TEMPLATE.replace("@SERVER@", &server.to_string()).replace("@TOKEN@", &token);
    let source = Source { name: "demo configuration".to_owned(), text };
    let mut loaded = match config::compile(&source, &config::System::new("")) {
        Ok(loaded) => loaded,
        Err(problems) => {
            say(&problems.render(&source, colour()));
            return ExitCode::from(USAGE);
        }
    };
    // The demo shows a token in clear text on purpose; its lints would only distract.
    loaded.lints.clear();
    loaded.plan.listeners = vec![Listener::plain(address)];
    loaded.plan.admin = Some(admin);
    // As bound, which is what to try where port 0 was asked for.
    let announce = move |_: &Plan, listening: &[Listening], bound: Option<SocketAddr>| {
        let address = listening.first().map_or(address, |open| open.bound);
        say(&instructions(address, bound.unwrap_or(admin), &token));
        tracing::info!(%address, "the demo listens; end it with Ctrl+C");
    };
    let options = Options {
        config: None,
        upgrade: false,
        upgrade_socket: None,
        activated: Activated::default(),
        announce: Box::new(announce),
    };
    start(loaded, options)
}

fn instructions(address: SocketAddr, admin: SocketAddr, token: &str) -> String {
    format!(
        "\
probegate demo: a guarded app on http://{address}. Its proxies are pretended: 127.0.0.1 is a trusted one, so that
X-Forwarded-For lets you be anybody.

  curl http://{address}/                                             # the app, and what it is told about you
  curl -H 'X-Forwarded-For: 198.51.100.7' http://{address}/          # the same, from the Internet
  curl http://{address}/healthz                                      # 200: anyone may ask
  curl http://{address}/readyz                                       # 200: you are in the network `internal`
  curl -i -H 'X-Forwarded-For: 198.51.100.7' http://{address}/readyz # 403: a stranger
  curl -i -H 'X-Forwarded-For: garbage' http://{address}/readyz      # 403: nobody knows who that is
  curl -i -H 'X-Forwarded-For: 198.51.100.7' --path-as-is http://{address}//readyz   # 400: no way around
  curl -i -H 'X-Forwarded-For: 198.51.100.7' -H 'X-Probe-Token: {token}' http://{address}/readyz   # 200: a token
  curl -s -o /dev/null -w '%{{http_code}} ' 'http://{address}/?[1-40]'   # 200 … 429: forty requests in a row
  curl http://{admin}/metrics                                        # what was counted

"
    )
}

/// The app: it answers its probes, and shows what it was told.
fn page(request: &Request<'_>) -> Page {
    let json = "application/json";
    match request.path {
        b"/healthz" => Page { content_type: json, ..Page::new(200, b"{\"status\": \"ok\"}") },
        b"/readyz" => Page { content_type: json, ..Page::new(200, b"{\"status\": \"ready\", \"checks\": {}}") },
        b"/startupz" => Page { content_type: json, ..Page::new(200, b"{\"status\": \"started\", \"checks\": {}}") },
        _ => {
            let mut body = b"This is the app. The gateway told it:\n\n".to_vec();
            body.extend_from_slice(request.method);
            body.push(b' ');
            body.extend_from_slice(request.path);
            body.push(b'\n');
            for field in request.fields.fields {
                if matches!(field.known, Name::Forwarding | Name::Host) {
                    body.extend_from_slice(field.name.of(request.fields.bytes));
                    body.extend_from_slice(b": ");
                    body.extend_from_slice(field.value.of(request.fields.bytes));
                    body.push(b'\n');
                }
            }
            Page::new(200, body)
        }
    }
}
