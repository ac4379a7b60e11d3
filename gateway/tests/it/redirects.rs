//! Listeners that send clients to HTTPS: 308 for everything that belongs to a service, but for probes.

use crate::harness::{
    Client, Config, Gateway, Response, TOKEN, Upstream, eventually, exchange, get, metric, ok, probegate, run,
};

/// A listener that redirects to `port`, before an app with two hosts.
fn config(app: &Upstream, redirect: &str) -> Config {
    Config::before(app)
        .service("hosts: [a.example, \"*.b.example\"]")
        .top(&format!("# redirect: {redirect}\nclient_ip: {{trusted_proxies: [127.0.0.2/32]}}"))
}

fn redirecting(config: &Config) -> String {
    let text = config.to_string();
    let word = text.lines().find_map(|line| line.strip_prefix("# redirect: ")).unwrap().to_owned();
    text.replacen("\"127.0.0.1:0\"\n", &format!("\"127.0.0.1:0\"\n    redirect_https: {word}\n"), 1)
}

fn place(response: &Response) -> (u16, Option<String>) {
    (response.status, response.field("location"))
}

fn sent_to(place: &str) -> (u16, Option<String>) {
    (308, Some(place.to_owned()))
}

#[test]
fn a_request_is_sent_to_the_same_place_over_https() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(redirecting(&config(&app, "true")));
    let mut client = Client::connect(gateway.address());
    for (line, host, to) in [
        ("GET / HTTP/1.1", "a.example", "https://a.example/"),
        ("GET /a%2e/b;c?d=e&f=//g?h HTTP/1.1", "A.Example:8080", "https://A.Example/a%2e/b;c?d=e&f=//g?h"),
        ("DELETE /x HTTP/1.1", "x.b.example:80", "https://x.b.example/x"),
        ("GET //evil.example/?%0d%0aX:y HTTP/1.1", "a.example", "https://a.example//evil.example/?%0d%0aX:y"),
        ("GET http://a.example/x?y HTTP/1.1", "a.example", "https://a.example/x?y"),
        ("GET http://a.example?y HTTP/1.1", "a.example", "https://a.example/?y"),
        ("OPTIONS * HTTP/1.1", "a.example", "https://a.example"),
    ] {
        client.send(format!("{line}\r\nHost: {host}\r\n\r\n"));
        let response = client.response();
        assert_eq!(place(&response), sent_to(to), "{line}");
        assert_eq!((response.text(), response.field("cache-control")), (String::new(), Some("no-store".into())));
    }
    client.send("HEAD /head HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(place(&client.response_to_head()), sent_to("https://a.example/head"));
    assert_eq!(app.targets(), [""; 0], "the app is not asked");
    let line = gateway.access("/x");
    assert_eq!(
        (&line["status"], &line["decision"], &line["service"]),
        (&308.into(), &"redirect".into(), &"app".into())
    );
    assert_eq!(line["reason"], serde_json::Value::Null);
    let series = "probegate_decisions_total{service=\"app\",decision=\"redirect\"}";
    eventually("it is counted", || (metric(&gateway, series) > 7.5).then_some(()));
}

#[test]
fn another_port_is_named() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(redirecting(&config(&app, "8443")));
    let response = exchange(gateway.address(), "GET /a HTTP/1.1\r\nHost: a.example:80\r\n\r\n");
    assert_eq!(place(&response), sent_to("https://a.example:8443/a"));
}

#[test]
fn a_host_that_nobody_has_is_not_sent_anywhere() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(redirecting(&config(&app, "true")));
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.example@evil.example\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.example/evil\r\n\r\n", 400),
        ("GET /a%00 HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\n\r\n", 421),
    ] {
        let response = exchange(gateway.address(), request);
        assert_eq!(place(&response), (status, None), "{request}");
    }
    // With one service for every host, an old client without one can not be sent anywhere either.
    let any = Config::before(&app).top("# redirect: true\nclient_ip: {trusted_proxies: [127.0.0.2/32]}");
    let gateway = Gateway::start(redirecting(&any));
    assert_eq!(place(&exchange(gateway.address(), "GET / HTTP/1.0\r\n\r\n")), (400, None));
    assert_eq!(place(&get(gateway.address(), "/x")), sent_to("https://app.example/x"));
}

