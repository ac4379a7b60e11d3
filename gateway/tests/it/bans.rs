//! Clients that are kept out because of what they did: whom it meets and whom never, shadow, people's commands, and what survives.

use std::net::SocketAddr;

use serde_json::Value;

use crate::harness::{
    Client, Config, Ended, Folder, Gateway, Request, Response, Upstream, eventually, exchange, free_address,
    is_waited_on, listening_on, ok, probegate, run, wait_for_metric, wait_ready,
};

/// 127.0.0.2 is a proxy that is believed: it says whose requests these are.
const PROXY: [u8; 4] = [127, 0, 0, 2];
const TRUSTED: &str = "client_ip: {trusted_proxies: [\"127.0.0.2/32\", \"198.51.100.2/32\"]}";
const LOGINS: &str = "bans: {logins: {offences: {status: [401]}, methods: [POST], paths: [/login], mode: enforce}}";

fn answer(status: u16, text: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} No\r\nContent-Length: {}\r\n\r\n{text}", text.len()).into_bytes()
}

/// An app with a login that knows one password.
fn app() -> Upstream {
    Upstream::answering(|request: &Request| match &*request.target() {
        "/login" if request.body != b"right" => answer(401, "wrong"),
        "/missing" => answer(404, "nothing here"),
        _ => ok("answered"),
    })
}

pub(crate) fn config(app: &Upstream, storage: &Folder, bans: &str) -> Config {
    Config::before(app).top(&format!("storage: {}", storage.path().display())).top(TRUSTED).top(bans)
}

