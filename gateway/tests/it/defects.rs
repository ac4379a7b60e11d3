//! What the app's own package does wrong (semantics §5.1) and this gateway must not. D16 is in `paths`, `identity` and here; D10, D12
//! and D15 are in `probes`. D13 (networks are compiled once) cannot be seen from outside, and D14 does not apply.

use crate::harness::{Client, Config, Gateway, Response, Upstream, get, ok};

const PROXY: [u8; 4] = [127, 0, 0, 2];
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const TOKENS: &str = "tokens: {probe: {slots: [{name: one, value: 0123456789abcdef0123456789abcdef}]}}";

fn ask(gateway: &Gateway, from: [u8; 4], path: &str, fields: impl AsRef<[u8]>) -> Response {
    let mut client = Client::connect_from(from, gateway.address());
    client.send([format!("GET {path} HTTP/1.1\r\nHost: a\r\n").as_bytes(), fields.as_ref(), b"\r\n"].concat());
    client.response()
}

/// The output of a gateway that does not start.
fn does_not_start(config: &Config) -> String {
    let mut gateway = Gateway::with(config).spawn();
    assert_eq!(gateway.wait_exit().code(), Some(64), "{config}");
    gateway.log_lines().join("\n")
}

#[test]
fn d1_a_malformed_or_absent_header_from_a_trusted_proxy_never_opens_a_probe() {
    let app = Upstream::answering(|_| ok("in"));
    for (header, lines) in [
        (
            "X-Forwarded-For",
            &[
                "",
                "X-Forwarded-For:\r\n",
                "X-Forwarded-For: garbage\r\n",
                "X-Forwarded-For: garbage, 8.8.8.8\r\n",
                "X-Forwarded-For: 10.0.0.1, 8.8.8.8:1234\r\n",
                "X-Forwarded-For: unknown\r\n",
                "X-Forwarded-For: [::1]:x\r\n",
                "X-Forwarded-For: 10.0.0.1, garbage\r\n",
                "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: garbage\r\n",
                "X-Forwarded-For: 10.0.0.256\r\n",
                "X-Forwarded-For: 0x0a.0.0.1\r\n",
                "X-Forwarded-For: 10.1\r\n",
                "X-Forwarded-For: 127.0.0.1.\r\n",
                "X-Forwarded-For: ::ffff:8.8.8.8\r\n",
            ][..],
        ),
        ("X-Real-IP", &["", "X-Real-IP: 10.0.0.1\r\nX-Real-IP: 10.0.0.2\r\n", "X-Real-IP: 10.0.0.1, 8.8.8.8\r\n"]),
        (
            "Forwarded",
            &["", "Forwarded: garbage\r\n", "Forwarded: for=10.0.0.1, for=\r\n", "Forwarded: for=\"_gazonk\"\r\n"],
        ),
    ] {
        let config = format!("client_ip: {{trusted_proxies: [\"127.0.0.2/32\"], header: {header}}}");
        let gateway = Gateway::start(Config::before(&app).top(&config));
        for fields in lines {
            assert_eq!(ask(&gateway, PROXY, "/readyz", fields).status, 403, "{fields:?}");
        }
        let good = if header == "Forwarded" { "for=10.0.0.1" } else { "10.0.0.1" };
        assert_eq!(ask(&gateway, PROXY, "/readyz", format!("{header}: {good}\r\n")).status, 200);
    }
    assert_eq!(app.requests().len(), 3);
}

#[test]
fn d2_bytes_beyond_ascii_in_a_token_are_wrong_and_no_error() {
    let app = Upstream::answering(|_| ok("in"));
    let gateway = Gateway::start(Config::before(&app).top(TOKENS).service("probes: {readyz: {allow: {token: probe}}}"));
    for value in [&b"\x80"[..], b"\xff\xfe", "tökén".as_bytes(), &[TOKEN.as_bytes(), b"\xc3\xa9"].concat()] {
        let fields = [b"X-Probe-Token: ", value, b"\r\n"].concat();
        assert_eq!(ask(&gateway, [127, 0, 0, 1], "/readyz", fields).status, 403, "{value:?}");
    }
    assert_eq!(gateway.access("/readyz")["reason"], "token_wrong");
}

