//! Ten real services, small ASGI apps under uvicorn, and the Django example, all behind one gateway: one answer for all of them, and one question for each
//! however many ask.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::django::Django;
use crate::harness::{self, APP_TOKEN, Client, Folder, Gateway, Program, Response, eventually, exchange, metric};

/// Ten apps, each with a server of its own, in one process. Each counts what it is asked, by path. What is a file in the folder changes one of them.
const APPS: &str = r#"
import asyncio, json, os, socket
import uvicorn

def make(number):
    counts = {}
    async def app(scope, receive, send):
        path = scope["path"]
        status, body = 200, {"status": "ready", "checks": {}}
        if path == "/counts":
            body = counts
        else:
            counts[path] = counts.get(path, 0) + 1
            if path == "/version":
                body = {"service": f"app{number}", "environment": "test", "version": "1.4", "commit": f"c{number}"}
            elif os.path.exists(f"bad{number}"):
                status, body = 503, {"status": "not_ready", "checks": {"database.default": "fail"}}
            while path == "/readyz" and os.path.exists(f"hang{number}"):
                await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})
    return app

async def main():
    sockets = []
    for number in range(10):
        sockets.append(socket.socket())
        sockets[-1].bind(("127.0.0.1", 0))
        sockets[-1].listen(1024)
    servers = [uvicorn.Server(uvicorn.Config(make(number), lifespan="off", log_level="warning")) for number in range(10)]
    print(json.dumps([bound.getsockname()[1] for bound in sockets]), flush=True)
    await asyncio.gather(*(server.serve(sockets=[bound]) for server, bound in zip(servers, sockets)))

asyncio.run(main())
"#;

struct Apps {
    folder: Folder,
    ports: Vec<u16>,
    _python: Program,
}

impl Apps {
    fn start() -> Self {
        let folder = Folder::new();
        folder.write("apps.py", APPS);
        let venv = harness::venv("PROBEGATE_TEST_UVICORN_VENV", "uvicorn", "gateway/tests/uvicorn.txt");
        let mut python = Command::new(venv.join("bin/python"));
        let python =
            Program::start(python.current_dir(folder.path()).env("PYTHONDONTWRITEBYTECODE", "1").arg("apps.py"));
        let ports: Vec<u16> = python.wait_for("they listen", |text| serde_json::from_str(text.lines().next()?).ok());
        for port in &ports {
            // The first answer takes its time.
            eventually("it answers", || (counts(*port).is_object()).then_some(()));
        }
        Self { folder, ports, _python: python }
    }

    /// What each of them was asked, by its own count.
    fn counts(&self, path: &str) -> Vec<u64> {
        self.ports.iter().map(|port| counts(*port)[path].as_u64().unwrap_or_default()).collect()
    }

    fn switch(&self, what: &str, on: bool) {
        let file = self.folder.path().join(what);
        if on { std::fs::write(file, "").unwrap() } else { std::fs::remove_file(file).unwrap() }
    }
}

