//! Pages for errors, of the gateway and, where the configuration says so, of the app.

mod hidden;

use std::process::Command;
use std::sync::Arc;

use crate::harness::{
    Client, Config, Ended, Gate, Gateway, Http2App, Response, Upstream, curl, eventually, exchange, get, ok, probegate,
    run,
};
use crate::http2::with_http2;

const HTML: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const PAGE: &str = "<h1>${status} ${title}</h1><p>${detail}</p><a href='?id=${request_id}'>${retry_after}</a>$${x}";

/// A request of a browser for a page, or of a program.
fn ask(gateway: &Gateway, line: &str, accept: &str) -> Response {
    let request = format!("{line} HTTP/1.1\r\nHost: app.example\r\nAccept: {accept}\r\n\r\n");
    if line.starts_with("HEAD") {
        let mut client = Client::connect(gateway.address());
        client.send(request);
        return client.response_to_head();
    }
    exchange(gateway.address(), request)
}

fn browse(gateway: &Gateway, target: &str) -> Response {
    ask(gateway, &format!("GET {target}"), HTML)
}

fn all(response: &Response, name: &str) -> Vec<String> {
    let named = response.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.clone()).collect()
}

fn with_pages(config: impl ToString) -> Gateway {
    Gateway::with(config)
        .file("error.html", PAGE)
        .file("404.html", "<p>nothing here")
        .file("5xx.html", "<p>server ${status}")
        .start()
}

/// An app that answers with the status in its path.
fn statuses() -> Upstream {
    Upstream::answering(|request| {
        let target = request.target();
        let status = target.trim_start_matches('/').get(..3).unwrap_or("200").to_owned();
        format!(
            "HTTP/1.1 {status} Own\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nETag: \"a\"\r\nContent-Length: 7\r\n\
             Retry-After: 30\r\nWWW-Authenticate: Basic realm=a\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nCache-Control: max-age=60\r\n\
             Vary: Cookie\r\nX-Debug: secret\r\nX-Gateway-Error: forged\r\nAccess-Control-Allow-Origin: *\r\n\r\n{}",
            if request.line().starts_with("HEAD") { "" } else { "the app" }
        )
    })
}

#[test]
fn browsers_see_the_page_for_the_status_and_programs_a_problem() {
    let app = Upstream::answering(|_| ok(""));
    drop(app.server());
    let config = Config::servers(["127.0.0.1:1"])
        .top("error_pages: {default: error.html, \"404\": 404.html}\nnetworks: {nowhere: [192.0.2.0/24]}")
        .service(
            "hosts: [app.example]\nerror_pages: {5xx: 5xx.html, \"502\": off}\nmax_body: 1KiB\nroutes:\n\
             \x20 - {path: /secret/, allow: {network: nowhere}, deny: 404}\n  - {path: /closed/, allow: {network: nowhere}}\n\
             \x20 - {path: /api/, error_pages: off}\n  - {path: /down/, error_pages: {\"502\": 5xx.html}}",
        );
    let gateway = with_pages(config);
    for (target, status, text) in [
        ("/secret/", 404, "<p>nothing here".to_owned()),
        ("/down/x", 502, "<p>server 502".to_owned()),
        ("/closed/", 403, "<h1>403 Forbidden</h1><p></p><a href='?id=ID'></a>${x}".to_owned()),
        (
            "/readyz/",
            400,
            "<h1>400 Bad Request</h1><p>the path can be read in two ways that different rules apply to</p>\
            <a href='?id=ID'></a>${x}"
                .to_owned(),
        ),
    ] {
        let page = browse(&gateway, target);
        let line = gateway.access(target);
        let id = line["request_id"].as_str().unwrap();
        assert_eq!((page.status, page.text()), (status, text.replace("ID", id)), "{target}");
        assert_eq!(page.field("content-type").as_deref(), Some("text/html; charset=utf-8"));
        assert_eq!(page.field("cache-control").as_deref(), Some("no-store"));
        assert_eq!(page.field("vary").as_deref(), Some("Accept"));
        assert_eq!(page.field("x-gateway-error"), None, "nobody asked for it");
        assert_eq!(line["origin"], "gateway", "{line}");
        let head = ask(&gateway, &format!("HEAD {target}"), HTML);
        let length = page.body.len().to_string();
        assert_eq!((head.status, head.field("content-length"), head.body.len()), (status, Some(length), 0));
        // The same for programs.
        for accept in ["*/*", "application/json", "text/html;q=0.5, application/problem+json", "image/png"] {
            let problem = ask(&gateway, &format!("GET {target}"), accept);
            assert_eq!(problem.field("content-type").as_deref(), Some("application/problem+json"), "{accept}");
            assert_eq!((problem.json()["status"].as_u64(), problem.status), (Some(status.into()), status));
            assert_eq!(problem.field("vary").as_deref(), Some("Accept"));
        }
    }
    // What is built in, where a service or a route takes a page back.
    for target in ["/", "/api/"] {
        let page = browse(&gateway, target);
        assert!(page.status == 502 && page.text().contains("<h1>502 Bad Gateway</h1>"), "{target}: {}", page.text());
    }
    // A host that no service has: the page of the top level.
    let request = format!("GET /stranger HTTP/1.1\r\nHost: other.example\r\nAccept: {HTML}\r\n\r\n");
    let page = exchange(gateway.address(), request);
    assert!(page.status == 421 && page.text().starts_with("<h1>421 Misdirected Request</h1>"), "{}", page.text());
    // Two lines are one list.
    let request =
        format!("GET /two HTTP/1.1\r\nHost: app.example\r\nAccept: {}\r\nAccept: text/html\r\n\r\n", "*/*;q=0.1");
    assert_eq!(exchange(gateway.address(), request).field("content-type").as_deref(), Some("text/html; charset=utf-8"));
    // curl shows what a program gets.
    let shown = curl([&format!("http://{}/curl", gateway.address()), "-H", "Host: app.example"]);
    assert_eq!(shown.json()["title"], "Bad Gateway");
}

