//! The logs of nginx, read by the real fail2ban: its stock filters and the one of the example find who is meant, and nobody else.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::harness::{Client, Config, Folder, Gate, Gateway, Upstream, eventually, ok, root, run};

/// 127.0.0.2 is a proxy that is believed.
const TOP: &str = concat!(
    "client_ip: {trusted_proxies: [127.0.0.2]}\nnetworks: {office: [198.51.100.0/24]}\n",
    "limits: {slow: {rate: 1/h, burst: 2}, all: {rate: 1/h, burst: 0, key: service}, busy: {max_in_flight: 1}, daily: {rate: 3/d, algorithm: fixed_window}}\nbans: {scans: {offences: {invalid: true}, max_offences: 1, mode: enforce}}"
);
const ROUTES: &str = "routes: [{path: /slow, limits: [slow]}, {path: /all, limits: [all]}, {path: /office, allow: {network: office}}, {path: /busy, limits: [busy]}, {path: /daily, limits: [daily]}]";

fn send(gateway: &Gateway, client: &str, target: &str) -> Client {
    let mut connection = Client::connect_from([127, 0, 0, 2], gateway.address());
    connection.send(format!(
        "GET {target} HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: {client}\r\nConnection: close\r\n\r\n"
    ));
    connection
}

fn ask(gateway: &Gateway, client: &str, target: &str) -> u16 {
    send(gateway, client, target).response().status
}

/// How many lines of `log` each client has that `filter` finds.
fn found(log: &Path, filter: &Path) -> Vec<(String, usize)> {
    let mut command = Command::new("fail2ban-regex");
    command.args(["--timezone", "UTC", "--out", "ip"]).arg(log).arg(filter);
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{} {}", ended.out, ended.err);
    let mut found: Vec<(String, usize)> = Vec::new();
    for ip in ended.out.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match found.iter_mut().find(|(known, _)| known == ip) {
            Some((_, count)) => *count += 1,
            None => found.push((ip.to_owned(), 1)),
        }
    }
    found
}

#[test]
fn the_real_fail2ban_reads_the_logs_with_its_stock_filters() {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::answering(move |request| match &*request.target() {
        "/busy/first" => {
            theirs.wait();
            ok("answered")
        }
        "/wp-login.php" => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ok("answered"),
    });
    let folder = Folder::new();
    let (errors, access) = (folder.path().join("error.log"), folder.path().join("access.log"));
    let log = format!(
        "storage: {}\nlog: {{access: {{format: combined, to: {}}}, nginx_errors: {}}}",
        folder.path().display(),
        access.display(),
        errors.display()
    );
    let gateway = Gateway::start(Config::before(&app).top(TOP).top(&log).service(ROUTES));
    for client in ["203.0.113.7", "2001:db8::7"] {
        let statuses: Vec<u16> = (0..6).map(|_| ask(&gateway, client, "/slow?q=\"x\"")).collect();
        assert_eq!(statuses, [200, 200, 200, 429, 429, 429]);
    }
    // What others have used up is not held against whoever comes next.
    assert_eq!([(); 2].map(|()| ask(&gateway, "203.0.113.11", "/all")), [200, 503]);
    assert_eq!(ask(&gateway, "203.0.113.8", "/office"), 403);
    assert_eq!(ask(&gateway, "203.0.113.9", "/%zz"), 400);
    assert_eq!(ask(&gateway, "203.0.113.9", "/"), 403, "banned");
    assert_eq!(ask(&gateway, "203.0.113.10", "/"), 200);
    let mut first = send(&gateway, "203.0.113.12", "/busy/first");
    eventually("it is at the app", || app.targets().contains(&"/busy/first".to_owned()).then_some(()));
    assert_eq!(ask(&gateway, "203.0.113.12", "/busy/second"), 429);
    gate.open();
    assert_eq!(first.response().status, 200);
    // Its window may end meanwhile.
    assert!((0..7).any(|_| ask(&gateway, "203.0.113.13", "/daily") == 429));
    assert_eq!(ask(&gateway, "203.0.113.14", "/wp-login.php"), 404);
    // Whoever can not be told is nobody's business: no line, or a tool would ban the proxy.
    assert_eq!(ask(&gateway, "garbage", "/office"), 403);
    let text = eventually("all refusals are written", || {
        let text = std::fs::read_to_string(&errors).unwrap_or_default();
        (text.ends_with('\n') && text.lines().count() == 10).then_some(text)
    });
    assert!(!text.contains("127.0.0.2"), "{text}");
    let first = text.lines().next().unwrap();
    assert!(first.contains(" [error] ") && first.contains("limiting requests, excess: 2.9"), "{first}");
    assert!(
        first.ends_with("by zone \"slow\", client: 203.0.113.7, server: app, request: \"GET /slow?q=\\x22x\\x22 HTTP/1.1\", host: \"a.example\""),
        "{first}"
    );
    // As nginx's `limit_conn` has it; and one request too many, whenever the window ends.
    let busy = text.lines().find(|line| line.contains("203.0.113.12")).unwrap();
    assert!(busy.contains(" limiting connections by zone \"busy\", client: 203.0.113.12, server: app,"), "{busy}");
    assert!(text.contains(" limiting requests, excess: 3.000 by zone \"daily\", client: 203.0.113.13,"), "{text}");
    eventually("all requests are written", || {
        std::fs::read_to_string(&access).unwrap_or_default().contains("/wp-login.php").then_some(())
    });

    let stock = |name: &str| Path::new("/etc/fail2ban/filter.d").join(format!("{name}.conf"));
    let count = |ip: &str, count: usize| (ip.to_owned(), count);
    let mut limited = found(&errors, &stock("nginx-limit-req"));
    // Known to it from fail2ban 1.1 on.
    limited.retain(|(ip, _)| ip != "203.0.113.12");
    assert_eq!(limited, [count("203.0.113.7", 3), count("2001:db8::7", 3), count("203.0.113.13", 1)]);
    assert_eq!(found(&access, &stock("nginx-botsearch")), [count("203.0.113.14", 1)]);
    assert_eq!(found(&access, &stock("nginx-bad-request")), [count("203.0.113.9", 1)]);
    let shipped = root().join("examples/fail2ban/filter.d/probegate-refused.conf");
    assert_eq!(found(&errors, &shipped), [count("203.0.113.8", 1), count("203.0.113.9", 1)]);
}

