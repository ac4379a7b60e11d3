//! D16: whatever the spelling, what the app decodes is what the rules have judged.

use crate::harness::{Client, Config, Gateway, Response, Upstream, get, ok};

/// Only 192.0.2.1 may ask for the probe, see the route or its parts.
fn guarded(app: &Upstream) -> Gateway {
    Gateway::start(
        Config::before(app)
            .top("networks: {nobody: [\"192.0.2.1/32\"]}")
            .service("probes: {readyz: {allow: {network: nobody}}}")
            .service("routes:\n  - {path: /admin, allow: {network: nobody}}\n  - {path: /admin/open, allow: anyone}"),
    )
}

/// As the app would decode it: once.
fn decoded(target: &str) -> String {
    let path = target.split('?').next().unwrap();
    let mut out = Vec::new();
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
        out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn ask(gateway: &Gateway, line: &str) -> Response {
    let mut client = Client::connect(gateway.address());
    client.send(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.response()
}

#[test]
fn d16_no_spelling_of_a_guarded_probe_reaches_the_app() {
    let app = Upstream::answering(|_| ok("reached"));
    let gateway = guarded(&app);
    for (target, status) in [
        ("/readyz", 403),
        ("/readyz?x=1", 403),
        ("/readyz?", 403),
        ("/%72eadyz", 403),
        ("/r%65%61dy%7A", 403),
        ("/%72%65%61%64%79%7a", 403),
        ("/./readyz", 403),
        ("/x/../readyz", 403),
        ("/x/%2e%2e/readyz", 403),
        ("/x/.%2E/readyz", 403),
        ("/x/y/../../readyz", 403),
        ("/%2e/readyz", 403),
        ("http://a/readyz", 403),
        ("HTTP://A/x/../%72eadyz", 403),
        // More than one reading: which one the app takes is not known.
        ("//readyz", 400),
        ("///readyz", 400),
        ("/readyz/", 400),
        ("/readyz//", 400),
        ("/readyz/.", 400),
        ("/readyz/x/..", 400),
        ("/readyz%2f", 400),
        ("/readyz%2fx%2f..", 400),
        ("/x%2f..%2freadyz", 400),
        ("/x/..%2freadyz", 400),
        ("/%2freadyz", 400),
        ("/%2e%2freadyz", 400),
        ("/readyz;", 400),
        ("/readyz;a=b", 400),
        ("/;/readyz", 400),
        ("/x;/../readyz", 403),
        ("/..;/readyz", 400),
        ("/readyz%3b", 400),
        ("/readyz%3Bx", 400),
        ("/\\readyz", 400),
        ("/x\\..\\readyz", 400),
        ("/readyz\\", 400),
        ("/%5creadyz", 400),
        ("/%2572eadyz", 400),
        ("/%252e%252e/readyz", 400),
        ("/x/%252e%252e/readyz", 400),
        ("/readyz%252f", 400),
        ("/%25252572eadyz", 400),
        ("http://a//readyz", 400),
        // No meaning at all.
        ("/readyz%00", 400),
        ("/readyz%00.html", 400),
        ("/readyz%0a", 400),
        ("/readyz%0d%0aX:%20y", 400),
        ("/readyz%7f", 400),
        ("/readyz%", 400),
        ("/readyz%7", 400),
        ("/readyz%zz", 400),
        ("/readyz%u002e", 400),
        ("/../readyz", 400),
        ("/%2e%2e/readyz", 400),
        ("/readyz#", 400),
        ("readyz", 400),
    ] {
        for method in ["GET", "POST"] {
            assert_eq!(ask(&gateway, &format!("{method} {target}")).status, status, "{method} {target}");
        }
    }
    assert_eq!(app.connections(), 0, "{:?}", app.targets());
}

#[test]
fn d16_no_spelling_of_a_guarded_route_reaches_the_app() {
    let app = Upstream::answering(|_| ok("reached"));
    let gateway = guarded(&app);
    for (target, status) in [
        ("/admin", 403),
        ("/admin/", 403),
        ("/admin/users", 403),
        ("/%61dmin/users", 403),
        ("/x/../admin/users", 403),
        ("/admin/open/../users", 403),
        ("/admin/open/%2e%2e/users", 403),
        ("//admin/users", 400),
        ("/admin%2fusers", 403),
        ("/x%2f..%2fadmin/users", 400),
        ("/x/..;/admin/users", 400),
        ("/x\\..\\admin", 400),
        ("/admin;x/users", 400),
        ("/%2561dmin/users", 400),
        ("/admin/open%2f..%2fusers", 400),
        ("/admin/open/..%2fusers", 400),
        ("/admin/open/..;/users", 400),
        ("/admin/open/%252e%252e/users", 400),
        ("/admin%00", 400),
        ("http://a/admin", 403),
    ] {
        assert_eq!(ask(&gateway, &format!("GET {target}")).status, status, "{target}");
    }
    assert_eq!(app.connections(), 0, "{:?}", app.targets());
    assert_eq!(get(gateway.address(), "/admin/open/x").status, 200);
}

#[test]
fn d16_no_reading_that_leaves_a_step_out_reaches_the_guarded_path() {
    let app = Upstream::answering(|_| ok("reached"));
    let gateway = guarded(&app);
    // Tomcat cuts `;parameters` up to the next slash before it decodes: what it sees is /readyz and /admin/users.
    for target in
        ["/readyz;%2f..", "/readyz;\\..", "/readyz;%5c..", "/readyz;%2fx%2f..%2f..", "/admin/users;%2f..%2f.."]
    {
        assert_eq!(get(gateway.address(), target).status, 400, "{target}");
    }
    assert_eq!(app.connections(), 0, "{:?}", app.targets());
}

#[test]
fn d16_what_is_ambiguous_but_unguarded_either_way_reaches_the_app_as_it_was_sent() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = guarded(&app);
    let targets = [
        "/a//b",
        "/a%2fb",
        "/a;v=1/b",
        "/a%5cb",
        "/a%2541",
        "/100%25",
        "/Readyz",
        "/READYZ",
        "/readyz.html",
        "/readyzz",
        "/x/readyz",
        "/administrator",
        "/%e2%82%ac",
        "/a%20b",
        "/a+b",
        "/...",
        "/.well-known/x",
        "/x?y=/../admin&z=%00",
        "/x?http://a/admin",
    ];
    for target in targets {
        assert_eq!(get(gateway.address(), target).status, 200, "{target}");
    }
    assert_eq!(app.targets(), targets);
}

#[test]
fn rfc_3986_5_2_4_dot_segments_are_resolved_before_the_app_sees_them() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = guarded(&app);
    for (sent, seen) in [
        ("/x/../public", "/public"),
        ("/x/./public", "/x/public"),
        ("/x/%2e%2e/public?a=../b", "/public?a=../b"),
        ("/admin/../public", "/public"),
        ("/admin/%2E%2e/p%75blic", "/p%75blic"),
        ("/readyz/../public", "/public"),
        ("/x//../readyz", "/x/readyz"),
        ("/x//../admin", "/x/admin"),
        ("/x/..", "/"),
        ("/x/.", "/x/"),
    ] {
        assert_eq!(get(gateway.address(), sent).status, 200, "{sent}");
        assert_eq!(app.targets().last().map(String::as_str), Some(seen), "{sent}");
    }
}

