//! Limits that gateways share and that count otherwise: in fixed windows, and by answers.

use std::sync::Arc;
use std::thread;

use super::{gateway, gateway_with};
use crate::harness::{Gate, Gateway, Redis, Reply, Upstream, eventually, exchange, get, metric, wait_for_metric};
use crate::limit_counts::{calm, get_from, guess, login, while_others_are_under_way_nobody_knows};

const FAILURES: &str = "limits: {login: {rate: 5/h, count: {status: [401]}, shared: true}}";

/// Milliseconds of debt in the store: how long the only key lives, about; 0: there is none.
fn debt(redis: &Redis) -> i64 {
    let Some(key) = redis.run(&["KEYS", "*login*"]).texts().pop() else { return 0 };
    let Reply::Number(left) = redis.run(&["PTTL", &key]) else { panic!() };
    left
}

/// Waits until the store knows of so many failures. Each is twelve minutes.
fn known(redis: &Redis, failures: i64) {
    eventually("the store knows", || (debt(redis) > failures * 720_000 - 360_000).then_some(()));
}

#[test]
fn failed_logins_are_counted_over_all_gateways_and_good_ones_are_not() {
    let redis = Redis::start();
    let app = login();
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis, FAILURES, "limits: [login]"));
    for _ in 0..20 {
        assert_eq!([guess(&one, "right"), guess(&two, "right")], [200, 200]);
    }
    assert_eq!(debt(&redis), 0, "nothing was charged");
    for (failures, gateway) in (1..).zip([&one, &two, &one, &two, &one]) {
        assert_eq!(guess(gateway, "wrong"), 401);
        known(&redis, failures);
    }
    assert_eq!(["wrong", "right"].map(|password| (guess(&one, password), guess(&two, password))), [(429, 429); 2]);
    assert_eq!(app.requests().len(), 45);
    let refused = exchange(two.address(), "POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let after: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((600..=720).contains(&after), "one guess is earned back in twelve minutes: {after}");
    // Whoever is over it is remembered.
    let asked = metric(&two, "probegate_limit_store_call_duration_seconds_count");
    assert_eq!([(); 5].map(|()| guess(&two, "right")), [429; 5]);
    assert!((metric(&two, "probegate_limit_store_call_duration_seconds_count") - asked).abs() < 0.5);
}

/// A client that asks as fast as it is answered: what one gateway has told the store, it has told before it asks for the next request.
#[test]
fn a_client_of_one_gateway_gets_exactly_what_the_limit_says() {
    let redis = Redis::start();
    let app = login();
    let gateway = gateway(&app, &redis, FAILURES, "limits: [login]");
    let guesses: String =
        (0..12).map(|_| "POST /login?wrong HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").collect();
    let mut client = crate::harness::Client::connect(gateway.address());
    client.send(&guesses);
    let seen: Vec<u16> = (0..12).map(|_| client.response().status).collect();
    assert_eq!(seen, [[401; 5].as_slice(), &[429; 7]].concat());
}

