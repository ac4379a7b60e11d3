//! Which of several words about a client holds, however often they are told, by whom, and by which clock; and who goes on telling.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use super::{CLIENT, GUESSES, One, app, gateway, of};
use crate::handover::begin;
use crate::harness::{Folder, Redis, Reply, eventually, free_address, listening_on, metric};

const BANS: &str = include_str!("../../../src/store/bans.lua");
const KEYS: [&str; 4] =
    ["probegate:{bans}:about", "probegate:{bans}:records", "probegate:{bans}:numbers", "probegate:{bans}:ends"];
const OTHER: &str = "203.0.113.10";
const LAST: &str = "203.0.113.99";

fn now() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn eval(redis: &Redis, script: &str, arguments: &[&str]) -> Reply {
    let words: Vec<&str> = ["EVAL", script, "4"].iter().chain(&KEYS).chain(arguments).copied().collect();
    redis.run(&words)
}

/// A gateway whose clock is so many seconds ahead lifts a client's bans.
fn lift_by_another(redis: &Redis, client: &str, ahead: u64) {
    let at = now() + ahead;
    let (text, until) = (format!("{{\"lift\": \"{client}\", \"at\": {at}}}"), (at + 999).to_string());
    let at = at.to_string();
    let told = ["abc", "", "0", "1", &at, &format!("lift {client}"), "", &at, &until, &text];
    let reply = eval(redis, BANS, &told);
    assert!(matches!(reply, Reply::List(_)), "{reply:?}");
}

/// How many changes the store has written.
fn number(redis: &Redis) -> Reply {
    redis.run(&["HGET", KEYS[0], "number"])
}

impl One {
    fn add(&self, client: &str) {
        self.ban(&["add", client, "--for", "1h"]);
    }

    /// Hears of everything once more, and of this client after it.
    fn hear_again(&self, other: &Self, client: &str) {
        let reloads = || self.gateway.log_lines().iter().filter(|line| line.contains("configuration reloaded")).count();
        let before = reloads();
        self.gateway.signal("HUP");
        eventually("it is reloaded", || (reloads() > before).then_some(()));
        other.add(client);
        self.is_out(client, true);
    }
}

#[test]
fn a_ban_after_a_lift_holds_however_close_they_are_and_however_often_they_are_heard() {
    let (redis, app) = (Redis::start(), app());
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis.url(), GUESSES));
    one.add(CLIENT);
    two.is_out(CLIENT, true);
    lift_by_another(&redis, CLIENT, 9);
    for gateway in [&one, &two] {
        gateway.is_out(CLIENT, false);
    }
    // By its own clock, this one was before the lift.
    two.add(CLIENT);
    one.is_out(CLIENT, true);
    two.hear_again(&one, "203.0.113.50");
    one.hear_again(&two, "203.0.113.51");
    assert_eq!((one.ask(CLIENT, "/"), two.ask(CLIENT, "/")), (403, 403));
    // And so is this lift.
    one.ban(&["lift", CLIENT]);
    two.is_out(CLIENT, false);
    two.ban(&["add", CLIENT, "--for", "1h"]);
    two.ban(&["lift", "--all"]);
    two.add(LAST);
    one.is_out(LAST, true);
    one.hear_again(&two, "203.0.113.52");
    assert_eq!((one.ask(CLIENT, "/"), two.ask(CLIENT, "/")), (200, 200));
}

#[test]
fn what_is_told_again_is_not_written_again() {
    let (redis, app) = (Redis::start(), app());
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis.url(), GUESSES));
    for client in [CLIENT, OTHER, LAST] {
        one.add(client);
        two.is_out(client, true);
    }
    two.ban(&["lift", OTHER]);
    one.is_out(OTHER, false);
    let before = number(&redis);
    let two = two.again();
    eventually("it has told everything", || {
        (metric(&two.gateway, "probegate_ban_store_changes_total{direction=\"sent\"}") > 2.5).then_some(())
    });
    assert_eq!(number(&redis), before);
    assert_eq!([CLIENT, OTHER, LAST].map(|client| two.ask(client, "/")), [403, 200, 403]);
}

/// The same epoch, more changes than anybody knows of, and something is missing: nothing that a gateway is told shows it.
#[cfg(feature = "fault-injection")]
#[test]
fn everything_is_told_and_heard_again_after_a_while() {
    let (redis, app) = (Redis::start(), app());
    let one = gateway(&app, &redis.url(), GUESSES);
    let text = std::fs::read_to_string(one.gateway.config_path()).unwrap();
    one.add(CLIENT);
    let restarted = of(text).env("BANS_ANEW_MS", "700").start();
    let one = One { gateway: restarted, storage: one.storage };
    one.is_out(CLIENT, true);
    let known = "ban by_hand enforce 203.0.113.9";
    eventually("it is told", || matches!(redis.run(&["HGET", KEYS[1], known]), Reply::Text(_)).then_some(()));
    let until = now() + 3600;
    let record = format!(
        "{0}|{{\"policy\": \"by_hand\", \"at\": {0}, \"ban\": {{\"client\": \"{OTHER}\", \"since\": {0}, \"until\": {until}, \
         \"count\": 1, \"text\": \"\"}}}}",
        now()
    );
    let lose =
        "redis.call('HDEL', KEYS[2], ARGV[1]) redis.call('ZREM', KEYS[3], ARGV[1]) redis.call('ZREM', KEYS[4], ARGV[1])
        redis.call('HSET', KEYS[2], ARGV[2], ARGV[3]) redis.call('ZADD', KEYS[3], 0.5, ARGV[2])
        return redis.call('ZADD', KEYS[4], ARGV[4], ARGV[2])";
    let other = format!("ban by_hand enforce {OTHER}");
    assert_eq!(eval(&redis, lose, &[known, &other, &record, &until.to_string()]), Reply::Number(1));
    let epoch = redis.run(&["HGET", KEYS[0], "epoch"]);
    eventually("it is told again", || matches!(redis.run(&["HGET", KEYS[1], known]), Reply::Text(_)).then_some(()));
    one.is_out(OTHER, true);
    assert_eq!(redis.run(&["HGET", KEYS[0], "epoch"]), epoch, "nothing began anew");
}

