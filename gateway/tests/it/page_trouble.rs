//! The page where something is wrong: aggregates, what the gateway warns of, a reload that is refused, and the commands that explain refusals.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::harness::{
    Authority, Browser, Client, Gateway, Upstream, eventually, exchange, free_address, get_admin, ok, probegate, run,
    shake, wait_ready,
};
use crate::page::{config, look, nothing_wrong, start};

fn ask(gateway: &Gateway, host: &str, path: &str) -> u16 {
    exchange(gateway.address(), format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).status
}

/// What `probegate status` says.
fn status(gateway: &Gateway) -> String {
    let ended = run(probegate(["status", "--admin"]).arg(gateway.admin().to_string()));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.out
}

/// The lines under "needs attention".
fn attention(status: &str) -> Vec<String> {
    let lines = status.lines().skip_while(|line| !line.starts_with("NEEDS ATTENTION"));
    let lines = lines.skip(1).take_while(|line| !line.is_empty());
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn aggregates_have_a_table_and_need_attention_until_all_is_well_again() {
    let shop = Upstream::answering(|_| ok("{}"));
    let sick = Arc::new(AtomicBool::new(true));
    let ill = Arc::clone(&sick);
    let blog = Upstream::answering(move |request| {
        if request.target() == "/readyz" && ill.load(Ordering::SeqCst) {
            return b"HTTP/1.1 503 Not now\r\nContent-Length: 0\r\n\r\n".to_vec();
        }
        ok("{}")
    });
    let top = "aggregates:\n  \
        most: {path: /most, hosts: [all.example], services: {required: [shop], optional: [blog]}, rise: 1}\n  \
        every: {path: /every, hosts: [all.example], services: {required: [shop, blog]}, rise: 1}\n  \
        unasked: {path: /unasked, hosts: [all.example], services: {required: [shop]}}\n\
        probes: {readyz: {cache: {ok: 100ms, fail: 100ms}}}\n";
    let gateway = start(&[("shop", &[&shop]), ("blog", &[&blog])], "", top);
    assert_eq!((ask(&gateway, "all.example", "/most"), ask(&gateway, "all.example", "/every")), (200, 503));
    let mut browser = Browser::start();
    browser.size(1280, 900);
    look(&mut browser, &gateway);
    browser.wait("document.querySelectorAll('#aggregates tbody tr').length === 3");
    let rows = browser.eval(
        "[...document.querySelectorAll('#aggregates tbody tr')].map((row) => [...row.children].map((cell) => cell.textContent).join(' | '))",
    );
    assert_eq!(
        rows,
        serde_json::json!([
            "most/most | passes, not all do | readyz | shop passes, blog fails (status_503), optional, gateway passes",
            "every/every | does not pass | readyz | shop passes, blog fails (status_503), gateway passes",
            "unasked/unasked | not asked yet | readyz | shop not asked yet, gateway passes",
        ])
    );
    let items = "[...document.querySelectorAll('.attention li')]";
    let told = browser.eval(&format!("{items}.map((one) => `${{one.className}}: ${{one.textContent}}`)"));
    let about = |text: &str| told.as_array().unwrap().iter().any(|one| one == text);
    assert!(about("bad: The aggregate every does not pass: blog (status_503)"), "{told}");
    assert!(about("warn: The aggregate most passes without all of its services: blog (status_503)"), "{told}");
    assert!(!told.to_string().contains("unasked"), "{told}");
    // It leads to the table, by keys as well.
    let leads = browser.eval(&format!("{items}[0].querySelector('a').getAttribute('href')"));
    assert_eq!(leads, "#aggregates");
    nothing_wrong(&mut browser, "aggregates that fail");
    browser.picture("aggregates");
    browser.prefers(&[("prefers-color-scheme", "dark")]);
    nothing_wrong(&mut browser, "the same in the dark");
    browser.prefers(&[]);
    let people = status(&gateway);
    assert_eq!(
        attention(&people),
        ["aggregate: most warn blog status_503", "aggregate: every fail blog status_503"],
        "{people}"
    );
    assert!(people.lines().any(|line| line.starts_with("unasked ") && line.contains("not asked")), "{people}");

    sick.store(false, Ordering::SeqCst);
    eventually("all are well", || {
        let all = (ask(&gateway, "all.example", "/most"), ask(&gateway, "all.example", "/every"));
        (all == (200, 200) && attention(&status(&gateway)).is_empty()).then_some(())
    });
    browser.wait("!document.querySelector('main').textContent.includes('The aggregate')");
    browser.wait("[...document.querySelectorAll('#aggregates .badge')].filter((one) => one.textContent === 'passes').length === 2");
}

#[test]
fn a_refused_reload_is_told_on_the_page_and_forgotten_with_the_next() {
    let app = Upstream::answering(|_| ok("{}"));
    let gateway = start(&[("shop", &[&app])], "", "");
    let good = std::fs::read_to_string(gateway.config_path()).unwrap();
    std::fs::write(gateway.config_path(), format!("{good}limit: 1\n")).unwrap();
    let mut browser = Browser::start();
    browser.size(1280, 900);
    look(&mut browser, &gateway);
    let reload = "[...document.querySelectorAll('#top button')].find((one) => one.textContent === 'Reload').click()";
    browser.eval(reload);
    browser.wait("document.querySelector('dialog .go')");
    browser.eval("document.querySelector('dialog .go').click()");
    browser.wait("document.querySelector('dialog .refused')");
    let line = good.lines().count() + 1;
    let said = browser.eval("document.querySelector('dialog .refused').textContent");
    assert!(said.as_str().unwrap().contains("the one before stays in force"), "{said}");
    let found = browser.eval("document.querySelector('dialog .problems').textContent");
    assert_eq!(found, format!("line {line}: unknown key `limit` (did you mean `limits`?)"));
    nothing_wrong(&mut browser, "a reload that is refused");
    browser.picture("refused-reload");
    browser.press("Escape", false);
    browser.wait("document.querySelector('.attention').textContent.includes('The last reload was refused')");
    let people = status(&gateway);
    assert!(attention(&people)[0].starts_with("gateway warning reload_refused: "), "{people}");
    std::fs::write(gateway.config_path(), good).unwrap();
    browser.eval(reload);
    browser.wait("document.querySelector('dialog .go')");
    browser.eval("document.querySelector('dialog .go').click()");
    browser.wait("document.getElementById('said').textContent === 'The configuration is reloaded.'");
    browser.wait("document.querySelector('.calm')");
    assert!(attention(&status(&gateway)).is_empty());
}

#[test]
fn the_command_that_the_page_offers_explains_the_decision_that_was_made() {
    let app = Upstream::answering(|_| ok("{}"));
    let authority = Authority::new("Test");
    let issued = authority.issue(&["shop.example"]);
    // Each with a port of its own, by which it is known again.
    let [plain, secured, other] = [free_address(), free_address(), free_address()];
    let text = config(&[("shop", &[&app])], "", "")
        .replacen("  - address: \"127.0.0.1:0\"\n", &format!("  - address: \"{plain}\"\n  - {{address: \"{other}\", redirect_https: true}}\n"), 1)
        .replacen("127.0.0.2:0\", tls", &format!("{secured}\", tls"), 1)
        .replace("{path: /admin, allow: {network: office}}", "{path: /admin, allow: {network: office}}, {path: /hidden, allow: {network: office}, deny: 404}")
        .replace("networks: {", "tokens: {ci: {slots: [{name: one, value: 0123456789abcdef0123456789abcdef}]}}\nnetworks: {internal: [192.0.2.0/24], ");
    let gateway = Gateway::with(text).file("cert.pem", &issued.cert).file("key.pem", &issued.key).start();
    wait_ready(&gateway);
    let strange = "/admin/it's%20$(touch%20x)`a`";
    for (host, path, status) in [
        ("shop.example", "/admin", 403),
        ("shop.example", strange, 403),
        ("shop.example", "/hidden/x", 404),
        ("shop.example", "/readyz", 403),
        ("other.example", "/", 421),
        ("shop.example", "/x%2f..%2fadmin", 400),
    ] {
        let mut client = Client::connect(plain);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.response().status, status, "{host}{path}");
    }
    let stream = TcpStream::connect(secured).unwrap();
    let mut stream = shake(stream, &Arc::new(authority.client(None)), "shop.example").unwrap();
    stream.write_all(b"POST /admin HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 403");

    let denials = eventually("all are told", || {
        let all = get_admin(gateway.admin(), "/denials").json()["denials"].as_array().unwrap().clone();
        (all.len() == 7).then_some(all)
    });
    let mut browser = Browser::start();
    browser.size(1280, 900);
    look(&mut browser, &gateway);
    browser.wait("document.querySelectorAll('#denials tbody tr').length === 7");
    let commands = browser.eval("[...document.querySelectorAll('#denials tbody tr')].map((row) => row.querySelector('code')?.textContent ?? '')");
    for (denial, command) in denials.iter().zip(commands.as_array().unwrap()) {
        let command = command.as_str().unwrap();
        assert!(command.starts_with("probegate explain -c "), "{denial}: {command}");
        // As a person would: into a shell, on this machine.
        let folder = crate::harness::Folder::new();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("probegate() {{ {:?} \"$@\"; }}\n{command}", env!("CARGO_BIN_EXE_probegate"))]);
        let ended = run(shell.current_dir(folder.path()));
        assert_eq!(ended.code, Some(1), "{denial}: {command}: {ended:?}");
        let verdict = ended.out.lines().last().unwrap();
        let reason = denial["reason"].as_str().unwrap();
        assert!(
            verdict.starts_with("verdict   refused: ") && verdict.contains(&format!("({reason})")),
            "{command}: {ended:?}"
        );
        assert!(verdict.contains(&format!("{}, ", denial["status"])), "{denial}: {command}: {ended:?}");
        if let Value::Number(line) = &denial["line"] {
            assert!(ended.out.contains(&format!("probegate.yaml:{line})")), "{denial}: {ended:?}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{command} did something else");
    }
    // What was at the listener with TLS is explained there.
    let told = commands.to_string();
    assert!(told.contains(&format!("POST https://shop.example:{}/admin", secured.port())), "{told}");
    assert!(told.contains(&format!("GET http://shop.example:{}/admin", plain.port())), "{told}");
}
