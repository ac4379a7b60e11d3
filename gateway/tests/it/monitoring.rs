//! Rules, routes and the dashboard of `examples/monitoring`: tried with Prometheus's and Alertmanager's own tools, and asked of a real Prometheus that
//! has asked a real gateway.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use probegate_policies::reason::Reason;
use serde_json::Value;

use crate::harness::{
    Authority, Config, Folder, Gateway, PATIENCE, Program, TOKEN, Upstream, eventually, exchange, free_address, get,
    get_admin, metric, metrics, ok, root, wait_for_metric,
};

fn folder() -> PathBuf {
    root().join("examples/monitoring")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&read(name)).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn rules() -> Vec<Value> {
    let groups = yaml("rules.yaml");
    list(&groups["groups"]).iter().flat_map(|group| list(&group["rules"]).to_vec()).collect()
}

#[track_caller]
fn succeeds(program: &str, arguments: &[&str]) -> String {
    // The tests of the rules take seconds of a processor that is all theirs.
    let ended = Program::start(Command::new(program).args(arguments).current_dir(folder())).wait_longer(4);
    assert_eq!(ended.code, Some(0), "{program} {arguments:?}: {}{}", ended.out, ended.err);
    ended.out
}

#[test]
fn rules_and_routes_are_sound_and_every_rule_is_shown_to_fire_and_is_explained() {
    succeeds("promtool", &["check", "config", "prometheus.yaml"]);
    succeeds("promtool", &["test", "rules", "rules.test.yaml"]);
    succeeds("amtool", &["check-config", "alertmanager.yaml"]);
    let tested = yaml("rules.test.yaml");
    let tested = list(&tested["tests"]).iter().flat_map(|test| list(&test["alert_rule_test"]));
    let fired =
        tested.filter(|test| !list(&test["exp_alerts"]).is_empty()).filter_map(|test| test["alertname"].as_str());
    let fired: BTreeSet<&str> = fired.collect();
    let page = std::fs::read_to_string(root().join("gateway/docs/monitoring.md")).unwrap();
    for rule in rules() {
        let name = rule["alert"].as_str().unwrap();
        assert!(fired.contains(name), "nothing shows that {name} fires");
        assert!(
            page.contains(&format!("| `{name}` |")),
            "gateway/docs/monitoring.md does not say what to do about {name}"
        );
        let severity = rule["labels"]["severity"].as_str().unwrap();
        let receiver = match severity {
            "critical" => "on-call",
            "warning" => "team",
            "info" => "log",
            other => panic!("{name}: no route is meant for {other}"),
        };
        let route = ["config", "routes", "test", "--config.file=alertmanager.yaml"];
        let severity = format!("severity={severity}");
        let alert = format!("alertname={name}");
        let found = succeeds("amtool", &[&route[..], &[&*severity, &*alert]].concat());
        assert_eq!(found.trim(), receiver, "{name}");
    }
}

/// A metric as a query names it: its name, and its matchers as label, operator and value.
type Selector = (String, Vec<(String, String, String)>);

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// The metrics in a query. Reads no more of the language than names and what stands in braces behind them.
fn selectors(query: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    for (at, _) in query.match_indices(|c: char| is_word(c)) {
        if query[..at].ends_with(is_word) {
            continue;
        }
        let name: String = query[at..].chars().take_while(|&c| is_word(c)).collect();
        if !["probegate_", "process_"].iter().any(|start| name.starts_with(start)) && name != "up" {
            continue;
        }
        let inside = query[at + name.len()..].strip_prefix('{').and_then(|rest| rest.split('}').next());
        let matchers = inside.unwrap_or_default().split(", ").filter(|part| !part.is_empty());
        let matchers = matchers.map(|part| {
            let label: String = part.chars().take_while(|&c| is_word(c)).collect();
            let (operator, value) = part[label.len()..].split_once('"').unwrap();
            (label.clone(), operator.to_owned(), value.strip_suffix('"').unwrap().to_owned())
        });
        found.push((name, matchers.collect()));
    }
    found
}

