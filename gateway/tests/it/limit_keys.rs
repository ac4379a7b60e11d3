//! Whose requests are counted together: keys of one part and of several, values that are missing, and other spellings of the same.

use std::sync::Arc;

use crate::harness::{Authority, Client, Config, Gateway, Upstream, Wish, ok};

/// A gateway with a limit of one request a day for each key, on everything.
fn by(app: &Upstream, key: &str) -> Gateway {
    let top = format!("limits: {{one: {{rate: 1/d, burst: 0, key: {key}}}}}");
    Gateway::start(Config::before(app).top(&top).service("limits: [one]"))
}

fn app() -> Upstream {
    Upstream::answering(|_| ok("answered"))
}

/// Asks from an address of loopback for a target, with these field lines.
fn ask_from(gateway: &Gateway, source: u8, line: &str, fields: &[&str]) -> u16 {
    let mut client = Client::connect_from([127, 0, 0, source], gateway.address());
    let fields: String = fields.iter().flat_map(|field| [*field, "\r\n"]).collect();
    let host = if fields.contains("Host:") { "" } else { "Host: a\r\n" };
    client.send(format!("{line} HTTP/1.1\r\n{host}{fields}\r\n"));
    if line.starts_with("HEAD") { client.response_to_head().status } else { client.response().status }
}

fn with(gateway: &Gateway, fields: &[&str]) -> u16 {
    ask_from(gateway, 1, "GET /", fields)
}

fn at(gateway: &Gateway, target: &str) -> u16 {
    ask_from(gateway, 1, &format!("GET {target}"), &[])
}

#[test]
fn values_of_a_header_are_counted_apart_and_whoever_has_none_counts_as_a_client() {
    let app = app();
    let gateway = by(&app, "{header: X-Tenant}");
    for tenant in ["a", "b", "A"] {
        let field = format!("X-Tenant: {tenant}");
        assert_eq!((with(&gateway, &[&field]), with(&gateway, &[&field])), (200, 429), "{tenant}");
    }
    assert_eq!(ask_from(&gateway, 2, "GET /", &["x-TENANT:   a "]), 429, "whoever sends it");
    // Of several, nobody knows which one the app reads: as good as none, from whatever client.
    assert_eq!(ask_from(&gateway, 9, "GET /", &["X-Tenant: a", "X-Tenant: 1"]), 200);
    assert_eq!(ask_from(&gateway, 9, "GET /", &["X-Tenant: 2", "X-Tenant: a"]), 429);
    assert_eq!(with(&gateway, &["X-Tenant: ab"]), 200, "and do not run into each other");
    assert_eq!(with(&gateway, &["X-Tenant:", "X-Tenant: a"]), 429, "an empty one is none");
    // Nobody shares a bucket with strangers because both say nothing.
    for source in [1, 2, 3] {
        assert_eq!(ask_from(&gateway, source, "GET /", &[]), 200, "{source}");
        assert_eq!(ask_from(&gateway, source, "GET /", &["X-Tenant:"]), 429, "{source}: empty is as good as absent");
    }
    assert_eq!(with(&gateway, &["X-Tenant: 127.0.0.1"]), 200, "no value is taken for a client");
}

#[test]
fn cookies_and_parameters_have_one_spelling() {
    let app = app();
    let gateway = by(&app, "{cookie: sid}");
    assert_eq!(with(&gateway, &["Cookie: a=1; sid=x"]), 200);
    assert_eq!(with(&gateway, &["Cookie: sid=x; b=2"]), 429);
    assert_eq!(with(&gateway, &["Cookie: a=1", "Cookie: sid=x"]), 429);
    assert_eq!(with(&gateway, &["Cookie: Sid=x"]), 200, "names of cookies have a case: no such cookie, a client");
    assert_eq!(with(&gateway, &["Cookie: sidx=x"]), 429);
    for dodge in ["sid=1; sid=x", "sid=\"x\"", "sid=x; sid=2"] {
        assert_eq!(with(&gateway, &[&format!("Cookie: {dodge}")]), 429, "{dodge}");
    }

    let gateway = by(&app, "{query: q}");
    assert_eq!(at(&gateway, "/?q=a+b"), 200);
    for same in ["/?q=a%20b", "/?x=1&%71=a%20%62", "/other?q=a+b&y"] {
        assert_eq!(at(&gateway, same), 429, "{same}");
    }
    assert_eq!(at(&gateway, "/?q=a+c"), 200);
    assert_eq!((at(&gateway, "/"), at(&gateway, "/?q="), at(&gateway, "/?qq=1")), (200, 429, 429));
    assert_eq!((at(&gateway, "/?q=1&q=a+b"), at(&gateway, "/?q=2&q=a+b")), (429, 429), "several are none");
}

#[test]
fn a_path_a_host_and_a_method_are_one_however_they_are_written() {
    let app = app();
    let gateway = by(&app, "path");
    assert_eq!(at(&gateway, "/a/b"), 200);
    for same in ["/a/%62", "/x/../a/b", "/a/b?c=d", "/a//b", "//a/b"] {
        assert_eq!(at(&gateway, same), 503, "{same}");
    }
    assert_eq!(ask_from(&gateway, 2, "GET /a/b", &[]), 503, "for everybody together");
    assert_eq!((at(&gateway, "/a/B"), at(&gateway, "/a/b/")), (200, 200));

    let gateway = by(&app, "host");
    let of = |host: &str| with(&gateway, &[&format!("Host: {host}")]);
    assert_eq!((of("a.example"), of("A.Example:81"), of("a.example."), of("b.example")), (200, 503, 503, 200));

    let gateway = by(&app, "method");
    let of = |method: &str| ask_from(&gateway, 1, &format!("{method} /"), &["Content-Length: 0"]);
    assert_eq!((of("GET"), of("HEAD"), of("GET")), (200, 200, 503));
    assert_eq!((of("INVENTED"), of("ANOTHER")), (200, 503), "inventing methods buys nothing");
}

