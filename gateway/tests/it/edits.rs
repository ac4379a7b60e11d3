//! Fields that the configuration changes, on the way to the app and back.

use std::process::Command;
use std::sync::Arc;

use crate::harness::{
    Authority, Client, Config, Folder, Gateway, Http2App, Response, Upstream, Wish, exchange, get, ok, probegate, run,
};
use crate::http2::with_http2;

fn all(fields: &[(String, String)], name: &str) -> Vec<String> {
    fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone()).collect()
}

const NONE: [&str; 0] = [];

const EDITS: &str = "\
host: shop.internal
request_headers:
  set:
    X-Env: prod
    X-Client: \"${client_ip}\"
    X-Where: \"${method} ${scheme}://${host}:${port}${path}?${query} ${service} ${route}|${rest}\"
    X-Certificate: \"${client_certificate}\"
    X-Query: \"${query}\"
  add: {X-Hop: two}
  remove: [X-Debug, Accept-Encoding]
response_headers:
  set: {X-Request-ID: \"${request_id}\", X-Frame: deny, Cache-Control: \"public, max-age=60\"}
  add: {X-Served-For: \"${host}\", Vary: X-Env}
  remove: [X-Powered-By, X-Sum]
routes:
  - {path: /admin/, request_headers: {set: {X-Env: admin}, remove: [X-Hop]}, response_headers: {remove: [X-Frame]}}
  - {path: /legacy/, host: legacy.internal}
  - {path: /closed/, allow: {network: nowhere}}
";

fn config(app: &Upstream) -> Config {
    Config::before(app)
        .service(EDITS)
        .service("probes: {healthz: {host: probe.internal, cache: off}, readyz: {cache: off}, version: {serve: answer, allow: anyone}}")
        .top("networks: {nowhere: [192.0.2.0/24]}")
}

#[test]
fn the_app_gets_what_the_configuration_says_and_nothing_a_client_says_in_its_place() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(config(&app));
    let mut client = Client::connect(gateway.address());
    let fields = "X-Client: 10.0.0.1\r\nX_Client: 10.0.0.1\r\nx-client: 10.0.0.2\r\nX-ENV: evil\r\nX-Debug: 1\r\n\
        x_debug: 1\r\nX-Hop: one\r\nX-Certificate: CN=root\r\nX-Other: stays\r\nAccept-Encoding: gzip\r\n";
    for target in ["/a/../%62?c=d", "/admin/x", "/legacy/%2Fy", "/readyz", "/healthz"] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: Shop.Example\r\n{fields}\r\n"));
        assert_eq!(client.response().status, 200, "{target}");
    }
    let port = gateway.address().port();
    let [plain, admin, legacy, ready, health] = &app.requests()[..] else { panic!("{:?}", app.requests()) };
    for request in app.requests() {
        let fields = request.fields();
        assert_eq!(all(&fields, "x-client"), ["127.0.0.1"], "{request:?}");
        for gone in ["x_client", "x_debug", "x-debug", "x-certificate", "accept-encoding"] {
            assert_eq!(all(&fields, gone), NONE, "{gone}: {request:?}");
        }
        assert_eq!(all(&fields, "x-other"), ["stays"]);
    }
    assert_eq!(plain.field("x-forwarded-host").as_deref(), Some("Shop.Example"), "the app may need to know");
    assert_eq!((plain.all("host"), plain.all("x-env")), (vec!["shop.internal".into()], vec!["prod".into()]));
    assert_eq!(plain.all("x-hop"), ["one", "two"]);
    assert_eq!((plain.target(), plain.field("x-query")), ("/%62?c=d".into(), Some("c=d".into())));
    assert_eq!(plain.field("x-where"), Some(format!("GET http://Shop.Example:{port}/%62?c=d app |/%62")));
    assert_eq!((admin.all("x-env"), admin.all("x-hop"), admin.all("x-query")), (vec!["admin".into()], vec![], vec![]));
    assert_eq!(admin.field("x-where"), Some(format!("GET http://Shop.Example:{port}/admin/x? app /admin|/x")));
    assert_eq!((legacy.field("host"), legacy.all("x-hop").len()), (Some("legacy.internal".into()), 2));
    assert_eq!(legacy.field("x-where"), Some(format!("GET http://Shop.Example:{port}/legacy/%2Fy? app /legacy|/%2Fy")));
    // A probe has its own host, and the service's where it says none.
    assert_eq!(ready.field("host").as_deref(), Some("shop.internal"));
    assert_eq!(health.field("host").as_deref(), Some("probe.internal"));
}

