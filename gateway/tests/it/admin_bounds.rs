//! What strangers can do to the admin listener by asking too much: keep others out, fill the log, fill the disk.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{
    Config, Folder, Gateway, PATIENCE, TOKEN, Upstream, eventually, exchange, ok, probegate, run, wait_for_metric,
    wait_ready,
};
use crate::readiness::wait_warned;

/// With so few descriptors, the admin listener has this many places.
const LIMITED: [&str; 4] = ["sh", "-c", "ulimit -n 512; exec \"$@\"", "sh"];
const PLACES: usize = 32;
/// Connections that are told to come back.
const BEYOND: usize = 32;

fn config(storage: &Folder, admin: &str) -> String {
    let app = Upstream::answering(|_| ok("answered"));
    let text = Config::before(&app).top(&format!("storage: {}", storage.path().display())).to_string();
    text.replace("admin: {address: \"127.0.0.1:0\"}", &format!("admin: {{address: \"127.0.0.1:0\"{admin}}}"))
}

/// What is answered over a connection of its own; `None`: nothing.
fn ask(gateway: &Gateway, path: &str) -> Option<String> {
    let mut client = TcpStream::connect(gateway.admin()).ok()?;
    client.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(client, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", gateway.admin()).ok()?;
    let mut text = String::new();
    client.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Numbers in the metrics, for which there may be no room at first.
fn counted<const N: usize>(gateway: &Gateway, names: [&str; N]) -> [f64; N] {
    let text = eventually("there is room", || ask(gateway, "/metrics").filter(|text| text.starts_with("HTTP/1.1 200")));
    names.map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix("probegate_admin_connections")?.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    })
}

#[test]
fn connections_that_say_nothing_keep_nobody_out_and_take_no_more_than_their_share() {
    let folder = Folder::new();
    let path = folder.path().join("admin.sock");
    let gateway =
        Gateway::with(config(&folder, &format!(", socket: {{path: \"{}\"}}", path.display()))).inside(LIMITED).start();
    wait_ready(&gateway);
    let admin = gateway.admin();
    let all = 400;
    // Half of them begin a head, and never end it.
    let silent: Vec<_> = (0..all)
        .map(|number| {
            let mut stream = TcpStream::connect(admin).unwrap();
            if number % 2 == 0 {
                stream.write_all(b"GET /status HT").ok();
            }
            stream
        })
        .collect();
    eventually("each is open, was turned away, or made room", || {
        let [refused, ended] = counted(&gateway, ["_refused_total ", "_idle_ended_total "]);
        (refused + ended >= f64::from(u32::try_from(all - PLACES - BEYOND).unwrap())).then_some(())
    });
    let [open] = counted(&gateway, [" "]);
    assert!(open <= 64.0, "{open} are open");
    // Who has waited longest makes room, long before it is ended for saying nothing.
    let mut more = Vec::new();
    eventually("somebody makes room", || {
        more.extend([TcpStream::connect(admin).unwrap(), TcpStream::connect(admin).unwrap()]);
        (counted(&gateway, ["_idle_ended_total "]) >= [1.0]).then_some(())
    });
    drop(more);
    // Those at the address are no matter of those at the socket.
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    drop(silent);
    eventually("all have gone", || (counted(&gateway, [" "]) <= [1.0]).then_some(()));
}

#[test]
fn one_too_many_is_told_to_come_back_and_the_log_says_it_now_and_then() {
    let folder = Folder::new();
    let gateway = Gateway::with(config(&folder, "")).inside(LIMITED).start();
    wait_ready(&gateway);
    let admin = gateway.admin();
    eventually("somebody is turned away", || {
        // All at once: nobody has waited for long.
        let _crowd: Vec<_> = (0..PLACES).map(|_| TcpStream::connect(admin).unwrap()).collect();
        let answer = ask(&gateway, "/healthz")?;
        (answer.starts_with("HTTP/1.1 503") && answer.contains("\r\nRetry-After: 1\r\n")).then_some(())
    });
    let told = |line: &str| line.contains("a local server has too many connections");
    eventually("it is told", || gateway.log_lines().iter().any(|line| told(line)).then_some(()));
    counted(&gateway, [" "]);
    assert!(gateway.log_lines().iter().filter(|line| told(line)).count() < 5);
}

