//! Tokens: which count, when, and that nobody else ever sees them.

use crate::harness::{Client, Config, Gateway, TOKEN, Upstream, exchange, get, ok};

const OLD: &str = "old-0123456789abcdef0123456789abcdef";
const NEW: &str = "new-0123456789abcdef0123456789abcdef";
/// `printf %s "$NEW" | sha256sum`
const NEW_DIGEST: &str = "84c459682454eed34e8e69b0f76c9f2ae34894dc69c3921c624afd9e2dc7f916";

/// A gateway that lets in who has a token of these slots.
fn guarded(app: &Upstream, set: &str) -> Config {
    Config::before(app)
        .top(&format!("tokens:\n  probe:\n    {set}"))
        .service("probes: {readyz: {allow: {token: probe}}}\nroutes:\n  - {path: /ops, allow: {token: probe}}")
}

/// The status and, from the log, the reason and the slot.
fn ask(gateway: &Gateway, path: &str, header: &str, token: &str) -> (u16, String, String) {
    // A target of its own finds the line.
    let target = format!("{path}?{header}.{}", gateway.log_lines().len());
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{header}: {token}\r\n\r\n");
    let status = exchange(gateway.address(), request).status;
    let line = gateway.access(&target);
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    (status, text("reason"), text("token"))
}

fn answer(status: u16, reason: &str, token: &str) -> (u16, String, String) {
    (status, reason.to_owned(), token.to_owned())
}

#[test]
fn slots_come_from_the_environment_from_files_and_from_digests() {
    let app = Upstream::answering(|_| ok(""));
    let set = format!(
        "slots: [{{name: env, env: TOKEN}}, {{name: file, file: token.txt}}, {{name: digest, sha256: {NEW_DIGEST}}}]"
    );
    let gateway = Gateway::with(guarded(&app, &set))
        .env("TOKEN", OLD)
        .file("token.txt", "from-a-file-0123456789abcdef01234567\n")
        .start();
    let header = "X-Probe-Token";
    assert_eq!(ask(&gateway, "/readyz", header, OLD), answer(200, "", "probe/env"));
    assert_eq!(ask(&gateway, "/readyz", header, "from-a-file-0123456789abcdef01234567"), answer(200, "", "probe/file"));
    assert_eq!(ask(&gateway, "/readyz", header, NEW), answer(200, "", "probe/digest"));
    assert_eq!(ask(&gateway, "/readyz", header, NEW_DIGEST), answer(403, "token_wrong", ""));
    assert_eq!(ask(&gateway, "/ops/x", header, OLD), answer(200, "", "probe/env"));
}

#[test]
fn a_token_counts_whole_and_exactly() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::with(guarded(&app, "slots: [{name: ci, env: TOKEN}]")).env("TOKEN", OLD).start();
    for token in [
        "x",
        &OLD[1..],
        &OLD[..OLD.len() - 1],
        &OLD.to_uppercase(),
        &format!("{OLD}x"),
        &format!("Bearer {OLD}"),
        &format!("\"{OLD}\""),
    ] {
        assert_eq!(ask(&gateway, "/readyz", "X-Probe-Token", token), answer(403, "token_wrong", ""), "{token:?}");
    }
    assert_eq!(ask(&gateway, "/readyz", "X-Probe-Token", ""), answer(403, "token_missing", ""));
    assert_eq!(ask(&gateway, "/readyz", "Authorization", OLD), answer(403, "token_missing", ""));
    // White space around a value does not belong to it (RFC 9110 §5.5); names have no case (§5.1).
    assert_eq!(ask(&gateway, "/readyz", "x-PROBE-token", &format!("  {OLD}\t")), answer(200, "", "probe/ci"));
    // In the query it is no token, and the log does not tell it.
    assert_eq!(get(gateway.address(), &format!("/readyz?X-Probe-Token={OLD}")).status, 403);
    gateway.access("/readyz?X-Probe-Token=[redacted]");
}