#[test]
fn nothing_that_a_client_sends_is_in_a_page() {
    let config = Config::servers(["127.0.0.1:1"]).service("hosts: [\"*\"]\nerror_pages: {default: error.html}");
    let gateway = with_pages(config);
    let request = format!(
        "GET /<script>alert(1)</script>?<b>=\"' HTTP/1.1\r\nHost: evil.example\r\nAccept: {HTML}\r\nReferer: <i>\r\nX-Request-ID: <u>\r\n\
         User-Agent: <em>evil\r\n\r\n"
    );
    let page = exchange(gateway.address(), request);
    assert!(page.status == 502, "{page:?}");
    for evil in ["script", "<b>", "evil", "<i>", "<u>", "<em>"] {
        assert!(!page.text().contains(evil), "{evil}: {}", page.text());
    }
}

#[test]
fn a_probe_never_gets_a_page() {
    let app = Upstream::answering(|_| "HTTP/1.1 503 Down\r\nContent-Length: 3\r\n\r\napp");
    let config = Config::before(&app).top("networks: {nowhere: [192.0.2.0/24]}\nerror_header: true").service(
        "error_pages: {default: error.html}\nintercept: [5xx]\nprobes: {version: {allow: {network: nowhere}}}",
    );
    let gateway = with_pages(config);
    let refused = browse(&gateway, "/version");
    assert_eq!((refused.status, refused.json()["status"].as_u64()), (403, Some(403)), "{refused:?}");
    let wrong = ask(&gateway, "POST /readyz", HTML);
    assert_eq!((wrong.status, wrong.field("content-type").as_deref()), (405, Some("application/problem+json")));
    let down = browse(&gateway, "/readyz");
    assert_eq!((down.status, down.text()), (503, "app".into()), "what the app says of itself stays");
    assert_eq!(gateway.access("/readyz")["origin"], "gateway");
    eventually("both lines", || gateway.access_log().iter().find(|line| line["origin"] == "upstream").cloned());
    assert_eq!(browse(&gateway, "/other").text().get(..7), Some("<h1>503"));
}

#[test]
fn the_app_s_errors_stay_as_they_are_unless_asked_for() {
    let app = statuses();
    let gateway = with_pages(Config::before(&app).service("error_pages: {default: error.html}"));
    for status in [404, 500, 502, 503] {
        let page = browse(&gateway, &format!("/{status}"));
        assert_eq!((page.status, page.text()), (status, "the app".into()));
        assert_eq!(gateway.access(&format!("/{status}"))["origin"], "upstream");
        assert_eq!(page.field("x-gateway-error").as_deref(), Some("forged"), "nobody has said that it means anything");
    }
}

