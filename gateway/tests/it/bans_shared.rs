//! Bans that gateways tell each other through the store of shared limits: added, lifted, grown, kept to those who may be banned, and what happens without the store.

mod faults;
mod order;

use std::net::SocketAddr;

use serde_json::Value;

use crate::harness::{
    Builder, Client, Config, Ended, Folder, Gateway, Redis, Reply, Request, Resp, Upstream, eventually, metric, ok,
    probegate, run,
};

/// 127.0.0.2 is a proxy that is believed: it says whose requests these are.
const PROXY: [u8; 4] = [127, 0, 0, 2];
const GUESSES: &str = "bans: {guesses: {offences: {status: [401]}, mode: enforce}}";
const PASSWORD: &str = "3f9a0c5d77e24c1b8a6e5d4f3c2b1a09";
const CLIENT: &str = "203.0.113.9";

fn app() -> Upstream {
    Upstream::answering(|request: &Request| match &*request.target() {
        "/guess" => b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ok("answered"),
    })
}

/// A gateway with a folder of its own.
struct One {
    gateway: Gateway,
    storage: Folder,
}

fn gateway(app: &Upstream, url: &str, bans: &str) -> One {
    start(app, &format!("redis: \"{url}\""), bans)
}

/// One with more to say about the store.
fn start(app: &Upstream, store: &str, bans: &str) -> One {
    let storage = Folder::new();
    let config = Config::before(app)
        .top(&format!("storage: {}\nclient_ip: {{trusted_proxies: [\"127.0.0.2/32\"]}}", storage.path().display()))
        .top("limits: {all: {rate: 1000/s, burst: 999, shared: true}}")
        .top(&format!("limit_store: {{replicas: 2, timeout: 900ms, {store}}}"))
        .top(bans)
        .service("limits: [all]");
    One { gateway: of(config).start(), storage }
}

fn of(config: impl ToString) -> Builder {
    Gateway::with(config).env("REDIS_PASSWORD", PASSWORD)
}

impl One {
    fn ask(&self, client: &str, target: &str) -> u16 {
        let mut connection = Client::connect_from(PROXY, self.gateway.address());
        connection.send(format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\nConnection: close\r\n\r\n"
        ));
        connection.response().status
    }

    /// Guesses until the client is banned.
    fn guess(&self, client: &str) {
        assert_eq!((0..5).map(|_| self.ask(client, "/guess")).collect::<Vec<_>>(), [401; 5]);
        assert_eq!(self.ask(client, "/"), 403);
    }

    fn is_out(&self, client: &str, is_out: bool) {
        let status = if is_out { 403 } else { 200 };
        eventually("the others have heard of it", || (self.ask(client, "/") == status).then_some(()));
    }

    fn ban(&self, arguments: &[&str]) -> Ended {
        let ended = ban(self.gateway.admin(), arguments);
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        ended
    }

    /// What is known about a client by this policy.
    fn last(&self, client: &str, policy: &str) -> Value {
        let ended = ban(self.gateway.admin(), &["why", client, "--json"]);
        let all: Value = serde_json::from_str(&ended.out).unwrap();
        let mut policies = all["policies"].as_array().unwrap().iter();
        let mut last = policies.find(|known| known["policy"] == policy).unwrap()["last"].clone();
        // It is less each second.
        last.as_object_mut().map(|fields| fields.remove("left"));
        last
    }
}

fn ban(admin: SocketAddr, arguments: &[&str]) -> Ended {
    let arguments: Vec<&str> = ["ban"].into_iter().chain(arguments.iter().copied()).collect();
    run(probegate(&arguments).arg("--admin").arg(admin.to_string()).env_remove("PROBEGATE_ADMIN_TOKEN"))
}

#[test]
fn what_one_gateway_bans_and_lifts_all_know() {
    let (redis, app) = (Redis::start(), app());
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis.url(), GUESSES));
    one.guess(CLIENT);
    two.is_out(CLIENT, true);
    let last = two.last(CLIENT, "guesses");
    assert_eq!((&last["text"], &last["count"]), (&"status 401: GET /guess".into(), &1.into()));
    let line = two.gateway.wait_for_log(|line| line["message"] == "client is banned by another gateway");
    assert_eq!((&line["client"], &line["policy"]), (&CLIENT.into(), &"guesses".into()));
    assert_eq!(one.last(CLIENT, "guesses"), two.last(CLIENT, "guesses"));

    // One that comes later hears of it as well, and another network is nobody's business.
    let three = gateway(&app, &redis.url(), GUESSES);
    three.is_out(CLIENT, true);
    assert_eq!(three.ask("203.0.113.10", "/"), 200);

    two.ban(&["lift", CLIENT]);
    assert_eq!(two.ask(CLIENT, "/"), 200);
    one.is_out(CLIENT, false);
    three.is_out(CLIENT, false);
    assert!(one.last(CLIENT, "guesses").is_null(), "it begins with the first ban");

    // By hand, and all at once.
    three.ban(&["add", "2001:db8::7", "--for", "1h", "--reason", "asked for"]);
    one.is_out("2001:db8::99", true);
    assert_eq!(one.last("2001:db8::7", "by_hand")["text"], "asked for");
    one.guess(CLIENT);
    two.is_out(CLIENT, true);
    two.is_out("2001:db8::7", true);
    one.ban(&["lift", "--all"]);
    for gateway in [&two, &three] {
        gateway.is_out(CLIENT, false);
        gateway.is_out("2001:db8::7", false);
    }
    assert!(metric(&one.gateway, "probegate_ban_store_connected") > 0.5);
    assert!(metric(&two.gateway, "probegate_ban_store_changes_total{direction=\"received\"}") > 2.5);
    // The store keeps nothing for ever.
    let Reply::List(keys) = redis.run(&["KEYS", "probegate:{bans}:*"]) else { panic!("no list") };
    assert_eq!(keys.len(), 4, "{keys:?}");
    for key in keys {
        let Reply::Text(key) = key else { panic!("no name") };
        assert!(matches!(redis.run(&["TTL", &key]), Reply::Number(1..)), "{key}");
    }
}

