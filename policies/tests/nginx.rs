//! nginx's `limit_req` beside ours: what nginx was recorded to do, and its arithmetic in whole milliseconds and thousandths of a request, on random traffic.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read is a failed test, in the helpers too")]

use std::collections::BTreeMap;

use probegate_policies::Now;
use probegate_policies::limit::{Key, KeyPart, Quota, Seed, Table};
use proptest::prelude::*;
use serde_json::Value;

const MILLISECOND: u64 = 1_000_000;

/// One `limit_req`, as it is written: `10r/s burst=5 delay=3`.
#[derive(Clone, Debug)]
struct Directive {
    /// Requests in `scale` seconds.
    count: i64,
    scale: i64,
    burst: i64,
    /// `None`: `nodelay`.
    delay: Option<i64>,
}

impl Directive {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (count, unit) = words.next()?.split_once("r/")?;
        let scale = if unit == "s" { 1 } else { 60 };
        let mut directive = Self { count: count.parse().ok()?, scale, burst: 0, delay: Some(0) };
        for word in words {
            match word.split_once('=') {
                Some(("burst", count)) => directive.burst = count.parse().ok()?,
                Some(("delay", count)) => directive.delay = Some(count.parse().ok()?),
                None if word == "nodelay" => directive.delay = None,
                _ => return None,
            }
        }
        Some(directive)
    }

    /// Whether nginx's rate, which it keeps in whole thousandths of a request a second, is the one that was meant.
    fn is_exact(&self) -> bool {
        self.count * 1000 % self.scale == 0
    }
}

/// What becomes of a request: `None`: refused; else how many milliseconds it waits.
type Fate = Option<i64>;

/// `ngx_http_limit_req_module.c` for one key: thousandths of a request, milliseconds.
struct Theirs {
    directive: Directive,
    rate: i64,
    state: Option<(i64, i64)>,
}

impl Theirs {
    fn new(directive: &Directive) -> Self {
        Self { rate: directive.count * 1000 / directive.scale, directive: directive.clone(), state: None }
    }

    /// What the bucket would hold after a request at this time.
    fn excess(&self, now: i64) -> i64 {
        self.state.map_or(0, |(excess, last)| {
            let elapsed = now - last;
            let elapsed = if elapsed < -60_000 { 1 } else { elapsed.max(0) };
            (excess - self.rate * elapsed / 1000 + 1000).max(0)
        })
    }

    fn admits(&self, now: i64) -> bool {
        self.excess(now) <= self.directive.burst * 1000
    }

    /// Charges a request, and says how long it waits.
    fn charge(&mut self, now: i64) -> i64 {
        let excess = self.excess(now);
        let last = self.state.map_or(now, |(_, last)| if now == last { last } else { now });
        self.state = Some((excess, last));
        let free = self.directive.delay.map_or(i64::MAX, |delay| delay * 1000);
        if excess <= free { 0 } else { (excess - free) * 1000 / self.rate }
    }
}

/// All zones or none, and the longest delay.
fn theirs(zones: &mut [Theirs], now: i64) -> Fate {
    zones.iter().all(|zone| zone.admits(now)).then(|| zones.iter_mut().map(|zone| zone.charge(now)).max().unwrap_or(0))
}

/// One of our limits, with the table that the gateway uses.
struct Ours {
    table: Table,
    quota: Quota,
}

impl Ours {
    fn new(directive: &Directive) -> Self {
        let unit = if directive.scale == 1 { "s" } else { "m" };
        let rate = format!("{}/{unit}", directive.count).parse().unwrap();
        let mut quota = Quota::new(rate, directive.burst.try_into().unwrap());
        if let Some(delay) = directive.delay {
            quota = quota.delaying(delay.try_into().unwrap());
        }
        Self { table: Table::new(100, Seed([1, 2, 3, 4])), quota }
    }

    fn key(&self) -> Key {
        self.table.key(&[KeyPart::Bytes(b"client")])
    }
}

/// All limits or none, as the gateway does it, in nanoseconds.
fn ours(limits: &[Ours], now: Now) -> Option<u64> {
    let mut longest = 0;
    for (index, limit) in limits.iter().enumerate() {
        let decision = limit.table.admit(limit.key(), &limit.quota, now);
        if !decision.admitted {
            limits.iter().take(index).for_each(|limit| limit.table.refund(limit.key(), &limit.quota));
            return None;
        }
        longest = longest.max(decision.delay);
    }
    Some(longest)
}

