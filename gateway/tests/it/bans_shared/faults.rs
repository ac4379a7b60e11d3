//! Stores that come back with less than they knew, that talk nonsense, and gateways that end before they have told everything.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::{CLIENT, GUESSES, One, app, gateway, of};
use crate::harness::{Redis, Reply, eventually, metric};

const BANS: &str = include_str!("../../../src/store/bans.lua");
const RECORDS: &str = "probegate:{bans}:records";

fn add(gateway: &One, client: &str) {
    gateway.ban(&["add", client, "--for", "1h"]);
}

/// What the store has heard of it.
fn record(redis: &Redis, name: &str) -> Option<String> {
    match redis.run(&["HGET", RECORDS, name]) {
        Reply::Text(text) => Some(text),
        _ => None,
    }
}

impl One {
    /// Ends it in good order, and starts another process in its place.
    pub(super) fn again(mut self) -> Self {
        self.end();
        let text = std::fs::read_to_string(self.gateway.config_path()).unwrap();
        Self { gateway: of(text).start(), storage: self.storage }
    }

    fn end(&mut self) {
        self.gateway.signal("TERM");
        assert!(self.gateway.wait_exit().success());
    }
}

/// Everybody knows of later changes than it does, and would hear nothing of what comes next.
#[test]
fn a_store_that_comes_back_with_what_it_knew_some_time_ago_is_told_the_rest() {
    let (mut redis, app) = (Redis::start(), app());
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis.url(), GUESSES));
    let [lifted, later, last] = [1, 2, 3].map(|number| format!("203.0.113.10{number}"));
    add(&one, &lifted);
    two.is_out(&lifted, true);
    assert_eq!(redis.run(&["SAVE"]), Reply::Text("OK".to_owned()));
    two.ban(&["lift", &lifted]);
    one.is_out(&lifted, false);
    for number in 20..30 {
        add(&one, &format!("203.0.113.{number}"));
    }
    add(&one, &later);
    two.is_out(&later, true);
    redis.kill();
    redis.start_again();
    let three = gateway(&app, &redis.url(), GUESSES);
    three.is_out(&later, true);
    three.is_out(&lifted, false);
    add(&three, &last);
    for gateway in [&one, &two] {
        gateway.is_out(&last, true);
        assert_eq!((gateway.ask(&lifted, "/"), gateway.ask(&later, "/")), (200, 403));
    }
}

/// At each reload, everything is heard once more.
#[test]
fn a_lift_that_is_heard_again_forgets_no_offences() {
    let (redis, app) = (Redis::start(), app());
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis.url(), GUESSES));
    for (arguments, who) in [(&["lift", CLIENT][..], "203.0.113.98"), (&["lift", "--all"], "203.0.113.99")] {
        two.ban(arguments);
        // Whoever has heard of this has heard of that.
        add(&two, who);
        one.is_out(who, true);
    }
    assert_eq!([(); 3].map(|()| one.ask(CLIENT, "/guess")), [401; 3]);
    one.gateway.signal("HUP");
    one.gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    let before = metric(&one.gateway, "probegate_ban_store_changes_total{direction=\"received\"}");
    add(&two, "203.0.113.97");
    one.is_out("203.0.113.97", true);
    assert!(metric(&one.gateway, "probegate_ban_store_changes_total{direction=\"received\"}") > before);
    assert_eq!([(); 2].map(|()| one.ask(CLIENT, "/guess")), [401; 2]);
    assert_eq!(one.ask(CLIENT, "/"), 403, "three and two are five");
}

#[test]
fn what_happened_last_is_told_before_the_process_ends() {
    let (redis, app) = (Redis::start(), app());
    for number in 1..4 {
        let mut one = gateway(&app, &redis.url(), GUESSES);
        let client = format!("203.0.113.{number}");
        eventually("it is connected", || (metric(&one.gateway, "probegate_ban_store_connected") > 0.5).then_some(()));
        one.ban(&["lift", &client]);
        one.end();
        assert!(record(&redis, &format!("lift {client}")).is_some());
    }
}