#[test]
fn bans_grow_wherever_the_next_one_is_pronounced() {
    let (redis, app) = (Redis::start(), app());
    let bans = GUESSES.replace("mode", "time: 2s, multipliers: [1, 300], mode");
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis.url(), &bans));
    one.guess(CLIENT);
    eventually("the other has heard of the first one", || (two.last(CLIENT, "guesses")["count"] == 1).then_some(()));
    two.is_out(CLIENT, false);
    // It is remembered where the store has forgotten it.
    redis.run(&["FLUSHALL"]);
    let three = gateway(&app, &redis.url(), &bans);
    eventually("who comes later has heard of it", || (three.last(CLIENT, "guesses")["count"] == 1).then_some(()));
    two.guess(CLIENT);
    let last = two.last(CLIENT, "guesses");
    assert_eq!(
        (last["count"].as_u64(), last["until"].as_u64().unwrap() - last["since"].as_u64().unwrap()),
        (Some(2), 600)
    );
    one.is_out(CLIENT, true);
    assert_eq!(one.last(CLIENT, "guesses")["count"], 2);
}

#[test]
fn nobody_is_banned_who_may_not_be_here_and_shadows_stay_shadows() {
    let (redis, app) = (Redis::start(), app());
    let one = gateway(&app, &redis.url(), GUESSES);
    let two = gateway(
        &app,
        &redis.url(),
        &GUESSES
            .replace("mode", "except: [office], mode")
            .replace("bans:", "networks: {office: [203.0.113.0/28]}\nbans:"),
    );
    let three = gateway(&app, &redis.url(), &GUESSES.replace("enforce", "shadow"));
    let none = gateway(
        &app,
        &redis.url(),
        &GUESSES
            .replace("mode: enforce", "mode: enforce}, others: {offences: {status: [418]}, mode: enforce")
            .replace("guesses", "elsewhere"),
    );
    one.guess(CLIENT);
    // Later, so that whoever has heard of this one has heard of the other.
    one.guess("203.0.113.99");
    two.is_out("203.0.113.99", true);
    assert_eq!(two.ask(CLIENT, "/"), 200, "it belongs to the office here");
    one.ban(&["add", "203.0.113.55", "--for", "1h"]);
    for gateway in [&three, &none] {
        gateway.is_out("203.0.113.55", true);
        assert_eq!((gateway.ask(CLIENT, "/"), gateway.ask("203.0.113.99", "/")), (200, 200));
    }
}

#[test]
fn without_the_store_each_goes_on_alone_and_afterwards_all_know_all() {
    let (mut redis, app) = (Redis::start(), app());
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis.url(), GUESSES));
    one.guess(CLIENT);
    two.is_out(CLIENT, true);
    redis.kill();
    for gateway in [&one, &two] {
        gateway.gateway.wait_for_log(|line| {
            line["message"].as_str().is_some_and(|text| text.starts_with("bans are not shared with other gateways"))
        });
        // What was banned is banned.
        assert_eq!(gateway.ask(CLIENT, "/"), 403);
    }
    one.guess("203.0.113.20");
    assert_eq!(two.ask("203.0.113.20", "/"), 200);
    two.ban(&["lift", CLIENT]);
    assert_eq!((one.ask(CLIENT, "/"), two.ask(CLIENT, "/")), (403, 200));
    // It has forgotten everything.
    redis.start_again();
    two.is_out("203.0.113.20", true);
    one.is_out(CLIENT, false);
    for gateway in [&one, &two] {
        gateway.gateway.wait_for_log(|line| line["message"] == "bans are shared with other gateways again");
        assert_eq!((gateway.ask(CLIENT, "/"), gateway.ask("203.0.113.20", "/")), (200, 403));
    }
    // It forgets while nobody loses sight of it: whoever comes later hears of everything all the same.
    redis.run(&["FLUSHALL"]);
    eventually("it is told again", || {
        matches!(redis.run(&["HLEN", "probegate:{bans}:records"]), Reply::Number(1..)).then_some(())
    });
    gateway(&app, &redis.url(), GUESSES).is_out("203.0.113.20", true);
}

