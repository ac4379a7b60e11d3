//! Limits that count otherwise: by answers, in shadow mode, in fixed windows.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use serde_json::json;

use crate::harness::{
    Client, Config, Folder, Gate, Gateway, Upstream, eventually, exchange, get, metric, ok, wait_for_metric,
};
use crate::http2::with_http2;

/// An app that lets in whoever knows the password.
pub(crate) fn login() -> Upstream {
    Upstream::answering(|request| {
        if request.target().contains("right") {
            ok("welcome")
        } else {
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_vec()
        }
    })
}

/// Tries a password, and says what came of it.
pub(crate) fn guess(gateway: &Gateway, password: &str) -> u16 {
    exchange(gateway.address(), format!("POST /login?{password} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"))
        .status
}

const FAILURES: &str = "limits: {login: {rate: 5/h, count: {status: [401, 403]}}}";

#[test]
fn five_failed_logins_close_the_door_and_a_thousand_good_ones_do_not() {
    let app = login();
    let gateway = Gateway::start(Config::before(&app).workers(2).top(FAILURES).service("limits: [login]"));
    let mut client = Client::connect(gateway.address());
    for _ in 0..1000 {
        client.send("POST /login?right HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }
    // What a good one has not used is given back a moment after its answer, before its line in the log; another worker need not wait for that.
    eventually("all are logged", || (gateway.log_lines().len() >= 1000).then_some(()));
    let last = gateway.wait_for_log(|line| line["status"] == 200);
    assert_eq!(last["target"], "/login?right");
    let seen: Vec<_> = (0..5).map(|_| guess(&gateway, "wrong")).collect();
    assert_eq!(seen, [401; 5]);
    let seen = ["wrong", "right", "wrong"].map(|password| guess(&gateway, password));
    assert_eq!(seen, [429; 3], "whoever knows it now comes too late");
    assert_eq!(app.requests().len(), 1005);
    let refused = exchange(gateway.address(), "POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let after: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((600..=720).contains(&after), "one guess is earned back in twelve minutes: {after}");
}

#[test]
fn guesses_at_the_same_time_get_no_further_than_one_after_the_other() {
    let gate = Arc::new(Gate::default());
    let app = {
        let gate = Arc::clone(&gate);
        Upstream::answering(move |_| {
            gate.wait();
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec()
        })
    };
    let gateway = Gateway::start(Config::before(&app).workers(2).top(FAILURES).service("limits: [login]"));
    let address = gateway.address();
    let guesses: Vec<_> = (0..20)
        .map(|_| {
            thread::spawn(move || {
                exchange(address, "POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status
            })
        })
        .collect();
    wait_for_metric(&gateway, "probegate_limited_total{limit=\"login\"}", 15.0);
    assert_eq!(app.wait_for_requests(5).len(), 5);
    gate.open();
    let mut seen: Vec<_> = guesses.into_iter().map(|guess| guess.join().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, [[403; 5].as_slice(), &[429; 15]].concat());
    assert_eq!(guess(&gateway, "more"), 429);
}

/// Whether there is room for one more, the answers of those under way decide.
pub(crate) fn while_others_are_under_way_nobody_knows(start: impl Fn(&Upstream) -> Gateway) {
    let gate = Arc::new(Gate::default());
    let app = {
        let gate = Arc::clone(&gate);
        Upstream::answering(move |_| {
            gate.wait();
            ok("welcome")
        })
    };
    let gateway = start(&app);
    let mut others: Vec<_> = (0..5).map(|_| Client::connect(gateway.address())).collect();
    for other in &mut others {
        other.send("POST /login?right HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    }
    app.wait_for_requests(5);
    let refused = get(gateway.address(), "/login?right");
    let told = ["retry-after", "ratelimit"].map(|name| refused.field(name).unwrap());
    assert_eq!((refused.status, told), (429, ["1", "\"login\";r=0"].map(str::to_owned)));
    gate.open();
    assert!(others.iter_mut().all(|other| other.response().status == 200));
    // Given back a moment after the answer.
    eventually("there is room", || (guess(&gateway, "right") == 200).then_some(()));
}

#[test]
fn while_others_are_under_way_nobody_is_told_to_stay_away_for_an_hour() {
    for rate in ["rate: 5/h", "rate: 5/h, algorithm: fixed_window"] {
        let limit = format!("limits: {{login: {{{rate}, count: {{status: [401]}}}}}}");
        while_others_are_under_way_nobody_knows(|app| {
            Gateway::start(Config::before(app).top(&limit).service("limits: [login]"))
        });
    }
}

#[test]
fn the_gateways_own_answers_count_and_what_is_not_answered_so_does_not() {
    let app = login();
    let config = Config::before(&app)
        .top("networks: {nobody: [192.0.2.0/24]}\nlimits: {door: {rate: 2/h, count: {status: [403]}}}")
        .service("limits: [door]\nroutes: [{path: /shut, allow: {network: nobody}}]");
    let gateway = Gateway::start(config);
    for _ in 0..5 {
        assert_eq!((guess(&gateway, "wrong"), guess(&gateway, "right")), (401, 200), "neither is a 403");
    }
    let seen: Vec<_> = (0..3).map(|_| get(gateway.address(), "/shut").status).collect();
    assert_eq!(seen, [403, 403, 429]);
}

#[test]
fn whoever_leaves_before_the_answer_is_counted_and_one_refused_elsewhere_is_not() {
    let gate = Arc::new(Gate::default());
    let app = {
        let gate = Arc::clone(&gate);
        Upstream::answering(move |request| {
            if request.target().contains("slow") {
                gate.wait();
            }
            ok("")
        })
    };
    let config = Config::before(&app)
        .top("limits:\n  login: {rate: 2/h, count: {status: [401]}}\n  few: {rate: 3/d}")
        .service("limits: [login, few]");
    let gateway = Gateway::start(with_http2(&config));
    for nth in 1..=2 {
        let mut client = Client::connect(gateway.address());
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        app.wait_for_requests(nth);
        drop(client);
        eventually("it is given up", || {
            (gateway.access_log().iter().filter(|line| line["status"] == 499).count() == nth).then_some(())
        });
    }
    gate.open();
    let refused = get(gateway.address(), "/");
    assert_eq!((refused.status, refused.json()["violated-policies"].clone()), (429, json!(["login"])));
}

#[test]
fn a_limit_in_shadow_mode_counts_and_refuses_nobody() {
    let app = login();
    let config = Config::before(&app)
        .top("limits:\n  strict: {rate: 2/h, mode: shadow}\n  other: {rate: 1/h, burst: 0, delay: none, mode: shadow, key: path}\n  real: {rate: 4/d}")
        .service("limits: [strict, other, real]");
    let gateway = Gateway::start(config);
    let seen: Vec<_> = (0..6).map(|_| get(gateway.address(), "/?right").status).collect();
    assert_eq!(seen, [200, 200, 200, 200, 429, 429]);
    let shadows = |count: usize| {
        let lines = eventually("all is logged", || {
            let lines = gateway.access_log();
            (lines.len() >= count).then_some(lines)
        });
        lines.iter().map(|line| line["shadow"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shadows(6), ["", "other", "strict,other", "strict,other", "strict,other", "strict,other"]);
    wait_for_metric(&gateway, "probegate_limit_shadow_total{limit=\"strict\"}", 4.0);
    wait_for_metric(&gateway, "probegate_limit_shadow_total{limit=\"other\"}", 5.0);
    assert!(metric(&gateway, "probegate_limited_total{limit=\"strict\"}") < 0.5);
    wait_for_metric(&gateway, "probegate_limited_total{limit=\"real\"}", 2.0);
    // What the real limit refused was charged to neither: another path of `other` has its one request still.
    let lines = gateway.access_log();
    assert_eq!(lines.last().map(|line| line["policy"].clone()), Some(json!("limit:real")));
}

#[test]
fn a_share_of_the_keys_is_refused_and_each_of_them_always() {
    let app = login();
    let limit = |share: &str| format!("limits: {{tenant: {{rate: 1/h, key: {{header: X-Tenant}}, enforce: {share}}}}}");
    let config = |share: &str| Config::before(&app).top(&limit(share)).service("limits: [tenant]").to_string();
    let gateway = Gateway::start(config("30%"));
    let ask = |tenant: usize| {
        let asked = format!("GET /?right HTTP/1.1\r\nHost: a\r\nX-Tenant: {tenant}\r\n\r\n");
        exchange(gateway.address(), asked).status
    };
    let refused = || -> Vec<usize> {
        (0..100)
            .filter(|tenant| {
                let seen = [ask(*tenant), ask(*tenant)];
                assert!(seen == [429; 2] || seen == [200; 2], "{tenant}: {seen:?}");
                seen == [429; 2]
            })
            .collect()
    };
    assert!((0..100).all(|tenant| ask(tenant) == 200), "each has one");
    let few = refused();
    // Thirty in all likelihood; less than one run in a million is outside of this.
    assert!((8..55).contains(&few.len()), "{few:?}");
    let would = 2.0 * f64::from(u32::try_from(100 - few.len()).unwrap());
    wait_for_metric(&gateway, "probegate_limit_shadow_total{limit=\"tenant\"}", would);
    std::fs::write(gateway.config_path(), config("70%")).unwrap();
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    let more = refused();
    assert!(few.iter().all(|tenant| more.contains(tenant)), "who was in stays in");
    assert!((45..93).contains(&more.len()) && more.len() > few.len(), "{more:?}");
}

#[test]
fn the_keys_that_a_limit_refuses_are_the_same_after_a_restart() {
    let (app, storage) = (login(), Folder::new());
    let limits = "limits: {tenant: {rate: 1/h, key: {header: X-Tenant}, enforce: 50%}}";
    let start = |folder: &Path| {
        let top = format!("{limits}\nstorage: {}", folder.display());
        Gateway::start(Config::before(&app).top(&top).service("limits: [tenant]"))
    };
    let refused = |gateway: &Gateway| -> Vec<usize> {
        let ask = |tenant: usize| {
            let asked = format!("GET /?right HTTP/1.1\r\nHost: a\r\nX-Tenant: {tenant}\r\n\r\n");
            exchange(gateway.address(), asked).status
        };
        (0..40).filter(|tenant| [ask(*tenant), ask(*tenant)] == [200, 429]).collect()
    };
    let folder = storage.path().join("made/when/needed");
    let first = refused(&start(&folder));
    assert!((4..37).contains(&first.len()), "{first:?}");
    assert_eq!(refused(&start(&folder)), first, "once in forty billion by chance");
    let file = folder.join("limits.secret");
    let secret = std::fs::read_to_string(&file).unwrap();
    assert_eq!((secret.len(), std::fs::metadata(&file).unwrap().permissions().mode() & 0o777), (33, 0o600));
    // With another secret, others are in; one that says nothing is not overwritten, and told of.
    std::fs::write(&file, "another\n").unwrap();
    assert_ne!(refused(&start(&folder)), first);
    std::fs::write(&file, "\n").unwrap();
    let gateway = start(&folder);
    gateway
        .wait_for_log(|line| line["message"] == "whom a limit with `enforce` refuses is drawn anew at the next start");
    assert!((4..37).contains(&refused(&gateway).len()));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "\n");
    // Nothing is written where nothing is drawn.
    let unused = storage.path().join("unused");
    let plain = Config::before(&app).top(&format!("limits: {{all: {{rate: 9/s}}}}\nstorage: {}", unused.display()));
    let plain = Gateway::start(plain.service("limits: [all]"));
    assert_eq!(get(plain.address(), "/?right").status, 200);
    assert!(!unused.exists());
}

#[test]
fn fixed_windows_let_exactly_the_count_pass() {
    let app = login();
    let config = Config::before(&app)
        .workers(2)
        .top("limits: {window: {rate: 5/d, algorithm: fixed_window}}")
        .service("limits: [window]");
    let gateway = Gateway::start(config);
    let (client, end) = calm();
    let seen: Vec<_> = (0..7).map(|_| get_from(client, &gateway, "/?right")).collect();
    let statuses: Vec<_> = seen.iter().map(|response| response.status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    let refused = seen.last().unwrap();
    assert_eq!(refused.field("ratelimit-policy").as_deref(), Some("\"window\";q=5;w=86400"));
    assert!(refused.field("ratelimit").unwrap().starts_with("\"window\";r=0;t="));
    let after: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    // The end belongs to the window.
    let left = end + 1 - now();
    assert!((left..=left + 60).contains(&after), "{after} {left}");
}

/// An answer to this client.
pub(crate) fn get_from(client: [u8; 4], gateway: &Gateway, target: &str) -> crate::harness::Response {
    let mut connection = Client::connect_from(client, gateway.address());
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    connection.response()
}

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// A client whose fixed window of a day does not end for an hour, and the last second of that window.
pub(crate) fn calm() -> ([u8; 4], u64) {
    let now = now();
    let end = |client: [u8; 4]| {
        let stagger = u64::from(crc32(std::net::Ipv4Addr::from(client).to_string().as_bytes()));
        let end = now - now % 86_400 + stagger % 86_400;
        if end < now { end + 86_400 } else { end }
    };
    let mut clients = (1..=250).map(|last| [127, 0, 0, last]).map(|client| (client, end(client)));
    clients.find(|(_, end)| end - now > 3600).unwrap()
}

/// The CRC-32 of zlib.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(u32::MAX, step)
}