/// The labels in `by (…)`.
fn grouped(query: &str) -> BTreeSet<String> {
    let lists = query.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    lists.flat_map(|list| list.split(", ")).map(str::to_owned).collect()
}

/// The labels that a text for people shows, between `{{` and `}}`.
fn shown(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
    parts.map(str::trim).filter_map(|part| match part.strip_prefix('$') {
        None => Some(part),
        Some(variable) => variable.strip_prefix("labels."),
    })
}

/// Prometheus, asking a gateway every second: it waits no longer for an answer than until it asks again.
struct Prometheus {
    address: SocketAddr,
    _program: Program,
    _folder: Folder,
}

impl Prometheus {
    fn start(gateway: &Gateway) -> Self {
        Self::with(&read("prometheus.yaml").replace("127.0.0.1:9900", &gateway.admin().to_string()), Folder::new())
    }

    /// With this configuration, in this folder.
    fn with(config: &str, data: Folder) -> Self {
        let address = free_address();
        let config =
            config.replace("15s", "1s").replace("rules.yaml", &folder().join("rules.yaml").display().to_string());
        // The rules ask for nobody to be told.
        let (before, alerting) = config.split_once("alerting:").unwrap();
        let after = alerting.split_once("scrape_configs:").unwrap().1;
        let config = data.write("prometheus.yaml", format!("{before}scrape_configs:{after}"));
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", data.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        let program = Program::start(&mut command);
        let prometheus = Self { address, _program: program, _folder: data };
        eventually("Prometheus is ready", || {
            std::net::TcpStream::connect(address).is_ok().then(|| get(address, "/-/ready").status == 200)?.then_some(())
        });
        prometheus
    }

    fn ask(&self, path: &str) -> Value {
        let response = get(self.address, path);
        let answer: Value = serde_json::from_str(&response.text()).unwrap_or_else(|_| panic!("{path}: {response:?}"));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// What a query finds, as the labels of each series.
    fn query(&self, query: &str) -> Vec<Value> {
        let encoded = query.bytes().map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        });
        let found = self.ask(&format!("/api/v1/query?query={}", encoded.collect::<String>()));
        list(&found["result"]).iter().map(|series| series["metric"].clone()).collect()
    }
}

/// A gateway that has done a bit of everything, so that every metric is there, and its storage.
fn busy(app: &Upstream) -> (Gateway, Folder) {
    let (storage, nobody) = (Folder::new(), free_address());
    let issued = Authority::new("Test").issue(&["shop.example.com"]);
    let acme =
        format!("directory: \"https://{nobody}/directory\", email: ops@example.com, domains: [blog.example.com]");
    let tls = format!("{{certificates: [{{cert: cert.pem, key: key.pem}}, {{acme: {{{acme}}}}}]}}");
    let config = Config::before(app)
        .top(&format!(
            "storage: {}\naggregates: {{all: {{path: /all, hosts: [status.example], services: {{required: [app]}}}}}}\nlimit_store: {{redis: \"redis://{nobody}\"}}\nnetworks: {{nobody: [192.0.2.1/32]}}\n\
             limits: {{few: {{rate: 1/d, burst: 1}}, room: {{max_in_flight: 5}}, all: {{rate: 9/s, shared: true}}}}\n\
             bans: {{scanners: {{offences: {{status: [404]}}, mode: enforce}}}}",
            storage.path().display()
        ))
        .upstream("health: {path: /healthz, interval: 1s, timeout: 30s}")
        .service(
            "hosts: [\"*\"]\nlimits: [room, all]\nprobes: {startupz: {allow: {network: nobody}}}\n\
             routes:\n  - {path: /few, limits: [few]}\n  - {path: /shut, allow: {network: nobody}}",
        );
    let audit = format!("admin: {{audit: \"{}\", ", storage.path().join("audit.log").display());
    let text = config.to_string().replace("admin: {", &audit).replacen(
        "  - address: \"127.0.0.1:0\"\n",
        &format!("  - address: \"127.0.0.1:0\"\n  - {{address: \"127.0.0.2:0\", tls: {tls}}}\n"),
        1,
    );
    // Where a server is bounded, there is a queue.
    let server = format!("{:?}", app.server());
    let text = text.replace(&format!("[{server}]"), &format!("[{{address: {server}, max_in_flight: 9}}]"));
    // Two releases of another service, one of which gets requests.
    let text = format!(
        "{text}  shop:\n    hosts: [shop.example.com]\n    upstream: {{health: {{path: /healthz, interval: 1s, timeout: 30s}}}}\n    \
         slots: {{blue: {{servers: [{server}]}}, green: {{servers: [\"{nobody}\"]}}}}\n    active: blue\n"
    );
    let gateway = Gateway::with(text).file("cert.pem", &issued.cert).file("key.pem", &issued.key).start();
    for target in ["/", "/broken", "/few", "/few", "/few", "/shut", "/healthz", "/readyz", "/startupz", "/version"] {
        get(gateway.address(), target);
    }
    exchange(gateway.address(), "GET /all HTTP/1.1\r\nHost: status.example\r\n\r\n");
    exchange(gateway.address(), "nonsense\r\n\r\n");
    (gateway, storage)
}

