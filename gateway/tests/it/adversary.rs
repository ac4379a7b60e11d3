//! What somebody who reads the source would try: fields, names and moments that two parts of a gateway could treat differently.

use std::time::{Duration, Instant};

use crate::harness::{Client, Config, Gateway, Upstream, eventually, exchange, get, ok};

const SECRET: &str = "6f1d0c9be2a8437fb5d3a1c0e9f87d64";

#[test]
fn servers_that_share_a_name_are_told_apart_by_their_ports() {
    let (one, two) = (Upstream::answering(|_| ok("one")), Upstream::answering(|_| ok("two")));
    let server = |app: &Upstream| app.server().replace("127.0.0.1", "localhost");
    let gateway = Gateway::start(format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}]\nadmin: {{address: \"127.0.0.1:0\"}}\nworkers: 1\nservices:\n  \
         one: {{hosts: [one], upstream: {{servers: [\"{}\"]}}}}\n  two: {{hosts: [two], upstream: {{servers: [\"{}\"]}}}}\n",
        server(&one),
        server(&two)
    ));
    for (host, text) in [("one", "one"), ("two", "two"), ("one", "one"), ("two", "two")] {
        let response = exchange(gateway.address(), format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(response.text(), text);
    }
}

#[test]
fn a_token_reaches_the_app_in_no_field_whatever_the_field_is_called() {
    for field in ["Authorization", "User-Agent", "Referer", "X-Own"] {
        let app = Upstream::answering(|_| ok(""));
        let gateway = Gateway::start(
            Config::before(&app)
                .top(&format!("tokens: {{api: {{header: {field}, slots: [{{name: a, value: {SECRET}}}]}}}}"))
                .service("routes: [{path: /api/, allow: {token: api}}]"),
        );
        let ask = |target: &str| {
            exchange(gateway.address(), format!("GET {target} HTTP/1.1\r\nHost: a\r\n{field}: {SECRET}\r\n\r\n")).status
        };
        assert_eq!((ask("/api/"), ask("/else")), (200, 200), "{field}");
        for request in app.requests() {
            assert!(!request.text().contains(SECRET), "{field}: {}", request.text());
        }
    }
}

#[test]
fn the_apps_own_token_can_not_be_given_by_the_client() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(
        Config::before(&app)
            .service(&format!("probes: {{healthz: {{token: {{header: Authorization, value: {SECRET}}}}}}}")),
    );
    exchange(gateway.address(), "GET /healthz HTTP/1.1\r\nHost: a\r\nAuthorization: mine\r\n\r\n");
    assert_eq!(app.request().all("authorization"), [SECRET]);
}

#[test]
fn options_asterisk_meets_the_rules_of_the_root() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(
        Config::before(&app)
            .top("networks: {office: [203.0.113.0/24]}")
            .service("routes: [{path: /, allow: {network: office}}]"),
    );
    assert_eq!(exchange(gateway.address(), "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").status, 403);
    assert_eq!(app.connections(), 0);
    let open = Gateway::start(Config::before(&app));
    assert_eq!(exchange(open.address(), "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    assert_eq!(app.targets(), ["*"]);
}

#[test]
fn fields_that_claim_to_know_the_client_never_reach_the_app() {
    let app = Upstream::answering(|_| ok(""));
    let gateway =
        Gateway::start(Config::before(&app).top("client_ip: {trusted_proxies: [192.0.2.1], header: X-Edge-IP}"));
    let claims = [
        "X-Edge-IP",
        "X-Forwarded",
        "Forwarded-For",
        "X-Original-URI",
        "Proxy",
        "Proxy-Client-IP",
        "WL-Proxy-Client-IP",
    ];
    let fields = claims.map(|name| format!("{name}: 10.9.9.9\r\n")).concat();
    exchange(gateway.address(), format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    assert!(!app.request().text().contains("10.9.9.9"), "{}", app.request().text());
}

#[test]
fn a_body_behind_an_answer_to_head_is_nobody_elses_answer() {
    let app = Upstream::scripted(|connection| {
        while let Some(request) = connection.request() {
            if request.line().starts_with("HEAD") {
                let poison = ok("poisoned");
                connection.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", poison.len()));
                connection.write(poison);
            } else {
                connection.write(ok("clean"));
            }
        }
    });
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    for _ in 0..5 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response_to_head().status, 200);
        assert_eq!(client.response().text(), "clean");
    }
}