#[test]
fn d3_ipv4_clients_of_an_ipv6_socket_are_in_ipv4_networks() {
    let app = Upstream::answering(|_| ok("in"));
    let config =
        Config::before(&app).service("probes: {readyz: {cache: off}}").to_string().replacen("127.0.0.1:0", "[::]:0", 1);
    let gateway = Gateway::start(config);
    let address = ([127, 0, 0, 1], gateway.address().port()).into();
    assert_eq!(get(address, "/readyz").text(), "in");
    assert_eq!(app.request().all("x-forwarded-for"), ["127.0.0.1"]);
    let line = gateway.access("/readyz");
    assert_eq!((&line["client"], &line["peer"]), (&"127.0.0.1".into(), &"127.0.0.1".into()));
}

#[test]
fn d4_a_network_that_is_none_is_an_error_and_not_an_empty_list() {
    let config = Config::servers(["127.0.0.1:1"]);
    for top in [
        "networks: {internal: [\"10.0.0.1/8\"]}",
        "networks: {internal: [\"10.0.0.0/33\"]}",
        "networks: {internal: [\"10.0.0\"]}",
        "client_ip: {trusted_proxies: [\"10.0.0.1/8\"]}",
        "client_ip: {trusted_proxies: [\"proxy\"]}",
    ] {
        let output = does_not_start(&config.clone().top(top));
        assert!(output.contains("probegate.yaml:5:"), "{top}: {output}");
    }
}

#[test]
fn d5_an_empty_list_of_tokens_is_an_error_and_not_an_open_door() {
    let config = Config::servers(["127.0.0.1:1"]).service("probes: {readyz: {allow: {token: probe}}}");
    for top in ["tokens: {probe: {}}", "tokens: {probe: {slots: []}}", "tokens: {}"] {
        does_not_start(&config.clone().top(top));
    }
    for allow in ["{any: []}", "{all: []}", "{}"] {
        does_not_start(&Config::servers(["127.0.0.1:1"]).service(&format!("probes: {{readyz: {{allow: {allow}}}}}")));
    }
    // A secret that is there and empty, too.
    let config = config.top("tokens: {probe: {slots: [{name: ci, env: EMPTY}]}}");
    let mut gateway = Gateway::with(&config).env("EMPTY", "").spawn();
    assert_eq!(gateway.wait_exit().code(), Some(64));
}

#[test]
fn d6_a_network_without_use_is_reported() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top("networks: {office: [\"192.0.2.0/24\"]}"));
    gateway.wait_for_log(|line| {
        line["level"] == "WARN" && line["message"].as_str().is_some_and(|text| text.contains("office"))
    });
}

#[test]
fn d7_healthz_can_be_guarded_by_a_network_alone() {
    let app = Upstream::answering(|_| ok("in"));
    let gateway = Gateway::start(
        Config::before(&app)
            .top("networks: {ops: [\"127.0.0.3/32\"]}")
            .service("probes: {healthz: {allow: {network: ops}}}"),
    );
    assert_eq!(ask(&gateway, [127, 0, 0, 3], "/healthz", "").status, 200);
    assert_eq!(ask(&gateway, [127, 0, 0, 4], "/healthz", "").status, 403);
}

#[test]
fn d8_rules_can_be_alternatives_or_all_be_demanded() {
    let app = Upstream::answering(|_| ok("in"));
    let gateway =
        Gateway::start(Config::before(&app).top(TOKENS).top("networks: {ops: [\"127.0.0.3/32\"]}").service(concat!(
            "probes:\n  readyz: {allow: {any: [{network: ops}, {token: probe}]}}\n",
            "  startupz: {allow: {all: [{network: ops}, {token: probe}]}}"
        )));
    let token = format!("X-Probe-Token: {TOKEN}\r\n");
    for (from, fields, any, all) in [
        ([127, 0, 0, 3], &*token, 200, 200),
        ([127, 0, 0, 3], "", 200, 403),
        ([127, 0, 0, 4], &*token, 200, 403),
        ([127, 0, 0, 4], "", 403, 403),
    ] {
        assert_eq!(ask(&gateway, from, "/readyz", fields).status, any, "any, {from:?} {fields:?}");
        assert_eq!(ask(&gateway, from, "/startupz", fields).status, all, "all, {from:?} {fields:?}");
    }
}

