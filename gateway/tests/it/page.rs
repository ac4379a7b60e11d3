//! The page of the admin listener: what it is made of, what it shows of a real gateway in a real browser, what can be done on it, and by whom.
//!
//! Its pictures lie below `target/page` afterwards, for people to look at.

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::harness::{
    Authority, Browser, Client, Gateway, PATIENCE, TOKEN, Upstream, eventually, exchange, free_address, get_admin,
    metric, metrics, ok, wait_for_metric, wait_ready,
};

const FILES: [&str; 11] = [
    "style.css",
    "icon.svg",
    "page.js",
    "act.js",
    "dom.js",
    "feed.js",
    "services.js",
    "slots.js",
    "tables.js",
    "trouble.js",
    "words.js",
];

/// A gateway with these services, each before its servers.
pub(crate) fn config(services: &[(&str, &[&Upstream])], admin: &str, top: &str) -> String {
    let mut text = format!(
        "listeners:\n  - address: \"127.0.0.1:0\"\n  - {{address: \"127.0.0.2:0\", tls: {{certificates: [{{cert: cert.pem, key: key.pem}}]}}}}\n\
         admin: {{address: \"127.0.0.1:0\"{admin}}}\nstorage: storage\nworkers: 1\nnetworks: {{office: [192.0.2.0/24]}}\n{top}services:\n"
    );
    for (name, apps) in services {
        let servers: Vec<_> = apps.iter().map(|app| app.server()).collect();
        write!(
            text,
            "  {name}:\n    hosts: [{name}.example]\n    upstream: {{servers: {servers:?}, health: {{path: /healthz, interval: 1s, timeout: 1s}}}}\n    \
             routes: [{{path: /admin, allow: {{network: office}}}}]\n"
        )
        .unwrap();
    }
    text
}

pub(crate) fn start(services: &[(&str, &[&Upstream])], admin: &str, top: &str) -> Gateway {
    let issued = Authority::new("Test").issue(&["shop.example"]);
    let gateway =
        Gateway::with(config(services, admin, top)).file("cert.pem", &issued.cert).file("key.pem", &issued.key);
    let gateway = gateway.start();
    wait_ready(&gateway);
    gateway
}

fn ask(gateway: &Gateway, service: &str, target: &str) -> u16 {
    exchange(
        gateway.address(),
        format!("GET {target} HTTP/1.1\r\nHost: {service}.example\r\nConnection: close\r\n\r\n"),
    )
    .status
}

pub(crate) fn page(gateway: &Gateway) -> String {
    format!("http://{}/", gateway.admin())
}

/// Opens the page and waits until it shows what the gateway tells.
pub(crate) fn look(browser: &mut Browser, gateway: &Gateway) {
    browser.open(&page(gateway));
    browser.wait("document.querySelector('.going.live') && document.querySelector('.card')");
}

#[track_caller]
pub(crate) fn nothing_wrong(browser: &mut Browser, state: &str) {
    let found = browser.axe();
    assert!(found.is_empty(), "{state}: {found:#?}");
    let wider = browser.eval("document.documentElement.scrollWidth - innerWidth");
    assert_eq!(wider, 0, "{state}: the page is wider than the window");
    let said = browser.said(&["Runtime.exceptionThrown", "Log.entryAdded"]);
    // Browsers note every refusal of the gateway; what the page does about it is tested.
    let said: Vec<_> = said.iter().filter(|event| event["params"]["entry"]["source"] != "network").collect();
    assert!(said.is_empty(), "{state}: {said:#?}");
}

#[test]
fn the_page_comes_from_the_program_alone_and_browsers_are_told_so() {
    let app = Upstream::answering(|_| ok("answered"));
    let gateway = start(&[("shop", &[&app])], "", "");
    for file in ["/".to_owned()].into_iter().chain(FILES.map(|file| format!("/page/{file}"))) {
        let answer = get_admin(gateway.admin(), &file);
        assert_eq!(answer.status, 200, "{file}");
        let rules = answer.field("Content-Security-Policy").unwrap();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "form-action 'none'",
            "base-uri 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(rules.split("; ").any(|known| known == rule), "{file}: {rules}");
        }
        assert!(!rules.contains("unsafe") && !rules.contains('*'), "{rules}");
        assert_eq!(answer.field("X-Content-Type-Options").as_deref(), Some("nosniff"), "{file}");
        assert_eq!(answer.field("Referrer-Policy").as_deref(), Some("no-referrer"), "{file}");
        let text = answer.text();
        for sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "DOMParser",
            "srcdoc",
            "localStorage",
            "sessionStorage",
            "cookie",
            " style=",
            " onclick=",
        ] {
            assert!(!text.contains(sink), "{file}: {sink}");
        }
        let elsewhere = text.replace("http://www.w3.org/2000/svg", "").replace("`http://${plain(", "");
        assert!(!elsewhere.contains("http:") && !elsewhere.contains("https:"), "{file} names another address");
    }
    assert_eq!(get_admin(gateway.admin(), "/page/other.js").status, 404);
    assert_eq!(get_admin(gateway.admin(), "/page/..%2fguard.rs").status, 404);
}

