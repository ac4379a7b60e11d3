//! `examples/fleet`: two gateways in front of one Redis. No engine runs here: the compose file is read, and what it would run is run as processes, with its own
//! configuration and its own settings of Redis.

use std::path::Path;
use std::time::Instant;

use serde_yaml::Value;

use crate::examples::movable;
use crate::harness::{Folder, Gateway, Redis, Reply, Resp, TOKEN, Upstream, eventually, get, ok, root};

struct Compose(Value);

impl Compose {
    fn read() -> Self {
        let text = std::fs::read_to_string(root().join("examples/fleet/docker-compose.yml")).unwrap();
        let mut value: Value = serde_yaml::from_str(&text).unwrap();
        value.apply_merge().unwrap();
        Self(value)
    }

    fn services(&self) -> Vec<(&str, &Value)> {
        let services = self.0["services"].as_mapping().unwrap();
        services.iter().map(|(name, service)| (name.as_str().unwrap(), service)).collect()
    }

    fn gateways(&self) -> Vec<&Value> {
        self.services().into_iter().filter(|(_, service)| service["image"] == "probegate").map(|(_, it)| it).collect()
    }
}

/// The words of a list.
fn words(list: &Value) -> Vec<&str> {
    list.as_sequence().into_iter().flatten().map(|word| word.as_str().unwrap()).collect()
}

#[test]
fn the_compose_file_names_what_there_is() {
    let compose = Compose::read();
    let folder = root().join("examples/fleet");
    let dockerfile = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    let configuration = std::fs::read_to_string(folder.join("probegate.yaml")).unwrap();
    let networks = compose.0["networks"].as_mapping().unwrap();
    let names: Vec<&str> = compose.services().into_iter().map(|(name, _)| name).collect();
    for (name, service) in compose.services() {
        assert!(service["image"].is_string(), "{name}");
        let joined = words(&service["networks"]);
        assert!(
            !joined.is_empty() && joined.iter().all(|network| networks.contains_key(*network)),
            "{name}: {joined:?}"
        );
        assert!(words(&service["depends_on"]).iter().all(|other| names.contains(other)), "{name}");
        let published = service["ports"].as_sequence().map_or(0, Vec::len);
        assert_eq!(published, usize::from(service["image"] == "probegate"), "{name}: only gateways are published");
    }
    let gateways = compose.gateways();
    assert_eq!(gateways.len(), 2);
    for gateway in gateways {
        // Built from the Dockerfile of the repository, whose command reads the file that is mounted there.
        let context = folder.join(gateway["build"]["context"].as_str().unwrap()).canonicalize().unwrap();
        assert_eq!(context, root().canonicalize().unwrap());
        let mounted = words(&gateway["volumes"]);
        let [file] = mounted.as_slice() else { panic!("{mounted:?}") };
        let (here, there) = file.split_once(':').unwrap();
        let there = there.strip_suffix(":ro").unwrap();
        assert!(folder.join(here).is_file(), "{here}");
        assert!(dockerfile.contains(&format!("CMD [\"run\", \"-c\", \"{there}\"]")), "{there}");
        assert!(gateway["command"].is_null() && gateway["entrypoint"].is_null());
        // The port that is published is the one that is listened on, and what the file takes from the environment is there.
        let port = words(&gateway["ports"])[0].rsplit_once(':').unwrap().1;
        assert!(configuration.contains(&format!("- address: 0.0.0.0:{port}\n")), "{port}");
        assert!(gateway["environment"]["REDIS_PASSWORD"].is_string());
    }
    for server in ["app:8000", "redis:6379"] {
        let (name, _) = server.split_once(':').unwrap();
        assert!(configuration.contains(server) && names.contains(&name), "{server}");
    }
    assert!(configuration.contains("  replicas: 2 "), "as many as there are gateways");
}

/// The server of the compose file, with its settings, as a process.
fn redis(compose: &Compose) -> Redis {
    let script = words(&compose.0["services"]["redis"]["command"])[2];
    let settings = script.split('\'').nth(1).unwrap().replace("%s", TOKEN);
    let mut arguments = Vec::new();
    for (name, value) in settings.trim_end_matches("\\n").split("\\n").map(|line| line.split_once(' ').unwrap()) {
        arguments.extend([format!("--{name}"), value.trim_matches('"').to_owned()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert!(arguments.windows(2).any(|pair| pair == ["--requirepass", TOKEN]), "{arguments:?}");
    Redis::with(&arguments)
}

#[test]
fn what_it_runs_counts_together_and_goes_on_when_redis_is_gone() {
    let compose = Compose::read();
    let mut redis = redis(&compose);
    let app = Upstream::answering(|_| ok("answered"));
    let file = root().join("examples/fleet/probegate.yaml");
    let gateways: Vec<Gateway> = compose.gateways().iter().map(|_| start(&file, &redis, &app)).collect();
    let ask = |count: usize| -> Vec<u16> {
        (0..count).map(|number| get(gateways[number % 2].address(), "/").status).collect()
    };
    let passed = |seen: &[u16]| seen.iter().filter(|status| **status == 200).count();
    let began = Instant::now();
    let seen = ask(60);
    let earned = began.elapsed().as_millis() / 100 + 1;
    assert!(seen.iter().all(|status| [200, 429].contains(status)), "{seen:?}");
    assert!(passed(&seen) >= 21 && (passed(&seen) as u128) <= 21 + earned, "{seen:?} {earned}");
    // Whoever reads the store needs the password, and finds a hash.
    let mut reader = Resp::connect(redis.address());
    assert!(matches!(reader.run(&["KEYS", "*"]), Reply::Error(_)));
    assert_eq!(reader.run(&["AUTH", TOKEN]), Reply::Text("OK".to_owned()));
    let keys = eventually("the key is there", || {
        // It expires when the client owes nothing any more.
        ask(1);
        let keys = reader.run(&["KEYS", "*per_client*"]).texts();
        (!keys.is_empty()).then_some(keys)
    });
    assert!(keys.len() == 1 && !keys[0].contains("127.0.0.1"), "{keys:?}");
    redis.kill();
    for gateway in &gateways {
        let line = gateway
            .wait_for_log(|line| line["message"].as_str().is_some_and(|said| said.contains("limit store is not")));
        let message = line["message"].as_str().unwrap();
        assert_eq!(message, "the limit store is not asked any more: each gateway counts alone, with 1/2 of the limit");
    }
    let seen = ask(60);
    assert!(seen.iter().all(|status| [200, 429].contains(status)), "{seen:?}");
}

/// A gateway with the example's file, where servers are where the test has them.
fn start(file: &Path, redis: &Redis, app: &Upstream) -> Gateway {
    let text = std::fs::read_to_string(file).unwrap();
    let moved = [
        ("app:8000", app.server()),
        ("redis:6379", redis.address().to_string()),
        // Nothing here is about a processor that is busy with other tests.
        ("timeout: 20ms", "timeout: 900ms".to_owned()),
    ];
    let text = moved.into_iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, &to)
    });
    let folder = Folder::new();
    Gateway::with(movable(&text, &folder)).env("REDIS_PASSWORD", TOKEN).start()
}
