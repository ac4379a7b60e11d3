//! `probegate dev`: its authority is made once, and what it signs is believed by those who were told to.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::harness::{Ended, Folder, Program, Upstream, curl, eventually, ok, probegate, run};

/// Starts it on a port of its own; comes back with the port once it listens.
fn start(folder: &Path, upstream: &str) -> (Program, u16) {
    let mut command = probegate(["dev", upstream, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--folder"]);
    let program = Program::start(command.arg(folder));
    let port = program.wait_for("it says where it listens", |text| {
        let rest = text.split_once("probegate dev: https://localhost:")?.1;
        text.contains("\"message\":\"listening\"").then(|| rest.split_once(' ').unwrap().0.parse().unwrap())
    });
    (program, port)
}

fn openssl(arguments: &[&str], folder: &Path) -> Ended {
    run(Command::new("openssl").args(arguments).current_dir(folder))
}

#[test]
fn the_authority_is_made_once_and_can_only_vouch_for_this_machine() {
    let folder = Folder::new();
    let home = folder.path().join("made/on the way");
    let (program, _) = start(&home, "127.0.0.1:9");
    assert!(program.text().contains("made just now"), "{}", program.text());
    drop(program);
    for (name, mode) in [("ca.pem", 0o644), ("ca.key", 0o600), ("localhost.pem", 0o644), ("localhost.key", 0o600)] {
        assert_eq!(home.join(name).metadata().unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
    assert_eq!(home.metadata().unwrap().permissions().mode() & 0o777, 0o700);

    for checked in [["-verify_hostname", "localhost"], ["-verify_ip", "127.0.0.1"], ["-verify_ip", "::1"]] {
        let arguments = [
            &["verify", "-x509_strict", "-CAfile", "ca.pem", "-purpose", "sslserver"],
            &checked[..],
            &["localhost.pem"],
        ]
        .concat();
        let verified = openssl(&arguments, &home);
        assert_eq!(verified.code, Some(0), "{verified:?}");
    }
    let text = openssl(&["x509", "-noout", "-text", "-in", "ca.pem"], &home).out;
    for line in [
        "X509v3 Name Constraints: critical",
        "DNS:localhost",
        "IP:127.0.0.0/255.0.0.0",
        "ASN1 OID: prime256v1",
        "pathlen:0",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    // Whoever steals its key can make nothing of it that a browser takes.
    let script = "openssl req -newkey rsa:2048 -nodes -keyout x.key -subj /CN=bank.example -out x.csr && \
                  printf 'subjectAltName=DNS:bank.example' > x.ext && \
                  openssl x509 -req -in x.csr -CA ca.pem -CAkey ca.key -extfile x.ext -out x.pem -days 30";
    assert_eq!(run(Command::new("sh").args(["-c", script]).current_dir(&home)).code, Some(0));
    let verified = openssl(&["verify", "-CAfile", "ca.pem", "x.pem"], &home);
    assert!(verified.code != Some(0) && verified.err.contains("permitted subtree violation"), "{verified:?}");

    let before =
        ["ca.pem", "ca.key", "localhost.pem", "localhost.key"].map(|name| std::fs::read(home.join(name)).unwrap());
    let (program, _) = start(&home, "127.0.0.1:9");
    assert!(program.text().contains("made before"), "{}", program.text());
    let after =
        ["ca.pem", "ca.key", "localhost.pem", "localhost.key"].map(|name| std::fs::read(home.join(name)).unwrap());
    assert!(before == after, "something was made anew");
    drop(program);

    // A further name is put in, and stays there.
    let names = ["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--name", "app.localhost", "--folder"];
    let program = Program::start(probegate(names).arg(&home));
    program.wait_for("it listens", |text| text.contains("\"message\":\"listening\"").then_some(()));
    drop(program);
    let verify = ["verify", "-CAfile", "ca.pem", "-verify_hostname", "app.localhost", "localhost.pem"];
    assert_eq!(openssl(&verify, &home).code, Some(0));
    let elsewhere = run(&mut probegate(["dev", "--name", "bank.example"]));
    assert!(elsewhere.code == Some(64) && elsewhere.err.contains("below localhost"), "{elsewhere:?}");

    // A certificate whose key is lost is made anew, the authority is not.
    std::fs::remove_file(home.join("localhost.key")).unwrap();
    drop(start(&home, "127.0.0.1:9"));
    assert_eq!(std::fs::read(home.join("ca.pem")).unwrap(), before[0]);
    assert_ne!(std::fs::read(home.join("localhost.pem")).unwrap(), before[2]);
}

#[test]
fn a_second_run_with_a_name_of_its_own_takes_none_from_the_first() {
    let folder = Folder::new();
    let app = Upstream::answering(|_| ok("the app"));
    let named = |name: &str| {
        let mut command = probegate(["dev", &app.server(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let program = Program::start(command.args(["--name", name, "--folder"]).arg(folder.path()));
        let port: u16 = program.wait_for("it says where it listens", |text| {
            let rest = text.split_once("probegate dev: https://localhost:")?.1;
            text.contains("\"message\":\"listening\"").then(|| rest.split_once(' ').unwrap().0.parse().unwrap())
        });
        (program, port)
    };
    let asked = |name: &str, port: u16| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--noproxy", "*", "--resolve", &format!("{name}:{port}:127.0.0.1"), "--cacert"]);
        run(command.arg(folder.path().join("ca.pem")).arg(format!("https://{name}:{port}/"))).out
    };
    let (_first, one) = named("one.localhost");
    assert_eq!(asked("one.localhost", one), "the app");
    let (_second, two) = named("two.localhost");
    assert_eq!(asked("two.localhost", two), "the app");
    // Both run, and both have both names; the first one notices the new certificate by itself.
    assert_eq!(asked("one.localhost", two), "the app");
    eventually("the first one has taken the new certificate", || {
        (asked("two.localhost", one) == "the app").then_some(())
    });
    assert_eq!(asked("one.localhost", one), "the app");
}

#[test]
fn curl_believes_it_with_the_authority_and_not_without() {
    let folder = Folder::new();
    let app = Upstream::answering(|_| ok("the app"));
    let (program, port) = start(folder.path(), &app.server());
    let ca = folder.path().join("ca.pem");
    let ca = ca.to_str().unwrap();
    for (protocol, url, spoken) in [
        ("--http1.1", format!("https://localhost:{port}/hello"), "1.1"),
        ("--http2", format!("https://localhost:{port}/hello"), "2"),
        ("--http1.1", format!("https://127.0.0.1:{port}/hello"), "1.1"),
    ] {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--noproxy", "*", "--write-out", " over %{http_version}", protocol]);
        let ended = run(command.args(["--cacert", ca, &url]));
        assert_eq!(ended.out, format!("the app over {spoken}"), "{url}: {ended:?}");
    }
    for request in app.requests() {
        assert_eq!(request.all("x-forwarded-proto"), ["https"], "{request:?}");
    }
    program.wait_for("a line in the access log", |text| text.contains("\"target\":\"/hello\"").then_some(()));
    let mut command = Command::new("curl");
    let ended = run(command.args(["--silent", "--noproxy", "*", &format!("https://localhost:{port}/")]));
    assert_eq!(ended.code, Some(60), "{ended:?}");
}

#[test]
fn an_app_that_does_not_run_yet_is_a_502_that_says_so() {
    let folder = Folder::new();
    let (_program, port) = start(folder.path(), "127.0.0.1:9");
    let ca = folder.path().join("ca.pem");
    let response = curl(["--http1.1", "--cacert", ca.to_str().unwrap(), &format!("https://localhost:{port}/")]);
    assert_eq!(response.status, 502);
    assert!(response.text().contains("app"), "{}", response.text());
}

#[test]
fn an_authority_without_its_key_is_an_error_that_says_what_to_do() {
    let folder = Folder::new();
    drop(start(folder.path(), "127.0.0.1:9"));
    std::fs::remove_file(folder.path().join("ca.key")).unwrap();
    let ended = run(probegate(["dev", "--listen", "127.0.0.1:0", "--folder"]).arg(folder.path()));
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("ca.key") && ended.err.contains("remove the folder"), "{}", ended.err);
}
