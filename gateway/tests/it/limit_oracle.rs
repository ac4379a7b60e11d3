//! nginx as the oracle for limits: the same timed traffic to a real nginx and to the gateway, in one run, and the same fate for every request.
//!
//! Both read clocks of their own, nginx one that stands still for 4 ms at a time. So each program is followed through its own requests at the moments that it says
//! itself ([`model`]): every fate has to be one that the exact arithmetic allows, and where it allows one only, both programs come to it.

mod model;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use self::model::{Observed, Range, Spec, follow};
use crate::harness::{
    Client, Config, Folder, Gateway, Metronome, Program, Upstream, accepts, eventually, free_address, ok, run,
    wait_for_metric,
};

/// Some requests to one place, in milliseconds since the beginning, and the limits there.
#[derive(Debug)]
struct Trace {
    name: String,
    limits: Vec<Spec>,
    arrivals: Vec<u32>,
}

impl Trace {
    /// `10r/s burst=5 nodelay AND …`.
    fn parse(name: &str, text: &str, arrivals: Vec<u32>) -> Option<Self> {
        let limit = |text: &str| {
            let mut words = text.split(' ');
            let (count, unit) = words.next()?.split_once("r/")?;
            let mut spec = Spec {
                count: count.parse().ok()?,
                seconds: if unit == "s" { 1 } else { 60 },
                burst: 0,
                delay: Some(0),
            };
            for word in words {
                match word.split_once('=') {
                    Some(("burst", count)) => spec.burst = count.parse().ok()?,
                    Some(("delay", count)) => spec.delay = Some(count.parse().ok()?),
                    None if word == "nodelay" => spec.delay = None,
                    _ => return None,
                }
            }
            Some(spec)
        };
        Some(Self { name: name.to_owned(), limits: text.split(" AND ").map(limit).collect::<Option<_>>()?, arrivals })
    }

    /// The traces of the semantics, and those that nginx was recorded with.
    fn known() -> Vec<Self> {
        let rows: [(&str, &[u32]); 6] = [
            ("2r/s burst=1 nodelay", &[0, 0, 0, 250, 500, 515, 985, 1000]),
            ("10r/s", &[0, 50, 90, 110, 115, 225]),
            ("10r/s burst=5", &[0; 7]),
            ("30r/m burst=2 delay=1", &[0; 4]),
            ("5r/s burst=12 delay=8", &[0; 14]),
            (
                "10r/s burst=20 nodelay",
                &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 90, 110, 115, 215],
            ),
        ];
        let rows = rows.into_iter().map(|(text, arrivals)| Self::parse(text, text, arrivals.to_vec()).unwrap());
        let vectors = include_str!("../../../policies/tests/vectors/limit_req.json");
        let vectors: Value = serde_json::from_str(vectors).unwrap();
        let recorded = vectors["scenarios"].as_object().unwrap().iter().filter_map(|(name, scenario)| {
            let sent = scenario["sent"].as_array().unwrap().iter();
            let arrivals = sent.map(|request| milliseconds(request["t"].as_f64().unwrap())).collect();
            Self::parse(name, scenario["limit"].as_str().unwrap(), arrivals)
        });
        let known: Vec<_> = rows.chain(recorded).collect();
        assert_eq!(known.len(), 13);
        known
    }

    /// Limits and arrivals that nobody has thought of.
    fn random(name: String, random: &mut fastrand::Rng) -> Self {
        let limits = (0..random.u32(1..3)).map(|_| {
            // Rates that nginx keeps exactly.
            let (count, seconds) = if random.bool() { (random.u32(1..13), 1) } else { (3 * random.u32(10..200), 60) };
            let burst = random.u32(0..9);
            Spec { count, seconds, burst, delay: random.bool().then(|| random.u32(0..=burst)) }
        });
        let limits = limits.collect();
        let mut at = 0;
        let arrivals = (0..random.u32(10..30)).map(|_| {
            at += if random.bool() { 0 } else { random.u32(0..300) };
            at
        });
        Self { name, limits, arrivals: arrivals.take_while(|at| *at < 2500).collect() }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "moments of a few positive seconds")]
