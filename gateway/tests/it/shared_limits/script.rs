//! The script in a real server against the same arithmetic in Rust.

use probegate_policies::limit::shared::{Answer, Charge, charge};
use probegate_policies::limit::{Key, KeyPart, Quota, Seed, Table, gcra, window};

use crate::harness::{Redis, Reply, Resp};

const SCRIPT: &str = include_str!("../../../src/store/limits.lua");
const SECOND: u64 = 1_000_000_000;
/// When the test's clock starts: a second of the year 2026.
const START: u64 = 1_790_000_000 * SECOND;

fn quota(rate: &str, burst: u32) -> Quota {
    Quota::new(rate.parse().unwrap(), burst)
}

/// The script with a clock that is handed in, and nothing that expires while that clock stands still.
struct Scripted {
    server: Resp,
    script: String,
}

impl Scripted {
    fn new(redis: &Redis) -> Self {
        let timed = SCRIPT.replacen("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}", 1);
        let lasting = timed.replacen(", 'PX', string.format('%.0f', millis))", ")", 1);
        assert!(timed != SCRIPT && lasting != timed, "the script has changed");
        Self { server: Resp::connect(redis.address()), script: lasting }
    }

    fn charge(&mut self, keys: &[&str], now: u64, charges: &[Charge]) -> Answer {
        assert_eq!(now % 1000, 0, "the server's clock has microseconds");
        let count = keys.len().to_string();
        let arguments = charges.iter().flat_map(Charge::words);
        let time = [now / SECOND, now % SECOND / 1000];
        let arguments: Vec<String> = arguments.chain(time).map(|number| number.to_string()).collect();
        let mut words = vec!["EVAL", &self.script, &count];
        words.extend(keys);
        words.extend(arguments.iter().map(String::as_str));
        Answer::read(&self.server.run(&words).numbers(), keys.len()).unwrap()
    }
}

/// Vectors of throttled's `rate_test.go` (semantics section 2.2), as in `policies/src/limit/gcra/tests.rs`: tenths of a second, quantity, passes, remaining,
/// reset and retry in tenths.
#[test]
fn the_vectors_of_the_local_arithmetic_hold_in_the_server() {
    let redis = Redis::start();
    let mut script = Scripted::new(&redis);
    let quota = quota("1/s", 4);
    let steps: [(u64, u64, bool, u32, u64, i64); 16] = [
        (0, 6, false, 5, 0, -1),
        (0, 1, true, 4, 10, 0),
        (0, 1, true, 3, 20, 0),
        (0, 1, true, 2, 30, 0),
        (0, 1, true, 1, 40, 0),
        (0, 1, true, 0, 50, 0),
        (0, 1, false, 0, 50, 10),
        (30, 1, true, 2, 30, 0),
        (31, 1, true, 1, 39, 0),
        (40, 1, true, 1, 40, 0),
        (80, 1, true, 4, 10, 0),
        (95, 1, true, 4, 10, 0),
        (95, 0, true, 4, 10, 0),
        (95, 2, true, 2, 30, 0),
        (95, 5, false, 2, 30, 30),
        (125, 5, true, 0, 50, 0),
    ];
    for (tenths, quantity, passes, remaining, reset, retry) in steps {
        let now = START + tenths * SECOND / 10;
        let cost = quota.interval() * quantity;
        let answer = script.charge(&["a"], now, &[Charge { asks: cost, costs: cost, ..Charge::of(&quota, true) }]);
        let what = format!("{tenths} {quantity}");
        assert_eq!(answer.refused.is_none(), passes, "{what}");
        let decision = gcra::decide(answer.before[0].used + 1, 1, &quota, quantity).1;
        assert_eq!(
            (decision.admitted, decision.remaining, decision.reset),
            (passes, remaining, reset * SECOND / 10),
            "{what}"
        );
        let after = if decision.retry_after == u64::MAX {
            -1
        } else {
            (decision.retry_after * 10 / SECOND).try_into().unwrap()
        };
        assert_eq!(after, retry, "{what}");
    }
}

/// Vectors of django-ratelimit (semantics section 5.2), as in `policies/src/limit/window/tests.rs`: who, the period, and the last second of the window that
/// 1,700,000,000 lies in. The package itself is asked in `limit_django.rs`.
#[test]
fn windows_in_the_server_end_where_django_ratelimit_ends_them() {
    let redis = Redis::start();
    let mut script = Scripted::new(&redis);
    let clients = [
        ("127.0.0.1", [1_700_000_012, 1_700_000_132, 1_700_001_032]),
        ("203.0.113.10", [1_700_000_019, 1_700_000_139, 1_700_000_139]),
        ("2001:db8::", [1_700_000_003, 1_700_000_063, 1_700_000_663]),
    ];
    for (client, ends) in clients {
        for (period, end) in [60, 300, 3600].into_iter().zip(ends) {
            let quota = Quota::fixed_window(format!("3/{period}s").parse().unwrap());
            let charges = [Charge::of(&quota, true).in_windows_of(text_key(&quota, client))];
            let name = format!("{client} {period}");
            // Three pass within the window, its last second included, and none more until the next one begins.
            let last = end * SECOND + 999_999_000;
            let steps = [(1_700_000_000 * SECOND, true), (1_700_000_001 * SECOND, true), (last, true), (last, false)];
            for (now, passes) in steps {
                let answer = script.charge(&[&name], now, &charges);
                assert_eq!((answer.refused.is_none(), answer.before[0].left), (passes, (end + 1) * SECOND - now));
            }
            assert_eq!(script.charge(&[&name], (end + 1) * SECOND, &charges).before[0].used, 0, "{name}");
            assert_eq!(window::end(1_700_000_000, period, u32::try_from(charges[0].stagger).unwrap()), end);
        }
    }
}