#[test]
fn every_query_finds_what_it_names_in_the_metrics_of_a_real_gateway() {
    let app = Upstream::answering(|request| match request.target().as_str() {
        "/broken" | "/readyz" => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".into(),
        _ => ok("answered"),
    });
    let (gateway, _storage) = busy(&app);
    for part in [
        "probegate_requests_total{service=\"app\",code=\"503\"}",
        "probegate_upstream_server_up{",
        "probegate_acme_last",
    ] {
        eventually(part, || metrics(&gateway).keys().any(|name| name.starts_with(part)).then_some(()));
    }
    for (probe, outcome) in [("readyz", "failed"), ("healthz", "passed"), ("startupz", "denied")] {
        let name = |outcome: &str| {
            format!("probegate_probe_outcomes_total{{service=\"app\",probe=\"{probe}\",outcome=\"{outcome}\"}}")
        };
        wait_for_metric(&gateway, &name(outcome), 1.0);
        let all: f64 = ["passed", "failed", "denied"].iter().map(|outcome| metric(&gateway, &name(outcome))).sum();
        assert!((all - 1.0).abs() < 0.1, "{probe} was asked for once");
    }
    let prometheus = Prometheus::start(&gateway);
    // The slowest of all: a rate takes two looks.
    eventually("Prometheus has looked twice", || {
        (!prometheus.query("rate(probegate_acme_orders_total[1m])").is_empty()).then_some(())
    });
    // A look that came too late hides everything until the next.
    let deadline = Instant::now() + PATIENCE;
    let mut wrong = what_is_wrong(&prometheus);
    while !wrong.is_empty() && Instant::now() < deadline {
        wrong = what_is_wrong(&prometheus);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    eventually("Prometheus has evaluated every rule", || {
        let groups = prometheus.ask("/api/v1/rules");
        let evaluated: Vec<Value> =
            list(&groups["groups"]).iter().flat_map(|group| list(&group["rules"]).to_vec()).collect();
        assert!(evaluated.iter().all(|rule| rule["health"] != "err"), "{evaluated:#?}");
        (evaluated.len() == rules().len() && evaluated.iter().all(|rule| rule["health"] == "ok")).then_some(())
    });
}

/// The queries of the dashboard and of the rules that find nothing, and what they name that is not there.
fn what_is_wrong(prometheus: &Prometheus) -> Vec<String> {
    let mut wrong = Vec::new();
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let mut queries = 0;
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            let (written, legend) = (target["expr"].as_str().unwrap(), target["legendFormat"].as_str().unwrap());
            let query = written.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$service", ".*");
            let found = prometheus.query(&query);
            if found.is_empty() {
                wrong.push(format!("dashboard, {}: nothing is found by {query}", panel["title"]));
            }
            // Requests that belong to no service have none; Prometheus drops labels without a value.
            let missing = shown(legend).filter(|label| !found.iter().any(|series| series[label].is_string()));
            wrong.extend(missing.map(|label| format!("dashboard, {}: no series has `{label}`", panel["title"])));
            queries += 1;
        }
    }
    assert!(queries > 60, "only {queries} queries were found");

    for rule in rules() {
        let (name, query) = (rule["alert"].as_str().unwrap(), rule["expr"].as_str().unwrap());
        let mut labels = BTreeSet::from(["le".to_owned()]);
        let used = selectors(query);
        assert!(!used.is_empty(), "{name} names no metric");
        for (metric, matchers) in used {
            let there = matchers.iter().map(|(label, _, _)| format!("{label}!=\"\"")).collect::<Vec<_>>().join(", ");
            let found = prometheus.query(&format!("{metric}{{{there}}}"));
            if found.is_empty() {
                wrong.push(format!("{name}: there is no {metric} with {there}"));
            }
            labels.extend(found.iter().filter_map(Value::as_object).flat_map(|series| series.keys().cloned()));
            for (label, operator, value) in matchers {
                let known = match (&*label, &*operator) {
                    // Most reasons never happen here.
                    ("reason", _) => {
                        value.split('|').all(|value| Reason::ALL.iter().any(|known| known.label() == value))
                    }
                    _ => !prometheus.query(&format!("{metric}{{{label}{operator}\"{value}\"}}")).is_empty(),
                };
                if !known {
                    wrong.push(format!("{name}: no {metric} has {label}{operator}{value}"));
                }
            }
        }
        let summary = rule["annotations"]["summary"].as_str().unwrap();
        let said = shown(summary).map(str::to_owned).filter(|word| !word.starts_with('$')).collect();
        let strange: Vec<_> = grouped(query).union(&said).filter(|label| !labels.contains(*label)).cloned().collect();
        if !strange.is_empty() {
            wrong.push(format!("{name}: no metric in it has {strange:?}"));
        }
    }
    wrong
}

