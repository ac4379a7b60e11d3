//! The attack files (`gateway/tests/attacks/`), against the real program: what the client gets, what the log and the metrics say, and
//! every byte that the app saw.
//!
//! `UPDATE_GOLDENS=1` writes down what happens instead of comparing it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::corpus::{Case, Group, escaped, groups};
use crate::harness::{Client, Config, Connection, End, Gateway, Response, Upstream, eventually, metrics, ok};

/// Sent behind every case, in the same write: what belongs to the case must not swallow it, and a refusal must not believe it.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDENS").is_some()
}

/// Compares, or writes the files anew.
fn settle(mut groups: Vec<Group>, found: Vec<Vec<Case>>) {
    let mut differences = Vec::new();
    for (group, found) in groups.iter_mut().zip(found) {
        if updating() {
            group.cases = found;
            group.write();
            continue;
        }
        for (expected, found) in group.cases.iter().zip(&found) {
            if expected.outcome != found.outcome || expected.saw != found.saw {
                differences.push(format!(
                    "{}: {}\n  expected {:?}\n  and saw  {}\n  found    {:?}\n  and saw  {}",
                    group.path.display(),
                    expected.name,
                    expected.outcome,
                    escaped(&expected.saw),
                    found.outcome,
                    escaped(&found.saw)
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

/// `needle` replaced wherever it stands behind `before`; for what differs from run to run.
fn masked(mut bytes: Vec<u8>, before: &str, mask: &str, ends: impl Fn(u8) -> bool) -> Vec<u8> {
    let before = before.as_bytes();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(before.len()).position(|window| window == before) {
        let start = at + found + before.len();
        let length = bytes[start..].iter().take_while(|&&byte| !ends(byte)).count();
        bytes.splice(start..start + length, mask.bytes());
        at = start + mask.len();
    }
    bytes
}

// --- requests ------------------------------------------------------------------------------------------------------------

/// The gateway with all that the cases of requests need, and its app.
struct Stage {
    app: Upstream,
    gateway: Gateway,
    /// Bytes of each connection to the app that belong to earlier cases.
    seen: Vec<usize>,
    /// Lines of the access log that belong to earlier cases.
    logged: usize,
}

/// Says its target; agrees to switch on `/ws`, and is silent then.
fn app(connection: &mut Connection) {
    while let Some(request) = connection.request() {
        if request.target() == "/ws" && request.field("upgrade").is_some() {
            connection.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
            connection.wait_closed();
            return;
        }
        connection.write(ok(&request.target()));
    }
}

impl Stage {
    fn new() -> Self {
        let app = Upstream::scripted(app);
        let service = concat!(
            "upgrades: [websocket]\nmax_body: 1KiB\nprobes: {readyz: {allow: {network: nobody}}}\n",
            "routes: [{path: /admin/, allow: {network: nobody}}]"
        );
        // Streaming shows what is made of each byte; buffered, a body would have a length again.
        let config = Config::before(&app)
            .streaming()
            .top("networks: {nobody: [192.0.2.0/24]}\ntokens: {key: {header: X-Probe-Token, slots: [{name: one, value: 6f1d0c9be2a8437fb5d3a1c0e9f87d64}]}}")
            .service(service);
        let gateway = Gateway::start(config);
        Self { app, gateway, seen: Vec::new(), logged: 0 }
    }

    /// Plays one case, and tells what happened. `step`: bytes for each write.
    fn play(&mut self, given: &Case, next: &[u8], step: usize) -> Case {
        let mut case = Case { outcome: Vec::new(), saw: Vec::new(), ..given.clone() };
        let alone = given.has("alone");
        let bytes = if alone { given.sent.clone() } else { [&given.sent[..], NEXT.as_bytes()].concat() };
        let mut client = Client::connect(self.gateway.address());
        for piece in bytes.chunks(step) {
            if !client.try_send(piece) {
                break;
            }
        }
        if given.has("leaves") {
            client.half_close();
        }
        let (answers, followed) = answers(&mut client, given, alone);
        // Each answer but interim ones has its line in the log.
        let finals = answers.iter().filter(|(status, _)| !matches!(status, 100 | 102..=199)).count();
        let lines = self.lines(finals.max(1) + usize::from(followed));
        let mut reasons = lines.iter();
        for (status, end) in &answers {
            if matches!(status, 100 | 102..=199) {
                case.outcome.push(status.to_string());
                continue;
            }
            let line = reasons.next().unwrap();
            assert_eq!(line["status"], *status, "{}: {line}", case.name);
            case.outcome.push(format!("{status} {end} {}", reason(line)));
        }
        if finals == 0 {
            case.outcome.push(format!("nothing {}", reason(reasons.next().unwrap())));
        }
        // Chunks that come in pieces go on in other pieces.
        let expected = [&given.saw[..], if followed { next } else { b"" }].concat();
        let comparable = step == usize::MAX || !expected.windows(7).any(|window| window == b"chunked");
        case.saw = self.saw(Some(&expected).filter(|_| comparable && !updating()));
        if followed {
            // The request behind the case came through as what it is.
            let rest = case
                .saw
                .strip_suffix(next)
                .unwrap_or_else(|| panic!("{}: the next request came through as {}", case.name, escaped(&case.saw)));
            case.saw.truncate(rest.len());
        }
        case
    }

    /// The next lines of the access log.
    fn lines(&mut self, count: usize) -> Vec<Value> {
        let lines = eventually("the lines of the log", || {
            Some(self.gateway.access_log()).filter(|lines| lines.len() >= self.logged + count)
        });
        let lines = lines[self.logged..].to_vec();
        self.logged += lines.len();
        lines
    }

    /// What the app received since the last time, connection by connection. Of a request that the gateway has given up, it may still have to
    /// read the last part: then it is waited for, for a while.
    fn saw(&mut self, expected: Option<&Vec<u8>>) -> Vec<u8> {
        let late = Instant::now() + Duration::from_secs(10);
        loop {
            let received: Vec<_> = (0..self.app.connections()).map(|number| self.app.received(number)).collect();
            self.seen.resize(received.len(), 0);
            let saw = received.iter().zip(&self.seen).flat_map(|(bytes, seen)| bytes[*seen..].to_vec()).collect();
            let saw = masked(saw, "\r\nX-Request-ID: ", "ID", |byte| byte == b'\r');
            let port = format!("X-Forwarded-Port: {}\r\n", self.gateway.address().port());
            let saw = masked(saw, &port[..port.len() - 7], "PORT", |byte| byte == b'\r');
            if expected.is_none_or(|expected| saw == *expected) || Instant::now() >= late {
                self.seen = received.iter().map(Vec::len).collect();
                return saw;
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}

/// The answers until the connection ends or the next request has its own; whether it has.
fn answers(client: &mut Client, given: &Case, alone: bool) -> (Vec<(u16, &'static str)>, bool) {
    let mut answers = Vec::new();
    if given.has("leaves") {
        client.expect_closed();
        return (answers, false);
    }
    loop {
        let to_head = answers.is_empty() && given.sent.starts_with(b"HEAD ");
        let response = if to_head { client.response_to_head() } else { client.response() };
        own_words(given, &response);
        match response.status {
            101 => {
                answers.push((101, "switched"));
                client.half_close();
                client.expect_closed();
                return (answers, false);
            }
            100..=199 => answers.push((response.status, "")),
            200 if !to_head && response.body == b"/next" => return (answers, true),
            status if response.closes() => {
                answers.push((status, "close"));
                client.half_close();
                client.expect_closed();
                return (answers, false);
            }
            status => {
                answers.push((status, "open"));
                if alone {
                    return (answers, false);
                }
            }
        }
    }
}

fn reason(line: &Value) -> &str {
    line["reason"].as_str().filter(|reason| !reason.is_empty()).unwrap_or("-")
}

/// What the gateway itself says carries nobody's banner, and is its own page.
fn own_words(case: &Case, response: &Response) {
    for field in ["server", "via", "x-powered-by"] {
        assert_eq!(response.field(field), None, "{}", case.name);
    }
    if response.status >= 400 {
        let kind = response.field("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/plain") || kind.contains("json") || kind.contains("html"), "{}", case.name);
        let to_head = case.sent.starts_with(b"HEAD ");
        assert!(to_head || !response.body.is_empty(), "{}: a refusal without a word", case.name);
    }
}

/// Every reason in the outcomes, with how often it stands there.
fn reasons(cases: &[Vec<Case>]) -> BTreeMap<String, f64> {
    let mut reasons = BTreeMap::new();
    for line in cases.iter().flatten().flat_map(|case| &case.outcome) {
        if let Some(reason) = line.split(' ').next_back().filter(|reason| reason.contains('_')) {
            *reasons.entry(reason.to_owned()).or_default() += 1.0;
        }
    }
    reasons
}

/// The refusals that a gateway has counted, by reason.
fn refusals(gateway: &Gateway) -> BTreeMap<String, f64> {
    let mut refusals = BTreeMap::new();
    for (series, value) in metrics(gateway) {
        if let Some(labels) = series.strip_prefix("probegate_refusals_total{") {
            let reason = labels.split("reason=\"").nth(1).unwrap().split('"').next().unwrap();
            *refusals.entry(reason.to_owned()).or_default() += value;
        }
    }
    refusals.retain(|_, count| *count > 0.0);
    refusals
}

#[test]
fn every_attack_gets_its_answer_and_the_app_sees_what_is_written_down_and_nothing_else() {
    let groups = groups("request-");
    let mut stage = Stage::new();
    let mut found = Vec::new();
    for group in &groups {
        let next = group.define("next");
        found.push(group.cases.iter().map(|case| stage.play(case, next, usize::MAX)).collect());
    }
    let count: usize = found.iter().map(Vec::len).sum();
    assert!(count >= 100, "{count} cases");
    let expected = reasons(&found);
    eventually("the refusals are counted", || (refusals(&stage.gateway) == expected).then_some(()));
    settle(groups, found);
}

#[test]
fn attacks_that_come_byte_by_byte_get_the_same_answer() {
    if updating() {
        return;
    }
    let mut stage = Stage::new();
    let mut count = 0;
    for group in groups("request-") {
        let next = group.define("next");
        for case in group.cases.iter().filter(|case| case.has("split")) {
            for step in [1, 7] {
                let found = stage.play(case, next, step);
                assert_eq!(found.outcome, case.outcome, "{}", case.name);
                // Chunks go on as they come; what they hold is the same.
                if !found.saw.windows(7).any(|window| window == b"chunked") {
                    assert_eq!(escaped(&found.saw), escaped(&case.saw), "{}", case.name);
                }
                count += 1;
            }
        }
    }
    assert!(count >= 20, "{count} cases");
}

// --- answers -------------------------------------------------------------------------------------------------------------

/// What a client asks the app for whose answer the case is.
fn question(case: &Case) -> String {
    let method = if case.has("head") { "HEAD" } else { "GET" };
    let version = if case.has("http10") { "1.0" } else { "1.1" };
    format!("{method} /bad HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n")
}

/// Plays one case: what the client sees, how the connection ends, what the log says, and whether the connection to the app is used again.
fn answered(gateway: SocketAddr, given: &Case, log: impl Fn() -> Value, app: &Upstream) -> Case {
    let mut case = Case { outcome: Vec::new(), saw: Vec::new(), ..given.clone() };
    let mut client = Client::connect(gateway);
    client.send(question(given));
    let (bytes, end) = client.rest();
    let line = log();
    let own = bytes.starts_with(b"HTTP/1.1 50") && reason(&line) != "-";
    // A page of the gateway's own is told by its status; what is passed on, byte for byte.
    if !own {
        let bytes = masked(bytes, "\r\nDate: ", "DATE", |byte| byte == b'\r');
        case.saw = masked(bytes, "\"request_id\":\"", "ID", |byte| byte == b'"');
    }
    let before = app.connections();
    let mut other = Client::connect(gateway);
    other.send("GET /good HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(other.response().text(), "clean", "{}", given.name);
    log();
    let again = if app.connections() == before { "reused" } else { "given up" };
    let end = if end == End::Reset { "reset" } else { "close" };
    case.outcome.push(format!("{} {end} {}", line["status"], reason(&line)));
    case.outcome.push(format!("the connection to the app is {again}"));
    case
}

#[test]
fn every_broken_answer_is_refused_or_visibly_broken_off_and_poisons_nobody() {
    let groups = groups("answer-");
    let mut found = Vec::new();
    for group in &groups {
        let mut results = Vec::new();
        for case in &group.cases {
            let (answer, ends) = (case.sent.clone(), case.has("ends"));
            let app = Upstream::scripted(move |connection| {
                while let Some(request) = connection.request() {
                    if request.target() == "/good" {
                        connection.write(ok("clean"));
                        continue;
                    }
                    connection.write(&answer);
                    if ends {
                        return;
                    }
                }
            });
            let gateway = Gateway::start(Config::before(&app).upstream("response_timeout: 20s"));
            let next = std::cell::Cell::new(0);
            let log = || {
                let at = next.replace(next.get() + 1);
                eventually("a line of the log", || gateway.access_log().get(at).cloned())
            };
            results.push(answered(gateway.address(), case, log, &app));
            let expected = reasons(std::slice::from_ref(&vec![results.last().unwrap().clone()]));
            eventually("the failure is counted", || (refusals(&gateway) == expected).then_some(()));
        }
        found.push(results);
    }
    settle(groups, found);
}

// --- many at once --------------------------------------------------------------------------------------------------------

#[test]
fn rfc_9112_9_3_2_many_requests_in_one_write_are_answered_in_order_until_one_is_malformed() {
    let app = Upstream::answering(|request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        if request.line().starts_with("HEAD ") {
            return b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n".to_vec();
        }
        ok(&format!("{} {body}", request.target()))
    });
    let gateway = Gateway::start(
        Config::before(&app)
            .top("networks: {nobody: [192.0.2.0/24]}")
            .service("routes: [{path: /admin/, allow: {network: nobody}}]"),
    );
    let (mut sent, mut reached) = (String::new(), Vec::new());
    for number in 0..200 {
        let (target, rest) = match number % 5 {
            0 => (format!("GET /{number}"), String::new()),
            1 => (format!("POST /{number}"), format!("Content-Length: 3\r\n\r\n{number:03}")),
            2 => (
                format!("PUT /{number}"),
                format!("Transfer-Encoding: chunked\r\n\r\n3\r\n{number:03}\r\n0\r\nX: y\r\n\r\n"),
            ),
            3 => (format!("GET /admin/{number}"), String::new()),
            _ => (format!("HEAD /{number}"), String::new()),
        };
        let rest = if rest.is_empty() { "\r\n".to_owned() } else { rest };
        sent.push_str(&format!("{target} HTTP/1.1\r\nHost: a\r\n{rest}"));
        if number % 5 != 3 {
            reached.push(target.split(' ').nth(1).unwrap().to_owned());
        }
    }
    sent.push_str("GET /last HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    sent.push_str("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut client = Client::connect(gateway.address());
    let mut sender = client.sender();
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut sender, sent.as_bytes()).unwrap());
        for number in 0..200 {
            if number % 5 == 4 {
                assert_eq!(client.response_to_head().status, 200, "{number}");
                continue;
            }
            let response = client.response();
            let expected = match number % 5 {
                0 => (200, format!("/{number} ")),
                3 => (403, response.text()),
                _ => (200, format!("/{number} {number:03}")),
            };
            assert_eq!((response.status, response.text()), expected, "{number}");
        }
    });
    let last = client.response();
    assert_eq!((last.status, last.closes()), (400, true));
    client.half_close();
    client.expect_closed();
    assert_eq!(app.targets(), reached);
}