#[test]
fn rfc_9112_3_2_2_an_absolute_target_becomes_an_origin_one_with_its_own_host() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = guarded(&app);
    for (sent, seen) in [("http://a/x?y", "/x?y"), ("http://a", "/"), ("https://A/x", "/x"), ("http://a?y", "/?y")] {
        assert_eq!(ask(&gateway, &format!("GET {sent}")).status, 200, "{sent}");
        let request = app.requests().pop().unwrap();
        assert_eq!(
            (&*request.target(), request.field("host").map(|host| host.to_lowercase()).as_deref()),
            (seen, Some("a")),
            "{sent}"
        );
    }
}

#[test]
fn rfc_9110_9_3_7_options_may_ask_about_the_server_as_a_whole() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = guarded(&app);
    assert_eq!(ask(&gateway, "OPTIONS *").status, 200);
    assert_eq!(app.request().line(), "OPTIONS * HTTP/1.1");
}

#[test]
fn d16_random_spellings_never_reach_the_app_as_the_guarded_path() {
    // Pieces that parsers disagree about, in every order of up to four.
    let pieces = ["/", "readyz", "%72eadyz", "..", ".", "%2e%2e", ";", "%2f", "\\", "x", "%25", "%00", "?"];
    let app = Upstream::answering(|_| ok(""));
    let gateway = guarded(&app);
    let mut client = Client::connect(gateway.address());
    let mut state = 7usize;
    for _ in 0..3000 {
        let mut target = "/".to_owned();
        for _ in 0..=(state % 6) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            target.push_str(pieces[(state >> 33) % pieces.len()]);
        }
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response();
        assert!(matches!(response.status, 200 | 400 | 403), "{target}: {response:?}");
        if response.closes() {
            client = Client::connect(gateway.address());
        }
    }
    for target in app.targets() {
        let path = decoded(&target);
        // The readings of servers that merge slashes, cut parameters, know backslashes, decode twice or cut the last slash.
        let twice = if path.contains('%') {
            path.replace("%72", "r").replace("%2e", ".").replace("%2f", "/")
        } else {
            path.clone()
        };
        let mut segments: Vec<&str> = Vec::new();
        let generous = twice.replace('\\', "/");
        for segment in generous.split('/') {
            match segment.split(';').next().unwrap() {
                "" | "." => {}
                ".." => drop(segments.pop()),
                other => segments.push(other),
            }
        }
        assert_ne!(segments, ["readyz"], "{target}");
        assert_ne!(path, "/readyz", "{target}");
    }
    assert!(app.requests().len() > 300, "too few spellings were passed on to show anything");
}