/// Asks for events and reads the first of them.
pub(crate) fn listen(admin: SocketAddr) -> (TcpStream, String) {
    use std::io::Write as _;
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nHost: {admin}\r\n\r\n").unwrap();
    let head = until(&mut stream, b"\r\n\r\n");
    (stream, head)
}

fn until(stream: &mut TcpStream, end: &[u8]) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "it ended: {}", String::from_utf8_lossy(&text));
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn events_go_on_there_is_room_for_few_and_a_reload_ends_them() {
    let app = Upstream::answering(|_| ok("answered"));
    let gateway = start(&[("shop", &[&app])], "", "");
    let admin = gateway.admin();
    let (mut first, head) = listen(admin);
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream") && head.contains("no-store"),
        "{head}"
    );
    for _ in 0..3 {
        let event = until(&mut first, b"\n\n");
        let status: Value = serde_json::from_str(event.trim().strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(status["services"][0]["service"], "shop");
    }
    let mut more: Vec<_> = (1..16).map(|_| listen(admin)).collect();
    assert!(more.iter().all(|(_, head)| head.starts_with("HTTP/1.1 200")));
    let full = get_admin(admin, "/events");
    assert_eq!((full.status, get_admin(admin, "/status").status), (503, 200), "{full:?}");
    more.pop();
    let mut again =
        eventually("there is room again", || Some(listen(admin)).filter(|(_, head)| head.starts_with("HTTP/1.1 200")));
    // Whoever listens has to show again who they are: the configuration may want to know now.
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    let mut rest = Vec::new();
    again.0.read_to_end(&mut rest).ok();
    assert!(listen(admin).1.starts_with("HTTP/1.1"));
}

