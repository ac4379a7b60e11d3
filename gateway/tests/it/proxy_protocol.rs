//! The PROXY protocol on listeners: whose connection it is, whom the word is taken from, and that not a byte behind the header is lost.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::{
    Authority, Client, Config, Folder, Gateway, Program, Upstream, curl, eventually, exchange, free_address, metric,
    ok, wait_for_metric,
};

const REQUEST: &str = "GET /asked HTTP/1.1\r\nHost: app.example\r\n\r\n";

/// The listener of `config` takes PROXY protocol headers, under these keys.
fn behind(config: &Config, keys: &str) -> String {
    let text = config.to_string();
    let plain = "  - address: \"127.0.0.1:0\"\n";
    text.replacen(plain, &format!("{plain}    proxy_protocol: {{{keys}}}\n"), 1)
}

/// A gateway whose listener takes headers from everybody on this machine.
fn start(app: &Upstream) -> Gateway {
    Gateway::start(behind(&Config::before(app), "from: [127.0.0.0/8], timeout: 60s"))
}

fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, block].concat()
}

/// 203.0.113.9:4711 to 198.51.100.7:443 in version 2, with these additional values.
fn named(values: &[u8]) -> Vec<u8> {
    let (source, destination) = ([203, 0, 113, 9], [198, 51, 100, 7]);
    let ports = [4711u16.to_be_bytes(), 443u16.to_be_bytes()].concat();
    v2(0x21, 0x11, &[&source[..], &destination, &ports, values].concat())
}

const LINE: &str = "PROXY TCP4 203.0.113.9 198.51.100.7 4711 443\r\n";

/// What the app is told about the client, and what the log says about it.
fn told(header: &[u8]) -> (Vec<Option<String>>, String) {
    let app = Upstream::answering(|_| ok("here"));
    let gateway = start(&app);
    let response = exchange(gateway.address(), [header, REQUEST.as_bytes()].concat());
    assert_eq!((response.status, response.text()), (200, "here".to_owned()), "{header:?}");
    let request = app.request();
    let fields = ["x-forwarded-for", "x-real-ip", "x-forwarded-port"].map(|name| request.field(name));
    let line = gateway.access("/asked");
    assert_eq!(line["client"], line["peer"]);
    (fields.to_vec(), line["client"].as_str().unwrap().to_owned())
}

#[test]
fn the_client_that_the_header_names_is_the_peer() {
    let six = [
        &[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9][..],
        &[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0x12, 0x67, 0x01, 0xbb],
    ];
    for (header, client, port) in [
        (LINE.into(), "203.0.113.9", "443"),
        ("PROXY TCP6 2001:db8::9 2001:db8::1 4711 8443\r\n".into(), "2001:db8::9", "8443"),
        ("PROXY TCP6 ::ffff:203.0.113.9 ::ffff:198.51.100.7 4711 443\r\n".into(), "203.0.113.9", "443"),
        (named(&[]), "203.0.113.9", "443"),
        // What an authority's load balancer adds: an endpoint's name, padding.
        (named(&[0xea, 0, 3, 1, b'v', b'p', 4, 0, 1, 0]), "203.0.113.9", "443"),
        (v2(0x21, 0x21, &six.concat()), "2001:db8::9", "443"),
    ] {
        let header: Vec<u8> = header;
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(told(&header), (vec![some(client), some(client), some(port)], client.to_owned()), "{header:?}");
    }
}

#[test]
fn a_sender_that_speaks_for_itself_is_the_peer() {
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN what comes here is not looked at\r\n".to_vec(),
        v2(0x20, 0x00, &[]),
        v2(0x20, 0x11, &[203, 0, 113, 9, 1, 1, 1, 1, 0, 1, 0, 2]),
        v2(0x21, 0x00, &[]),
        v2(0x21, 0x31, &[0; 216]),
    ] {
        assert_eq!(told(&header).1, "127.0.0.1", "{header:?}");
    }
}

