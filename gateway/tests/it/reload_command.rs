//! `probegate reload`: what is said of a configuration that is taken and of one that is refused, to whoever may read the file and to whoever may not.

use serde_json::{Value, json};

use crate::harness::{
    Config, Connection, Ended, Folder, Gateway, TOKEN, Unreachable, Upstream, get, get_admin, ok, probegate, run,
    wait_ready,
};

fn reload(gateway: &str, arguments: &[&str]) -> Ended {
    let mut command = probegate(["reload", "--admin", gateway]);
    run(command.args(arguments).env_remove("PROBEGATE_ADMIN_TOKEN").env_remove("OF_THE_GATEWAY"))
}

#[test]
fn a_good_file_is_in_force_when_the_command_ends_and_a_bad_one_is_shown_with_carets() {
    let app = Upstream::answering(|_| ok("answered"));
    let (storage, socket) = (Folder::new(), Folder::new());
    let path = socket.path().join("admin.sock");
    // Only the gateway knows the variable: what that makes wrong here is none of its problems.
    let text = Config::before(&app)
        .top(&format!("storage: {}", storage.path().display()))
        .top("probes: {timeout: 900ms}")
        .top("tokens: {ci: {slots: [{name: one, env: OF_THE_GATEWAY}]}}")
        .service("routes: [{path: /ci, allow: {token: ci}}]")
        .to_string()
        .replace("workers: 1\n", "")
        .replace("admin: {", &format!("admin: {{socket: {{path: \"{}\"}}, ", path.display()));
    let gateway = Gateway::with(&text).env("OF_THE_GATEWAY", TOKEN).start();
    wait_ready(&gateway);
    let (admin, file) = (gateway.admin().to_string(), gateway.config_path().display().to_string());
    let write = |text: &str| std::fs::write(gateway.config_path(), text).unwrap();
    let told = || get_admin(gateway.admin(), "/configuration").json();

    let taken = reload(&admin, &[]);
    assert_eq!((taken.code, &*taken.out), (Some(0), ""), "{taken:?}");
    assert_eq!(taken.err, format!("{file}: in force as configuration 2\n"));
    // What is odd is shown with its line, also over the socket. What waits for the next start is said.
    let odd = format!("{text}limits:\n  idle: {{rate: 1/s}}\nworkers: 61\n");
    write(&odd);
    let taken = reload(&format!("unix:{}", path.display()), &[]);
    assert!(taken.code == Some(0) && taken.err.contains("in force as configuration 3, 2 lints"), "{taken:?}");
    assert!(taken.err.contains("  idle: {rate: 1/s}") && taken.err.contains("^^^^"), "{taken:?}");
    assert!(taken.err.contains("`workers` has changed: that takes effect at the next start"), "{taken:?}");

    let before = told();
    assert_eq!(before["generation"], 3);
    write(&format!("{odd}timeouts: {{head: soon}}\nlimit: 1\n"));
    let line = odd.lines().count() + 1;
    let refused = reload(&admin, &[]);
    assert_eq!((refused.code, &*refused.out), (Some(64), ""), "{refused:?}");
    for part in [
        "error: expected a duration such as `10s`, `800ms`, `5m` or `1h`, found `soon`".to_owned(),
        format!(" --> {file}:{line}:18\n"),
        format!("{line} | timeouts: {{head: soon}}\n"),
        "^^^^ in `timeouts`".to_owned(),
        "error: unknown key `limit`".to_owned(),
        "did you mean `limits`?".to_owned(),
        "refused: the configuration before stays in force, and nothing has changed\n".to_owned(),
    ] {
        assert!(refused.err.contains(&part), "{part}: {refused:?}");
    }
    assert!(!refused.err.contains("OF_THE_GATEWAY") && !refused.err.contains('\u{1b}'), "{refused:?}");
    let after = told();
    assert_eq!((&after["generation"], &after["sha256"]), (&before["generation"], &before["sha256"]));
    assert_eq!(get(gateway.address(), "/").status, 200);
    // For programs.
    let refused = reload(&admin, &["--json"]);
    let answer: Value = serde_json::from_str(&refused.out).unwrap();
    assert_eq!((refused.code, &*refused.err, &answer["file"]), (Some(64), "", &json!(file)), "{answer}");
    assert_eq!((&answer["reason"], &answer["problems"][0]["line"]), (&json!("configuration_invalid"), &json!(line)));
    // A file that is gone, and one that is good again.
    std::fs::remove_file(gateway.config_path()).unwrap();
    let refused = reload(&admin, &[]);
    assert!(refused.code == Some(64) && refused.err.contains("cannot be read"), "{refused:?}");
    write(&text);
    assert_eq!(reload(&admin, &[]).code, Some(0));
    assert_eq!(told()["generation"], 4);
}

