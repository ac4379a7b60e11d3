//! Slow clients and fast apps: what waits in the gateway, what never does, and what happens when there is no room.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{
    self, Client, Config, Folder, Gateway, Program, Upstream, accepts, eventually, exchange, free_address, get,
    metrics, ok, wait_for_metric,
};
use crate::http2;

const MIB: usize = 1 << 20;

/// Bytes that tell where they belong.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at.wrapping_mul(2_654_435_761) >> 13 & 0xff).unwrap()).collect()
}

fn disk(gateway: &Gateway) -> f64 {
    metrics(gateway)["probegate_buffered_bytes{place=\"disk\"}"]
}

/// An app that answers everything with these bytes, and counts how often it was done with that.
fn app_with(body: Vec<u8>, fields: &'static str) -> (Upstream, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let app = Upstream::scripted(move |connection| {
        while let Some(request) = connection.request() {
            if request.target() == "/quick" {
                connection.write(ok("quick"));
                continue;
            }
            connection.write(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len()));
            if !connection.write(&body) {
                return;
            }
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (app, written)
}

fn asks(gateway: &Gateway) -> Client {
    let mut client = Client::connect_narrow(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    client
}

#[test]
fn the_app_is_asked_when_the_body_is_here_and_told_its_length() {
    let app = Upstream::answering(|request| ok(&request.body.len().to_string()));
    let gateway = Gateway::start(Config::before(&app).service("max_body: 16MiB"));
    let body = pattern(3 * MIB);
    let mut client = Client::connect(gateway.address());
    client.send(format!("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body[..2 * MIB]);
    // Two thirds are here, in a file; nobody has connected to the app.
    eventually("they are in a file", || (disk(&gateway) > 1e6).then_some(()));
    assert_eq!(app.connections(), 0);
    client.send(&body[2 * MIB..]);
    assert_eq!(client.response().text(), body.len().to_string());
    assert!(app.requests()[0].body == body, "the body was changed");
    wait_for_metric(&gateway, "probegate_buffered_bytes{place=\"disk\"}", 0.0);

    // Chunks become a length, and an empty body none.
    client.send("POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(client.response().text(), "5");
    client.send("POST /empty HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(client.response().text(), "0");
    let lengths: Vec<_> = app.requests().iter().map(|request| request.field("content-length")).collect();
    assert_eq!(lengths, [Some(body.len().to_string()), Some("5".into()), Some("0".into())]);
    assert!(app.requests().iter().all(|request| request.field("transfer-encoding").is_none()));
}

#[test]
fn a_client_that_waits_for_100_is_told_by_the_gateway_and_the_app_never_asked_to() {
    let app = Upstream::answering(|request| ok(&String::from_utf8_lossy(&request.body)));
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.head(), b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(app.connections(), 0);
    client.send("hello");
    assert_eq!(client.response().text(), "hello");
    assert_eq!(app.request().field("expect"), None);
    // Over HTTP/2 as well.
    let gateway = Gateway::start(http2::with_http2(&Config::before(&app)));
    let url = format!("http://{}/", gateway.address());
    let mut curl = Command::new("curl");
    curl.args(["-sSv", "--http2-prior-knowledge", "-H", "Expect: 100-continue", "--data", "over two", &url]);
    let ended = harness::run(&mut curl);
    assert!(ended.out == "over two" && ended.err.contains("< HTTP/2 100"), "{ended:?}");
}

#[test]
fn an_app_is_free_when_it_has_written_however_slowly_its_client_reads() {
    for (buffers, file) in [("buffers: {}", true), ("buffers: {memory: 64MiB}", false)] {
        let body = pattern(16 * MIB);
        let (app, written) = app_with(body.clone(), "");
        let gateway = Gateway::start(Config::before(&app).top(buffers));
        let mut slow = asks(&gateway);
        eventually("the app has written everything", || (written.load(Ordering::SeqCst) == 1).then_some(()));
        // It serves others while the first client has taken next to nothing.
        assert_eq!(get(gateway.address(), "/quick").text(), "quick");
        if file {
            eventually("it is in a file", || (disk(&gateway) > 1e6).then_some(()));
        }
        assert_eq!(disk(&gateway) > 1e6, file);
        assert!(slow.exactly(body.len()) == body, "the body was changed");
        // What comes next on the connection is not confused.
        slow.send("GET /quick HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(slow.response().text(), "quick");
        wait_for_metric(&gateway, "probegate_buffered_bytes{place=\"disk\"}", 0.0);
        wait_for_metric(&gateway, "probegate_buffered_bytes{place=\"memory\"}", 0.0);
        assert_eq!(gateway.access("/")["sent"], body.len());
    }
}

/// An app that answers `/N` with that many bytes.
fn sized(connection: &mut harness::Connection) {
    while let Some(request) = connection.request() {
        let length: usize = request.target().trim_start_matches('/').parse().unwrap();
        connection.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
        connection.write(pattern(length));
    }
}

#[test]
fn large_answers_are_whole_whatever_their_length_and_whoever_keeps_up() {
    let app = Upstream::scripted(sized);
    let gateway = Gateway::start(Config::before(&app).upstream("idle_timeout: 60s"));
    let kib = 1024;
    // Around what is read at a time, and around what a pipe holds.
    let lengths = [16, 64, 65, 80, 81, 100, 128, 256, 257, 320, 512, 3 * kib].map(|length| length * kib);
    for client in [Client::connect, Client::connect_narrow] {
        // On one connection: what follows is not confused.
        let mut client = client(gateway.address());
        for length in lengths.into_iter().flat_map(|length| [length - 1, length, length + 1]) {
            client.send(format!("GET /{length} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(client.response().body == pattern(length), "{length}");
            assert_eq!(gateway.access(&format!("/{length}"))["sent"], length);
        }
    }
    assert_eq!(app.connections(), 1, "it can be used again after each of them");
}

#[test]
fn chunks_and_trailers_come_out_as_they_went_in() {
    let body = pattern(8 * MIB);
    let sent = body.clone();
    let app = Upstream::scripted(move |connection| {
        connection.request();
        connection.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
        for part in sent.chunks(50_001) {
            connection.write([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
        }
        connection.write("0\r\nX-Sum: 7\r\n\r\n");
        connection.wait_closed();
    });
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect_narrow(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it is kept", || (disk(&gateway) > 1e6).then_some(()));
    let response = client.response();
    assert!(response.body == body, "the body was changed");
    assert_eq!(response.trailers, "X-Sum: 7\r\n");
}

#[test]
fn what_must_not_wait_does_not() {
    for fields in ["Content-Type: text/event-stream\r\n", "X-Accel-Buffering: no\r\n"] {
        let (app, written) = app_with(pattern(16 * MIB), fields);
        let gateway = Gateway::start(Config::before(&app));
        let mut client = Client::connect_narrow(gateway.address());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = String::from_utf8(client.head()).unwrap();
        assert!(!head.to_lowercase().contains("x-accel"), "{head}");
        // Longer than an app waits for a client whose answer may be kept.
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!((written.load(Ordering::SeqCst), disk(&gateway) > 0.0), (0, false), "{fields}");
        client.exactly(16 * MIB);
    }
}

#[test]
fn beyond_its_bound_and_without_a_disk_the_app_waits_and_nothing_is_lost() {
    for buffers in
        ["buffers: {disk: 1MiB}", "buffers: {total_disk: 1MiB, disk: 1MiB}", "buffers: {directory: /proc/nowhere}"]
    {
        let body = pattern(16 * MIB);
        let (app, written) = app_with(body.clone(), "");
        let gateway = Gateway::start(Config::before(&app).top(buffers));
        let mut slow = asks(&gateway);
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(written.load(Ordering::SeqCst), 0, "{buffers}");
        assert!(disk(&gateway) < 1.3e6, "{buffers}");
        assert!(slow.exactly(body.len()) == body, "the body was changed: {buffers}");
        assert_eq!(get(gateway.address(), "/quick").text(), "quick");
    }
}

#[test]
fn a_body_for_which_there_is_no_room_is_refused() {
    for (buffers, status, reason) in [
        ("buffers: {memory: 1KiB, total_memory: 1MiB, disk: 1KiB, total_disk: 100KiB}", 503, "buffers_full"),
        ("buffers: {directory: /proc/nowhere}", 507, "buffer_failed"),
    ] {
        let app = Upstream::answering(|_| ok(""));
        let gateway = Gateway::start(Config::before(&app).top(buffers));
        let mut client = Client::connect(gateway.address());
        client.send("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n");
        client.send(vec![b'x'; 500_000]);
        let response = client.response();
        assert_eq!((response.status, response.closes()), (status, true), "{response:?}");
        assert_eq!(gateway.access("/large")["reason"], reason);
        assert_eq!(app.connections(), 0);
        // Small ones pass, and everything is given back.
        let small = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
        assert_eq!(exchange(gateway.address(), small).status, 200);
        wait_for_metric(&gateway, "probegate_buffered_bytes{place=\"memory\"}", 0.0);
        wait_for_metric(&gateway, "probegate_buffered_bytes{place=\"disk\"}", 0.0);
    }
}

#[test]
fn a_client_that_leaves_takes_its_body_and_its_answer_with_it() {
    let (app, _) = app_with(pattern(64 * MIB), "");
    let gateway = Gateway::start(Config::before(&app).top("buffers: {disk: 2MiB}").service("max_body: 16MiB"));
    let mut upload = Client::connect(gateway.address());
    upload.send("POST /left HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n");
    upload.send(pattern(MIB));
    eventually("it is kept", || (disk(&gateway) > 5e5).then_some(()));
    drop(upload);
    wait_for_metric(&gateway, "probegate_buffered_bytes{place=\"disk\"}", 0.0);
    assert_eq!((app.connections(), &gateway.access("/left")["reason"]), (0, &"client_closed".into()));

    let slow = asks(&gateway);
    eventually("it is kept", || (disk(&gateway) > 1e6).then_some(()));
    drop(slow);
    eventually("the app is let go", || (app.open() == 0).then_some(()));
    wait_for_metric(&gateway, "probegate_buffered_bytes{place=\"disk\"}", 0.0);
}

#[test]
fn an_answer_that_breaks_off_is_not_whole_for_a_slow_client_either() {
    let app = Upstream::scripted(|connection| {
        connection.request();
        connection.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 16 * MIB));
        connection.write(pattern(8 * MIB));
    });
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect_narrow(gateway.address());
    client.send("GET /broken HTTP/1.1\r\nHost: a\r\n\r\n");
    let (response, end) = client.response_and_end();
    assert!(end != harness::End::Whole && response.body.len() <= 8 * MIB, "{end:?}");
    assert_eq!(gateway.access("/broken")["reason"], "upstream_closed");
}

#[test]
fn a_body_that_was_kept_is_sent_again_where_that_does_no_harm() {
    let app = Upstream::scripted(|connection| {
        connection.request();
        connection.write(ok("once"));
        // The next request on this connection gets no answer.
        connection.head();
    });
    let gateway = Gateway::start(Config::before(&app));
    for method in ["PUT", "PUT"] {
        let mut client = Client::connect(gateway.address());
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"));
        client.send("5\r\nhello\r\n0\r\n\r\n");
        assert_eq!(client.response().text(), "once");
    }
    assert_eq!(app.connections(), 2);
    assert_eq!(app.requests().last().unwrap().body, b"hello");
}

#[test]
fn routes_have_their_own_sizes_and_may_stream() {
    let app = Upstream::answering(|request| ok(&request.body.len().to_string()));
    let gateway = Gateway::start(Config::before(&app).service(
        "max_body: 10\nroutes: [{path: /upload/, max_body: 1MiB}, {path: /live/, buffering: {request: false}}]",
    ));
    let post = |path: &str, length: usize| {
        let mut client = Client::connect(gateway.address());
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        client.try_send("x".repeat(length));
        client.response()
    };
    assert_eq!((post("/", 11).status, post("/live/x", 11).status, post("/upload/x", 2 * MIB).status), (413, 413, 413));
    assert_eq!(post("/upload/x", 100_000).text(), "100000");
    let before = app.connections();
    let mut client = Client::connect(gateway.address());
    client.send("POST /live/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx");
    eventually("the app sees it begin", || {
        (app.requests().iter().any(|seen| seen.target() == "/live/x")).then_some(())
    });
    client.send("y");
    assert_eq!((client.response().text(), before <= app.connections()), ("2".into(), true));
}

#[test]
fn nothing_is_left_in_the_folder_even_by_a_gateway_that_is_killed() {
    let (app, _) = app_with(pattern(16 * MIB), "");
    let folder = Folder::new();
    let spool = folder.path().join("spool");
    let gateway = Gateway::start(Config::before(&app).top(&format!("buffers: {{directory: \"{}\"}}", spool.display())));
    let _slow = asks(&gateway);
    eventually("the answer is kept", || (disk(&gateway) > 1e6).then_some(()));
    let before = disk(&gateway);
    let mut upload = Client::connect(gateway.address());
    upload.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    upload.send(vec![b'x'; 900_000]);
    eventually("the upload is kept", || (disk(&gateway) > before + 5e5).then_some(()));
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0, "the file has a name");
    gateway.signal("KILL");
    drop(gateway);
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);
}

/// What gunicorn's authors want nginx for: one synchronous worker, and many slow clients in front of it.
const WSGI: &str = "\
def app(environ, start_response):
    body = environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0))
    answer = b'x' * (8 << 20) if environ['PATH_INFO'] == '/download' else b'%d' % len(body)
    start_response('200 OK', [('Content-Length', str(len(answer)))])
    return [answer]
";

#[test]
fn one_synchronous_worker_of_gunicorn_serves_on_beside_slow_clients() {
    let folder = Folder::new();
    folder.write("slow.py", WSGI);
    let address = free_address();
    let venv = harness::venv("PROBEGATE_TEST_VENV", "django", "examples/django/requirements.txt");
    let mut gunicorn = Command::new(venv.join("bin/gunicorn"));
    gunicorn.current_dir(folder.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    gunicorn.args([
        "--workers",
        "1",
        "--worker-class",
        "sync",
        "--timeout",
        "120",
        "--bind",
        &address.to_string(),
        "slow:app",
    ]);
    let _gunicorn = Program::start(&mut gunicorn);
    eventually("gunicorn listens", || accepts(address).then_some(()));
    let gateway = Gateway::start(Config::servers([address.to_string()]));
    // Half a body each, and an answer that nobody reads.
    let mut uploads: Vec<_> = (0..20)
        .map(|_| {
            let mut client = Client::connect(gateway.address());
            client.send(format!(
                "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n{}",
                "x".repeat(30_000)
            ));
            client
        })
        .collect();
    let mut downloads: Vec<_> = (0..20)
        .map(|_| {
            let mut client = Client::connect_narrow(gateway.address());
            client.send("GET /download HTTP/1.1\r\nHost: a\r\n\r\n");
            client
        })
        .collect();
    for _ in 0..10 {
        assert_eq!(get(gateway.address(), "/").text(), "0");
    }
    for client in &mut uploads {
        client.send("x".repeat(65_536 - 30_000));
        assert_eq!(client.response().text(), "65536");
    }
    for client in &mut downloads {
        assert_eq!(client.response().body.len(), 8 << 20);
    }
    // Without buffering, the worker is held by the first of them.
    let gateway = Gateway::start(Config::servers([address.to_string()]).streaming().upstream("response_timeout: 2s"));
    let mut upload = Client::connect(gateway.address());
    upload.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\nx");
    eventually("it is held", || (get(gateway.address(), "/").status == 504).then_some(()));
}
