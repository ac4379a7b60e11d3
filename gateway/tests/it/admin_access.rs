//! The admin API: who may ask for what, over TCP and over its socket; what is written down; reloads that somebody asks for; its description.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{
    Client, Config, Ended, Folder, Gateway, PATIENCE, Response, TOKEN, Upstream, eventually, exchange, free_address,
    get, get_admin, is_waited_on, listening_on, ok, probegate, run, venv, wait_ready,
};

/// The field that keeps pages of the Web out.
const FIELD: &str = "X-Probegate-Control: 1\r\n";
const READER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef";
const BOTH: &str = "0.0.0.0:0";

fn tokens(admin: &str, storage: &Folder) -> String {
    let sets = format!(
        "tokens:\n  viewers: {{slots: [{{name: page, value: {READER}}}]}}\n  \
         operators: {{header: X-Operator-Token, slots: [{{name: ops, value: {TOKEN}}}]}}\nadmin: {admin}\n"
    );
    let app = Upstream::answering(|_| ok("answered"));
    config(&app, storage).to_string().replacen("admin: {address: \"127.0.0.1:0\"}\n", &sets, 1)
}

/// A configuration whose switches are its own.
fn config(app: &Upstream, storage: &Folder) -> Config {
    Config::before(app).top(&format!("storage: {}", storage.path().display()))
}

fn local(gateway: &Gateway) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], gateway.admin().port()))
}

fn ask(to: SocketAddr, line: &str, fields: &str) -> Response {
    exchange(to, format!("{line} HTTP/1.1\r\nHost: gateway.example\r\n{fields}\r\n"))
}

