//! Compression of answers: who gets which coding, what is never compressed, and that nothing is held back.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{
    self, Client, Config, End, Folder, Gate, Gateway, Response, Upstream, curl, eventually, exchange, metrics,
    wait_for_metric,
};
use crate::http2;

pub(crate) const ON: &str = "compression: {}";

const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

/// A page that shrinks.
fn page() -> String {
    let rows = (0..400).map(|row| format!("<tr><td>{row}</td><td>row number {}</td></tr>\n", row * 7919 % 1009));
    rows.collect::<Vec<_>>().concat()
}

fn answer(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

pub(crate) fn decoded(coding: &str, body: &[u8]) -> String {
    let mut out = String::new();
    let read = match coding {
        "zstd" => zstd::stream::read::Decoder::new(body).unwrap().read_to_string(&mut out),
        "br" => brotli::Decompressor::new(body, 4096).read_to_string(&mut out),
        "gzip" => flate2::read::GzDecoder::new(body).read_to_string(&mut out),
        other => panic!("no coding: {other}"),
    };
    read.unwrap_or_else(|error| panic!("{coding}: {error}"));
    out
}

/// What can be read of a body that has not ended.
pub(crate) fn so_far(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "zstd" => {
            let mut decoder = zstd::stream::write::Decoder::new(Vec::new()).unwrap();
            decoder.write_all(body).unwrap();
            decoder.flush().unwrap();
            decoder.get_ref().clone()
        }
        "br" => {
            let mut decoder = brotli::DecompressorWriter::new(Vec::new(), 4096);
            decoder.write_all(body).unwrap();
            decoder.get_ref().clone()
        }
        _ => {
            let mut decoder = flate2::write::GzDecoder::new(Vec::new());
            decoder.write_all(body).unwrap();
            decoder.flush().unwrap();
            decoder.get_ref().clone()
        }
    }
}

fn asks(accept: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accept}\r\n\r\n")
}

fn vary(response: &Response) -> String {
    response.field("vary").unwrap_or_default()
}

#[test]
fn rfc_9110_12_5_3_each_client_gets_what_it_can_read() {
    let app = Upstream::answering(|_| answer("ETag: \"a\"\r\nAccept-Ranges: bytes\r\n", &page()));
    let gateway = Gateway::start(Config::before(&app).service(ON));
    let mut client = Client::connect(gateway.address());
    for (accept, coding) in
        [("gzip, deflate, br, zstd", "zstd"), ("gzip, deflate, br", "br"), ("gzip", "gzip"), ("gzip, br;q=0.5", "gzip")]
    {
        client.send(asks(accept));
        let response = client.response();
        assert_eq!(response.field("content-encoding").as_deref(), Some(coding), "{accept}");
        assert_eq!(decoded(coding, &response.body), page());
        assert!(response.body.len() * 3 < page().len(), "{} of {}", response.body.len(), page().len());
        assert_eq!((response.field("etag").as_deref(), vary(&response).as_str()), (Some("W/\"a\""), "Accept-Encoding"));
        assert_eq!((response.field("content-length"), response.field("accept-ranges")), (None, None));
        // The request reaches the app as it was sent.
        assert_eq!(app.requests().last().unwrap().field("accept-encoding").as_deref(), Some(accept));
    }
    // The others get it as it is, and caches are told.
    for accept in ["identity", "deflate", "gzip;q=0", "gzip;q=0.1, identity"] {
        client.send(asks(accept));
        let response = client.response();
        assert_eq!(
            (response.text(), response.field("content-encoding"), vary(&response)),
            (page(), None, "Accept-Encoding".into())
        );
        assert_eq!(
            (response.field("etag"), response.field("content-length")),
            (Some("\"a\"".into()), Some(page().len().to_string()))
        );
    }
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), page());
    // HTTP/1.0: until the connection ends.
    let mut client = Client::connect(gateway.address());
    client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_eq!(decoded("gzip", &client.response_until_closed().body), page());
    wait_for_metric(&gateway, "probegate_buffered_bytes{place=\"memory\"}", 0.0);
}