#[test]
fn refused_changes_fill_neither_the_log_nor_the_file() {
    let folder = Folder::new();
    let audit = folder.path().join("audit.log");
    let gateway = Gateway::start(config(&folder, &format!(", audit: \"{}\"", audit.display())));
    wait_ready(&gateway);
    let admin = gateway.admin();
    let put = |target: &str, field: &str| {
        exchange(admin, format!("PUT {target} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n{field}\r\n")).status
    };
    let long = format!("/services/{}/maintenance", "x".repeat(3000));
    for _ in 0..150 {
        assert_eq!(put(&long, ""), 403, "the field is missing");
    }
    // What is done is written down, however much was refused before.
    assert_eq!(put("/services/app/maintenance", "X-Probegate-Control: 1\r\n"), 200);
    let text = eventually("it is written down", || {
        std::fs::read_to_string(&audit).ok().filter(|text| text.contains("\"outcome\":\"done\""))
    });
    let refused: Vec<_> = text.lines().filter(|line| line.contains("\"refused\"")).collect();
    // Twenty in a minute, and one may have begun in between.
    assert!((1..=40).contains(&refused.len()), "{} lines", refused.len());
    assert!(refused.iter().all(|line| line.len() < 600 && line.contains("xxx…")), "{}", refused[0]);
    gateway.wait_for_log(|line| line["message"] == "changed over the admin listener");
    let lines = gateway.log_lines();
    let lines: Vec<_> = lines.iter().filter(|line| line.contains("was refused")).collect();
    assert!((1..=40).contains(&lines.len()) && lines.iter().all(|line| line.len() < 800), "{} lines", lines.len());
}

#[test]
fn what_strangers_ask_hides_nothing_of_those_who_look_nor_that_of_those_who_change() {
    let folder = Folder::new();
    let (reader, audit) = ("0123456789abcdef0123456789abcdef0123456789abcdef", folder.path().join("audit.log"));
    let sets = format!(
        "tokens:\n  viewers: {{slots: [{{name: page, value: {reader}}}]}}\n  operators: {{slots: [{{name: ops, value: {TOKEN}}}]}}\n"
    );
    let admin = format!(", tokens: {{read: viewers, write: operators}}, audit: \"{}\"", audit.display());
    let gateway = Gateway::start(format!("{sets}{}", config(&folder, &admin)));
    wait_ready(&gateway);
    let admin = gateway.admin();
    let put = |target: &str, token: &str| {
        let answer = exchange(
            admin,
            format!(
                "PUT {target} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\nX-Probegate-Control: 1\r\nX-Probe-Token: {token}\r\n\r\n"
            ),
        );
        (answer.status, answer.json()["reason"].as_str().unwrap().to_owned())
    };
    // More than are told of within two minutes, should one end meanwhile.
    for _ in 0..60 {
        assert_eq!(put("/services/app/maintenance", "guess"), (403, "token_wrong".to_owned()));
    }
    for _ in 0..60 {
        assert_eq!(put("/services/app/maintenance", reader), (403, "token_read_only".to_owned()));
    }
    assert_eq!(put("/services/none/maintenance", TOKEN), (404, "unknown_service".to_owned()));
    let text = eventually("it is written down", || {
        std::fs::read_to_string(&audit).ok().filter(|text| text.contains("unknown_service"))
    });
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (reason, who, most) in [
        ("token_wrong", "127.0.0.1", 40),
        ("token_read_only", "token viewers/page from 127.0.0.1", 40),
        ("unknown_service", "token operators/ops from 127.0.0.1", 1),
    ] {
        let of: Vec<_> = lines.iter().filter(|line| line["reason"] == reason).collect();
        assert!((1..=most).contains(&of.len()) && of.iter().all(|line| line["who"] == who), "{of:?}");
    }
}

