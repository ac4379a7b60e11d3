//! Who the client is, and what the app is told about it.

use crate::harness::{Client, Config, Gateway, Request, Response, Upstream, exchange, ok};

/// What the app sees of a request with these field lines, from this address.
fn seen(gateway: &Gateway, app: &Upstream, from: [u8; 4], fields: &str) -> Request {
    let count = app.requests().len();
    let response = ask(gateway, from, "/", fields);
    assert_eq!(response.status, 200, "{fields:?}");
    app.requests()[count].clone()
}

fn ask(gateway: &Gateway, from: [u8; 4], path: &str, fields: &str) -> Response {
    let mut client = Client::connect_from(from, gateway.address());
    client.send(format!("GET {path} HTTP/1.1\r\nHost: app.example\r\n{fields}Connection: close\r\n\r\n"));
    client.response()
}

/// 127.0.0.2 is a proxy that is believed; whoever comes from elsewhere is the client itself.
const PROXY: [u8; 4] = [127, 0, 0, 2];
const TRUSTED: &str = "client_ip: {trusted_proxies: [\"127.0.0.2/32\", \"10.9.0.0/16\"]}";

#[test]
fn forwarding_fields_are_written_anew_for_a_direct_client() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    let request = seen(&gateway, &app, [127, 0, 0, 7], "");
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.7"),
        ("x-real-ip", "127.0.0.7"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "app.example"),
        ("x-forwarded-port", &gateway.address().port().to_string()),
    ] {
        assert_eq!(request.field(name).as_deref(), Some(value), "{name}");
    }
    let id = request.field("x-request-id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let line = gateway.wait_for_log(|line| line["request_id"] == id);
    assert_eq!((&line["client"], &line["client_source"]), (&"127.0.0.7".into(), &"peer".into()));
}

#[test]
fn what_an_untrusted_client_claims_is_replaced() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top(TRUSTED));
    let request = seen(
        &gateway,
        &app,
        [127, 0, 0, 7],
        concat!(
            "X-Forwarded-For: 10.0.0.1\r\nx-forwarded-for: 10.0.0.2\r\nX-Real-IP: 10.0.0.1\r\nX-Forwarded-Proto: https\r\n",
            "X-Forwarded-Host: evil\r\nX-Forwarded-Port: 443\r\nX-Request-ID: mine\r\nForwarded: for=10.0.0.1;proto=https\r\n"
        ),
    );
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.7"),
        ("x-real-ip", "127.0.0.7"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "app.example"),
    ] {
        assert_eq!(request.all(name), [value], "{name}");
    }
    assert_eq!(request.all("x-request-id").len(), 1);
    assert!(!request.text().contains("mine") && !request.text().contains("10.0.0."), "{request:?}");
    assert_eq!(request.field("forwarded"), None);
}

#[test]
fn d16_no_field_that_tells_about_clients_reaches_the_app_under_any_spelling() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top(TRUSTED));
    let names = [
        "X-Scheme",
        "Forwarded",
        "X-Real-IP",
        "Client-IP",
        "X-Client-IP",
        "X-Remote-IP",
        "X-Request-ID",
        "X-URL-Scheme",
        "X-Rewrite-URL",
        "X-Remote-Addr",
        "True-Client-IP",
        "X-Original-URL",
        "X-Original-Host",
        "Front-End-Https",
        "CF-Connecting-IP",
        "Fastly-Client-IP",
        "X-Azure-ClientIP",
        "CF-Connecting-IPv6",
        "X-Cluster-Client-IP",
        "X-Original-Forwarded-For",
        "X-Envoy-External-Address",
        "X-Forwarded-For",
        "X-Forwarded-Prefix",
        "X-Forwarded-Ssl",
        "X-Forwarded-Scheme",
        "X-Forwarded-Server",
        "X-Forwarded-By",
        "X-Forwarded-Uri",
        "X-Forwarded-Client-Cert",
    ];
    for from in [[127, 0, 0, 7], PROXY] {
        for name in names {
            let spellings = [
                name.to_owned(),
                name.to_lowercase(),
                name.to_uppercase(),
                name.replace('-', "_"),
                name.replacen('-', "_", 1),
            ];
            let lines = spellings.map(|name| format!("{name}: 10.66.66.66\r\n")).concat();
            let request = seen(&gateway, &app, from, &lines);
            let claimed: Vec<_> = request.fields().into_iter().filter(|(_, value)| value.contains("66.66")).collect();
            // What a trusted proxy says in the configured field is the client.
            let expected = if from == PROXY && name == "X-Forwarded-For" { 2 } else { 0 };
            assert_eq!(claimed.len(), expected, "{name} from {from:?}: {claimed:?}");
        }
    }
}