#[test]
fn no_trailer_brings_back_what_was_replaced_or_removed() {
    let app = Upstream::answering(|_| {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         2\r\nok\r\n0\r\nX-Sum: 1\r\nX-Powered-By: 2\r\nX-Else: 3\r\n\r\n"
    });
    for lines in ["buffering: {request: true}", "buffering: off"] {
        let gateway = Gateway::start(config(&app).service(lines));
        let response = exchange(
            gateway.address(),
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             1\r\nx\r\n0\r\nX-Client: 10.0.0.1\r\nX-Hop: three\r\nX-Debug: 1\r\nX-Fine: 1\r\n\r\n",
        );
        assert_eq!((response.text(), response.trailers), ("ok".into(), "X-Else: 3\r\n".into()));
        let request = app.requests().pop().unwrap();
        assert!(!request.trailers.contains("X-Client") && !request.trailers.contains("X-Hop"), "{request:?}");
        assert!(!request.trailers.contains("X-Debug"), "{request:?}");
    }
    assert_eq!(app.requests()[1].trailers, "X-Fine: 1\r\n", "streamed");
}

/// What an answer has of the fields that the service changes.
fn seen(response: &Response) -> [Vec<String>; 5] {
    ["x-frame", "cache-control", "x-served-for", "vary", "x-powered-by"].map(|name| all(&response.fields, name))
}

#[test]
fn answers_carry_the_changes_whoever_gives_them() {
    let app = Upstream::scripted(|connection| {
        while let Some(request) = connection.request() {
            if request.target() == "/broken" {
                connection.write("nonsense\r\n\r\n");
                return;
            }
            connection.write(
                "HTTP/1.1 103 Early Hints\r\nX-Powered-By: hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nX-Frame: app\r\n\
                 Vary: Cookie\r\nCache-Control: private\r\nx-powered-by: app\r\nX-Request-ID: app\r\nContent-Length: 2\r\n\r\nok",
            );
        }
    });
    let gateway = Gateway::start(config(&app));
    let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let mut client = Client::connect(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    let early = Response::of(&client.head());
    assert_eq!(
        (early.status, all(&early.fields, "x-powered-by"), all(&early.fields, "x-frame")),
        (103, vec![], vec![])
    );
    let response = client.response();
    let expected = [
        list(&["deny"]),
        list(&["public, max-age=60"]),
        list(&["shop.example"]),
        list(&["Cookie", "X-Env"]),
        list(&[]),
    ];
    assert_eq!(seen(&response), expected);
    let id = gateway.access("/")["request_id"].as_str().unwrap().to_owned();
    assert_eq!(all(&response.fields, "x-request-id"), [id]);
    // The route takes one of them back.
    assert_eq!(seen(&get(gateway.address(), "/admin/"))[0], list(&[]));

    // The gateway's own: an error stays one that nobody keeps.
    for (target, status, cache, vary) in [
        ("/broken", 502, list(&["no-store"]), list(&["Accept", "X-Env"])),
        ("/closed/", 403, list(&["no-store"]), list(&["Accept", "X-Env"])),
        ("/version", 200, list(&["max-age=0, no-cache, no-store, must-revalidate, private"]), list(&["X-Env"])),
    ] {
        let own = get(gateway.address(), target);
        assert_eq!(
            (own.status, seen(&own)),
            (status, [list(&["deny"]), cache, list(&["app.example"]), vary, list(&[])]),
            "{target}"
        );
    }
}

#[test]
fn clients_and_apps_of_http_2_see_the_same() {
    let app =
        Upstream::answering(|_| "HTTP/1.1 200 OK\r\nX-Frame: app\r\nX-Powered-By: app\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Gateway::start(with_http2(&config(&app)));
    let url = format!("http://{}", gateway.address());
    // Each on a connection of its own, which this curl is better at.
    let out: String = ["/", "/closed/", "/version"]
        .map(|target| {
            let mut curl = Command::new("curl");
            curl.args(["-sSi", "--http2-prior-knowledge", "--noproxy", "*", "-H", "X-Client: 10.0.0.1"]);
            run(curl.arg(format!("{url}{target}"))).out
        })
        .concat();
    assert_eq!(out.matches("\r\nx-frame: deny\r\n").count(), 3, "{out}");
    assert_eq!(out.matches("x-powered-by").count(), 0, "{out}");
    assert_eq!(out.matches("cache-control: public, max-age=60").count(), 1, "{out}");
    assert_eq!(out.matches("cache-control: no-store").count(), 1, "{out}");
    assert_eq!(app.request().all("x-client"), ["127.0.0.1"]);

    let app = Http2App::scripted(|mut call| async move { call.head(204, &[("x-powered-by", "app")]) });
    let gateway = Gateway::start(
        Config::servers([app.server()])
            .upstream("protocol: http2")
            .service(EDITS)
            .top("networks: {nowhere: [192.0.2.0/24]}"),
    );
    let response =
        exchange(gateway.address(), "GET /x HTTP/1.1\r\nHost: a\r\nX-Client: 10.0.0.1\r\nX-Debug: 1\r\n\r\n");
    assert_eq!((response.status, &seen(&response)[0], &seen(&response)[4]), (204, &vec!["deny".to_owned()], &vec![]));
    let seen = &app.wait_for(1)[0];
    assert_eq!((seen.field("x-client").as_deref(), seen.field("x-debug")), (Some("127.0.0.1"), None));
}

#[test]
fn nothing_that_a_client_sends_makes_a_second_line() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(
        Config::before(&app)
            .service("request_headers: {set: {X-All: \"${method} ${host} ${path} ${query} ${rest}\"}}")
            .service("response_headers: {set: {X-All: \"${method} ${host} ${path} ${query} ${rest}\"}}"),
    );
    for (line, host) in [
        ("GET /%0d%0aX-Admin:%201?a=%0d%0aX-Admin:%201 HTTP/1.1", "a"),
        ("GET /?%0aX-Admin:1&\\r\\n HTTP/1.1", "a"),
        ("GET /$%7Bhost%7D?${host} HTTP/1.1", "a"),
        ("GET /x HTTP/1.1", "a$&'()*+,;=b"),
        ("M-SEARCH /x HTTP/1.1", "a"),
        ("GET /x\u{85}y HTTP/1.1", "a"),
        ("GET /x HTTP/1.1", "a\r\nX-Admin : 1"),
    ] {
        let response = exchange(gateway.address(), format!("{line}\r\nHost: {host}\r\n\r\n"));
        assert!(matches!(response.status, 200 | 400), "{line}: {response:?}");
        assert_eq!(all(&response.fields, "x-admin"), NONE, "{line}");
        for (_, value) in &response.fields {
            assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line}: {value:?}");
        }
    }
    for request in app.requests() {
        assert_eq!(request.all("x-admin"), NONE, "{request:?}");
        assert_eq!(request.all("x-all").len(), 1, "{request:?}");
    }
}