#[test]
fn a_file_that_takes_no_changes_is_told_before_they_are_missed() {
    let folder = Folder::new();
    let audit = folder.path().join("not-there-yet/audit.log");
    let text = config(&folder, &format!(", audit: \"{}\"", audit.display()));
    let checked = run(probegate(["check", "--strict"]).arg(folder.write("probegate.yaml", &text)));
    assert_eq!(checked.code, Some(1), "{}", checked.err);
    assert!(checked.err.contains("warning: no change can be written down in `"), "{}", checked.err);
    let gateway = Gateway::start(&text);
    // Nobody has changed anything yet.
    wait_warned(&gateway, &[("audit_unwritten", "")]);
    let admin = gateway.admin().to_string();
    let turn = |to: &str| run(&mut probegate(["maintenance", to, "app", "--admin", &admin]));
    let on = turn("on");
    assert_eq!(on.code, Some(0), "{}", on.err);
    assert!(on.err.contains("warning: it is not written down in the file of `admin.audit`"), "{}", on.err);
    let reloaded = run(&mut probegate(["reload", "--admin", &admin]));
    assert!(reloaded.code == Some(0) && reloaded.err.contains("warning: it is not written"), "{}", reloaded.err);
    // It is tried again by itself.
    std::fs::create_dir(audit.parent().unwrap()).unwrap();
    wait_warned(&gateway, &[]);
    let off = turn("off");
    assert_eq!((off.code, &*off.err), (Some(0), ""));
    // What waited as well, in its order.
    let lines = eventually("it is written down", || {
        std::fs::read_to_string(&audit).ok().filter(|text| text.contains("\"DELETE\"") && text.ends_with('\n'))
    });
    let methods: Vec<_> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["method"].clone()).collect();
    assert_eq!(methods, ["PUT", "POST", "DELETE"], "{lines}");
}

#[test]
fn a_disk_that_does_not_answer_is_told_like_one_that_takes_nothing() {
    let folder = Folder::new();
    // Whoever opens a pipe waits for somebody who reads.
    let audit = folder.path().join("audit.log");
    assert_eq!(run(Command::new("mkfifo").arg(&audit)).code, Some(0));
    let gateway = Gateway::start(config(&folder, &format!(", audit: \"{}\"", audit.display())));
    wait_warned(&gateway, &[("audit_unwritten", "")]);
    wait_for_metric(&gateway, "probegate_audit_failing", 1.0);
    let told = gateway.wait_for_log(|line| line["message"] == "changes can not be written down");
    assert_eq!(told["error"], "the disk does not answer");
    let admin = gateway.admin().to_string();
    let on = run(&mut probegate(["maintenance", "on", "app", "--admin", &admin]));
    assert!(on.code == Some(0) && on.err.contains("warning: it is not written down in the file"), "{on:?}");
    // Once.
    let lines = gateway.log_lines();
    assert_eq!(lines.iter().filter(|line| line.contains("changes can not be written down")).count(), 1);
    // It answers again: nothing that waited is lost.
    let mut reader = BufReader::new(File::options().read(true).write(true).open(&audit).unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("/maintenance") && line.contains("\"done\""), "{line}");
    wait_warned(&gateway, &[]);
    wait_for_metric(&gateway, "probegate_audit_failing", 0.0);
    gateway.wait_for_log(|line| line["message"] == "changes can be written down again");
}

