//! The shield before an app's probes: what the app is asked, by whom, and who gets what answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{
    Client, Config, Gate, Gateway, Response, Upstream, eventually, exchange, get, metric, ok, wait_for_metric,
};

/// Long enough for nothing to end by itself during a test.
const LONG: &str = "probes: {readyz: {cache: {ok: 5m, fail: 5m}}, healthz: {cache: {ok: 5m, fail: 5m}}}";

fn source(response: &Response) -> String {
    response.field("x-probe-cache").unwrap_or_default()
}

fn ask(gateway: &Gateway, head: &str) -> Response {
    exchange(gateway.address(), format!("{head}\r\n\r\n"))
}

/// Sends a request on each of `count` connections, all at once, and reads the answers, with how long each took.
fn storm(gateway: &Gateway, path: &str, count: usize) -> Vec<(Response, Duration)> {
    let mut clients: Vec<_> = (0..count).map(|_| Client::connect(gateway.address())).collect();
    let begun = Instant::now();
    for client in &mut clients {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: app.example\r\n\r\n"));
    }
    clients.iter_mut().map(|client| (client.response(), begun.elapsed())).collect()
}

#[test]
fn a_thousand_who_ask_at_once_cost_the_app_one_request() {
    let app = Upstream::answering(|_| {
        std::thread::sleep(Duration::from_millis(300));
        ok("ready")
    });
    let gateway =
        Gateway::start(Config::before(&app).workers(2).service("probes: {readyz: {timeout: 20s, cache: {ok: 5m}}}"));
    let answers = storm(&gateway, "/readyz", 1000);
    assert!(answers.iter().all(|(answer, _)| answer.status == 200 && answer.text() == "ready"));
    let mut sources: Vec<_> = answers.iter().map(|(answer, _)| source(answer)).collect();
    sources.sort();
    sources.dedup();
    assert!(sources.iter().all(|source| ["coalesced", "hit", "miss"].contains(&&**source)), "{sources:?}");
    assert_eq!(answers.iter().filter(|(answer, _)| source(answer) == "miss").count(), 1);
    // All of them again: nobody asks the app.
    assert!(storm(&gateway, "/readyz", 1000).iter().all(|(answer, _)| source(answer) == "hit"));
    assert_eq!(app.requests().len(), 1, "the app's own count");
    wait_for_metric(&gateway, "probegate_probe_asks_total{service=\"app\",probe=\"readyz\"}", 1.0);
    let hits = "probegate_probe_answers_total{service=\"app\",probe=\"readyz\",source=\"hit\"}";
    eventually("all are counted", || (metric(&gateway, hits) >= 1000.0).then_some(()));
}

#[test]
fn the_app_is_asked_once_for_each_time_that_an_answer_serves() {
    let app = Upstream::answering(|_| ok("ready"));
    let gateway = Gateway::start(Config::before(&app).workers(2).service("probes: {readyz: {cache: {ok: 300ms}}}"));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) || app.requests().len() < 2 {
        assert_eq!(get(gateway.address(), "/readyz").status, 200);
    }
    let (asked, most) = (app.requests().len(), begun.elapsed().as_millis() / 300 + 1);
    assert!(asked >= 2 && asked as u128 <= most, "{asked} in {:?}", begun.elapsed());
}