#[test]
fn a_header_in_pieces_of_any_size_is_read_and_what_follows_belongs_to_the_request() {
    let app = Upstream::answering(|request| ok(&String::from_utf8_lossy(&request.body)));
    let gateway = start(&app);
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    // Longer than what is looked at in one go.
    let long = [0xeb, 0x02, 0x00].iter().copied().chain([7; 512]).collect::<Vec<_>>();
    for header in [LINE.as_bytes().to_vec(), named(&[]), named(&long)] {
        let bytes = [&header[..], request.as_bytes()].concat();
        for step in [1, 2, 3, 7, 13, 100, header.len() - 1, header.len(), header.len() + 1] {
            let mut client = Client::connect(gateway.address());
            for piece in bytes.chunks(step) {
                client.send(piece);
            }
            assert_eq!(client.response().text(), "body", "{step}");
            // The connection goes on without another header.
            client.send(REQUEST);
            assert_eq!(client.response().status, 200, "{step}");
        }
    }
    assert!(app.requests().iter().all(|request| request.field("x-real-ip").as_deref() == Some("203.0.113.9")));
}

#[test]
fn what_is_no_header_is_closed_at_once_without_a_word() {
    let app = Upstream::answering(|_| ok(""));
    // Nobody waits for what can not become a header any more.
    let gateway = Gateway::start(behind(&Config::before(&app), "from: [127.0.0.1], timeout: 60s"));
    let wrong = [
        REQUEST.as_bytes().to_vec(),
        b"G".to_vec(),
        b"\x16\x03\x01\x02\x00\x01".to_vec(),
        b"PROXY TCP4 203.0.113.9 198.51.100.7 4711 443\n".to_vec(),
        b"PROXY TCP4 203.0.113.09 ".to_vec(),
        format!("PROXY UNKNOWN {}", "a".repeat(100)).into_bytes(),
        v2(0x22, 0x11, &[]),
        v2(0x21, 0x12, &[0; 12]),
        named(&[1, 0, 9, 0]),
        named(&[3, 0, 4, 0, 0, 0, 0]),
    ];
    for bytes in &wrong {
        let mut client = Client::connect(gateway.address());
        client.send(bytes);
        client.expect_closed();
    }
    // One that ends in the middle.
    let mut client = Client::connect(gateway.address());
    client.send("PROXY TCP4 203.");
    client.half_close();
    client.expect_closed();
    // One that never began is nothing: health checks connect and leave.
    let client = Client::connect(gateway.address());
    client.half_close();
    drop(client);
    let refused = "probegate_refusals_total{service=\"\",reason=\"proxy_header_invalid\"}";
    #[expect(clippy::cast_precision_loss, reason = "a dozen")]
    wait_for_metric(&gateway, refused, (wrong.len() + 1) as f64);
    let line = gateway.wait_for_log(|line| line["reason"] == "proxy_header_invalid");
    assert_eq!((&line["peer"], &line["decision"]), (&"127.0.0.1".into(), &"refuse".into()));
    assert_eq!(app.requests().len(), 0);
}

#[test]
fn only_named_senders_are_believed_and_nobody_else_is_let_in() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(behind(&Config::before(&app), "from: [127.0.0.2, \"2001:db8::/32\"]"));
    for bytes in [format!("{LINE}{REQUEST}"), REQUEST.to_owned(), String::new()] {
        let mut client = Client::connect_from([127, 0, 0, 3], gateway.address());
        client.try_send(bytes);
        client.expect_closed();
    }
    let line = gateway.wait_for_log(|line| line["reason"] == "proxy_sender_unknown");
    assert_eq!(line["peer"], "127.0.0.3");
    wait_for_metric(&gateway, "probegate_refusals_total{service=\"\",reason=\"proxy_sender_unknown\"}", 3.0);
    let mut client = Client::connect_from([127, 0, 0, 2], gateway.address());
    client.send(format!("{LINE}{REQUEST}"));
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_header_that_dawdles_is_not_waited_for() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(behind(&Config::before(&app), "from: [127.0.0.1], timeout: 400ms"));
    // Nothing at all, the beginning, and a byte now and then: the time is for the whole header.
    Client::connect(gateway.address()).expect_closed();
    let mut half = Client::connect(gateway.address());
    half.send("PROXY TCP4 ");
    half.expect_closed();
    let (begun, mut slow) = (Instant::now(), Client::connect(gateway.address()));
    for byte in LINE.as_bytes() {
        if !slow.try_send([*byte]) {
            break;
        }
        std::thread::sleep(Duration::from_millis(40));
    }
    slow.expect_closed();
    assert!(begun.elapsed() >= Duration::from_millis(400));
    wait_for_metric(&gateway, "probegate_refusals_total{service=\"\",reason=\"proxy_header_timeout\"}", 3.0);
}

