//! The path that the app gets, redirects, and the headers that have presets: security headers and CORS.

use std::process::Command;

use crate::harness::{
    Client, Config, Folder, Gateway, Http2App, Response, Upstream, exchange, get, ok, probegate, run,
};
use crate::http2::with_http2;

const NONE: [&str; 0] = [];

fn all(response: &Response, name: &str) -> Vec<String> {
    let fields = response.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    fields.map(|(_, value)| value.clone()).collect()
}

fn ask(gateway: &Gateway, line: &str, fields: &str) -> Response {
    exchange(gateway.address(), format!("{line} HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n"))
}

const REWRITES: &str = "\
limits: [few]
routes:
  - {path: /api/, strip_prefix: /api}
  - {path: /moved/deep/, strip_prefix: /moved, add_prefix: \"/new shop\"}
  - {path: /v2/, add_prefix: /inner}
  - {path: /admin/, allow: {network: nowhere}, deny: 404}
  - {path: /open/}
  - {path: /login/, limits: [login]}
";

fn rewriting(app: &Upstream) -> Config {
    Config::before(app)
        .service(REWRITES)
        .top("networks: {nowhere: [192.0.2.0/24]}\nlimits: {few: {rate: 1000/s}, login: {rate: 5/m}}")
}

#[test]
fn the_app_gets_the_path_without_its_prefix_and_is_told_which() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(rewriting(&app));
    for (asked, sent, prefix) in [
        ("/api/x?y=%2F", "/x?y=%2F", Some("/api")),
        ("/api", "/", Some("/api")),
        ("/api/", "/", Some("/api")),
        ("/api?x", "/?x", Some("/api")),
        ("/%61pi/%2561/%20", "/%2561/%20", Some("/api")),
        ("/a/../api/./b", "/b", Some("/api")),
        ("/api%2Fx", "/x", Some("/api")),
        ("/api/api/x", "/api/x", Some("/api")),
        ("/api/open/x", "/open/x", Some("/api")),
        ("/moved/deep/x", "/new%20shop/deep/x", Some("/moved")),
        ("/v2/x", "/inner/v2/x", None),
        ("/apis", "/apis", None),
    ] {
        let response =
            ask(&gateway, &format!("GET {asked}"), "X-Forwarded-Prefix: /evil\r\nX_Forwarded_Prefix: /evil\r\n");
        assert_eq!(response.status, 200, "{asked}");
        let request = app.requests().pop().unwrap();
        assert_eq!((&*request.target(), request.field("x-forwarded-prefix").as_deref()), (sent, prefix), "{asked}");
    }
    let app = Http2App::scripted(|mut call| async move { call.head(204, &[]) });
    let config = Config::servers([app.server()])
        .upstream("protocol: http2")
        .service("routes: [{path: /api/, strip_prefix: /api}]");
    assert_eq!(ask(&Gateway::start(config), "GET /api/x", "").status, 204);
    assert!(app.wait_for(1)[0].uri.ends_with("/x"));
}

#[test]
fn d16_no_detour_leads_past_a_rule_a_limit_or_a_probe() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(rewriting(&app));
    for (asked, status) in [
        // A probe that strangers may not ask, and one that anybody may, but with its own token and time.
        ("/api/readyz", 400),
        ("/api/healthz", 400),
        ("/api/%72eadyz", 400),
        ("/api/readyz/", 400),
        ("/api//readyz", 400),
        ("/api/readyz;x", 400),
        ("/api/x/..%2freadyz", 400),
        ("/api/%252572eadyz", 400),
        // What is hidden stays hidden.
        ("/api/admin/", 404),
        ("/api/admin", 404),
        ("/api/%61dmin/users", 404),
        ("/api//admin/", 404),
        ("/api%2fadmin/", 404),
        ("/api/x/..;/admin/", 404),
        ("/api/.%2e/admin", 404),
        ("/api/..%2f..%2fadmin", 400),
        ("/admin/", 404),
        // A limit of its own.
        ("/api/login/", 400),
        ("/api/login", 400),
    ] {
        assert_eq!(ask(&gateway, &format!("GET {asked}"), "").status, status, "{asked}");
    }
    assert_eq!(app.targets(), NONE, "the app was asked");
    let line = gateway.access("/api/login");
    assert_eq!((&line["reason"], &line["decision"]), (&"path_ambiguous".into(), &"refuse".into()));
    // The probes themselves are where they were.
    assert_eq!(ask(&gateway, "GET /readyz", "").status, 200);
}