/// A key whose windows are those of a text.
fn text_key(quota: &Quota, text: &str) -> Key {
    let mut key = Table::new(1, Seed([1, 2, 3, 4])).build_key(quota);
    key.part(&KeyPart::Bytes(text.as_bytes()));
    key.finish()
}

/// Random requests on one to three of some buckets, of which some are only watched, some have windows, and some are charged later, with rates from one a day
/// to a million a second.
#[test]
fn the_script_does_what_the_arithmetic_in_rust_does() {
    let redis = Redis::start();
    let mut script = Scripted::new(&redis);
    let quotas = [
        quota("1/d", 0),
        quota("3/s", 2),
        quota("7/90s", 20),
        quota("1000000/s", 10_000),
        quota("100/m", 0),
        quota("700000/s", 1000),
        quota("5/m", 4),
        Quota::fixed_window("20/s".parse().unwrap()),
        Quota::fixed_window("9/90s".parse().unwrap()),
        Quota::fixed_window("1000/d".parse().unwrap()),
    ];
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let keys: Vec<Key> = quotas.iter().zip(names).map(|(quota, name)| text_key(quota, name)).collect();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut tats, mut now, mut refused) = ([0; 10], START, 0);
    for round in 0..4000 {
        now += match random.u8(..) % 8 {
            0 => random.u64(0..20_000_000),
            1 => random.u64(0..2000),
            _ => random.u64(0..50),
        } * 1000;
        if random.u16(..).is_multiple_of(500) {
            // Somebody sets the server's clock back.
            now -= random.u64(0..3_600_000_000) * 1000;
        }
        let mut chosen: Vec<usize> = (0..names.len()).collect();
        random.shuffle(&mut chosen);
        chosen.truncate(random.usize(1..=3));
        let charges: Vec<Charge> =
            chosen.iter().map(|&index| random_charge(&quotas[index], &mut random).in_windows_of(keys[index])).collect();
        let chosen_names: Vec<&str> = chosen.iter().map(|&index| names[index]).collect();
        let mut expected: Vec<u64> = chosen.iter().map(|&index| tats[index]).collect();
        let said = charge(&mut expected, now, &charges);
        for (&index, tat) in chosen.iter().zip(expected) {
            tats[index] = tat;
        }
        assert_eq!(script.charge(&chosen_names, now, &charges), said, "round {round} of seed {seed}");
        refused += usize::from(said.refused.is_some());
    }
    assert!((200..3800).contains(&refused), "{refused} of 4000 refused: this tests nothing");
}

fn random_charge(quota: &Quota, random: &mut fastrand::Rng) -> Charge {
    let refuses = !random.u8(..).is_multiple_of(4);
    match random.u8(..) % 8 {
        0 => Charge::late(quota, random.u32(1..4)),
        1 => Charge::look(quota, refuses, random.u64(1..4), random.u32(1..4)),
        _ => Charge::of(quota, refuses),
    }
}

/// With the server's own clock: what is written goes by itself, and not before it is worthless.
#[test]
fn nothing_stays_in_the_server() {
    let redis = Redis::start();
    let mut server = Resp::connect(redis.address());
    let (long, short) = (quota("1/h", 9), quota("1000/s", 0));
    let window = Quota::fixed_window("1/s".parse().unwrap());
    let words = ["EVAL", SCRIPT, "3", "long", "short", "window"].map(str::to_owned).into_iter();
    let charges = [long, short, window].into_iter().flat_map(|quota| Charge::of(&quota, true).words());
    let words: Vec<String> = words.chain(charges.map(|number| number.to_string())).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let said = server.run(&words).numbers();
    assert!(said[..6] == [0; 6] && (1..=1_000_000_000).contains(&said[6]), "{said:?}");
    let Reply::Number(left) = server.run(&["PTTL", "long"]) else { panic!() };
    assert!((3_590_000..=3_600_001).contains(&left), "{left}");
    crate::harness::eventually("the short ones are gone", || {
        (server.run(&["EXISTS", "short", "window"]) == Reply::Number(0)).then_some(())
    });
    assert_eq!(server.run(&["DBSIZE"]), Reply::Number(1));
}

/// Something else under one of our keys is no count, and nothing that the script trips over.
#[test]
fn what_somebody_else_wrote_is_no_debt() {
    let redis = Redis::start();
    let mut server = Resp::connect(redis.address());
    for wrong in ["", "x", "12", "1:2:3", "-5:3", "w12", "w:3", "w1:2:3", "w99999999999:99"] {
        for period in ["0", "60"] {
            server.run(&["SET", "a", wrong]);
            let said = server.run(&["EVAL", SCRIPT, "1", "a", "1000", "1000", "1000", "1000", period, "0"]).numbers();
            assert_eq!(said[..2], [0, 0], "{wrong}");
        }
    }
    for wrong in [["RPUSH", "a", "1"], ["SADD", "a", "1"]] {
        server.run(&["DEL", "a"]);
        server.run(&wrong);
        let ask = ["EVAL", SCRIPT, "1", "a", "1000000000", "1000000000", "1000000000", "1000000000", "0", "0"];
        assert_eq!(server.run(&ask).numbers()[..2], [0, 0], "{wrong:?}");
        assert_eq!(server.run(&ask).numbers()[..1], [1], "from then on it counts");
    }
}
