//! The admin API: each resource says what is so.

use serde_json::{Value, json};

use crate::harness::{
    Authority, Config, Gateway, Upstream, eventually, exchange, get, get_admin, ok, probegate, run, wait_for_metric,
    wait_ready,
};

/// What stands at `path`, which has to be there.
fn read(gateway: &Gateway, path: &str) -> Value {
    let answer = get_admin(gateway.admin(), path);
    assert_eq!((answer.status, answer.field("Content-Type").as_deref()), (200, Some("application/json")), "{path}");
    answer.json()
}

/// What stands at `path`, once it is so.
fn read_until(gateway: &Gateway, path: &str, mut is_so: impl FnMut(&Value) -> bool) -> Value {
    eventually(path, || Some(read(gateway, path)).filter(|value| is_so(value)))
}

/// An app whose readiness is what its script says: 200, then 503 for good.
fn app() -> Upstream {
    let asked = std::sync::atomic::AtomicU32::new(0);
    Upstream::answering(move |request| {
        if request.target() != "/readyz" || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
            ok("answered")
        } else {
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec()
        }
    })
}

#[test]
fn probes_come_with_what_the_app_said() {
    let app = app();
    let gateway = Gateway::start(Config::before(&app).service(
        "probes:\n  healthz: {serve: answer, allow: anyone}\n  readyz: {serve: forward, allow: anyone, cache: {ok: 1ms, fail: 1ms}}\n  \
         version: {serve: forward, allow: anyone, cache: off}",
    ));
    wait_ready(&gateway);
    for path in ["/readyz", "/healthz", "/version"] {
        assert_eq!(get(gateway.address(), path).status, 200, "{path}");
    }
    eventually("the app is asked three times", || {
        let asked = app.targets().iter().filter(|target| *target == "/readyz").count();
        (asked >= 3 || get(gateway.address(), "/readyz").status == 0).then_some(())
    });
    let told = read_until(&gateway, "/probes", |told| {
        let count = |probe: usize| told["services"][0]["probes"][probe]["history"].as_array().unwrap().len();
        let probes = told["services"][0]["probes"].as_array().unwrap();
        (0..probes.len()).map(count).sum::<usize>() == 4
    });
    assert_eq!(told["services"][0]["service"], "app");
    let probes = told["services"][0]["probes"].as_array().unwrap();
    let probe = |name: &str| probes.iter().find(|probe| probe["probe"] == name).unwrap();
    let (healthz, readyz, version) = (probe("healthz"), probe("readyz"), probe("version"));
    assert_eq!(
        (&healthz["origin"], &healthz["state"], &healthz["history"]),
        (&json!("gateway"), &json!("answered"), &json!([]))
    );
    assert_eq!((&readyz["state"], &readyz["path"], &readyz["open"]), (&json!("bad"), &json!("/readyz"), &json!(true)));
    let history = readyz["history"].as_array().unwrap();
    let seen: Vec<_> =
        history.iter().map(|one| (one["good"].as_bool().unwrap(), one["status"].as_u64().unwrap())).collect();
    assert_eq!(seen, [(true, 200), (false, 503), (false, 503)]);
    assert_eq!(readyz["since"], history[1]["time"], "it is bad since the second");
    assert_eq!((&readyz["last"], &readyz["shield"]["asks"]), (&history[2], &json!(3)));
    assert_eq!((&history[0]["source"], &history[0]["server"]), (&json!("miss"), &json!(app.server())));
    assert!(history[0]["ms"].as_f64().unwrap() > 0.0 && history[0]["time"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!((&version["state"], &version["shield"]), (&json!("good"), &Value::Null));
    assert_eq!((&version["history"][0]["source"], &version["history"][0]["reason"]), (&json!("bypass"), &Value::Null));
    let one = read(&gateway, "/probes/app?history=1");
    let readyz = one["probes"].as_array().unwrap().iter().find(|probe| probe["probe"] == "readyz").unwrap();
    assert_eq!(readyz["history"].as_array().unwrap(), &history[2..]);
    for (path, status) in [("/probes/shop", 404), ("/probes/app?history=999", 400), ("/probes/app?histori=1", 400)] {
        assert_eq!(get_admin(gateway.admin(), path).status, status, "{path}");
    }
}

#[test]
fn an_app_that_does_not_answer_its_probe_is_remembered_with_the_reason() {
    let nobody = crate::harness::free_address();
    let gateway = Gateway::start(Config::servers([nobody.to_string()]).service(
        "probes: {readyz: {serve: forward, allow: anyone}, startupz: {serve: forward, allow: anyone, cache: off}}",
    ));
    for path in ["/readyz", "/startupz"] {
        assert_eq!(get(gateway.address(), path).status, 502, "{path}");
        let told = read_until(&gateway, "/probes", |told| {
            told["services"][0]["probes"]
                .as_array()
                .unwrap()
                .iter()
                .any(|probe| probe["path"] == path && probe["state"] == "bad")
        });
        let probes = told["services"][0]["probes"].as_array().unwrap();
        let last = &probes.iter().find(|probe| probe["path"] == path).unwrap()["last"];
        assert_eq!((&last["status"], &last["reason"]), (&Value::Null, &json!("upstream_unreachable")), "{last}");
    }
}

#[test]
fn the_last_denials_say_who_was_kept_out_and_by_what() {
    let app = Upstream::answering(|_| ok("answered"));
    let gateway = Gateway::start(
        Config::before(&app)
            .workers(2)
            .top("limits: {narrow: {rate: 1/h, burst: 0}}\nnetworks: {office: [\"192.0.2.0/24\"]}")
            .service("routes:\n  - {path: /inside, allow: {network: office}}\n  - {path: /narrow, limits: [narrow]}"),
    );
    wait_ready(&gateway);
    let to = gateway.address();
    assert_eq!(get(to, "/").status, 200);
    assert_eq!(get(to, "/inside/a?token=secret").status, 403);
    assert_eq!((get(to, "/narrow").status, get(to, "/narrow").status), (200, 429));
    assert_eq!(exchange(to, "GET /bad path HTTP/1.1\r\nHost: a\r\n\r\n").status, 400);
    let told = read_until(&gateway, "/denials", |told| told["denials"].as_array().unwrap().len() == 3);
    let denials = told["denials"].as_array().unwrap();
    let find = |reason: &str| {
        denials.iter().find(|denial| denial["reason"] == reason).unwrap_or_else(|| panic!("{reason} in {told}"))
    };
    let inside = find("outside_network");
    for (key, value) in [
        ("path", json!("/inside/a")),
        ("path_cut", json!(false)),
        ("host_cut", json!(false)),
        ("scheme", json!("http")),
        ("port", json!(null)),
        ("service", json!("app")),
        ("policy", json!("route:/inside")),
        ("method", json!("GET")),
        ("status", json!(403)),
        ("decision", json!("deny")),
        ("client", json!("127.0.0.1")),
        ("client_known", json!(true)),
    ] {
        assert_eq!(inside[key], value, "{key}");
    }
    assert!(inside["line"].as_u64().unwrap() > 1);
    assert_eq!(gateway.access("/inside/a?token=[redacted]")["request_id"], inside["request_id"]);
    assert!(!told.to_string().contains("secret"));
    let limited = find("limit_exceeded");
    assert_eq!((&limited["policy"], &limited["decision"]), (&json!("limit:narrow"), &json!("limit")));
    assert_eq!(denials.iter().filter(|denial| denial["decision"] == "refuse").count(), 1);
    let times: Vec<_> = denials.iter().map(|denial| denial["time"].as_u64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    assert_eq!(read(&gateway, "/denials?most=1")["denials"].as_array().unwrap().len(), 1);
    assert_eq!(get_admin(gateway.admin(), "/denials?most=0").status, 400);
}

#[test]
fn limits_and_what_is_in_shadow_mode_are_told() {
    let app = Upstream::answering(|_| ok("answered"));
    let gateway = Gateway::start(
        Config::before(&app)
            .top("limits:\n  hard: {rate: 1/h, burst: 0}\n  soft: {rate: 1/h, burst: 0, mode: shadow}\n  few: {max_in_flight: 3}")
            .service("limits: [few]\nroutes: [{path: /hard, limits: [hard]}, {path: /soft, limits: [soft]}]"),
    );
    wait_ready(&gateway);
    let to = gateway.address();
    assert_eq!([get(to, "/hard").status, get(to, "/hard").status], [200, 429]);
    assert_eq!([get(to, "/soft").status, get(to, "/soft").status], [200, 200]);
    let told = read_until(&gateway, "/limits", |told| {
        let limits = told["limits"].as_array().unwrap();
        let is =
            |name: &str, so: &dyn Fn(&Value) -> bool| limits.iter().any(|limit| limit["limit"] == name && so(limit));
        // A place is given back a moment after the answer.
        is("soft", &|soft| soft["would_refuse"] == 1) && is("few", &|few| few["in_flight"]["requests"] == 0)
    });
    let limit = |name: &str| told["limits"].as_array().unwrap().iter().find(|limit| limit["limit"] == name).unwrap();
    let (hard, soft, few) = (limit("hard"), limit("soft"), limit("few"));
    assert_eq!((&hard["refused"], &hard["mode"], &hard["services"]), (&json!(1), &json!("enforce"), &json!(["app"])));
    assert_eq!((&soft["refused"], &soft["mode"]), (&json!(0), &json!("shadow")));
    assert_eq!((&few["terms"], &few["in_flight"]["requests"]), (&json!("3 in flight"), &json!(0)));
    assert_eq!((&hard["requests"], &hard["over"]), (&json!(2), &json!(1)));
    let shadow = read(&gateway, "/shadow");
    assert_eq!(shadow["limits"][0]["limit"], "soft");
    assert_eq!((&shadow["limits"][0]["would_refuse"], &shadow["bans"]), (&json!(1), &json!([])));
}

#[test]
fn the_status_has_everything_at_a_glance() {
    let app = Upstream::answering(|_| ok("answered"));
    let authority = Authority::new("an authority");
    let issued = authority.issue(&["shop.example.com", "*.example.org"]);
    let text = Config::before(&app).to_string().replacen(
        "admin:",
        "  - address: \"127.0.0.2:0\"\n    tls: {certificates: [{cert: chain.pem, key: key.pem}]}\nadmin:",
        1,
    );
    let gateway =
        Gateway::with(text).file("chain.pem", issued.cert.as_bytes()).file("key.pem", issued.key.as_bytes()).start();
    wait_ready(&gateway);
    for _ in 0..5 {
        get(gateway.address(), "/");
    }
    wait_for_metric(&gateway, "probegate_requests_total{service=\"app\",code=\"200\"}", 5.0);
    let status = read_until(&gateway, "/status", |status| {
        status["services"][0]["traffic"]["windows"]["1m"]["requests_per_second"].as_f64().is_some_and(|rate| rate > 0.0)
    });
    assert_eq!(status["gateway"]["state"], "ready");
    assert_eq!(status["gateway"]["pid"], gateway.pid());
    assert_eq!((&status["configuration"]["generation"], &status["configuration"]["services"]), (&json!(1), &json!(1)));
    let service = &status["services"][0];
    assert_eq!((&service["service"], &service["servers"][0]["state"]), (&json!("app"), &json!("up")));
    assert_eq!((&service["traffic"]["requests"], &service["traffic"]["errors"]), (&json!(5), &json!(0)));
    assert!(service["traffic"]["windows"]["1m"]["latency_ms"]["p50"].as_f64().unwrap() > 0.0);
    let certificate = &status["certificates"]["certificates"][0];
    assert_eq!(certificate["names"], json!(["shop.example.com", "*.example.org"]));
    assert_eq!((&certificate["state"], &certificate["source"]), (&json!("valid"), &json!("file")));
    assert_eq!(certificate["issuer"], "CN=an authority");
    assert!(certificate["left"].as_u64().unwrap() > 0);
    assert_eq!((&status["bans"]["count"], &status["denials"]), (&json!(0), &json!([])));
    // A service alone comes with the course of its traffic.
    let one = read_until(&gateway, "/services/app", |one| {
        one["traffic"]["series"].as_array().is_some_and(|all| all.len() > 1)
    });
    assert!(one["traffic"]["series"][0]["time"].as_u64().unwrap() > 1_700_000_000);
    assert!(service["traffic"].get("series").is_none());
}

#[test]
fn what_is_not_there_is_a_problem_document() {
    let app = Upstream::answering(|_| ok("answered"));
    let gateway = Gateway::start(Config::before(&app));
    let admin = gateway.admin();
    for (method, path, status, reason) in [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/services/app/", 404, "not_found"),
        ("GET", "/services/shop", 404, "unknown_service"),
        ("DELETE", "/status", 405, "method_not_allowed"),
        ("OPTIONS", "/services", 405, "method_not_allowed"),
        ("GET", "/limits?all", 400, "parameter_invalid"),
    ] {
        let answer = exchange(admin, format!("{method} {path} HTTP/1.1\r\nHost: {admin}\r\n\r\n"));
        let problem = answer.json();
        assert_eq!((answer.status, &problem["reason"]), (status, &json!(reason)), "{method} {path}");
        assert_eq!((&problem["status"], &problem["type"]), (&json!(status), &json!("about:blank")));
        assert!(!problem["title"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty());
        assert_eq!(answer.field("Content-Type").as_deref(), Some("application/problem+json"));
        assert_eq!(answer.field("Allow").is_some(), status == 405);
    }
    assert_eq!(
        exchange(admin, format!("PUT /bans HTTP/1.1\r\nHost: {admin}\r\n\r\n")).field("Allow").unwrap(),
        "GET, HEAD, DELETE"
    );
}

#[test]
fn nobody_is_told_that_a_server_is_up_of_which_nothing_is_known() {
    let app = Upstream::answering(|_| ok("answered"));
    let gateway = Gateway::start(Config::before(&app));
    wait_ready(&gateway);
    let state = || {
        let told = run(probegate(["status", "--admin"]).arg(gateway.admin().to_string())).out;
        let line =
            told.lines().find(|line| line.starts_with("app ") && line.contains(&app.server())).unwrap().to_owned();
        (line.contains(" not checked"), line.contains(" up"))
    };
    assert_eq!(state(), (true, false));
    get(gateway.address(), "/");
    eventually("it has answered", || (state() == (false, true)).then_some(()));
}