fn milliseconds(seconds: f64) -> u32 {
    (seconds * 1000.0).round() as u32
}

/// The moment of a request is known to fewer milliseconds than this, unless the machine stands still.
const BLUR: f64 = 15.0;

/// Milliseconds since the epoch.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1000.0
}

fn nginx(traces: &[Trace], place: &Folder) -> (Program, SocketAddr) {
    let (address, path) = (free_address(), place.path().display());
    let (mut zones, mut places) = (String::new(), String::new());
    for (index, trace) in traces.iter().enumerate() {
        write!(places, "location /t{index} {{ empty_gif;").unwrap();
        for (nth, spec) in trace.limits.iter().enumerate() {
            let unit = if spec.seconds == 1 { "s" } else { "m" };
            writeln!(zones, "limit_req_zone $server_name zone=t{index}x{nth}:64k rate={}r/{unit};", spec.count)
                .unwrap();
            let delay = match spec.delay {
                None => "nodelay".to_owned(),
                Some(0) => String::new(),
                Some(delay) => format!("delay={delay}"),
            };
            let burst = if spec.burst == 0 { String::new() } else { format!("burst={} {delay}", spec.burst) };
            write!(places, " limit_req zone=t{index}x{nth} {burst};").unwrap();
        }
        places.push_str(" }\n");
    }
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|name| format!("{name}_temp_path {path}/{name};\n")).concat();
    let config = place.write(
        "nginx.conf",
        format!(
            "daemon off; master_process off; pid {path}/nginx.pid; error_log {path}/error.log warn;\nevents {{ worker_connections 4096; }}\n\
             http {{\nlog_format told '$arg_n $status $msec $request_time';\naccess_log {path}/access.log told;\n{temporary}{zones}\
             limit_req_status 429;\nserver {{ listen {address} backlog=4096; server_name all;\n{places}}}\n}}\n"
        ),
    );
    let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
    let nginx = Program::start(Command::new("nginx").env("PATH", path).arg("-c").arg(config).args(["-e", "stderr"]));
    eventually("nginx listens", || accepts(address).then_some(()));
    (nginx, address)
}

fn gateway(traces: &[Trace], app: &Upstream) -> Gateway {
    let (mut limits, mut routes) = ("limits:".to_owned(), "routes:".to_owned());
    for (index, trace) in traces.iter().enumerate() {
        let names = (0..trace.limits.len()).map(|nth| format!("t{index}x{nth}")).collect::<Vec<_>>().join(", ");
        write!(routes, "\n  - {{path: /t{index}, limits: [{names}]}}").unwrap();
        for (nth, spec) in trace.limits.iter().enumerate() {
            let unit = if spec.seconds == 1 { "s" } else { "m" };
            let delay = match spec.delay.filter(|delay| *delay < spec.burst) {
                None => "none".to_owned(),
                Some(0) => "all".to_owned(),
                Some(delay) => delay.to_string(),
            };
            write!(
                limits,
                "\n  t{index}x{nth}: {{rate: {}/{unit}, burst: {}, delay: {delay}}}",
                spec.count, spec.burst
            )
            .unwrap();
        }
    }
    Gateway::start(
        Config::before(app)
            .top(&limits)
            .top("timeouts: {head: 60s}\nbounds: {connections_per_client: 8192}")
            .service(&routes),
    )
}

