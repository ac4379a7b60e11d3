//! Three gateways under a load that would pass three times as much if each counted alone, and a server that dies, hangs and comes back meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::config;
use crate::harness::{Client, Gateway, Metronome, Redis, Upstream, eventually, metric, ok};

/// Requests a second, and one less than may come at once.
const RATE: f64 = 30.0;
const BURST: f64 = 14.0;
const LIMIT: &str = "limits: {all: {rate: 30/s, burst: 14, shared: true}}";

/// One request: when it was sent and when it was answered, in seconds, and how.
#[derive(Clone, Copy, Debug)]
struct Asked {
    sent: f64,
    answered: f64,
    status: u16,
}

/// Clients that ask for as long as this lives.
struct Load {
    ends: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Asked>>>,
    began: Instant,
}

impl Load {
    /// Two clients for each gateway, each with about 100 requests a second.
    fn on(gateways: &[Gateway]) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let began = Instant::now();
        let addresses: Vec<SocketAddr> = gateways.iter().flat_map(|gateway| [gateway.address(); 2]).collect();
        let clients = addresses.into_iter().map(|address| {
            let ends = Arc::clone(&ends);
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut all = Vec::new();
                while !ends.load(Ordering::Relaxed) {
                    let sent = began.elapsed().as_secs_f64();
                    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    let status = client.response().status;
                    all.push(Asked { sent, answered: began.elapsed().as_secs_f64(), status });
                    // The pace of the load, not a wait for something to happen.
                    std::thread::sleep(Duration::from_millis(9));
                }
                all
            })
        });
        let clients = clients.collect();
        Self { ends, clients, began }
    }

    /// Goes on until so much time has passed since it began.
    fn until(&self, seconds: f64) {
        std::thread::sleep(Duration::from_secs_f64(seconds).saturating_sub(self.began.elapsed()));
    }

    fn end(self) -> Vec<Asked> {
        self.ends.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

/// Does it until nothing is wrong. What is wrong while the machine stood still says nothing, and is tried again, some times at the most; otherwise it is a fault.
fn undisturbed(mut attempt: impl FnMut() -> Vec<String>) {
    let mut attempts = Vec::new();
    for _ in 0..8 {
        let metronome = Metronome::start();
        let wrong = attempt();
        // A deadline of 50 ms may have passed because nobody had a processor.
        let disturbed = metronome.end() > Duration::from_millis(15);
        if wrong.is_empty() {
            return;
        }
        assert!(disturbed, "{wrong:#?}");
        println!("tried again, the machine stood still: {wrong:#?}");
        attempts.push(wrong);
    }
    panic!("wrong each time: {attempts:#?}");
}

/// The most that passed beyond the rate in any window: whatever was sent and answered within one passed within it.
fn beyond(asked: &[Asked]) -> f64 {
    let passed: Vec<&Asked> = asked.iter().filter(|asked| asked.status == 200).collect();
    let mut worst = 0.0_f64;
    for first in &passed {
        let mut ends: Vec<f64> =
            passed.iter().filter(|asked| asked.sent >= first.sent).map(|asked| asked.answered).collect();
        ends.sort_by(f64::total_cmp);
        for (index, end) in ends.iter().enumerate() {
            let count = f64::from(u32::try_from(index + 1).unwrap());
            worst = worst.max(count - RATE * (end - first.sent));
        }
    }
    worst
}

fn passed(asked: &[Asked], from: f64, to: f64) -> f64 {
    let within = asked.iter().filter(|asked| asked.status == 200 && asked.sent >= from && asked.answered <= to);
    f64::from(u32::try_from(within.count()).unwrap())
}

fn three(app: &Upstream, redis: &Redis, timeout: &str) -> Vec<Gateway> {
    let start = |_| {
        let text = config(app, &redis.url(), LIMIT, "limits: [all]", &format!("timeout: {timeout}"));
        // Each with two connections to the server.
        Gateway::start(text.replace("workers: 1", "workers: 2"))
    };
    (0..3).map(start).collect()
}

#[test]
fn three_gateways_let_pass_over_any_window_what_one_may() {
    undisturbed(|| {
        let redis = Redis::start();
        let app = Upstream::answering(|_| ok("answered"));
        let gateways = three(&app, &redis, "900ms");
        let load = Load::on(&gateways);
        load.until(4.0);
        let asked = load.end();
        assert!(asked.iter().all(|asked| matches!(asked.status, 200 | 429)));
        let mut wrong = Vec::new();
        let mut check = |fine: bool, what: String| {
            if !fine {
                wrong.push(what);
            }
        };
        // To the microsecond of the server's clock; a request more for the sums of seconds.
        let worst = beyond(&asked);
        check(worst <= BURST + 1.0 + 1.0, format!("{worst} requests beyond the rate within some window"));
        let count = passed(&asked, 0.0, 5.0);
        check(count >= 0.8 * (4.0 * RATE + BURST), format!("only {count} of {} passed", asked.len()));
        for gateway in &gateways {
            let local = metric(gateway, "probegate_limit_store_decisions_total{by=\"local\"}");
            check(local < 0.5, format!("the store was not asked {local} times"));
            // Alone, each of them would have let pass three times its part.
            let limited = metric(gateway, "probegate_limited_total{limit=\"all\"}");
            check(limited > 40.0, format!("only {limited} were limited"));
        }
        wrong
    });
}

/// What becomes of a load while `harm` is done to the server and then mended: no error, no stall, one line for each change, and no more than the documented slack.
fn outage(harm: impl Fn(&mut Redis), mend: impl Fn(&mut Redis)) {
    undisturbed(|| attempt(&harm, &mend));
}

fn attempt(harm: impl FnOnce(&mut Redis), mend: impl FnOnce(&mut Redis)) -> Vec<String> {
    let mut redis = Redis::start();
    let app = Upstream::answering(|_| ok("answered"));
    let gateways = three(&app, &redis, "50ms");
    let load = Load::on(&gateways);
    load.until(1.0);
    harm(&mut redis);
    for gateway in &gateways {
        gateway.wait_for_log(|line| said(line, "the limit store is not asked any more"));
    }
    let gone = load.began.elapsed().as_secs_f64();
    load.until(gone + 1.5);
    let mended = load.began.elapsed().as_secs_f64();
    mend(&mut redis);
    for gateway in &gateways {
        gateway.wait_for_log(|line| said(line, "the limit store is asked again"));
    }
    let back = load.began.elapsed().as_secs_f64();
    load.until(back + 1.0);
    let took = load.began.elapsed().as_secs_f64();
    let asked = load.end();

    // Whatever the machine does, nobody is told of an error.
    let errors = asked.iter().filter(|asked| !matches!(asked.status, 200 | 429)).count();
    assert_eq!(errors, 0, "of {}", asked.len());
    let mut wrong = Vec::new();
    let mut check = |fine: bool, what: String| {
        if !fine {
            wrong.push(what);
        }
    };
    let mut latencies: Vec<f64> = asked.iter().map(|asked| asked.answered - asked.sent).collect();
    latencies.sort_by(f64::total_cmp);
    let most = latencies.last().unwrap();
    let common = latencies[latencies.len() * 99 / 100];
    // The deadline is 50 ms; the rest is for a processor with other tests on it.
    check(common < 0.3 && *most < 1.5, format!("99 % within {common} s, all within {most} s"));
    // Two changes: a bucket for each beyond the limit's own, and one request a gateway where they change one after the other.
    let total = passed(&asked, 0.0, took);
    let slack = 3.0 * (BURST + 1.0) + 3.0 + RATE;
    check(total <= RATE * took + slack, format!("{total} passed in {took} s"));
    let meanwhile = passed(&asked, gone, mended);
    let span = mended - gone;
    check(meanwhile <= RATE * span + BURST + 1.0 + 3.0, format!("{meanwhile} passed in {span} s"));
    check(meanwhile >= 0.5 * RATE * span, format!("each counts alone, with a third: {meanwhile} in {span} s"));
    for gateway in &gateways {
        let lines = gateway.log_lines();
        for what in ["the limit store is not asked any more", "the limit store is asked again"] {
            check(lines.iter().filter(|line| line.contains(what)).count() == 1, format!("{lines:#?}"));
        }
        let late = metric(gateway, "probegate_limit_store_failures_total{reason=\"timeout\"}");
        check(late < 20.0, format!("the breaker keeps requests from waiting: {late}"));
        let local = metric(gateway, "probegate_limit_store_decisions_total{by=\"local\"}");
        check(local > 10.0, format!("only {local} were counted here"));
        eventually("it is closed", || {
            (metric(gateway, "probegate_limit_store_breaker{state=\"closed\"}") > 0.5).then_some(())
        });
    }
    wrong
}

fn said(line: &serde_json::Value, what: &str) -> bool {
    line["message"].as_str().is_some_and(|message| message.contains(what))
}

#[test]
fn a_server_that_is_killed_and_started_again_costs_nobody_an_answer() {
    outage(Redis::kill, Redis::start_again);
}

#[test]
fn a_server_that_hangs_and_goes_on_costs_nobody_an_answer() {
    outage(|redis| redis.signal("STOP"), |redis| redis.signal("CONT"));
}