#[test]
fn an_answer_says_where_it_comes_from_and_how_old_it_is() {
    let app = Upstream::answering(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: max-age=0, no-store\r\nSet-Cookie: session=1\r\n\
          Age: 7\r\nX-Probe-Cache: mine\r\nContent-Length: 2\r\n\r\n{}"
            .to_vec()
    });
    let gateway = Gateway::start(Config::before(&app).service(LONG));
    let begun = Instant::now();
    let age = |answer: &Response| answer.field("age").and_then(|age| age.parse::<u64>().ok());
    let first = get(gateway.address(), "/readyz");
    assert_eq!((&*source(&first), first.field("age")), ("miss", None));
    let second = get(gateway.address(), "/readyz");
    assert_eq!(&*source(&second), "hit");
    assert!(age(&second).is_some_and(|age| age <= begun.elapsed().as_secs()), "{second:?}");
    for answer in [&first, &second] {
        assert_eq!(answer.field("cache-control").as_deref(), Some("max-age=0, no-store"), "the app's word stays");
        assert_eq!(
            (
                answer.field("set-cookie"),
                answer.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-probe-cache")).count()
            ),
            (None, 1),
            "nobody's session"
        );
        assert_eq!((&*answer.text(), answer.field("content-type").as_deref()), ("{}", Some("application/json")));
    }
    let old = eventually("it grows older", || {
        Some(get(gateway.address(), "/readyz")).filter(|answer| age(answer) >= Some(1))
    });
    assert_eq!(source(&old), "hit");
    let lines: Vec<_> = eventually("they are logged", || {
        let lines: Vec<_> = gateway.access_log().into_iter().filter(|line| line["target"] == "/readyz").collect();
        (lines.len() >= 3).then_some(lines)
    });
    assert_eq!((&lines[0]["probe_cache"], &lines[0]["decision"]), (&"miss".into(), &"forward".into()));
    assert_eq!((&lines[0]["upstream_status"], &lines[0]["upstream"]), (&200.into(), &app.server().into()));
    assert_eq!(lines[0]["request_id"].as_str().map(str::to_owned), app.request().field("x-request-id"));
    assert_eq!((&lines[1]["probe_cache"], &lines[1]["decision"]), (&"hit".into(), &"answer".into()));
    assert_eq!((&lines[1]["status"], &lines[1]["upstream"]), (&200.into(), &serde_json::Value::Null));
}