/// Sends all traces to all addresses at the same time. When each request was sent, by trace and number, for each address.
fn drive(traces: &[Trace], gateway: &Gateway, nginx: SocketAddr) -> Vec<HashMap<(usize, usize), f64>> {
    let events = traces.iter().enumerate().flat_map(|(trace, told)| {
        // Not all at once: a program that is behind looks at requests later than they came.
        let offset = u32::try_from(trace).unwrap() * 50;
        told.arrivals.iter().enumerate().map(move |(number, at)| (*at + offset, trace, number))
    });
    let mut events: Vec<_> = events.collect();
    events.sort_unstable();
    // All connections are there before the first request.
    let mut clients: Vec<_> = events.iter().map(|_| [gateway.address(), nginx].map(Client::connect)).collect();
    wait_for_metric(gateway, "probegate_connections", f64::from(u32::try_from(clients.len()).unwrap()));
    let mut sent = vec![HashMap::new(); 2];
    let begun = Instant::now() + Duration::from_millis(100);
    for ((at, trace, number), clients) in events.iter().zip(&mut clients) {
        std::thread::sleep((begun + Duration::from_millis((*at).into())).saturating_duration_since(Instant::now()));
        for (client, sent) in clients.iter_mut().zip(&mut sent) {
            sent.insert((*trace, *number), now());
            client.send(format!("GET /t{trace}?n={trace}-{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        }
    }
    for client in clients.iter_mut().flatten() {
        let status = client.response().status;
        assert!(matches!(status, 200 | 429), "{status}");
    }
    sent
}

/// `trace-number`.
fn name_of(text: &str) -> Option<(usize, usize)> {
    let (trace, number) = text.split_once('-')?;
    Some((trace.parse().ok()?, number.parse().ok()?))
}

type Fates = HashMap<(usize, usize), Observed>;

/// What the gateway did. A line is written when the request is over, and says how long that took: it came no later, and not before it was sent.
fn ours(gateway: &Gateway, sent: &HashMap<(usize, usize), f64>) -> Fates {
    let lines = eventually("everything is logged", || {
        let lines = gateway.access_log();
        (lines.len() >= sent.len()).then_some(lines)
    });
    let fates = lines.iter().map(|line| {
        let name = name_of(line["target"].as_str().unwrap().split_once("?n=").unwrap().1).unwrap();
        let end = chrono::DateTime::parse_from_rfc3339(line["time"].as_str().unwrap()).unwrap();
        let end = Duration::from_millis(end.timestamp_millis().try_into().unwrap()).as_secs_f64() * 1000.0;
        // The time is cut down to a millisecond.
        let most = end + 1.0 - line["duration_ms"].as_f64().unwrap();
        let delay = line.get("delayed_ms").map_or(0.0, |delay| delay.as_f64().unwrap());
        let admitted = line["status"] == 200;
        let at = Range { least: sent[&name].min(most), most };
        (name, Observed { at, admitted, delay: admitted.then_some(Range { least: delay, most: delay }) })
    });
    fates.collect()
}

/// What nginx did. Its clock for limits lags behind the other one by up to `tick`.
fn theirs(place: &Path, traces: &[Trace], sent: &HashMap<(usize, usize), f64>, tick: f64) -> Fates {
    let lines = eventually("everything is logged", || {
        let text = std::fs::read_to_string(place.join("access.log")).unwrap();
        (text.lines().count() >= sent.len()).then_some(text)
    });
    let errors = std::fs::read_to_string(place.join("error.log")).unwrap();
    // What it says about the bucket: `delaying request, excess: 1.000, by zone "t3x0", … request: "GET /t3?n=3-1 HTTP/1.1"`.
    let excess = errors.lines().filter(|line| line.contains("delaying request")).map(|line| {
        let after = |text: &str| line.split_once(text).unwrap().1;
        let excess = after("excess: ").split(',').next().unwrap().parse::<f64>().unwrap();
        (name_of(after("?n=").split(' ').next().unwrap()).unwrap(), excess)
    });
    let excess: HashMap<_, _> = excess.collect();
    let fates = lines.lines().map(|line| {
        let [name, status, end, took] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let name = name_of(name).unwrap();
        let start = (end.parse::<f64>().unwrap() - took.parse::<f64>().unwrap()) * 1000.0;
        let least = start.max(sent[&name]) - tick - 1.0;
        let at = Range { least, most: (start + 1.5).max(least) };
        let admitted = status == "200";
        let delay = match (excess.get(&name), traces[name.0].limits.as_slice()) {
            (None, _) => Some(Range { least: 0.0, most: 0.0 }),
            (Some(excess), [spec]) => {
                let beyond = excess - f64::from(spec.delay.unwrap());
                let delay = beyond * 1000.0 * f64::from(spec.seconds) / f64::from(spec.count);
                assert!(!admitted || took.parse::<f64>().unwrap() * 1000.0 >= delay - tick - 2.0, "{line}: {excess}");
                Some(Range { least: (delay - 1.0).max(0.0), most: delay + 1.0 })
            }
            // The zone that it names need not be the one with the longest delay.
            (Some(_), _) => Some(Range { least: 0.001, most: f64::INFINITY }),
        };
        (name, Observed { at, admitted, delay: delay.filter(|_| admitted) })
    });
    fates.collect()
}

#[test]
fn requests_fare_as_with_nginx() {
    let seed =
        std::env::var("PROBEGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("PROBEGATE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut traces = Trace::known();
    traces.extend((0..24).map(|nth| Trace::random(format!("random {nth}"), &mut random)));
    // How long the clock that nginx reads stands still: CLOCK_MONOTONIC_COARSE is number 6.
    let tick = run(Command::new("python3").args(["-c", "import time; print(time.clock_getres(6) * 1000)"]));
    let tick: f64 = tick.out.trim().parse().unwrap();
    // Where the machine stands still, nobody can tell in which order things happened: then it is tried again. What could not be explained meanwhile has
    // to be explained by a later attempt.
    let (mut attempts, mut strange) = (Vec::new(), BTreeMap::new());
    for _ in 0..8 {
        let app = Upstream::answering(|_| ok(""));
        let (gateway, place) = (gateway(&traces, &app), Folder::new());
        let (nginx, address) = nginx(&traces, &place);
        let metronome = Metronome::start();
        let sent = drive(&traces, &gateway, address);
        let late = metronome.end().as_secs_f64() * 1000.0;
        let fates = [ours(&gateway, &sent[0]), theirs(place.path(), &traces, &sent[1], tick)];
        nginx.end("TERM");
        let (mut compared, mut open, mut parted) = (0, 0, 0);
        for (index, trace) in traces.iter().enumerate() {
            let followed = ["the gateway", "nginx"].map(|who| {
                let fates = &fates[usize::from(who == "nginx")];
                let observed: Vec<_> =
                    (0..trace.arrivals.len()).map(|number| fates[&(index, number)].clone()).collect();
                match follow(&trace.limits, &observed) {
                    Ok(free) => {
                        strange.remove(&(index, who));
                        Some((observed, free))
                    }
                    // It was kept from looking, and nobody knows in which order it did then.
                    Err(_) if observed.iter().any(|observed| observed.at.most - observed.at.least > BLUR) => None,
                    Err(why) => {
                        let told = format!("seed {seed}, {who}, {}, {trace:?}: {why}", trace.name);
                        // The clock that nginx reads stands still for longer where the kernel comes too late as well.
                        assert!(late > BLUR, "{told}");
                        strange.insert((index, who), told);
                        None
                    }
                }
            });
            let [Some((ours, free)), Some((theirs, also_free))] = followed else {
                parted += 1;
                continue;
            };
            for number in 0..trace.arrivals.len() {
                compared += 1;
                open += usize::from(free[number] || also_free[number]);
                if ours[number].admitted != theirs[number].admitted {
                    // From here on, the two have seen different traffic.
                    parted += 1;
                    break;
                }
            }
        }
        println!(
            "{compared} requests compared, {open} of them too close to tell, {parted} of {} traces parted",
            traces.len()
        );
        if open * 10 <= compared && parted * 5 <= traces.len() && strange.is_empty() {
            return;
        }
        attempts.push((compared, open, parted));
    }
    panic!(
        "seed {seed}: too many are too close to tell (compared, close, parted): {attempts:?}, and not explained: {strange:#?}"
    );
}