#[test]
fn trusted_proxies_are_looked_for_behind_the_header() {
    let app = Upstream::answering(|_| ok(""));
    // The load balancer names a CDN, and the CDN names its client.
    let config = Config::before(&app).top("client_ip: {trusted_proxies: [203.0.113.0/24]}");
    let gateway = Gateway::start(behind(&config, "from: [127.0.0.1]"));
    let seen = |header: &str, field: &str| {
        let count = app.requests().len();
        let request = format!("{header}GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n");
        assert_eq!(exchange(gateway.address(), request).status, 200);
        let request = app.requests()[count].clone();
        ["x-real-ip", "x-forwarded-for"].map(|name| request.field(name).unwrap_or_default())
    };
    let claim = "X-Forwarded-For: 192.0.2.77\r\n";
    assert_eq!(seen(LINE, claim), ["192.0.2.77", "192.0.2.77, 203.0.113.9"]);
    // Somebody else behind the same load balancer is the client, whatever it claims.
    let stranger = "PROXY TCP4 198.18.0.1 198.51.100.7 1 443\r\n";
    assert_eq!(seen(stranger, claim), ["198.18.0.1", "198.18.0.1"]);
    // The sender itself is not made a trusted proxy by being allowed to send headers.
    assert_eq!(seen("PROXY UNKNOWN\r\n", claim), ["127.0.0.1", "127.0.0.1"]);
}

#[test]
fn limits_and_bounds_are_those_of_the_named_client() {
    let app = Upstream::answering(|_| ok(""));
    let config = Config::before(&app)
        .top("limits: {each: {rate: 1/1h}}\nbounds: {connections_per_client: 2}")
        .service("limits: [each]");
    let gateway = Gateway::start(behind(&config, "from: [127.0.0.1]"));
    let header = |client: u8| format!("PROXY TCP4 203.0.113.{client} 198.51.100.7 1 443\r\n");
    let ask = |client| {
        let mut connection = Client::connect(gateway.address());
        connection.send(header(client) + REQUEST);
        let status = connection.response().status;
        (connection, status)
    };
    // The limit on requests.
    let (one, first) = ask(1);
    let (two, second) = ask(1);
    assert_eq!((first, second), (200, 429));
    // The bound on connections: the third one is closed, and that of another client is not.
    let mut third = Client::connect(gateway.address());
    third.send(header(1) + REQUEST);
    third.expect_closed();
    let line = gateway.wait_for_log(|line| line["reason"] == "connections_exceeded");
    assert_eq!(line["peer"], "203.0.113.1");
    assert_eq!(ask(2).1, 200);
    drop((one, two));
    eventually("there is room again", || {
        let mut client = Client::connect(gateway.address());
        client.send(header(1) + REQUEST);
        let (bytes, _) = {
            client.half_close();
            client.rest()
        };
        bytes.starts_with(b"HTTP/1.1 429").then_some(())
    });
    assert!(metric(&gateway, "probegate_refusals_total{service=\"\",reason=\"connections_exceeded\"}") >= 1.0);
}

#[test]
fn curl_sends_a_header_that_is_understood() {
    let app = Upstream::answering(|request| ok(&request.field("x-real-ip").unwrap_or_default()));
    let gateway = start(&app);
    let response = curl(["--haproxy-protocol", &format!("http://{}/", gateway.address())]);
    assert_eq!((response.status, response.text()), (200, "127.0.0.1".to_owned()));
}

/// A real `haproxy` before the gateway, with these words behind its server's address. It names clients by 127.0.0.1 and their ports.
fn haproxy(words: &str, to: SocketAddr) -> (Program, SocketAddr, Folder) {
    let (folder, address) = (Folder::new(), free_address());
    let config = folder.write(
        "haproxy.cfg",
        format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             listen front\n  bind {address}\n  server gateway {to} {words}\n"
        ),
    );
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::env::split_paths(&path).chain(["/usr/sbin".into()])).unwrap();
    let program = Program::start(Command::new("haproxy").env("PATH", path).arg("-db").arg("-f").arg(config));
    eventually("haproxy listens", || std::net::TcpStream::connect(address).ok());
    (program, address, folder)
}

#[test]
fn haproxy_sends_headers_that_are_understood() {
    let app = Upstream::answering(|request| ok(&request.field("x-real-ip").unwrap_or_default()));
    // haproxy connects from 127.0.0.1, and its clients come from elsewhere.
    let gateway = Gateway::start(behind(&Config::before(&app), "from: [127.0.0.1]"));
    for words in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        let (_program, address, _folder) = haproxy(words, gateway.address());
        let mut client = Client::connect_from([127, 0, 0, 9], address);
        for _ in 0..3 {
            client.send(REQUEST);
            assert_eq!(client.response().text(), "127.0.0.9", "{words}");
        }
    }
    // Its health checks speak for themselves.
    let (_program, address, _folder) = haproxy("send-proxy-v2 check inter 50ms", gateway.address());
    eventually("it passes requests on", || {
        let mut client = Client::connect_from([127, 0, 0, 9], address);
        client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        client.rest().0.ends_with(b"127.0.0.9").then_some(())
    });
}