#[test]
fn an_intercepted_answer_keeps_its_status_and_what_it_says_to_the_client() {
    let app = statuses();
    let config = || {
        Config::before(&app)
            .top("error_header: true\nnetworks: {nowhere: [192.0.2.0/24]}")
            .service("error_pages: {default: error.html, 5xx: 5xx.html}\nintercept: [404, 5xx, 401]\ncompression: {min_length: 1}")
            .service("response_headers: {add: {Set-Cookie: e=f}, remove: [X-Powered-By]}")
            .service("routes: [{path: /404-own, intercept: []}, {path: /503-api, error_pages: off}, {path: /closed, allow: {network: nowhere}, cors: {origins: [\"https://a.example\"]}}]")
    };
    let gateway = with_pages(config());
    let page = browse(&gateway, "/503");
    assert_eq!((page.status, page.text()), (503, "<p>server 503".into()));
    for gone in ["content-encoding", "etag", "x-debug", "x-gateway-error"] {
        assert_eq!(page.field(gone), None, "{gone}");
    }
    assert_eq!(page.field("content-type").as_deref(), Some("text/html; charset=utf-8"));
    assert_eq!(all(&page, "content-length"), ["13"]);
    assert_eq!(all(&page, "cache-control"), ["no-store"]);
    assert_eq!(all(&page, "vary"), ["Accept", "Cookie"]);
    assert_eq!(all(&page, "set-cookie"), ["a=b", "c=d", "e=f"]);
    assert_eq!(all(&page, "retry-after"), ["30"]);
    assert_eq!(all(&page, "access-control-allow-origin"), ["*"]);
    let line = gateway.access("/503");
    assert_eq!(
        (&line["origin"], &line["decision"], &line["reason"]),
        (&"upstream".into(), &"forward".into(), &serde_json::Value::Null)
    );
    assert_eq!((line["status"].as_u64(), line["upstream_status"].as_u64()), (Some(503), Some(503)));

    let page = browse(&gateway, "/404");
    let id = gateway.access("/404")["request_id"].as_str().unwrap().to_owned();
    let expected = format!("<h1>404 Not Found</h1><p></p><a href='?id={id}'>30</a>${{x}}");
    assert_eq!((page.status, page.text()), (404, expected));
    assert_eq!(all(&browse(&gateway, "/401"), "www-authenticate"), ["Basic realm=a"]);
    let problem = ask(&gateway, "GET /502", "application/json");
    assert_eq!((problem.status, problem.json()["title"].as_str()), (502, Some("Bad Gateway")));
    let built_in = browse(&gateway, "/503-api");
    assert!(built_in.text().contains("<h1>503 Service Unavailable</h1>"), "{}", built_in.text());
    // A status that is not named, one that is no error, a route that takes it back.
    for (target, status) in [("/403", 403), ("/200", 200), ("/404-own", 404)] {
        let own = browse(&gateway, target);
        assert_eq!((own.status, own.text()), (status, "the app".into()), "{target}");
        assert_eq!(own.field("x-gateway-error"), None, "the gateway's word alone, wherever the answer comes from");
    }
    let head = ask(&gateway, "HEAD /503", HTML);
    assert_eq!((head.status, head.field("content-length").as_deref(), head.body.len()), (503, Some("13"), 0));
    // The connection goes on, on both sides.
    let mut client = Client::connect(gateway.address());
    for _ in 0..3 {
        client.send(format!("GET /503 HTTP/1.1\r\nHost: a\r\nAccept: {HTML}\r\n\r\n"));
        assert_eq!(client.response().text(), "<p>server 503");
    }
    assert!(app.connections() < 6, "{} connections for {} requests", app.connections(), app.requests().len());
    drop(gateway);

    // The same over HTTP/2.
    let gateway = with_pages(with_http2(&config()));
    let over = |arguments: &[&str]| -> Ended {
        run(Command::new("curl")
            .args(["-sS", "--http2-prior-knowledge", "--noproxy", "*", "-H", "Accept: text/html"])
            .args(arguments))
    };
    let url = format!("http://{}/503", gateway.address());
    let ended = over(&["-i", &url]);
    let (head, body) = ended.out.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/2 503") && body == "<p>server 503", "{ended:?}");
    assert!(head.contains("content-length: 13") && head.matches("set-cookie: ").count() == 3, "{head}");
    assert!(!head.contains("content-encoding") && !head.contains("x-gateway-error"), "{head}");
    let ended = over(&["-i", "-H", "Origin: https://a.example", &format!("http://{}/closed", gateway.address())]);
    assert!(ended.out.starts_with("HTTP/2 403"), "{ended:?}");
    let varies: Vec<_> = ended.out.lines().filter(|line| line.starts_with("vary: ")).collect();
    assert_eq!(varies, ["vary: Accept", "vary: Origin"]);
    assert!(ended.out.contains("\r\nx-gateway-error: forbidden\r\n"), "{ended:?}");
    let ended = over(&["-I", &url]);
    assert!(ended.out.contains("content-length: 13") && ended.code == Some(0), "{ended:?}");
}

