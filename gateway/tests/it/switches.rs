//! Switches: turned over the admin listener by those who may, and kept.

use std::net::SocketAddr;

use serde_json::Value;

use crate::harness::{
    Config, Ended, Folder, Gateway, Response, TOKEN, Upstream, exchange, free_address, get, get_admin, is_waited_on,
    listening_on, ok, probegate, run, wait_for_metric, wait_ready,
};

const ON: &str = "probegate_maintenance{service=\"app\"}";

/// A configuration whose switches are kept in `storage`.
fn config(app: &Upstream, storage: &Folder) -> Config {
    Config::before(app).top(&format!("storage: {}", storage.path().display()))
}

/// A command that asks the gateway at `admin`.
fn command(admin: SocketAddr, arguments: &[&str]) -> Ended {
    run(probegate(arguments).arg("--admin").arg(admin.to_string()).env_remove("PROBEGATE_ADMIN_TOKEN"))
}

/// A request of a browser, or of curl.
fn raw(to: SocketAddr, method: &str, target: &str, fields: &str) -> Response {
    exchange(to, format!("{method} {target} HTTP/1.1\r\n{fields}\r\n"))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn maintenance_is_switched_on_and_off_and_everybody_is_told() {
    let app = Upstream::answering(|_| ok("answered"));
    let storage = Folder::new();
    let gateway = Gateway::start(config(&app, &storage));
    let admin = gateway.admin();
    wait_for_metric(&gateway, ON, 0.0);
    let ended = command(admin, &["maintenance", "on", "app", "--retry-after", "10m"]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""));
    let line = gateway.wait_for_log(|line| line["message"] == "maintenance begins");
    assert_eq!((line["service"].as_str(), line["retry_after"].as_u64()), (Some("app"), Some(600)));
    wait_for_metric(&gateway, ON, 1.0);
    wait_for_metric(&gateway, "probegate_switch_changes_total", 1.0);
    let refused = get(gateway.address(), "/during");
    assert_eq!((refused.status, refused.field("Retry-After").as_deref()), (503, Some("600")), "{}", refused.text());
    assert_eq!(gateway.access("/during")["reason"], "maintenance");
    assert_eq!(get(gateway.address(), "/healthz").status, 200, "probes are asked about the app");
    let ended = command(admin, &["maintenance", "on", "app", "--retry-after", "10m"]);
    assert_eq!((ended.code, &*ended.err), (Some(0), "it was so already\n"));

    let status = command(admin, &["status", "--json"]);
    let service = &json(&status.out)["services"][0];
    assert_eq!((&service["service"], &service["maintenance"]["retry_after"]), (&"app".into(), &600.into()));
    assert_eq!(service["servers"][0]["server"], *app.server());
    let status = command(admin, &["status"]).out;
    assert!(status.contains("\nSERVICE  SERVER") && status.contains(&app.server()), "{status}");
    assert!(status.ends_with("app: in maintenance, clients are told to come back after 600 s\n"), "{status}");

    let ended = command(admin, &["maintenance", "off", "app"]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""));
    gateway.wait_for_log(|line| line["message"] == "maintenance ends");
    wait_for_metric(&gateway, ON, 0.0);
    assert_eq!(get(gateway.address(), "/after").text(), "answered");
    wait_for_metric(&gateway, "probegate_switch_changes_total", 2.0);
}

#[test]
fn a_switch_stays_as_it_is_over_reloads_restarts_and_hand_overs() {
    let app = Upstream::answering(|_| ok("answered"));
    let (storage, meeting) = (Folder::new(), Folder::new());
    let socket = meeting.path().join("private/upgrade.sock");
    let [address, admin] = [free_address(), free_address()];
    let text = listening_on(&config(&app, &storage), &[address])
        .replace("admin: {address: \"127.0.0.1:0\"}", &format!("admin: {{address: \"{admin}\"}}"));
    let start = |arguments: &[&str]| {
        let mut builder = Gateway::with(&text).arg("--upgrade-socket").arg(&socket);
        for argument in arguments {
            builder = builder.arg(*argument);
        }
        builder
    };
    let mut gateway = start(&[]).start();
    wait_ready(&gateway);
    assert_eq!(command(admin, &["maintenance", "on", "app"]).code, Some(0));
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    wait_for_metric(&gateway, ON, 1.0);

    gateway.signal("TERM");
    gateway.wait_exit();
    let mut gateway = start(&[]).start();
    wait_ready(&gateway);
    gateway.wait_for_log(|line| line["message"] == "in maintenance");
    wait_for_metric(&gateway, ON, 1.0);

    // What the old process is told while the new one starts, the new one reads.
    let next = start(&["--upgrade"]).spawn();
    crate::harness::eventually("the new process waits for the sockets", || is_waited_on(&socket).then_some(()));
    // It waits for some seconds only, of which a busy machine may need more.
    next.signal("STOP");
    assert_eq!(command(admin, &["maintenance", "off", "app"]).code, Some(0));
    next.signal("CONT");
    gateway.signal("QUIT");
    gateway.wait_exit();
    wait_for_metric(&next, ON, 0.0);
    assert_eq!(command(admin, &["maintenance", "on", "app"]).code, Some(0));
    wait_for_metric(&next, ON, 1.0);
}