fn at(millis: i64) -> Now {
    Now { nanos: u64::try_from(1000 + millis).unwrap() * MILLISECOND, unix: 0 }
}

/// Whether two fates are one, within nginx's millisecond.
fn alike(theirs: Fate, ours: Option<u64>) -> bool {
    match (theirs, ours) {
        (Some(theirs), Some(ours)) => {
            let theirs = u64::try_from(theirs).unwrap() * MILLISECOND;
            theirs.abs_diff(ours) <= MILLISECOND
        }
        (None, None) => true,
        _ => false,
    }
}

/// The table of semantics section 2.1: a limit, arrivals, and what becomes of each: -1 for refused, else how long it waits.
#[test]
fn the_table_of_the_semantics() {
    let rows: [(&str, &[i64], &[i64]); 6] = [
        ("2r/s burst=1 nodelay", &[0, 0, 0, 250, 500, 501, 999, 1000], &[0, 0, -1, -1, 0, -1, -1, 0]),
        ("10r/s", &[0, 50, 99, 100, 101, 200], &[0, -1, -1, 0, -1, 0]),
        ("10r/s burst=5", &[0; 7], &[0, 100, 200, 300, 400, 500, -1]),
        ("30r/m burst=2 delay=1", &[0; 4], &[0, 0, 2000, -1]),
        ("5r/s burst=12 delay=8", &[0; 14], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 200, 400, 600, 800, -1]),
        // nginx makes 16 thousandths a second of this, one request in 62.5 seconds. Here a minute is a minute.
        ("1r/m", &[0, 60_000, 62_499, 62_500], &[0, -1, -1, 0]),
    ];
    for (text, arrivals, expected) in rows {
        let directive = Directive::parse(text).unwrap();
        let (mut zones, limits) = ([Theirs::new(&directive)], [Ours::new(&directive)]);
        let found: Vec<i64> = arrivals.iter().map(|&now| theirs(&mut zones, now).unwrap_or(-1)).collect();
        assert_eq!(found, expected, "the model of nginx is wrong about {text}");
        let found: Vec<i64> = arrivals
            .iter()
            .map(|&now| ours(&limits, at(now)).map_or(-1, |nanos| i64::try_from(nanos / MILLISECOND).unwrap()))
            .collect();
        let expected = if text == "1r/m" { &[0, 0, -1, -1] } else { expected };
        assert_eq!(found, expected, "{text}");
    }
    // One more row, which is long: 21 pass at once, then one every 100 ms.
    let directive = Directive::parse("10r/s burst=20 nodelay").unwrap();
    let (mut zones, limits) = ([Theirs::new(&directive)], [Ours::new(&directive)]);
    for now in std::iter::repeat_n(0, 23).chain([99, 100, 101, 200]) {
        let (theirs, ours) = (theirs(&mut zones, now), ours(&limits, at(now)));
        assert!(alike(theirs, ours), "at {now}: {theirs:?} {ours:?}");
    }
}

/// What was recorded of nginx 1.22.1. Requests of one moment were served in any order and within a few milliseconds: their counts are compared, and their
/// delays to 10 ms.
#[test]
fn what_nginx_was_recorded_to_do() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/limit_req.json")).unwrap();
    let mut replayed = Vec::new();
    for (name, scenario) in vectors["scenarios"].as_object().unwrap() {
        let directives = scenario["limit"].as_str().unwrap().split(" AND ");
        let Some(directives) = directives.map(Directive::parse).collect::<Option<Vec<_>>>() else { continue };
        let limits: Vec<_> = directives.iter().map(Ours::new).collect();
        // For each moment, how long those that were let in waited: ours, and theirs.
        let mut moments: BTreeMap<i64, [Vec<f64>; 2]> = BTreeMap::new();
        for request in scenario["sent"].as_array().unwrap() {
            let millis = milliseconds(&request["t"], 1000.0);
            let [found, _] = moments.entry(millis).or_default();
            found.extend(
                ours(&limits, at(millis)).map(|nanos| f64::from(u32::try_from(nanos / 1000).unwrap()) / 1000.0),
            );
        }
        for answer in scenario["answers"].as_array().unwrap().iter().filter(|answer| answer["status"] == 200) {
            let millis = milliseconds(&answer["at_ms"], 1.0);
            let (_, [_, recorded]) = moments.range_mut(..=millis).next_back().unwrap();
            recorded.push(answer["took_ms"].as_f64().unwrap());
        }
        for (millis, [found, mut recorded]) in moments {
            assert_eq!(found.len(), recorded.len(), "{name} at {millis} ms");
            recorded.sort_by(f64::total_cmp);
            let delays = directives.iter().any(|directive| directive.delay.is_some());
            for (ours, theirs) in found.iter().zip(recorded).filter(|_| delays) {
                assert!((ours - theirs).abs() < 10.0, "{name} at {millis} ms: {ours} instead of {theirs}");
            }
        }
        replayed.push(name.as_str());
    }
    let all = ["S01-norm-burst5", "S05-delay", "S07-nodelay", "S09-delay3", "S12-two-limits", "S14-3rps", "S18-100rps"];
    assert_eq!(replayed, all);
}