#[test]
fn curl_reads_every_coding_over_both_protocols() {
    let app = Upstream::answering(|_| answer("", &page()));
    for coding in CODINGS {
        let config = Config::before(&app).service(&format!("compression: {{encodings: [{coding}]}}"));
        let gateway = Gateway::start(http2::with_http2(&config));
        let url = format!("http://{}/", gateway.address());
        for protocol in ["--http1.1", "--http2-prior-knowledge", "--http1.0"] {
            let response = curl(["--compressed", protocol, &url]);
            assert_eq!(response.field("content-encoding").as_deref(), Some(coding), "{protocol}");
            assert_eq!(response.text(), page());
        }
    }
}

#[test]
fn what_must_stay_as_it_is_does() {
    let cases: [(&str, &str); 12] = [
        ("206 Partial Content", "Content-Type: text/html\r\nContent-Range: bytes 0-9/20\r\n"),
        ("200 OK", "Content-Type: text/html\r\nCache-Control: public, no-transform\r\n"),
        ("200 OK", "Content-Type: text/html\r\nContent-Encoding: br\r\n"),
        ("200 OK", "Content-Type: text/html\r\nRepr-Digest: sha-256=:eA==:\r\n"),
        ("200 OK", "Content-Type: image/png\r\n"),
        ("200 OK", "Content-Type: application/grpc\r\n"),
        ("200 OK", "Content-Type: text/event-stream\r\n"),
        ("200 OK", "Content-Type: text/html\r\nSet-Cookie: session=1\r\n"),
        ("200 OK", "Content-Type: text/html\r\nCache-Control: private\r\n"),
        ("200 OK", "Content-Type: text/html\r\nVary: Cookie\r\n"),
        ("200 OK", ""),
        ("204 No Content", "Content-Type: text/html\r\n"),
    ];
    let app = Upstream::answering(move |request| {
        let index: usize = request.target().trim_start_matches('/').parse().unwrap();
        let Some((status, fields)) = cases.get(index) else { return answer("", "short") };
        let (length, body) = if *status == "204 No Content" {
            (String::new(), String::new())
        } else {
            (format!("Content-Length: {}\r\n", page().len()), page())
        };
        format!("HTTP/1.1 {status}\r\n{fields}{length}\r\n{body}")
    });
    let gateway = Gateway::start(Config::before(&app).service(ON));
    for index in 0..=cases.len() {
        let response =
            exchange(gateway.address(), format!("GET /{index} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n"));
        let case = cases.get(index);
        let own = case.is_some_and(|(_, fields)| fields.contains("Content-Encoding")).then(|| "br".to_owned());
        assert_eq!(response.field("content-encoding"), own, "{case:?}");
        assert!(!vary(&response).contains("Accept-Encoding"), "{case:?}");
        let body = match case {
            None => "short".to_owned(),
            Some((status, _)) if status.starts_with("204") => String::new(),
            Some(_) => page(),
        };
        assert!(response.text() == body, "{case:?}");
    }
    // Not in answer to somebody who asks for another protocol, nor in a service that says nothing.
    let plain = Gateway::start(Config::before(&app));
    let response = exchange(plain.address(), "GET /4 HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_eq!((response.field("vary"), response.text()), (None, page()));
}

#[test]
fn personal_answers_are_compressed_where_that_is_wanted_and_routes_differ() {
    let app = Upstream::answering(|_| answer("Set-Cookie: session=1\r\nVary: Cookie\r\n", &page()));
    let gateway = Gateway::start(Config::before(&app).service(
        "compression: {personal: true, encodings: [br, gzip], levels: {br: 1}}\n\
         routes: [{path: /raw/, compression: off}, {path: /only/, compression: {types: [application/json]}}]",
    ));
    let get = |path: &str| {
        exchange(
            gateway.address(),
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip, br, zstd\r\n\r\n"),
        )
    };
    let response = get("/");
    assert_eq!(
        (vary(&response).as_str(), response.field("content-encoding").as_deref()),
        ("Cookie, Accept-Encoding", Some("br"))
    );
    assert_eq!(decoded("br", &response.body), page());
    for path in ["/raw/x", "/only/x"] {
        let response = get(path);
        assert_eq!((vary(&response).as_str(), response.text()), ("Cookie", page()), "{path}");
    }
}

#[test]
fn rfc_9110_9_3_2_head_has_the_fields_of_get() {
    let app = Upstream::scripted(|connection| {
        while let Some(request) = connection.request() {
            let whole = answer("ETag: \"a\"\r\n", &page());
            let end = whole.find("\r\n\r\n").unwrap() + 4;
            connection.write(if request.head.starts_with(b"HEAD") { &whole[..end] } else { &whole });
        }
    });
    let gateway = Gateway::start(Config::before(&app).service(ON));
    let mut client = Client::connect(gateway.address());
    for accept in ["br", "identity"] {
        client.send(asks(accept).replace("GET", "HEAD"));
        let head = client.response_to_head();
        client.send(asks(accept));
        let got = client.response();
        for name in ["content-encoding", "etag", "vary", "content-length", "content-type"] {
            assert_eq!(head.field(name), got.field(name), "{name} for {accept}");
        }
    }
}

#[test]
fn what_an_app_tells_in_steps_arrives_in_steps() {
    for coding in CODINGS {
        let gate = Arc::new(Gate::default());
        let waits = Arc::clone(&gate);
        let app = Upstream::scripted(move |connection| {
            connection.request();
            connection
                .write("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n");
            connection.write("e\r\n{\"step\": \"one\"\r\n");
            waits.wait();
            connection.write("2\r\n}\n\r\n0\r\n\r\n");
            connection.wait_closed();
        });
        let gateway = Gateway::start(Config::before(&app).service(ON));
        let mut client = Client::connect(gateway.address());
        // Without chunks around it.
        client.send(format!("GET / HTTP/1.0\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n"));
        client.head();
        let mut body = Vec::new();
        while so_far(coding, &body) != b"{\"step\": \"one\"" {
            body.extend(client.exactly(1));
        }
        gate.open();
        body.extend(client.rest().0);
        assert_eq!(decoded(coding, &body), "{\"step\": \"one\"}\n");
    }
}

#[test]
fn small_parts_that_come_at_once_are_compressed_together() {
    let app = Upstream::answering(|_| {
        let parts =
            page().lines().map(|line| format!("{:x}\r\n{line}\n\r\n", line.len() + 1)).collect::<Vec<_>>().concat();
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n{parts}0\r\n\r\n")
    });
    let gateway = Gateway::start(Config::before(&app).service(ON));
    for coding in CODINGS {
        let response = exchange(gateway.address(), asks(coding));
        assert_eq!(decoded(coding, &response.body), page());
        // A flush for each of the 400 parts would cost more than the text is worth.
        assert!(response.body.len() * 3 < page().len() && response.chunks.len() < 10, "{:?}", response.chunks);
    }
}

#[test]
fn an_app_is_free_though_its_client_is_slow_and_what_waits_is_compressed() {
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let numbers = (0..500_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_string());
    let body = numbers.collect::<Vec<_>>().join("\n");
    let sent = body.clone();
    let app = Upstream::scripted(move |connection| {
        connection.request();
        connection.write(answer("", &sent));
        counter.fetch_add(1, Ordering::SeqCst);
        connection.wait_closed();
    });
    for coding in CODINGS {
        let gateway = Gateway::start(Config::before(&app).service(ON));
        let before = written.load(Ordering::SeqCst);
        let mut client = Client::connect_narrow(gateway.address());
        client.send(asks(coding));
        eventually("the app has written everything", || (written.load(Ordering::SeqCst) > before).then_some(()));
        let response = client.response();
        assert!(decoded(coding, &response.body) == body, "{coding}: the body was changed");
        assert_eq!(gateway.access("/")["sent"], response.body.len());
        wait_for_metric(&gateway, "probegate_buffered_bytes{place=\"memory\"}", 0.0);
    }
}

#[test]
fn an_answer_that_breaks_off_is_not_whole_when_it_is_compressed() {
    let app = Upstream::scripted(|connection| {
        connection.request();
        connection.write("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100000\r\n\r\n");
        connection.write("x".repeat(50_000));
    });
    let gateway = Gateway::start(Config::before(&app).service(ON));
    for coding in CODINGS {
        for streaming in ["", "Connection: close\r\n"] {
            let mut client = Client::connect(gateway.address());
            client.send(asks(coding).replace("Host", &format!("{streaming}Host")));
            let (_, end) = client.response_and_end();
            assert_ne!(end, End::Whole, "{coding}");
        }
    }
    wait_for_metric(&gateway, "probegate_buffered_bytes{place=\"memory\"}", 0.0);
}

#[test]
fn encoders_have_a_bound_and_beyond_it_answers_go_out_as_they_are() {
    let gate = Arc::new(Gate::default());
    let waits = Arc::clone(&gate);
    let app = Upstream::scripted(move |connection| {
        let text = page();
        let (front, back) = text.split_at(100);
        while let Some(request) = connection.request() {
            connection.write("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n");
            connection.write(format!("{:x}\r\n{front}\r\n", front.len()));
            if request.target() == "/held" {
                waits.wait();
            }
            connection.write(format!("{:x}\r\n{back}\r\n0\r\n\r\n", back.len()));
        }
    });
    // Room for one encoder of brotli's.
    let gateway = Gateway::start(Config::before(&app).service(ON).top("buffers: {total_memory: 4MiB}"));
    let mut held = Client::connect(gateway.address());
    held.send(asks("br").replace("GET /", "GET /held"));
    eventually("it holds an encoder", || {
        (metrics(&gateway)["probegate_buffered_bytes{place=\"memory\"}"] > 1e6).then_some(())
    });
    let other = exchange(gateway.address(), asks("br"));
    assert_eq!((other.field("content-encoding"), vary(&other), other.text()), (None, "Accept-Encoding".into(), page()));
    gate.open();
    assert_eq!(decoded("br", &held.response().body), page());
    wait_for_metric(&gateway, "probegate_buffered_bytes{place=\"memory\"}", 0.0);
    assert_eq!(exchange(gateway.address(), asks("br")).field("content-encoding").as_deref(), Some("br"));
}

#[test]
fn a_request_body_that_is_compressed_passes_as_it_is() {
    let app = Upstream::answering(|_| answer("", &page()));
    let gateway = Gateway::start(Config::before(&app).service(ON));
    let body = b"\x1f\x8bnot even gzip";
    let mut client = Client::connect(gateway.address());
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(body);
    client.response();
    assert_eq!((app.request().body, app.request().field("content-encoding").as_deref()), (body.to_vec(), Some("gzip")));
}

#[test]
fn explain_tells_what_would_be_compressed() {
    let folder = Folder::new();
    let file = folder.write(
        "probegate.yaml",
        "services: {app: {upstream: {servers: [\"127.0.0.1:1\"]}, compression: {types: [text/html]}, routes: [{path: /raw/, compression: off}]}}",
    );
    let explained = |path: &str, accept: &str| {
        let mut explain = harness::probegate(["explain", "-c"]);
        harness::run(explain.arg(&file).args(["-H", &format!("Accept-Encoding: {accept}"), "GET", path])).out
    };
    let line = "answer    compressed with `br` (level 4) from 256 bytes on, unless it is personal, if its type is one of text/html\n";
    assert!(explained("/", "gzip, br").contains(line), "{}", explained("/", "gzip, br"));
    assert!(explained("/", "deflate").contains("answer    not compressed: the client takes none"));
    assert!(!explained("/raw/x", "br").contains("answer "));
    assert!(!explained("/healthz", "br").contains("answer "));
}

#[test]
fn files_are_compressed_where_nobody_did_it_beforehand() {
    let folder = Folder::new();
    for (name, content) in [("page.html", page()), ("both.html", page()), ("both.html.br", "made before".into())] {
        folder.write(name, content);
    }
    let app = Upstream::answering(|_| answer("", ""));
    let gateway = Gateway::start(Config::before(&app).service(&format!(
        "{ON}\nroutes: [{{path: /static/, files: {{root: \"{}\", precompressed: true}}}}]",
        folder.path().display()
    )));
    let ask = |method: &str, path: &str, fields: &str| {
        let mut client = Client::connect(gateway.address());
        client.send(format!("{method} /static/{path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        if method == "HEAD" { client.response_to_head() } else { client.response() }
    };
    for coding in CODINGS {
        let accept = format!("Accept-Encoding: {coding}\r\n");
        let got = ask("GET", "page.html", &accept);
        assert_eq!(got.field("content-encoding").as_deref(), Some(coding));
        assert_eq!((decoded(coding, &got.body), got.field("accept-ranges")), (page(), None));
        let etag = got.field("etag").unwrap();
        assert!(etag.starts_with("W/\""), "{etag}");
        // What is said of it when it has not changed is what was said of it.
        let same = ask("GET", "page.html", &format!("{accept}If-None-Match: {etag}\r\n"));
        assert_eq!((same.status, same.field("etag"), same.field("vary")), (304, Some(etag), got.field("vary")));
        let head = ask("HEAD", "page.html", &accept);
        for name in ["content-encoding", "etag", "vary", "content-length", "content-type", "accept-ranges"] {
            assert_eq!(head.field(name), got.field(name), "{name} for {coding}");
        }
        let part = ask("GET", "page.html", &format!("{accept}Range: bytes=0-9\r\n"));
        assert_eq!((part.status, part.text().as_str(), part.field("content-encoding")), (206, &page()[..10], None));
        assert_eq!(part.field("vary"), got.field("vary"));
        assert!(part.field("etag").unwrap().starts_with('"'));
    }
    let plain = ask("GET", "page.html", "");
    let etag = plain.field("etag").unwrap();
    let same = ask("GET", "page.html", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!((same.status, same.field("etag"), same.field("vary")), (304, Some(etag), plain.field("vary")));
    let made = ask("GET", "both.html", "Accept-Encoding: br, zstd;q=0.5\r\n");
    assert_eq!((made.text().as_str(), made.field("content-encoding").as_deref()), ("made before", Some("br")));
    assert_eq!(ask("GET", "page.html", "").text(), page());
}

#[test]
fn digests_behind_the_body_speak_of_the_bytes_that_go_out() {
    let app = Upstream::answering(|request| {
        let announced = if request.target() == "/announced" { "Trailer: Repr-Digest\r\n" } else { "" };
        let page = page();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{announced}Transfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{page}\r\n0\r\nRepr-Digest: sha-256=:abc:\r\nX-Sum: 7\r\n\r\n",
            page.len()
        )
    });
    let gateway = Gateway::start(Config::before(&app).service(ON));
    let raw = |target: &str| {
        let mut client = Client::connect(gateway.address());
        client.send(format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n"
        ));
        String::from_utf8_lossy(&client.rest().0).into_owned()
    };
    let announced = raw("/announced");
    assert!(!announced.contains("Content-Encoding") && announced.contains("\r\nRepr-Digest: "), "{announced}");
    let silent = raw("/silent");
    assert!(silent.contains("Content-Encoding: gzip") && silent.contains("\r\nX-Sum: 7"), "{silent}");
    assert!(!silent.contains("Repr-Digest"), "{silent}");
}