#[test]
fn a_service_that_is_not_there_is_an_error_that_names_those_that_are() {
    let app = Upstream::answering(|_| ok("answered"));
    let storage = Folder::new();
    let gateway = Gateway::start(config(&app, &storage));
    let ended = command(gateway.admin(), &["maintenance", "on", "shop"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("no service is called `shop`") && ended.err.contains("`app`"), "{}", ended.err);
    let answer = get_admin(gateway.admin(), "/services/shop");
    assert_eq!((answer.status, &json(&answer.text())["known"][0]), (404, &"app".into()));
    assert_eq!(get_admin(gateway.admin(), "/services/app").status, 200);
    assert_eq!(get_admin(gateway.admin(), "/services/app/nonsense").status, 404);
    for (arguments, text) in [
        (&["maintenance", "on", "app", "--retry-after", "soon"], "expected a duration"),
        (&["maintenance", "on", "app", "--retry-after", "10ms"], "less than a second"),
        (&["maintenance", "off", "app", "--retry-after", "10m"], "no meaning"),
    ] {
        let ended = command(gateway.admin(), arguments);
        assert!(ended.code == Some(64) && ended.err.contains(text), "{ended:?}");
    }
    assert!(!storage.path().join("switches.json").exists(), "nothing was turned");
}

#[test]
fn a_switch_that_cannot_be_kept_is_turned_and_says_so() {
    let app = Upstream::answering(|_| ok("answered"));
    let storage = Folder::new();
    storage.write("taken", "a file, where a folder should be");
    let gateway =
        Gateway::start(Config::before(&app).top(&format!("storage: {}", storage.path().join("taken").display())));
    let ended = command(gateway.admin(), &["maintenance", "on", "app"]);
    assert_eq!(ended.code, Some(0));
    assert!(ended.err.starts_with("warning: it will not survive this process: "), "{}", ended.err);
    wait_for_metric(&gateway, ON, 1.0);
}

#[test]
fn pages_of_the_web_turn_nothing() {
    let app = Upstream::answering(|_| ok("answered"));
    let storage = Folder::new();
    let gateway = Gateway::start(config(&app, &storage));
    wait_ready(&gateway);
    let admin = gateway.admin();
    let target = "/services/app/maintenance";
    let port = admin.port();
    for (method, fields, status, error) in [
        // What a form or `fetch` can send without asking, to an address or to a name that leads here.
        ("PUT", format!("Host: {admin}\r\nOrigin: https://evil.example\r\n"), 403, "field_missing"),
        ("PUT", format!("Host: evil.example:{port}\r\nX-Probegate-Control: 1\r\n"), 403, "host_not_an_address"),
        (
            "PUT",
            format!("Host: localhost.evil.example:{port}\r\nX-Probegate-Control: 1\r\n"),
            403,
            "host_not_an_address",
        ),
        ("POST", format!("Host: {admin}\r\nContent-Length: 0\r\n"), 405, "method_not_allowed"),
    ] {
        let answer = raw(admin, method, target, &fields);
        assert_eq!((answer.status, &json(&answer.text())["reason"]), (status, &error.into()), "{fields}");
    }
    // The question that a browser asks first is not answered with a permission.
    let asked = format!(
        "Host: {admin}\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: PUT\r\n\
         Access-Control-Request-Headers: x-probegate-control\r\n"
    );
    let answer = raw(admin, "OPTIONS", target, &asked);
    assert!(answer.status == 405 && answer.field("access-control-allow-origin").is_none(), "{answer:?}");
    wait_for_metric(&gateway, ON, 0.0);
    for host in [format!("{admin}"), format!("localhost:{port}"), "[::1]".to_owned()] {
        let answer = raw(admin, "PUT", target, &format!("Host: {host}\r\nX-Probegate-Control: 1\r\n"));
        assert_eq!(answer.status, 200, "{host}");
    }
    wait_for_metric(&gateway, ON, 1.0);
}

#[test]
fn over_the_network_switches_take_a_token() {
    let app = Upstream::answering(|_| ok("answered"));
    let storage = Folder::new();
    let open = |text: &Config, admin: &str| text.to_string().replace("admin: {address: \"127.0.0.1:0\"}", admin);
    let local = |gateway: &Gateway| SocketAddr::from(([127, 0, 0, 1], gateway.admin().port()));
    let tokens = config(&app, &storage)
        .top(&format!("tokens: {{operators: {{header: X-Operator-Token, slots: [{{name: ops, value: {TOKEN}}}]}}}}"));
    let gateway = Gateway::start(open(&tokens, "admin: {address: \"0.0.0.0:0\", token: operators}"));
    let admin = local(&gateway);
    for (token, code, text) in [
        (None, 1, "no token was presented: `admin` asks for one in `x-operator-token`"),
        (Some("wrong"), 1, "the token is not a known one"),
        (Some(TOKEN), 0, ""),
    ] {
        let mut command = probegate(["maintenance", "on", "app", "--token-header", "X-Operator-Token", "--admin"]);
        command.arg(admin.to_string());
        match token {
            Some(token) => command.env("PROBEGATE_ADMIN_TOKEN", token),
            None => command.env_remove("PROBEGATE_ADMIN_TOKEN"),
        };
        let ended = run(&mut command);
        assert!(ended.code == Some(code) && ended.err.contains(text), "{ended:?}");
    }
    // With a token it does not matter by which name it was found; without the field, a token is none.
    let target = "/services/app/maintenance";
    let fields = format!("Host: gateway.example\r\nX-Operator-Token: {TOKEN}\r\n");
    assert_eq!(raw(admin, "DELETE", target, &fields).status, 403);
    assert_eq!(raw(admin, "DELETE", target, &format!("{fields}X-Probegate-Control: 1\r\n")).status, 200);
}

#[test]
fn what_is_not_understood_turns_nothing() {
    let app = Upstream::answering(|_| ok("answered"));
    let storage = Folder::new();
    let gateway = Gateway::start(config(&app, &storage));
    wait_ready(&gateway);
    let admin = gateway.admin();
    let fields = format!("Host: {admin}\r\nX-Probegate-Control: 1\r\n");
    let maintenance = "/services/app/maintenance";
    let drain = format!("/services/app/servers/{}/drain", app.server());
    for (method, target, says) in [
        ("PUT", format!("{maintenance}?retry_after=%zz"), "is not what can stand in a query"),
        ("PUT", format!("{maintenance}?retry-after=60"), "`retry-after` is not a parameter (known: `retry_after`)"),
        ("PUT", format!("{maintenance}?retry_after=60&retry_after=6"), "`retry_after` is there twice"),
        ("DELETE", format!("{maintenance}?retry_after=60"), "`retry_after` is not a parameter (there is none here)"),
        ("PUT", format!("{drain}?forse"), "`forse` is not a parameter (known: `force`)"),
        ("PUT", format!("{drain}?force=maybe"), "`force` is `maybe`, expected `true` or `false`"),
    ] {
        let answer = raw(admin, method, &target, &fields);
        assert!(answer.status == 400 && answer.text().contains(says), "{method} {target}: {}", answer.text());
    }
    for force in ["", "?force=false", "?force=0"] {
        assert_eq!(raw(admin, "PUT", &format!("{drain}{force}"), &fields).status, 409, "{force}");
    }
    assert!(!storage.path().join("switches.json").exists(), "nothing was turned");
    assert_eq!(raw(admin, "PUT", &format!("{drain}?force=true"), &fields).status, 200);
    assert_eq!(raw(admin, "DELETE", &drain, &fields).status, 200);
}

#[test]
fn a_server_that_is_down_is_none_that_would_answer_in_the_place_of_a_drained_one() {
    let app = Upstream::answering(|_| ok("answered"));
    let storage = Folder::new();
    let nobody = free_address();
    let text = Config::servers([app.server(), nobody.to_string()])
        .upstream("health: {tcp: true, interval: 1s}")
        .top(&format!("storage: {}", storage.path().display()));
    let gateway = Gateway::start(text);
    wait_ready(&gateway);
    gateway.wait_for_log(|line| line["message"] == "server is down");
    let ended = command(gateway.admin(), &["drain", "app", &app.server()]);
    assert!(ended.code == Some(1) && ended.err.contains("nobody would answer"), "{ended:?}");
    assert_eq!(command(gateway.admin(), &["drain", "app", &nobody.to_string()]).code, Some(0));
}

#[test]
fn a_new_storage_folder_gets_the_switches_as_they_are() {
    let app = Upstream::answering(|_| ok("answered"));
    let (storage, other) = (Folder::new(), Folder::new());
    other.write("switches.json", r#"{"maintenance": {"app": {}}, "drained": {}}"#);
    let gateway = Gateway::start(config(&app, &storage));
    wait_ready(&gateway);
    // What another process was told is not what this one was told.
    std::fs::write(gateway.config_path(), config(&app, &other).to_string()).unwrap();
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "the switches there are replaced by those of this process");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    wait_for_metric(&gateway, ON, 0.0);
    assert!(!std::fs::read_to_string(other.path().join("switches.json")).unwrap().contains("app"));
    assert_eq!(command(gateway.admin(), &["maintenance", "on", "app"]).code, Some(0));
    assert!(std::fs::read_to_string(other.path().join("switches.json")).unwrap().contains("app"));
}
