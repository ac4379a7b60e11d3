//! Servers that are drained: they finish what they are at, and get nothing new.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::harness::{
    Client, Config, Ended, Folder, Gate, Gateway, Upstream, eventually, get, ok, probegate, run, wait_for_metric,
};

/// A server that counts, and answers `/slow` when it is told to.
struct Counted {
    app: Upstream,
    count: Arc<AtomicUsize>,
    gate: Arc<Gate>,
}

impl Counted {
    fn start() -> Self {
        let (count, gate) = (Arc::<AtomicUsize>::default(), Arc::<Gate>::default());
        let (theirs, wait) = (Arc::clone(&count), Arc::clone(&gate));
        let app = Upstream::scripted(move |connection| {
            while let Some(request) = connection.request() {
                theirs.fetch_add(1, Ordering::SeqCst);
                if request.target() == "/slow" {
                    wait.wait();
                }
                connection.write(ok("answered"));
            }
        });
        Self { app, count, gate }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

fn config(servers: &[&Counted], storage: &Folder) -> Config {
    Config::servers(servers.iter().map(|server| server.app.server()))
        .workers(2)
        .top(&format!("storage: {}", storage.path().display()))
}

fn command(gateway: &Gateway, arguments: &[&str]) -> Ended {
    run(probegate(arguments).arg("--admin").arg(gateway.admin().to_string()))
}

fn servers(gateway: &Gateway) -> Vec<Value> {
    let status = command(gateway, &["status", "--json"]);
    let status: Value = serde_json::from_str(&status.out).unwrap();
    status["services"][0]["servers"].as_array().unwrap().clone()
}

/// Asks often, on connections of their own: both workers and all kept connections have their part.
fn ask(gateway: &Gateway, times: usize) {
    for _ in 0..times {
        assert_eq!(get(gateway.address(), "/").status, 200);
    }
}

#[test]
fn a_drained_server_finishes_what_it_is_at_and_gets_nothing_new() {
    let (one, other, storage) = (Counted::start(), Counted::start(), Folder::new());
    let gateway = Gateway::start(config(&[&one, &other], &storage));
    ask(&gateway, 40);
    assert!(one.count() > 0 && other.count() > 0, "{} {}", one.count(), other.count());
    // Something is in flight at each of them.
    let mut slow = Vec::new();
    let before = one.count() + other.count();
    eventually("both are at something", || {
        let mut client = Client::connect(gateway.address());
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        slow.push(client);
        eventually("it has arrived", || (one.count() + other.count() == before + slow.len()).then_some(()));
        servers(&gateway).iter().all(|server| server["in_flight"].as_u64() > Some(0)).then_some(())
    });
    let label = one.app.server();
    let ended = command(&gateway, &["drain", "app", &label]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""));
    let line = gateway.wait_for_log(|line| line["message"] == "server is drained");
    assert_eq!((line["service"].as_str(), line["server"].as_str()), (Some("app"), Some(&*label)));
    let series = format!("probegate_upstream_server_drained{{service=\"app\",server=\"{label}\",slot=\"\"}}");
    wait_for_metric(&gateway, &series, 1.0);

    let before = one.count();
    ask(&gateway, 40);
    assert_eq!(one.count(), before, "a drained server got a request");
    let found = servers(&gateway);
    assert_eq!((&found[0]["state"], &found[1]["state"]), (&"drained".into(), &"up".into()));
    assert!(found[0]["in_flight"].as_u64() > Some(0), "{found:?}");
    one.gate.open();
    other.gate.open();
    for client in &mut slow {
        assert_eq!(client.response().status, 200);
    }
    eventually("it is at nothing", || (servers(&gateway)[0]["in_flight"] == 0).then_some(()));

    // A reload and a restart leave it so.
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    ask(&gateway, 20);
    assert_eq!(one.count(), before);
    drop(gateway);
    let gateway = Gateway::start(config(&[&one, &other], &storage));
    ask(&gateway, 20);
    assert_eq!(one.count(), before);

    assert_eq!(command(&gateway, &["undrain", "app", &label]).code, Some(0));
    eventually("it gets requests again", || {
        ask(&gateway, 1);
        (one.count() > before).then_some(())
    });
    wait_for_metric(&gateway, &series, 0.0);
}

#[test]
fn the_last_server_is_drained_by_force_only() {
    let (one, other, storage) = (Counted::start(), Counted::start(), Folder::new());
    let gateway = Gateway::start(config(&[&one, &other], &storage));
    let labels = [one.app.server(), other.app.server()];
    assert_eq!(command(&gateway, &["drain", "app", &labels[0]]).code, Some(0));
    let ended = command(&gateway, &["drain", "app", &labels[1]]);
    assert!(ended.code == Some(1) && ended.err.contains("nobody would answer"), "{ended:?}");
    ask(&gateway, 4);
    assert_eq!(command(&gateway, &["drain", "app", &labels[1], "--force"]).code, Some(0));
    let refused = get(gateway.address(), "/");
    assert_eq!(refused.status, 503);
    assert_eq!(gateway.wait_for_log(|line| line["status"] == 503)["reason"], "upstream_drained");
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "every server is drained: nobody answers");
    assert_eq!(command(&gateway, &["undrain", "app", &labels[1]]).code, Some(0));
    ask(&gateway, 4);
}

#[test]
fn a_server_that_is_not_there_is_an_error_that_names_those_that_are() {
    let (one, storage) = (Counted::start(), Folder::new());
    let folder = Folder::new();
    let path = folder.path().join("app.sock");
    let text = config(&[&one], &storage)
        .to_string()
        .replace("servers: [", &format!("servers: [\"unix:{}\", ", path.display()));
    let gateway = Gateway::start(text);
    let ended = command(&gateway, &["drain", "app", "127.0.0.1:1"]);
    assert!(ended.code == Some(1) && ended.err.contains(&one.app.server()), "{ended:?}");
    let ended = command(&gateway, &["undrain", "shop", "127.0.0.1:1"]);
    assert!(ended.code == Some(1) && ended.err.contains("no service is called `shop`"), "{ended:?}");
    // A label that needs more than letters in a path.
    assert_eq!(command(&gateway, &["drain", "app", &format!("unix:{}", path.display())]).code, Some(0));
    assert_eq!(servers(&gateway)[0]["state"], "drained");
    ask(&gateway, 4);
}
