//! Servers that want to know who asks, and servers that are several.

use super::{config, gateway_with};
use crate::harness::{
    Authority, Client, Folder, Gateway, Redis, Reply, Resp, Upstream, Wish, eventually, free_address, get, metric, ok,
};

const LIMIT: &str = "limits: {all: {rate: 2/h, shared: true}}";

fn app() -> Upstream {
    Upstream::answering(|_| ok("answered"))
}

fn statuses(gateway: &Gateway, count: usize) -> Vec<u16> {
    (0..count).map(|_| get(gateway.address(), "/").status).collect()
}

/// The line of the documentation, word for word.
fn acl(password: &str) -> Vec<String> {
    let page = include_str!("../../../docs/shared-limits.md");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER ")).unwrap();
    line.replace("PASSWORD", password).split(' ').map(str::to_owned).collect()
}

#[test]
fn a_user_with_the_documented_rights_and_no_other_will_do() {
    let redis = Redis::with(&["--requirepass", "root"]);
    let mut root = Resp::connect(redis.address());
    assert_eq!(root.run(&["AUTH", "root"]), Reply::Text("OK".to_owned()));
    let words = acl("3f9a0c5d77e24c1b8a6e5d4f3c2b1a09");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(root.run(&words), Reply::Text("OK".to_owned()));
    let app = app();
    let store = "user: probegate\npassword: {env: REDIS_PASSWORD}\ntimeout: 900ms";
    let start = |password: &str| {
        gateway_with(&app, &redis.url(), LIMIT, "limits: [all]", store).env("REDIS_PASSWORD", password).start()
    };
    let gateway = start("3f9a0c5d77e24c1b8a6e5d4f3c2b1a09");
    assert_eq!(statuses(&gateway, 3), [200, 200, 429]);
    assert!(metric(&gateway, "probegate_limit_store_decisions_total{by=\"store\"}") > 1.5);
    root.run(&["SCRIPT", "FLUSH"]);
    root.run(&["FLUSHALL"]);
    let again = start("3f9a0c5d77e24c1b8a6e5d4f3c2b1a09");
    assert_eq!(statuses(&again, 3), [200, 200, 429]);
    assert!(metric(&again, "probegate_limit_store_decisions_total{by=\"local\"}") < 0.5);

    let wrong = start("0000000000000000000000000000000000000000");
    assert_eq!(statuses(&wrong, 2), [200, 429], "its share is one");
    let line = wrong.wait_for_log(|line| line["level"] == "WARN" && line["reason"] == "unreachable");
    let lines = wrong.log_lines().join("\n");
    assert!(line["error"].as_str().unwrap().contains("Password authentication failed"), "{line}");
    assert!(!lines.contains("00000000000000000000"), "the password is nowhere: {lines}");

    // One right less, and the log says which.
    for right in ["set", "get"] {
        root.run(&["ACL", "SETUSER", "probegate", &format!("-{right}")]);
        root.run(&["FLUSHALL"]);
        let denied = start("3f9a0c5d77e24c1b8a6e5d4f3c2b1a09");
        for _ in 0..8 {
            assert!(matches!(get(denied.address(), "/").status, 200 | 429));
        }
        assert!(metric(&denied, "probegate_limit_store_failures_total{reason=\"refused\"}") > 0.5, "{right}");
        assert!(metric(&denied, "probegate_limit_store_decisions_total{by=\"store\"}") < 0.5, "{right}");
        root.run(&["ACL", "SETUSER", "probegate", &format!("+{right}")]);
    }
}