/// A request that the proxy passes on for this client.
pub(crate) fn ask(to: SocketAddr, client: &str, request: &str, body: &str) -> Response {
    let mut connection = Client::connect_from(PROXY, to);
    connection.send(format!(
        "{request} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ));
    connection.response()
}

fn login(to: SocketAddr, client: &str, password: &str) -> u16 {
    ask(to, client, "POST /login", password).status
}

/// Guesses until the client is banned.
fn guess(to: SocketAddr, client: &str) {
    for attempt in 0..5 {
        assert_eq!(login(to, client, "guess"), 401, "attempt {attempt}");
    }
    assert_eq!(login(to, client, "guess"), 403);
}

pub(crate) fn ban(admin: SocketAddr, arguments: &[&str]) -> Ended {
    let arguments: Vec<&str> = ["ban"].into_iter().chain(arguments.iter().copied()).collect();
    run(probegate(&arguments).arg("--admin").arg(admin.to_string()).env_remove("PROBEGATE_ADMIN_TOKEN"))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn five_failed_logins_keep_a_client_out_and_nobody_else() {
    let (app, storage) = (app(), Folder::new());
    let gateway = Gateway::start(config(&app, &storage, LOGINS));
    let to = gateway.address();
    // Good logins are no offence, however many there are; nor is what else the app refuses.
    for _ in 0..12 {
        assert_eq!(login(to, "203.0.113.8", "right"), 200);
        assert_eq!(ask(to, "203.0.113.8", "GET /login", "").status, 401, "not a POST");
    }
    guess(to, "203.0.113.9");
    let count = app.requests().len();
    let refused = ask(to, "203.0.113.9", "GET /elsewhere", "");
    assert_eq!(refused.status, 403);
    let after: u64 = refused.field("Retry-After").unwrap().parse().unwrap();
    assert!((590..=600).contains(&after), "{after}");
    let problem = json(&refused.text());
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#abnormal-usage-detected");
    assert_eq!((problem["status"].as_u64(), problem.get("detail")), (Some(403), None), "{problem}");
    assert_eq!(app.requests().len(), count, "the app has not heard of it");
    let line = gateway.access("/elsewhere");
    assert_eq!(
        (&line["decision"], &line["reason"], &line["policy"]),
        (&"deny".into(), &"banned".into(), &"ban:logins".into())
    );
    let line = gateway.wait_for_log(|line| line["message"] == "client is banned");
    assert_eq!((&line["client"], &line["policy"]), (&"203.0.113.9".into(), &"logins".into()));
    assert_eq!((&line["seconds"], &line["last"]), (&600.into(), &"status 401: POST /login".into()));

    // The neighbour, the proxy itself, whoever hides, and who only pretends.
    assert_eq!(login(to, "203.0.113.10", "right"), 200);
    for hidden in ["garbage", "unknown", ""] {
        for _ in 0..8 {
            assert_eq!(
                login(to, hidden, "guess"),
                401,
                "{hidden:?}: nobody is banned for somebody who can not be told"
            );
        }
    }
    for _ in 0..8 {
        // 198.51.100.2 is a proxy of ours as well, and the last one that is known of this chain.
        assert_eq!(login(to, "198.51.100.2", "guess"), 401, "a trusted proxy is never banned");
        assert_eq!(login(to, "10.0.0.7", "guess"), 401, "nobody inside is");
        assert_eq!(login(to, "127.0.0.1", "guess"), 401, "this machine is not");
    }
    let mut direct = Client::connect(to);
    direct.send("POST /login HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nContent-Length: 5\r\nConnection: close\r\n\r\nright");
    assert_eq!(direct.response().status, 200, "nobody else's word counts");
    wait_for_metric(&gateway, "probegate_bans{policy=\"logins\",mode=\"enforce\"}", 1.0);
    wait_for_metric(&gateway, "probegate_bans_total{policy=\"logins\",mode=\"enforce\"}", 1.0);
    wait_for_metric(&gateway, "probegate_banned_requests_total{policy=\"logins\",mode=\"enforce\"}", 2.0);
    wait_for_metric(&gateway, "probegate_ban_offences_total{policy=\"logins\",mode=\"enforce\"}", 5.0);
}

#[test]
fn a_ban_meets_connections_that_are_open_and_ipv6_networks_as_a_whole() {
    let (app, storage) = (app(), Folder::new());
    let gateway = Gateway::start(config(&app, &storage, LOGINS));
    let to = gateway.address();
    let mut open = Client::connect_from(PROXY, to);
    open.send("GET /before HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 2001:db8:1:2::9\r\n\r\n");
    assert_eq!(open.response().status, 200);
    for host in 0..5 {
        assert_eq!(login(to, &format!("2001:db8:1:2::{host}"), "guess"), 401, "each from another address");
    }
    open.send("GET /after HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 2001:db8:1:2::9\r\n\r\n");
    assert_eq!(open.response().status, 403);
    // The proxy has one connection for many.
    open.send("GET /neighbour HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 2001:db8:1:3::9\r\n\r\n");
    assert_eq!(open.response().status, 200);
}

#[test]
fn in_shadow_mode_everybody_passes_and_it_is_told_who_would_not() {
    let (app, storage) = (app(), Folder::new());
    let gateway = Gateway::start(config(&app, &storage, &LOGINS.replace(", mode: enforce", "")));
    let to = gateway.address();
    for _ in 0..9 {
        assert_eq!(login(to, "203.0.113.9", "guess"), 401);
    }
    assert_eq!(ask(to, "203.0.113.9", "GET /later", "").status, 200);
    let line = gateway.access("/later");
    assert_eq!(
        (&line["would_ban"], &line["decision"], line.get("reason")),
        (&"logins".into(), &"forward".into(), None)
    );
    gateway.wait_for_log(|line| line["message"] == "client would be banned");
    // In force as a real one would be: what comes after it is no offence, as it would not have come.
    wait_for_metric(&gateway, "probegate_ban_offences_total{policy=\"logins\",mode=\"shadow\"}", 5.0);
    wait_for_metric(&gateway, "probegate_banned_requests_total{policy=\"logins\",mode=\"shadow\"}", 5.0);
    let why = ban(gateway.admin(), &["why", "203.0.113.9"]);
    assert_eq!(why.code, Some(0), "{}", why.out);
    assert!(why.out.contains("would be banned for") && why.out.contains("(logins, shadow)"), "{}", why.out);
}

#[test]
fn scans_denials_limits_and_garbage_count_where_they_are_asked_for() {
    let (app, storage) = (app(), Folder::new());
    let bans = concat!(
        "networks: {office: [198.51.100.64/26]}\ntokens: {door: {slots: [{name: a, value: 0123456789abcdef0123456789abcdef}]}}\n",
        "limits: {slow: {rate: 1/h, burst: 0}}\n",
        "bans:\n  scans: {offences: {status: [404]}, max_offences: 3, mode: enforce, deny: 404}\n",
        "  tokens: {offences: {wrong_token: true}, max_offences: 2, mode: enforce}\n",
        "  limits: {offences: {limited: true}, max_offences: 2, mode: enforce, except: [office]}\n",
        "  garbage: {offences: {invalid: true}, max_offences: 2, mode: enforce, deny: close}\n",
    );
    let routes = "routes: [{path: /door, allow: {token: door}}, {path: /slow, limits: [slow]}]\nprobes: {readyz: {allow: {token: door}}}";
    let gateway = Gateway::start(config(&app, &storage, bans).service(routes));
    let to = gateway.address();
    let status = |client: &str, request: &str| ask(to, client, request, "").status;
    for _ in 0..3 {
        assert_eq!(status("203.0.113.1", "GET /missing"), 404);
    }
    let hidden = ask(to, "203.0.113.1", "GET /", "");
    assert_eq!((hidden.status, hidden.text().contains("abnormal")), (404, false), "as if nothing were there");
    for _ in 0..4 {
        assert_eq!(status("203.0.113.2", "GET /door"), 403, "no token is not a wrong one");
    }
    assert_eq!(status("203.0.113.2", "GET /"), 200);
    for _ in 0..2 {
        assert_eq!(status("203.0.113.2", "GET /door HTTP/1.1\r\nX-Probe-Token: guess\r\nX-Rest:"), 403);
    }
    assert_eq!(status("203.0.113.2", "GET /"), 403);
    for client in ["203.0.113.3", "198.51.100.70"] {
        assert_eq!(status(client, "GET /slow"), 200);
        for _ in 0..2 {
            assert_eq!(status(client, "GET /slow"), 429);
        }
        assert_eq!(status(client, "GET /"), if client == "203.0.113.3" { 403 } else { 200 });
    }
    for _ in 0..2 {
        assert_eq!(status("203.0.113.4", "GET /%zz"), 400);
    }
    let mut closed = Client::connect_from(PROXY, to);
    closed.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.4\r\n\r\n");
    closed.expect_closed();
    // Whatever is asked of probes is no offence, and a ban is not for them.
    for _ in 0..6 {
        assert_eq!(status("203.0.113.5", "GET /readyz HTTP/1.1\r\nX-Probe-Token: guess\r\nX-Rest:"), 403);
    }
    assert_eq!(status("203.0.113.5", "GET /"), 200);
    assert_eq!(status("203.0.113.2", "GET /healthz"), 200, "banned, but probes have rules of their own");
}

#[test]
fn nobody_is_banned_for_a_limit_that_others_have_used_up_nor_for_a_slash_too_many() {
    let storage = Folder::new();
    let bans = concat!(
        "limits: {everybody: {rate: 1/h, burst: 0, key: service}, tenant: {rate: 1/h, burst: 0, key: {header: X-Tenant}}, own: {rate: 1/h, burst: 0}}\n",
        "bans:\n  hammering: {offences: {limited: true}, max_offences: 2, mode: enforce}\n",
        "  garbage: {offences: {invalid: true}, max_offences: 2, mode: enforce}\n",
        "  logins: {offences: {status: [401]}, max_offences: 3, paths: [/login], mode: enforce}\n",
    );
    let routes = "routes: [{path: /all, limits: [everybody]}, {path: /tenant, limits: [tenant]}, {path: /own, limits: [own]}]\n\
                  probes: {healthz: {allow: anyone}}";
    let app = Upstream::answering(|request: &Request| match &*request.target() {
        target if target.contains("login") => answer(401, "wrong"),
        _ => ok("answered"),
    });
    let gateway = Gateway::start(config(&app, &storage, bans).service(routes));
    let to = gateway.address();
    let status = |client: &str, request: &str| ask(to, client, request, "").status;
    // One uses it up, the other is refused for it.
    for (path, refused) in [("GET /all", 503), ("GET /tenant HTTP/1.1\r\nX-Tenant: shared\r\nX-Rest:", 429)] {
        assert_eq!(status("203.0.113.1", path), 200);
        for _ in 0..4 {
            assert_eq!(status("203.0.113.2", path), refused);
        }
        assert_eq!(status("203.0.113.2", "GET /"), 200, "{path}");
    }
    assert_eq!(status("203.0.113.2", "GET /own"), 200);
    for _ in 0..2 {
        assert_eq!(status("203.0.113.2", "GET /own"), 429);
    }
    assert_eq!(status("203.0.113.2", "GET /"), 403, "its own");
    for _ in 0..4 {
        assert_eq!(status("203.0.113.3", "GET /healthz/"), 400);
    }
    assert_eq!(status("203.0.113.3", "GET /"), 200);
    // Whatever the app may read as the path that is named.
    for path in ["//login", "/login;x=1", "/%2flogin"] {
        assert_eq!(status("203.0.113.4", &format!("GET {path}")), 401, "{path}");
    }
    assert_eq!(status("203.0.113.4", "GET /"), 403);
    // All of IPv4 behind a translator is not one client.
    for _ in 0..3 {
        assert_eq!(status("64:ff9b::203.0.113.5", "GET /login"), 401);
    }
    assert_eq!(status("64:ff9b::203.0.113.5", "GET /"), 403);
    assert_eq!(status("64:ff9b::203.0.113.6", "GET /"), 200);
}

#[test]
fn people_ban_and_lift_at_once_and_are_told_why_not() {
    let (app, storage) = (app(), Folder::new());
    let gateway = Gateway::start(config(&app, &storage, LOGINS));
    let (to, admin) = (gateway.address(), gateway.admin());
    guess(to, "203.0.113.9");
    let ended = ban(admin, &["add", "203.0.113.20", "--for", "1h", "--reason", "asked \"twice\" & again"]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""));
    assert_eq!(ask(to, "203.0.113.20", "GET /", "").status, 403);
    let list = json(&ban(admin, &["list", "--json"]).out);
    let find =
        |client: &str| list["bans"].as_array().unwrap().iter().find(|ban| ban["client"] == client).unwrap().clone();
    let (guesser, odd) = (find("203.0.113.9"), find("203.0.113.20"));
    assert_eq!(
        (&guesser["policy"], &guesser["offence"], &guesser["count"]),
        (&"logins".into(), &"status 401".into(), &1.into())
    );
    assert_eq!((&odd["policy"], &odd["text"]), (&"by_hand".into(), &"asked \"twice\" & again".into()));
    let table = ban(admin, &["list"]).out;
    assert!(
        table.starts_with("CLIENT")
            && table.contains("203.0.113.20")
            && (table.contains("59m") || table.contains("1h")),
        "{table}"
    );

    let why = ban(admin, &["why", "203.0.113.9"]);
    assert_eq!(why.code, Some(1));
    assert!(why.out.contains("is banned for ") && why.out.contains("status 401: POST /login"), "{}", why.out);
    assert_eq!(login(to, "203.0.113.30", "guess"), 401);
    let why = eventually("the offence is counted", || {
        Some(ban(admin, &["why", "203.0.113.30"])).filter(|why| why.out.contains(" of 5 offences"))
    });
    assert_eq!((why.code, &*why.out), (Some(0), "203.0.113.30 is not banned; 1 of 5 offences in 10m (logins)\n"));

    let ended = ban(admin, &["lift", "203.0.113.9"]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""));
    assert_eq!(login(to, "203.0.113.9", "right"), 200);
    assert_eq!(ban(admin, &["lift", "203.0.113.9"]).err, "nobody was banned\n");
    let ended = ban(admin, &["lift", "--all"]);
    assert_eq!((ended.code, &*ended.err), (Some(0), "1 lifted\n"));
    assert_eq!(ask(to, "203.0.113.20", "GET /", "").status, 200);

    for (address, words) in [
        ("198.51.100.2", "trusted proxy"),
        ("127.0.0.1", "this machine"),
        ("10.0.0.7", "network `internal`"),
        ("203.0.113.0/24", "not an address that can be banned"),
        ("example.com", "not an address that can be banned"),
    ] {
        let ended = ban(admin, &["add", address]);
        assert!(ended.code == Some(1) && ended.err.contains(words), "{address}: {}", ended.err);
    }
    assert_eq!(ban(admin, &["add", "198.51.100.2", "--force"]).code, Some(1), "not even then");
    assert_eq!(ban(admin, &["add", "10.0.0.7", "--force"]).code, Some(0));
    assert_eq!(ask(to, "10.0.0.7", "GET /", "").status, 403);
    assert_eq!(ban(admin, &["add", "203.0.113.9", "--for", "soon"]).code, Some(64));
    assert_eq!(ban(admin, &["lift"]).code, Some(64));
    // Whom the gateway has seen is for those who may ask for it: here, for whoever is on this machine and is no page of the Web.
    assert_eq!(crate::harness::get_admin(admin, "/bans").status, 200);
    let elsewhere = exchange(admin, "GET /bans HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(elsewhere.status, 403);
}

#[test]
fn bans_stay_over_reloads_restarts_and_hand_overs() {
    let (app, storage, meeting) = (app(), Folder::new(), Folder::new());
    let socket = meeting.path().join("private/upgrade.sock");
    let [to, admin] = [free_address(), free_address()];
    let text = listening_on(&config(&app, &storage, LOGINS), &[to])
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
    guess(to, "203.0.113.9");
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    assert_eq!(login(to, "203.0.113.9", "right"), 403);

    gateway.signal("TERM");
    gateway.wait_exit();
    let mut gateway = start(&[]).start();
    wait_ready(&gateway);
    assert_eq!(login(to, "203.0.113.9", "right"), 403);
    assert_eq!(login(to, "203.0.113.10", "right"), 200);

    // What the old process has found out until the end, the new one knows.
    assert_eq!(ban(admin, &["add", "203.0.113.13"]).code, Some(0));
    let next = start(&["--upgrade"]).spawn();
    eventually("the new process waits for the sockets", || is_waited_on(&socket).then_some(()));
    // It waits for some seconds only, of which a busy machine may need more.
    next.signal("STOP");
    guess(to, "203.0.113.11");
    for arguments in [&["lift", "203.0.113.9"][..], &["lift", "203.0.113.13"], &["add", "203.0.113.13", "--for", "10m"]]
    {
        assert_eq!(ban(admin, arguments).code, Some(0));
    }
    next.signal("CONT");
    gateway.signal("QUIT");
    gateway.wait_exit();
    eventually("the new process answers", || (login(to, "203.0.113.11", "right") == 403).then_some(()));
    assert_eq!(login(to, "203.0.113.9", "right"), 200, "lifted while the new process started");
    let why = json(&ban(admin, &["why", "203.0.113.13", "--json"]).out);
    let left = why["policies"].as_array().unwrap().iter().find_map(|policy| policy["last"]["left"].as_u64());
    assert!(left.is_some_and(|left| (1..=600).contains(&left)), "{why}");
    assert_eq!(ban(admin, &["add", "203.0.113.12"]).code, Some(0));

    // Killed, it has lost nothing that was said to be kept.
    let mut next = next;
    next.signal("KILL");
    next.wait_exit();
    let gateway = start(&[]).start();
    wait_ready(&gateway);
    assert_eq!(login(to, "203.0.113.12", "right"), 403);
    drop(gateway);
    std::fs::write(storage.path().join("bans.json"), "{\"half").unwrap();
    let gateway = start(&[]).start();
    gateway.wait_for_log(|line| line["message"] == "bans can not be read: nobody is banned");
    assert_eq!(login(to, "203.0.113.12", "right"), 200);
}

#[test]
fn explain_says_which_bans_may_meet_a_client_and_why_they_never_do() {
    let folder = Folder::new();
    let text = format!("{TRUSTED}\n{LOGINS}\n  scans: {{offences: {{status: [404], invalid: true}}, max_offences: 20, except: [office]}}\nnetworks: {{office: [198.51.100.64/26]}}\nservices: {{app: {{upstream: {{servers: [\"127.0.0.1:8000\"]}}}}}}\n")
        .replace("bans: {logins: {", "bans:\n  logins: {")
        .replace("mode: enforce}}", "mode: enforce}");
    let file = folder.write("probegate.yaml", text);
    let explained = |client: &str, url: &str| {
        let field = format!("X-Forwarded-For: {client}");
        let ended = run(probegate(["explain", "--from", "127.0.0.2", "-H", &field, "GET", url, "-c"]).arg(&file));
        let lines = ended.out.lines().filter_map(|line| line.strip_prefix("ban       ").map(str::to_owned));
        (lines.collect::<Vec<_>>(), ended.out)
    };
    let (lines, text) = explained("203.0.113.9", "/x");
    assert!(
        lines.len() == 2
            && lines[0].starts_with("`logins` (")
            && lines[0].contains("keeps 203.0.113.9 out after 5 offences in 600 s (status 401)"),
        "{text}"
    );
    assert!(
        lines[1].contains("would keep 203.0.113.9 out after 20 offences in 600 s (invalid, status 404)")
            && lines[1].contains("(shadow)"),
        "{text}"
    );
    for (client, words) in [
        ("198.51.100.2", "198.51.100.2 is a trusted proxy"),
        ("198.51.100.70", "198.51.100.70 is in network `office`"),
        ("10.1.2.3", "10.1.2.3 is in network `internal`"),
        ("garbage", "nobody knows the client"),
    ] {
        let (lines, text) = explained(client, "/x");
        assert!(lines.iter().any(|line| line.contains(words)), "{client}: {text}");
    }
    let (lines, text) = explained("203.0.113.9", "/healthz");
    assert!(lines.iter().all(|line| line.contains("probes have rules of their own")) && lines.len() == 2, "{text}");
}
