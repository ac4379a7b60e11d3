//! Deadlines and bounds towards clients: what each of them ends, what the client sees of it, and what is logged.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{
    Authority, Client, Config, End, Gate, Gateway, PATIENCE, Upstream, curl, eventually, exchange, metric, ok,
    wait_for_metric,
};
use crate::tls;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn refused(gateway: &Gateway, reason: &str, count: f64) {
    wait_for_metric(gateway, &format!("probegate_refusals_total{{service=\"\",reason=\"{reason}\"}}"), count);
}

/// Sends bytes one at a time, some time apart, until the gateway closes or has answered; whether it did before `text` was sent whole.
fn dribble(client: &Client, text: &[u8], apart: Duration) -> bool {
    let mut stream = client.sender();
    stream.set_nonblocking(true).unwrap();
    let interrupted = text.iter().any(|byte| {
        std::thread::sleep(apart);
        let closed = std::io::Write::write_all(&mut stream, &[*byte]).is_err();
        closed || !matches!(stream.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    });
    stream.set_nonblocking(false).unwrap();
    interrupted
}

// --- connections ---------------------------------------------------------------------------------------------------------

#[test]
fn a_client_has_so_many_connections_over_all_workers_and_others_are_not_concerned() {
    let app = Upstream::answering(|_| ok(""));
    let config = Config::before(&app).workers(2).top("bounds: {connections_per_client: 5}");
    let gateway = Gateway::start(config);
    let mut held: Vec<_> = (0..5).map(|_| Client::connect(gateway.address())).collect();
    for client in &mut held {
        client.send(GET);
        assert_eq!(client.response().status, 200);
    }
    for count in 1..=3 {
        Client::connect(gateway.address()).expect_closed();
        refused(&gateway, "connections_exceeded", f64::from(count));
    }
    let line = gateway.wait_for_log(|line| line["reason"] == "connections_exceeded");
    assert_eq!((&line["peer"], &line["decision"]), (&"127.0.0.1".into(), &"refuse".into()));
    let mut other = Client::connect_from([127, 0, 0, 2], gateway.address());
    other.send(GET);
    assert_eq!(other.response().status, 200);
    // Those that are open go on, and there is room for as many as leave.
    held[0].send(GET);
    assert_eq!(held[0].response().status, 200);
    held.truncate(3);
    for _ in 0..2 {
        held.push(eventually("there is room", || {
            let mut client = Client::connect(gateway.address());
            client.try_send(GET);
            client.sender().peek(&mut [0]).is_ok_and(|n| n > 0).then_some(client)
        }));
    }
    eventually("and no more room than that", || {
        let mut client = Client::connect(gateway.address());
        (client.rest().0.is_empty()).then_some(())
    });
}

#[test]
fn trusted_proxies_may_have_as_many_connections_as_they_like() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(
        Config::before(&app)
            .top("bounds: {connections_per_client: 1}\nclient_ip: {trusted_proxies: [127.0.0.2], missing: peer}"),
    );
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut client = Client::connect_from([127, 0, 0, 2], gateway.address());
        client.send(GET);
        assert_eq!(client.response().status, 200);
        held.push(client);
    }
}

#[test]
fn idle_clients_make_room_when_nearly_all_connections_are_taken() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(
        Config::before(&app).workers(2).top("bounds: {connections: 20}\ntimeouts: {keep_alive: 1h, head: 1h}"),
    );
    // Silent ones, and ones that have been served and have nothing more to ask.
    let mut idle: Vec<_> = (0..40).map(|_| Client::connect(gateway.address())).collect();
    for client in idle.iter_mut().step_by(2) {
        client.try_send(GET);
    }
    for _ in 0..5 {
        // A newcomer has a second to say something, which is short for a thread that has to wait for a processor.
        eventually("somebody else is served", || {
            let mut client = Client::connect(gateway.address());
            client.try_send("GET /in-between HTTP/1.1\r\nHost: a\r\n\r\n");
            client.try_head().filter(|head| head.starts_with(b"HTTP/1.1 200 "))
        });
    }
    eventually("idle ones were ended", || {
        (metric(&gateway, "probegate_connections_idle_ended_total") >= 2.0).then_some(())
    });
}

#[test]
fn a_connection_in_use_is_not_ended_to_make_room() {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::answering(move |_| {
        theirs.wait();
        ok("after all")
    });
    let gateway = Gateway::start(Config::before(&app).top("bounds: {connections: 4}"));
    let mut busy: Vec<_> = (0..3).map(|_| Client::connect(gateway.address())).collect();
    for client in &mut busy {
        client.send(GET);
    }
    app.wait_for_requests(3);
    let mut idle = Client::connect(gateway.address());
    idle.expect_closed();
    gate.open();
    for client in &mut busy {
        assert_eq!(client.response().text(), "after all");
    }
}