#[test]
fn d9_two_tokens_are_valid_at_once() {
    let app = Upstream::answering(|_| ok("in"));
    let gateway = Gateway::with(
        Config::before(&app)
            .top("tokens: {probe: {slots: [{name: old, env: OLD}, {name: new, env: NEW}]}}")
            .service("probes: {readyz: {allow: {token: probe}}}"),
    )
    .env("OLD", "old-0123456789abcdef0123456789abcdef")
    .env("NEW", "new-0123456789abcdef0123456789abcdef")
    .start();
    for slot in ["old", "new"] {
        let fields = format!("X-Probe-Token: {slot}-0123456789abcdef0123456789abcdef\r\n");
        assert_eq!(ask(&gateway, [127, 0, 0, 1], &format!("/readyz?{slot}"), fields).status, 200);
        assert_eq!(gateway.access(&format!("/readyz?{slot}"))["token"], format!("probe/{slot}"));
    }
}

#[test]
fn d11_refusals_are_json_for_programs() {
    let app = Upstream::answering(|_| ok("in"));
    let gateway = Gateway::start(Config::before(&app).top(TOKENS).service("probes: {readyz: {allow: {token: probe}}}"));
    let response = get(gateway.address(), "/readyz");
    assert_eq!(response.field("content-type").as_deref(), Some("application/problem+json"));
    assert_eq!((&response.json()["status"], &response.json()["title"]), (&403.into(), &"Forbidden".into()));
}

#[test]
fn d16_a_twin_of_the_token_field_is_no_token_and_does_not_reach_the_app() {
    let app = Upstream::answering(|_| ok("in"));
    let gateway = Gateway::start(
        Config::before(&app).top(TOKENS).service("probes: {readyz: {allow: {token: probe}, cache: off}}"),
    );
    for twin in ["X_Probe_Token", "X-Probe_Token", "x_probe-token"] {
        let fields = format!("{twin}: {TOKEN}\r\n");
        assert_eq!(ask(&gateway, [127, 0, 0, 1], "/readyz", &fields).status, 403, "{twin}");
        assert_eq!(ask(&gateway, [127, 0, 0, 1], "/", &fields).status, 200);
        // Beside the true one it changes nothing.
        let both = format!("{twin}: wrong\r\nX-Probe-Token: {TOKEN}\r\n");
        assert_eq!(ask(&gateway, [127, 0, 0, 1], "/readyz", both).status, 200, "{twin}");
    }
    for request in app.requests() {
        assert!(!request.text().to_lowercase().contains("probe"), "{request:?}");
    }
}

#[test]
fn d17_a_token_that_is_sent_twice_is_refused_with_its_reason() {
    let app = Upstream::answering(|_| ok("in"));
    let gateway = Gateway::start(Config::before(&app).top(TOKENS).service("probes: {readyz: {allow: {token: probe}}}"));
    for fields in [
        format!("X-Probe-Token: {TOKEN}\r\nX-Probe-Token: {TOKEN}\r\n"),
        format!("X-Probe-Token: wrong\r\nx-probe-token: {TOKEN}\r\n"),
    ] {
        assert_eq!(ask(&gateway, [127, 0, 0, 1], "/readyz", fields).status, 403);
        assert_eq!(gateway.access("/readyz")["reason"], "token_duplicated");
    }
    let joined = format!("X-Probe-Token: {TOKEN}, {TOKEN}\r\n");
    assert_eq!(ask(&gateway, [127, 0, 0, 1], "/readyz?joined", joined).status, 403);
    assert_eq!(gateway.access("/readyz?joined")["reason"], "token_wrong");
}
