//! What connections held is given back when they have gone.

use std::time::Duration;

use crate::harness::{Client, Config, Gateway, Upstream, eventually, get, metric, ok};

/// KiB of memory that are the process's own, and not its program's.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

/// How many connections this process and the gateway may have, and are enough to show something.
fn many() -> usize {
    let (_, hard) = rlimit::Resource::NOFILE.get().unwrap();
    rlimit::Resource::NOFILE.set(hard, hard).unwrap();
    // Other tests run beside this one.
    usize::try_from(hard / 4).unwrap().min(5000)
}

#[test]
fn the_memory_of_connections_that_left_is_given_back() {
    let app = Upstream::answering(|_| ok(""));
    let gateway =
        Gateway::start(Config::before(&app).top("bounds: {connections: 20000, connections_per_client: 20000}"));
    get(gateway.address(), "/");
    metric(&gateway, "probegate_connections");
    let before = resident(&gateway);
    let clients: Vec<Client> = (0..many())
        .map(|_| {
            let mut client = Client::connect(gateway.address());
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.response().status, 200);
            client
        })
        .collect();
    let held = resident(&gateway).saturating_sub(before);
    assert!(held > clients.len() as u64 * 2, "{held} KiB for {} connections", clients.len());
    drop(clients);
    eventually("most of it is given back", || {
        std::thread::sleep(Duration::from_millis(50));
        (resident(&gateway).saturating_sub(before) < held / 4).then_some(())
    });
    // It serves as before.
    assert_eq!(get(gateway.address(), "/").status, 200);
}
