//! Changes over the admin listener that are cut off, meet, or find the process killed: each is done wholly or not at all. And who takes its answer too slowly.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;

use crate::harness::{Config, Folder, Gateway, Upstream, eventually, exchange, get_admin, metric, ok, wait_ready};

/// A gateway with switches of its own, and a socket beside the address.
fn start(storage: &Folder) -> Gateway {
    let app = Upstream::answering(|_| ok("answered"));
    let text = Config::before(&app).top(&format!("storage: {}", storage.path().display())).to_string();
    let socket = storage.path().join("admin.sock");
    let gateway =
        Gateway::start(text.replace("admin: {", &format!("admin: {{socket: {{path: \"{}\"}}, ", socket.display())));
    wait_ready(&gateway);
    gateway
}

fn put(seconds: u64) -> String {
    format!(
        "PUT /services/app/maintenance?retry_after={seconds} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Probegate-Control: 1\r\n"
    )
}

/// When clients may come back, as the file says.
fn kept(storage: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(storage.join("switches.json")).ok()?;
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    value["maintenance"]["app"]["retry_after"].as_u64()
}

/// The same, as the gateway says.
fn told(gateway: &Gateway) -> Option<u64> {
    get_admin(gateway.admin(), "/services/app").json()["maintenance"]["retry_after"].as_u64()
}

#[test]
fn what_is_cut_off_is_not_done_and_what_was_whole_is_whoever_waits_for_the_answer() {
    let storage = Folder::new();
    let gateway = start(&storage);
    let whole = format!("{}\r\n", put(77));
    // It ends after each of its bytes but the last: at once, or with an end that is told.
    for end in 0..whole.len() {
        let mut stream = TcpStream::connect(gateway.admin()).unwrap();
        stream.write_all(&whole.as_bytes()[..end]).unwrap();
        if end % 2 == 0 {
            stream.shutdown(Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).ok();
            assert!(rest.is_empty(), "after {end} bytes: {}", String::from_utf8_lossy(&rest));
        }
    }
    // A body is refused, all of it or a part.
    for body in ["", "{\"re", "{\"retry\":1}"] {
        let mut stream = TcpStream::connect(gateway.admin()).unwrap();
        write!(stream, "{}Content-Length: 11\r\nConnection: close\r\n\r\n{body}", put(78)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).ok();
        assert!(text.starts_with("HTTP/1.1 400"), "{body}: {text}");
    }
    eventually("all have gone", || (metric(&gateway, "probegate_admin_connections") < 1.5).then_some(()));
    assert_eq!((told(&gateway), kept(storage.path())), (None, None));
    assert!(metric(&gateway, "probegate_switch_changes_total") < 0.5);
    // Nobody waits for the answer.
    let mut stream = TcpStream::connect(gateway.admin()).unwrap();
    stream.write_all(whole.as_bytes()).unwrap();
    drop(stream);
    eventually("it is done", || (told(&gateway) == Some(77)).then_some(()));
    assert_eq!(kept(storage.path()), Some(77));
}

