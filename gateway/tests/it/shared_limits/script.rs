//! The script in a real server against the same arithmetic in Rust.

use probegate_policies::limit::shared::{Answer, Charge, charge};
use probegate_policies::limit::{Quota, gcra};

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
        let lasting = timed.replacen(", 'PX', string.format('%.0f', math.ceil(debt / 1e6) + 1))", ")", 1);
        assert!(timed != SCRIPT && lasting != timed, "the script has changed");
        Self { server: Resp::connect(redis.address()), script: lasting }
    }

    fn charge(&mut self, keys: &[&str], now: u64, charges: &[Charge]) -> Answer {
        assert_eq!(now % 1000, 0, "the server's clock has microseconds");
        let count = keys.len().to_string();
        let arguments = charges.iter().flat_map(|charge| [charge.cost, charge.window, u64::from(charge.refuses)]);
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
        let answer =
            script.charge(&["a"], now, &[Charge { cost: quota.interval() * quantity, ..Charge::of(&quota, true) }]);
        let what = format!("{tenths} {quantity}");
        assert_eq!(answer.refused.is_none(), passes, "{what}");
        let decision = gcra::decide(answer.debts[0] + 1, 1, &quota, quantity).1;
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

/// Random requests on one to three of some buckets, of which some are only watched, with rates from one a day to a million a second.
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
    ];
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut tats, mut now, mut refused) = ([0; 7], START, 0);
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
            chosen.iter().map(|&index| Charge::of(&quotas[index], !random.u8(..).is_multiple_of(4))).collect();
        let keys: Vec<&str> = chosen.iter().map(|&index| names[index]).collect();
        let mut expected: Vec<u64> = chosen.iter().map(|&index| tats[index]).collect();
        let said = charge(&mut expected, now, &charges);
        for (&index, tat) in chosen.iter().zip(expected) {
            tats[index] = tat;
        }
        assert_eq!(script.charge(&keys, now, &charges), said, "round {round} of seed {seed}");
        refused += usize::from(said.refused.is_some());
    }
    assert!((200..3800).contains(&refused), "{refused} of 4000 refused: this tests nothing");
}

/// With the server's own clock: what is written goes by itself, and not before it is worthless.
#[test]
fn nothing_stays_in_the_server() {
    let redis = Redis::start();
    let mut server = Resp::connect(redis.address());
    let (long, short) = (quota("1/h", 9), quota("1000/s", 0));
    let words = ["EVAL", SCRIPT, "2", "long", "short"].map(str::to_owned).into_iter();
    let charges = [long, short].into_iter().flat_map(|quota| [quota.interval(), quota.window(), 1]);
    let words: Vec<String> = words.chain(charges.map(|number| number.to_string())).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(server.run(&words).numbers(), [0, 0, 0]);
    let Reply::Number(left) = server.run(&["PTTL", "long"]) else { panic!() };
    assert!((3_590_000..=3_600_001).contains(&left), "{left}");
    crate::harness::eventually("the short one is gone", || {
        (server.run(&["EXISTS", "short"]) == Reply::Number(0)).then_some(())
    });
    assert_eq!(server.run(&["DBSIZE"]), Reply::Number(1));
}

/// Something else under one of our keys is no count, and nothing that the script trips over.
#[test]
fn what_somebody_else_wrote_is_no_debt() {
    let redis = Redis::start();
    let mut server = Resp::connect(redis.address());
    for wrong in ["", "x", "12", "1:2:3", "-5:3"] {
        server.run(&["SET", "a", wrong]);
        assert_eq!(server.run(&["EVAL", SCRIPT, "1", "a", "1000", "1000", "1"]).numbers(), [0, 0], "{wrong}");
    }
}