#[test]
fn a_prometheus_on_another_machine_shows_a_token() {
    let app = Upstream::answering(|_| ok("answered"));
    let sets = format!("tokens: {{viewers: {{slots: [{{name: prometheus, value: {TOKEN}}}]}}}}");
    let gateway = Config::before(&app).top(&sets).to_string().replace("admin: {", "admin: {tokens: {read: viewers}, ");
    let gateway = Gateway::start(gateway);
    assert_eq!(get_admin(gateway.admin(), "/metrics").status, 403);
    let data = Folder::new();
    // Written with an editor: with a line break at its end.
    let token = data.write("token", format!("{TOKEN}\n")).display().to_string();
    let config = read("prometheus-token.yaml");
    let (targets, file) = ("[\"10.0.3.5:9900\", \"10.0.3.6:9900\"]", "/etc/prometheus/probegate.token");
    assert!(config.contains(targets) && config.contains(file));
    let config = config.replace(targets, &format!("[\"{}\"]", gateway.admin())).replace(file, &token);
    let checked =
        data.write("checked.yaml", config.replace("rules.yaml", &folder().join("rules.yaml").display().to_string()));
    succeeds("promtool", &["check", "config", checked.to_str().unwrap()]);
    let prometheus = Prometheus::with(&config, data);
    eventually("it was let in", || (!prometheus.query("probegate_ready == 1").is_empty()).then_some(()));
    assert!(prometheus.query("up{job=\"probegate\"} == 0").is_empty());
    assert!(!gateway.log_lines().join("\n").contains(TOKEN));
}

#[test]
fn the_dashboard_has_a_place_for_every_panel_and_words_for_each() {
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let mut ids = BTreeSet::new();
    let mut taken: Vec<[u64; 4]> = Vec::new();
    for panel in list(&dashboard["panels"]) {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels have the id {}", panel["id"]);
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{}", panel["title"]);
        let covers =
            |[left, top, wide, high]: &[u64; 4]| x < left + wide && *left < x + w && y < top + high && *top < y + h;
        assert!(!taken.iter().any(covers), "{} lies on another panel", panel["title"]);
        taken.push([x, y, w, h]);
        assert!(panel["type"] == "row" || panel["description"].as_str().is_some_and(|text| text.len() > 8), "{panel}");
    }
}