#[test]
fn the_apps_time_begins_when_it_has_the_whole_request() {
    let app = Upstream::scripted(|connection| {
        while let Some(_request) = connection.request() {
            // The app needs half of the time it has.
            std::thread::sleep(Duration::from_millis(1500));
            connection.write(ok("done"));
        }
    });
    let gateway = Gateway::start(Config::before(&app).streaming().upstream("response_timeout: 3s"));
    let mut client = Client::connect(gateway.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na");
    // The client keeps it waiting for longer than the rest of that time.
    let paused = Instant::now();
    app_has_connection(&app);
    while paused.elapsed() < Duration::from_millis(1900) {
        std::thread::sleep(Duration::from_millis(10));
    }
    client.send("b");
    assert_eq!(client.response().status, 200);
}

fn app_has_connection(app: &Upstream) {
    eventually("a connection", || (app.connections() > 0).then_some(()));
}

#[test]
fn a_connection_field_with_very_many_options_is_refused() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    let many = "a,".repeat(40);
    let ask = |options: &str| {
        exchange(gateway.address(), format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {options}\r\n\r\n")).status
    };
    assert_eq!(ask(&many), 400);
    assert_eq!(ask("x-a, x-b, keep-alive"), 200);
}

#[test]
fn what_is_hidden_is_hidden_in_every_spelling() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(
        Config::before(&app)
            .top("networks: {office: [203.0.113.0/24]}")
            .service("probes: {readyz: {allow: {network: office}, deny: 404}}\nroutes: [{path: /adm/, allow: {network: office}, deny: 404}]"),
    );
    for target in ["/readyz", "/readyz/", "//readyz", "/readyz;x", "/%2572eadyz", "/adm", "//adm/x", "/adm;x"] {
        assert_eq!(get(gateway.address(), target).status, 404, "{target}");
    }
    assert_eq!(app.connections(), 0);
}

#[test]
fn rfc_9110_8_6_interim_answers_have_no_length() {
    let app = Upstream::scripted(|connection| {
        while connection.request().is_some() {
            connection.write("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nLink: </a>\r\n\r\n");
            connection.write(ok("x"));
        }
    });
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let hints = String::from_utf8(client.head()).unwrap();
    assert!(hints.contains("Link: </a>") && !hints.contains("Content-Length"), "{hints}");
    assert_eq!(client.response().text(), "x");
}

#[test]
fn many_unfinished_heads_cost_little_memory() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    let resident = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // What the first request of each kind takes is taken once.
    get(gateway.address(), "/");
    crate::harness::metrics(&gateway);
    let before = resident();
    let clients: Vec<Client> = (0..400)
        .map(|_| {
            let mut client = Client::connect(gateway.address());
            client.send("GET /");
            client
        })
        .collect();
    eventually("all connections", || {
        (crate::harness::metric(&gateway, "probegate_connections") >= 400.0).then_some(())
    });
    // One more request has passed through the worker, hence the bytes before it have been read.
    get(gateway.address(), "/");
    let each = resident().saturating_sub(before) / clients.len() as u64;
    assert!(each < 20, "{each} KiB for each unfinished head");
}