#[test]
fn the_name_in_a_certificate_is_escaped() {
    let app = Upstream::answering(|_| ok(""));
    let (ours, theirs) = (Authority::new("Gateway"), Authority::new("Partners"));
    let issued = ours.issue(&["shop.example"]);
    let config = Config::before(&app)
        .service("request_headers: {set: {X-Certificate: \"${client_certificate}\"}}")
        .top("client_certificates: {partners: {ca: partners.pem}}")
        .to_string();
    let tls = "tls: {certificates: [{cert: cert.pem, key: key.pem}], client_certificates: {accept: [partners]}}";
    let config =
        config.replacen("- address: \"127.0.0.1:0\"\n", &format!("- address: \"127.0.0.1:0\"\n    {tls}\n"), 1);
    let gateway = Gateway::with(config)
        .file("cert.pem", &issued.cert)
        .file("key.pem", &issued.key)
        .file("partners.pem", &theirs.pem)
        .start();
    let named = theirs.sign(&Wish::client("J\u{fc}rgen 5%\r\nX-Admin: 1"));
    for certificate in [Some(&named), None] {
        let mut client = Client::secure(gateway.address(), &Arc::new(ours.client(certificate)), "shop.example");
        client.send("GET / HTTP/1.1\r\nHost: shop.example\r\nX-Certificate: CN=root\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }
    let [with, without] = &app.requests()[..] else { panic!() };
    let told = with.field("x-certificate").unwrap();
    assert!(told.contains("J%C3%BCrgen 5%25%0D%0AX-Admin: 1"), "{told}");
    assert_eq!((with.all("x-admin"), without.all("x-certificate")), (vec![], vec![]));
}

#[test]
fn explain_tells_every_change() {
    let folder = Folder::new();
    let app = Upstream::answering(|_| ok(""));
    let file = folder.write("probegate.yaml", config(&app).to_string()).display().to_string();
    let ended = run(&mut probegate(["explain", "-c", &file, "--from", "198.51.100.7", "GET", "/admin/x?y"]));
    for line in [
        "to app    `Host` is `shop.internal`\n",
        "to app    `X-Client: 198.51.100.7` is set (FILE:",
        "to app    `X-Certificate` is removed: its value is empty (FILE:",
        "to app    `X-Query: y` is set (FILE:",
        "to app    `X-Debug` is removed (FILE:",
        "to app    `X-Env: admin` is set (FILE:",
        "to app    `X-Hop` is removed (FILE:",
        "answer    `X-Served-For: localhost` is added (FILE:",
        "answer    `X-Frame` is removed (FILE:",
    ] {
        assert!(ended.out.contains(&line.replace("FILE", &file)), "{line}{}", ended.out);
    }
    // What the gateway answers itself, the app never sees.
    let ended = run(&mut probegate(["explain", "-c", &file, "GET", "/version"]));
    assert!(!ended.out.contains("to app") && ended.out.contains("`X-Frame: deny` is set"), "{}", ended.out);
    // A probe goes by its own host, and what the gateway answers keeps what it says itself.
    let ended = run(&mut probegate(["explain", "-c", &file, "GET", "/healthz"]));
    assert!(ended.out.contains("to app    `Host` is `probe.internal`\n"), "{}", ended.out);
    assert!(!ended.out.contains("shop.internal"), "{}", ended.out);
    let ended = run(&mut probegate(["explain", "-c", &file, "GET", "/closed/"]));
    assert!(ended.out.contains("answer    `Cache-Control` is the gateway's own ("), "{}", ended.out);
    assert!(!ended.out.contains("public, max-age=60"), "{}", ended.out);
}
