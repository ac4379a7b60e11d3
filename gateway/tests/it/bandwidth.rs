//! Answers that go out no faster than they may.
//!
//! Times are only ever bounded from below: so many bytes can not have come before so long has passed.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{self, Client, Config, Folder, Gateway, Upstream, eventually, exchange};
use crate::http2;

const KIB: usize = 1024;

/// An app whose answers have as many bytes as their path says, and which counts those that it is done with.
fn app(fields: &'static str) -> (Upstream, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let app = Upstream::scripted(move |connection| {
        while let Some(request) = connection.request() {
            let length: usize = request.target().trim_start_matches('/').parse().unwrap();
            let body = "0123456789abcdef".repeat(length / 16);
            if !connection.write(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n{body}")) {
                return;
            }
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (app, written)
}

/// The least time in which so many bytes can come at this rate: the first piece goes at once, and a tenth of a second may be caught up.
fn least(bytes: usize, rate: usize) -> Duration {
    let piece = (rate / 8).min(64 * KIB);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let seconds = (bytes - piece) as f64 / rate as f64 - 0.11;
    Duration::from_secs_f64(seconds)
}

fn asks(gateway: &Gateway, length: usize) -> Client {
    let mut client = Client::connect(gateway.address());
    client.send(format!("GET /{length} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

#[test]
fn an_answer_goes_no_faster_than_its_rate_and_its_app_is_free() {
    for service in ["bandwidth: {rate: 64KiB/s}", "bandwidth: {rate: 64KiB/s}\nbuffering: off"] {
        let (app, written) = app("");
        let gateway = Gateway::start(Config::before(&app).service(service));
        let begun = Instant::now();
        let mut client = asks(&gateway, 96 * KIB);
        client.head();
        if !service.contains("buffering") {
            eventually("the app is free", || (written.load(Ordering::SeqCst) == 1).then_some(()));
        }
        assert_eq!(client.exactly(96 * KIB), "0123456789abcdef".repeat(6 * KIB).as_bytes());
        assert!(begun.elapsed() >= least(96 * KIB, 64 * KIB), "{:?}", begun.elapsed());
        // The connection goes on.
        client.send("GET /16 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "0123456789abcdef");
    }
}

#[test]
fn the_first_bytes_may_be_free_and_routes_differ() {
    let (app, _) = app("");
    let gateway = Gateway::start(Config::before(&app).service(
        "bandwidth: {rate: 1KiB/s}\nroutes: [{path: /1048576, bandwidth: {rate: 64KiB/s, after: 1000000}}, {path: /65536, bandwidth: off}]",
    ));
    // At 1 KiB/s, neither would come before the test gives up.
    let begun = Instant::now();
    assert_eq!(asks(&gateway, 1024 * KIB).response().body.len(), 1024 * KIB);
    assert!(begun.elapsed() >= least(48_576, 64 * KIB), "{:?}", begun.elapsed());
    assert_eq!(asks(&gateway, 64 * KIB).response().body.len(), 64 * KIB);
}

#[test]
fn all_answers_to_a_client_share_its_rate_over_workers_and_protocols() {
    let (app, _) = app("");
    let config = Config::before(&app).workers(2).service("bandwidth: {per_client: 128KiB/s}");
    let gateway = Gateway::start(http2::with_http2(&config));
    let begun = Instant::now();
    let url = format!("http://{}/{}", gateway.address(), 32 * KIB);
    let clients = std::thread::scope(|threads| {
        let asked = (0..6).map(|number| {
            let (gateway, url) = (&gateway, &url);
            threads.spawn(move || {
                if number % 2 == 0 {
                    return asks(gateway, 32 * KIB).response().body.len();
                }
                let mut curl = Command::new("curl");
                harness::run(curl.args(["-sS", "--http2-prior-knowledge", "--max-time", "40", url])).out.len()
            })
        });
        asked.collect::<Vec<_>>().into_iter().map(|asked| asked.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(clients, [32 * KIB; 6]);
    assert!(begun.elapsed() >= least(6 * 32 * KIB, 128 * KIB), "{:?}", begun.elapsed());
}

#[test]
fn nobody_stands_in_the_line_of_another_client() {
    let (app, _) = app("");
    let gateway = Gateway::start(Config::before(&app).service("bandwidth: {per_client: 1KiB/s}"));
    // It would take a quarter of an hour.
    let mut greedy = asks(&gateway, 1024 * KIB);
    greedy.head();
    let mut other = Client::connect_from([127, 0, 0, 2], gateway.address());
    other.send("GET /1024 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(other.response().body.len(), 1024);
    drop(greedy);
    assert_eq!(gateway.access("/1048576")["reason"], "client_closed");
}

#[test]
fn an_app_names_the_rate_of_an_answer_or_lifts_it() {
    let (slow, _) = app("X-Accel-Limit-Rate: 65536\r\n");
    let gateway = Gateway::start(Config::before(&slow));
    let begun = Instant::now();
    let response = asks(&gateway, 64 * KIB).response();
    assert!(begun.elapsed() >= least(64 * KIB, 64 * KIB), "{:?}", begun.elapsed());
    assert_eq!((response.field("x-accel-limit-rate"), response.body.len()), (None, 64 * KIB));
    // At 1 KiB/s it would not come in time.
    let (quick, _) = app("X-Accel-Limit-Rate: 0\r\n");
    let gateway = Gateway::start(Config::before(&quick).service("bandwidth: {rate: 1KiB/s}"));
    assert_eq!(asks(&gateway, 1024 * KIB).response().body.len(), 1024 * KIB);
}

#[test]
fn who_is_held_back_is_not_slow() {
    let (app, _) = app("");
    // Slower than what a client must take, and for longer than it may take nothing.
    for service in ["bandwidth: {rate: 16KiB/s}", "bandwidth: {rate: 16KiB/s}\nbuffering: off"] {
        let config =
            Config::before(&app).service(service).top("timeouts: {write: 500ms}\nbounds: {write_rate: 1000000}");
        let gateway = Gateway::start(http2::with_http2(&config));
        assert_eq!(asks(&gateway, 40 * KIB).response().body.len(), 40 * KIB);
        let mut curl = Command::new("curl");
        let url = format!("http://{}/{}", gateway.address(), 40 * KIB);
        let ended = harness::run(curl.args(["-sS", "--http2-prior-knowledge", "--max-time", "40", &url]));
        assert_eq!((ended.out.len(), ended.err.as_str()), (40 * KIB, ""));
    }
}

#[test]
fn chunks_compressed_answers_and_head_go_at_the_rate_as_well() {
    let app = Upstream::answering(|request| {
        if request.head.starts_with(b"HEAD") {
            return "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".into();
        }
        let text = (0..40_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_string()).collect::<Vec<_>>().concat();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\nX-Sum: 7\r\n\r\n",
            text.len()
        )
    });
    let gateway =
        Gateway::start(Config::before(&app).service("bandwidth: {rate: 256KiB/s}\ncompression: {encodings: [gzip]}"));
    for coding in ["gzip", "identity"] {
        let begun = Instant::now();
        let response =
            exchange(gateway.address(), format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n"));
        assert_eq!(response.trailers, "X-Sum: 7\r\n");
        assert_eq!(response.field("content-encoding").is_some(), coding == "gzip");
        assert!(begun.elapsed() >= least(response.body.len(), 256 * KIB), "{:?}", begun.elapsed());
    }
    let mut client = Client::connect(gateway.address());
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to_head().field("content-length").as_deref(), Some("1000000"));
}

#[test]
fn explain_tells_how_fast() {
    let folder = Folder::new();
    let file = folder.write(
        "probegate.yaml",
        "services: {app: {upstream: {servers: [\"127.0.0.1:1\"]}, bandwidth: {rate: 1MiB/s, after: 2KiB, per_client: 2MiB/s}}}",
    );
    let explained = harness::run(harness::probegate(["explain", "-c"]).arg(&file).args(["GET", "/"])).out;
    assert!(explained.contains(
        "answer    at most 1048576 bytes a second after the first 2048 bytes, unless the app says otherwise\n\
         answer    at most 2097152 bytes a second for all answers to this client\n"
    ));
}

#[test]
fn files_go_at_the_rate() {
    let folder = Folder::new();
    folder.write("large.bin", "0123456789abcdef".repeat(6 * KIB));
    let (app, _) = app("");
    let gateway = Gateway::start(Config::before(&app).service(&format!(
        "routes: [{{path: /static/, bandwidth: {{rate: 64KiB/s}}, files: {{root: \"{}\"}}}}]",
        folder.path().display()
    )));
    let begun = Instant::now();
    let response = exchange(gateway.address(), "GET /static/large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(response.text(), "0123456789abcdef".repeat(6 * KIB));
    assert!(begun.elapsed() >= least(96 * KIB, 64 * KIB), "{:?}", begun.elapsed());
}

#[test]
fn the_end_of_the_process_does_not_wait_for_who_is_held_back() {
    let (app, _) = app("");
    let config = Config::before(&app).service("bandwidth: {rate: 1KiB/s}").top("shutdown: {drain: 300ms}");
    let gateway = Gateway::start(config);
    let mut held_back = asks(&gateway, 1024 * KIB);
    held_back.head();
    gateway.signal("TERM");
    assert_eq!(gateway.access("/1048576")["reason"], "shutting_down");
    let (rest, _) = held_back.rest();
    assert!(rest.len() < 1024 * KIB);
}

#[test]
fn who_leaves_while_held_back_is_seen_at_once() {
    let folder = Folder::new();
    folder.write("file", "0123456789abcdef".repeat(4 * KIB));
    let (app, _) = app("");
    let gateway = Gateway::start(
        Config::before(&app)
            .service(&format!(
                "bandwidth: {{per_client: 1KiB/s}}\nroutes: [{{path: /static/, files: {{root: \"{}\"}}}}]",
                folder.path().display()
            ))
            .top("bounds: {connections_per_client: 1000}"),
    );
    let asks = |query: usize| {
        let mut client = Client::connect(gateway.address());
        client.send(format!("GET /static/file?{query} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client
    };
    // Each piece takes an eighth of a second, and all of them stand in one line: half a minute long.
    let mut waiting: Vec<_> = (0..240).map(asks).collect();
    let mut last = asks(240);
    waiting[0].head();
    last.exactly(1);
    let begun = Instant::now();
    last.reset();
    assert_eq!(gateway.access("/static/file?240")["reason"], "client_closed");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