#[test]
fn a_user_with_the_documented_rights_will_do_and_without_them_limits_go_on() {
    let redis = Redis::with(&["--requirepass", "root"]);
    let mut root = Resp::connect(redis.address());
    assert_eq!(root.run(&["AUTH", "root"]), Reply::Text("OK".to_owned()));
    let page = include_str!("../../docs/shared-limits.md");
    let mut lines = page.lines().filter(|line| line.starts_with("ACL SETUSER "));
    let mut allow = || {
        let line = lines.next().unwrap().replace("PASSWORD", PASSWORD);
        assert_eq!(root.run(&line.split(' ').collect::<Vec<_>>()), Reply::Text("OK".to_owned()), "{line}");
    };
    allow();
    let app = app();
    let store = format!("redis: \"{}\", user: probegate, password: {{env: REDIS_PASSWORD}}", redis.url());
    let [one, two] = [(); 2].map(|()| start(&app, &store, GUESSES));
    let line = one.gateway.wait_for_log(|line| line["reason"] == "refused");
    assert!(line["message"].as_str().unwrap().starts_with("bans are not shared"), "{line}");
    assert_eq!(one.ask(CLIENT, "/"), 200);
    assert!(metric(&one.gateway, "probegate_limit_store_decisions_total{by=\"store\"}") > 0.5);
    allow();
    one.guess(CLIENT);
    two.is_out(CLIENT, true);
}

#[test]
fn clusters_tell_as_well_and_whoever_does_not_want_to_is_left_alone() {
    let (nodes, app) = (Redis::cluster(3), app());
    let store = format!("redis: [\"{}\"], cluster: true", nodes[0].url());
    let start = |more: &str| start(&app, &format!("{store}{more}"), GUESSES);
    let (one, two, alone) = (start(""), start(""), start(", bans: false"));
    one.guess(CLIENT);
    two.is_out(CLIENT, true);
    assert_eq!(alone.ask(CLIENT, "/"), 200);
}

/// A server that is short of memory takes one key and leaves the others.
#[test]
fn a_store_that_has_lost_one_of_its_four_keys_is_told_everything_again() {
    let (redis, app) = (Redis::start(), app());
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis.url(), GUESSES));
    let add = |gateway: &One, client: &str| drop(gateway.ban(&["add", client, "--for", "1h"]));
    for (number, key) in (10..).zip(["about", "records", "numbers", "ends"]) {
        let [before, stays, goes, comes] = [1, 2, 3, 4].map(|part| format!("203.0.113.{number}{part}"));
        for client in [&before, &stays, &goes] {
            add(&one, client);
            two.is_out(client, true);
        }
        two.ban(&["lift", &before]);
        one.is_out(&before, false);

        assert_eq!(redis.run(&["DEL", &format!("probegate:{{bans}}:{key}")]), Reply::Number(1));
        add(&two, &comes);
        one.is_out(&comes, true);
        one.ban(&["lift", &goes]);
        two.is_out(&goes, false);
        let three = gateway(&app, &redis.url(), GUESSES);
        for gateway in [&one, &two, &three] {
            gateway.is_out(&stays, true);
            gateway.is_out(&comes, true);
            gateway.is_out(&goes, false);
            gateway.is_out(&before, false);
        }
        // Each of them is known to the store in full, and will be forgotten in time.
        for client in [&stays, &comes] {
            let name = format!("ban by_hand enforce {client}");
            for (command, key) in [("HGET", "records"), ("ZSCORE", "numbers"), ("ZSCORE", "ends")] {
                eventually("it is there", || {
                    let reply = redis.run(&[command, &format!("probegate:{{bans}}:{key}"), &name]);
                    matches!(reply, Reply::Text(_)).then_some(())
                });
            }
        }
    }
}

#[test]
fn a_lift_that_not_everybody_has_heard_of_survives_a_store_that_forgets() {
    let (redis, app) = (Redis::start(), app());
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis.url(), GUESSES));
    one.guess(CLIENT);
    two.is_out(CLIENT, true);
    two.gateway.signal("STOP");
    one.ban(&["lift", CLIENT]);
    let text = |words: &[&str]| if let Reply::Text(text) = redis.run(words) { Some(text) } else { None };
    let lift = format!("lift {CLIENT}");
    eventually("the store has heard of it", || text(&["HGET", "probegate:{bans}:records", &lift]));
    redis.run(&["DEL", "probegate:{bans}:records"]);
    eventually("it hears of it again", || text(&["HGET", "probegate:{bans}:records", &lift]));
    two.gateway.signal("CONT");
    two.is_out(CLIENT, false);
    // It has told of its ban, and nobody has believed it.
    let three = gateway(&app, &redis.url(), GUESSES);
    three.is_out(CLIENT, false);
    assert_eq!(one.ask(CLIENT, "/"), 200);
}
