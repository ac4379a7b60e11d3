//! Recipes for those who ask for probes, as they stand in `examples`: what kubelets, balancers and monitors send according to them, and what they get.

use serde::Deserialize as _;
use serde_json::Value;

use crate::harness::{
    Client, Gateway, Response, TOKEN, Upstream, eventually, get, ok, probegate, root, run, wait_ready,
};

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join("examples").join(name)).unwrap()
}

/// The configuration of an example before these apps, in the places of its own, with its listeners on free ports of loopback. Nobody waits for its times.
fn gateway(name: &str, apps: &[&Upstream], changes: &[(&str, &str)]) -> Gateway {
    let mut text = read(&format!("{name}/probegate.yaml"));
    let places = ["127.0.0.1:8000", "127.0.0.1:8001"].into_iter().map(str::to_owned);
    let servers = apps.iter().map(|app| app.server());
    let listeners = [("0.0.0.0:8080", "\"127.0.0.1:0\""), ("0.0.0.0:8081", "\"127.0.0.3:0\"")];
    let listeners = listeners.iter().filter(|(written, _)| text.contains(written));
    let listeners: Vec<_> = listeners.map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    let changes = changes.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned()));
    for (from, to) in places.zip(servers).chain(listeners).chain(changes) {
        assert!(text.contains(&from), "{name}: {from}");
        text = text.replace(&from, &to);
    }
    text.push_str("admin: {address: \"127.0.0.1:0\"}\nworkers: 1\n");
    if !text.contains("\nprobes:") {
        // A busy machine may take longer than kubelets wait.
        text.push_str("probes: {timeout: 10s}\n");
    }
    Gateway::with(text).env("PROBE_TOKEN", TOKEN).start()
}

/// An app that answers for its own host alone, as Django does.
fn app(host: &'static str) -> Upstream {
    Upstream::answering(move |request| match request.field("host") {
        Some(asked) if asked == host => ok("{}"),
        _ => b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec(),
    })
}

fn ask(gateway: &Gateway, listener: usize, from: [u8; 4], head: &str) -> Response {
    let mut client = Client::connect_from(from, gateway.addresses()[listener]);
    client.send(format!("{head}\r\n\r\n"));
    if head.starts_with("HEAD") { client.response_to_head() } else { client.response() }
}

/// What a number of seconds, or `10s`, is.
fn seconds(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.strip_suffix('s')?.parse().ok()).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn a_pod_in_kubernetes_is_asked_as_its_deployment_says() {
    let [shop, blog] = ["shop.example.com", "blog.example.com"].map(app);
    let mut gateway = gateway("kubernetes", &[&shop, &blog], &[("delay: 10s", "delay: 10m")]);
    wait_ready(&gateway);
    let admin = gateway.admin().to_string();
    let deployment = read("kubernetes/deployment.yaml");
    let documents: Vec<Value> =
        serde_yaml::Deserializer::from_str(&deployment).map(|document| Value::deserialize(document).unwrap()).collect();
    let pod = &documents[0]["spec"]["template"]["spec"];
    let (mut paths, mut commands) = (Vec::new(), Vec::new());
    for container in pod["containers"].as_array().unwrap() {
        for kind in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let probe = &container[kind];
            assert!(seconds(&probe["timeoutSeconds"]) >= 1, "{probe}");
            if let Some(command) = probe["exec"]["command"].as_array() {
                let words: Vec<_> = command.iter().map(|word| word.as_str().unwrap().to_owned()).collect();
                assert_eq!(words[0], "probegate");
                commands.push(words[1..].to_vec());
                continue;
            }
            let http = &probe["httpGet"];
            assert_eq!(
                (&http["port"], &http["host"], &http["httpHeaders"]),
                (&8081.into(), &Value::Null, &Value::Null)
            );
            let path = http["path"].as_str().unwrap();
            let head = format!(
                "GET {path} HTTP/1.1\r\nHost: 10.1.2.3:8081\r\nUser-Agent: kube-probe/1.30\r\nAccept: */*\r\nConnection: close"
            );
            let answer = ask(&gateway, 1, [127, 0, 0, 9], &head);
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            paths.push(path.to_owned());
        }
    }
    assert_eq!((paths.len(), commands.len()), (6, 3));
    assert_eq!((shop.requests().len(), blog.requests().len()), (3, 3));
    let healthy = |words: &[String]| run(probegate(words).args(["--address", &admin])).code == Some(0);
    assert!(commands.iter().all(|words| healthy(words)));
    // The pod is deleted: it is ready no more, alive all the same, and serves whoever comes.
    gateway.signal("TERM");
    let [_, readiness, liveness] = &commands[..] else { panic!("{commands:?}") };
    eventually("it is not ready", || (!healthy(readiness)).then_some(()));
    assert!(healthy(liveness));
    assert_eq!(ask(&gateway, 0, [127, 0, 0, 9], "GET / HTTP/1.1\r\nHost: shop.example.com").status, 200);
    assert!(gateway.is_running());
    let shutdown = &yaml(&read("kubernetes/probegate.yaml"))["shutdown"];
    assert!(
        seconds(&pod["terminationGracePeriodSeconds"]) >= seconds(&shutdown["delay"]) + seconds(&shutdown["drain"])
    );
    // The service leads to clients' port, and nobody but the kubelet comes to the other.
    let port = &documents[1]["spec"]["ports"][0]["targetPort"];
    let ports = pod["containers"][0]["ports"].as_array().unwrap();
    let named = ports.iter().find(|known| known["name"] == *port).unwrap();
    assert_eq!(named["containerPort"], 8080);
}