#[test]
fn a_new_process_that_takes_over_goes_on_sharing() {
    let (redis, app) = (Redis::start(), app());
    let [first, two] = [(); 2].map(|()| gateway(&app, &redis.url(), GUESSES));
    let text = std::fs::read_to_string(first.gateway.config_path()).unwrap();
    let text = listening_on(&text, &[free_address()]);
    drop(first.gateway);
    let folder = Folder::new();
    let socket = folder.path().join("private/upgrade.sock");
    let mut old = One { gateway: of(&text).arg("--upgrade-socket").arg(&socket).start(), storage: first.storage };
    old.guess(CLIENT);
    two.is_out(CLIENT, true);
    two.add(OTHER);
    old.is_out(OTHER, true);
    let lifted = "203.0.113.11";
    old.add(lifted);
    two.is_out(lifted, true);
    // Nobody has heard of these when the process changes.
    old.ban(&["lift", lifted]);
    old.add(LAST);
    let new = begin(&old.gateway, &text, &socket).opened();
    assert!(old.gateway.wait_exit().success());
    let new = One { gateway: new, storage: old.storage };
    let states = |gateway: &One| [CLIENT, OTHER, lifted, LAST].map(|client| gateway.ask(client, "/"));
    assert_eq!(states(&new), [403, 403, 200, 403]);
    two.is_out(LAST, true);
    two.is_out(lifted, false);
    // Both ways.
    new.ban(&["lift", OTHER]);
    two.is_out(OTHER, false);
    two.ban(&["lift", CLIENT]);
    new.is_out(CLIENT, false);
    two.add("203.0.113.12");
    new.is_out("203.0.113.12", true);
    assert_eq!((states(&new), states(&two)), ([200, 200, 200, 403], [200, 200, 200, 403]));
}

/// Leads to the store. What time a gateway has is so much later on the other side.
fn elsewhere(to: SocketAddr) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let ahead = Arc::new(AtomicU64::new(0));
    let says = Arc::clone(&ahead);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(to).unwrap());
            let (mut back, mut from, says) =
                (client.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(&says));
            std::thread::spawn(move || std::io::copy(&mut from, &mut back).ok());
            std::thread::spawn(move || {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(read @ 1..) = client.read(&mut bytes) {
                    later(&mut bytes[..read], says.load(Ordering::SeqCst));
                    if server.write_all(&bytes[..read]).is_err() {
                        break;
                    }
                }
                server.shutdown(std::net::Shutdown::Both).ok();
            });
        }
    });
    (url, ahead)
}

/// The time of the gateway is the first word of ten bytes where bans are told.
fn later(bytes: &mut [u8], ahead: u64) {
    let word = b"$10\r\n";
    if !bytes.windows(6).any(|part| part == b"{bans}") {
        return;
    }
    if let Some(at) = bytes.windows(word.len()).position(|part| part == word) {
        let digits = &mut bytes[at + word.len()..][..10];
        let time: u64 = std::str::from_utf8(digits).unwrap().parse().unwrap();
        digits.copy_from_slice((time + ahead).to_string().as_bytes());
    }
}

#[test]
fn a_gateway_whose_clock_is_wrong_goes_on_alone_until_it_is_right() {
    let (redis, app) = (Redis::start(), app());
    let (url, ahead) = elsewhere(redis.address());
    let two = gateway(&app, &redis.url(), GUESSES);
    ahead.store(1000, Ordering::SeqCst);
    let one = gateway(&app, &url, GUESSES);
    let line = one.gateway.wait_for_log(|line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("bans are not shared with other gateways"))
    });
    let error = line["error"].as_str().unwrap();
    assert!(error.contains("the clock of this gateway is ") && error.contains(" seconds ahead of that of the store"));
    assert_eq!(line["reason"], "refused");
    one.guess(CLIENT);
    two.add(OTHER);
    one.ban(&["lift", OTHER]);
    assert!(metric(&one.gateway, "probegate_ban_store_connected") < 0.5);
    assert_eq!((two.ask(CLIENT, "/"), one.ask(OTHER, "/")), (200, 200));
    ahead.store(0, Ordering::SeqCst);
    one.gateway.wait_for_log(|line| line["message"] == "bans are shared with other gateways again");
    two.is_out(CLIENT, true);
}