/// The slack that the documentation names: guesses at the same time, through several gateways. It is paid off, so that it is had once.
#[test]
fn guesses_at_the_same_time_get_no_further_than_once_at_each_gateway() {
    let redis = Redis::start();
    let gate = Arc::new(Gate::default());
    let app = {
        let gate = Arc::clone(&gate);
        Upstream::answering(move |_| {
            gate.wait();
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_vec()
        })
    };
    let gateways = [(); 2].map(|()| gateway(&app, &redis, FAILURES, "limits: [login]"));
    let guesses: Vec<_> = (0..20)
        .map(|number| {
            let address = gateways[number % 2].address();
            thread::spawn(move || {
                exchange(address, "POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status
            })
        })
        .collect();
    for gateway in &gateways {
        wait_for_metric(gateway, "probegate_limited_total{limit=\"login\"}", 5.0);
    }
    assert_eq!(app.wait_for_requests(10).len(), 10);
    assert_eq!(debt(&redis), 0, "nothing is known yet");
    gate.open();
    let mut seen: Vec<_> = guesses.into_iter().map(|guess| guess.join().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, [[401; 10].as_slice(), &[429; 10]].concat());
    // Ten failures, where the limit is five: an hour's worth has to be paid off before the next one is let in.
    known(&redis, 10);
    let refused = exchange(gateways[0].address(), "POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let after: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((refused.status, 4000 < after && after <= 4320) == (429, true), "{after}");
}

#[test]
fn while_others_are_under_way_nobody_is_told_to_stay_away_for_an_hour() {
    let redis = Redis::start();
    let gone = crate::harness::Unreachable::refusing();
    // By the store, and by the gateway alone.
    for (url, replicas) in [(redis.url(), 3), (format!("redis://{}", gone.server()), 1)] {
        let store = format!("timeout: 900ms\nreplicas: {replicas}");
        while_others_are_under_way_nobody_knows(|app| {
            gateway_with(app, &url, FAILURES, "limits: [login]", &store).start()
        });
    }
}

#[test]
fn failures_count_along_while_the_store_is_there_and_alone_when_it_is_gone() {
    let mut redis = Redis::start();
    let app = login();
    // A share of two.
    let limits = "limits: {login: {rate: 6/h, count: {status: [401]}, shared: true}}";
    let gateway = gateway(&app, &redis, limits, "limits: [login]");
    assert_eq!([guess(&gateway, "right"), guess(&gateway, "wrong")], [200, 401]);
    known(&redis, 1);
    redis.kill();
    gateway.wait_for_log(|line| line["level"] == "WARN" && line["reason"].is_string());
    let seen = ["right", "wrong", "right"].map(|password| guess(&gateway, password));
    assert_eq!(seen, [200, 401, 429], "of the two, one was used before");
    let nobody = format!("redis://{}", crate::harness::free_address());
    let closed = gateway_with(&app, &nobody, limits, "limits: [login]", "on_failure: closed").start();
    assert_eq!(guess(&closed, "right"), 503);
    let open = gateway_with(&app, &nobody, limits, "limits: [login]", "on_failure: open").start();
    assert_eq!([(); 9].map(|()| guess(&open, "wrong")), [401; 9]);
}

#[test]
fn in_shadow_mode_failures_are_counted_and_nobody_is_refused() {
    let redis = Redis::start();
    let app = login();
    let limits = "limits: {login: {rate: 2/h, count: {status: [401]}, shared: true, mode: shadow}}";
    let gateway = gateway(&app, &redis, limits, "limits: [login]");
    assert_eq!([(); 5].map(|()| guess(&gateway, "wrong")), [401; 5]);
    wait_for_metric(&gateway, "probegate_limit_shadow_total{limit=\"login\"}", 3.0);
    let owed = debt(&redis);
    assert!((3_000_000..=3_600_001).contains(&owed), "what would have been refused is not charged: {owed}");
}

#[test]
fn gateways_have_their_fixed_windows_in_common() {
    let redis = Redis::start();
    let app = login();
    let limits = "limits: {window: {rate: 5/d, algorithm: fixed_window, shared: true}}";
    let gateways = [(); 2].map(|()| gateway(&app, &redis, limits, "limits: [window]"));
    let (client, ends) = calm();
    let ask = |gateway: usize| get_from(client, &gateways[gateway], "/?right");
    let seen: Vec<u16> = (0..8).map(|number| ask(number % 2).status).collect();
    assert_eq!(seen, [[200; 5].as_slice(), &[429; 3]].concat());
    let refused = ask(0);
    let said = redis.run(&["KEYS", "*window*"]).texts();
    let Reply::Text(state) = redis.run(&["GET", &said[0]]) else { panic!() };
    let (end, counted) = state.strip_prefix('w').unwrap().split_once(':').unwrap();
    let (end, counted): (u64, u64) = (end.parse().unwrap(), counted.parse().unwrap());
    // Where django-ratelimit ends it: at the CRC-32 of the client's address.
    assert_eq!((end, counted), (ends, 5));
    assert_eq!(refused.field("ratelimit-policy").as_deref(), Some("\"window\";q=5;w=86400"));
    let after: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    let left = end + 1 - std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((left..=left + 60).contains(&after), "{after} {left}");
}

#[test]
fn a_window_goes_on_with_a_share_of_its_count_when_the_store_goes() {
    let mut redis = Redis::start();
    let app = login();
    let limits = "limits: {window: {rate: 9/d, algorithm: fixed_window, shared: true}}";
    let gateway = gateway(&app, &redis, limits, "limits: [window]");
    let ask = || get(gateway.address(), "/?right").status;
    let mut seen = vec![ask(), ask()];
    redis.kill();
    gateway.wait_for_log(|line| line["level"] == "WARN" && line["reason"].is_string());
    seen.extend([ask(), ask(), ask()]);
    // A third of nine, of which two were used; all three again, where the window ended just now.
    assert!([[200, 200, 200, 429, 429], [200; 5]].map(Vec::from).contains(&seen), "{seen:?}");
}

#[test]
fn a_share_of_the_keys_is_the_same_on_all_gateways() {
    let redis = Redis::start();
    let app = login();
    let limits = "limits: {tenant: {rate: 1/h, key: {header: X-Tenant}, enforce: 40%, shared: true}}";
    let gateways = [(); 2].map(|()| gateway(&app, &redis, limits, "limits: [tenant]"));
    let ask = |gateway: &Gateway, tenant: usize| {
        let asked = format!("GET /?right HTTP/1.1\r\nHost: a\r\nX-Tenant: {tenant}\r\n\r\n");
        exchange(gateway.address(), asked).status
    };
    let mut refused = 0;
    for tenant in 0..50 {
        assert_eq!(ask(&gateways[tenant % 2], tenant), 200);
        let seen = [ask(&gateways[0], tenant), ask(&gateways[1], tenant), ask(&gateways[0], tenant)];
        assert!(seen == [429; 3] || seen == [200; 3], "{tenant}: {seen:?}");
        refused += usize::from(seen == [429; 3]);
    }
    // The secret is the same each time, and so are they.
    assert!((5..40).contains(&refused), "{refused}");
}

/// A roll-out: some gateways have the old definition, others the new one. States of one kind say nothing to the other, and neither wipes them out.
#[test]
fn each_of_two_definitions_has_a_budget_of_its_own_and_no_more() {
    let redis = Redis::start();
    let app = login();
    let definitions = [
        "rate: 5/h, burst: 4",
        "rate: 5/d, algorithm: fixed_window",
        "rate: 5/12h, algorithm: fixed_window",
        "rate: 5/h, burst: 4, count: {status: [401]}",
    ];
    let gateways = definitions.map(|definition| {
        let limits = format!("limits: {{x: {{{definition}, shared: true}}}}");
        gateway(&app, &redis, &limits, "limits: [x]")
    });
    let mut passed = [0; 4];
    for number in 0..48 {
        match guess(&gateways[number % 4], "wrong") {
            401 => passed[number % 4] += 1,
            429 => {}
            status => panic!("{status}"),
        }
    }
    assert_eq!([passed[0], passed[3]], [5; 2], "{passed:?}");
    // A window may have ended meanwhile.
    assert!(passed[1..3].iter().all(|passed| (5..=10).contains(passed)), "{passed:?}");
    let keys = redis.run(&["KEYS", "*"]).texts();
    let mut titles: Vec<&str> = keys.iter().map(|key| key.split_once("}:").unwrap().1).collect();
    titles.sort_unstable();
    assert_eq!(titles, ["x", "x:answers", "x:w43200", "x:w86400"]);
}
