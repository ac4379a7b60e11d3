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
fn of_two_bans_of_one_second_the_one_that_was_pronounced_last_holds_everywhere() {
    let (redis, app) = (Redis::start(), app());
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis.url(), GUESSES));
    one.ban(&["add", CLIENT, "--for", "24h"]);
    one.ban(&["add", CLIENT, "--for", "10m"]);
    two.is_out(CLIENT, true);
    let last = one.last(CLIENT, "by_hand");
    eventually("the others have heard of it", || (two.last(CLIENT, "by_hand") == last).then_some(()));
    for (gateway, other, after) in [(&one, &two, "203.0.113.50"), (&two, &one, "203.0.113.51")] {
        gateway.hear_again(other, after);
        assert_eq!(gateway.last(CLIENT, "by_hand"), last);
    }
    let until = last["until"].as_u64().unwrap();
    assert!(until < now() + 700, "{last}");
}

/// What the store is told about a ban by a policy that remembers it for so long.
fn told(client: &str, since: u64, until: u64, remember: u64) -> [String; 5] {
    let record = format!(
        "{{\"policy\":\"guesses\",\"at\":{since},\"ban\":{{\"client\":\"{client}\",\"since\":{since},\"until\":{until},\"count\":1,\"text\":\"\"}}}}"
    );
    let name = format!("ban guesses enforce {client}");
    [name, client.to_owned(), since.to_string(), (until + remember).to_string(), record]
}

/// The store hears of these changes, and is asked for all that it knows.
fn tell(redis: &Redis, changes: &[[String; 5]]) -> Reply {
    let now = now().to_string();
    let words = ["abc", "", "0", "200", &now].into_iter().chain(changes.iter().flatten().map(String::as_str));
    let reply = eval(redis, BANS, &words.collect::<Vec<_>>());
    assert!(matches!(reply, Reply::List(_)), "{reply:?}");
    reply
}

fn record(redis: &Redis, name: &str) -> Option<String> {
    if let Reply::Text(text) = redis.run(&["HGET", KEYS[1], name]) { Some(text) } else { None }
}

#[test]
fn a_lift_that_is_forgotten_brings_no_ban_back() {
    let (redis, app, now) = (Redis::start(), app(), now());
    let banned = told(CLIENT, now - 100, now + 3600, 0);
    let name = format!("lift {CLIENT}");
    let text = format!("{{\"lift\":\"{CLIENT}\",\"at\":{}}}", now - 50);
    let lifted = [name.clone(), String::new(), (now - 50).to_string(), (now + 300).to_string(), text];
    tell(&redis, &[banned.clone(), lifted]);
    assert_eq!((record(&redis, &banned[0]), record(&redis, &name).is_some()), (None, true));
    // As if its time were over.
    eval(&redis, "return redis.call('ZADD', KEYS[4], ARGV[1], ARGV[2])", &[&(now - 1).to_string(), &name]);
    tell(&redis, &[]);
    assert_eq!(record(&redis, &name), None);
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis.url(), GUESSES));
    one.add(OTHER);
    two.is_out(OTHER, true);
    assert_eq!(two.ask(CLIENT, "/"), 200);
}

#[test]
fn of_two_records_as_old_the_ban_that_ends_later_stays_however_long_it_is_remembered() {
    let (redis, now) = (Redis::start(), now());
    let [short, long] =
        [(600, 172_800), (3600, 86_400)].map(|(time, remember)| told(CLIENT, now, now + time, remember));
    for changes in [[short.clone(), long.clone()], [long.clone(), short]] {
        redis.run(&["FLUSHALL"]);
        tell(&redis, &changes);
        assert_eq!(record(&redis, &long[0]), Some(format!("{now}|{}", long[4])));
    }
}

#[test]
fn a_full_store_is_not_written_to_for_nothing() {
    let (redis, now) = (Redis::start(), now());
    tell(&redis, &[]);
    let fill = "for i = 1, 65536 do
            local name = 'lift x' .. i
            redis.call('HSET', KEYS[2], name, ARGV[1] .. '|x') redis.call('ZADD', KEYS[3], i, name)
            redis.call('ZADD', KEYS[4], ARGV[1] + 999 + i, name)
        end
        return redis.call('HSET', KEYS[1], 'number', 65536)";
    eval(&redis, fill, &[&now.to_string()]);
    let before = number(&redis);
    let early = told(CLIENT, now, now + 500, 0);
    tell(&redis, &[early]);
    assert_eq!(number(&redis), before);
    let late = [told(OTHER, now, now + 5000, 0)];
    tell(&redis, &late);
    assert!(number(&redis) != before && record(&redis, &late[0][0]).is_some() && record(&redis, "lift x1").is_none());
    assert_eq!(redis.run(&["ZCARD", KEYS[3]]), Reply::Number(65_536));
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
    // Whether or not anybody has heard of these when the process changes.
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
