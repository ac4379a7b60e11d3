//! The commands other than `run`. Those of `explain` are in `explain`.

use std::path::Path;
use std::process::Command;

use crate::harness::{
    APP_TOKEN, Config, Ended, Folder, Gate, Gateway, Program, TOKEN, Upstream, curl, eventually, exchange, get, ok,
    probegate, root, run, wait_ready,
};

const GOOD: &str = "services: {app: {upstream: {servers: [\"127.0.0.1:8000\"]}}}\n";

fn ended(arguments: &[&str]) -> Ended {
    run(&mut probegate(arguments))
}

fn check(file: &Path, more: &[&str]) -> Ended {
    let file = file.display().to_string();
    ended(&[&["check", &file], more].concat())
}

#[test]
fn check_accepts_a_good_file() {
    let folder = Folder::new();
    let file = folder.write("good.yaml", "client_ip: {trusted_proxies: [192.0.2.1]}\n".to_owned() + GOOD);
    for more in [&[][..], &["--strict"]] {
        let result = check(&file, more);
        assert_eq!((result.code, &*result.out), (Some(0), ""), "{result:?}");
        assert_eq!(result.err, format!("{}: ok\n", file.display()));
    }
}

#[test]
fn check_tells_all_problems_at_once_with_place_and_hint() {
    let file = root().join("gateway/tests/config/bad/many.yaml");
    let result = check(&file, &[]);
    assert_eq!((result.code, &*result.out), (Some(64), ""));
    // Beside the file stands what it says, under the file's bare name.
    let expected = std::fs::read_to_string(file.with_extension("stderr")).unwrap();
    assert_eq!(result.err.replace(&*file.display().to_string(), "many.yaml").trim(), expected.trim());
    assert!(result.err.matches("error: ").count() >= 10);
    assert!(result.err.contains("many.yaml:3:5") && result.err.contains("^^^^^^ in `listeners[0]`"));
    assert!(result.err.contains("= help: did you mean `office`?"));
    assert!(!result.err.contains('\u{1b}'), "no colours where nobody sees them");
}

#[test]
fn check_strict_fails_on_lints() {
    let folder = Folder::new();
    let lint = "networks: {unused: [192.0.2.0/24]}\nclient_ip: {trusted_proxies: [0.0.0.0/0]}\n".to_owned() + GOOD;
    let file = folder.write("odd.yaml", lint);
    let result = check(&file, &[]);
    assert_eq!(result.code, Some(0), "{}", result.err);
    assert!(result.err.ends_with("odd.yaml: ok, 2 lints\n"), "{}", result.err);
    assert!(result.err.contains("unused") && result.err.contains("0.0.0.0/0"), "{}", result.err);
    let strict = check(&file, &["--strict"]);
    assert_eq!((strict.code, &strict.err), (Some(1), &result.err));
}

#[test]
fn check_of_what_is_no_configuration_fails() {
    let folder = Folder::new();
    let missing = folder.path().join("missing.yaml");
    let result = check(&missing, &[]);
    assert_eq!(result.code, Some(64));
    assert!(result.err.contains("missing.yaml"), "{}", result.err);
    for (name, text) in [("empty", &b""[..]), ("binary", b"\xff\xfe\x00"), ("list", b"- a\n"), ("deep", &[b'['; 5000])]
    {
        let result = check(&folder.write(name, text), &[]);
        assert_eq!(result.code, Some(64), "{name}: {}", result.err);
        assert!(result.err.contains(name), "{name}: {}", result.err);
    }
    assert_eq!(check(folder.path(), &[]).code, Some(64), "a folder");
}

#[test]
fn run_refuses_what_check_refuses_with_the_same_words() {
    let file = root().join("gateway/tests/config/bad/many.yaml").display().to_string();
    let (checked, started) = (ended(&["check", &file]), ended(&["run", "-c", &file]));
    assert_eq!((started.code, started.err), (Some(64), checked.err));
}

#[test]
fn init_prints_a_file_that_passes_and_starts() {
    let printed = ended(&["init"]);
    assert_eq!((printed.code, &*printed.err), (Some(0), ""));
    let folder = Folder::new();
    let file = folder.write("init.yaml", &printed.out);
    let result = check(&file, &[]);
    assert_eq!(result.code, Some(0), "{}", result.err);
    let app = Upstream::answering(|_| ok("answered"));
    let text = printed.out.replace("0.0.0.0:8080", "127.0.0.1:0").replace("127.0.0.1:9900", "127.0.0.1:0");
    let gateway = Gateway::start(text.replace("127.0.0.1:8000", &app.server()));
    assert_eq!(get(gateway.address(), "/").text(), "answered");
}