#[test]
fn a_server_that_speaks_tls_is_verified_and_may_ask_for_a_certificate() {
    let authority = Authority::new("an authority");
    let address = free_address();
    let folder = Folder::new();
    let server = authority.issue(&[&address.ip().to_string()]);
    let own = authority.sign(&Wish::client("gateway"));
    let file = |name: &str, content: &str| folder.write(name, content).display().to_string();
    let (ca, cert, key) =
        (file("ca.pem", &authority.pem), file("cert.pem", &server.cert), file("key.pem", &server.key));
    let (own_cert, own_key) = (file("own.pem", &own.cert), file("own.key", &own.key));
    let other = file("other.pem", &Authority::new("another").pem);
    let port = address.port().to_string();
    let arguments = [
        "--port",
        "0",
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "yes",
    ];
    let _redis = Redis::on(address, Folder::new(), &arguments);
    let app = app();
    let url = format!("rediss://{address}");
    let tls = |ca: &str| format!("timeout: 900ms\ntls: {{ca: {ca}, cert: {own_cert}, key: {own_key}}}");
    let gateway = gateway_with(&app, &url, LIMIT, "limits: [all]", &tls(&ca)).start();
    assert_eq!(statuses(&gateway, 3), [200, 200, 429]);
    assert!(metric(&gateway, "probegate_limit_store_decisions_total{by=\"store\"}") > 1.5);

    let nobody = gateway_with(&app, &url, LIMIT, "limits: [all]", &tls(&other)).start();
    assert_eq!(statuses(&nobody, 2), [200, 429], "its share is one");
    let line = nobody.wait_for_log(|line| line["level"] == "WARN" && line["reason"] == "unreachable");
    assert!(line["error"].as_str().unwrap().contains("certificate"), "{line}");
    let named =
        config(&app, &url, LIMIT, "limits: [all]", &tls(&ca).replace("{ca", "{server_name: redis.internal, ca"));
    let misnamed = Gateway::start(named);
    misnamed.wait_for_log(|line| line["level"] == "WARN" && line["reason"] == "unreachable");
}

/// Asks from some addresses of loopback.
fn from(gateway: &Gateway, last: u8, count: usize) -> Vec<u16> {
    let one = |_| {
        let mut client = Client::connect_from([127, 0, 0, last], gateway.address());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.response().status
    };
    (0..count).map(one).collect()
}

fn decided(gateway: &Gateway, by: &str) -> f64 {
    metric(gateway, &format!("probegate_limit_store_decisions_total{{by=\"{by}\"}}"))
}

fn sizes(nodes: &[Redis]) -> Vec<i64> {
    let size = |node: &Redis| if let Reply::Number(size) = node.run(&["DBSIZE"]) { size } else { panic!() };
    nodes.iter().map(size).collect()
}