#[test]
fn a_client_that_floods_one_connection_leaves_the_others_their_turn() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(
        Config::before(&app)
            .top("networks: {office: [203.0.113.0/24]}\nlog: {access: {format: off}}")
            .service("routes: [{path: /denied, allow: {network: office}}]"),
    );
    let flood = "GET /denied HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2000);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let mut client = Client::connect(gateway.address());
            let mut sink = client.sender();
            let (flood, stop) = (&flood, &stop);
            scope.spawn(move || while !stop.load(std::sync::atomic::Ordering::Relaxed) && client.try_send(flood) {});
            scope.spawn(move || std::io::copy(&mut sink, &mut std::io::sink()).ok());
        }
        // On one worker, every request here waits for its turn behind the flood. It gets one each time.
        for _ in 0..20 {
            assert_eq!(get(gateway.address(), "/healthz").status, 200);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        drop(gateway);
    });
}

#[test]
fn an_answer_in_progress_is_finished_although_the_client_stopped_sending() {
    let app = Upstream::scripted(|connection| {
        // It answers before it has read the body, and takes its time.
        connection.head();
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        std::thread::sleep(Duration::from_millis(2500));
        connection.write("-last");
        connection.wait_closed();
    });
    let gateway = Gateway::start(Config::before(&app).streaming().top("timeouts: {body: 2s}"));
    let mut client = Client::connect(gateway.address());
    client.send("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 100\r\n\r\nonly this");
    assert_eq!(client.response().text(), "first-last");
}

#[test]
fn the_gateway_ends_in_time_although_nobody_reads_its_log() {
    let app = Upstream::answering(|_| ok(""));
    let folder = crate::harness::Folder::new();
    let config = Config::before(&app).top("shutdown: {drain: 1s}");
    let address = crate::harness::free_address();
    let path = folder.write("probegate.yaml", crate::harness::listening_on(&config, &[address]));
    // A pipe that is never read fills up.
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_probegate"))
        .args(["run", "-c"])
        .arg(path)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    eventually("listening", || crate::harness::accepts(address).then_some(()));
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(4000));
    for _ in 0..200 {
        assert_eq!(exchange(address, &long).status, 200);
    }
    let stopped = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    let status = eventually("the end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn unread_bytes_behind_a_last_request_do_not_destroy_its_answer() {
    let body = "x".repeat(6_000_000);
    let answer = ok(&body);
    let app = Upstream::answering(move |_| answer.clone());
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect_narrow(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let head = client.head();
    assert!(head.starts_with(b"HTTP/1.1 200"));
    // An old browser's line end, long after the request.
    client.send("\r\n");
    assert_eq!(client.exactly(body.len()).len(), body.len());
}

#[test]
fn an_answer_that_announces_a_chunk_shows_its_head_at_once() {
    let gate = std::sync::Arc::new(crate::harness::Gate::default());
    let opened = std::sync::Arc::clone(&gate);
    let app = Upstream::scripted(move |connection| {
        connection.request();
        connection.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n");
        opened.wait();
        connection.write("hello\r\n0\r\n\r\n");
        connection.wait_closed();
    });
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.head().starts_with(b"HTTP/1.1 200"), "before any data");
    gate.open();
    assert_eq!(client.exactly(10), b"5\r\nhello\r\n");
}

#[test]
fn a_request_that_fills_a_buffer_exactly_leaves_its_connection_idle() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(
        Config::before(&app)
            .top("networks: {office: [203.0.113.0/24]}\ntimeouts: {head: 2s, keep_alive: 60s}")
            .service("routes: [{path: /denied, allow: {network: office}}]"),
    );
    let mut clients = [2047, 2048, 4096].map(|size| {
        let mut client = Client::connect(gateway.address());
        let fixed = "GET /denied HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        let request = format!("GET /denied HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(size - fixed));
        client.send(&request);
        assert_eq!(client.response().status, 403);
        (client, request)
    });
    // All of them are idle for longer than a head may take.
    std::thread::sleep(Duration::from_millis(2500));
    for (client, request) in &mut clients {
        client.send(&*request);
        assert_eq!(client.response().status, 403, "{}", request.len());
    }
}
