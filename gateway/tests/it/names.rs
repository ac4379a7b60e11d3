//! Names of servers: asked for anew when their time is over, kept while the resolver fails, all of their addresses used.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::harness::{
    Call, Client, Config, Dns, Gateway, Http2App, Says, Unreachable, Upstream, eventually, get, ok, send,
};

/// A server on an address of its own that answers with it.
struct Server {
    ip: Ipv4Addr,
    open: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Server {
    fn start(ip: Ipv4Addr, listener: TcpListener) -> Self {
        let (open, connections) = (Arc::new(AtomicBool::new(true)), Arc::<Mutex<Vec<TcpStream>>>::default());
        let (goes_on, theirs) = (Arc::clone(&open), Arc::clone(&connections));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                if !goes_on.load(Ordering::SeqCst) {
                    return;
                }
                theirs.lock().unwrap().push(stream.try_clone().unwrap());
                std::thread::spawn(move || serve(ip, stream));
            }
        });
        Self { ip, open, connections }
    }

    /// Nobody listens any more, and every connection ends.
    fn stop(&self, port: u16) {
        self.open.store(false, Ordering::SeqCst);
        TcpStream::connect((self.ip, port)).ok();
        eventually("nobody listens", || TcpStream::connect((self.ip, port)).is_err().then_some(()));
        for stream in self.connections.lock().unwrap().iter() {
            stream.shutdown(std::net::Shutdown::Both).ok();
        }
    }
}

/// Answers every request with the address.
fn serve(ip: Ipv4Addr, mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
        if line == "\r\n" && stream.write_all(&ok(&ip.to_string())).is_err() {
            return;
        }
        line.clear();
    }
}

