//! One ask is one observation, and what was observed is told to people.

use super::*;

#[test]
fn whoever_answers_too_late_fails_however_often_somebody_asks() {
    // Later than the aggregate waits, and in time for the probe.
    let app = Upstream::answering(|_| {
        std::thread::sleep(Duration::from_millis(600));
        ok("{}")
    });
    let quick = saying("200 OK");
    for fall in [1, 3] {
        let text = config(
            &[
                ("shop", app.server(), "probes: {readyz: {timeout: 30s, cache: {ok: 100ms}}}"),
                ("blog", quick.server(), ""),
            ],
            &format!(
                "  all: {{path: /readyz, timeout: 300ms, fall: {fall}, rise: 2, services: {{required: [shop]}}}}\n"
            ),
        );
        let gateway = Gateway::start(&text);
        // Somebody else had the app asked, so that nobody here waits for all of it.
        let probe = ask(&gateway, 1, NEAR, "GET /shop/readyz HTTP/1.1\r\nHost: a");
        assert_eq!(probe.status, 200);
        let until = Instant::now() + Duration::from_secs(4);
        while Instant::now() < until {
            let (status, body) = readyz(&gateway);
            assert_eq!(status, 503, "{body}");
            assert_eq!(body["checks"]["shop"]["reason"], "probe_timeout", "{body}");
        }
    }
}

#[test]
fn what_has_started_slowly_has_started() {
    let app = Upstream::answering(|_| {
        std::thread::sleep(Duration::from_millis(600));
        ok("{}")
    });
    let text = config(
        &[("shop", app.server(), "probes: {startupz: {latch: true, timeout: 30s}}"), ("blog", app.server(), "")],
        "  all: {path: /readyz, probe: startupz, timeout: 300ms, services: {required: [shop]}}\n",
    );
    let gateway = Gateway::start(&text);
    assert_eq!(readyz(&gateway).0, 503);
    eventually("it has started", || (readyz(&gateway).0 == 200).then_some(()));
}

#[test]
fn status_shows_aggregates_to_people_and_programs() {
    let (good, bad) = (saying("200 OK"), saying("503 Not now"));
    let gateway = Gateway::start(config(
        &[("good", good.server(), ""), ("bad", bad.server(), "")],
        "  all: {path: /readyz, services: {required: [good], optional: [bad]}}\n  none: {path: /none}\n",
    ));
    assert_eq!(readyz(&gateway).0, 200);
    let status = |more: &[&str]| {
        let admin = gateway.admin().to_string();
        let ended = run(&mut probegate([&["status", "--admin", &admin], more].concat()));
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        ended.out
    };
    let told: Value = serde_json::from_str(&status(&["--json"])).unwrap();
    let [all, none] = &**told["aggregates"].as_array().unwrap() else { panic!("{told}") };
    assert_eq!((&all["aggregate"], &all["status"], &none["status"]), (&json!("all"), &json!("warn"), &json!("fail")));
    assert_eq!(all["checks"][1], json!({"name": "bad", "required": false, "passes": false, "reason": "status_503"}));
    let people = status(&[]);
    let line = people.lines().find(|line| line.starts_with("all ")).unwrap_or_else(|| panic!("{people}"));
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["all", "/readyz", "warn", "probes", "bad", "status_503"]);
}