#[test]
fn the_page_shows_what_is_in_every_light_and_axe_finds_nothing() {
    let app = Upstream::answering(|_| ok("answered"));
    let second = Upstream::answering(|_| ok("answered"));
    let sick = Upstream::answering(|request| match request.target().as_str() {
        "/readyz" => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".into(),
        _ => ok("answered"),
    });
    let nobody = Upstream::answering(|_| "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
    let top = "limits: {few: {rate: 1/d, burst: 1}}\n";
    let gateway = start(&[("shop", &[&app, &second]), ("blog", &[&app])], "", top);
    for probe in ["/healthz", "/readyz", "/startupz", "/version"] {
        assert_eq!(ask(&gateway, "shop", probe), 200);
    }
    let mut browser = Browser::start();
    browser.size(1280, 900);
    look(&mut browser, &gateway);
    browser.wait("document.querySelector('.calm')");
    nothing_wrong(&mut browser, "nothing is wrong, in the light");
    browser.picture("calm");
    browser.prefers(&[("prefers-color-scheme", "dark"), ("prefers-reduced-motion", "reduce")]);
    nothing_wrong(&mut browser, "in the dark");
    assert_eq!(browser.eval("document.getAnimations().length"), 0, "something moves");
    browser.picture("calm-dark");

    // A path is text, whatever stands in it.
    let strange = "/admin/<script>document.title='hacked'</script><img/src=x/onerror=alert(1)>";
    assert_eq!(ask(&gateway, "shop", strange), 403);
    browser.wait("document.querySelector('#denials tbody tr')");
    let shown = browser.eval("document.querySelector('#denials tbody tr .asked').textContent");
    assert!(shown.as_str().unwrap().ends_with(&format!("shop.example{strange}")), "{shown}");
    assert_eq!(browser.eval("document.querySelectorAll('main script, main img').length"), 0);
    assert_eq!(browser.eval("document.title"), "probegate");
    // What is put before an administrator can be put before a shell.
    let command = browser.eval("document.querySelector('#denials code').textContent");
    let begins = format!("probegate explain -c {} ", gateway.config_path().display());
    let command = command.as_str().unwrap().replace(&begins, "printf '%s\\n' ");
    let words = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    assert_eq!(words, format!("--from\n127.0.0.1\nGET\nhttp://shop.example{strange}\n"));
    browser.eval("document.querySelector('.explain').open = true");
    nothing_wrong(&mut browser, "with something refused");

    // The gateway goes: what it said last stays, and the page says so.
    drop(gateway);
    browser.wait("document.querySelector('.going.lost')");
    browser.wait("document.querySelector('main .notice') && document.querySelector('.card')");
    nothing_wrong(&mut browser, "nobody answers");
    browser.picture("lost");

    let names: Vec<String> = (0..14).map(|number| format!("service-{number}")).collect();
    let (one, none, ill): ([&Upstream; 1], _, _) = ([&app], [&nobody], [&sick]);
    let apps: [&[&Upstream]; 3] = [&one, &[&app, &second], &[&app, &second, &sick]];
    let mut services: Vec<(&str, &[&Upstream])> =
        names.iter().map(String::as_str).zip(apps.into_iter().cycle()).collect();
    services.push(("customer-notifications-and-newsletters-of-central-europe", &one));
    services.push(("down", &none));
    services.push(("sick", &ill));
    let gateway = start(&services, "", top);
    for service in ["down", "sick"] {
        for target in ["/", "/healthz", "/readyz"] {
            ask(&gateway, service, target);
        }
    }
    exchange(
        gateway.admin(),
        format!(
            "PUT /services/service-1/maintenance HTTP/1.1\r\nHost: {}\r\nX-Probegate-Control: 1\r\n\r\n",
            gateway.admin()
        ),
    );
    wait_for_metric(
        &gateway,
        &format!(
            "probegate_upstream_checks_total{{service=\"down\",server=\"{}\",slot=\"\",result=\"failed\"}}",
            nobody.server()
        ),
        3.0,
    );
    browser.prefers(&[]);
    browser.size(1440, 900);
    look(&mut browser, &gateway);
    browser
        .wait("[...document.querySelectorAll('.card.bad h3')].map((name) => name.textContent).join() === 'down,sick'");
    browser.wait("document.getElementById('service-service-1').classList.contains('note')");
    nothing_wrong(&mut browser, "many services, some in trouble");
    browser.picture("trouble");
    browser.prefers(&[("prefers-color-scheme", "dark")]);
    nothing_wrong(&mut browser, "the same in the dark");
    browser.size(360, 740);
    nothing_wrong(&mut browser, "on a small screen");
    browser.picture("narrow");
    browser.eval("document.querySelector('.look input[type=checkbox]').click()");
    browser.wait("document.querySelectorAll('.card').length === 3");
}

/// What has the focus, for people.
fn focused(browser: &mut Browser) -> String {
    let text = browser.eval("(() => { const at = document.activeElement; return at === document.body ? 'nothing' : (at.getAttribute('aria-label') ?? at.textContent).trim(); })()");
    text.as_str().unwrap().to_owned()
}

/// Presses Tab until this has the focus. Whatever has it meanwhile can be seen to.
fn walk_to(browser: &mut Browser, name: &str) {
    let mut met = Vec::new();
    for _ in 0..60 {
        let at = focused(browser);
        if at == name {
            return;
        }
        met.push(at);
        browser.press("Tab", false);
        let seen = browser.eval("document.activeElement === document.body || getComputedStyle(document.activeElement).outlineStyle !== 'none'");
        assert_eq!(seen, true, "nobody sees that {} has the focus", met.last().unwrap());
    }
    panic!("no way to {name:?} by keys: {met:?}");
}

#[test]
fn everything_can_be_done_by_keys_alone_and_is_asked_about_first() {
    let app = Upstream::answering(|_| ok("answered"));
    let second = Upstream::answering(|_| ok("answered"));
    let top = "bans: {scanners: {offences: {status: [404]}, mode: enforce}}\n";
    let gateway = start(&[("shop", &[&app, &second])], "", top);
    let admin = gateway.admin();
    exchange(
        admin,
        format!("PUT /bans/203.0.113.9?reason=%3Cb%3E HTTP/1.1\r\nHost: {admin}\r\nX-Probegate-Control: 1\r\n\r\n"),
    );
    let mut browser = Browser::start();
    browser.size(1280, 900);
    look(&mut browser, &gateway);
    browser.wait("document.querySelector('#bans tbody tr')");

    browser.press("Tab", false);
    assert_eq!(focused(&mut browser), "Skip to the services");
    browser.press("Enter", false);
    walk_to(&mut browser, "Begin maintenance of shop");
    let drain = format!("Drain {} of shop", app.server());
    walk_to(&mut browser, &drain);
    browser.press("Enter", false);
    browser.wait("document.querySelector('dialog').open");
    assert_eq!(focused(&mut browser), "Cancel", "whoever presses Enter once too often changes nothing");
    nothing_wrong(&mut browser, "a question");
    browser.picture("question");
    browser.press("Escape", false);
    browser.wait("!document.querySelector('dialog').open");
    assert_eq!(focused(&mut browser), drain, "the focus is back where it was");
    let drained =
        format!("probegate_upstream_server_drained{{service=\"shop\",server=\"{}\",slot=\"\"}}", app.server());
    wait_for_metric(&gateway, &drained, 0.0);

    browser.press("Enter", false);
    browser.wait("document.querySelector('dialog').open");
    browser.press("Tab", false);
    assert_eq!(focused(&mut browser), "Drain");
    browser.press("Enter", false);
    browser.wait("!document.querySelector('dialog').open");
    wait_for_metric(&gateway, &drained, 1.0);
    browser.wait("document.getElementById('said').textContent.includes('is drained')");
    browser.wait("document.querySelector('.servers .badge.note')");
    let back = format!("Undrain {} of shop", app.server());
    assert_eq!(focused(&mut browser), back, "the button is another one in the same place");

    // The last server: the gateway objects, and whoever means it says so again.
    walk_to(&mut browser, &format!("Drain {} of shop", second.server()));
    browser.press("Enter", false);
    browser.wait("document.querySelector('dialog').open");
    browser.press("Tab", false);
    browser.press("Enter", false);
    browser.wait("document.querySelector('dialog .refused')");
    nothing_wrong(&mut browser, "a refusal");
    assert_eq!(focused(&mut browser), "Cancel");
    browser.picture("refusal");
    browser.press("Escape", false);

    walk_to(&mut browser, "Lift the ban of 203.0.113.9");
    browser.press(" ", false);
    browser.wait("document.querySelector('dialog').open");
    browser.press("Tab", false);
    browser.press(" ", false);
    browser.wait("document.querySelector('#bans .none')");
    browser.press("Tab", true);
    let other = browser.eval("document.activeElement !== document.body");
    assert_eq!(other, true, "the way goes on");
}

#[test]
fn a_token_is_asked_for_and_kept_nowhere() {
    let app = Upstream::answering(|_| ok("answered"));
    let issued = Authority::new("Test").issue(&["shop.example"]);
    let top = "tokens: {ops: {slots: [{name: people, env: PROBE_TOKEN}]}}\n";
    let gateway = Gateway::with(config(&[("shop", &[&app])], ", token: ops, open_metrics: true", top));
    let gateway = gateway.env("PROBE_TOKEN", TOKEN).file("cert.pem", &issued.cert).file("key.pem", &issued.key).start();
    wait_ready(&gateway);
    let mut browser = Browser::start();
    browser.size(1000, 700);
    browser.open(&page(&gateway));
    browser.wait("document.querySelector('.locked input')");
    nothing_wrong(&mut browser, "locked");
    browser.picture("locked");
    let enter = |browser: &mut Browser, token: &str| {
        browser.eval(
            "(() => { const field = document.querySelector('.locked input'); field.value = ''; field.focus(); })()",
        );
        browser.types(token);
        browser.press("Enter", false);
    };
    enter(&mut browser, "wrong");
    browser.wait("document.querySelector('.locked .refused')");
    enter(&mut browser, TOKEN);
    browser.wait("document.querySelector('.going.live') && document.querySelector('.card')");
    for kept in ["localStorage.length", "sessionStorage.length", "document.cookie.length"] {
        assert_eq!(browser.eval(kept), 0, "{kept}");
    }
    let shown = browser.eval(&format!("document.documentElement.outerHTML.includes('{TOKEN}')"));
    assert_eq!(shown, false, "the token stands on the page");
    browser.eval("document.querySelector('.card header button').click()");
    browser.wait("document.querySelector('dialog .go')");
    browser.eval("document.querySelector('dialog .go').click()");
    wait_for_metric(&gateway, "probegate_maintenance{service=\"shop\"}", 1.0);
    // A page that is opened anew knows nothing.
    browser.open(&page(&gateway));
    browser.wait("document.querySelector('.locked input')");
    let mut client = Client::connect(gateway.admin());
    client.send(format!("GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.admin()));
    assert_eq!(client.response().status, 403);
}

/// A gateway before a service with two slots, of which the first gets requests.
fn slotted(blue: &str, green: &str) -> Gateway {
    let app = Upstream::answering(|_| ok("answered"));
    let slots = format!(
        "    slots: {{blue: {{servers: [{blue:?}]}}, green: {{servers: [{green:?}]}}}}\n    active: blue\n    routes:"
    );
    let text = config(&[("shop", &[&app])], "", "");
    let text = text.replace(&format!("servers: [{:?}], ", app.server()), "").replace("    routes:", &slots);
    let issued = Authority::new("Test").issue(&["shop.example"]);
    let gateway = Gateway::with(text).file("cert.pem", &issued.cert).file("key.pem", &issued.key).start();
    wait_ready(&gateway);
    gateway
}

#[test]
fn a_slot_that_gets_no_requests_may_be_stopped_and_one_that_does_may_not() {
    let app = Upstream::answering(|_| ok("answered"));
    let (up, down) = (app.server(), free_address().to_string());
    let mut browser = Browser::start();
    for (blue, green, level) in [(&up, &down, "good"), (&down, &up, "bad")] {
        let gateway = slotted(blue, green);
        let labels = |server: &str| {
            let slot = if server == blue { "blue" } else { "green" };
            format!("service=\"shop\",server=\"{server}\",slot=\"{slot}\"")
        };
        let failed = format!("probegate_upstream_checks_total{{{},result=\"failed\"}}", labels(&down));
        eventually("the one that is stopped is down", || {
            (metric(&gateway, &failed) >= 3.0
                && (metric(&gateway, &format!("probegate_upstream_server_up{{{}}}", labels(&up))) - 1.0).abs() < 0.1)
                .then_some(())
        });
        let in_turn =
            |server: &str| metric(&gateway, &format!("probegate_upstream_server_in_turn{{{}}}", labels(server))) > 0.5;
        assert_eq!((in_turn(blue), in_turn(green)), (true, false));
        // Every series of a server has the same labels, so that queries may join them, and a server has one of each.
        let series = metrics(&gateway);
        for name in [
            "upstream_server_in_turn",
            "upstream_server_up",
            "upstream_server_drained",
            "upstream_requests_total",
            "upstream_failures_total",
            "upstream_ejections_total",
            "upstream_ejected",
            "upstream_in_flight",
        ] {
            let of: Vec<_> = series.keys().filter(|key| key.starts_with(&format!("probegate_{name}{{"))).collect();
            assert_eq!(of.len(), 2, "{of:?}");
            for server in [blue, green] {
                assert!(series.contains_key(&format!("probegate_{name}{{{}}}", labels(server))), "{of:?}");
            }
        }
        let told = get_admin(gateway.admin(), "/status").json()["services"][0]["servers"].clone();
        assert_eq!((&told[0]["slot"], &told[0]["in_turn"]), (&"blue".into(), &true.into()), "{told}");
        assert_eq!((&told[1]["slot"], &told[1]["in_turn"]), (&"green".into(), &false.into()), "{told}");
        look(&mut browser, &gateway);
        browser.wait(&format!("document.querySelector('#service-shop').classList.contains('{level}')"));
        let said = browser.eval("document.querySelector('#service-shop .badge').textContent");
        assert_eq!(said, if level == "good" { "fine" } else { "no server takes requests" });
        nothing_wrong(&mut browser, level);
    }
}

#[test]
fn slots_are_shown_and_switched_after_a_question() {
    let (blue, green) = (Upstream::answering(|_| ok("blue")), Upstream::answering(|_| ok("green")));
    let gateway = slotted(&blue.server(), &green.server());
    let mut browser = Browser::start();
    browser.size(1280, 800);
    look(&mut browser, &gateway);
    browser.wait("document.querySelector('.slots button')");
    nothing_wrong(&mut browser, "slots");
    browser.picture("slots");
    browser.eval("document.querySelector('.slots button').click()");
    browser.wait("document.querySelector('dialog .go')");
    browser.eval("document.querySelector('dialog .go').click()");
    browser.wait("document.getElementById('said').textContent === 'The switch to green begins.'");
    let told = get_admin(gateway.admin(), "/services/shop/switch").json();
    assert_eq!(told["switch"]["to"], "green", "{told}");
}