#[test]
fn an_error_of_the_gateway_s_own_says_why_where_it_is_told_to() {
    let app = statuses();
    let config = Config::before(&app)
        .top("error_header: true\nnetworks: {nowhere: [192.0.2.0/24]}\nlimits: {one: {rate: 1/h}}")
        .service("hosts: [app.example]\nmax_body: 1KiB\ncors: {origins: [\"https://a.example\"]}\nroutes:\n\
             \x20 - {path: /secret/, allow: {network: nowhere}, deny: 404}\n  - {path: /closed/, allow: {network: nowhere}}\n\
             \x20 - {path: /few/, limits: [one]}");
    let gateway = Gateway::start(config);
    for (line, status, code) in [
        ("GET /closed/", 403, "forbidden"),
        ("DELETE /readyz", 405, "method_not_allowed"),
        ("GET /%zz", 400, "path_invalid"),
    ] {
        let refused = ask(&gateway, line, "*/*");
        assert_eq!((refused.status, all(&refused, "x-gateway-error")), (status, vec![code.to_owned()]), "{line}");
        let vary = all(&refused, "vary");
        assert!(vary.contains(&"Accept".into()), "{line}: {vary:?}");
    }
    // What CORS says of caches is not taken back by what the page says.
    assert_eq!(all(&ask(&gateway, "GET /closed/", HTML), "vary"), ["Accept", "Origin"]);
    let stranger = exchange(gateway.address(), "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert_eq!(all(&stranger, "x-gateway-error"), ["host_unknown"]);
    ask(&gateway, "GET /few/200", "*/*");
    let limited = ask(&gateway, "GET /few/200", HTML);
    assert_eq!((limited.status, all(&limited, "x-gateway-error")), (429, vec!["limit_exceeded".into()]));
    let broken = exchange(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\nbroken\r\n\r\n");
    assert_eq!((broken.status, all(&broken, "x-gateway-error")), (400, vec!["field_invalid".into()]));
    // The app cannot say it, neither before its body nor behind it.
    assert_eq!(ask(&gateway, "GET /500", "*/*").field("x-gateway-error"), None);
    let chunked = Upstream::answering(|_| {
        "HTTP/1.1 103 Hints\r\nX-Gateway-Error: a\r\nLink: </a>\r\n\r\nHTTP/1.1 500 No\r\nx-gateway-error: forged\r\nTransfer-Encoding: chunked\r\n\r\n\
         1\r\nx\r\n0\r\nX-Gateway-Error: forged\r\nX-Sum: 1\r\n\r\n"
    });
    let gateway = Gateway::start(Config::before(&chunked).top("error_header: true"));
    let mut client = Client::connect(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let early = Response::of(&client.head());
    let answer = client.response();
    assert_eq!((early.field("x-gateway-error"), answer.field("x-gateway-error")), (None, None));
    assert_eq!(answer.trailers, "X-Sum: 1\r\n");
}

#[test]
fn a_body_that_nobody_gets_holds_neither_the_client_nor_the_app() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let app = Upstream::scripted(move |connection| {
        while let Some(request) = connection.request() {
            match &*request.target() {
                // It never ends.
                "/endless" => {
                    connection.write("HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n");
                    while connection.write("400\r\n".to_owned() + &"x".repeat(1024) + "\r\n") {}
                    return;
                }
                // It begins, and then nothing comes.
                "/stalled" => {
                    connection.write("HTTP/1.1 500 No\r\nContent-Length: 10\r\n\r\nx");
                    held.wait();
                    return;
                }
                // It breaks off.
                "/broken" => {
                    connection.write("HTTP/1.1 500 No\r\nContent-Length: 10\r\n\r\nx");
                    return;
                }
                "/old" => {
                    connection.write("HTTP/1.0 500 No\r\n\r\nuntil the end");
                    return;
                }
                _ => connection.write(ok("fine")),
            };
        }
    });
    for buffering in ["buffering: off", "buffering: {}"] {
        let config =
            Config::before(&app).service("error_pages: {default: error.html}\nintercept: [500]").service(buffering);
        let gateway = with_pages(config);
        for target in ["/endless", "/stalled", "/broken", "/old"] {
            let page = browse(&gateway, target);
            assert_eq!((page.status, page.text().get(..7)), (500, Some("<h1>500")), "{target}");
            assert!(!page.closes(), "{target}: the client's connection goes on");
        }
        assert_eq!(get(gateway.address(), "/").text(), "fine");
    }
    // A form that the app does not want, and answers before it has read it.
    let app = Upstream::scripted(|connection| {
        connection.head();
        connection.write("HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno");
        connection.wait_closed();
    });
    let config = Config::before(&app).service("buffering: off\nerror_pages: {4xx: 5xx.html}\nintercept: [4xx]");
    let gateway = with_pages(config);
    let mut client = Client::connect(gateway.address());
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nAccept: {HTML}\r\nContent-Length: 100000\r\n\r\nx"));
    let page = client.response();
    assert_eq!((page.status, page.text()), (413, "<p>server 413".into()));
    assert!(page.closes());
    gate.open();
}

#[test]
fn a_server_that_breaks_its_errors_off_is_blamed_though_clients_see_a_page() {
    let app = Upstream::scripted(|connection| {
        while let Some(request) = connection.request() {
            let (kind, body) = match &*request.target() {
                "/broken" => ("Content-Length: 10", "x"),
                "/invalid" => ("Transfer-Encoding: chunked", "zz\r\n"),
                "/pointed" => ("X-Accel-Redirect: /files/404.html\r\nContent-Length: 10", "x"),
                _ => ("Content-Length: 4", "fine"),
            };
            connection.write(format!("HTTP/1.1 500 No\r\n{kind}\r\n\r\n{body}"));
            if body != "fine" {
                return;
            }
        }
    });
    let config = Config::before(&app)
        .upstream("max_fails: 0")
        .service("error_pages: {default: error.html}\nintercept: [500]")
        .service("routes: [{path: /files/, files: {root: ., internal: true}}, {path: /pointed, intercept: []}]");
    let gateway = with_pages(config);
    let failures =
        format!("probegate_upstream_failures_total{{service=\"app\",server=\"{}\",slot=\"\"}}", app.server());
    let mut expected = 0.0;
    for (target, text) in
        [("/fine", "<h1>"), ("/broken", "<h1>"), ("/invalid", "<h1>"), ("/pointed", "<p>nothing here")]
    {
        if target != "/fine" {
            expected += 1.0;
        }
        let page = browse(&gateway, target);
        assert!(page.text().starts_with(text) && !page.closes(), "{target}: {}", page.text());
        assert_eq!(gateway.access(target)["reason"], serde_json::Value::Null, "{target}: the client got all of it");
        crate::harness::wait_for_metric(&gateway, &failures, expected);
    }
}

#[test]
fn what_asks_for_another_protocol_and_grpc_see_the_app_s_own_answer() {
    let app = Upstream::answering(|_| "HTTP/1.1 503 No\r\nContent-Length: 7\r\nContent-Type: text/html\r\n\r\nthe app");
    let gateway = with_pages(Config::before(&app).service("error_pages: {default: error.html}\nintercept: [5xx]"));
    let upgrade = format!(
        "GET /ws HTTP/1.1\r\nHost: a\r\nAccept: {HTML}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
    );
    assert_eq!(exchange(gateway.address(), upgrade).text(), "the app");
    let call = "POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc+proto\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(exchange(gateway.address(), call).text(), "the app");
    assert_eq!(browse(&gateway, "/").text().get(..7), Some("<h1>503"));
}

#[test]
fn an_app_in_http_2_is_intercepted_as_well() {
    let app = Http2App::scripted(|mut call| async move {
        let grpc = call.seen().field("content-type").is_some();
        let kind = if grpc { "application/grpc" } else { "text/html" };
        call.answer(502, &[("content-type", kind), ("retry-after", "9")], "the app").await;
    });
    let config = Config::servers([app.server()])
        .upstream("protocol: http2")
        .service("error_pages: {5xx: error.html}\nintercept: [502]");
    let gateway = with_pages(config);
    for _ in 0..2 {
        let page = browse(&gateway, "/");
        assert_eq!((page.status, page.text().get(..7)), (502, Some("<h1>502")));
        assert!(page.text().contains(">9</a>"), "{}", page.text());
        let head = ask(&gateway, "HEAD /", HTML);
        assert_eq!((head.status, head.field("content-length")), (502, Some(page.body.len().to_string())));
    }
    assert_eq!(app.connections(), 1);
}

#[test]
fn files_that_are_not_there_get_the_page_too() {
    let app = statuses();
    let config =
        Config::before(&app).service("error_pages: {\"404\": 404.html}\nroutes: [{path: /static/, files: {root: .}}]");
    let gateway = with_pages(config);
    let page = browse(&gateway, "/static/nothing.css");
    assert_eq!((page.status, page.text()), (404, "<p>nothing here".into()));
    let line = gateway.access("/static/nothing.css");
    assert_eq!((&line["origin"], &line["decision"]), (&"gateway".into(), &"file".into()));
    let file = browse(&gateway, "/static/404.html");
    assert_eq!((file.status, gateway.access("/static/404.html")["origin"].as_str()), (200, Some("gateway")));
}

#[test]
fn a_page_that_vanished_changes_nothing_at_a_reload() {
    let app = statuses();
    let gateway = with_pages(Config::before(&app).service("error_pages: {\"404\": 404.html}\nintercept: [404]"));
    let page = gateway.config_path().with_file_name("404.html");
    std::fs::remove_file(&page).unwrap();
    gateway.signal("HUP");
    let line = gateway.wait_for_log(|line| line["level"] == "ERROR");
    assert!(line.to_string().contains("404.html"), "{line}");
    assert_eq!(browse(&gateway, "/404").text(), "<p>nothing here");
    // Nobody writes into a pipe: to wait for it would be to wait for ever.
    assert_eq!(run(Command::new("mkfifo").arg(&page)).code, Some(0));
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line.to_string().contains("it is not a regular file"));
    assert_eq!(browse(&gateway, "/404").text(), "<p>nothing here");
    std::fs::remove_file(&page).unwrap();
    std::fs::write(&page, "x".repeat(200_000)).unwrap();
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line.to_string().contains("larger than 128 KiB"));
    assert_eq!(browse(&gateway, "/404").text(), "<p>nothing here");
    std::fs::write(&page, "x".repeat(100_000)).unwrap();
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    assert_eq!(browse(&gateway, "/404").body.len(), 100_000);
}

#[test]
fn explain_tells_which_pages_there_are() {
    let folder = crate::harness::Folder::new();
    folder.write("error.html", PAGE);
    let text = "services:\n  app:\n    upstream: {servers: [\"127.0.0.1:8000\"]}\n    error_pages: {default: error.html, \"404\": off}\n\
        \x20   intercept: [404, 5xx]\n";
    let file = folder.write("probegate.yaml", text);
    let explained = |target: &str| run(probegate(["explain", "-c"]).arg(&file).args(["GET", target])).out;
    let out = explained("/");
    assert!(out.contains("\nerrors    pages for browsers: default from `error.html`, 404 built in\n"), "{out}");
    assert!(out.contains("\nerrors    of the app's with 404, 5xx: the body is replaced\n"), "{out}");
    assert!(!explained("/readyz").contains("\nerrors "), "a probe gets none");
}