#[test]
fn probes_are_judged_and_answered_as_everywhere() {
    let app = Upstream::answering(|_| ok("fine"));
    let config = config(&app, "true")
        .top(&format!("tokens: {{probe: {{slots: [{{name: ci, value: {TOKEN}}}]}}}}"))
        .service("probes: {healthz: {serve: answer}, readyz: {allow: {token: probe}}}");
    let gateway = Gateway::start(redirecting(&config));
    let ask = |target: &str, field: &str| {
        exchange(gateway.address(), format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n{field}\r\n"))
    };
    assert_eq!(place(&ask("/healthz", "")), (200, None));
    assert_eq!(place(&ask("/readyz", "")), (403, None));
    assert_eq!(ask("/readyz", &format!("X-Probe-Token: {TOKEN}\r\n")).text(), "fine");
    assert_eq!(place(&ask("/readyz/", "")), (400, None), "a spelling of a probe");
    assert_eq!(place(&ask("/healthz/deeper", "")), sent_to("https://a.example/healthz/deeper"));
    assert_eq!(app.targets(), ["/readyz"]);
}

#[test]
fn a_redirect_tells_nothing_about_rules_and_limits_count_it() {
    let app = Upstream::answering(|_| ok(""));
    let config = config(&app, "true")
        .top("networks: {nobody: [192.0.2.1/32]}\nlimits: {few: {rate: 1/d, burst: 2}}")
        .service("limits: [few]\nroutes:\n  - {path: /secret, allow: {network: nobody}, deny: close}");
    let gateway = Gateway::start(redirecting(&config));
    let ask =
        |target: &str| place(&exchange(gateway.address(), format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")));
    assert_eq!(ask("/secret"), sent_to("https://a.example/secret"));
    assert_eq!(ask("/open"), sent_to("https://a.example/open"));
    assert_eq!(ask("/secret"), sent_to("https://a.example/secret"));
    assert_eq!(ask("/open"), (429, None));
    assert_eq!(gateway.access("/secret").get("policy"), None, "no rule was asked");
}

#[test]
fn a_client_that_used_https_already_is_not_sent_in_circles() {
    let app = Upstream::answering(|_| ok("app"));
    let gateway = Gateway::start(redirecting(&config(&app, "true")));
    let ask = |from: [u8; 4], field: &str| {
        let mut client = Client::connect_from(from, gateway.address());
        client.send(format!("GET /x HTTP/1.1\r\nHost: a.example\r\n{field}\r\n"));
        client.response().status
    };
    let balancer = [127, 0, 0, 2];
    assert_eq!(ask(balancer, "X-Forwarded-Proto: https\r\n"), 200);
    assert_eq!(ask(balancer, "Forwarded: for=192.0.2.9;proto=https\r\n"), 200);
    assert_eq!(ask(balancer, "X-Forwarded-Proto: http\r\n"), 308);
    assert_eq!(ask(balancer, ""), 308);
    assert_eq!(ask([127, 0, 0, 3], "X-Forwarded-Proto: https\r\n"), 308, "a stranger's word");
}

#[test]
fn a_body_is_not_waited_for_and_the_next_request_is_found() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(redirecting(&config(&app, "true")));
    let mut client = Client::connect(gateway.address());
    client.send("POST /small HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\n\r\nbodyGET /next HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(place(&client.response()), sent_to("https://a.example/small"));
    assert_eq!(place(&client.response()), sent_to("https://a.example/next"));
    // Larger than the service takes: that is for the place where it is wanted to say.
    client.send("POST /large HTTP/1.1\r\nHost: a.example\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n");
    let response = client.response();
    assert_eq!((place(&response), response.closes()), (sent_to("https://a.example/large"), true));
    client.expect_closed();
    assert_eq!(app.targets(), [""; 0]);
}

#[test]
fn a_reload_begins_and_ends_it() {
    let app = Upstream::answering(|_| ok(""));
    let address = crate::harness::free_address();
    let on = |redirect: &str| redirecting(&config(&app, redirect)).replacen("127.0.0.1:0", &address.to_string(), 1);
    let gateway = Gateway::start(on("false"));
    let ask = || exchange(address, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").status;
    assert_eq!(ask(), 200);
    for (word, status) in [("true", 308), ("false", 200)] {
        std::fs::write(gateway.config_path(), on(word)).unwrap();
        gateway.signal("HUP");
        eventually("the other answer", || (ask() == status).then_some(()));
    }
}

#[test]
fn explain_says_where_a_request_is_sent() {
    let folder = crate::harness::Folder::new();
    let app = Upstream::answering(|_| ok(""));
    let file = folder.write("probegate.yaml", redirecting(&config(&app, "8443")));
    let explain = |arguments: &[&str]| {
        let file = file.display().to_string();
        let ended = run(&mut probegate([&["explain", "-c", &file], arguments].concat()));
        (ended.code, ended.out)
    };
    let (code, text) = explain(&["GET", "http://a.example:80/x?y"]);
    assert!(
        text.contains("redirect  listener 127.0.0.1:0 sends clients to HTTPS on port 8443: no rule is asked"),
        "{text}"
    );
    assert!(text.contains("verdict   redirected: 308, to https://a.example:8443/x?y"), "{text}");
    assert_eq!(code, Some(0));
    let (code, text) = explain(&["GET", "http://a.example/healthz"]);
    assert!(code == Some(0) && text.contains("but not for probes") && text.contains("passes"), "{text}");
    let (_, text) = explain(&["--from", "127.0.0.2", "-H", "X-Forwarded-Proto: https", "GET", "http://a.example/"]);
    assert!(text.contains("used HTTPS already") && text.contains("passes"), "{text}");
    for url in ["https://a.example/", "/"] {
        let (code, text) = explain(&["-H", "Host: a.example", "GET", url]);
        assert!(code == Some(0) && !text.contains("redirect") && text.contains("passes"), "{text}");
    }
    let (code, text) = explain(&["GET", "http://evil.example/"]);
    assert!(code == Some(1) && !text.contains("redirect"), "{text}");
}