#[test]
fn a_full_disk_takes_later_what_it_did_not_take() {
    let folder = Folder::new();
    let audit = folder.path().join("audit.log");
    // It can be opened, and takes nothing.
    std::os::unix::fs::symlink("/dev/full", &audit).unwrap();
    let gateway = Gateway::start(config(&folder, &format!(", audit: \"{}\"", audit.display())));
    wait_ready(&gateway);
    let admin = gateway.admin().to_string();
    let turn = |to: &str| run(&mut probegate(["maintenance", to, "app", "--admin", &admin]));
    assert_eq!(turn("on").code, Some(0));
    wait_warned(&gateway, &[("audit_unwritten", "")]);
    let told = gateway.wait_for_log(|line| line["message"] == "changes can not be written down");
    assert!(told["error"].as_str().unwrap().contains("No space left"), "{told}");
    assert!(turn("off").err.contains("warning: it is not written down in the file"));
    std::fs::remove_file(&audit).unwrap();
    let lines = eventually("they are written down", || {
        std::fs::read_to_string(&audit).ok().filter(|text| text.contains("\"DELETE\"") && text.ends_with('\n'))
    });
    assert!(lines.lines().count() == 2 && lines.contains("\"PUT\""), "{lines}");
    wait_warned(&gateway, &[]);
    gateway.wait_for_log(|line| line["message"] == "changes can be written down again");
    // However often it was opened in between.
    let lines = gateway.log_lines();
    assert_eq!(lines.iter().filter(|line| line.contains("changes can")).count(), 2, "{lines:?}");
}

#[test]
fn what_a_full_disk_does_not_take_does_not_keep_another_file_from_being_written() {
    let folder = Folder::new();
    let (one, other) = (folder.path().join("one.log"), folder.path().join("other.log"));
    let text = |file: &Path| config(&folder, &format!(", audit: \"{}\"", file.display()));
    // It opens, and takes nothing: as many tries as a full disk gets pass it.
    std::os::unix::fs::symlink("/dev/full", &one).unwrap();
    let gateway = Gateway::start(text(&one));
    wait_ready(&gateway);
    let admin = gateway.admin().to_string();
    let turn = |to: &str| run(&mut probegate(["maintenance", to, "app", "--admin", &admin]));
    assert_eq!(turn("on").code, Some(0));
    let failing = |is: f64| wait_for_metric(&gateway, "probegate_audit_failing", is);
    failing(1.0);
    let told = gateway.wait_for_log(|line| line["message"] == "changes can not be written down");
    assert!(told["error"].as_str().unwrap().contains("No space left"), "{told}");
    // Another file is written at once, although the line for the first one still waits.
    std::fs::write(gateway.config_path(), text(&other)).unwrap();
    let reloaded = run(&mut probegate(["reload", "--admin", &admin]));
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.err);
    failing(0.0);
    wait_warned(&gateway, &[]);
    assert_eq!(turn("off").code, Some(0));
    eventually("it is written down", || {
        std::fs::read_to_string(&other).ok().filter(|text| text.contains("\"DELETE\""))
    });
    let lines = gateway.log_lines();
    let told = lines.iter().filter(|line| line.contains("changes can")).count();
    assert_eq!(told, 1, "it was never well in between: {lines:?}");
    gateway.wait_for_log(|line| line["message"] == "a change was not written down");
}

#[test]
fn a_file_that_hangs_does_not_keep_another_from_being_written() {
    let folder = Folder::new();
    let (pipe, other) = (folder.path().join("pipe"), folder.path().join("other.log"));
    assert_eq!(run(Command::new("mkfifo").arg(&pipe)).code, Some(0));
    let text = |file: &Path| config(&folder, &format!(", audit: \"{}\"", file.display()));
    let gateway = Gateway::start(text(&pipe));
    wait_warned(&gateway, &[("audit_unwritten", "")]);
    std::fs::write(gateway.config_path(), text(&other)).unwrap();
    let admin = gateway.admin().to_string();
    assert_eq!(run(&mut probegate(["reload", "--admin", &admin])).code, Some(0));
    wait_warned(&gateway, &[]);
    assert_eq!(run(&mut probegate(["maintenance", "on", "app", "--admin", &admin])).code, Some(0));
    eventually("it is written down", || {
        std::fs::read_to_string(&other).ok().filter(|text| text.contains("/maintenance"))
    });
}