#[test]
fn an_application_load_balancer_forwards_clients_and_asks_for_itself() {
    let [shop, blog] = ["shop.example.com", "blog.example.com"].map(app);
    let balancer = [127, 0, 0, 2];
    // The aggregate waits as long as the probes: a busy machine may take longer.
    let changes = [
        ("10.0.1.0/24", "127.0.0.2/32"),
        ("delay: 25s", "delay: 10m"),
        ("path: /readyz", "path: /readyz\n    timeout: 10s"),
    ];
    let gateway = gateway("alb", &[&shop, &blog], &changes);
    wait_ready(&gateway);
    let group: Value = serde_json::from_str(&read("alb/target-group.json")).unwrap();
    assert_eq!((&group["Port"], &group["HealthCheckPort"]), (&8080.into(), &"8081".into()));
    let check = format!(
        "GET {} HTTP/1.1\r\nHost: 10.0.3.5:8081\r\nConnection: close\r\nUser-Agent: ELB-HealthChecker/2.0\r\nAccept-Encoding: gzip, compressed",
        group["HealthCheckPath"].as_str().unwrap()
    );
    assert_eq!(group["Matcher"]["HttpCode"], "200");
    let health = |from: [u8; 4]| ask(&gateway, 1, from, &check).status;
    eventually("the shop has answered", || (health(balancer) == 200).then_some(()));

    // Clients, by way of the same addresses.
    let forwarded = |listener: usize, path: &str, chain: &str| {
        let field = if chain.is_empty() { String::new() } else { format!("\r\nX-Forwarded-For: {chain}") };
        let head = format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-Proto: https{field}");
        ask(&gateway, listener, balancer, &head).status
    };
    assert_eq!(forwarded(0, "/", "10.0.0.1, 198.51.100.7"), 200);
    let seen = shop.requests().into_iter().find(|request| request.target() == "/").unwrap();
    assert_eq!(seen.field("x-real-ip").as_deref(), Some("198.51.100.7"));
    assert_eq!(seen.field("x-forwarded-proto").as_deref(), Some("https"));
    for chain in ["198.51.100.7", "10.0.0.1, 198.51.100.7", "garbage", ""] {
        assert_eq!(forwarded(0, "/readyz", chain), 403, "{chain}");
    }
    // A stranger whom somebody's rule of the balancer leads to the port for probes is a stranger there as well.
    assert_eq!(forwarded(1, "/readyz", "198.51.100.7"), 403);
    assert_eq!(forwarded(1, "/shop/readyz", "10.0.0.1, 198.51.100.7"), 403);

    // It goes down: the balancer is told so while clients are served, for longer than it takes to notice.
    gateway.signal("TERM");
    eventually("the balancer is told", || (health(balancer) == 503).then_some(()));
    assert_eq!(forwarded(0, "/", "198.51.100.7"), 200);
    let shutdown = &yaml(&read("alb/probegate.yaml"))["shutdown"];
    let [interval, timeout, count] =
        ["HealthCheckIntervalSeconds", "HealthCheckTimeoutSeconds", "UnhealthyThresholdCount"]
            .map(|key| group[key].as_u64().unwrap());
    assert!(seconds(&shutdown["delay"]) >= interval * count + timeout);
}

#[test]
fn a_monitor_outside_shows_its_token_and_strangers_find_nothing() {
    let shop = app("shop.example.com");
    // All of loopback would be inside.
    let changes = [("services:\n", "networks: {internal: [10.0.0.0/8]}\nservices:\n")];
    let gateway = gateway("uptime-monitor", &[&shop], &changes);
    wait_ready(&gateway);
    let monitor: Value = serde_json::from_str(&read("uptime-monitor/monitor.json")).unwrap();
    let (host, path) = monitor["url"].as_str().unwrap().strip_prefix("https://").unwrap().split_once('/').unwrap();
    // 1 is HEAD, 2 is GET.
    assert_eq!((&monitor["type"], &monitor["http_method"]), (&1.into(), &1.into()));
    let fields = monitor["custom_http_headers"].as_object().unwrap();
    let ask = |query: &str, token: &str| {
        let fields = fields
            .iter()
            .map(|(name, value)| format!("\r\n{name}: {}", value.as_str().unwrap().replace("$PROBE_TOKEN", token)));
        let head = format!(
            "HEAD /{path}{query} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/){}",
            fields.collect::<String>()
        );
        ask(&gateway, 0, [127, 0, 0, 9], &head).status
    };
    assert_eq!(ask("", TOKEN), 200);
    assert_eq!(gateway.access("/readyz")["token"], "probe/monitor");
    assert_eq!(ask("?1795305600", TOKEN), 200);
    assert!(
        shop.requests().iter().all(|request| request.target() == "/readyz" && request.field("x-probe-token").is_none())
    );
    assert_eq!((ask("", "guess"), ask("", "")), (404, 404));
    assert_eq!(get(gateway.address(), "/readyz").status, 421, "the host is the service's own");
}