fn counts(port: u16) -> Value {
    let answer =
        exchange(([127, 0, 0, 1], port).into(), "GET /counts HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    serde_json::from_str(&answer.text()).unwrap()
}

fn gateway(apps: &Apps, django: &Django, cache: &str) -> Gateway {
    let mut text = format!(
        "listeners:\n  - {{address: \"127.0.0.1:0\"}}\n  - {{address: \"127.0.0.2:0\", serve: probes}}\nworkers: 2\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         probes: {{cache: {cache}, timeout: 20s}}\nservices:\n  django:\n    hosts: [shop.example.com]\n    upstream: {{servers: [\"unix:{}\"]}}\n\
         \x20   probes: {{token: {{env: APP_PROBE_TOKEN}}, host: localhost}}\n",
        django.socket().display()
    );
    for (number, port) in apps.ports.iter().enumerate() {
        text.push_str(&format!(
            "  app{number}:\n    hosts: [app{number}.example.com]\n    upstream: {{servers: [\"127.0.0.1:{port}\"]}}\n"
        ));
    }
    text.push_str(
        "aggregates:\n  all:\n    path: /readyz\n    timeout: 20s\n    services:\n      required: [django, app0, app1, app2, app3, app4, app5, app6, app7]\n\
         \x20     optional: [app8, app9]\n  quick:\n    path: /quick\n    timeout: 800ms\n    services: {required: [app0, app1], optional: [app2]}\n",
    );
    Gateway::with(text).env("APP_PROBE_TOKEN", APP_TOKEN).start()
}

fn ask(gateway: &Gateway, path: &str) -> Response {
    exchange(
        gateway.addresses()[1],
        format!("GET {path} HTTP/1.1\r\nHost: 10.1.2.3:8081\r\nUser-Agent: kube-probe/1.30\r\n\r\n"),
    )
}

#[test]
fn a_storm_on_eleven_services_is_one_question_for_each() {
    let (apps, django) = (Apps::start(), Django::start(&[]));
    let gateway = gateway(&apps, &django, "{ok: 5m, fail: 5m}");
    // Everybody at once: balancers at the aggregate, kubelets at each service.
    let mut clients: Vec<_> = (0..400).map(|_| Client::connect(gateway.addresses()[1])).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let path = match number % 4 {
            0 => format!("/app{}/readyz", number / 4 % 10),
            1 => "/django/readyz".to_owned(),
            _ => "/readyz".to_owned(),
        };
        client.send(format!("GET {path} HTTP/1.1\r\nHost: 10.1.2.3:8081\r\n\r\n"));
    }
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(apps.counts("/readyz"), [1; 10], "the apps' own counts");
    assert!((metric(&gateway, "probegate_probe_asks_total{service=\"django\",probe=\"readyz\"}") - 1.0).abs() < 0.1);
    let all: Value = serde_json::from_str(&ask(&gateway, "/readyz").text()).unwrap();
    assert_eq!(all["status"], "ready");
    let checks = all["checks"].as_object().unwrap();
    assert_eq!(checks.len(), 12);
    assert!(checks.values().all(|check| check == "ok"), "{all}");
    // Its own answer, with what it checks.
    assert_eq!(ask(&gateway, "/django/readyz").json()["status"], "ready");
    assert_eq!(apps.counts("/readyz"), [1; 10]);
}

#[test]
fn what_becomes_of_ten_services_is_told_in_one_answer() {
    let (apps, django) = (Apps::start(), Django::start(&[]));
    let gateway = gateway(&apps, &django, "{ok: 0s, fail: 0s}");
    assert_eq!(ask(&gateway, "/readyz").status, 200);
    // One that is optional.
    apps.switch("bad9", true);
    let answer = ask(&gateway, "/readyz");
    let told: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(
        (answer.status, &told["checks"]["app9"]),
        (200, &json!({"status": "fail", "reason": "status_503", "required": false}))
    );
    // One that is required.
    apps.switch("bad3", true);
    let answer = ask(&gateway, "/readyz");
    let told: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!((answer.status, &told["status"]), (503, &json!("not_ready")));
    assert_eq!(told["checks"]["app3"], json!({"status": "fail", "reason": "status_503"}));
    apps.switch("bad3", false);
    assert_eq!(ask(&gateway, "/readyz").status, 200);
    // One that hangs, and is required: the answer comes all the same, before the app's.
    apps.switch("hang1", true);
    let answer = ask(&gateway, "/quick");
    let told: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!((answer.status, &told["checks"]["app1"]), (503, &json!({"status": "fail", "reason": "probe_timeout"})));
    apps.switch("hang1", false);
    eventually("it has come round", || (ask(&gateway, "/quick").status == 200).then_some(()));
    assert_eq!(ask(&gateway, "/readyz").status, 200);
}