#[test]
fn d16_twins_with_an_underscore_are_dropped() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top(TRUSTED));
    let request = seen(
        &gateway,
        &app,
        [127, 0, 0, 7],
        "X_Custom: 1\r\nX_Forwarded_For: 10.0.0.1\r\nContent_Length: 5\r\nHOST_: x\r\n",
    );
    assert!(!request.text().contains('_'), "{request:?}");
    // Alone, the twin is no statement of the proxy: semantics §2.3, vector 14.
    let request = seen(&gateway, &app, PROXY, "X_Forwarded_For: 198.51.100.7\r\n");
    assert_eq!(request.all("x-forwarded-for"), ["233.252.0.0"]);
}

#[test]
fn a_trusted_proxys_list_is_walked_from_the_right() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top(TRUSTED));
    // Field lines, what the app sees as X-Forwarded-For, who the log says it was.
    for (fields, sent, source) in [
        ("X-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7, 127.0.0.2", "xff[-1]"),
        ("X-Forwarded-For: 10.0.0.1, 198.51.100.7\r\n", "198.51.100.7, 127.0.0.2", "xff[-1]"),
        ("X-Forwarded-For: garbage, 198.51.100.7\r\n", "198.51.100.7, 127.0.0.2", "xff[-1]"),
        ("X-Forwarded-For: 198.51.100.7, 10.9.9.9\r\n", "198.51.100.7, 10.9.9.9, 127.0.0.2", "xff[-2]"),
        ("X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7, 127.0.0.2", "xff[-1]"),
        ("X-Forwarded-For: 198.51.100.7:51234\r\n", "198.51.100.7, 127.0.0.2", "xff[-1]"),
        ("X-Forwarded-For: [2001:db8::1]:443\r\n", "2001:db8::1, 127.0.0.2", "xff[-1]"),
        ("X-Forwarded-For: ::ffff:198.51.100.7\r\n", "198.51.100.7, 127.0.0.2", "xff[-1]"),
        ("X-Forwarded-For: 10.9.1.1, 10.9.2.2\r\n", "10.9.1.1, 10.9.2.2, 127.0.0.2", "xff[-2]"),
    ] {
        let request = seen(&gateway, &app, PROXY, fields);
        assert_eq!(request.all("x-forwarded-for"), [sent], "{fields:?}");
        let client = sent.split(',').next().unwrap();
        assert_eq!(request.all("x-real-ip"), [client], "{fields:?}");
        let id = request.field("x-request-id").unwrap();
        let line = gateway.wait_for_log(|line| line["request_id"] == id);
        assert_eq!((&line["client"], &line["client_source"]), (&client.into(), &source.into()), "{fields:?}");
        assert_eq!(line["peer"], "127.0.0.2");
    }
}

#[test]
fn an_unknown_client_gets_no_address_that_could_be_taken_for_an_internal_one() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top(TRUSTED));
    for fields in [
        "",
        "X-Forwarded-For: \r\n",
        "X-Forwarded-For: ,\r\n",
        "X-Forwarded-For: garbage\r\n",
        "X-Forwarded-For: unknown\r\n",
        "X-Forwarded-For: 8.8.8.8, garbage\r\n",
        "X-Forwarded-For: 8.8.8.8, garbage, 10.9.0.9\r\n",
        "X-Forwarded-For: 010.0.0.1\r\n",
        "X-Forwarded-For: 0.0.0.0\r\n",
        "X-Real-IP: 8.8.8.8\r\n",
        "Forwarded: for=8.8.8.8\r\n",
    ] {
        let request = seen(&gateway, &app, PROXY, fields);
        assert_eq!(request.all("x-forwarded-for"), ["233.252.0.0"], "{fields:?}");
        assert!(request.all("x-real-ip").iter().all(|ip| ip == "233.252.0.0"), "{fields:?}");
        assert!(!request.text().contains("127.0.0.") && !request.text().contains("10.9."), "{request:?}");
        let id = request.field("x-request-id").unwrap();
        let line = gateway.wait_for_log(|line| line["request_id"] == id);
        assert!(line["client"].is_null() && line["client_source"].as_str().unwrap().starts_with("unknown"), "{line}");
    }
}

