//! One policy for the probes of all services, the listener that serves nothing else, and those who ask there.

use crate::harness::{Client, Config, Gateway, Response, Upstream, exchange, get, ok};

const TOKEN: &str = "the-token-of-the-monitor-0123456789abcdef";

/// Two services, one listener for everything and one for probes.
fn gateway(shop: &Upstream, blog: &Upstream) -> Gateway {
    let config = format!(
        "listeners:\n  - {{address: \"127.0.0.1:0\", redirect_https: true}}\n  - {{address: \"127.0.0.2:0\", serve: probes}}\n\
         workers: 1\nadmin: {{address: \"127.0.0.1:0\"}}\nnetworks: {{internal: [\"127.0.0.1/32\"]}}\n\
         tokens: {{probe: {{slots: [{{name: uptime, env: PROBE_TOKEN}}]}}}}\n\
         limits: {{few: {{rate: 1/h, burst: 0}}}}\nmaintenance_is: none\n\
         probes:\n  timeout: 10s\n  deny: 404\n  cache: off\n  readyz: {{allow: {{any: [{{network: internal}}, {{token: probe}}]}}}}\n  version: off\n\
         services:\n  shop:\n    hosts: [shop.example.com]\n    limits: [few]\n    upstream: {{servers: [\"{}\"]}}\n\
         \x20   probes: {{prefix: /shop, readyz: {{cache: {{ok: 5m}}}}}}\n\
         \x20 blog:\n    hosts: [blog.example.com]\n    upstream: {{servers: [\"{}\"]}}\n    probes: {{startupz: {{deny: 403}}}}\n",
        shop.server(),
        blog.server()
    );
    Gateway::with(config.replace("maintenance_is: none\n", "")).env("PROBE_TOKEN", TOKEN).start()
}

fn ask(gateway: &Gateway, listener: usize, from: [u8; 4], head: &str) -> Response {
    let mut client = Client::connect_from(from, gateway.addresses()[listener]);
    client.send(format!("{head}\r\n\r\n"));
    if head.starts_with("HEAD") { client.response_to_head() } else { client.response() }
}

const NEAR: [u8; 4] = [127, 0, 0, 1];
const FAR: [u8; 4] = [127, 0, 0, 9];

#[test]
fn what_holds_for_all_services_can_be_said_otherwise_by_each() {
    let [shop, blog] =
        ["shop", "blog"].map(|name| Upstream::answering(move |request| ok(&format!("{name} {}", request.target()))));
    let gateway = gateway(&shop, &blog);
    let near = |host: &str, path: &str| ask(&gateway, 0, NEAR, &format!("GET {path} HTTP/1.1\r\nHost: {host}"));
    assert_eq!(near("shop.example.com", "/shop/readyz").text(), "shop /shop/readyz");
    assert_eq!(near("shop.example.com", "/shop/readyz").field("x-probe-cache").as_deref(), Some("hit"));
    assert_eq!(near("blog.example.com", "/readyz").text(), "blog /readyz");
    assert_eq!(near("blog.example.com", "/readyz").field("x-probe-cache"), None, "off for all");
    let far = |host: &str, path: &str| ask(&gateway, 0, FAR, &format!("GET {path} HTTP/1.1\r\nHost: {host}")).status;
    assert_eq!((far("shop.example.com", "/shop/readyz"), far("shop.example.com", "/shop/startupz")), (404, 404));
    assert_eq!((far("blog.example.com", "/readyz"), far("blog.example.com", "/startupz")), (404, 403));
    assert_eq!(far("shop.example.com", "/readyz"), 308, "a path like any other, and off to HTTPS");
}

