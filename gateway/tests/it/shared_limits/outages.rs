//! The same load, while the server dies, hangs, restarts and comes back: no error, no stall, one line for each change, and no more than the documented slack.

use super::load::{Asked, BUCKET, Kind, Load, RATE, Wrong, app, passed, three, undisturbed};
use crate::harness::{Gateway, Redis, eventually, metric};

/// What becomes of the load while `harm` is done to the server and then mended.
fn outage(harm: impl Fn(&mut Redis), mend: impl Fn(&mut Redis)) {
    undisturbed(|| attempt(&harm, &mend));
}

fn attempt(harm: impl FnOnce(&mut Redis), mend: impl FnOnce(&mut Redis)) -> Wrong {
    let mut redis = Redis::start();
    let app = app();
    let gateways = three(&app, &redis, "50ms", 1);
    let load = Load::on(&gateways);
    load.until(1.0);
    let harmed = load.now();
    harm(&mut redis);
    for gateway in &gateways {
        gateway.wait_for_log(|line| said(line, GONE));
    }
    let gone = load.now();
    load.until(gone + 2.0);
    let mended = load.now();
    mend(&mut redis);
    for gateway in &gateways {
        gateway.wait_for_log(|line| said(line, BACK));
    }
    let back = load.now();
    load.until(back + 1.0);
    let took = load.now();
    let windows = load.windows(1);
    let asked = load.end();

    let mut wrong = answered_in_time(&asked);
    let span = mended - gone;
    for kind in [Kind::Rate, Kind::Answers] {
        // Two changes: a bucket for each beyond the limit's own, and one request a gateway where they change one after the other.
        let total = passed(&asked, kind, 0.0, took);
        let slack = 3.0 * BUCKET + 3.0 + RATE + 2.0 * kind.at_the_same_time();
        wrong.unless(total <= RATE * took + slack, format!("{kind:?}: {total} passed in {took} s"));
        let meanwhile = passed(&asked, kind, gone, mended);
        let most = RATE * span + BUCKET + 3.0;
        wrong.unless(meanwhile <= most, format!("{kind:?}: {meanwhile} passed in {span} s"));
        let told = format!("{kind:?}: each counts alone, with a third: {meanwhile} in {span} s");
        wrong.unless(meanwhile >= 0.5 * RATE * span, told);
    }
    for (begin, end) in windows {
        let count = passed(&asked, Kind::Windows, begin, end);
        // Where it changes, everybody's share is added to what had passed. When one worker has found the store to be back, the others connect at once.
        let changes = [(harmed, gone), (mended, back + 0.3)].map(|(from, to)| f64::from(from < end && begin < to));
        let most = RATE * (1.0 + changes.iter().sum::<f64>());
        wrong.unless(count <= most, format!("{count} passed from {begin} to {end}, where {most} may"));
        let is_alone = begin >= gone && end <= mended;
        wrong.unless(!is_alone || count >= 0.5 * RATE, format!("only {count} passed from {begin} to {end}"));
    }
    for gateway in &gateways {
        let lines = gateway.log_lines();
        for what in [GONE, BACK] {
            wrong.unless(lines.iter().filter(|line| line.contains(what)).count() == 1, format!("{lines:#?}"));
        }
        let late = metric(gateway, "probegate_limit_store_failures_total{reason=\"timeout\"}");
        wrong.unless(late < 20.0, format!("the breaker keeps requests from waiting: {late}"));
        let local = metric(gateway, "probegate_limit_store_decisions_total{by=\"local\"}");
        wrong.unless(local > 10.0, format!("only {local} were counted here"));
        closed(gateway);
    }
    wrong
}

const GONE: &str = "the limit store is not asked any more";
const BACK: &str = "the limit store is asked again";

fn said(line: &serde_json::Value, what: &str) -> bool {
    line["message"].as_str().is_some_and(|message| message.contains(what))
}

/// Waits until the store is asked.
fn closed(gateway: &Gateway) {
    eventually("it is closed", || {
        (metric(gateway, "probegate_limit_store_breaker{state=\"closed\"}") > 0.5).then_some(())
    });
}

/// Nobody was told of an error, whatever the machine does; nor did anybody wait for much longer than the deadline.
fn answered_in_time(asked: &[Asked]) -> Wrong {
    let passes = |kind| if kind == Kind::Answers { 401 } else { 200 };
    let errors: Vec<_> =
        asked.iter().filter(|asked| asked.status != 429 && asked.status != passes(asked.kind)).collect();
    assert!(errors.is_empty(), "of {}: {errors:#?}", asked.len());
    let mut latencies: Vec<f64> = asked.iter().map(|asked| asked.answered - asked.sent).collect();
    latencies.sort_by(f64::total_cmp);
    let most = latencies.last().unwrap();
    let common = latencies[latencies.len() * 99 / 100];
    let mut wrong = Wrong::default();
    // The deadline is 50 ms; the rest is for a processor with other tests on it.
    wrong.unless(common < 0.3 && *most < 1.5, format!("99 % within {common} s, all within {most} s"));
    wrong
}

#[test]
fn a_server_that_is_killed_and_started_again_costs_nobody_an_answer() {
    outage(Redis::kill, Redis::start_again);
}

#[test]
fn a_server_that_hangs_and_goes_on_costs_nobody_an_answer() {
    outage(|redis| redis.signal("STOP"), |redis| redis.signal("CONT"));
}

/// So short that some gateways may not even notice.
#[test]
fn a_server_that_is_restarted_again_and_again_costs_nobody_an_answer() {
    const RESTARTS: u32 = 3;
    undisturbed(|| {
        let mut redis = Redis::start();
        let app = app();
        let gateways = three(&app, &redis, "50ms", 1);
        let load = Load::on(&gateways);
        load.until(0.5);
        for _ in 0..RESTARTS {
            redis.kill();
            redis.start_again();
            gateways.iter().for_each(closed);
            load.until(load.now() + 0.7);
        }
        let took = load.now();
        let asked = load.end();
        let mut wrong = answered_in_time(&asked);
        for kind in Kind::ALL {
            let bucket = if kind == Kind::Windows { RATE } else { BUCKET };
            // Each time: what was forgotten, and two changes.
            let buckets = 1.0 + 3.0 * f64::from(RESTARTS);
            let total = passed(&asked, kind, 0.0, took);
            let most = RATE * (took + 1.0) + buckets * bucket + f64::from(RESTARTS + 1) * kind.at_the_same_time();
            wrong.unless(total <= most, format!("{kind:?}: {total} passed in {took} s, where {most} may"));
            let least = 0.5 * RATE * took;
            wrong.unless(total >= least, format!("{kind:?}: {total} passed in {took} s"));
        }
        wrong
    });
}