#[expect(clippy::cast_possible_truncation, reason = "moments of a few positive seconds")]
fn milliseconds(value: &Value, factor: f64) -> i64 {
    (value.as_f64().unwrap() * factor).round() as i64
}

/// Rates that nginx keeps exactly.
fn any_directive() -> impl Strategy<Value = Directive> {
    let rate = prop_oneof![(1..200_i64).prop_map(|count| (count, 1)), (1..200_i64).prop_map(|count| (3 * count, 60))];
    (rate, 0..12_i64).prop_flat_map(|((count, scale), burst)| {
        let delay = prop_oneof![Just(None), (0..=burst).prop_map(Some)];
        delay.prop_map(move |delay| Directive { count, scale, burst, delay })
    })
}

/// Pauses between requests: bursts, and waits of about what it takes to earn one or a few.
fn any_pauses() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![4 => Just(0), 2 => 0..20_u32, 2 => 0..300_u32, 1 => 0..5000_u32], 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn random_traffic_fares_as_with_nginx(
        directives in prop::collection::vec(any_directive(), 1..4),
        pauses in any_pauses(),
    ) {
        let mut zones: Vec<_> = directives.iter().map(Theirs::new).collect();
        let limits: Vec<_> = directives.iter().map(Ours::new).collect();
        prop_assert!(directives.iter().all(Directive::is_exact));
        // nginx cuts what is earned in a pause down to whole thousandths of a request. Where that cuts nothing, both say the same.
        let step = |directive: &Directive| { let rate = directive.count * 1000 / directive.scale; 1000 / gcd(rate, 1000) };
        let step = directives.iter().map(step).fold(1, |all, step| all / gcd(all, step) * step);
        let mut now = 0;
        for pause in pauses {
            now += (i64::from(pause) + step - 1) / step * step;
            let (theirs, ours) = (theirs(&mut zones, now), ours(&limits, at(now)));
            prop_assert!(alike(theirs, ours), "at {now} ms: nginx {theirs:?}, ours {ours:?}");
        }
    }

    #[test]
    fn where_nginx_cuts_down_it_is_the_stricter_one_by_less_than_a_thousandth_for_each_request(
        directive in any_directive(),
        pauses in any_pauses(),
    ) {
        let (mut zones, limits) = ([Theirs::new(&directive)], [Ours::new(&directive)]);
        let (mut now, mut charged) = (0, 0);
        for pause in pauses {
            now += i64::from(pause);
            let close = (zones[0].excess(now) - directive.burst * 1000).abs() <= charged;
            let (theirs, ours) = (theirs(&mut zones, now), ours(&limits, at(now)));
            match (theirs, ours) {
                (Some(theirs), Some(ours)) => {
                    let slack = (charged + 1) * 1000 / zones[0].rate + 1;
                    let ours = i64::try_from(ours / MILLISECOND).unwrap();
                    prop_assert!((theirs - slack..=theirs).contains(&ours), "at {now} ms: nginx {theirs}, ours {ours}");
                    charged += 1;
                }
                (None, None) => {}
                // From here on the two have seen other requests.
                _ => { prop_assert!(close && theirs.is_none(), "at {now} ms: nginx {theirs:?}, ours {ours:?}"); break; }
            }
        }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