#[test]
fn who_may_not_change_anything_may_not_reload() {
    let app = Upstream::answering(|_| ok("answered"));
    let reader = "0123456789abcdef0123456789abcdef0123456789abcdef";
    let sets = format!("tokens: {{viewers: {{slots: [{{name: a, value: {reader}}}]}}}}");
    let gateway = Gateway::start(
        Config::before(&app).top(&sets).to_string().replace("admin: {", "admin: {tokens: {read: viewers}, "),
    );
    let admin = gateway.admin().to_string();
    let mut command = probegate(["reload", "--admin", &admin]);
    let refused = run(command.env("PROBEGATE_ADMIN_TOKEN", reader));
    assert!(refused.code == Some(1) && refused.err.contains("no tokens for changes"), "{refused:?}");
}

fn reply(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} So\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A gateway that answers the command that it gets like this.
fn answering(answer: impl Fn(&mut Connection) + Send + Sync + 'static) -> Upstream {
    Upstream::scripted(move |connection| {
        if connection.request().is_some() {
            answer(connection);
        }
    })
}

#[test]
fn without_the_file_problems_are_told_without_their_lines_and_a_lost_answer_is_no_refusal() {
    let other = Folder::new();
    let file = other.write("probegate.yaml", "timeouts: {head: another text}\n");
    // Gone from here, and another text than the gateway read.
    for name in ["/nowhere/\u{1b}probegate.yaml".to_owned(), file.display().to_string(), "/dev/zero".to_owned()] {
        let body = json!({
            "status": 422, "reason": "configuration_invalid", "detail": "no", "file": name, "sha256": "00",
            "problems": [{"severity": "error", "path": "timeouts.head", "line": 1, "column": 18,
                "message": "expected a duration\u{1b}[2J", "hint": "write `10s`"}],
        });
        let gateway = answering(move |connection| {
            connection.write(reply(422, &body.to_string()));
        });
        let refused = reload(&gateway.server(), &[]);
        let name = name.replace('\u{1b}', "\u{fffd}");
        assert_eq!(
            (refused.code, &*refused.err),
            (
                Some(64),
                &*format!(
                    "error: expected a duration\u{fffd}[2J\n --> {name}:1:18\n  = help: write `10s`\n\n\
                     refused: the configuration before stays in force, and nothing has changed\n"
                )
            )
        );
    }
    let slow = answering(|connection| {
        connection.write(reply(504, "{\"reason\": \"reload_slow\", \"detail\": \"the log says how it ends\"}"));
    });
    let ended = reload(&slow.server(), &[]);
    assert_eq!((ended.code, &*ended.err), (Some(5), "the log says how it ends\n"));
    let dies = answering(|_| {});
    let ended = reload(&dies.server(), &[]);
    assert!(ended.code == Some(5) && ended.err.contains("nobody knows whether it was done"), "{ended:?}");
    assert_eq!(reload(&Unreachable::refusing().server(), &[]).code, Some(1));
}

#[test]
fn who_asks_the_wrong_listener_is_told_so() {
    // A listener for clients answers in JSON as well, and so does an app.
    let app = Upstream::answering(|_| {
        "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 23\r\n\r\n{\"detail\": \"Not found\"}".to_owned()
    });
    let gateway = Gateway::start(Config::before(&app));
    for (place, status) in [(gateway.address().to_string(), 404), (app.server(), 404)] {
        let ended = reload(&place, &[]);
        let text = format!("{place} is not the admin listener of a gateway: it answers with status {status}\n");
        assert_eq!((ended.code, &*ended.err), (Some(1), &*text));
    }
    let status = |place: &str| run(probegate(["status", "--admin", place]).env_remove("PROBEGATE_ADMIN_TOKEN"));
    // One that never answers.
    let stays = answering(|connection| {
        connection.wait_closed();
    });
    let ended = status(&stays.server());
    let text = format!("no answer from {} within 3 s: is this the admin listener?\n", stays.server());
    assert_eq!((ended.code, &*ended.err), (Some(1), &*text));
    // By a name of this machine, and by none of another.
    let admin = gateway.admin();
    assert_eq!(status(&format!("localhost:{}", admin.port())).code, Some(0));
    for place in ["localhost", "localhost:x", ":9900", "192.0.2.1"] {
        let ended = status(place);
        assert!(ended.code == Some(64) && ended.err.contains("`localhost:9900`"), "{place}: {ended:?}");
    }
}

#[test]
fn the_log_tells_where_a_mistake_is_and_not_what_stands_there() {
    let app = Upstream::answering(|_| ok("answered"));
    let gateway = Gateway::start(Config::before(&app));
    wait_ready(&gateway);
    let secret = "hunter2-0123456789abcdef";
    let text = std::fs::read_to_string(gateway.config_path()).unwrap();
    let wrong = format!(
        "timeouts: {{head: {secret}}}\nnetworks: {{office: [\"{secret}\"]}}\nbounds: {{fields: \"{secret}\"}}\n"
    );
    std::fs::write(gateway.config_path(), text + &wrong).unwrap();
    assert_eq!(reload(&gateway.admin().to_string(), &[]).code, Some(64));
    let line =
        gateway.wait_for_log(|line| line["message"].as_str().is_some_and(|text| text.starts_with("reload refused")));
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("expected a duration such as `10s`") && message.contains("line "), "{message}");
    assert!(!gateway.log_lines().join("\n").contains(secret), "{message}");
}
