//! Three gateways under a load that would pass three times as much if each counted alone: requests on three limits, each of which counts in another way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::config;
use crate::harness::{Client, Gateway, Metronome, Redis, Upstream, metric, ok};

/// Requests a second that each of the limits lets pass in the long run.
pub(super) const RATE: f64 = 21.0;
/// Those that may come at once, where there are no windows.
pub(super) const BUCKET: f64 = 15.0;
/// Clients of each gateway. Each asks for all kinds in turn, about 100 times a second: 67 requests a second for each kind and gateway.
const CLIENTS: usize = 2;

/// In which way a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rate,
    /// Fixed windows.
    Windows,
    /// By answers: all of its requests are answered 401.
    Answers,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Rate, Self::Windows, Self::Answers];

    /// The name of its limit, and the path of its route.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Windows => "windows",
            Self::Answers => "answers",
        }
    }

    fn limit(self, window: u32) -> String {
        match self {
            Self::Rate => "{rate: 21/s, burst: 14, shared: true}".to_owned(),
            Self::Windows => format!("{{rate: {}/{window}s, algorithm: fixed_window, shared: true}}", 21 * window),
            Self::Answers => "{rate: 21/s, burst: 14, count: {status: [401]}, shared: true}".to_owned(),
        }
    }

    /// Requests that pass beyond a bucket, because they were under way at the same time at different gateways or workers: no more than there are clients.
    pub(super) fn at_the_same_time(self) -> f64 {
        if self == Self::Answers { f64::from(u32::try_from(3 * CLIENTS).unwrap()) } else { 0.0 }
    }
}

/// One request: when it was sent and when it was answered, in seconds since the load began, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) kind: Kind,
    pub(super) sent: f64,
    pub(super) answered: f64,
    pub(super) status: u16,
}

impl Asked {
    fn passed(&self) -> bool {
        matches!(self.status, 200 | 401)
    }
}

/// Clients that ask for as long as this lives.
pub(super) struct Load {
    ends: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Asked>>>,
    began: Instant,
    /// The same in seconds since 1970.
    epoch: f64,
}