/// One request over a Unix socket: the status and the body.
fn over(path: &Path, line: &str, fields: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(path).unwrap();
    write!(stream, "{line} HTTP/1.1\r\nHost: any.name\r\nConnection: close\r\n{fields}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let body = text.split_once("\r\n\r\n").unwrap().1.to_owned();
    (text[9..12].parse().unwrap(), body)
}

#[test]
fn tokens_for_reading_read_and_tokens_for_writing_do_both() {
    let storage = Folder::new();
    let gateway = Gateway::start(tokens(
        &format!("{{address: \"{BOTH}\", tokens: {{read: viewers, write: operators}}}}"),
        &storage,
    ));
    wait_ready(&gateway);
    let to = local(&gateway);
    let reads = format!("X-Probe-Token: {READER}\r\n");
    let writes = format!("X-Operator-Token: {TOKEN}\r\n");
    let change = "PUT /services/app/maintenance";
    for (line, fields, status, reason) in [
        ("GET /healthz", String::new(), 200, ""),
        ("GET /readyz", String::new(), 200, ""),
        ("GET /openapi.json", String::new(), 200, ""),
        ("GET /metrics", String::new(), 403, "token_missing"),
        ("GET /metrics", reads.clone(), 200, ""),
        ("GET /status", String::new(), 403, "token_missing"),
        ("GET /status", "X-Probe-Token: wrong\r\n".to_owned(), 403, "token_wrong"),
        ("GET /status", "X-Operator-Token: wrong\r\n".to_owned(), 403, "token_wrong"),
        // A token in the field of the other set is none.
        ("GET /status", format!("X-Operator-Token: {READER}\r\n"), 403, "token_wrong"),
        ("GET /status", reads.clone(), 200, ""),
        // As programs send tokens that know no other field.
        ("GET /metrics", format!("Authorization: Bearer {READER}\r\n"), 200, ""),
        ("GET /metrics", format!("authorization: bearer {TOKEN}\r\n"), 200, ""),
        ("GET /metrics", "Authorization: Bearer wrong\r\n".to_owned(), 403, "token_wrong"),
        ("GET /metrics", "Authorization: Bearer \r\n".to_owned(), 403, "token_missing"),
        ("GET /metrics", format!("Authorization: {READER}\r\n"), 403, "token_missing"),
        ("GET /metrics", format!("Authorization: Basic {READER}\r\n"), 403, "token_missing"),
        (
            "GET /metrics",
            format!("Authorization: Bearer {READER}\r\nX-Probe-Token: wrong\r\nX-Operator-Token: wrong\r\n"),
            403,
            "token_wrong",
        ),
        ("GET /metrics", format!("Authorization: Bearer {READER}\r\n").repeat(2), 403, "token_duplicated"),
        (change, format!("{FIELD}Authorization: Bearer {READER}\r\n"), 403, "token_read_only"),
        (change, format!("Authorization: Bearer {TOKEN}\r\n"), 403, "field_missing"),
        (change, format!("{FIELD}Authorization: Bearer {TOKEN}\r\n"), 200, ""),
        ("GET /bans", reads.clone(), 200, ""),
        ("GET /denials", writes.clone(), 200, ""),
        (change, FIELD.to_owned(), 403, "token_missing"),
        (change, format!("{FIELD}X-Operator-Token: wrong\r\n"), 403, "token_wrong"),
        (change, format!("{FIELD}{reads}"), 403, "token_read_only"),
        (change, writes.clone(), 403, "field_missing"),
        (change, format!("{FIELD}{writes}"), 200, ""),
        ("POST /reload", format!("{FIELD}{reads}"), 403, "token_read_only"),
        ("DELETE /services/app/maintenance", format!("{FIELD}{reads}{writes}"), 200, ""),
    ] {
        let answer = ask(to, line, &fields);
        assert_eq!(answer.status, status, "{line} {fields}: {}", answer.text());
        if !reason.is_empty() {
            assert_eq!(answer.json()["reason"], reason, "{line} {fields}");
        }
        assert!(!answer.text().contains(READER) && !answer.text().contains(TOKEN));
    }
    // Commands take theirs from the environment.
    let status = |header: &str, token: &str| {
        let mut command = probegate(["status", "--token-header", header, "--admin"]);
        run(command.arg(to.to_string()).env("PROBEGATE_ADMIN_TOKEN", token))
    };
    assert_eq!(status("X-Probe-Token", READER).code, Some(0));
    let mut command = probegate(["status", "--admin", &to.to_string()]);
    assert_eq!(run(command.env("PROBEGATE_ADMIN_TOKEN", TOKEN)).code, Some(0), "of either set, without its header");
    let unknown = run(command.env_remove("PROBEGATE_ADMIN_TOKEN"));
    assert!(unknown.code == Some(1) && unknown.err.contains("`PROBEGATE_ADMIN_TOKEN`"), "{unknown:?}");
    let refused = status("X-Probe-Token", "wrong");
    assert!(refused.code == Some(1) && refused.err.contains("`x-operator-token` or `x-probe-token`"), "{refused:?}");
    let log = gateway.log_lines().join("\n");
    assert!(!log.contains(READER) && !log.contains(TOKEN));
}

#[test]
fn metrics_can_be_open_and_a_set_for_reading_alone_changes_nothing() {
    let admin = "{address: \"127.0.0.1:0\", tokens: {read: viewers}, open_metrics: true}";
    let gateway = Gateway::start(tokens(admin, &Folder::new()));
    let (to, reads) = (gateway.admin(), format!("X-Probe-Token: {READER}\r\n"));
    assert_eq!(ask(to, "GET /metrics", "").status, 200);
    assert_eq!((ask(to, "GET /status", "").status, ask(to, "GET /status", &reads).status), (403, 200));
    for fields in [FIELD.to_owned(), format!("{FIELD}{reads}")] {
        let answer = ask(to, "PUT /services/app/maintenance", &fields);
        assert_eq!((answer.status, &answer.json()["reason"]), (403, &json!("token_read_only")));
    }
}

#[test]
fn names_that_lead_here_get_neither_numbers_nor_names_of_services() {
    let (app, storage) = (Upstream::answering(|_| ok("answered")), Folder::new());
    let gateway = Gateway::start(config(&app, &storage));
    let admin = gateway.admin();
    wait_ready(&gateway);
    let ask = |line: &str, hosts: &str| exchange(admin, format!("{line} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n"));
    let drain = format!("PUT /services/app/servers/{}/drain?force=true", app.server());
    assert_eq!(ask(&drain, &format!("Host: {admin}\r\n{FIELD}")).status, 200);
    let about = |hosts: &str| {
        let answer = ask("GET /readyz", hosts);
        assert_eq!((answer.status, &answer.json()["warnings"][0]["reason"]), (200, &json!("servers_drained")));
        answer.json()["warnings"][0]["about"].clone()
    };
    for host in ["127.0.0.1", "localhost", "LOCALHOST:9900", "[::1]:1"] {
        let hosts = format!("Host: {host}\r\n");
        assert_eq!((ask("GET /metrics", &hosts).status, ask("GET /status", &hosts).status), (200, 200), "{host}");
        assert_eq!(about(&hosts), "app", "{host}");
    }
    for host in ["evil.example", "evil.example:9900", "localhost:evil.example", "localhost.evil.example"] {
        let hosts = format!("Host: {host}\r\n");
        for line in ["GET /metrics", "GET /status", "GET /events", "GET /services"] {
            let answer = ask(line, &hosts);
            assert_eq!(
                (answer.status, &answer.json()["reason"]),
                (403, &json!("host_not_an_address")),
                "{line} {host}"
            );
        }
        // Whoever only wants to know whether it is ready may call it as it likes.
        assert_eq!(about(&hosts), Value::Null, "{host}");
        assert_eq!(ask("GET /healthz", &hosts).status, 200);
    }
    let two = format!("Host: {admin}\r\nHost: evil.example\r\n");
    for line in ["GET /metrics", "GET /status", "GET /readyz"] {
        assert_eq!(ask(line, &two).status, 400, "{line}");
        assert_eq!(ask(line, "").status, 400, "{line}");
    }
}

#[test]
fn beyond_loopback_whoever_has_a_token_is_told_names_and_scrapers_and_kubelets_need_none() {
    let storage = Folder::new();
    let admin = format!("{{address: \"{BOTH}\", tokens: {{read: viewers, write: operators}}, open_metrics: true}}");
    let gateway = Gateway::start(format!("{}readiness: {{services: [app]}}\n", tokens(&admin, &storage)));
    let to = local(&gateway);
    let (reads, writes) = (format!("X-Probe-Token: {READER}\r\n"), format!("X-Operator-Token: {TOKEN}\r\n"));
    eventually("it is ready", || (ask(to, "GET /readyz", "").status == 200).then_some(()));
    assert_eq!(ask(to, "GET /metrics", "").status, 200);
    let server = ask(to, "GET /services/app", &reads).json()["servers"][0]["server"].as_str().unwrap().to_owned();
    let drain = format!("PUT /services/app/servers/{server}/drain?force=true");
    assert_eq!(ask(to, &drain, &format!("{FIELD}{writes}")).status, 200);
    for (fields, about) in [("", Value::Null), (&*reads, json!("app")), (&*writes, json!("app"))] {
        let answer = ask(to, "GET /readyz", fields);
        assert_eq!((answer.status, &answer.json()["reason"]), (503, &json!("servers_drained")), "{fields}");
        assert_eq!((&answer.json()["reasons"][0]["about"], answer.text().contains("app")), (&about, !about.is_null()));
    }
}

/// Asks for events with a token; `None`: it is refused.
fn listen(to: SocketAddr, token: &str) -> Option<Client> {
    let mut client = Client::connect(to);
    client.send(format!("GET /events HTTP/1.1\r\nHost: {to}\r\nX-Probe-Token: {token}\r\n\r\n"));
    let head = String::from_utf8(client.head()).unwrap();
    assert!(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.1 403"), "{head}");
    head.starts_with("HTTP/1.1 200").then_some(client)
}

/// Reads events until there are no more.
#[track_caller]
fn ends(events: &Client) {
    let (end, mut stream) = (Instant::now() + PATIENCE, events.sender());
    while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
        assert!(Instant::now() < end, "events go on and on");
    }
}

#[test]
fn events_end_with_the_token_that_they_were_asked_for_with() {
    let storage = Folder::new();
    let one = tokens("{address: \"127.0.0.1:0\", tokens: {read: viewers, write: operators}}", &storage);
    let gateway = Gateway::start(&one);
    wait_ready(&gateway);
    let to = gateway.admin();
    let reload = |text: &str| {
        std::fs::write(gateway.config_path(), text).unwrap();
        let fields = format!("{FIELD}X-Operator-Token: {TOKEN}\r\n");
        assert_eq!(ask(to, "POST /reload", &fields).status, 200);
    };
    let short = eventually("somebody listens before the token ends", || {
        let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 2;
        let soon = chrono::DateTime::from_timestamp(soon.try_into().unwrap(), 0).unwrap();
        let soon = soon.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let slots = format!("[{{name: page, value: {READER}, expires: {soon:?}}}, {{name: new, value: {READER}new}}]");
        reload(&one.replace(&format!("[{{name: page, value: {READER}}}]"), &slots));
        listen(to, READER)
    });
    // The one ends by itself when its token does, or a moment after the reload, and is asked for again.
    ends(&short);
    while let Some(short) = listen(to, READER) {
        ends(&short);
    }
    // Another goes on, until its token is taken out.
    let mut long = listen(to, &format!("{READER}new")).unwrap();
    long.exactly(100);
    reload(&one);
    ends(&long);
    assert!(listen(to, &format!("{READER}new")).is_none());
}

#[test]
fn the_socket_answers_whoever_may_open_it_and_knows_who_that_is() {
    let folder = Folder::new();
    let (path, audit) = (folder.path().join("admin.sock"), folder.path().join("audit.log"));
    let admin = format!(
        "{{address: off, socket: {{path: \"{}\", mode: \"0620\"}}, audit: \"{}\"}}",
        path.display(),
        audit.display()
    );
    let mut gateway = Gateway::start(tokens(&admin, &folder));
    gateway.wait_for_log(|line| line["message"] == "admin socket");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
    eventually("it is ready", || (over(&path, "GET /readyz", "").0 == 200).then_some(()));
    let (status, body) = over(&path, "GET /status", "");
    assert_eq!((status, &serde_json::from_str::<Value>(&body).unwrap()["gateway"]["state"]), (200, &json!("ready")));
    assert_eq!(over(&path, "PUT /services/app/maintenance", "").0, 403, "the field is asked for here as well");
    assert_eq!(over(&path, "PUT /services/app/maintenance?retry_after=9", FIELD).0, 200);
    let place = format!("unix:{}", path.display());
    let command = |arguments: &[&str]| -> Ended {
        run(probegate(arguments).args(["--admin", &place]).env_remove("PROBEGATE_ADMIN_TOKEN"))
    };
    let status = command(&["status"]);
    assert!(status.code == Some(0) && status.out.contains("app: in maintenance"), "{status:?}");
    assert!(!status.out.contains('\u{1b}'), "no colours where there is no terminal");
    assert_eq!(command(&["maintenance", "off", "app"]).code, Some(0));
    assert_eq!(run(probegate(["healthcheck", "--address", &place]).env_remove("X")).code, Some(0));

    let text = eventually("all is written down", || {
        std::fs::read_to_string(&audit).ok().filter(|text| text.lines().count() == 3)
    });
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let user = run(Command::new("id").arg("-u")).out.trim().to_owned();
    for (line, (method, target, outcome, status)) in lines.iter().zip([
        ("PUT", "/services/app/maintenance", "refused", 403),
        ("PUT", "/services/app/maintenance?retry_after=9", "done", 200),
        ("DELETE", "/services/app/maintenance", "done", 200),
    ]) {
        assert!(line["who"].as_str().unwrap().starts_with(&format!("user {user}, process ")), "{line}");
        assert_eq!((&line["method"], &line["target"]), (&json!(method), &json!(target)));
        assert_eq!((&line["outcome"], &line["status"]), (&json!(outcome), &json!(status)));
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(lines[0]["reason"], "field_missing");
    gateway.signal("TERM");
    gateway.wait_exit();
    assert!(!path.exists(), "it goes with its process");
}

#[test]
fn a_new_process_takes_the_socket_over() {
    let app = Upstream::answering(|_| ok("answered"));
    let (folder, meeting) = (Folder::new(), Folder::new());
    let (path, socket) = (folder.path().join("admin.sock"), meeting.path().join("private/upgrade.sock"));
    let [address, admin] = [free_address(), free_address()];
    let text = listening_on(&config(&app, &folder), &[address]).replace(
        "admin: {address: \"127.0.0.1:0\"}",
        &format!("admin: {{address: \"{admin}\", socket: {{path: \"{}\"}}}}", path.display()),
    );
    let start = || Gateway::with(&text).arg("--upgrade-socket").arg(&socket);
    let mut first = start().start();
    wait_ready(&first);
    let pid = || -> Value {
        let (_, body) = over(&path, "GET /status", "");
        serde_json::from_str::<Value>(&body).unwrap()["gateway"]["pid"].clone()
    };
    assert_eq!(pid(), first.pid());
    // Another one that is no successor finds it taken.
    let mut other =
        Gateway::with(text.replace(&address.to_string(), "127.0.0.1:0").replace(&admin.to_string(), "127.0.0.1:0"))
            .spawn();
    assert!(!other.wait_exit().success());
    assert!(other.log_lines().join("\n").contains("another process answers there"));
    let second = start().arg("--upgrade").spawn();
    eventually("the new process waits for the sockets", || is_waited_on(&socket).then_some(()));
    first.signal("QUIT");
    first.wait_exit();
    assert_eq!(pid(), second.pid());
}

#[test]
fn changes_are_lines_of_the_log_with_who_asked() {
    let storage = Folder::new();
    let gateway = Gateway::start(tokens("{address: \"127.0.0.1:0\", token: operators}", &storage));
    wait_ready(&gateway);
    let to = gateway.admin();
    let fields = format!("{FIELD}X-Operator-Token: {TOKEN}\r\n");
    assert_eq!(ask(to, "PUT /services/app/maintenance", &fields).status, 200);
    let line = gateway.wait_for_log(|line| line["message"] == "changed over the admin listener");
    assert_eq!((&line["who"], &line["method"]), (&json!("token operators/ops from 127.0.0.1"), &json!("PUT")));
    assert_eq!((&line["path"], &line["status"]), (&json!("/services/app/maintenance"), &json!(200)));
    assert_eq!(ask(to, "PUT /services/shop/maintenance", &fields).status, 404);
    assert_eq!(ask(to, "DELETE /bans", FIELD).status, 403);
    assert_eq!(ask(to, "PUT /services/app/switch?to=a", &fields).status, 409);
    assert_eq!(ask(to, "DELETE /services/app/maintenance", &fields.replace(FIELD, "")).status, 403);
    let ops = "token operators/ops from 127.0.0.1";
    for (target, status, reason, who) in [
        ("/services/shop/maintenance", 404, "unknown_service", ops),
        ("/bans", 403, "token_missing", "127.0.0.1"),
        ("/services/app/switch?to=a", 409, "no_slots", ops),
        ("/services/app/maintenance", 403, "field_missing", ops),
    ] {
        let line = gateway.wait_for_log(|line| {
            line["message"] == "a change over the admin listener was refused" && line["path"] == target
        });
        assert_eq!((&line["status"], &line["reason"], &line["who"]), (&json!(status), &json!(reason), &json!(who)));
    }
    // What was only read is nobody's business.
    assert_eq!(ask(to, "GET /status", &fields).status, 200);
    assert!(!gateway.log_lines().join("\n").contains("/status"));
}

#[test]
fn a_body_is_not_taken() {
    let app = Upstream::answering(|_| ok("answered"));
    let storage = Folder::new();
    let gateway = Gateway::start(config(&app, &storage));
    wait_ready(&gateway);
    let admin = gateway.admin();
    let put = |more: &str| {
        exchange(admin, format!("PUT /services/app/maintenance HTTP/1.1\r\nHost: {admin}\r\n{FIELD}{more}"))
    };
    let answer = put("Content-Length: 2\r\n\r\n{}");
    assert_eq!((answer.status, &answer.json()["reason"]), (400, &json!("body_unexpected")));
    assert_eq!(put("Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n").status, 400);
    assert_eq!(put("Content-Length: 0\r\n\r\n").status, 200);
}

#[test]
fn a_reload_over_the_api_says_what_is_wrong_and_then_changes_nothing() {
    let app = Upstream::answering(|_| ok("answered"));
    let storage = Folder::new();
    let text = config(&app, &storage).to_string();
    let gateway = Gateway::start(&text);
    wait_ready(&gateway);
    let admin = gateway.admin();
    let reload = || exchange(admin, format!("POST /reload HTTP/1.1\r\nHost: {admin}\r\n{FIELD}\r\n"));
    let told = || get_admin(admin, "/configuration").json();
    let first = told();
    assert_eq!((&first["generation"], first["sha256"].as_str().map(str::len)), (&json!(1), Some(64)));
    // What is wrong stands in the answer; what stands in the file does not, neither in a message nor in a hint that quotes it.
    let secret = "a-secret-that-nobody-may-see-0123456789";
    let (variable, number) = (secret.replace('-', "_"), 4_711_081_547_110_815_u64);
    let wrong = [
        format!(
            "tokens: {{a: {{slots: [{{name: b, value: {secret}, expires: soon}}, {{name: c, env: {variable}}}, {{name: d, file: {secret}}}]}}}}"
        ),
        "limit: 1".to_owned(),
        format!("timeouts: {{head: {secret}}}"),
        format!("limits: {{a: {{rate: {secret}}}, b: {{rate: 1/s, key: {secret}}}}}"),
        format!("networks: {{a: {secret}}}"),
        format!("log: {{level: \"info,{secret}=x, found y\", file: {secret}}}"),
        format!(
            "aggregates: {{a: {{path: {secret}, details: {secret}}}, b: {{path: /b, hosts: [b], allow: {{token: {secret}}}}}}}"
        ),
        format!("error_header: !{secret} true"),
        format!("bounds: {{{number}: 1}}"),
    ];
    std::fs::write(gateway.config_path(), format!("{text}{}\n", wrong.join("\n"))).unwrap();
    let answer = reload();
    let problem = answer.json();
    assert_eq!((answer.status, &problem["reason"]), (422, &json!("configuration_invalid")), "{problem}");
    let problems = problem["problems"].as_array().unwrap();
    assert!(problems.iter().all(|one| one["severity"] == "error" && one["line"].as_u64().unwrap() > 1), "{problem}");
    assert!(problems.iter().any(|one| one["message"].as_str().unwrap().contains("`limit`") && !one["hint"].is_null()));
    let log =
        gateway.wait_for_log(|line| line["message"].as_str().is_some_and(|text| text.starts_with("reload refused")));
    for secret in [secret, &variable, &number.to_string()] {
        assert!(!answer.text().contains(secret) && !log.to_string().contains(secret), "{problem}\n{log}");
    }
    for (path, message, hint) in [
        ("timeouts.head", "expected a duration such as `10s`", Value::Null),
        ("networks.a", "expected a list", Value::Null),
        ("limits.a.rate", "expected ", Value::Null),
        (
            "tokens.a.slots[1].env",
            "the environment variable is not set",
            "set it to the token before the gateway starts".into(),
        ),
        ("tokens.a.slots[2].file", "the file cannot be read: ", Value::Null),
        ("error_header", "tags are not supported", "remove the tag".into()),
        ("aggregates.b.allow.token", "this token is not defined", "the names under `tokens` are: `a`".into()),
        ("bounds.?", "a key must be text", "put the key in quotes".into()),
    ] {
        let one = problems.iter().find(|one| one["path"] == path).unwrap_or_else(|| panic!("{path}: {problem}"));
        assert!(one["message"].as_str().unwrap().starts_with(message) && one["hint"] == hint, "{one}");
    }
    assert_ne!((problem["file"].as_str(), problem["sha256"].as_str()), (None, first["sha256"].as_str()));
    assert_eq!((&told()["generation"], &told()["sha256"]), (&json!(1), &first["sha256"]));
    assert_eq!(get(gateway.address(), "/").status, 200);
    // A lint is told of, and keeps nothing from being used.
    std::fs::write(gateway.config_path(), format!("{text}limits: {{idle: {{rate: 1/s}}}}\n")).unwrap();
    let answer = reload();
    assert_eq!((answer.status, &answer.json()["generation"]), (200, &json!(2)), "{}", answer.text());
    assert!(answer.json()["problems"].as_array().unwrap().iter().all(|one| one["severity"] == "lint"));
    assert!(answer.text().contains("idle"));
    let second = told();
    assert_eq!((&second["generation"], &second["limits"]), (&json!(2), &json!(1)));
    assert_ne!(second["sha256"], first["sha256"]);
    let line = gateway.wait_for_log(|line| line["message"] == "changed over the admin listener");
    assert_eq!((&line["path"], &line["method"]), (&json!("/reload"), &json!("POST")));
    // Without a field, and from a page of the Web, nothing is loaded.
    assert_eq!(exchange(admin, format!("POST /reload HTTP/1.1\r\nHost: {admin}\r\n\r\n")).status, 403);
    assert_eq!(exchange(admin, format!("GET /reload HTTP/1.1\r\nHost: {admin}\r\n\r\n")).status, 405);
}

#[test]
fn the_description_is_one_and_says_what_is_so() {
    let app = Upstream::answering(|_| ok("answered"));
    let limits = "limits:\n  hard: {rate: 1/h, burst: 0}\n  soft: {rate: 1/h, burst: 0, mode: shadow}\n  few: {max_in_flight: 3}\nbans: {guesses: {offences: {status: [401]}}}";
    let storage = Folder::new();
    let gateway = Gateway::start(
        config(&app, &storage)
            .top(limits)
            .service("limits: [soft, few]\nroutes: [{path: /hard, limits: [hard]}]\nprobes: {healthz: {serve: answer, allow: anyone}, readyz: {serve: forward, allow: anyone}}"),
    );
    wait_ready(&gateway);
    // Something of everything is there to be told.
    for path in ["/hard", "/hard", "/readyz", "/healthz"] {
        get(gateway.address(), path);
    }
    let admin = gateway.admin();
    let change = |line: &str| exchange(admin, format!("{line} HTTP/1.1\r\nHost: {admin}\r\n{FIELD}\r\n")).status;
    assert_eq!(change("PUT /bans/203.0.113.9?reason=a%20test"), 200);
    assert_eq!(change("PUT /services/app/maintenance?retry_after=60"), 200);
    eventually("the rates are there", || {
        let status = get_admin(admin, "/status").json();
        (!status["services"][0]["traffic"]["windows"]["1m"].is_null()).then_some(())
    });
    let python = venv("PROBEGATE_TEST_OPENAPI_VENV", "openapi", "gateway/tests/openapi.txt").join("bin/python3");
    let script = crate::harness::root().join("gateway/tests/it/admin_access/openapi.py");
    let ended = run(Command::new(python).arg(script).arg(admin.to_string()).arg("app").arg(app.server()));
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("all paths and methods"), "{}", ended.out);
}