#[test]
fn changes_at_the_same_time_come_one_after_the_other_and_the_file_is_never_a_mixture() {
    let storage = Folder::new();
    let gateway = start(&storage);
    let (admin, socket) = (gateway.admin(), storage.path().join("admin.sock"));
    let (done, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    let check = |text: &str, seconds: u64| {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{text}");
        let body: Value = serde_json::from_str(body).unwrap();
        // Each is told what it did, not what somebody else did.
        assert_eq!((&body["maintenance"]["retry_after"], &body["saved"]), (&seconds.into(), &true.into()), "{body}");
        assert_eq!(body["changed"], true, "no two are the same");
    };
    std::thread::scope(|scope| {
        let writers = [
            scope.spawn(|| {
                for number in 0..60 {
                    let text = exchange(admin, format!("{}Connection: close\r\n\r\n", put(1000 + number)));
                    assert_eq!(text.status, 200);
                    let body = text.json();
                    assert_eq!(
                        (&body["maintenance"]["retry_after"], &body["changed"]),
                        (&(1000 + number).into(), &true.into())
                    );
                }
            }),
            scope.spawn(|| {
                for number in 0..60 {
                    let mut stream = UnixStream::connect(&socket).unwrap();
                    write!(stream, "{}Connection: close\r\n\r\n", put(2000 + number)).unwrap();
                    let mut text = String::new();
                    stream.read_to_string(&mut text).unwrap();
                    check(&text, 2000 + number);
                }
            }),
        ];
        let reader = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                if let Some(found) = kept(storage.path()) {
                    assert!((1000..1060).contains(&found) || (2000..2060).contains(&found), "{found}");
                    seen.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let ended = writers.map(std::thread::ScopedJoinHandle::join);
        done.store(true, Ordering::SeqCst);
        reader.join().unwrap();
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    });
    assert!(seen.load(Ordering::SeqCst) > 0);
    let last = told(&gateway);
    assert!([Some(1059), Some(2059)].contains(&last), "{last:?}");
    assert_eq!(kept(storage.path()), last);
    assert!((metric(&gateway, "probegate_switch_changes_total") - 120.0).abs() < 0.1);
}

#[test]
fn what_was_answered_outlives_a_kill_at_any_moment() {
    let storage = Folder::new();
    let (mut answered, mut asked) = (0, 0);
    for round in 0..4_u64 {
        let mut gateway = start(&storage);
        assert!(round == 0 || (answered..=asked).contains(&told(&gateway).unwrap()), "{answered} to {asked}");
        let admin = gateway.admin();
        let (last, begun) = (AtomicU64::new(answered), AtomicU64::new(asked));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for number in asked + 1.. {
                    begun.store(number, Ordering::SeqCst);
                    let Ok(mut stream) = TcpStream::connect(admin) else { return };
                    let mut text = String::new();
                    write!(stream, "{}Connection: close\r\n\r\n", put(number)).ok();
                    if stream.read_to_string(&mut text).is_err() || !text.starts_with("HTTP/1.1 200") {
                        return;
                    }
                    last.store(number, Ordering::SeqCst);
                }
            });
            // In the midst of one, each time another.
            let enough = answered + 5 + round;
            eventually("some are answered", || (last.load(Ordering::SeqCst) >= enough).then_some(()));
            gateway.signal("KILL");
            gateway.wait_exit();
            writer.join().unwrap();
        });
        (answered, asked) = (last.load(Ordering::SeqCst), begun.load(Ordering::SeqCst));
        let found = kept(storage.path()).unwrap();
        assert!((answered..=asked).contains(&found), "{found} is kept, {answered} was answered, {asked} was asked for");
    }
}

#[cfg(feature = "fault-injection")]
#[test]
fn who_takes_an_answer_too_slowly_is_ended_however_steadily_it_goes_on() {
    use std::fmt::Write as _;

    let (app, folder) = (Upstream::answering(|_| ok("answered")), Folder::new());
    let socket = folder.path().join("admin.sock");
    let mut text = Config::before(&app).service("hosts: [app.example]").to_string();
    text = text
        .replace("admin: {", &format!("log: {{level: warn}}\nadmin: {{socket: {{path: \"{}\"}}, ", socket.display()));
    // An answer that no buffer of a socket takes.
    for number in 0..400 {
        writeln!(
            text,
            "  service-{number}: {{hosts: [{number}.example], upstream: {{servers: [{:?}]}}}}",
            app.server()
        )
        .unwrap();
    }
    let gateway = Gateway::with(text).env("ADMIN_ANSWER_MS", "1500").spawn();
    let ask = || {
        let mut stream = UnixStream::connect(&socket).ok()?;
        stream.write_all(b"GET /services HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n").unwrap();
        Some(stream)
    };
    let whole = || {
        let mut text = String::new();
        ask()?.read_to_string(&mut text).ok()?;
        text.starts_with("HTTP/1.1 200").then_some(text.len())
    };
    let length = eventually("it answers", whole);
    assert!(length > 1_000_000, "{length} bytes are too few");
    // Progress at each look, and twenty seconds for all of it.
    let (mut stream, mut taken) = (ask().unwrap(), 0);
    while let Ok(count @ 1..) = stream.read(&mut [0; 1024]) {
        taken += count;
        std::thread::sleep(std::time::Duration::from_millis(16));
    }
    assert!(taken < length / 2, "{taken} of {length} bytes were given out");
    // Who takes it at once gets all of it.
    assert_eq!(whole().map(|again| again.abs_diff(length) < 10_000), Some(true));
    drop(gateway);
}
