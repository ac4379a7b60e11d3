//! What `deny: 404` hides.

use super::{HTML, ask, with_pages};
use crate::harness::{Config, Response, Upstream};

/// Head and body of an answer, without what differs from one request to the next.
fn anonymous(answer: &Response) -> String {
    let fields = answer.fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("date"));
    let fields: Vec<_> = fields.map(|(name, value)| format!("{name}: {value}\n")).collect();
    let text = format!("{} {}\n{}", answer.status, fields.concat(), answer.text());
    let mut out = String::new();
    let mut digits = 0;
    for c in text.chars() {
        digits = if c.is_ascii_hexdigit() { digits + 1 } else { 0 };
        out.push(c);
        if digits == 32 {
            out.truncate(out.len() - 32);
            out.push_str("ID");
        }
    }
    out
}

#[test]
fn what_is_hidden_looks_byte_for_byte_like_what_is_missing() {
    let app = Upstream::answering(|_| "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
    let own = "allow: {network: nowhere}, deny: 404, error_pages: {\"404\": 5xx.html}, response_headers: {add: {X-Own: a}}, \
        cors: {origins: [\"https://b.example\"]}, limits: [one]";
    let config = Config::before(&app)
        .top("error_header: true\nnetworks: {nowhere: [192.0.2.0/24]}\nlimits: {one: {rate: 1/h}}")
        .service("probes: {healthz: {allow: {network: nowhere}, deny: 404}}")
        .service("error_pages: {default: error.html}\nintercept: [404]\nresponse_headers: {add: {X-Route: \"<${route}>\"}}")
        .service(&format!(
            "routes:\n  - {{path: /hidden/, {own}}}\n  - {{path: /api/, error_pages: {{\"404\": 404.html}}, cors: {{origins: [\"https://a.example\"]}}}}\n\
             \x20 - {{path: /api/hidden/, {own}}}\n  - {{path: /static/, files: {{root: .}}}}\n  - {{path: /static/hidden/, files: {{root: .}}, {own}}}\n\
             \x20 - {{path: /app/, files: {{root: ., missing: app}}}}\n  - {{path: /app/hidden/, files: {{root: .}}, {own}}}"
        ));
    let gateway = with_pages(config);
    for (hidden, missing) in [
        ("/hidden", "/missing"),
        ("/hidden/x?a=b", "/missing"),
        ("/%2fhidden/", "/%2fmissing/"),
        ("/healthz", "/missing"),
        ("/healthz/", "/missing"),
        ("/api/hidden/x", "/api/missing"),
        ("/static/hidden/error.html", "/static/missing"),
        ("/app/hidden/error.html", "/app/missing"),
    ] {
        for accept in [HTML, "application/json", "*/*"] {
            let fields = format!("{accept}\r\nOrigin: https://b.example");
            let [seen, expected] = [hidden, missing].map(|target| {
                let (get, head) = (
                    ask(&gateway, &format!("GET {target}"), &fields),
                    ask(&gateway, &format!("HEAD {target}"), &fields),
                );
                anonymous(&get) + &anonymous(&head)
            });
            assert_eq!(seen, expected, "{hidden} {accept}");
            assert!(seen.starts_with("404 "), "{seen}");
        }
    }
    // Who looks at the log knows better.
    let line = gateway.access("/hidden");
    assert_eq!(
        (&line["reason"], &line["origin"], &line["status"]),
        (&"outside_network".into(), &"gateway".into(), &404.into())
    );
    // Its limit counts, and says nothing.
    let line = gateway.wait_for_log(|line| line["target"] == "/hidden/x?a=b" && line["reason"] == "limit_exceeded");
    assert_eq!((&line["status"], &line["decision"]), (&404.into(), &"limit".into()));
}