#[test]
fn the_header_comes_before_the_handshake() {
    let app = Upstream::answering(|request| ok(&request.field("x-real-ip").unwrap_or_default()));
    let authority = Authority::new("Test");
    let issued = authority.issue(&["app.example"]);
    let text = behind(&Config::before(&app), "from: [127.0.0.1]");
    let key = "    proxy_protocol:";
    let text = text.replacen(key, &format!("    tls: {{certificates: [{{cert: cert.pem, key: key.pem}}]}}\n{key}"), 1);
    let gateway = Gateway::with(text).file("cert.pem", &issued.cert).file("key.pem", &issued.key).start();
    let config = Arc::new(authority.client(None));
    let ask = |client: Client| {
        let mut client = client.secured(&config, "app.example").unwrap();
        client.send(REQUEST);
        client.response().text()
    };
    for header in [LINE.as_bytes().to_vec(), named(&[]), named(&[4, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0])] {
        for step in [1, 5, header.len()] {
            let mut client = Client::connect(gateway.address());
            for piece in header.chunks(step) {
                client.send(piece);
            }
            assert_eq!(ask(client), "203.0.113.9", "{step}");
        }
    }
    assert_eq!(app.requests()[0].field("x-forwarded-proto").as_deref(), Some("https"));
    // haproxy sends its header and what the client begins with in one segment.
    for words in ["send-proxy", "send-proxy-v2"] {
        let (_program, address, _folder) = haproxy(words, gateway.address());
        assert_eq!(ask(Client::connect_from([127, 0, 0, 9], address)), "127.0.0.9", "{words}");
    }
    // A handshake without a header is none.
    assert!(Client::connect(gateway.address()).secured(&config, "app.example").is_err());
    wait_for_metric(&gateway, "probegate_refusals_total{service=\"\",reason=\"proxy_header_invalid\"}", 1.0);
    // What goes wrong in the handshake is told of the named client.
    let mut client = Client::connect(gateway.address());
    client.send(format!("{LINE}GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.rest();
    let line = gateway.wait_for_log(|line| line["reason"] == "handshake_failed");
    assert_eq!(line["peer"], "203.0.113.9");
}

#[test]
fn a_header_that_names_a_sender_does_not_exempt_it_from_the_bound_on_connections() {
    let app = Upstream::answering(|_| ok(""));
    let config = Config::before(&app).top("bounds: {connections_per_client: 1}");
    let gateway = Gateway::start(behind(&config, "from: [127.0.0.1]"));
    let connect = |header: &str| {
        let mut client = Client::connect(gateway.address());
        client.send(header.to_owned() + REQUEST);
        client
    };
    let named = "PROXY TCP4 127.0.0.1 198.51.100.7 1 443\r\n";
    let mut first = connect(named);
    assert_eq!(first.response().status, 200);
    connect(named).expect_closed();
    // What the sender says for itself (a health check) is not bound.
    assert_eq!(connect("PROXY UNKNOWN\r\n").response().status, 200);
}

#[test]
fn a_listener_that_a_reload_takes_away_still_demands_its_header_of_open_connections() {
    let app = Upstream::answering(|_| ok(""));
    let config = Config::before(&app);
    let gateway = Gateway::start(behind(&config, "from: [127.0.0.1], timeout: 60s"));
    let (mut without, mut with) = (Client::connect(gateway.address()), Client::connect(gateway.address()));
    with.send(&LINE[..10]);
    // What nobody has accepted goes with its listener.
    wait_for_metric(&gateway, "probegate_connections_accepted_total", 2.0);
    let elsewhere = config.to_string().replacen("127.0.0.1:0", "127.0.0.2:0", 1);
    assert!(super::lifecycle::reload(&gateway, &elsewhere));
    without.send(REQUEST);
    without.expect_closed();
    with.send(LINE[10..].to_owned() + REQUEST);
    assert_eq!(with.response().status, 200);
    assert_eq!(gateway.access("/asked")["peer"], "203.0.113.9");
}