#[test]
fn a_listener_for_probes_takes_any_host_and_knows_nothing_else() {
    let [shop, blog] = ["shop", "blog"].map(|name| {
        Upstream::answering(move |request| {
            ok(&format!("{name} {} {}", request.target(), request.field("host").unwrap_or_default()))
        })
    });
    let gateway = gateway(&shop, &blog);
    let near = |head: &str| ask(&gateway, 1, NEAR, head);
    for host in ["10.1.2.3:8080", "shop.example.com", "other.example", "[::1]"] {
        let shop = near(&format!("GET /shop/readyz HTTP/1.1\r\nHost: {host}"));
        assert_eq!((shop.status, &*shop.text()), (200, "shop /shop/readyz shop.example.com"), "{host}");
        let blog = near(&format!("GET /blog/readyz HTTP/1.1\r\nHost: {host}"));
        assert_eq!((blog.status, &*blog.text()), (200, "blog /readyz blog.example.com"), "{host}");
    }
    for path in [
        "/",
        "/readyz",
        "/shop",
        "/shop/",
        "/shop/version",
        "/shop/readyz/",
        "/nobody/readyz",
        "//shop/readyz",
        "/shop/x",
        "/shop/%2e/readyz;x",
    ] {
        let unknown = near(&format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\nAccept: text/html"));
        assert_eq!((unknown.status, unknown.field("location")), (404, None), "{path}");
    }
    assert_eq!(gateway.access("/shop/x")["reason"], "probe_unknown");
    assert_eq!(
        ask(&gateway, 1, FAR, "GET /shop/readyz HTTP/1.1\r\nHost: a").status,
        404,
        "strangers are strangers there"
    );
    assert_eq!(near("POST /shop/readyz HTTP/1.1\r\nHost: a\r\nContent-Length: 0").status, 405);
}

#[test]
fn kubelets_balancers_and_monitors_get_their_answers() {
    let [shop, blog] = [(); 2].map(|()| Upstream::answering(|_| ok("ready")));
    let gateway = gateway(&shop, &blog);
    let kubelet = "GET /shop/readyz HTTP/1.1\r\nHost: 10.1.2.3:8081\r\nUser-Agent: kube-probe/1.30\r\nAccept: */*\r\nConnection: close";
    let balancer = "GET /shop/readyz HTTP/1.1\r\nHost: 10.1.2.3:8081\r\nConnection: close\r\nUser-Agent: ELB-HealthChecker/2.0\r\nAccept-Encoding: gzip, compressed";
    for head in [kubelet, balancer] {
        for _ in 0..5 {
            assert_eq!(ask(&gateway, 1, NEAR, head).status, 200, "never limited, never redirected");
        }
    }
    let monitor = |path: &str, token: &str| {
        format!(
            "HEAD {path} HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: Mozilla/5.0+(compatible; UptimeRobot/2.0)\r\nX-Probe-Token: {token}"
        )
    };
    assert_eq!(ask(&gateway, 0, FAR, &monitor("/shop/readyz", TOKEN)).status, 200, "no HTTPS, but a probe");
    assert_eq!(ask(&gateway, 0, FAR, &monitor("/shop/readyz", "guess")).status, 404);
    assert_eq!(shop.requests().len(), 1, "one request for all of them: the host is the service's own");
}

#[test]
fn a_probe_is_never_answered_with_a_page() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(
        Config::before(&app)
            .service("probes: {readyz: {allow: {network: nobody}}}")
            .top("networks: {nobody: [\"192.0.2.1/32\"]}"),
    );
    let refused = exchange(gateway.address(), "GET /readyz HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n");
    assert_eq!((refused.status, refused.field("content-type").as_deref()), (403, Some("application/problem+json")));
    assert_eq!(get(gateway.address(), "/healthz").status, 200);
}

#[test]
fn whoever_asks_whether_to_send_more_is_told_no_while_the_gateway_goes_down() {
    let [shop, blog] = [(); 2].map(|()| Upstream::answering(|_| ok("ready")));
    let config = format!(
        "listeners:\n  - {{address: \"127.0.0.1:0\"}}\n  - {{address: \"127.0.0.2:0\", serve: probes}}\n\
         workers: 1\nadmin: {{address: \"127.0.0.1:0\"}}\nnetworks: {{internal: [\"127.0.0.1/32\"]}}\nshutdown: {{delay: 5s}}\n\
         services:\n  shop:\n    hosts: [shop.example.com]\n    upstream: {{servers: [\"{}\"]}}\n    probes: {{readyz: {{cache: {{ok: 5m}}}}}}\n\
         \x20 blog:\n    hosts: [blog.example.com]\n    upstream: {{servers: [\"{}\"]}}\n    probes: {{readyz: {{cache: off}}}}\n",
        shop.server(),
        blog.server()
    );
    let mut gateway = Gateway::start(config);
    let get = |gateway: &Gateway, listener: usize, from: [u8; 4], host: &str, path: &str| {
        ask(gateway, listener, from, &format!("GET {path} HTTP/1.1\r\nHost: {host}"))
    };
    let all = [(1, "10.1.2.3", "/shop/readyz"), (1, "a", "/blog/readyz"), (0, "shop.example.com", "/readyz")];
    for (listener, host, path) in all {
        assert_eq!(get(&gateway, listener, NEAR, host, path).status, 200, "{path}");
    }
    let asked = shop.requests().len() + blog.requests().len();
    gateway.signal("TERM");
    gateway.wait_for_log(|line| line["message"] == "draining");
    // What is known of the app, and what it would say, says nothing about the gateway before it.
    for (listener, host, path) in all {
        let answer = get(&gateway, listener, NEAR, host, path);
        assert_eq!((answer.status, &answer.json()["status"]), (503, &503.into()), "{path}");
        assert!(answer.text().contains("the gateway is going down, and others are to be asked"), "{}", answer.text());
        assert_eq!(answer.field("connection").as_deref(), Some("close"));
    }
    assert_eq!(ask(&gateway, 1, NEAR, "HEAD /shop/readyz HTTP/1.1\r\nHost: a").status, 503);
    assert_eq!(shop.requests().len() + blog.requests().len(), asked, "no app is asked any more");
    // Whoever may not ask learns nothing, other questions are answered as before, and so is everything else.
    assert_eq!(get(&gateway, 1, FAR, "a", "/shop/readyz").status, 403);
    for (listener, path) in [(1, "/shop/healthz"), (1, "/shop/startupz"), (0, "/healthz"), (0, "/")] {
        assert_eq!(get(&gateway, listener, NEAR, "shop.example.com", path).status, 200, "{path}");
    }
    let line = gateway.access("/blog/readyz");
    assert_eq!((&line["decision"], &line["service"]), (&"forward".into(), &"blog".into()), "the first of them");
    assert_eq!(gateway.wait_exit().code(), Some(0));
    let failed = gateway.access_log().into_iter().filter(|line| line["reason"] == "draining").count();
    assert_eq!(failed, 4);
}