/// Asks all of these again and again; how often each of them answered how.
fn load(gateway: &Gateway, hosts: &[String], during: impl FnOnce()) -> BTreeMap<(String, u16), usize> {
    let (stop, counted) = (AtomicBool::new(false), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = Client::connect(gateway.address());
                for (asked, host) in hosts.iter().cycle().enumerate() {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    // A connection has an end (`requests_per_connection`), which a fast machine reaches.
                    if asked % 1000 == 999 {
                        client = Client::connect(gateway.address());
                    }
                    client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
                    let status = client.response().status;
                    *counted.lock().unwrap().entry((host.clone(), status)).or_default() += 1;
                }
            });
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
        stop.store(true, Ordering::SeqCst);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    counted.into_inner().unwrap()
}

#[test]
fn one_of_ten_services_is_deployed_while_all_of_them_are_asked() {
    let (apps, storage) = (Apps::start(), Folder::new());
    let server = |number: usize| format!("\"127.0.0.1:{}\"", apps.ports[number]);
    let mut text = format!(
        "listeners:\n  - {{address: \"127.0.0.1:0\"}}\n  - {{address: \"127.0.0.2:0\", serve: probes}}\nworkers: 2\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         storage: {}\nprobes: {{timeout: 20s}}\naggregates: {{all: {{path: /readyz, timeout: 20s, one_version: [shop]}}}}\nservices:\n  \
         shop:\n    hosts: [shop.example.com]\n    slots: {{blue: {{servers: [{}]}}, green: {{servers: [{}]}}}}\n    active: blue\n",
        storage.path().display(),
        server(0),
        server(1)
    );
    let mut hosts = vec!["shop.example.com".to_owned()];
    for number in 2..10 {
        hosts.push(format!("app{number}.example.com"));
        text.push_str(&format!(
            "  app{number}: {{hosts: [app{number}.example.com], upstream: {{servers: [{}]}}}}\n",
            server(number)
        ));
    }
    let all = (2..10).map(|number| format!("app{number}")).collect::<Vec<_>>().join(", ");
    let text =
        text.replace("one_version: [shop]", &format!("one_version: [shop], services: {{required: [shop, {all}]}}"));
    let gateway = Gateway::start(text);
    harness::wait_ready(&gateway);
    assert_eq!(ask(&gateway, "/readyz").status, 200);
    let switch = |arguments: &[&str]| crate::slots::switch(gateway.admin(), arguments);
    let counted = load(&gateway, &hosts, || {
        // One that is well when it is asked, and not any more when it has everything.
        assert_eq!(switch(&["green", "--version", "c1", "--bake", "60s", "--detach"]).code, Some(0));
        eventually("it is asked", || (apps.counts("/")[1] > 20).then_some(()));
        apps.switch("bad1", true);
        let bad = switch(&["--watch"]);
        assert_eq!(bad.code, Some(3), "{bad:?}");
        let refused = switch(&["green"]);
        assert!(refused.code == Some(1) && refused.err.contains("answers with status 503"), "{refused:?}");
        apps.switch("bad1", false);
        let wrong = switch(&["green", "--version", "c7"]);
        assert!(wrong.code == Some(1) && wrong.err.contains("commit c1"), "{wrong:?}");
        let good = switch(&[
            "green",
            "--version",
            "c1",
            "--percent",
            "50",
            "--step",
            "500ms",
            "--bake",
            "500ms",
            "--require-requests",
            "1",
        ]);
        assert_eq!(good.code, Some(0), "{good:?}");
        assert_eq!(ask(&gateway, "/readyz").status, 200);
    });
    let statuses: BTreeSet<u16> = counted.keys().map(|(_, status)| *status).collect();
    assert_eq!((statuses, counted.len()), (BTreeSet::from([200]), 9), "{counted:?}");
    let status = crate::slots::command(gateway.admin(), &["status"]).out;
    assert!(status.contains("blue, not in turn") && !status.contains("NEEDS ATTENTION"), "{status}");
}
