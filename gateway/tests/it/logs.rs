//! The access log, and what must never be in it. The metrics are in `metrics`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{
    Client, Config, Folder, Gateway, TOKEN, Upstream, accepts, eventually, exchange, free_address, get, get_admin, ok,
    run,
};

fn app() -> Upstream {
    Upstream::answering(|_| ok("answered"))
}

fn line_of(text: &str, part: &str) -> usize {
    text.lines().position(|line| line.contains(part)).unwrap() + 1
}

#[test]
fn a_json_line_tells_who_what_and_why() {
    let app = app();
    let config = Config::before(&app)
        .top("client_ip: {trusted_proxies: [127.0.0.1]}\nnetworks: {office: [198.51.100.0/24]}")
        .top("tokens: {door: {header: X-Door, slots: [{name: first, env: PROBE_TOKEN}]}}")
        .service("routes:\n  - path: /in\n    allow: {any: [{network: office}, {token: door}]}\n  - {path: /shut, allow: {network: office}, deny: 404}");
    let gateway = Gateway::with(&config).env("PROBE_TOKEN", TOKEN).start();
    let mut client = Client::connect(gateway.address());
    client.send(format!(
        "GET /in?a=1 HTTP/1.1\r\nHost: shop.example:81\r\nX-Forwarded-For: 10.0.0.1, 203.0.113.7\r\nX-Door: {TOKEN}\r\n\
         User-Agent: probe/1 \"quoted\"\r\nReferer: http://else.where/?token=abc&page=2\r\nX-Request-ID: mine\r\n\r\n"
    ));
    assert_eq!(client.response().status, 200);
    let line = gateway.access("/in?a=1");
    let keys: Vec<_> = line.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        keys.join(" "),
        "time request_id client client_source peer method target protocol host status origin decision service policy policy_line token \
         upstream upstream_status upstream_ms duration_ms received sent user_agent referer"
    );
    let text = config.to_string();
    for (key, value) in [
        ("client", json!("203.0.113.7")),
        ("client_source", json!("xff[-1]")),
        ("peer", json!("127.0.0.1")),
        ("method", json!("GET")),
        ("protocol", json!("HTTP/1.1")),
        ("host", json!("shop.example:81")),
        ("status", json!(200)),
        ("decision", json!("forward")),
        ("service", json!("app")),
        ("policy", json!("route:/in")),
        ("policy_line", json!(line_of(&text, "allow: {any:"))),
        ("token", json!("door/first")),
        ("upstream", json!(app.server())),
        ("upstream_status", json!(200)),
        ("sent", json!(8)),
        ("user_agent", json!("probe/1 \"quoted\"")),
        ("referer", json!("http://else.where/?token=[redacted]&page=2")),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    let (first_byte, whole) = (line["upstream_ms"].as_f64().unwrap(), line["duration_ms"].as_f64().unwrap());
    assert!(first_byte > 0.0 && first_byte <= whole && whole < 15_000.0, "{line}");
    assert!(line["received"].as_u64().unwrap() > 100);
    let id = line["request_id"].as_str().unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(app.request().all("x-request-id"), [id], "the app got the same id, and not the client's");

    let refused = exchange(gateway.address(), "GET /shut HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n");
    let line = gateway.access("/shut");
    assert_eq!(line["request_id"], refused.json()["request_id"], "what the client saw leads to its line");
    for (key, value) in [
        ("status", json!(404)),
        ("decision", json!("deny")),
        ("reason", json!("outside_network")),
        ("policy", json!("route:/shut")),
        ("policy_line", json!(line_of(&text, "path: /shut"))),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    assert_eq!((line.get("upstream"), line.get("upstream_ms"), line.get("token")), (None, None, None));
}

#[test]
fn every_decision_has_its_name() {
    let app = Upstream::scripted(|connection| {
        let Some(request) = connection.request() else { return };
        if request.target() != "/fails" {
            connection.write(ok(""));
        }
    });
    let config = Config::before(&app)
        .top("networks: {nobody: [192.0.2.1/32]}\nlimits: {none: {rate: 1/d, burst: 0}}\nclient_ip: {trusted_proxies: [127.0.0.2]}")
        .service("probes: {version: {serve: answer}}\nroutes:\n  - {path: /shut, allow: {network: nobody}}\n  - {path: /few, limits: [none]}");
    let gateway = Gateway::start(config);
    get(gateway.address(), "/few");
    for (target, status, decision, reason) in [
        ("/passes", 200, "forward", None),
        ("/version", 200, "answer", None),
        ("/shut", 403, "deny", Some("outside_network")),
        ("/few", 429, "limit", Some("limit_exceeded")),
        ("//readyz", 400, "refuse", Some("path_ambiguous")),
        ("/fails", 502, "fail", Some("upstream_closed")),
    ] {
        assert_eq!(get(gateway.address(), target).status, status, "{target}");
        let line = gateway.wait_for_log(|line| line["target"] == target && line["status"] == status);
        assert_eq!(line["decision"], decision, "{target}");
        assert_eq!(line.get("reason").and_then(Value::as_str), reason, "{target}");
    }
    let mut unknown = Client::connect_from([127, 0, 0, 2], gateway.address());
    unknown.send("GET /readyz HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: nonsense\r\n\r\n");
    assert_eq!(unknown.response().status, 403);
    let line = gateway.access("/readyz");
    assert_eq!((&line["client"], &line["client_source"]), (&json!(null), &json!("unknown: malformed@-1")));
    assert_eq!((&line["policy"], &line["reason"]), (&json!("probe:readyz"), &json!("identity_unknown")));
}

#[test]
fn the_combined_format_is_nginxs_in_a_file() {
    let app = app();
    let folder = Folder::new();
    let path = folder.path().join("access.log");
    let config = Config::before(&app)
        .top(&format!("log: {{access: {{format: combined, to: {}}}}}", path.display()))
        .top("client_ip: {trusted_proxies: [127.0.0.1]}");
    let gateway = Gateway::start(config);
    let requests = [
        "GET /plain HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.7\r\nUser-Agent: Mozilla/5.0 (X11)\r\nReferer: http://b/c?d=e\r\n\r\n",
        "GET /none?token=hush&a=b HTTP/1.0\r\nX-Forwarded-For: 2001:db8::7\r\n\r\n",
        "GET /unknown HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: nobody knows\r\nUser-Agent: a\"b\\c\u{e9}\r\n\r\n",
        "GET  /two-spaces HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /post HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.7\r\nContent-Length: 3\r\n\r\nabc",
    ];
    for request in requests {
        let bytes: Vec<u8> = request.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        exchange(gateway.address(), bytes);
    }
    let text = eventually("all lines", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        (text.ends_with('\n') && text.lines().count() == requests.len()).then_some(text)
    });
    // What log analysers look for: address, user, time, request, status, bytes, referer, agent.
    let pattern = r#"^[0-9a-f.:]+ - - \[[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} \+0000\] "[^"]*" [1-5][0-9]{2} [0-9]+ "[^"]*" "[^"]*"$"#;
    let matching = Command::new("grep").args(["-E", "-c", pattern]).arg(&path).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&matching.stdout).trim(), requests.len().to_string(), "{text}");
    let lines: Vec<_> = text.lines().collect();
    for (line, start, end) in [
        (lines[0], "198.51.100.7 - - [", "] \"GET /plain HTTP/1.1\" 200 8 \"http://b/c?d=e\" \"Mozilla/5.0 (X11)\""),
        (lines[1], "2001:db8::7 - - [", "] \"GET /none?token=[redacted]&a=b HTTP/1.0\" 200 8 \"-\" \"-\""),
        (lines[2], "127.0.0.1 - - [", "] \"GET /unknown HTTP/1.1\" 200 8 \"-\" \"a\\x22b\\x5Cc\\xE9\""),
        (lines[4], "198.51.100.7 - - [", "] \"POST /post HTTP/1.1\" 200 8 \"-\" \"-\""),
    ] {
        assert!(line.starts_with(start) && line.ends_with(end), "{line}");
    }
    assert!(gateway.access_log().is_empty(), "and nothing on standard error");
}

