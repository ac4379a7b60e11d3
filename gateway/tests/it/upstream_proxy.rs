//! The PROXY protocol, version 2, towards apps: whose connection it is, in the first bytes of each.

use std::net::SocketAddr;
use std::process::Command;

use crate::harness::{
    Authority, Client, Config, Folder, Gateway, Program, Upstream, accepts, eventually, free_address, ok,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// An app that wants to know whose connection it is, and answers with what it was told.
fn app() -> Upstream {
    Upstream::scripted(|connection| {
        let Some(header) = connection.exactly(16) else { return };
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        let Some(_) = connection.exactly(length) else { return };
        connection.serve(&|_: &_| ok("told"));
    })
}

/// The bytes of section 2.2 for TCP over IPv4.
fn v4(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let octets = |address: SocketAddr| match address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets(),
        std::net::IpAddr::V6(ip) => panic!("{ip}"),
    };
    let mut out = [SIGNATURE, &[0x21, 0x11, 0, 12], &octets(source), &octets(destination)].concat();
    out.extend(source.port().to_be_bytes());
    out.extend(destination.port().to_be_bytes());
    out
}

#[test]
fn each_connection_names_its_client_and_serves_nobody_else() {
    let app = app();
    let config = Config::before(&app)
        .upstream("proxy_protocol: true\nidle_timeout: 60s")
        .top("client_ip: {trusted_proxies: [127.0.0.5]}");
    let gateway = Gateway::start(config);
    let here = gateway.address();
    // The client itself, with its port; what it claims to be changes nothing.
    let mut client = Client::connect_from([127, 0, 0, 4], here);
    let itself = client.sender().local_addr().unwrap();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.66\r\n\r\n");
        assert_eq!(client.response().text(), "told");
    }
    // A client that a trusted proxy names: its port is not known.
    let mut client = Client::connect_from([127, 0, 0, 5], here);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n");
    client.response();
    // Another one on the same connection.
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 2001:db8::7\r\n\r\n");
    client.response();
    // Nobody knows whose it is. An app must not take it for the proxy's own, which may be an internal address: the same
    // placeholder that X-Forwarded-For has then, without a port.
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response();

    assert_eq!(app.connections(), 5, "one for each request");
    let starts = |connection: usize, expected: &[u8]| {
        let received = app.received(connection);
        assert_eq!(&received[..expected.len()], expected, "{connection}");
        assert!(received[expected.len()..].starts_with(b"GET / HTTP/1.1\r\n"), "{connection}");
    };
    starts(0, &v4(itself, here));
    starts(1, &v4(itself, here));
    starts(2, &v4("192.0.2.7:0".parse().unwrap(), here));
    let mut v6 = [SIGNATURE, &[0x21, 0x21, 0, 36]].concat();
    v6.extend("2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
    v6.extend("::ffff:127.0.0.1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    v6.extend([0, 0]);
    v6.extend(here.port().to_be_bytes());
    starts(3, &v6);
    starts(4, &v4("233.252.0.0:0".parse().unwrap(), here));
    eventually("none is kept", || (app.open() == 0).then_some(()));
}

/// The real part: nginx, which refuses what is not the protocol. Plain, over TLS, and over TLS in HTTP/2.
#[test]
fn nginx_is_told_before_anything_else_is_said() {
    let ours = Authority::new("ours");
    let issued = ours.issue(&["app.internal"]);
    let folder = Folder::new();
    folder.write("app.pem", &issued.cert);
    folder.write("app.key", &issued.key);
    let (plain, secure) = (free_address(), free_address());
    let config = format!(
        "daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr;\n\
         events {{}}\n\
         http {{\n\
           access_log off;\n\
           client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;\n\
           server {{\n\
             listen {plain} proxy_protocol;\n\
             listen {secure} ssl http2 proxy_protocol;\n\
             ssl_certificate app.pem; ssl_certificate_key app.key;\n\
             location / {{ return 200 \"$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr \
         $proxy_protocol_server_port $server_protocol $scheme\"; }}\n\
           }}\n\
         }}\n"
    );
    let path = folder.write("nginx.conf", config);
    let mut command = Command::new("nginx");
    let _nginx = Program::start(command.arg("-p").arg(folder.path()).arg("-c").arg(path));
    eventually("it listens", || (accepts(plain) && accepts(secure)).then_some(()));
    for (server, more, spoken) in [
        (plain, "", "HTTP/1.1 http"),
        (secure, "tls: {ca: ca.pem, server_name: app.internal}", "HTTP/1.1 https"),
        (secure, "tls: {ca: ca.pem, server_name: app.internal}\nprotocol: http2", "HTTP/2.0 https"),
    ] {
        let config = Config::servers([server.to_string()]).upstream("proxy_protocol: true").upstream(more);
        let gateway = Gateway::with(config).file("ca.pem", &ours.pem).start();
        let mut client = Client::connect_from([127, 0, 0, 4], gateway.address());
        let port = client.sender().local_addr().unwrap().port();
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let told = client.response().text();
            assert_eq!(told, format!("127.0.0.4 {port} 127.0.0.1 {} {spoken}", gateway.address().port()));
        }
    }
}