/// Two servers on the same port, of addresses that nobody else uses.
fn pair() -> (u16, [Server; 2]) {
    let ips = [2, 3].map(|last| Ipv4Addr::new(127, 77, 0, last));
    eventually("a port that is free on both", || {
        let first = TcpListener::bind((ips[0], 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let second = TcpListener::bind((ips[1], port)).ok()?;
        Some((port, [Server::start(ips[0], first), Server::start(ips[1], second)]))
    })
}

fn config(dns: &Dns, port: u16) -> Config {
    Config::servers([format!("app.example.test:{port}")])
        .upstream(&format!("resolver: [\"{}\"]\nconnect_timeout: 5s", dns.address()))
}

/// Who answers, over a connection of its own towards the gateway.
fn who(gateway: SocketAddr) -> String {
    let response = get(gateway, "/");
    assert_eq!(response.status, 200, "{response:?}");
    response.text()
}

#[test]
fn an_answer_is_followed_within_its_time_and_outlives_its_resolver() {
    let (port, servers) = pair();
    let [first, second] = [servers[0].ip, servers[1].ip];
    let dns = Dns::start(Says::Addresses(vec![first], 1));
    let gateway = Gateway::start(config(&dns, port));
    // One connection that is used all the time, and never made anew for want of one.
    let mut client = Client::connect(gateway.address());
    let mut ask = || {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        assert_eq!(response.status, 200, "{response:?}");
        response.text()
    };
    assert_eq!(ask(), first.to_string());
    dns.say(Says::Addresses(vec![second], 1));
    eventually("the new address is used", || (ask() == second.to_string()).then_some(()));

    // A resolver that fails, one that says nothing, and one that forgets the name for a moment.
    for says in [Says::Failure, Says::Nothing, Says::NoSuchName] {
        let before = dns.questions();
        dns.say(says);
        eventually("it is asked again", || {
            assert_eq!(ask(), second.to_string());
            (dns.questions() >= before + 2).then_some(())
        });
        assert_eq!(who(gateway.address()), second.to_string());
    }
    dns.say(Says::Addresses(vec![first], 1));
    eventually("and then it is heard", || (ask() == first.to_string()).then_some(()));
    gateway.wait_for_log(|line| line["message"] == "can be resolved again");
    assert!(dns.names().iter().all(|name| name == "app.example.test"), "{:?}", dns.names());
}

#[test]
fn an_answer_is_not_asked_for_before_its_time_is_over() {
    let (port, servers) = pair();
    let dns = Dns::start(Says::Addresses(vec![servers[0].ip], 3600));
    let gateway = Gateway::start(config(&dns, port));
    for _ in 0..20 {
        who(gateway.address());
    }
    // One question for each kind of address.
    assert_eq!(dns.questions(), 2);
}

#[test]
fn all_addresses_of_a_name_are_used_and_one_that_fails_is_passed_over() {
    let (port, servers) = pair();
    let [first, second] = [servers[0].ip, servers[1].ip];
    let dns = Dns::start(Says::Addresses(vec![first, second], 60));
    // No connection is kept, so that each request makes one.
    let gateway = Gateway::start(config(&dns, port).upstream("max_idle: 0"));
    let answers: Vec<_> = (0..10).map(|_| who(gateway.address())).collect();
    for ip in [first, second] {
        assert_eq!(answers.iter().filter(|answer| **answer == ip.to_string()).count(), 5, "{answers:?}");
    }
    servers[0].stop(port);
    for _ in 0..10 {
        assert_eq!(who(gateway.address()), second.to_string());
    }
}

#[test]
fn a_name_that_does_not_exist_is_an_error_until_it_does() {
    let (port, servers) = pair();
    let dns = Dns::start(Says::NoSuchName);
    let gateway = Gateway::start(config(&dns, port));
    assert_eq!(get(gateway.address(), "/").status, 502);
    let line = gateway.wait_for_log(|line| line["message"] == "cannot be resolved");
    assert_eq!((line["name"].as_str(), line["kept"].as_u64()), (Some("app.example.test"), Some(0)));
    // Remembered: not every request asks.
    let (begun, before) = (Instant::now(), dns.questions());
    for _ in 0..10 {
        assert_eq!(get(gateway.address(), "/").status, 502);
    }
    // For a second, and there are two questions each time.
    let most = before + 2 * (usize::try_from(begun.elapsed().as_secs()).unwrap() + 2);
    assert!(dns.questions() <= most, "{} {before}", dns.questions());
    dns.say(Says::Addresses(vec![servers[0].ip], 60));
    eventually("it is there", || (get(gateway.address(), "/").status == 200).then_some(()));
}

#[test]
fn names_of_the_hosts_file_need_no_resolver() {
    let app = Upstream::answering(|_| ok("answered"));
    let server = app.server().replace("127.0.0.1", "localhost");
    // Nobody is asked: this one never answers.
    let dns = Dns::start(Says::Nothing);
    let config = Config::servers([server.clone()]).upstream(&format!("resolver: [\"{}\"]", dns.address()));
    for config in [config, Config::servers([server])] {
        let gateway = Gateway::start(config);
        for _ in 0..4 {
            assert_eq!(get(gateway.address(), "/").text(), "answered");
        }
    }
    assert_eq!(dns.names(), [""; 0]);
    // Over HTTP/2, where requests share a connection.
    let app = Http2App::scripted(|mut call| async move {
        call.read().await;
        call.answer(200, &[], "answered").await;
    });
    let server = app.server().replace("127.0.0.1", "localhost");
    let gateway = Gateway::start(Config::servers([server]).upstream("protocol: http2"));
    for _ in 0..4 {
        assert_eq!(get(gateway.address(), "/").text(), "answered");
    }
    assert_eq!(app.connections(), 1, "connections that lead where they should are kept");
}

/// RFC 9113 §9.1: a connection is used as long as it leads to the server.
#[test]
fn connections_in_http_2_end_when_the_name_leads_elsewhere() {
    let ips = [4, 5].map(|last| Ipv4Addr::new(127, 77, 0, last));
    let (port, listeners) = eventually("a port that is free on both", || {
        let first = TcpListener::bind((ips[0], 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let second = TcpListener::bind((ips[1], port)).ok()?;
        Some((port, [first, second]))
    });
    let go_on = Arc::new(tokio::sync::Notify::new());
    let apps: Vec<_> = std::iter::zip(ips, listeners)
        .map(|(ip, listener)| {
            let go_on = Arc::clone(&go_on);
            Http2App::listening(listener, &h2::server::Builder::new(), move |mut call: Call| {
                let go_on = Arc::clone(&go_on);
                async move {
                    if call.seen().uri.ends_with("/long") {
                        let mut stream = call.start(200, &[]);
                        go_on.notified().await;
                        send(&mut stream, "to its end".into(), true).await;
                    } else {
                        call.answer(200, &[], ip.to_string()).await;
                    }
                }
            })
        })
        .collect();
    let dns = Dns::start(Says::Addresses(vec![ips[0]], 1));
    // Nothing but the name ends a connection.
    let gateway = Gateway::start(config(&dns, port).upstream("protocol: http2\nidle_timeout: 1h"));
    let mut long = Client::connect(gateway.address());
    long.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
    long.head();
    assert_eq!(who(gateway.address()), ips[0].to_string());
    dns.say(Says::Addresses(vec![ips[1]], 3600));
    eventually("the new address is used", || (who(gateway.address()) == ips[1].to_string()).then_some(()));
    for _ in 0..20 {
        assert_eq!(who(gateway.address()), ips[1].to_string());
    }
    assert_eq!((apps[0].open(), apps[1].connections()), (1, 1), "what runs goes on");
    go_on.notify_one();
    assert_eq!(long.exactly(15), b"a\r\nto its end\r\n");
    eventually("the old connection ends", || (apps[0].open() == 0).then_some(()));
    assert_eq!(apps[1].open(), 1);
}

#[test]
fn a_name_whose_addresses_swallow_everything_is_asked_for_anew() {
    let old = Unreachable::full();
    let port = old.server().rsplit_once(':').unwrap().1.parse().unwrap();
    let ip = Ipv4Addr::new(127, 77, 0, 6);
    let _new = Server::start(ip, TcpListener::bind((ip, port)).unwrap());
    let dns = Dns::start(Says::Addresses(vec![Ipv4Addr::LOCALHOST], 3600));
    let gateway = Gateway::start(
        Config::servers([format!("app.example.test:{port}")])
            .upstream(&format!("resolver: [\"{}\"]\nconnect_timeout: 300ms", dns.address())),
    );
    assert_eq!(get(gateway.address(), "/").status, 504);
    dns.say(Says::Addresses(vec![ip], 3600));
    eventually("the new address is used", || (get(gateway.address(), "/").status == 200).then_some(()));
}