#[test]
fn several_parts_make_one_key() {
    let app = app();
    let gateway = by(&app, "[client_ip, {header: X-Tenant}, method]");
    let ask = |source, method: &str, tenant: &str| {
        ask_from(&gateway, source, &format!("{method} /"), &[&format!("X-Tenant: {tenant}"), "Content-Length: 0"])
    };
    assert_eq!((ask(1, "POST", "a"), ask(1, "POST", "a")), (200, 429));
    assert_eq!(
        (ask(2, "POST", "a"), ask(1, "GET", "a"), ask(1, "POST", "b"), ask(1, "POST", "")),
        (200, 200, 200, 200)
    );
    assert_eq!((ask(1, "POST", ""), ask(2, "POST", "")), (429, 200));
}

#[test]
fn services_and_routes_share_a_limit_or_have_each_their_own() {
    let app = app();
    let config = |key: &str| {
        let server = app.server();
        format!(
            "listeners: [{{address: \"127.0.0.1:0\"}}]\nadmin: {{address: \"127.0.0.1:0\"}}\nworkers: 1\n\
             limits: {{one: {{rate: 1/d, burst: 0, key: {key}}}}}\nservices:\n  a:\n    hosts: [a]\n    limits: [one]\n    \
             upstream: {{servers: [\"{server}\"]}}\n    routes: [{{path: /x}}, {{path: /y}}]\n  b:\n    hosts: [b]\n    limits: [one]\n    \
             upstream: {{servers: [\"{server}\"]}}\n"
        )
    };
    let ask = |gateway: &Gateway, host: &str, path: &str| {
        ask_from(gateway, 1, &format!("GET {path}"), &[&format!("Host: {host}")])
    };
    let gateway = Gateway::start(config("client_ip"));
    assert_eq!((ask(&gateway, "a", "/"), ask(&gateway, "b", "/")), (200, 429));
    let gateway = Gateway::start(config("service"));
    assert_eq!((ask(&gateway, "a", "/"), ask(&gateway, "a", "/x"), ask(&gateway, "b", "/")), (200, 503, 200));
    let gateway = Gateway::start(config("[route, client_ip]"));
    let seen = [("a", "/"), ("a", "/z"), ("a", "/x/1"), ("a", "/x/2"), ("a", "/y"), ("b", "/x")];
    assert_eq!(seen.map(|(host, path)| ask(&gateway, host, path)), [200, 429, 200, 429, 200, 200]);
}

#[test]
fn tokens_are_counted_by_slot_and_others_as_clients() {
    let app = app();
    let top = "tokens: {ci: {slots: [{name: a, value: \"0123456789abcdef0123456789abcdef\"}, {name: b, value: \"fedcba9876543210fedcba9876543210\"}]}}\n\
               networks: {local: [127.0.0.0/8]}\nlimits: {one: {rate: 1/d, burst: 0, key: token}}";
    let service = "limits: [one]\nroutes: [{path: /, allow: {any: [{token: ci}, {network: local}]}}]";
    let gateway = Gateway::start(Config::before(&app).top(top).service(service));
    let of = |token: &str| with(&gateway, &[&format!("X-Probe-Token: {token}")]);
    let (a, b) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    assert_eq!((of(a), of(a), of(b)), (200, 429, 200));
    assert_eq!((of("wrong"), of("guess"), with(&gateway, &[])), (200, 429, 429), "guesses are the client's");
    assert_eq!(ask_from(&gateway, 2, "GET /", &[]), 200);
}

#[test]
fn client_certificates_are_counted_by_whom_they_name() {
    let app = app();
    let (authority, clients) = (Authority::new("Gateway"), Authority::new("Clients"));
    let issued = authority.issue(&["shop.example"]);
    let tls = "{certificates: [{cert: cert.pem, key: key.pem}], client_certificates: {accept: [all]}}";
    let config = Config::before(&app)
        .top("client_certificates: {all: {ca: clients.pem}}\nlimits: {one: {rate: 1/d, burst: 0, key: client_certificate}}")
        .service("limits: [one]");
    let files = [("cert.pem", &*issued.cert), ("key.pem", &*issued.key), ("clients.pem", &*clients.pem)];
    let gateway = crate::tls::start(&config, tls, &files);
    let ask = |certificate: Option<&str>| {
        // A new certificate each time: whom it names is what counts.
        let issued = certificate.map(|name| clients.sign(&Wish::client(name)));
        let config = Arc::new(authority.client(issued.as_ref()));
        let mut client = Client::secure(gateway.address(), &config, "shop.example");
        client.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        client.response().status
    };
    assert_eq!((ask(Some("robot")), ask(Some("robot")), ask(Some("other"))), (200, 429, 200));
    assert_eq!((ask(None), ask(None)), (200, 429));
}