#[test]
fn the_last_request_of_a_connection_is_told_so() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top("bounds: {requests_per_connection: 3}"));
    let mut client = Client::connect(gateway.address());
    let closes: Vec<_> = (0..3)
        .map(|_| {
            client.send(GET);
            client.response().closes()
        })
        .collect();
    assert_eq!(closes, [false, false, true]);
    client.expect_closed();
    // The same where they come all at once: the fourth is not served.
    let mut client = Client::connect(gateway.address());
    client.send(GET.repeat(4));
    let closes: Vec<_> = (0..3).map(|_| client.response().closes()).collect();
    assert_eq!(closes, [false, false, true]);
    client.expect_closed();
    assert_eq!(app.requests().len(), 6);
}

#[test]
fn an_old_connection_ends_with_the_request_it_is_at() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top("timeouts: {connection: 300ms}"));
    let (mut client, begun) = (Client::connect(gateway.address()), Instant::now());
    let served = loop {
        client.send(GET);
        if client.response().closes() {
            break begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE);
    };
    assert!(served >= Duration::from_millis(250), "{served:?}");
    client.expect_closed();
}

// --- heads ---------------------------------------------------------------------------------------------------------------

#[test]
fn a_head_has_its_time_as_a_whole_on_new_and_on_used_connections_and_behind_pipelined_requests() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top("timeouts: {head: 2s, keep_alive: 60s}"));
    let slow = [b"GET /slow HTTP/1.1\r\nHost: a\r\nX: ".to_vec(), vec![b'x'; 400]].concat();
    std::thread::scope(|scope| {
        for (before, count) in [(String::new(), 0), (GET.to_owned(), 1), (GET.repeat(3), 3)] {
            let (gateway, slow) = (&gateway, &slow);
            scope.spawn(move || {
                // The head can not begin before this.
                let begun = Instant::now();
                let mut client = Client::connect(gateway.address());
                let sent = if count == 1 { 0 } else { 7 };
                client.send([before.as_bytes(), &slow[..sent]].concat());
                for _ in 0..count {
                    assert_eq!(client.response().status, 200);
                }
                assert!(dribble(&client, &slow[sent..], Duration::from_millis(40)), "{count}");
                let response = client.response();
                assert_eq!((response.status, response.closes()), (408, true), "{count}");
                assert!(begun.elapsed() >= Duration::from_millis(1900), "{:?}", begun.elapsed());
            });
        }
    });
    refused(&gateway, "head_timeout", 3.0);
}

#[test]
fn who_never_sends_a_byte_leaves_with_the_time_for_a_head_and_who_has_been_served_stays_for_longer() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top("timeouts: {head: 2s, keep_alive: 1h}"));
    let mut served = Client::connect(gateway.address());
    served.send(GET);
    assert_eq!(served.response().status, 200);
    let begun = Instant::now();
    let mut silent = Client::connect(gateway.address());
    silent.expect_closed();
    assert!(begun.elapsed() >= Duration::from_secs(2));
    served.send(GET);
    assert_eq!(served.response().status, 200);
}

// --- bodies --------------------------------------------------------------------------------------------------------------

#[test]
fn a_body_that_dribbles_is_408_and_one_that_stalls_is_told_apart() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top("timeouts: {body: 3s}\nbounds: {body_rate: 1000}"));
    std::thread::scope(|scope| {
        for (path, framing, text) in [
            ("/length", "Content-Length: 1000", vec![b'x'; 1000]),
            ("/chunked", "Transfer-Encoding: chunked", b"1\r\nx\r\n".repeat(100)),
        ] {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = Client::connect(gateway.address());
                client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
                assert!(dribble(&client, &text, Duration::from_millis(30)));
                let response = client.response();
                assert_eq!((response.status, response.closes()), (408, true), "{path}");
                let line = gateway.access(path);
                assert_eq!((&line["status"], &line["reason"]), (&408.into(), &"body_too_slow".into()));
            });
        }
    });
    let mut client = Client::connect(gateway.address());
    client.send("POST /stalled HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf");
    assert_eq!(client.response().status, 408);
    assert_eq!(gateway.access("/stalled")["reason"], "body_timeout");
    wait_for_metric(&gateway, "probegate_refusals_total{service=\"app\",reason=\"body_too_slow\"}", 2.0);
}