impl Load {
    pub(super) fn on(gateways: &[Gateway]) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (began, epoch) = (Instant::now(), UNIX_EPOCH.elapsed().unwrap().as_secs_f64());
        let addresses: Vec<SocketAddr> = gateways.iter().flat_map(|gateway| [gateway.address(); CLIENTS]).collect();
        let clients = addresses.into_iter().map(|address| {
            let ends = Arc::clone(&ends);
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut all = Vec::new();
                for kind in Kind::ALL.into_iter().cycle() {
                    if ends.load(Ordering::Relaxed) {
                        break;
                    }
                    let sent = began.elapsed().as_secs_f64();
                    client.send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", kind.name()));
                    let status = client.response().status;
                    all.push(Asked { kind, sent, answered: began.elapsed().as_secs_f64(), status });
                    // The pace of the load, not a wait for something to happen.
                    std::thread::sleep(Duration::from_millis(9));
                }
                all
            })
        });
        let clients = clients.collect();
        Self { ends, clients, began, epoch }
    }

    /// Seconds since it began.
    pub(super) fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Goes on until so much time has passed since it began.
    pub(super) fn until(&self, seconds: f64) {
        std::thread::sleep(Duration::from_secs_f64(seconds).saturating_sub(self.began.elapsed()));
    }

    /// The fixed windows that there have been so far, of so many seconds each: when each began and ended.
    pub(super) fn windows(&self, seconds: u32) -> Vec<(f64, f64)> {
        let (period, until) = (f64::from(seconds), self.epoch + self.now());
        // Where django-ratelimit ends them. The end is a second that belongs to the window.
        let stagger = f64::from(crate::limit_counts::crc32(b"127.0.0.1") % seconds) + 1.0;
        let first = ((self.epoch - stagger) / period).floor() * period + stagger;
        let begins = (0..).map(|number| first + f64::from(number) * period).take_while(|begin| *begin < until);
        begins.map(|begin| (begin - self.epoch, begin + period - self.epoch)).collect()
    }

    pub(super) fn end(self) -> Vec<Asked> {
        self.ends.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

/// What is wrong, as far as it was found out.
#[derive(Debug, Default)]
pub(super) struct Wrong(Vec<String>);

impl Wrong {
    pub(super) fn unless(&mut self, fine: bool, what: String) {
        if !fine {
            self.0.push(what);
        }
    }
}

/// Does it until nothing is wrong. What is wrong while the machine stood still says nothing, and is tried again, some times at the most; otherwise it is a fault.
pub(super) fn undisturbed(mut attempt: impl FnMut() -> Wrong) {
    let mut attempts = Vec::new();
    for _ in 0..8 {
        let metronome = Metronome::start();
        let Wrong(wrong) = attempt();
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
fn beyond(asked: &[Asked], kind: Kind) -> f64 {
    let passed: Vec<&Asked> = asked.iter().filter(|asked| asked.kind == kind && asked.passed()).collect();
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

/// Those that passed, and were sent and answered within this time.
pub(super) fn passed(asked: &[Asked], kind: Kind, from: f64, to: f64) -> f64 {
    let within = |asked: &&Asked| asked.kind == kind && asked.passed() && asked.sent >= from && asked.answered <= to;
    f64::from(u32::try_from(asked.iter().filter(within).count()).unwrap())
}

/// Gateways with a limit of each kind, and fixed windows of so many seconds.
pub(super) fn three(app: &Upstream, redis: &Redis, timeout: &str, window: u32) -> Vec<Gateway> {
    let (mut limits, mut routes) = ("limits:\n".to_owned(), "routes:\n".to_owned());
    for kind in Kind::ALL {
        let name = kind.name();
        limits.push_str(&format!("  {name}: {}\n", kind.limit(window)));
        routes.push_str(&format!("  - {{path: /{name}, limits: [{name}]}}\n"));
    }
    let start = |_| {
        let text = config(app, &redis.url(), limits.trim_end(), &routes, &format!("timeout: {timeout}"));
        // Each with two connections to the server.
        Gateway::start(text.replace("workers: 1", "workers: 2"))
    };
    (0..3).map(start).collect()
}

/// An app whose answers count where answers decide.
pub(super) fn app() -> Upstream {
    Upstream::answering(|request| {
        if request.target() == "/answers" {
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_vec()
        } else {
            ok("answered")
        }
    })
}

#[test]
fn three_gateways_let_pass_over_any_window_what_one_may() {
    undisturbed(|| {
        let redis = Redis::start();
        let app = app();
        let gateways = three(&app, &redis, "900ms", 2);
        let load = Load::on(&gateways);
        load.until(5.0);
        let windows = load.windows(2);
        let asked = load.end();
        assert!(asked.iter().all(|asked| asked.passed() || asked.status == 429));
        let mut wrong = Wrong::default();
        for kind in [Kind::Rate, Kind::Answers] {
            // To the microsecond of the server's clock; a request more for the sums of seconds.
            let worst = beyond(&asked, kind);
            let most = BUCKET + kind.at_the_same_time() + 1.0;
            wrong.unless(worst <= most, format!("{kind:?}: {worst} requests beyond the rate within some window"));
            let count = passed(&asked, kind, 0.0, 6.0);
            let least = 0.8 * (5.0 * RATE + BUCKET - 1.0);
            wrong.unless(count >= least, format!("{kind:?}: only {count} of {} passed", asked.len()));
        }
        for (begin, end) in windows {
            let count = passed(&asked, Kind::Windows, begin, end);
            wrong.unless(count <= 2.0 * RATE, format!("{count} passed from {begin} to {end}"));
            let is_whole = begin >= 0.0 && end <= 5.0;
            wrong.unless(!is_whole || count >= 1.6 * RATE, format!("only {count} passed from {begin} to {end}"));
        }
        for gateway in &gateways {
            let local = metric(gateway, "probegate_limit_store_decisions_total{by=\"local\"}");
            wrong.unless(local < 0.5, format!("the store was not asked {local} times"));
            for kind in Kind::ALL {
                // Alone, each of them would have let pass three times its part.
                let limited = metric(gateway, &format!("probegate_limited_total{{limit=\"{}\"}}", kind.name()));
                wrong.unless(limited > 40.0, format!("{kind:?}: only {limited} were limited"));
            }
        }
        wrong
    });
}
