//! Probes: who may ask, who answers, and what the app gets to see.

use std::time::{Duration, Instant};

use crate::harness::{Client, Config, Gateway, Response, Upstream, exchange, get, ok};

/// `Cache-Control` of every answer to a probe (semantics §5.1, A).
const NEVER: &str = "max-age=0, no-cache, no-store, must-revalidate, private";

/// All four answered by the gateway, for everybody.
const ANSWER: &str = concat!(
    "probes:\n  healthz: {serve: answer}\n  readyz: {serve: answer, allow: anyone}\n",
    "  startupz: {serve: answer, allow: anyone}\n",
    "  version: {serve: answer, allow: anyone, version: {service: shop, environment: test, version: \"1.2.3\"}}"
);

fn ask(gateway: &Gateway, request: &str) -> Response {
    exchange(gateway.address(), format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n"))
}

#[test]
fn answered_by_the_gateway_they_are_what_the_apps_package_says() {
    let app = Upstream::answering(|_| ok("app"));
    let gateway = Gateway::start(Config::before(&app).service(ANSWER));
    for (path, body) in [
        ("/healthz", r#"{"status": "ok"}"#),
        ("/readyz", r#"{"status": "ready", "checks": {}}"#),
        ("/startupz", r#"{"status": "started", "checks": {}}"#),
        ("/version", r#"{"service": "shop", "environment": "test", "version": "1.2.3"}"#),
    ] {
        let response = get(gateway.address(), path);
        assert_eq!((response.status, &*response.text()), (200, body), "{path}");
        assert_eq!(response.field("content-type").as_deref(), Some("application/json"), "{path}");
        assert_eq!(response.field("cache-control").as_deref(), Some(NEVER), "{path}");
        assert_eq!(response.field("expires"), response.field("date"), "{path}: expires now");
        let names: Vec<_> = response.fields.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["Date", "Content-Type", "Expires", "Cache-Control", "Content-Length"], "{path}");
        let line = gateway.access(path);
        assert_eq!((&line["decision"], &line["policy"]), (&"answer".into(), &format!("probe:{}", &path[1..]).into()));
    }
    assert_eq!(app.connections(), 0);
}

#[test]
fn d10_head_is_answered_as_get_without_the_body() {
    let app = Upstream::answering(|_| ok("four"));
    let gateway = Gateway::start(Config::before(&app).service("probes: {readyz: {serve: answer, allow: anyone}}"));
    let mut client = Client::connect(gateway.address());
    for (path, length) in [("/readyz", "33"), ("/healthz", "4")] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response_to_head();
        assert_eq!((response.status, response.field("content-length").as_deref()), (200, Some(length)), "{path}");
        assert!(!response.closes());
    }
    assert_eq!(app.request().line(), "GET /healthz HTTP/1.1", "apps know GET only");
    // The body that the app sent stays here, and its connection is used again.
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((client.response().text().as_str(), app.connections()), ("four", 1));
}

#[test]
fn d10_other_methods_are_405_for_those_who_may_ask_and_nothing_but_a_refusal_for_others() {
    let app = Upstream::answering(|_| ok("app"));
    let gateway =
        Gateway::start(Config::before(&app).top("networks: {nobody: [\"192.0.2.1/32\"]}").service(
            "probes:\n  readyz: {allow: {network: nobody}}\n  startupz: {allow: {network: nobody}, deny: 404}",
        ));
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "GETT"] {
        let allowed = ask(&gateway, &format!("{method} /healthz"));
        assert_eq!((allowed.status, allowed.field("allow").as_deref()), (405, Some("GET, HEAD")), "{method}");
        let denied = ask(&gateway, &format!("{method} /readyz"));
        assert_eq!((denied.status, denied.field("allow")), (403, None), "{method}");
        let hidden = ask(&gateway, &format!("{method} /startupz"));
        assert_eq!((hidden.status, hidden.field("allow")), (404, None), "{method}");
    }
    assert_eq!(app.connections(), 0);
}

#[test]
fn a_stranger_sees_403_or_404_or_nothing() {
    let app = Upstream::answering(|_| ok("app"));
    let gateway = Gateway::start(Config::before(&app).top("networks: {nobody: [\"192.0.2.1/32\"]}").service(concat!(
        "probes:\n  readyz: {allow: {network: nobody}}\n  startupz: {allow: {network: nobody}, deny: 404}\n",
        "  version: {allow: {network: nobody}, deny: close}\n"
    )));
    let denied = get(gateway.address(), "/readyz");
    assert_eq!((denied.status, denied.field("www-authenticate")), (403, None));
    assert!(denied.json()["detail"].is_null(), "a stranger is not told why");
    let hidden = get(gateway.address(), "/startupz");
    assert_eq!(
        (hidden.status, &*hidden.reason, hidden.json()["title"].as_str()),
        (404, "Not Found", Some("Not Found"))
    );
    let mut client = Client::connect(gateway.address());
    client.send("GET /version HTTP/1.1\r\nHost: a\r\n\r\n");
    client.expect_closed();
    for (path, status) in [("/readyz", 403), ("/startupz", 404), ("/version", 444)] {
        let line = gateway.access(path);
        assert_eq!((&line["status"], &line["decision"]), (&status.into(), &"deny".into()), "{path}");
        assert_eq!(line["reason"], "outside_network", "{path}");
        assert!(line["policy_line"].is_u64(), "{path}: the line of the rule");
    }
    assert_eq!(app.connections(), 0);
}

#[test]
fn forwarded_they_are_asked_as_the_app_wants_to_be_asked() {
    let app = Upstream::answering(|_| ok("ready"));
    let gateway = Gateway::with(
        Config::before(&app).top("tokens: {probe: {slots: [{name: ci, env: PROBE_TOKEN}]}}").service(concat!(
            "probes:\n  readyz: {path: /probes/ready, allow: {token: probe}, upstream_path: /ops/readyz, ",
            "host: app.internal, token: {env: APP_TOKEN}, cache: off}"
        )),
    )
    .env("PROBE_TOKEN", "the-token-of-the-client-0123456789abcdef")
    .env("APP_TOKEN", "the-token-of-the-app-0123456789abcdef")
    .start();
    let response = exchange(
        gateway.address(),
        concat!(
            "GET /probes/ready?verbose=1 HTTP/1.1\r\nHost: 10.1.2.3:8080\r\nUser-Agent: kube-probe/1.30\r\n",
            "X-Probe-Token: the-token-of-the-client-0123456789abcdef\r\nX-Forwarded-Proto: http\r\n\r\n"
        ),
    );
    assert_eq!((response.status, &*response.text()), (200, "ready"));
    let request = app.request();
    assert_eq!(request.line(), "GET /ops/readyz?verbose=1 HTTP/1.1");
    assert_eq!(request.all("host"), ["app.internal"]);
    assert_eq!(request.all("x-forwarded-proto"), ["https"]);
    assert_eq!(request.all("x-probe-token"), ["the-token-of-the-app-0123456789abcdef"]);
    assert_eq!(request.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.all("user-agent"), ["kube-probe/1.30"]);
    assert_eq!(gateway.access("/probes/ready?verbose=1")["token"], "probe/ci");
    // The default path is a path like any other then.
    assert_eq!(get(gateway.address(), "/readyz").status, 200);
    assert_eq!(app.targets().last().map(String::as_str), Some("/readyz"));
    assert_eq!(app.requests()[1].field("x-probe-token"), None);
}

#[test]
fn forwarded_the_apps_answer_passes_as_it_is() {
    let app = Upstream::answering(|_| {
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: 55\r\n\r\n\
         {\"status\": \"not_ready\", \"checks\": {\"database\": \"fail\"}}"
    });
    let gateway = Gateway::start(Config::before(&app));
    let response = get(gateway.address(), "/readyz");
    assert_eq!((response.status, response.json()["checks"]["database"].as_str()), (503, Some("fail")));
    assert_eq!(response.field("cache-control").as_deref(), Some("no-store"));
}

#[test]
fn d15_a_redirect_is_a_failed_probe() {
    let app = Upstream::answering(|request| match &*request.target() {
        "/x" | "/readyz" => "HTTP/1.1 301 Moved Permanently\r\nLocation: https://a/readyz\r\nContent-Length: 0\r\n\r\n",
        "/startupz" => "HTTP/1.1 304 Not Modified\r\n\r\n",
        _ => "HTTP/1.1 302 Found\r\nLocation: /login\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nlogin\r\n0\r\n\r\n",
    });
    let gateway = Gateway::start(Config::before(&app));
    for path in ["/readyz", "/healthz", "/startupz"] {
        let response = get(gateway.address(), path);
        assert_eq!((response.status, response.field("location")), (503, None), "{path}");
        let line = gateway.access(path);
        assert_eq!((&line["reason"], &line["status"]), (&"probe_redirected".into(), &503.into()), "{path}");
    }
    assert_eq!(get(gateway.address(), "/x").status, 301, "other paths may redirect");
}

#[test]
fn d12_a_probe_has_an_answer_within_a_second() {
    let app = Upstream::scripted(|connection| {
        let slow = connection.request().is_some_and(|request| request.target() != "/readyz");
        if slow {
            // Drips: every byte comes in time, the answer never does.
            connection.write("HTTP/1.1 200 OK\r\nX: ");
            while connection.write("x") {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        connection.wait_closed();
    });
    let gateway = Gateway::start(Config::before(&app).upstream("response_timeout: 60s").with_default_times());
    for path in ["/readyz", "/healthz"] {
        let begin = Instant::now();
        let response = get(gateway.address(), path);
        assert_eq!(response.status, 504, "{path}");
        assert!(begin.elapsed() >= Duration::from_millis(750), "{path}: the app's 800 ms were cut short");
        let line = gateway.access(path);
        assert_eq!(line["reason"], "probe_timeout", "{path}");
        // As the gateway measured it, which the load of this machine disturbs least.
        assert!(line["duration_ms"].as_f64().unwrap() < 5000.0, "{path}: {line}");
    }
}

#[test]
fn probes_are_never_limited() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(
        Config::before(&app)
            .top("limits: {few: {rate: 1/h, burst: 0}}")
            .service("limits: [few]\nprobes: {version: {serve: answer}}"),
    );
    assert_eq!(get(gateway.address(), "/").status, 200);
    for path in ["/healthz", "/readyz", "/version"].repeat(5) {
        assert_eq!(get(gateway.address(), path).status, 200, "{path}");
    }
    let limited = get(gateway.address(), "/");
    assert_eq!(limited.status, 429);
    let after: u64 = limited.field("retry-after").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&after), "{after}");
    assert_eq!(limited.field("ratelimit-policy").as_deref(), Some("\"few\";q=1;w=3600"));
    assert_eq!(limited.field("ratelimit"), Some(format!("\"few\";r=0;t={after}")));
    assert_eq!(limited.json()["violated-policies"][0], "few");
}

#[test]
fn a_probe_that_is_off_is_a_path_like_any_other() {
    let app = Upstream::answering(|_| ok("app"));
    let gateway = Gateway::start(Config::before(&app).service("probes: {readyz: off}"));
    assert_eq!(exchange(gateway.address(), "POST /readyz HTTP/1.1\r\nHost: a\r\n\r\n").text(), "app");
    assert_eq!(gateway.access("/readyz")["policy"], serde_json::Value::Null);
}