#[test]
fn a_lift_that_nobody_could_be_told_of_survives_the_process() {
    let (mut redis, app) = (Redis::start(), app());
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis.url(), GUESSES));
    add(&one, CLIENT);
    two.is_out(CLIENT, true);
    redis.kill();
    two.ban(&["lift", CLIENT]);
    let two = two.again();
    assert_eq!((one.ask(CLIENT, "/"), two.ask(CLIENT, "/")), (403, 200));
    redis.start_again();
    one.is_out(CLIENT, false);
    assert!(record(&redis, &format!("lift {CLIENT}")).is_some());
    assert_eq!(two.ask(CLIENT, "/"), 200);
}

#[test]
fn what_somebody_else_has_put_there_makes_room() {
    let (redis, app) = (Redis::start(), app());
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis.url(), GUESSES));
    for (number, key) in (10..).zip(["about", "records", "numbers", "ends"]) {
        let [before, after] = [1, 2].map(|part| format!("203.0.113.{number}{part}"));
        add(&one, &before);
        two.is_out(&before, true);
        let key = format!("probegate:{{bans}}:{key}");
        redis.run(&["SET", "list", "x"]);
        // In one step: nobody tells it anything in between.
        assert_eq!(redis.run(&["RENAME", "list", &key]), Reply::Text("OK".to_owned()));
        add(&one, &after);
        two.is_out(&after, true);
        eventually("it is told again", || record(&redis, &format!("ban by_hand enforce {before}")));
    }
}

/// A lift of everybody by a clock that is a year ahead would let in whoever is banned in that year.
#[test]
fn whoever_has_another_time_is_told_so_and_changes_nothing() {
    let redis = Redis::start();
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let keys = ["about", "records", "numbers", "ends"].map(|name| format!("probegate:{{bans}}:{name}"));
    let tell = |time: u64| {
        let (at, until) = (time.to_string(), (time + 99).to_string());
        let told = ["abc", "", "0", "200", &at, "lift *", "", &at, &until, "{}"];
        let keys = keys.iter().map(String::as_str);
        let words: Vec<&str> = ["EVAL", BANS, "4"].into_iter().chain(keys).chain(told).collect();
        redis.run(&words)
    };
    for (time, words) in [(now + 31_536_000, "ahead of"), (now - 60, "behind")] {
        let Reply::Error(text) = tell(time) else { panic!("it was taken") };
        assert!(text.starts_with("CLOCK the clock of this gateway is ") && text.contains(words), "{text}");
        assert_eq!(redis.run(&["DBSIZE"]), Reply::Number(0));
    }
    assert!(matches!(tell(now), Reply::List(_)));
    assert!(record(&redis, "lift *").is_some());
}

/// A server that says this whenever it is asked for bans, and how often that was.
fn parrot(says: fn(usize) -> String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, count) = (client.unwrap(), Arc::clone(&count));
            std::thread::spawn(move || {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(read @ 1..) = client.read(&mut bytes) {
                    for _ in bytes[..read].windows(7).filter(|word| *word == b"EVALSHA") {
                        let said = says(count.fetch_add(1, Ordering::SeqCst));
                        client.write_all(said.as_bytes()).ok();
                    }
                }
            });
        }
    });
    (url, asked)
}

#[test]
fn a_store_that_begins_anew_with_each_answer_is_not_asked_without_a_pause() {
    let (url, asked) = parrot(|number| format!("*3\r\n$8\r\n{number:08}\r\n$1\r\n0\r\n$3\r\nall\r\n"));
    let (app, began) = (app(), Instant::now());
    let one = gateway(&app, &url, GUESSES);
    eventually("it is asked", || (asked.load(Ordering::SeqCst) >= 9).then_some(()));
    assert!(began.elapsed() > Duration::from_millis(1900), "{:?}", began.elapsed());
    assert_eq!(one.ask(CLIENT, "/"), 200);
}

#[test]
fn a_store_that_always_has_more_of_the_same_is_not_believed() {
    let (url, _asked) = parrot(|_| "*3\r\n$1\r\ne\r\n$1\r\n0\r\n$4\r\nmore\r\n".to_owned());
    let app = app();
    let one = gateway(&app, &url, GUESSES);
    let line = one.gateway.wait_for_log(|line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("bans are not shared with other gateways"))
    });
    assert_eq!((&line["reason"], &line["error"]), (&"refused".into(), &"an answer of another script".into()));
    one.guess(CLIENT);
}
