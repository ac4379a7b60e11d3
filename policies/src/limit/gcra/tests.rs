use super::*;

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;
/// When the clock of a test starts; never 0.
const START: u64 = 1_000 * SECOND;

fn quota(rate: &str, burst: u32) -> Quota {
    Quota::new(rate.parse().unwrap(), burst)
}

/// A bucket as the table keeps it.
struct Bucket {
    quota: Quota,
    tat: u64,
}

impl Bucket {
    fn new(rate: &str, burst: u32) -> Self {
        Self { quota: quota(rate, burst), tat: 0 }
    }

    fn take(&mut self, millis: u64, quantity: u64) -> Decision {
        let (tat, decision) = decide(self.tat, START + millis * MILLISECOND, &self.quota, quantity);
        assert_eq!(tat.is_some(), decision.admitted && quantity > 0);
        self.tat = tat.unwrap_or(self.tat);
        decision
    }
}

/// Vectors of throttled's `rate_test.go`, one a second and a burst of 4 (semantics section 2.2).
#[test]
fn throttled_rate_test() {
    let mut bucket = Bucket::new("1/s", 4);
    let tenths = |decision: Decision| {
        let Decision { admitted, remaining, reset, retry_after, .. } = decision;
        let in_tenths = |nanos: u64| {
            if nanos == u64::MAX { -1 } else { i64::try_from(nanos / (SECOND / 10)).unwrap() }
        };
        (admitted, remaining, in_tenths(reset), in_tenths(retry_after))
    };
    assert_eq!(tenths(bucket.take(0, 6)), (false, 5, 0, -1));
    for (remaining, reset) in [(4, 10), (3, 20), (2, 30), (1, 40), (0, 50)] {
        assert_eq!(tenths(bucket.take(0, 1)), (true, remaining, reset, 0));
    }
    assert_eq!(tenths(bucket.take(0, 1)), (false, 0, 50, 10));
    assert_eq!(tenths(bucket.take(3000, 1)), (true, 2, 30, 0));
    assert_eq!(tenths(bucket.take(3100, 1)), (true, 1, 39, 0));
    assert_eq!(tenths(bucket.take(4000, 1)), (true, 1, 40, 0));
    assert_eq!(tenths(bucket.take(8000, 1)), (true, 4, 10, 0));
    assert_eq!(tenths(bucket.take(9500, 1)), (true, 4, 10, 0));
    assert_eq!(tenths(bucket.take(9500, 0)), (true, 4, 10, 0));
    assert_eq!(tenths(bucket.take(9500, 2)), (true, 2, 30, 0));
    assert_eq!(tenths(bucket.take(9500, 5)), (false, 2, 30, 30));
}

#[test]
fn a_quantity_of_zero_only_looks() {
    let mut bucket = Bucket::new("1/s", 1);
    assert!(bucket.take(0, 1).admitted);
    let before = bucket.tat;
    let Decision { admitted, remaining, reset, retry_after, .. } = bucket.take(0, 0);
    assert_eq!((admitted, remaining, reset, retry_after), (true, 1, SECOND, 0));
    assert_eq!(bucket.tat, before);
}

/// Which of the arrivals, in milliseconds, pass.
fn passes(rate: &str, burst: u32, arrivals: &[u64]) -> Vec<bool> {
    let mut bucket = Bucket::new(rate, burst);
    arrivals.iter().map(|&millis| bucket.take(millis, 1).admitted).collect()
}

// Vectors of nginx `limit_req` with `nodelay` (semantics section 2.1): a burst means the same here.

#[test]
fn nginx_2rs_burst_1_nodelay() {
    let expected = [true, true, false, false, true, false, false, true];
    assert_eq!(passes("2/s", 1, &[0, 0, 0, 250, 500, 501, 999, 1000]), expected);
}

#[test]
fn nginx_10rs_burst_20_nodelay() {
    let arrivals: Vec<u64> = std::iter::repeat_n(0, 23).chain([99, 100, 101, 200]).collect();
    let mut expected = vec![true; 21];
    expected.extend([false, false, false, true, false, true]);
    assert_eq!(passes("10/s", 20, &arrivals), expected);
}

#[test]
fn nginx_10rs_without_burst() {
    assert_eq!(passes("10/s", 0, &[0, 50, 99, 100, 101, 200]), [true, false, false, true, false, true]);
}

/// nginx computes `1r/m` as 16 thousandths a second, which is one in 62.5 s. Here a minute has sixty seconds; the
/// importer says so.
#[test]
fn nginx_1rm_differs_because_a_minute_is_a_minute() {
    assert_eq!(passes("1/m", 0, &[0, 59_999, 60_000, 62_499, 62_500]), [true, false, true, false, false]);
}

/// nginx's `delay=` (semantics section 2.1): rows are a limit and how long each of some requests at once waits, in milliseconds.
#[test]
fn the_burst_waits_as_nginx_has_it_wait() {
    let rows: [(&str, u32, Option<u32>, &[i64]); 5] = [
        ("10/s", 5, Some(0), &[0, 100, 200, 300, 400, 500, -1, -1]),
        ("30/m", 2, Some(1), &[0, 0, 2000, -1]),
        ("5/s", 12, Some(8), &[0, 0, 0, 0, 0, 0, 0, 0, 0, 200, 400, 600, 800, -1]),
        ("10/s", 2, None, &[0, 0, 0, -1]),
        ("1/m", 0, Some(0), &[0, -1]),
    ];
    for (rate, burst, delay, expected) in rows {
        let plain = quota(rate, burst);
        let mut bucket = Bucket { quota: delay.map_or(plain, |undelayed| plain.delaying(undelayed)), tat: 0 };
        let found = expected.iter().map(|_| {
            let decision = bucket.take(0, 1);
            if decision.admitted { i64::try_from(decision.delay / MILLISECOND).unwrap() } else { -1 }
        });
        assert_eq!(found.collect::<Vec<_>>(), expected, "{rate} burst {burst} delay {delay:?}");
    }
}

#[test]
fn a_clock_that_lags_behind_the_stored_time_is_normal() {
    let quota = quota("1/s", 1);
    let (tat, _) = decide(0, START, &quota, 1);
    // Another thread read its clock a moment earlier.
    let (tat, decision) = decide(tat.unwrap(), START - 10, &quota, 1);
    assert_eq!((tat, decision.admitted), (None, false), "the second one comes 10 ns too early for the full burst");
    assert_eq!(decision.retry_after, 10);
}

#[test]
fn a_bucket_that_is_full_again_is_as_good_as_none() {
    let quota = quota("10/s", 5);
    for tat in [0, 1, START - 1, START] {
        assert_eq!(decide(tat, START, &quota, 1), decide(0, START, &quota, 1));
    }
}

#[test]
fn nothing_overflows() {
    let extreme = quota("1/d", u32::MAX);
    for tat in [0, START, u64::MAX - 1] {
        for now in [1, START, u64::MAX - 1] {
            for quantity in [0, 1, u64::MAX] {
                let (after, decision) = decide(tat, now, &extreme, quantity);
                assert!(after.is_none_or(|after| after >= now), "{tat} {now} {quantity} {decision:?}");
            }
        }
    }
}