#[test]
fn slots_count_from_their_first_day_to_their_last() {
    let app = Upstream::answering(|_| ok(""));
    let set = "slots: [{name: old, env: OLD, expires: 2020-01-01}, {name: new, env: NEW, not_before: 2100-01-01}, {name: now, env: NOW, not_before: 2020-01-01, expires: 2100-01-01}]";
    let gateway =
        Gateway::with(guarded(&app, set)).env("OLD", OLD).env("NEW", NEW).env("NOW", OLD.replace("old", "now")).start();
    let header = "X-Probe-Token";
    assert_eq!(ask(&gateway, "/readyz", header, OLD), answer(403, "token_expired", ""));
    assert_eq!(ask(&gateway, "/readyz", header, NEW), answer(403, "token_not_yet_valid", ""));
    assert_eq!(ask(&gateway, "/readyz", header, &OLD.replace("old", "now")), answer(200, "", "probe/now"));
    // A refusal does not say which of these it was.
    let bodies = [OLD, NEW, "wrong"].map(|token| {
        let request = format!("GET /readyz HTTP/1.1\r\nHost: a\r\n{header}: {token}\r\n\r\n");
        let mut problem = exchange(gateway.address(), request).json();
        problem.as_object_mut().unwrap().remove("request_id").unwrap();
        problem
    });
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
}

#[test]
fn a_token_is_in_no_log_and_reaches_no_app() {
    let app = Upstream::answering(|_| ok(""));
    let config = guarded(&app, "slots: [{name: ci, env: TOKEN}]").top("log: {level: trace}");
    let gateway = Gateway::with(config).env("TOKEN", OLD).start();
    for path in ["/readyz", "/ops", "/public"] {
        for (token, allowed) in [(OLD, true), (NEW, path == "/public")] {
            let status = ask(&gateway, path, "X-Probe-Token", token).0;
            assert_eq!(status, if allowed { 200 } else { 403 }, "{path} {token}");
        }
    }
    // In requests that never become one, and under names that carry secrets.
    let mut client = Client::connect(gateway.address());
    client.send(format!("GET /broken HTTP/1.1\r\nX-Probe-Token: {OLD}\r\nno colon\r\n\r\n"));
    assert_eq!(client.response().status, 400);
    exchange(
        gateway.address(),
        format!(
            "GET /last?token={OLD}&a=b HTTP/1.1\r\nHost: a\r\nReferer: https://a/?access_token={OLD}\r\nCookie: a={OLD}\r\nAuthorization: {OLD}\r\n\r\n"
        ),
    );
    let line = gateway.access("/last?token=[redacted]&a=b");
    assert_eq!(line["referer"], "https://a/?access_token=[redacted]");
    let log = gateway.log_lines().join("\n");
    assert!(!log.contains("0123456789abcdef0123456789abcdef"), "{log}");
    for request in app.requests() {
        assert_eq!(request.field("x-probe-token"), None, "{request:?}");
    }
    // What belongs to the app passes.
    assert_eq!(app.requests().pop().unwrap().field("cookie"), Some(format!("a={OLD}")));
}

#[test]
fn a_token_reaches_the_app_where_it_was_told_to() {
    let app = Upstream::answering(|_| ok(""));
    let set = "header: X-Ops-Key\n    forward: true\n    slots: [{name: ci, env: TOKEN}]";
    let gateway = Gateway::with(guarded(&app, set)).env("TOKEN", OLD).start();
    assert_eq!(ask(&gateway, "/ops", "X-Ops-Key", OLD), answer(200, "", "probe/ci"));
    assert_eq!(app.request().all("x-ops-key"), [OLD]);
    assert_eq!(ask(&gateway, "/ops", "X-Probe-Token", OLD), answer(403, "token_missing", ""));
}

