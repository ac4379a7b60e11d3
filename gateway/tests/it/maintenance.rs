//! Services in maintenance: by the configuration, by hand, and whom they serve all the same.

use crate::harness::{
    Client, Config, Ended, Folder, Gateway, Response, TOKEN, Upstream, exchange, free_address, get, listening_on, ok,
    probegate, run, wait_for_metric, wait_ready,
};

const HTML: &str = "text/html,*/*;q=0.8";
const ON: &str = "probegate_maintenance{service=\"app\"}";

/// A command that asks the gateway.
fn command(gateway: &Gateway, arguments: &[&str]) -> Ended {
    let mut command = probegate(arguments);
    command.arg("--admin").arg(gateway.admin().to_string()).env_remove("PROBEGATE_ADMIN_TOKEN");
    run(&mut command)
}

fn ask(gateway: &Gateway, line: &str, fields: &str) -> Response {
    exchange(gateway.address(), format!("{line} HTTP/1.1\r\nHost: app.example\r\n{fields}\r\n"))
}

fn from(gateway: &Gateway, ip: [u8; 4], target: &str) -> Response {
    let mut client = Client::connect_from(ip, gateway.address());
    client.send(format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n"));
    client.response()
}

/// With these lines about maintenance.
fn config(app: &Upstream, storage: &Folder, maintenance: &str) -> Config {
    Config::before(app)
        .top(&format!("storage: {}", storage.path().display()))
        .top("networks: {office: [127.0.0.3/32]}")
        .top("tokens: {staff: {header: X-Staff, slots: [{name: all, env: PROBE_TOKEN}]}}")
        .service(&format!("maintenance: {maintenance}"))
}

fn start(config: impl ToString) -> Gateway {
    Gateway::with(config)
        .env("PROBE_TOKEN", TOKEN)
        .file("busy.html", "<h1>Back in ${retry_after} s</h1>${detail}")
        .start()
}

const ALLOWING: &str =
    "{enabled: true, retry_after: 5m, page: busy.html, allow: {any: [{network: office}, {token: staff}]}}";

#[test]
fn the_configuration_says_that_it_is_on_and_whom_it_lets_in() {
    let app = Upstream::answering(|_| ok("answered"));
    let storage = Folder::new();
    let gateway = start(config(&app, &storage, ALLOWING));
    gateway.wait_for_log(|line| line["message"] == "in maintenance");
    wait_for_metric(&gateway, ON, 1.0);
    let page = ask(&gateway, "GET /during", &format!("Accept: {HTML}\r\n"));
    assert_eq!((page.status, page.text()), (503, "<h1>Back in 300 s</h1>the service is in maintenance".into()));
    assert_eq!(page.field("retry-after").as_deref(), Some("300"));
    assert_eq!(page.field("cache-control").as_deref(), Some("no-store"));
    let line = gateway.access("/during");
    assert_eq!(
        (&line["reason"], &line["origin"], &line["decision"]),
        (&"maintenance".into(), &"gateway".into(), &"refuse".into())
    );
    wait_for_metric(&gateway, "probegate_refusals_total{service=\"app\",reason=\"maintenance\"}", 1.0);
    let problem = get(gateway.address(), "/program");
    assert_eq!((problem.status, problem.json()["detail"].as_str()), (503, Some("the service is in maintenance")));

    assert_eq!(from(&gateway, [127, 0, 0, 3], "/office").text(), "answered");
    assert_eq!(from(&gateway, [127, 0, 0, 4], "/home").status, 503);
    assert_eq!(ask(&gateway, "GET /token", &format!("X-Staff: {TOKEN}\r\n")).text(), "answered");
    assert_eq!(app.requests().pop().unwrap().field("x-staff"), None, "the app has no business with it");
    assert_eq!(ask(&gateway, "GET /wrong", "X-Staff: wrong\r\n").status, 503);
    for probe in ["/healthz", "/readyz", "/startupz", "/version"] {
        assert_eq!(get(gateway.address(), probe).text(), "answered", "{probe}");
    }
}

#[test]
fn whoever_turns_the_switch_is_right_whatever_the_configuration_says() {
    let app = Upstream::answering(|_| ok("answered"));
    let storage = Folder::new();
    let address = free_address();
    let admin = free_address();
    let text = |maintenance: &str| {
        listening_on(&config(&app, &storage, maintenance), &[address])
            .replace("admin: {address: \"127.0.0.1:0\"}", &format!("admin: {{address: \"{admin}\"}}"))
    };
    let status = |gateway: &Gateway| get(gateway.address(), "/").status;
    let gateway = start(text(ALLOWING));
    wait_ready(&gateway);
    assert_eq!(status(&gateway), 503);
    let ended = command(&gateway, &["maintenance", "off", "app"]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""));
    assert_eq!(status(&gateway), 200);
    wait_for_metric(&gateway, ON, 0.0);
    assert!(command(&gateway, &["maintenance", "off", "app"]).err.contains("so already"));
    // It stays off over a reload and a restart.
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    assert_eq!(status(&gateway), 200);
    let mut gateway = gateway;
    gateway.signal("TERM");
    gateway.wait_exit();
    let gateway = start(text(ALLOWING));
    wait_ready(&gateway);
    assert_eq!(status(&gateway), 200);
    gateway.wait_for_log(|line| line["message"].as_str().is_some_and(|text| text.starts_with("not in maintenance")));

    // On again: with the time of the configuration, or another one.
    let shown = |gateway: &Gateway| command(gateway, &["status"]).out;
    assert_eq!(command(&gateway, &["maintenance", "on", "app"]).code, Some(0));
    assert_eq!(get(gateway.address(), "/").field("retry-after").as_deref(), Some("300"));
    assert!(shown(&gateway).contains("after 300 s"), "{}", shown(&gateway));
    assert_eq!(command(&gateway, &["maintenance", "on", "app", "--retry-after", "1h"]).code, Some(0));
    assert_eq!(get(gateway.address(), "/").field("retry-after").as_deref(), Some("3600"));
    assert_eq!(from(&gateway, [127, 0, 0, 3], "/").text(), "answered", "whom it lets in stands in the configuration");

    // A switch that is on stays on when the configuration says nothing more of it.
    let reload = |maintenance: &str, count: usize| {
        std::fs::write(gateway.config_path(), text(maintenance)).unwrap();
        gateway.signal("HUP");
        crate::harness::eventually("the reload", || {
            let lines = gateway.log_lines();
            (lines.iter().filter(|line| line.contains("configuration reloaded")).count() == count).then_some(())
        });
    };
    reload("false", 1);
    assert_eq!(status(&gateway), 503);
    assert_eq!(command(&gateway, &["maintenance", "off", "app"]).code, Some(0));
    assert_eq!(status(&gateway), 200);
    // Nobody has taken the service out of what the configuration says now.
    reload("true", 2);
    assert_eq!((status(&gateway), get(gateway.address(), "/").field("retry-after")), (503, None));
    assert_eq!(command(&gateway, &["maintenance", "off", "app"]).code, Some(0));
    assert_eq!(status(&gateway), 200);
    reload("false", 3);
    reload("{enabled: true}", 4);
    assert_eq!(status(&gateway), 503, "the configuration's word is a new one");
}