#[test]
fn clients_are_spread_over_a_cluster_and_a_slot_that_moves_takes_its_counts_along() {
    let nodes = Redis::cluster(3);
    for node in &nodes {
        let mut words = acl("3f9a0c5d77e24c1b8a6e5d4f3c2b1a09");
        words.push("+cluster|slots".to_owned());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(node.run(&words), Reply::Text("OK".to_owned()));
    }
    let app = app();
    let store = "cluster: true\nuser: probegate\npassword: {env: REDIS_PASSWORD}\ntimeout: 900ms";
    let start = |limits: &str, service: &str| {
        let gateway = gateway_with(&app, &nodes[0].url(), limits, service, store);
        gateway.env("REDIS_PASSWORD", "3f9a0c5d77e24c1b8a6e5d4f3c2b1a09").start()
    };
    let limits = "limits: {one: {rate: 2/h, shared: true}, two: {rate: 90/h, shared: true}}";
    let [first, second] = [(); 2].map(|()| start(limits, "limits: [one, two]"));
    for last in 10..22 {
        assert_eq!(from(&first, last, 1), [200]);
        assert_eq!(from(&second, last, 2), [200, 429]);
    }
    assert!(sizes(&nodes).iter().all(|size| *size > 0), "{:?}", sizes(&nodes));
    assert_eq!(sizes(&nodes).iter().sum::<i64>(), 24);

    // The keys of one client move to another server, while the gateways know nothing of it.
    let texts = |node: &Redis| node.run(&["KEYS", "*:one"]).texts();
    let key = texts(&nodes[0]).pop().unwrap();
    let Reply::Number(slot) = nodes[0].run(&["CLUSTER", "KEYSLOT", &key]) else { panic!() };
    let id = |node: &Redis| if let Reply::Text(id) = node.run(&["CLUSTER", "MYID"]) { id } else { panic!() };
    let (slot, from_id, to_id) = (slot.to_string(), id(&nodes[0]), id(&nodes[1]));
    let fine = |reply: Reply| assert_eq!(reply, Reply::Text("OK".to_owned()));
    fine(nodes[1].run(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]));
    fine(nodes[0].run(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]));
    let to = nodes[1].address();
    for key in nodes[0].run(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).texts() {
        fine(nodes[0].run(&["MIGRATE", &to.ip().to_string(), &to.port().to_string(), &key, "0", "5000"]));
    }
    for node in [&nodes[1], &nodes[0], &nodes[2]] {
        fine(node.run(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]));
    }
    let third = start(limits, "limits: [one, two]");
    for last in 10..22 {
        // The first remembers nobody: it has refused none.
        assert_eq!(from(&first, last, 1), [429], "{last}");
        assert_eq!(from(&third, last, 1), [429], "{last}");
    }
    for gateway in [&first, &second, &third] {
        assert!(decided(gateway, "local") < 0.5, "the cluster was asked");
    }

    // Limits by different keys on one request lie in one slot.
    for node in &nodes {
        fine(node.run(&["FLUSHALL"]));
    }
    let limits = "limits: {one: {rate: 2/h, shared: true}, net: {rate: 5/h, shared: true, ipv4_prefix: 24}}";
    let mixed = start(limits, "limits: [one, net]");
    assert_eq!(from(&mixed, 30, 3), [200, 200, 429]);
    assert_eq!(from(&mixed, 31, 3), [200, 200, 429]);
    assert_eq!(from(&mixed, 32, 2), [200, 429]);
    assert_eq!(sizes(&nodes).iter().filter(|size| **size > 0).count(), 1);
    assert!(decided(&mixed, "local") < 0.5);
}

#[test]
fn a_cluster_that_is_gone_is_as_good_as_a_server_that_is_gone() {
    let mut nodes = Redis::cluster(3);
    let app = app();
    let store = "cluster: true\ntimeout: 900ms";
    let limits = "limits: {all: {rate: 9000/h, burst: 999, shared: true}}";
    let text = config(&app, &nodes[1].url(), limits, "limits: [all]", store);
    let gateway = Gateway::start(text.replace("workers: 1", "workers: 2"));
    let ask = || (10..30).flat_map(|last| from(&gateway, last, 1)).all(|status| status == 200);
    assert!(ask());
    assert!(decided(&gateway, "store") > 10.0);
    nodes.iter_mut().for_each(Redis::kill);
    eventually("it is noticed", || {
        assert!(ask());
        gateway.log_lines().iter().any(|line| line.contains("not asked any more")).then_some(())
    });
    let began = std::time::Instant::now();
    assert!(ask());
    assert!(began.elapsed().as_secs_f64() < 10.0, "nobody waits: twenty requests took {:?}", began.elapsed());
    nodes.iter_mut().for_each(Redis::start_again);
    gateway.wait_for_log(|line| line["message"] == "the limit store is asked again");
    let before = decided(&gateway, "store");
    assert!(ask());
    assert!(decided(&gateway, "store") > before);
    let lines = gateway.log_lines();
    let odd: Vec<_> = lines.iter().filter(|line| line.contains("\"target\":\"redis")).collect();
    assert!(odd.is_empty(), "the library says nothing by itself: {odd:#?}");
}