#[test]
fn the_apps_own_token_is_sent_to_probes_only_and_nobody_elses_under_its_name() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::with(
        Config::before(&app).service("probes: {readyz: {allow: anyone, token: {header: X-App-Key, file: app-token}}}"),
    )
    .file("app-token", format!("{NEW}\n"))
    .start();
    for (path, sent) in [("/readyz", NEW), ("/other", "mine")] {
        exchange(gateway.address(), format!("GET {path} HTTP/1.1\r\nHost: a\r\nx-app-KEY: mine\r\n\r\n"));
        assert_eq!(app.requests().pop().unwrap().all("x-app-key"), [sent], "{path}");
    }
    assert!(!gateway.log_lines().join("\n").contains(NEW));
}

#[test]
fn a_secret_that_is_missing_is_an_error() {
    let app = Upstream::answering(|_| ok(""));
    for slot in ["env: NOWHERE", "file: nowhere", "sha256: abc"] {
        let mut gateway = Gateway::with(guarded(&app, &format!("slots: [{{name: ci, {slot}}}]"))).spawn();
        assert_eq!(gateway.wait_exit().code(), Some(64), "{slot}");
        let output = gateway.log_lines().join("\n");
        assert!(output.contains("probegate.yaml:7:"), "{slot}: {output}");
    }
}

#[test]
fn tokens_for_the_admin_listener_alone_reach_no_app_but_in_a_field_that_apps_have_a_use_for() {
    let app = Upstream::answering(|_| ok(""));
    let sets = format!(
        "tokens:\n  operators: {{header: Authorization, slots: [{{name: ops, value: {TOKEN}}}]}}\n  \
         viewers: {{header: X-Ops-Key, slots: [{{name: page, value: {NEW}}}]}}\n  \
         ci: {{header: X-CI, slots: [{{name: ci, value: {OLD}}}]}}"
    );
    let config = Config::before(&app).top(&sets).service("routes: [{path: /ci, allow: {token: ci}}]").to_string();
    let gateway = Gateway::start(config.replace("admin: {", "admin: {tokens: {read: viewers, write: operators}, "));
    let fields = format!("Authorization: Basic dXNlcjpwYXNz\r\nX-CI: something\r\nX-Ops-Key: {NEW}");
    let answer = exchange(gateway.address(), format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"));
    assert_eq!(answer.status, 200);
    let request = app.request();
    assert_eq!(request.field("authorization").as_deref(), Some("Basic dXNlcjpwYXNz"), "nobody asks clients for it");
    assert_eq!(request.field("x-ci"), None, "what opens a route is no app's business");
    assert_eq!(request.field("x-ops-key"), None, "it was sent to the wrong port");
    let admin = |field: &str| {
        exchange(gateway.admin(), format!("GET /status HTTP/1.1\r\nHost: a\r\n{field}\r\nConnection: close\r\n\r\n"))
            .status
    };
    let shown = |value: &str| admin(&format!("Authorization: {value}"));
    assert_eq!([TOKEN, &format!("Bearer {TOKEN}"), "Bearer wrong"].map(shown), [200, 200, 403]);
    assert_eq!(admin(&format!("X-Ops-Key: {NEW}")), 200);
}

#[test]
fn what_is_said_of_a_field_that_clients_are_asked_for_holds_for_the_admin_listeners_tokens_in_it() {
    let app = Upstream::answering(|_| ok(""));
    let sets = format!(
        "tokens:\n  operators: {{header: X-Key, slots: [{{name: ops, value: {TOKEN}}}]}}\n  \
         ci: {{header: X-Key, forward: true, slots: [{{name: ci, value: {OLD}}}]}}"
    );
    let config = Config::before(&app).top(&sets).service("routes: [{path: /ci, allow: {token: ci}}]").to_string();
    let gateway = Gateway::start(config.replace("admin: {", "admin: {token: operators, "));
    assert_eq!(ask(&gateway, "/ci", "X-Key", OLD).0, 200);
    assert_eq!(app.request().field("x-key").as_deref(), Some(OLD));
}