#[test]
fn head_and_get_share_an_answer() {
    let app = Upstream::answering(|_| ok("four"));
    let gateway = Gateway::start(Config::before(&app).service(LONG));
    let mut client = Client::connect(gateway.address());
    for expected in ["miss", "hit"] {
        client.send("HEAD /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.response_to_head();
        assert_eq!((head.status, head.field("content-length").as_deref()), (200, Some("4")));
        assert_eq!(source(&head), expected);
    }
    client.send("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    let whole = client.response();
    assert_eq!((&*whole.text(), &*source(&whole), app.requests().len()), ("four", "hit", 1));
    let old = exchange(gateway.address(), "GET /readyz HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!((&*old.text(), &*source(&old)), ("four", "hit"));
}

#[test]
fn the_question_is_the_gateways_own() {
    let app = Upstream::answering(|_| ok("ready"));
    let gateway = Gateway::start(Config::before(&app).service(LONG));
    let asked = "GET /readyz HTTP/1.1\r\nHost: Shop.Example\r\nUser-Agent: kube-probe/1.30\r\nCookie: session=1\r\n\
                 X-Forwarded-For: 10.0.0.1\r\nX-Evil: 1\r\nAccept-Encoding: gzip\r\nIf-None-Match: *\r\nRange: bytes=0-0";
    assert_eq!(ask(&gateway, asked).text(), "ready");
    let request = app.request();
    let names: Vec<_> = request.fields().iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    for name in ["cookie", "x-evil", "accept-encoding", "if-none-match", "range"] {
        assert!(!names.iter().any(|known| known == name), "{name}: {names:?}");
    }
    assert_eq!((request.all("host"), request.all("accept")), (vec!["shop.example".into()], vec!["*/*".into()]));
    assert_eq!(request.all("user-agent"), ["probegate"]);
    for name in ["x-forwarded-for", "x-real-ip"] {
        assert_eq!(request.all(name), ["233.252.0.0"], "an address that no list calls internal");
    }
    assert_eq!(request.all("x-forwarded-proto"), ["https"]);
}

#[test]
fn another_question_is_another_answer() {
    let app = Upstream::answering(|request| {
        let host = request.field("host").unwrap_or_default();
        ok(&format!("{} {host} {}", request.target(), request.field("accept").unwrap_or_default()))
    });
    let gateway = Gateway::start(Config::before(&app).service(LONG));
    for (question, expected) in [
        ("GET /readyz HTTP/1.1\r\nHost: a", "/readyz a */*"),
        ("GET /readyz HTTP/1.1\r\nHost: a\r\nAccept: */*", "/readyz a */*"),
        ("GET /readyz?verbose HTTP/1.1\r\nHost: a", "/readyz?verbose a */*"),
        ("GET /readyz HTTP/1.1\r\nHost: b:8080", "/readyz b:8080 */*"),
        ("GET /readyz HTTP/1.1\r\nHost: a\r\nAccept: text/plain", "/readyz a text/plain"),
        ("GET /healthz HTTP/1.1\r\nHost: a", "/healthz a */*"),
    ]
    .repeat(2)
    {
        assert_eq!(ask(&gateway, question).text(), expected);
    }
    assert_eq!(app.requests().len(), 5);
}

#[test]
fn a_query_can_be_kept_from_making_another_question() {
    let app = Upstream::answering(|request| ok(&request.target()));
    let gateway = Gateway::start(Config::before(&app).service("probes: {healthz: {query: drop, cache: {ok: 5m}}}"));
    for query in ["", "?t=1", "?t=2"] {
        assert_eq!(get(gateway.address(), &format!("/healthz{query}")).text(), "/healthz");
    }
    assert_eq!(app.requests().len(), 1);
}

#[test]
fn strangers_who_make_up_questions_take_nobodys_answer_away() {
    let app = Upstream::answering(|request| ok(&request.target()));
    let gateway = Gateway::start(Config::before(&app).service(LONG));
    assert_eq!(source(&get(gateway.address(), "/healthz")), "miss");
    for number in 0..60 {
        let path = format!("/healthz?{number}");
        let answer = get(gateway.address(), &path);
        assert_eq!((&*answer.text(), &*source(&answer)), (&*path, if number < 31 { "miss" } else { "bypass" }));
    }
    assert_eq!(source(&get(gateway.address(), "/healthz")), "hit");
    let long = get(gateway.address(), &format!("/healthz?{}", "x".repeat(1100)));
    assert_eq!((long.status, &*source(&long)), (200, "bypass"));
}

#[test]
fn strangers_who_come_first_leave_the_plain_question_its_place() {
    let app = Upstream::answering(|request| ok(&request.target()));
    let service = "probes: {healthz: {cache: {ok: 5m, fail: 5m}}}";
    let outside = "networks: {internal: [\"10.0.0.0/8\", \"127.0.0.3/32\"]}";
    let gateway = Gateway::start(Config::before(&app).top(outside).service(service));
    for number in 0..60 {
        let answer = get(gateway.address(), &format!("/healthz?{number}"));
        assert_eq!(source(&answer), if number < 32 { "miss" } else { "bypass" });
    }
    // As a kubelet asks: for the address.
    let plain = format!("GET /healthz HTTP/1.1\r\nHost: {}", gateway.address());
    for expected in ["miss", "hit"] {
        let answer = ask(&gateway, &plain);
        assert_eq!((answer.status, &*answer.text(), &*source(&answer)), (200, "/healthz", expected));
    }
    // Who is known has places of its own for what is not plain.
    for expected in ["miss", "hit"] {
        let mut known = Client::connect_from([127, 0, 0, 3], gateway.address());
        known.send("GET /healthz?known HTTP/1.1\r\nHost: other.example\r\n\r\n");
        assert_eq!(source(&known.response()), expected);
    }
    // Hosts that strangers make up are not plain.
    for number in 0..2 {
        let made_up = ask(&gateway, &format!("GET /healthz HTTP/1.1\r\nHost: made-up-{number}.example"));
        assert_eq!((made_up.status, &*source(&made_up)), (200, "bypass"));
    }
}

#[test]
fn what_the_app_may_judge_a_client_by_is_asked_for_this_client() {
    let app = Upstream::answering(|request| ok(&request.field("authorization").unwrap_or_default()));
    let gateway = Gateway::start(Config::before(&app).service(LONG));
    assert_eq!(source(&get(gateway.address(), "/readyz")), "miss");
    let own = ask(&gateway, "GET /readyz HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YTpi");
    assert_eq!((&*own.text(), &*source(&own)), ("Basic YTpi", "bypass"));
    let shared = get(gateway.address(), "/readyz");
    assert_eq!((&*shared.text(), &*source(&shared)), ("", "hit"), "nobody else gets it");

    let app = Upstream::answering(|request| ok(&request.field("x-probe-token").unwrap_or_default()));
    let gateway = Gateway::with(
        Config::before(&app)
            .top("tokens: {probe: {forward: true, slots: [{name: ci, env: PROBE_TOKEN}]}}")
            .service("probes: {healthz: {cache: {ok: 5m}}, readyz: {allow: {token: probe}}}"),
    )
    .env("PROBE_TOKEN", "the-token-of-the-client-0123456789abcdef")
    .start();
    let own = ask(&gateway, "GET /healthz HTTP/1.1\r\nHost: a\r\nX-Probe-Token: one");
    assert_eq!((&*own.text(), &*source(&own)), ("one", "bypass"));
    assert_eq!(source(&get(gateway.address(), "/healthz")), "miss");
}

#[test]
fn the_rule_is_asked_for_every_client_whatever_is_known() {
    let app = Upstream::answering(|_| ok("ready"));
    let gateway = Gateway::start(
        Config::before(&app)
            .top("networks: {one: [\"127.0.0.1/32\"]}")
            .service("probes: {readyz: {allow: {network: one}, cache: {ok: 5m}}}"),
    );
    assert_eq!(get(gateway.address(), "/readyz").status, 200);
    let mut stranger = Client::connect_from([127, 0, 0, 2], gateway.address());
    stranger.send("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    let refused = stranger.response();
    assert_eq!((refused.status, refused.field("x-probe-cache"), refused.field("age")), (403, None, None));
    let post = ask(&gateway, "POST /readyz HTTP/1.1\r\nHost: a\r\nContent-Length: 0");
    assert_eq!(post.status, 405);
    assert_eq!(app.requests().len(), 1);
}

#[test]
fn everybody_who_waits_for_an_app_that_hangs_is_answered_in_time() {
    let app = Upstream::scripted(|connection| {
        connection.request();
        connection.wait_closed();
    });
    let service = "probes: {readyz: {timeout: 3s, cache: {fail: 5m}}}";
    let gateway = Gateway::start(Config::before(&app).workers(2).service(service));
    let begun = Instant::now();
    let mut answers = storm(&gateway, "/readyz", 100);
    // One who comes in the middle gets no time of its own.
    assert!(answers.iter().all(|(answer, _)| answer.status == 504), "{:?}", answers.first());
    let slowest = answers.iter().map(|(_, took)| *took).max().unwrap_or_default();
    assert!(begun.elapsed() >= Duration::from_millis(2900) && slowest < Duration::from_secs(10), "{slowest:?}");
    let next = get(gateway.address(), "/readyz");
    assert_eq!((next.status, &*source(&next)), (504, "hit"), "that it says nothing is known for a while");
    assert_eq!(app.requests().len(), 1);
    answers.clear();
    let line = gateway.wait_for_log(|line| line["target"] == "/readyz" && line["probe_cache"] == "coalesced");
    assert_eq!((&line["reason"], &line["decision"]), (&"probe_timeout".into(), &"fail".into()));
    let until = gateway.access_log();
    let durations = until.iter().filter(|line| line["target"] == "/readyz").map(|line| line["duration_ms"].as_f64());
    assert!(durations.flatten().all(|took| took < 5800.0), "as the gateway measured it");
}

#[test]
fn a_client_that_leaves_takes_nobodys_answer_away() {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::answering(move |_| {
        theirs.wait();
        ok("ready")
    });
    let gateway = Gateway::start(Config::before(&app).service(LONG));
    let mut first = Client::connect(gateway.address());
    first.send("GET /readyz HTTP/1.1\r\nHost: app.example\r\n\r\n");
    app.wait_for_requests(1);
    let mut second = Client::connect(gateway.address());
    second.send("GET /readyz HTTP/1.1\r\nHost: app.example\r\n\r\n");
    // Behind a request that has passed through the worker, the one before it waits.
    assert_eq!(get(gateway.address(), "/%zz").status, 400);
    first.reset();
    gateway.wait_for_log(|line| line["target"] == "/readyz" && line["reason"] == "client_closed");
    gate.open();
    let answer = second.response();
    assert_eq!((answer.status, &*source(&answer), app.requests().len()), (200, "coalesced", 1));
    assert_eq!(source(&get(gateway.address(), "/readyz")), "hit");
}

#[test]
fn a_bad_answer_serves_as_well_and_for_its_own_time() {
    let status = Arc::new(AtomicU16::new(503));
    let theirs = Arc::clone(&status);
    let app = Upstream::answering(move |_| {
        let status = theirs.load(Ordering::SeqCst);
        format!("HTTP/1.1 {status} X\r\nContent-Length: 3\r\n\r\n{status}")
    });
    let gateway =
        Gateway::start(Config::before(&app).service("probes: {readyz: {cache: {ok: 5m, fail: 200ms, stale: 5m}}}"));
    assert_eq!(get(gateway.address(), "/readyz").status, 503);
    let second = get(gateway.address(), "/readyz");
    assert_eq!((second.status, &*second.text()), (503, "503"));
    status.store(200, Ordering::SeqCst);
    let good =
        eventually("it recovers", || Some(get(gateway.address(), "/readyz")).filter(|answer| answer.status == 200));
    assert_eq!(source(&good), "miss");
    assert_eq!(source(&get(gateway.address(), "/readyz")), "hit");
}

#[test]
fn what_an_app_says_is_never_covered_by_what_it_said_before() {
    let status = Arc::new(AtomicU16::new(200));
    let theirs = Arc::clone(&status);
    let app = Upstream::answering(move |_| match theirs.load(Ordering::SeqCst) {
        301 => "HTTP/1.1 301 X\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n".to_owned(),
        status => format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"),
    });
    let service = "probes: {readyz: {cache: {ok: 0s, fail: 0s, stale: 5m}}}";
    let gateway = Gateway::start(Config::before(&app).service(service));
    // Flapping, every answer is the app's last word.
    for (app, seen) in [(200, 200), (503, 503), (200, 200), (301, 503), (200, 200), (500, 500), (404, 404)] {
        status.store(app, Ordering::SeqCst);
        let answer = get(gateway.address(), "/readyz");
        assert_eq!((answer.status, &*source(&answer), answer.field("location")), (seen, "miss", None), "{app}");
    }
}

#[test]
fn an_app_that_says_nothing_is_covered_only_within_the_bound() {
    let silent = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&silent);
    let app = Upstream::scripted(move |connection| {
        while connection.request().is_some() {
            if theirs.load(Ordering::SeqCst) {
                connection.wait_closed();
                return;
            }
            connection.write(ok("ready"));
        }
    });
    let service = "probes: {readyz: {timeout: 1s, cache: {ok: 100ms, fail: 100ms, stale: 6s}}}";
    let gateway = Gateway::start(Config::before(&app).service(service));
    eventually("it answers in time", || Some(get(gateway.address(), "/readyz")).filter(|it| it.status == 200));
    silent.store(true, Ordering::SeqCst);
    let stale =
        eventually("it is covered", || Some(get(gateway.address(), "/readyz")).filter(|it| source(it) == "stale"));
    assert_eq!((stale.status, &*stale.text()), (200, "ready"));
    assert!(stale.field("age").is_some());
    let bare = eventually("no longer", || Some(get(gateway.address(), "/readyz")).filter(|it| it.status != 200));
    assert_eq!(bare.status, 504);
    silent.store(false, Ordering::SeqCst);
    eventually("it is back", || Some(get(gateway.address(), "/readyz")).filter(|it| it.status == 200));
}

#[test]
fn an_answer_that_is_too_large_is_passed_on_and_not_kept() {
    let app = Upstream::answering(|request| {
        ok(&"x".repeat(if request.target().contains("large") { 70_000 } else { 64 * 1024 }))
    });
    let gateway = Gateway::start(Config::before(&app).service(LONG));
    for expected in ["bypass", "bypass"] {
        let answer = get(gateway.address(), "/healthz?large");
        assert_eq!((answer.body.len(), &*source(&answer)), (70_000, expected));
    }
    for expected in ["miss", "hit"] {
        let answer = get(gateway.address(), "/healthz");
        assert_eq!((answer.body.len(), &*source(&answer)), (64 * 1024, expected));
    }
}

#[test]
fn what_is_known_outlives_a_reload_that_asks_the_same() {
    let count = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&count);
    let app = Upstream::answering(move |_| ok(&theirs.fetch_add(1, Ordering::SeqCst).to_string()));
    let config = Config::before(&app);
    let gateway = Gateway::start(config.clone().service("probes: {readyz: {cache: {ok: 4m}}}"));
    assert_eq!(get(gateway.address(), "/readyz").text(), "0");
    let reload = |service: &str, times: f64| {
        std::fs::write(gateway.config_path(), config.clone().service(service).to_string()).unwrap();
        gateway.signal("HUP");
        eventually("it is in force", || (metric(&gateway, "probegate_reloads_total") >= times).then_some(()));
    };
    reload("probes: {readyz: {cache: {ok: 5m}, allow: anyone, deny: 404}}", 1.0);
    assert_eq!(source(&get(gateway.address(), "/readyz")), "hit");
    reload("probes: {readyz: {cache: {ok: 5m}, host: b}}", 2.0);
    assert_eq!((get(gateway.address(), "/readyz").text(), count.load(Ordering::SeqCst)), ("1".to_owned(), 2));
    reload("probes: {readyz: {cache: off, host: b}}", 3.0);
    let bare = get(gateway.address(), "/readyz");
    assert_eq!((&*bare.text(), bare.field("x-probe-cache")), ("2", None));
}

#[test]
fn who_has_started_has_started_until_nobody_was_there() {
    let address = crate::harness::free_address();
    let started = Arc::new(AtomicBool::new(false));
    let answer = |started: Arc<AtomicBool>| {
        move |_: &_| {
            let (status, text) = if started.load(Ordering::SeqCst) { ("200 OK", "yes") } else { ("503 X", "no") };
            format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}", text.len())
        }
    };
    let app = Upstream::answering_at(address, answer(Arc::clone(&started)));
    let service = "probes: {startupz: {latch: true, cache: {ok: 0s, fail: 0s}}}";
    let gateway = Gateway::start(Config::before(&app).service(service));
    assert_eq!(get(gateway.address(), "/startupz").text(), "no");
    started.store(true, Ordering::SeqCst);
    assert_eq!(get(gateway.address(), "/startupz").text(), "yes");
    // Whatever the app says now, it has started.
    started.store(false, Ordering::SeqCst);
    for _ in 0..3 {
        let answer = get(gateway.address(), "/startupz");
        assert_eq!((&*answer.text(), &*source(&answer)), ("yes", "latched"));
    }
    drop(app);
    eventually("somebody finds nobody there", || (get(gateway.address(), "/").status == 502).then_some(()));
    let _app = Upstream::answering_at(address, answer(started));
    eventually("the new one is asked", || (get(gateway.address(), "/startupz").text() == "no").then_some(()));
}