#[test]
fn a_proxy_that_names_nobody_is_the_client_itself_where_configured() {
    let app = Upstream::answering(|_| ok(""));
    let config = "client_ip: {trusted_proxies: [\"127.0.0.2/32\"], missing: peer}";
    let gateway = Gateway::start(Config::before(&app).top(config));
    assert_eq!(seen(&gateway, &app, PROXY, "").all("x-forwarded-for"), ["127.0.0.2"]);
    let malformed = seen(&gateway, &app, PROXY, "X-Forwarded-For: garbage\r\n");
    assert_eq!(malformed.all("x-forwarded-for"), ["233.252.0.0"], "malformed is not missing");
}

#[test]
fn a_listener_for_probes_takes_a_proxy_that_names_nobody_for_itself_and_no_other_listener_does() {
    let app = Upstream::answering(|_| ok(""));
    let plain = "  - address: \"127.0.0.1:0\"\n";
    let probes = "  - {address: \"127.0.0.3:0\", serve: probes, missing: peer}\n";
    let config = |client: &str| Config::before(&app).top(client).to_string();
    let gateway = Gateway::start(config(TRUSTED).replacen(plain, &format!("{plain}{probes}"), 1));
    let ready = |listener: usize, from: [u8; 4], fields: &str| {
        let mut client = Client::connect_from(from, gateway.addresses()[listener]);
        client.send(format!("GET /readyz HTTP/1.1\r\nHost: 10.0.3.5:8081\r\n{fields}\r\n"));
        client.response().status
    };
    assert_eq!((ready(1, PROXY, ""), ready(0, PROXY, "")), (200, 403));
    let line = gateway.wait_for_log(|line| line["client_source"] == "missing_peer");
    assert_eq!((&line["client"], &line["status"]), (&"127.0.0.2".into(), &200.into()));
    // Whoever is named is who it is, there as well; and what cannot be read names nobody.
    for fields in [
        "X-Forwarded-For: 198.51.100.7\r\n",
        "X-Forwarded-For: garbage\r\n",
        "X-Forwarded-For: 10.0.0.1, 198.51.100.7\r\n",
    ] {
        assert_eq!(ready(1, PROXY, fields), 403, "{fields}");
    }
    // What one listener takes for granted, another need not.
    let strict = "  - {address: \"127.0.0.3:0\", missing: unknown}\n";
    let lenient = config("client_ip: {trusted_proxies: [\"127.0.0.2/32\"], missing: peer}");
    let gateway = Gateway::start(lenient.replacen(plain, &format!("{plain}{strict}"), 1));
    let status = |listener: usize| {
        let mut client = Client::connect_from(PROXY, gateway.addresses()[listener]);
        client.send("GET /readyz HTTP/1.1\r\nHost: app.example\r\n\r\n");
        client.response().status
    };
    assert_eq!((status(0), status(1)), (200, 403));
    // A connection stays what it was made as: what is served on it was told to other people.
    let mut kept = Client::connect_from(PROXY, gateway.addresses()[1]);
    let mut ask = || {
        kept.send("GET /readyz HTTP/1.1\r\nHost: app.example\r\n\r\n");
        kept.response().status
    };
    assert_eq!(ask(), 403);
    let same = "  - {address: \"127.0.0.3:0\"}\n";
    assert!(crate::lifecycle::reload(&gateway, &lenient.replacen(plain, &format!("{plain}{same}"), 1)));
    assert_eq!((ask(), status(1)), (403, 200));
}

#[test]
fn rfc_7239_forwarded_is_understood_where_configured_and_never_passed_on() {
    let app = Upstream::answering(|_| ok(""));
    let config = "client_ip: {trusted_proxies: [\"127.0.0.2/32\"], header: Forwarded}";
    let gateway = Gateway::start(Config::before(&app).top(config));
    for (fields, sent) in [
        ("Forwarded: for=\"[2001:db8::1]:4711\";proto=https\r\n", "2001:db8::1, 127.0.0.2"),
        ("Forwarded: for=10.0.0.1, for=198.51.100.7;by=127.0.0.2\r\n", "198.51.100.7, 127.0.0.2"),
        ("forwarded: For=\"198.51.100.7\"\r\nX-Forwarded-For: 10.0.0.1\r\n", "198.51.100.7, 127.0.0.2"),
        ("Forwarded: for=unknown\r\n", "233.252.0.0"),
        ("Forwarded: for=_hidden\r\n", "233.252.0.0"),
        ("Forwarded: proto=https\r\n", "233.252.0.0"),
        ("X-Forwarded-For: 198.51.100.7\r\n", "233.252.0.0"),
    ] {
        let request = seen(&gateway, &app, PROXY, fields);
        assert_eq!(request.all("x-forwarded-for"), [sent], "{fields:?}");
        assert_eq!(request.field("forwarded"), None, "{fields:?}");
    }
}