#[test]
fn redirects_of_the_app_lead_where_clients_can_go() {
    let app = Upstream::answering(|request| {
        let place = request.field("x-place").unwrap();
        format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n")
    });
    let gateway = Gateway::start(with_http2(&rewriting(&app)));
    for (asked, place, told) in [
        ("/api/x", "/accounts/login/?next=/x", "/api/accounts/login/?next=/x"),
        ("/api/x", "/api/login/", "/api/login/"),
        ("/api/x", "//evil.example/", "//evil.example/"),
        ("/api/x", "https://elsewhere.example/", "https://elsewhere.example/"),
        ("/api/x", "../y", "../y"),
        ("/moved/deep/x", "/new%20shop/y", "/moved/y"),
        ("/v2/x", "/inner/y", "/y"),
        ("/open/x", "/y", "/y"),
    ] {
        let response = ask(&gateway, &format!("GET {asked}"), &format!("X-Place: {place}\r\n"));
        assert_eq!(all(&response, "location"), [told], "{asked} {place}");
        let mut curl = Command::new("curl");
        curl.args(["-sSi", "--http2-prior-knowledge", "--noproxy", "*", "-H", &format!("X-Place: {place}")]);
        let ended = run(curl.arg(format!("http://{}{asked}", gateway.address())));
        assert!(ended.out.contains(&format!("\r\nlocation: {told}\r\n")), "{ended:?}");
    }
}