#[test]
fn healthcheck_follows_the_gateways_readiness() {
    let gate = std::sync::Arc::new(Gate::default());
    let theirs = std::sync::Arc::clone(&gate);
    let app = Upstream::answering(move |_| {
        theirs.wait();
        ok("")
    });
    let gateway = Gateway::start(Config::before(&app));
    let address = gateway.admin().to_string();
    wait_ready(&gateway);
    let healthcheck = || ended(&["healthcheck", "--address", &address]);
    // It waits for three seconds.
    let ready =
        eventually("an answer in time", || Some(healthcheck()).filter(|result| !result.err.contains("no answer")));
    assert_eq!((ready.code, &*ready.out, &*ready.err), (Some(0), "", ""));

    let mut client = crate::harness::Client::connect(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    app.wait_for_requests(1);
    gateway.signal("TERM");
    let draining = eventually("it fails", || {
        Some(healthcheck()).filter(|result| result.code != Some(0) && !result.err.contains("no answer"))
    });
    assert_eq!(draining.code, Some(1));
    let told: serde_json::Value = serde_json::from_str(draining.err.strip_prefix("not ready: ").unwrap()).unwrap();
    assert_eq!((&told["status"], &told["reason"]), (&"not_ready".into(), &"draining".into()));
    gate.open();
    assert_eq!(client.response().status, 200);
    let mut gateway = gateway;
    gateway.wait_exit();
    let gone = healthcheck();
    assert_eq!(gone.code, Some(1));
    assert!(gone.err.starts_with(&format!("no answer from {address}: ")), "{}", gone.err);
}

#[test]
fn healthcheck_gives_up_on_a_gateway_that_hangs() {
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let result = ended(&["healthcheck", "--address", &hangs.local_addr().unwrap().to_string()]);
    assert_eq!(result.code, Some(1));
    assert!(result.err.starts_with("no answer from "), "{}", result.err);
}

#[test]
fn schema_is_json_and_knows_every_key_of_the_default_file() {
    let printed = ended(&["schema"]);
    assert_eq!((printed.code, &*printed.err), (Some(0), ""));
    let schema: serde_json::Value = serde_json::from_str(&printed.out).unwrap();
    assert!(schema["$schema"].as_str().unwrap().contains("json-schema.org"));
    assert_eq!(schema["additionalProperties"], false);
    let known = schema["properties"].as_object().unwrap();
    let default = ended(&["init"]).out;
    let keys = default.lines().filter_map(|line| {
        let line = line.strip_prefix('#').unwrap_or(line);
        let (key, _) = line.split_once(':')?;
        (!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')).then_some(key)
    });
    let keys: Vec<_> = keys.collect();
    assert_eq!(keys.len(), known.len(), "{keys:?}");
    for key in keys {
        assert!(known.contains_key(key), "{key}");
        assert!(known[key]["description"].as_str().is_some_and(|text| text.len() > 10), "{key}");
    }
}

#[test]
fn completions_for_the_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let printed = ended(&["completions", shell]);
        assert_eq!((printed.code, &*printed.err), (Some(0), ""), "{shell}");
        for word in ["explain", "healthcheck", "strict"] {
            assert!(printed.out.contains(word), "{shell}: {word}");
        }
    }
    let folder = Folder::new();
    let script = folder.write("completions", ended(&["completions", "bash"]).out);
    assert!(Command::new("bash").arg("-n").arg(script).status().unwrap().success(), "a shell understands it");
    assert_eq!(ended(&["completions", "cmd.exe"]).code, Some(64));
}

#[test]
fn a_wrong_command_line_exits_64_and_help_0() {
    for arguments in [
        &[][..],
        &["serve"],
        &["check"],
        &["run"],
        &["--frobnicate"],
        &["proxy"],
        &["healthcheck", "--address", "x"],
        &["run", "-c", "x", "--upgrade"],
    ] {
        let result = ended(arguments);
        assert_eq!((result.code, &*result.out), (Some(64), ""), "{arguments:?}");
        assert!(
            result.err.contains("--help") || result.err.contains("Usage: probegate"),
            "{arguments:?}: {}",
            result.err
        );
    }
    for arguments in [&["--help"][..], &["help"], &["run", "--help"], &["--version"]] {
        let result = ended(arguments);
        assert_eq!((result.code, &*result.err), (Some(0), ""), "{arguments:?}");
        assert!(result.out.contains("probegate"), "{arguments:?}");
    }
}

