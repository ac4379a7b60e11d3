//! WebSocket by extended CONNECT (RFC 8441): an ordinary upgrade to the app.

use bytes::Bytes;
use h2::ext::Protocol;
use http::{Request, StatusCode};

use super::raw::{ask, receive, request, with_h2};
use super::with_http2;
use crate::harness::{Config, Connection, Folder, Gateway, Upstream, eventually, ok};

/// What an app answers to a key (RFC 6455 §4.2.2).
fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in digest.as_ref().chunks(3) {
        let word =
            three.iter().enumerate().fold(0_u32, |word, (index, &byte)| word | u32::from(byte) << (16 - 8 * index));
        for index in 0..4 {
            let char = alphabet[usize::try_from(word >> (18 - 6 * index) & 63).unwrap()];
            out.push(if index <= three.len() { char::from(char) } else { '=' });
        }
    }
    out
}

/// Switches as `/` asks, wrongly for `/wrong`, and not at all elsewhere; then echoes.
fn app(connection: &mut Connection) {
    while let Some(request) = connection.request() {
        let key = request.field("sec-websocket-key").unwrap_or_default();
        let accept = match &*request.target() {
            "/" => accept(&key),
            "/wrong" => accept("another"),
            "/forbidden" => {
                connection.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
                continue;
            }
            _ => {
                connection.write(ok("plain"));
                continue;
            }
        };
        connection.write(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: {accept}\r\n\r\nwelcome"
        ));
        while let Some(bytes) = connection.some() {
            connection.write(bytes);
        }
        connection.write("bye");
        return;
    }
}

fn connect(path: &str) -> Request<()> {
    let mut request = request("CONNECT", path);
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request
}

#[test]
fn rfc_8441_a_websocket_passes_over_a_stream() {
    let app = Upstream::scripted(app);
    let gateway = Gateway::start(with_http2(&Config::before(&app)));
    with_h2(gateway.address(), async |mut send| {
        assert!(send.is_extended_connect_protocol_enabled());
        let (response, mut up) = send.send_request(connect("/"), false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        assert!(
            !response.headers().contains_key("sec-websocket-accept") && !response.headers().contains_key("upgrade")
        );
        let mut down = response.into_body();
        let mut got = Vec::new();
        let sent: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let mut rest = Bytes::from(sent.clone());
        let expected = [b"welcome", &sent[..]].concat();
        while got.len() < expected.len() {
            up.reserve_capacity(rest.len());
            tokio::select! {
                Some(Ok(room)) = std::future::poll_fn(|cx| up.poll_capacity(cx)), if !rest.is_empty() => {
                    up.send_data(rest.split_to(room.min(rest.len())), false).unwrap();
                }
                Some(part) = down.data() => {
                    let part = part.unwrap();
                    down.flow_control().release_capacity(part.len()).unwrap();
                    got.extend_from_slice(&part);
                }
            }
        }
        assert!(got == expected, "the bytes were changed");
        // The connection serves other requests meanwhile, and the tunnel's end arrives.
        assert_eq!(ask(&mut send, request("GET", "/plain"), b"", None).await.unwrap().body, b"plain");
        up.send_data(Bytes::new(), true).unwrap();
        assert_eq!(&down.data().await.unwrap().unwrap()[..], b"bye");
        while let Some(part) = down.data().await {
            assert!(part.unwrap().is_empty(), "the end, and no reset");
        }
    });
    let opening = app.requests().into_iter().find(|request| request.target() == "/").unwrap();
    assert_eq!(opening.line(), "GET / HTTP/1.1");
    assert_eq!(opening.field("upgrade").as_deref(), Some("websocket"));
    assert_eq!(opening.field("connection").as_deref(), Some("Upgrade"));
    assert_eq!(opening.field("sec-websocket-version").as_deref(), Some("13"));
    assert_eq!(opening.field("sec-websocket-key").map(|key| key.len()), Some(24));
    assert_eq!(opening.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    let line = gateway.access("/");
    assert_eq!((&line["status"], &line["method"]), (&101.into(), &"GET".into()));
    eventually("the app's connection is closed", || (app.open() <= 1).then_some(()));
}

#[test]
fn rfc_8441_what_does_not_become_a_tunnel_is_no_success() {
    let app = Upstream::scripted(app);
    let gateway = Gateway::start(with_http2(&Config::before(&app)));
    let closed = Gateway::start(with_http2(&Config::before(&app).service("upgrades: []")));
    let framed = Gateway::start(with_http2(&Config::before(&app).upstream("protocol: http2")));
    for (gateway, path, status, reason) in [
        (&framed, "/", 405, "method_not_allowed"),
        (&gateway, "/wrong", 502, "upstream_invalid"),
        (&gateway, "/elsewhere", 502, "upstream_invalid"),
        (&gateway, "/forbidden", 403, ""),
        (&closed, "/", 405, "method_not_allowed"),
    ] {
        with_h2(gateway.address(), async |mut send| {
            let (response, _up) = send.send_request(connect(path), false).unwrap();
            assert_eq!(receive(response).await.unwrap().head.status.as_u16(), status, "{path}");
        });
        assert_eq!(gateway.access(path)["reason"].as_str().unwrap_or(""), reason, "{path}");
    }
}

#[test]
fn rfc_8441_no_file_probe_or_redirect_opens_a_tunnel() {
    let app = Upstream::answering(|request| match &*request.target() {
        "/pointer" => {
            "HTTP/1.1 404 Not Found\r\nX-Accel-Redirect: /protected/a.txt\r\nContent-Length: 0\r\n\r\n".to_owned()
        }
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
    });
    let folder = Folder::new();
    folder.write("a.txt", "text");
    let root = folder.path().display();
    let config = Config::before(&app).service(&format!(
        "probes: {{healthz: {{serve: answer}}}}\n\
         routes:\n  - {{path: /files/, files: {{root: \"{root}\"}}}}\n  - {{path: /protected/, files: {{root: \"{root}\", internal: true}}}}\n  \
         - {{path: /old/, redirect: {{to: \"/new${{rest}}\", status: 301}}}}\n  - {{path: /shared/, cors: {{origins: [\"https://a.example\"]}}}}"
    ));
    let gateway = Gateway::start(with_http2(&config));
    for (path, status) in
        [("/files/a.txt", 405), ("/pointer", 405), ("/healthz", 405), ("/old/x", 301), ("/shared/x", 502)]
    {
        with_h2(gateway.address(), async |mut send| {
            let mut request = connect(path);
            request.headers_mut().insert("origin", "https://a.example".parse().unwrap());
            request.headers_mut().insert("access-control-request-method", "GET".parse().unwrap());
            let (response, _up) = send.send_request(request, false).unwrap();
            assert_eq!(receive(response).await.unwrap().head.status.as_u16(), status, "{path}");
        });
    }
}