const REDIRECTS: &str = "\
routes:
  - {path: /old/, redirect: {to: \"/new${rest}\", status: 301}}
  - {path: /base/, redirect: {to: \"${rest}\"}}
  - {path: /same/, redirect: {to: \"${path}x\", status: 302}}
  - {path: /www/, redirect: {to: \"https://www.example.com${path}\", status: 308}}
  - {path: /host/, redirect: {to: \"${scheme}://${host}:${port}${rest}\", status: 303}}
  - {path: /query/, redirect: {to: \"https://a.example/?from=shop\"}}
  - {path: /bare/, redirect: {to: \"https://a.example\", keep_query: false}}
  - {path: /named/, redirect: {to: \"/q/${query}/\"}}
  - {path: /closed/, allow: {network: nowhere}, redirect: {to: /open}}
response_headers: {set: {X-Where: \"${route}\"}}
";

#[test]
fn clients_are_sent_where_the_configuration_says_and_nowhere_else() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).service(REDIRECTS).top("networks: {nowhere: [192.0.2.0/24]}"));
    let port = gateway.address().port();
    for (line, status, place) in [
        ("GET /old/a%20b?c=d", 301, "/new/a%20b?c=d"),
        ("GET /old", 301, "/new/"),
        ("POST /www/x", 308, "https://www.example.com/www/x"),
        ("PUT /host/x?y", 303, &*format!("http://shop.example:{port}/x?y")),
        ("GET /query/?x=y", 307, "https://a.example/?from=shop&x=y"),
        ("GET /query/", 307, "https://a.example/?from=shop"),
        ("GET /bare/x?y", 307, "https://a.example"),
        ("GET /named/?x", 307, "/q/x/"),
        // Another host, if one looks at it the right way.
        ("GET /base//evil.example/", 307, "/evil.example/"),
        ("GET /base/%2fevil.example/", 307, "/%2fevil.example/"),
        ("GET /base/\\evil.example/", 307, "/evil.example/"),
        ("GET /base///\\/evil.example/", 307, "/evil.example/"),
        ("GET /base%2f%2fevil.example/", 307, "/%2fevil.example/"),
        ("GET /base/%5cevil.example/", 307, "/%5cevil.example/"),
        ("GET //x/../same/", 302, "//same/x"),
        ("GET /same/@evil.example", 302, "/same/@evil.example?x"),
        ("GET /www/\\@evil.example", 308, "https://www.example.com/www/%5C@evil.example"),
        ("GET /host/@evil.example", 303, &*format!("http://shop.example:{port}/@evil.example")),
        ("GET /old/%0d%0aSet-Cookie:a=b?%0d%0aX:y", 301, ""),
        ("GET /old/x?%0d%0aX-Evil:y&\"<script>", 301, "/new/x?%0d%0aX-Evil:y&%22%3Cscript%3E"),
    ] {
        let response = ask(&gateway, line, "");
        let seen = all(&response, "location");
        match (response.status, line) {
            // Control characters have no place in a path, and `//x/..` climbs through an empty segment.
            (400, _) if place.is_empty() => assert_eq!(seen, NONE, "{line}"),
            (_, "GET //x/../same/") => assert!(seen.iter().all(|place| !place.starts_with("//")), "{response:?}"),
            (_, "GET /same/@evil.example") => assert_eq!(seen, ["/same/@evil.examplex"]),
            (seen_status, _) => assert_eq!((seen_status, seen), (status, vec![place.to_owned()]), "{line}"),
        }
        assert_eq!((all(&response, "set-cookie"), all(&response, "x-evil")), (vec![], vec![]));
    }
    assert_eq!(ask(&gateway, "GET /closed/", "").status, 403, "the rule comes first");
    assert_eq!(ask(&gateway, "OPTIONS *", "").status, 200);
    assert_eq!(app.targets(), ["*"], "nothing else went to the app");
    let line = gateway.access("/old");
    assert_eq!(
        (&line["status"], &line["decision"], &line["policy"]),
        (&301.into(), &"redirect".into(), &serde_json::Value::Null)
    );
    assert_eq!(all(&ask(&gateway, "GET /old/", ""), "x-where"), ["/old"]);
}

#[test]
fn a_service_can_be_a_redirect_and_nothing_else() {
    let app = Upstream::answering(|_| ok(""));
    let config = Config::before(&app).service("hosts: [shop.example]").to_string()
        + "  www:\n    hosts: [www.shop.example]\n    redirect: {to: \"https://shop.example${path}\", status: 301}\n    \
           probes: {healthz: {serve: answer}}\n";
    let gateway = Gateway::start(config);
    for (line, place) in [
        ("GET /a?b=c", Some("https://shop.example/a?b=c")),
        ("GET /readyz", Some("https://shop.example/readyz")),
        ("GET //evil.example", Some("https://shop.example//evil.example")),
        ("OPTIONS *", Some("https://shop.example/")),
        ("GET /healthz", None),
    ] {
        let response = exchange(gateway.address(), format!("{line} HTTP/1.1\r\nHost: www.shop.example\r\n\r\n"));
        assert_eq!(
            (response.status, response.field("location").as_deref()),
            (if place.is_some() { 301 } else { 200 }, place)
        );
    }
    assert_eq!(ask(&gateway, "GET /", "").status, 200);
    assert_eq!(app.targets(), ["/"]);
}

#[test]
fn browsers_are_told_to_be_careful_where_the_app_says_nothing() {
    let app = Upstream::answering(|request| match &*request.target() {
        "/framed" => {
            "HTTP/1.1 200 OK\r\nx-frame-options: SAMEORIGIN\r\nReferrer-Policy: no-referrer\r\nContent-Length: 0\r\n\r\n"
        }
        // Nominated, they do not pass (RFC 9110 §7.6.1).
        "/nominated" => {
            "HTTP/1.1 200 OK\r\nConnection: x-frame-options, Referrer-Policy\r\nX-Frame-Options: SAMEORIGIN\r\n\
             Referrer-Policy: unsafe-url\r\nContent-Length: 0\r\n\r\n"
        }
        "/policy" => "HTTP/1.1 200 OK\r\nContent-Security-Policy: default-src 'self'\r\nContent-Length: 0\r\n\r\n",
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    });
    let gateway = Gateway::start(with_http2(&Config::before(&app).service(
        "security_headers: true\nroutes:\n  - {path: /off/, security_headers: false}\n  \
         - {path: /some/, security_headers: {frames: same_origin, referrer_policy: off, permissions_policy: camera=()}}\n  \
         - {path: /own/, response_headers: {set: {X-Frame-Options: ALLOWALL}}}\n",
    )));
    let names = [
        "x-content-type-options",
        "x-frame-options",
        "content-security-policy",
        "referrer-policy",
        "permissions-policy",
        "cross-origin-opener-policy",
    ];
    let camera = "camera=(), geolocation=(), microphone=()";
    for (target, expected) in [
        ("/", ["nosniff", "DENY", "frame-ancestors 'none'", "strict-origin-when-cross-origin", camera, "same-origin"]),
        ("/framed", ["nosniff", "SAMEORIGIN", "", "no-referrer", camera, "same-origin"]),
        ("/policy", ["nosniff", "", "default-src 'self'", "strict-origin-when-cross-origin", camera, "same-origin"]),
        (
            "/nominated",
            ["nosniff", "DENY", "frame-ancestors 'none'", "strict-origin-when-cross-origin", camera, "same-origin"],
        ),
        ("/off/", [""; 6]),
        ("/some/", ["nosniff", "SAMEORIGIN", "frame-ancestors 'self'", "", "camera=()", "same-origin"]),
        ("/own/", ["nosniff", "ALLOWALL", "", "strict-origin-when-cross-origin", camera, "same-origin"]),
        (
            "/readyz/",
            ["nosniff", "DENY", "frame-ancestors 'none'", "strict-origin-when-cross-origin", camera, "same-origin"],
        ),
    ] {
        let response = get(gateway.address(), target);
        assert_eq!(names.map(|name| response.field(name).unwrap_or_default()), expected.map(str::to_owned), "{target}");
        let mut curl = Command::new("curl");
        curl.args(["-sSi", "--http2-prior-knowledge", "--noproxy", "*"]);
        let ended = run(curl.arg(format!("http://{}{target}", gateway.address())));
        for (name, value) in names.iter().zip(expected) {
            let lines: Vec<_> = ended.out.lines().filter_map(|line| line.strip_prefix(&format!("{name}: "))).collect();
            assert_eq!(lines.join(", "), value, "{target} {name}: {ended:?}");
        }
    }
}

const CORS: &str = "\
cors: {origins: [\"https://app.example\", \"https://*.app.example:8443\"], credentials: true, headers: [X-Cart, X-Other], methods: [GET, DELETE], expose: [X-Total], max_age: 1h}
routes:
  - {path: /open/, cors: {origins: [\"*\"]}}
  - {path: /off/, cors: off}
  - {path: /closed/, allow: {network: nowhere}}
";

#[test]
fn answers_tell_which_origins_may_read_them_and_preflights_never_reach_the_app() {
    let app = Upstream::answering(|_| {
        "HTTP/1.1 200 OK\r\nVary: Cookie\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n\
         Access-Control-Max-Age: 9\r\nContent-Length: 0\r\n\r\n"
    });
    let gateway = Gateway::start(Config::before(&app).service(CORS).top("networks: {nowhere: [192.0.2.0/24]}"));
    let told = |response: &Response| {
        let said = |name: &str| all(response, &format!("access-control-{name}")).join("|");
        (said("allow-origin"), said("allow-credentials"), said("expose-headers"), all(response, "vary").join("|"))
    };
    let is = |a: &str, b: &str, c: &str, d: &str| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned());
    for (target, origin, expected) in [
        ("/", "https://app.example", is("https://app.example", "true", "X-Total", "Cookie|Origin")),
        ("/", "https://a.app.example:8443", is("https://a.app.example:8443", "true", "X-Total", "Cookie|Origin")),
        ("/", "https://app.example:8443", is("", "", "", "Cookie|Origin")),
        ("/", "http://app.example", is("", "", "", "Cookie|Origin")),
        ("/", "https://app.example.evil.example", is("", "", "", "Cookie|Origin")),
        ("/", "https://evil.example#.app.example:8443", is("", "", "", "Cookie|Origin")),
        ("/", "HTTPS://APP.EXAMPLE", is("", "", "", "Cookie|Origin")),
        ("/", "null", is("", "", "", "Cookie|Origin")),
        ("/", "https://app.example\r\nOrigin: https://evil.example", is("", "", "", "Cookie|Origin")),
        ("/open/", "https://evil.example", is("*", "", "", "Cookie")),
        ("/open/", "null", is("*", "", "", "Cookie")),
        ("/off/", "https://evil.example", is("*", "true", "", "Cookie")),
        ("/closed/", "https://app.example", is("https://app.example", "true", "X-Total", "Accept|Origin")),
    ] {
        let response = ask(&gateway, &format!("GET {target}"), &format!("Origin: {origin}\r\n"));
        assert_eq!(told(&response), expected, "{target} {origin}");
    }
    assert_eq!(told(&ask(&gateway, "GET /", "")), is("", "", "", "Cookie|Origin"));
    let asked = app.requests().len();

    let preflight = "Origin: https://app.example\r\nAccess-Control-Request-Method: DELETE\r\nAccess-Control-Request-Headers: x-cart\r\n";
    let response = ask(&gateway, "OPTIONS /x", preflight);
    assert_eq!(
        (response.status, response.body.len(), response.field("content-length")),
        (204, 0, None),
        "{response:?}"
    );
    assert_eq!(told(&response), is("https://app.example", "true", "", "Origin"));
    let allowed = |name: &str| response.field(&format!("access-control-{name}"));
    assert_eq!(allowed("allow-methods").as_deref(), Some("GET, DELETE"));
    assert_eq!(allowed("allow-headers").as_deref(), Some("X-Cart, X-Other"));
    assert_eq!(allowed("max-age").as_deref(), Some("3600"));
    let line = gateway.access("/x");
    assert_eq!((&line["status"], &line["decision"]), (&204.into(), &"answer".into()));
    let stranger = ask(&gateway, "OPTIONS /x", &preflight.replace("app.example", "evil.example"));
    assert_eq!((stranger.status, told(&stranger)), (204, is("", "", "", "Origin")));
    assert_eq!(stranger.field("access-control-allow-methods"), None);
    // Rules come first: a preflight shows no token and no certificate.
    assert_eq!(ask(&gateway, "OPTIONS /closed/", preflight).status, 403);
    assert_eq!(app.requests().len(), asked);
    // What is none goes to the app.
    for fields in ["Origin: https://app.example\r\n", "Access-Control-Request-Method: GET\r\n", ""] {
        assert_eq!(ask(&gateway, "OPTIONS /x", fields).status, 200, "{fields}");
    }
    assert_eq!(ask(&gateway, "OPTIONS /off/", preflight).status, 200);
    assert_eq!(app.requests().len(), asked + 4);
    let mut client = Client::connect(gateway.address());
    client.send(format!(
        "OPTIONS /x HTTP/1.1\r\nHost: a\r\n{preflight}Content-Length: 2\r\n\r\n{{}}GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    ));
    assert_eq!((client.response().status, client.response().status), (204, 200), "what comes behind it is served");
}

#[test]
fn explain_tells_paths_places_and_presets() {
    let folder = Folder::new();
    let app = Upstream::answering(|_| ok(""));
    let write = |config: Config| folder.write("probegate.yaml", config.to_string()).display().to_string();
    let explain = |file: &str, arguments: &[&str]| run(&mut probegate([&["explain", "-c", file], arguments].concat()));
    let file = write(rewriting(&app).service("security_headers: {frames: same_origin}"));
    let told = explain(&file, &["GET", "/api/x"]).out;
    assert!(told.contains("to app    the path is `/x`\n"), "{told}");
    assert!(told.contains("answer    `X-Frame-Options: SAMEORIGIN`, unless the app has said it\n"), "{told}");
    let refused = explain(&file, &["GET", "/api/readyz"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.out.contains("(path_ambiguous)"), "{}", refused.out);
    let file = write(Config::before(&app).service(REDIRECTS).top("networks: {nowhere: [192.0.2.0/24]}"));
    let told = explain(&file, &["GET", "/old/x?y"]).out;
    assert!(told.ends_with("verdict   redirected: 301, to /new/x?y\n") && !told.contains("to app"), "{told}");
    let file = write(Config::before(&app).service(CORS).top("networks: {nowhere: [192.0.2.0/24]}"));
    let origin = ["-H", "Origin: https://app.example", "-H", "Access-Control-Request-Method: PUT"];
    let told = explain(&file, &[&origin[..], &["OPTIONS", "/x"]].concat()).out;
    assert!(told.contains("answer    `Access-Control-Allow-Origin: https://app.example` is set (cors)\n"), "{told}");
    assert!(told.ends_with("verdict   passes: the gateway answers the preflight\n"), "{told}");
}