/// Where a started program says it listens.
fn address(program: &Program, message: &str) -> std::net::SocketAddr {
    program.wait_for(message, |text| {
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.find_map(|line| (line["message"] == message).then(|| line["address"].as_str()?.parse().ok())?)
    })
}

#[test]
fn proxy_guards_an_app_without_a_file() {
    let app = Upstream::answering(|_| ok("answered"));
    let arguments = ["proxy", &app.server(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let program = Program::start(&mut probegate(arguments));
    let (listener, admin) = (address(&program, "listening"), address(&program, "admin listener"));
    assert_eq!(get(listener, "/").text(), "answered");
    // Probes have 800 ms here, which a machine that is busy with other tests may need.
    let statuses = ["/healthz", "/readyz", "//readyz"].map(|target| {
        eventually("an answer in time", || Some(get(listener, target).status).filter(|status| *status != 504))
    });
    assert_eq!(statuses, [200, 200, 400]);
    let forged = exchange(listener, "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n");
    assert_eq!(forged.status, 200);
    let last = app.requests().into_iter().rfind(|request| request.target() == "/").unwrap();
    assert_eq!(last.all("x-real-ip"), ["127.0.0.1"]);
    eventually("it is ready", || (get(admin, "/readyz").status == 200).then_some(()));
    program.signal("TERM");
    let result = program.wait();
    assert_eq!(result.code, Some(0));
    assert!(!result.err.contains(TOKEN) && !result.err.contains(APP_TOKEN), "not a word of its environment");
    let wrong = ended(&["proxy", "127.0.0.1"]);
    assert_eq!(wrong.code, Some(64));
    assert!(wrong.err.contains("has no port"), "{}", wrong.err);
}

#[test]
fn the_demo_does_what_it_says() {
    let program = Program::start(&mut probegate(["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]));
    let text =
        program.wait_for("all that is to try", |text| text.contains("\"admin listener\"").then(|| text.to_owned()));
    let commands: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(commands.len(), 10, "{text}");
    for command in commands {
        let (command, promise) = command.rsplit_once('#').unwrap();
        let command = command.trim();
        assert!(!command.contains(":0/"), "an address that can be asked: {command}");
        if command.contains("[1-40]") {
            let output = Command::new("sh").args(["-c", command]).output().unwrap();
            let codes = String::from_utf8(output.stdout).unwrap();
            let codes: Vec<_> = codes.split_whitespace().collect();
            assert_eq!(promise.trim(), "200 … 429: forty requests in a row");
            // The requests before this one have used some of the burst.
            assert!(codes.len() == 40 && codes[0] == "200" && codes.contains(&"429"), "{codes:?}");
            assert!(codes.iter().all(|code| ["200", "429"].contains(code)), "{codes:?}");
            continue;
        }
        // The same command, with the status behind its output.
        let with_status = command.replacen("curl", "curl -sS -w '\\n%{http_code}'", 1);
        let output = run(Command::new("sh").args(["-c", &with_status]));
        assert_eq!((output.code, &*output.err), (Some(0), ""), "{command}");
        let status = output.out.lines().last().unwrap();
        let promised = promise.trim().split(':').next().unwrap();
        let promised = if promised.parse::<u16>().is_ok() { promised } else { "200" };
        assert_eq!(status, promised, "{command}: {}", output.out);
        if promise.contains("what it is told about you") {
            assert!(output.out.contains("127.0.0.1"), "{}", output.out);
        } else if promise.contains("from the Internet") {
            assert!(output.out.contains("198.51.100.7"), "{}", output.out);
        } else if promise.contains("counted") {
            assert!(output.out.contains("probegate_requests_total"), "{}", output.out);
        }
    }
    program.signal("INT");
    assert_eq!(program.wait().code, Some(0), "Ctrl+C");
}

#[test]
fn curl_agrees_with_the_tests_own_client() {
    let app = Upstream::answering(|_| ok("answered"));
    let gateway = Gateway::start(Config::before(&app));
    let response = curl([&format!("http://{}/", gateway.address())]);
    assert_eq!((response.status, &*response.text()), (200, "answered"));
}