#[test]
fn off_means_no_line_at_all() {
    let app = app();
    let gateway = Gateway::start(Config::before(&app).top("log: {access: {format: off}}"));
    for target in ["/", "/readyz", "//readyz"] {
        get(gateway.address(), target);
    }
    exchange(gateway.address(), "nonsense\r\n\r\n");
    gateway.signal("TERM");
    let mut gateway = gateway;
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert!(gateway.access_log().is_empty(), "{:?}", gateway.access_log());
}

/// Requests that carry `secret` wherever a secret has its place, for every way a request can end.
fn requests_with(secret: &str) -> Vec<String> {
    let fields = format!(
        "Authorization: Bearer {secret}\r\nProxy-Authorization: Basic {secret}\r\nCookie: sessionid={secret}\r\nX-Probe-Token: {secret}\r\n"
    );
    let query = format!("?token={secret}&a=1&api_key={secret};password={secret}&%74oken={secret}");
    let referer = format!("Referer: https://shop.example/reset{query}\r\n");
    let mut requests = Vec::new();
    for target in ["/", "/readyz", "/shut", "//readyz", "/%zz", "http://a/absolute", "/fails"] {
        requests.push(format!("GET {target}{query} HTTP/1.1\r\nHost: a\r\n{fields}{referer}\r\n"));
    }
    requests.extend([
        format!("GET /host{query} HTTP/1.1\r\nHost: other.example\r\n{fields}\r\n"),
        format!("GET /no-host{query} HTTP/1.1\r\n{fields}\r\n"),
        format!("GET /version{query} HTTP/3.0\r\nHost: a\r\n{fields}\r\n"),
        format!("GET /field{query} HTTP/1.1\r\nHost: a\r\n{fields}bad field: {secret}\r\n\r\n"),
        format!("GET /control{query} HTTP/1.1\r\nHost: a\r\nCookie: {secret}\x01\r\n\r\n"),
        format!("GET /twice{query} HTTP/1.1\r\nHost: a\r\n{fields}X-Probe-Token: {secret}\r\n\r\n"),
        format!("GET /many{query} HTTP/1.1\r\nHost: a\r\n{}\r\n", fields.repeat(40)),
        format!(
            "GET /framing{query} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        ),
        format!("POST /large{query} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 99999999\r\n\r\n"),
        format!("GET /userinfo HTTP/1.1\r\nHost: user:{secret}@a\r\n\r\n"),
        format!("GET http://user:{secret}@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        // A head that has lost its first line.
        format!("Cookie: sessionid={secret}\r\nHost: a\r\n\r\n"),
        format!("Authorization: {secret}\r\nHost: a\r\n\r\n"),
        format!("X-Probe-Token: {secret}\r\nHost: a\r\n\r\n"),
        format!("GET /long{query}&x={} HTTP/1.1\r\nHost: a\r\n{fields}\r\n", "y".repeat(9000)),
    ]);
    requests
}

#[test]
fn secrets_are_in_no_log() {
    let secret = "s3cr3t0123456789s3cr3t0123456789";
    let app = Upstream::scripted(|connection| {
        while let Some(request) = connection.request() {
            if request.target().starts_with("/fails") {
                return;
            }
            connection.write(ok(""));
        }
    });
    let folder = Folder::new();
    for format in ["json", "combined"] {
        let path = folder.path().join(format);
        let config = Config::before(&app)
            .top(&format!("log: {{level: trace, access: {{format: {format}, to: {}}}}}", path.display()))
            .top("tokens: {probe: {slots: [{name: a, env: PROBE_TOKEN}]}}")
            .service("hosts: [a]\nprobes: {readyz: {allow: {token: probe}}}\nroutes:\n  - {path: /shut, allow: {token: probe}}");
        let mut gateway = Gateway::with(config).env("PROBE_TOKEN", secret).start();
        let requests = requests_with(secret).into_iter().chain(requests_with("s3cr3t-guess-s3cr3t-guess-s3cr3t"));
        let mut count = 0;
        for request in requests {
            let mut client = Client::connect(gateway.address());
            client.send(request);
            client.head();
            count += 1;
        }
        let text = eventually("all lines", || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            (text.ends_with('\n') && text.lines().count() >= count).then_some(text)
        });
        std::fs::write(gateway.config_path(), "tokens: {probe: {slots: [{name: s3cr3t, value: s3cr3t0123456789}}")
            .unwrap();
        gateway.signal("HUP");
        gateway.wait_for_log(|line| line["message"].as_str().is_some_and(|message| message.contains("reload refused")));
        gateway.signal("TERM");
        assert_eq!(gateway.wait_exit().code(), Some(0));
        // The refused configuration is the operator's own text; everything else came from clients.
        let diagnostics = gateway.log_lines().into_iter().filter(|line| !line.contains("reload refused"));
        for line in text.lines().map(str::to_owned).chain(diagnostics) {
            assert!(!line.contains("s3cr3t"), "{line}");
        }
        assert!(text.contains("token=[redacted]"), "{text}");
    }
}

/// What stands outside of the strings of a JSON text.
fn outside_strings(text: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    let outside = text.chars().filter(|&c| {
        let was = inside;
        match c {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => inside = !inside,
            _ => {}
        }
        !was && !inside
    });
    outside.collect()
}

#[test]
fn nobody_can_forge_a_line() {
    let app = app();
    let folder = Folder::new();
    let path = folder.path().join("access.log");
    let gateway = Gateway::start(Config::before(&app).top(&format!("log: {{access: {{to: {}}}}}", path.display())));
    let forged = "\\n{\"request_id\":\"forged\"}";
    let mut requests: Vec<Vec<u8>> = Vec::new();
    for value in [
        &b"a\"b\\c\tt"[..],
        b"\",\"client\":\"10.0.0.1",
        b"\xff\xfe\xc3(",
        b"\xe2\x80\xa8\xe2\x80\xa9\xc2\x85",
        b"\x1b[2J",
        b"\x7f",
    ] {
        for prefix in [&b"User-Agent: "[..], b"Referer: http://"] {
            requests.push([b"GET /agent HTTP/1.1\r\nHost: a\r\n", prefix, value, b"\r\n\r\n"].concat());
        }
    }
    for target in ["/%0a%0d%22", &format!("/{forged}"), "/\"quoted\"", "/<script>", "/\u{7f}", "/a\u{e9}\u{2028}"] {
        requests.push(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes());
    }
    requests.push(b"GET /\xff\xfe\x80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec());
    requests.push(b"G\"ET /\x00\x01\x1b HTTP/1.1\r\nHost: a\r\n\r\n".to_vec());
    requests.push(b"GET / HTTP/1.1\r\nHost: a\"},{\"b\":\"\r\n\r\n".to_vec());
    requests.push(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n{\"request_id\":\"forged\"}\n\r\n\r\n".to_vec());
    requests.push([&b"GET /"[..], &[b'"'; 3000], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
    for request in &requests {
        let mut client = Client::connect(gateway.address());
        client.send(request);
        client.head();
    }
    let bytes = eventually("all lines", || {
        let bytes = std::fs::read(&path).unwrap_or_default();
        (bytes.split(|byte| *byte == b'\n').count() > requests.len()).then_some(bytes)
    });
    let text = String::from_utf8(bytes).expect("UTF-8, whatever clients send");
    assert_eq!(text.lines().count(), requests.len(), "one line for each request");
    for line in text.lines() {
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
        let parsed: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_ne!(parsed["request_id"], "forged");
        assert_eq!(parsed["peer"], "127.0.0.1");
        assert_ne!(parsed["client"], "10.0.0.1");
        // A parser that takes the last of two equal keys must not be fooled either.
        let keys = parsed.as_object().unwrap().keys();
        assert_eq!(outside_strings(line).matches(':').count(), keys.count(), "{line}");
    }
}

#[test]
fn a_standard_error_that_nobody_reads_holds_nobody_up() {
    let app = app();
    let [to, admin] = [free_address(), free_address()];
    let folder = Folder::new();
    let config = crate::http2::with_http2(&Config::before(&app).top("log: {level: trace, access: {format: off}}"))
        .replacen("address: \"127.0.0.1:0\", http2", &format!("address: \"{to}\", http2"), 1)
        .replacen("admin: {address: \"127.0.0.1:0\"}", &format!("admin: {{address: \"{admin}\"}}"), 1);
    let path = folder.write("probegate.yaml", config);
    let mut child = Command::new(env!("CARGO_BIN_EXE_probegate"))
        .args(["run", "--config"])
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = child.stderr.take().unwrap();
    eventually("it serves", || accepts(to).then_some(()));
    let lost = || {
        let text = get_admin(admin, "/metrics").text();
        let line = text.lines().find(|line| line.starts_with("probegate_diagnostics_dropped_total"));
        line.and_then(|line| line.rsplit(' ').next()).and_then(|count| count.parse::<f64>().ok())
    };
    // At this level HTTP/2 says a lot.
    let url = format!("http://{to}/");
    eventually("lines are lost", || {
        let ended = run(Command::new("h2load").args(["-n", "200", "-c", "2", &url]));
        assert!(ended.out.contains("200 succeeded, 0 failed"), "{ended:?}");
        lost().filter(|lost| *lost > 100.0)
    });
    assert_eq!(get(to, "/still").status, 200);
    // Whoever reads in the end is told.
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(stderr).split(b'\n').map_while(Result::ok);
        lines.filter(|line| String::from_utf8_lossy(line).contains("diagnostics lines were dropped")).count()
    });
    assert_eq!(get(to, "/still").status, 200);
    let status = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let status = eventually("the gateway ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert!(reader.join().unwrap() > 0);
}