#[test]
fn an_app_that_takes_its_time_over_a_body_does_not_make_the_client_slow() {
    let app = Upstream::scripted(|connection| {
        let Some(request) = connection.head() else { return };
        // More than a client may spend on waiting.
        std::thread::sleep(Duration::from_millis(4500));
        connection.body(request);
        connection.write(ok("taken"));
    });
    let gateway = Gateway::start(
        Config::before(&app).service("max_body: 64MiB").top("timeouts: {body: 3s}\nbounds: {body_rate: 1073741824}"),
    );
    // More than all the buffers between hold.
    let body = vec![b'x'; 32 << 20];
    let mut client = Client::connect(gateway.address());
    let mut sender = client.sender();
    let sending = std::thread::spawn(move || {
        std::io::Write::write_all(
            &mut sender,
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
        )
        .and_then(|()| std::io::Write::write_all(&mut sender, &body))
        .is_ok()
    });
    assert_eq!(client.response().text(), "taken");
    assert!(sending.join().unwrap());
}

// --- answers -------------------------------------------------------------------------------------------------------------

/// An app whose answer has no end, and whether somebody still takes it.
fn endless() -> (Upstream, Arc<AtomicBool>) {
    let flowing = Arc::new(AtomicBool::new(true));
    let theirs = Arc::clone(&flowing);
    let app = Upstream::scripted(move |connection| {
        connection.request();
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
        let piece = vec![b'x'; 64 << 10];
        while connection.write(&piece) {}
        theirs.store(false, Ordering::SeqCst);
    });
    (app, flowing)
}

#[test]
fn a_client_that_takes_nothing_of_the_answer_has_stalled_and_the_app_is_let_go() {
    let (app, flowing) = endless();
    let gateway = Gateway::start(Config::before(&app).top("timeouts: {write: 400ms}"));
    let mut client = Client::connect_narrow(gateway.address());
    client.send("GET /stalled HTTP/1.1\r\nHost: a\r\n\r\n");
    let line = gateway.access("/stalled");
    assert_eq!((&line["status"], &line["reason"]), (&499.into(), &"client_stalled".into()));
    eventually("the app is let go", || (!flowing.load(Ordering::SeqCst)).then_some(()));
    wait_for_metric(&gateway, "probegate_refusals_total{service=\"app\",reason=\"client_stalled\"}", 1.0);
    // What the kernel still held is given up as well.
    assert_eq!(client.rest().1, End::Reset);
}