#[test]
fn what_is_hidden_answers_in_maintenance_as_all_else_does() {
    let app = Upstream::answering(|_| ok("answered"));
    let storage = Folder::new();
    let more = "probes: {healthz: {allow: {network: office}, deny: 404}, readyz: {allow: {network: office}, deny: 403}}\n\
        routes:\n  - {path: /hidden/, allow: {token: staff}, deny: 404}\n  - {path: /closed/, allow: {token: staff}, deny: close}";
    let gateway = start(
        config(&app, &storage, "{enabled: true, retry_after: 5m, page: busy.html, allow: {network: office}}")
            .service(more),
    );
    for accept in [HTML, "*/*"] {
        let answer = |target: &str| {
            let answer = ask(&gateway, &format!("GET {target}"), &format!("Accept: {accept}\r\n"));
            let text = answer.text().split("request_id").next().unwrap().to_owned();
            let fields: Vec<_> = answer.fields.into_iter().filter(|(name, _)| name != "Date").collect();
            (answer.status, fields, text)
        };
        let missing = answer("/missing");
        assert_eq!(missing.0, 503);
        for hidden in ["/hidden/x", "/%2fhidden/", "/healthz", "/healthz/"] {
            assert_eq!(answer(hidden), missing, "{hidden}");
        }
        assert_eq!(answer("/readyz").0, 403, "what is not hidden is refused as ever");
    }
    let line = gateway.access("/hidden/x");
    assert_eq!((&line["status"], &line["reason"]), (&503.into(), &"token_missing".into()));
    // Whom maintenance lets in sees what is hidden from him as ever.
    assert_eq!(from(&gateway, [127, 0, 0, 3], "/hidden/x").status, 404);
    assert_eq!(from(&gateway, [127, 0, 0, 3], "/healthz").text(), "answered");
    let mut client = Client::connect(gateway.address());
    client.send("GET /closed/ HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(client.rest().0, b"");
    let line = gateway.access("/closed/");
    assert_eq!((&line["status"], &line["origin"]), (&444.into(), &serde_json::Value::Null), "nobody answered");
}

#[test]
fn preflights_redirects_and_files_in_maintenance() {
    let app = Upstream::answering(|_| ok("answered"));
    let storage = Folder::new();
    let more = "cors: {origins: [\"https://a.example\"], methods: [PUT]}\nroutes:\n  - {path: /old/, redirect: {to: /new/}}\n\
        \x20 - {path: /static/, files: {root: .}}\n  - {path: /protected/, files: {root: ., internal: true}}\n\
        \x20 - {path: /admin/, allow: {network: office}}";
    let gateway = start(config(&app, &storage, ALLOWING).service(more));
    let origin = "Origin: https://a.example\r\n";
    // A browser may ask, or nobody could see the 503, and whoever is served by a token could not show it.
    let asked = ask(&gateway, "OPTIONS /x", &format!("{origin}Access-Control-Request-Method: PUT\r\n"));
    assert_eq!((asked.status, asked.field("access-control-allow-origin").as_deref()), (204, Some("https://a.example")));
    let refused = ask(&gateway, "PUT /x", origin);
    assert_eq!(
        (refused.status, refused.field("access-control-allow-origin").as_deref()),
        (503, Some("https://a.example"))
    );
    assert_eq!(ask(&gateway, "OPTIONS /x", "").status, 503, "no browser's question");
    for target in ["/old/x", "/static/busy.html", "/protected/busy.html", "/"] {
        assert_eq!(ask(&gateway, &format!("GET {target}"), "").status, 503, "{target}");
    }
    assert_eq!(ask(&gateway, "GET /admin/", "").status, 403, "rules come first");
    assert_eq!(from(&gateway, [127, 0, 0, 3], "/static/busy.html").status, 200);
    assert_eq!(from(&gateway, [127, 0, 0, 3], "/protected/busy.html").status, 404);
    assert_eq!(from(&gateway, [127, 0, 0, 3], "/old/x").status, 307);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n";
    assert_eq!(ask(&gateway, "GET /ws", upgrade).status, 503);
    assert_eq!(app.requests().len(), 0);
}

#[test]
fn explain_says_what_maintenance_would_do() {
    let folder = Folder::new();
    folder.write("busy.html", "<p>");
    let explained = |maintenance: &str, arguments: &[&str]| {
        let text = format!(
            "networks: {{office: [203.0.113.0/24]}}\nservices:\n  app:\n    upstream: {{servers: [\"127.0.0.1:8000\"]}}\n    maintenance: {maintenance}\n"
        );
        let file = folder.write("probegate.yaml", text).display().to_string();
        let ended = run(&mut probegate([&["explain", "-c", &file], arguments].concat()));
        (ended.code, ended.out.replace(&file, "FILE"))
    };
    let on = "{enabled: true, page: busy.html, allow: {network: office}}";
    let (code, out) = explained(on, &["GET", "/"]);
    assert_eq!(code, Some(1));
    assert!(
        out.ends_with(
            "maintenance on (FILE:5), unless somebody has switched it off: keeps the request out\n\
             rule      network office (FILE:5): refuses: the client is not in an allowed network\n\
             \x20         page `busy.html`\n\
             verdict   refused: 503, the service is in maintenance (maintenance)\n"
        ),
        "{out}"
    );
    let (code, out) = explained(on, &["--from", "203.0.113.9", "GET", "/"]);
    assert!(code == Some(0) && out.contains("maintenance on (FILE:5): serves this request all the same\n"), "{out}");
    let hides = "{enabled: true}\n    routes: [{path: /hidden/, allow: {network: office}, deny: 404}]";
    let (code, out) = explained(hides, &["GET", "/hidden/"]);
    assert!(code == Some(1) && out.contains("switched it off: the client sees that, and no 404\n"), "{out}");
    let (code, out) = explained(on, &["GET", "/readyz"]);
    assert!(code == Some(0) && out.contains("serves this request all the same"), "{out}");
    let (code, out) = explained("{allow: {network: office}}", &["GET", "/"]);
    assert!(code == Some(0) && out.contains("off (FILE:5); switched on, it would keep the request out\n"), "{out}");
}