#[test]
fn when_a_master_dies_the_one_that_the_sentinels_have_made_is_asked() {
    let mut master = Redis::start();
    let (ip, port) = (master.address().ip().to_string(), master.address().port().to_string());
    let address = free_address();
    let follow = ["--replicaof", &format!("{ip} {port}"), "--replica-announce-ip", &address.ip().to_string()];
    let replica = Redis::on(address, Folder::new(), &follow);
    let sentinel = Redis::sentinel(&master);
    eventually("the sentinel knows the replica, and it follows", || {
        let Reply::List(known) = sentinel.run(&["SENTINEL", "REPLICAS", "mymaster"]) else { return None };
        let Reply::Text(info) = replica.run(&["INFO", "replication"]) else { return None };
        (known.len() == 1 && info.contains("master_link_status:up")).then_some(())
    });
    let app = app();
    let store = "sentinel: {master: mymaster}\ntimeout: 900ms";
    let gateway =
        gateway_with(&app, &sentinel.url(), "limits: {all: {rate: 9/h, shared: true}}", "limits: [all]", store);
    let gateway = gateway.start();
    assert_eq!(statuses(&gateway, 3), [200; 3]);
    assert!(decided(&gateway, "store") > 2.5);
    eventually("the replica has the counts", || (replica.run(&["DBSIZE"]) == Reply::Number(1)).then_some(()));
    master.kill();
    gateway.wait_for_log(|line| line["level"] == "WARN" && line["reason"].is_string());
    gateway.wait_for_log(|line| line["message"] == "the limit store is asked again");
    assert_eq!(replica.run(&["ROLE"]).first(), Some(Reply::Text("master".to_owned())));
    // Three of nine were taken before, from the server that is gone.
    assert_eq!(statuses(&gateway, 7), [200, 200, 200, 200, 200, 200, 429]);

    // One that takes connections and says nothing keeps nobody from asking the next.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let both = format!("[\"redis://{}\", \"{}\"]", silent.local_addr().unwrap(), sentinel.url());
    let text = config(&app, "BOTH", LIMIT, "limits: [all]", "sentinel: {master: mymaster}");
    let patient = Gateway::start(text.replace("\"BOTH\"", &both));
    eventually("the store is reached", || {
        drop(get(patient.address(), "/"));
        (decided(&patient, "store") > 0.5).then_some(())
    });

    // Sentinels that know of no such master, or are none, are as good as none.
    let store = "sentinel: {master: othermaster}";
    let lost = gateway_with(&app, &sentinel.url(), LIMIT, "limits: [all]", store).start();
    let line = lost.wait_for_log(|line| line["level"] == "WARN" && line["reason"] == "unreachable");
    assert!(line["error"].as_str().unwrap().contains("knows no master `othermaster`"), "{line}");
    assert_eq!(statuses(&lost, 1), [200]);
}

#[test]
fn a_server_that_is_still_loading_is_as_good_as_gone_until_it_has_loaded() {
    // A tenth of a second for each key, until it is told to hurry.
    let slow =
        ["--key-load-delay", "100000", "--loading-process-events-interval-bytes", "1024", "--rdbcompression", "no"];
    let mut redis = Redis::with(&slow);
    let value = "x".repeat(2000);
    for number in 0..300 {
        redis.run(&["SET", &format!("filler:{number}"), &value]);
    }
    assert_eq!(redis.run(&["SAVE"]), Reply::Text("OK".to_owned()));
    redis.kill();
    redis.start_again();
    let app = app();
    let gateway = gateway_with(&app, &redis.url(), LIMIT, "limits: [all]", "timeout: 900ms").start();
    let line = eventually("it is noticed", || {
        // Refused or not: nobody fails for it.
        assert!(matches!(get(gateway.address(), "/").status, 200 | 429));
        gateway.log_lines().into_iter().find(|line| line.contains("the limit store is not asked any more"))
    });
    assert!(line.contains("Redis is loading"), "{line}");
    assert_eq!(redis.run(&["CONFIG", "SET", "key-load-delay", "0"]), Reply::Text("OK".to_owned()));
    gateway.wait_for_log(|line| line["message"] == "the limit store is asked again");
}