#[test]
fn a_client_that_takes_an_answer_drop_by_drop_has_stalled_too() {
    let (app, flowing) = endless();
    // Nobody reads at a gigabyte a second with such a buffer.
    let gateway = Gateway::start(Config::before(&app).top("timeouts: {write: 2s}\nbounds: {write_rate: 1073741824}"));
    let mut client = Client::connect_narrow(gateway.address());
    client.send("GET /drops HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut stream = client.sender();
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    while flowing.load(Ordering::SeqCst) && begun.elapsed() < PATIENCE {
        let step = Instant::now();
        if !stream.read(&mut [0; 8 << 10]).is_ok_and(|n| n > 0) {
            break;
        }
        longest = longest.max(step.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
    let line = gateway.access("/drops");
    assert_eq!((&line["status"], &line["reason"]), (&499.into(), &"client_stalled".into()), "{longest:?}");
}

#[test]
fn a_client_that_leaves_is_still_told_from_one_that_stalls() {
    let (app, _flowing) = endless();
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    client.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    client.reset();
    assert_eq!(gateway.access("/left")["reason"], "client_closed");
}

// --- early answers -------------------------------------------------------------------------------------------------------

const LARGE: usize = 50 << 20;

/// Sends 50 MiB to its end before it looks for an answer, as simple clients do. Who dawdles meanwhile, because his machine is busy, is not served so well: `None`.
fn stubborn(mut client: Client, target: &str, framing: &str) -> Option<(u16, String, bool)> {
    client.send(format!("POST {target} HTTP/1.1\r\nHost: app.example\r\n{framing}\r\n\r\n"));
    let piece = if framing.starts_with("Transfer") {
        [&b"10000\r\n"[..], &vec![b'x'; 65536], b"\r\n"].concat()
    } else {
        vec![b'x'; 65536]
    };
    let (begun, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
    let whole = (0..LARGE / 65536).all(|_| {
        longest = longest.max(last.elapsed());
        last = Instant::now();
        client.try_send(&piece)
    });
    if !whole && (longest > Duration::from_secs(1) || begun.elapsed() > Duration::from_secs(8)) {
        return None;
    }
    let response = client.response();
    Some((response.status, response.text(), whole))
}

/// A configuration with a part that refuses each for its own reason.
fn refusing(app: &Upstream) -> Config {
    Config::before(app).top("networks: {office: [203.0.113.0/24]}\nlimits: {few: {rate: 1/1h}}").service(
        "max_body: 1MiB\nroutes:\n  - {path: /inside/, allow: {network: office}}\n  - {path: /few/, limits: [few]}",
    )
}

fn early_answers(connect: &impl Fn() -> Client) {
    let mut client = connect();
    client.send("GET /few/ HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let length = format!("Content-Length: {LARGE}");
    for (target, status) in [("/", 413), ("/inside/", 403), ("/few/", 429)] {
        for framing in [length.as_str(), "Transfer-Encoding: chunked"] {
            let (found, text, whole) = eventually("one that does not dawdle", || stubborn(connect(), target, framing));
            assert_eq!(found, status, "{target} {framing}");
            assert!(text.ends_with("}\n") && whole, "{target} {framing}: {text}");
        }
    }
}

#[test]
fn an_early_answer_arrives_whole_over_tls_too() {
    let app = Upstream::answering(|_| ok(""));
    let authority = Authority::new("Test");
    let issued = authority.issue(&["app.example"]);
    let files = [("cert.pem", issued.cert.as_str()), ("key.pem", issued.key.as_str())];
    let gateway = tls::start(&refusing(&app), "{certificates: [{cert: cert.pem, key: key.pem}]}", &files);
    let config = Arc::new(authority.client(None));
    early_answers(&|| Client::secure(gateway.address(), &config, "app.example"));
}

#[test]
fn rfc_9112_9_6_an_answer_to_a_body_that_nobody_reads_arrives_whole() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(refusing(&app));
    early_answers(&|| Client::connect(gateway.address()));
    // A real client that looks for an answer while it sends.
    let file = std::env::temp_dir().join(format!("probegate-large-{}", std::process::id()));
    std::fs::File::create(&file).unwrap().set_len(LARGE as u64).unwrap();
    let response = curl([
        "--data-binary",
        &format!("@{}", file.display()),
        "-H",
        "Expect:",
        &format!("http://{}/", gateway.address()),
    ]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(response.status, 413);
}

#[test]
fn nobody_sends_for_ever_behind_an_early_answer() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).service("max_body: 1KiB"));
    let mut client = Client::connect(gateway.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n");
    let piece = vec![b'x'; 1 << 20];
    let sent = (0..2000).take_while(|_| client.try_send(&piece)).count();
    assert!(sent < 1000, "{sent} MiB");
    assert_eq!(client.response().status, 413);
}

// --- many slow clients ---------------------------------------------------------------------------------------------------

#[test]
fn two_hundred_slow_clients_are_ended_and_nobody_else_waits_for_them() {
    let large = vec![b'x'; 8 << 20];
    let app = Upstream::answering(move |request| match request.target().as_str() {
        "/large" => [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", large.len()).as_bytes(), &large].concat(),
        _ => ok("quick"),
    });
    let gateway = Gateway::start(
        Config::before(&app)
            .workers(2)
            .top("timeouts: {head: 3s, body: 3s, write: 3s}\nbounds: {connections_per_client: 100}"),
    );
    let mut slow = Vec::new();
    for number in 0..200_u8 {
        let from = [127, 0, 1, number / 60 + 1];
        let mut client = Client::connect_from(from, gateway.address());
        client.send(match number % 4 {
            0 => "",
            1 => "GET /half HTTP/1.1\r\nHo",
            2 => "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nx",
            _ => "GET /large HTTP/1.1\r\nHost: a\r\n\r\n",
        });
        slow.push(client);
    }
    let stalled =
        |reason| metric(&gateway, &format!("probegate_refusals_total{{service=\"app\",reason=\"{reason}\"}}"));
    // The others are served until the last one of them has been ended. None reads before that: who reads is not slow.
    eventually("all are ended", || {
        let mut client = Client::connect(gateway.address());
        for _ in 0..20 {
            client.send(GET);
            let response = client.response();
            assert_eq!((response.status, response.text().as_str()), (200, "quick"));
        }
        (stalled("body_timeout") + stalled("client_stalled") > 99.0).then_some(())
    });
    refused(&gateway, "head_timeout", 50.0);
    for (number, client) in slow.iter_mut().enumerate() {
        let (bytes, _) = client.rest();
        let status = String::from_utf8_lossy(&bytes[..bytes.len().min(12)]).into_owned();
        match number % 4 {
            0 => assert_eq!(status, ""),
            1 | 2 => assert_eq!(status, "HTTP/1.1 408"),
            _ => {}
        }
    }
    eventually("and gone", || (metric(&gateway, "probegate_connections") < 2.0).then_some(()));
    // The gateway stays able to serve.
    assert_eq!(exchange(gateway.address(), GET).status, 200);
}