#[test]
fn the_example_names_jails_that_fail2ban_knows_and_files_that_the_gateway_writes() {
    let example = root().join("examples/fail2ban");
    let jails = std::fs::read_to_string(example.join("jail.local")).unwrap();
    let config = std::fs::read_to_string(example.join("probegate.yaml")).unwrap();
    for line in jails.lines() {
        if let Some(path) = line.strip_prefix("logpath = ") {
            assert!(config.contains(path), "{path}");
        }
        if let Some(jail) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'))
            && jail != "DEFAULT"
        {
            let filter = format!("filter.d/{jail}.conf");
            assert!(Path::new("/etc/fail2ban").join(&filter).exists() || example.join(&filter).exists(), "{filter}");
        }
    }
    // The whole configuration, as fail2ban reads it, with the jails of the example.
    let folder = Folder::new();
    let copied = run(Command::new("cp").arg("-r").arg("/etc/fail2ban").arg(folder.path().join("etc")));
    assert_eq!(copied.code, Some(0), "{}", copied.err);
    let etc = folder.path().join("etc");
    // The files have to be there; and Debian's own jail is about another service's log.
    let jails = jails.replace("/var/log/probegate", folder.path().to_str().unwrap());
    std::fs::write(etc.join("jail.local"), format!("{jails}\n[sshd]\nenabled = false\n")).unwrap();
    for file in ["access.log", "error.log"] {
        std::fs::write(folder.path().join(file), "").unwrap();
    }
    std::fs::copy(example.join("filter.d/probegate-refused.conf"), etc.join("filter.d/probegate-refused.conf"))
        .unwrap();
    let tested = run(Command::new("fail2ban-client").arg("-c").arg(&etc).arg("-d"));
    assert_eq!(tested.code, Some(0), "{} {}", tested.out, tested.err);
    for jail in ["nginx-limit-req", "nginx-bad-request", "nginx-botsearch", "probegate-refused"] {
        assert!(tested.out.contains(&format!("['start', '{jail}']")), "{jail}: {}", tested.out);
    }
}