#[test]
fn a_single_address_field_is_understood_where_configured() {
    let app = Upstream::answering(|_| ok(""));
    let config = "client_ip: {trusted_proxies: [\"127.0.0.2/32\"], header: X-Real-IP}";
    let gateway = Gateway::start(Config::before(&app).top(config));
    for (fields, sent) in [
        ("X-Real-IP: 198.51.100.7\r\n", "198.51.100.7, 127.0.0.2"),
        ("X-Real-IP: 198.51.100.7\r\nX-Forwarded-For: 10.0.0.1\r\n", "198.51.100.7, 127.0.0.2"),
        ("X-Real-IP: 198.51.100.7\r\nX-Real-IP: 198.51.100.8\r\n", "233.252.0.0"),
        ("X-Real-IP: 198.51.100.7, 198.51.100.8\r\n", "233.252.0.0"),
        ("X-Forwarded-For: 198.51.100.7\r\n", "233.252.0.0"),
    ] {
        assert_eq!(seen(&gateway, &app, PROXY, fields).all("x-forwarded-for"), [sent], "{fields:?}");
    }
}

#[test]
fn the_scheme_is_what_a_trusted_proxy_says() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top(TRUSTED));
    let known = "X-Forwarded-For: 198.51.100.7\r\n";
    for (fields, scheme, port) in [
        ("X-Forwarded-Proto: https\r\n", "https", "443"),
        ("X-Forwarded-Proto: HTTPS\r\n", "https", "443"),
        ("X-Forwarded-Proto: http\r\n", "http", "80"),
        ("", "http", "80"),
        ("X-Forwarded-Proto: https, http\r\n", "http", "80"),
        ("X-Forwarded-Proto: https\r\nX-Forwarded-Proto: https\r\n", "http", "80"),
        ("X-Forwarded-Proto: javascript\r\n", "http", "80"),
        ("Forwarded: for=198.51.100.7;proto=https\r\n", "https", "443"),
    ] {
        let request = seen(&gateway, &app, PROXY, &format!("{known}{fields}"));
        assert_eq!(request.all("x-forwarded-proto"), [scheme], "{fields:?}");
        assert_eq!(request.all("x-forwarded-port"), [port], "{fields:?}");
    }
}

#[test]
fn the_port_is_what_host_says() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    exchange(gateway.address(), "GET / HTTP/1.1\r\nHost: app.example:8443\r\n\r\n");
    let request = app.request();
    assert_eq!(request.field("x-forwarded-port").as_deref(), Some("8443"));
    assert_eq!(request.field("x-forwarded-host").as_deref(), Some("app.example:8443"));
    assert_eq!(request.field("host").as_deref(), Some("app.example:8443"));
}

#[test]
fn rules_see_the_client_and_not_the_proxy() {
    let app = Upstream::answering(|_| ok("in"));
    let gateway = Gateway::start(
        Config::before(&app)
            .top(TRUSTED)
            .top("networks: {office: [\"127.0.0.0/8\", \"198.51.100.0/24\"]}")
            .service("routes:\n  - {path: /admin, allow: {network: office}}"),
    );
    for (from, fields, status) in [
        ([127, 0, 0, 7], "", 200),
        (PROXY, "X-Forwarded-For: 198.51.100.7\r\n", 200),
        (PROXY, "X-Forwarded-For: 203.0.113.7\r\n", 403),
        (PROXY, "X-Forwarded-For: 198.51.100.7, 203.0.113.7\r\n", 403),
        (PROXY, "X-Forwarded-For: 198.51.100.7, garbage\r\n", 403),
        (PROXY, "", 403),
    ] {
        assert_eq!(ask(&gateway, from, "/admin", fields).status, status, "{from:?} {fields:?}");
    }
}
