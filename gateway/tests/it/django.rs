//! The real Django of `examples/django` under gunicorn, behind the gateway with the example's configuration, asked with the real `curl`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::harness::{
    self, APP_TOKEN, Folder, Gateway, Program, Response, TOKEN, curl, eventually, metrics, root, run,
};
use crate::readme;

/// Not internal in the example, and no trusted proxy.
const STRANGER: &str = "127.0.0.9";
/// In the place of the example's balancer.
const PROXY: &str = "127.0.0.10";

/// The folder of a virtual environment with what the example requires: the one that `gateway/tests/all.sh` made, or one of our own.
fn venv() -> &'static Path {
    static VENV: OnceLock<PathBuf> = OnceLock::new();
    VENV.get_or_init(|| harness::venv("PROBEGATE_TEST_VENV", "django", "examples/django/requirements.txt"))
}

/// Django under gunicorn on a Unix socket, with a database of its own.
pub(crate) struct Django {
    gunicorn: Option<Program>,
    folder: Folder,
    environment: Vec<(&'static str, OsString)>,
}

impl Django {
    /// With a database that is ready.
    pub(crate) fn start(more: &[(&'static str, &str)]) -> Self {
        let django = Self::before_its_database("db.sqlite3", more);
        django.migrate();
        django.serve()
    }

    fn before_its_database(database: &str, more: &[(&'static str, &str)]) -> Self {
        let folder = Folder::new();
        let mut environment: Vec<(_, OsString)> = vec![
            ("DATABASE_URL", format!("sqlite:///{}", folder.path().join(database).display()).into()),
            ("GUNICORN_BIND", format!("unix:{}", folder.path().join("app.sock").display()).into()),
            ("DJANGO_SECRET_KEY", "only-for-this-test-0123456789abcdef0123456789abcdef".into()),
            ("APP_PROBE_TOKEN", APP_TOKEN.into()),
            ("WEB_CONCURRENCY", "1".into()),
            ("PYTHONDONTWRITEBYTECODE", "1".into()),
        ];
        environment.extend(more.iter().map(|(name, value)| (*name, value.into())));
        Self { gunicorn: None, folder, environment }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(venv().join("bin").join(program));
        command.current_dir(root().join("examples/django")).envs(self.environment.iter().cloned());
        command
    }

    fn migrate(&self) {
        let output = self.command("python").args(["manage.py", "migrate", "--verbosity", "0"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Waits until it answers: the first answer of a Django takes its time.
    fn serve(mut self) -> Self {
        self.gunicorn = Some(Program::start(self.command("gunicorn").args(["--log-level", "warning"])));
        let socket = self.socket();
        eventually("gunicorn listens", || socket.exists().then_some(()));
        for path in ["/healthz", "/readyz", "/whoami"] {
            eventually("Django answers", || {
                let mut curl = Command::new("curl");
                curl.args(["-s", "--max-time", "10", "--unix-socket"]).arg(&socket);
                curl.args(["-H", &app_token()]).arg(format!("http://localhost{path}"));
                curl.output().unwrap().status.success().then_some(())
            });
        }
        self
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("app.sock")
    }

    /// Asks it without the gateway.
    fn ask(&self, arguments: &[&OsStr]) -> Response {
        let socket = self.socket();
        curl([&[OsStr::new("--unix-socket"), socket.as_os_str()], arguments].concat())
    }
}

impl Drop for Django {
    fn drop(&mut self) {
        // Its workers end with it; a SIGKILL would leave them behind.
        if let Some(gunicorn) = self.gunicorn.take() {
            gunicorn.end("QUIT");
        }
    }
}

fn app_token() -> String {
    format!("X-Probe-Token: {APP_TOKEN}")
}

/// The gateway with the example's configuration; only addresses and the socket are others.
fn gateway(django: &Django) -> Gateway {
    gateway_with(django, ("", ""))
}

/// The same with one more change.
fn gateway_with(django: &Django, change: (&str, &str)) -> Gateway {
    let mut text = std::fs::read_to_string(root().join("examples/django/probegate.yaml")).unwrap();
    let socket = django.socket().display().to_string();
    let media = root().join("examples/django/media").display().to_string();
    for (theirs, ours) in [
        ("root: media/", &*format!("root: {media}")),
        ("0.0.0.0:8080", "127.0.0.1:0"),
        ("127.0.0.1:9900", "127.0.0.1:0"),
        ("/tmp/probegate-django/gunicorn.sock\"", &format!("{socket}\"")),
        ("trusted_proxies: [192.0.2.10/32", "trusted_proxies: [127.0.0.10/32"),
        change,
    ] {
        assert!(text.contains(theirs), "{theirs}");
        text = text.replacen(theirs, ours, 1);
    }
    Gateway::with(text).env("PROBE_TOKEN", TOKEN).env("APP_PROBE_TOKEN", APP_TOKEN).start()
}

/// Asks through the gateway. The example gives a probe 800 ms; on a machine that is busy with other tests, one is asked again.
pub(crate) fn ask(gateway: &Gateway, target: &str, arguments: &[&str]) -> Response {
    let url = format!("http://{}{target}", gateway.address());
    eventually("an answer in time", || {
        let arguments = arguments.iter().copied().chain(["--path-as-is", &url]);
        Some(curl(arguments)).filter(|response| response.status != 504)
    })
}

fn status(gateway: &Gateway, target: &str, arguments: &[&str]) -> u16 {
    ask(gateway, target, arguments).status
}

fn token() -> String {
    format!("X-Probe-Token: {TOKEN}")
}

#[test]
fn probes_are_for_the_internal_network_and_for_whoever_has_the_token() {
    let django = Django::start(&[]);
    let gateway = gateway(&django);
    let stranger = ["--interface", STRANGER];
    let with_token = ["--interface", STRANGER, "-H", &token()];
    for path in ["/readyz", "/startupz", "/version"] {
        assert_eq!(status(&gateway, path, &stranger), 403, "{path} without a token");
        assert_eq!(status(&gateway, path, &with_token), 200, "{path} with it");
        assert_eq!(status(&gateway, path, &[]), 200, "{path} from 127.0.0.1");
    }
    assert_eq!(status(&gateway, "/healthz", &stranger), 200, "open");
    let ready = ask(&gateway, "/readyz", &with_token);
    assert_eq!(ready.text(), "{\"status\": \"ready\", \"checks\": {\"database.default\": \"ok\"}}");
    assert_eq!(
        ready.field("cache-control").as_deref(),
        Some("max-age=0, no-cache, no-store, must-revalidate, private")
    );
    assert_eq!(ask(&gateway, "/version", &with_token).json()["service"], "shop");
    let wrong = ["--interface", STRANGER, "-H", "X-Probe-Token: guess"];
    assert_eq!(status(&gateway, "/readyz", &wrong), 403);
    let twice = ["--interface", STRANGER, "-H", &token(), "-H", &token()];
    assert_eq!(status(&gateway, "/readyz", &twice), 403, "D17");
    let app = ["--interface", STRANGER, "-H", &app_token()];
    assert_eq!(status(&gateway, "/readyz", &app), 403, "the app's token is the gateway's own");
    assert_eq!((status(&gateway, "/%72eadyz", &stranger), status(&gateway, "//readyz", &stranger)), (403, 400), "D16");
    let kubelet = ["-H", "Host: 10.1.2.3:8080"];
    assert_eq!(status(&gateway, "/readyz", &kubelet), 200, "D15: a host that Django does not know");
    assert_eq!(
        django.ask(&[OsStr::new("-H"), OsStr::new(kubelet[1]), OsStr::new("http://localhost/readyz")]).status,
        400
    );
}

/// The `curl` commands of the README, word for word but for the port and the file of the token.
#[test]
fn the_readme_shows_what_curl_prints() {
    let django = Django::start(&[]);
    let gateway = gateway(&django);
    let token = django.folder.write("probe-token", TOKEN).display().to_string();
    let mut tried = 0;
    for block in readme::blocks(&root().join("README.md")).into_iter().filter(|block| block.language == "console") {
        for (command, shown) in readme::commands(&block.text) {
            if !command.starts_with("curl ") {
                continue;
            }
            let ours = command.replace("127.0.0.1:8080", &gateway.address().to_string());
            let ours = ours.replace("target/django/probe-token", &token);
            // The example gives a probe 800 ms, which a machine that is busy with other tests may need.
            eventually(&format!("what the README shows for {command}"), || {
                readme::matches(&shown, &run(Command::new("bash").args(["-c", &ours]).env("no_proxy", "*")).out)
                    .then_some(())
            });
            tried += 1;
        }
    }
    assert!(tried >= 6, "only {tried} commands were found");
}

#[test]
fn d10_head_on_a_probe_is_an_answer_and_not_a_405() {
    let django = Django::start(&[]);
    let gateway = gateway(&django);
    let head = ask(&gateway, "/readyz", &["--head"]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.field("content-type").as_deref(), Some("application/json"));
    assert_eq!(status(&gateway, "/readyz", &["--head", "--interface", STRANGER]), 403);
    assert_eq!(status(&gateway, "/readyz", &["-X", "POST", "--interface", STRANGER]), 403, "a stranger learns nothing");
    assert_eq!(status(&gateway, "/readyz", &["-X", "POST"]), 405);
    let token = app_token();
    let alone = django.ask(&["--head", "-H", &token, "http://localhost/readyz"].map(OsStr::new));
    assert_eq!(alone.status, 405, "the package alone");
}

#[test]
fn d2_a_token_that_is_not_ascii_is_refused_and_breaks_nothing() {
    let django = Django::start(&[]);
    let gateway = gateway(&django);
    let url = format!("http://{}/readyz", gateway.address());
    for value in [&b"X-Probe-Token: \xc3\xa9"[..], b"X-Probe-Token: \xff", b"X-Probe-Token: \xe2\x82\xac0ffee"] {
        let field = OsStr::from_bytes(value);
        let through = curl(["--interface".as_ref(), STRANGER.as_ref(), "-H".as_ref(), field, OsStr::new(&url)]);
        assert_eq!(through.status, 403, "{field:?}");
        let alone = django.ask(&["-H".as_ref(), field, "http://localhost/readyz".as_ref()]);
        assert_eq!(alone.status, 500, "the package alone");
    }
    let line = gateway.access("/readyz");
    assert_eq!((&line["decision"], &line["reason"]), (&json!("deny"), &json!("token_wrong")));
}

#[test]
fn d1_a_malformed_header_from_a_trusted_proxy_opens_nothing() {
    let django = Django::start(&[("PROBES_INTERNAL_IP_ONLY", "1")]);
    // An app with a rule of its own has to be asked by each client.
    let gateway = gateway_with(&django, ("timeout: 800ms", "cache: off\n        timeout: 800ms"));
    let through = |header: &str, more: &[&str]| {
        let field = format!("X-Forwarded-For: {header}");
        status(&gateway, "/readyz", &[&["--interface", PROXY, "-H", &field], more].concat())
    };
    let token = token();
    for header in ["garbage", "198.51.100.7, garbage", "unknown", "198.51.100.7, 10.0.0.256", "010.0.0.1", "_hidden, "]
    {
        assert_eq!(through(header, &[]), 403, "{header}");
        // The token opens the gateway's door; the app has a rule of its own here and must not be misled either.
        assert_eq!(through(header, &["-H", &token]), 403, "{header} with the token");
    }
    assert_eq!(status(&gateway, "/readyz", &["--interface", PROXY]), 403, "a proxy that names nobody");
    assert_eq!((through("10.1.2.3", &[]), through("10.1.2.3, 198.51.100.7", &[])), (200, 403));
    assert_eq!(through("garbage, 10.1.2.3", &[]), 200, "what stands left of the client does not matter");

    // The package alone: what it cannot read makes it take the proxy for the client.
    let alone = |header: &str| {
        let (token, field) = (app_token(), format!("X-Real-IP: {header}"));
        django.ask(&["-H", &token, "-H", &field, "http://localhost/readyz"].map(OsStr::new)).status
    };
    assert_eq!((alone("198.51.100.7"), alone("198.51.100.7:4711"), alone("garbage")), (403, 200, 200), "D1");
}

fn whoami(gateway: &Gateway, arguments: &[&str]) -> Value {
    let response = ask(gateway, "/whoami", arguments);
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

#[test]
fn the_app_sees_the_true_client_and_no_forged_one() {
    let django = Django::start(&[]);
    let gateway = gateway(&django);
    let behind =
        ["--interface", PROXY, "-H", "X-Forwarded-For: 10.1.2.3, 198.51.100.7", "-H", "X-Forwarded-Proto: https"];
    let seen = whoami(&gateway, &behind);
    for (key, value) in [
        ("client_ip", json!("198.51.100.7")),
        ("x_real_ip", json!("198.51.100.7")),
        ("x_forwarded_for", json!(format!("198.51.100.7, {PROXY}"))),
        ("x_forwarded_proto", json!("https")),
        ("is_secure", json!(true)),
        ("forwarded", json!(null)),
    ] {
        assert_eq!(seen[key], value, "{key}");
    }
    assert_eq!(seen["request_id"], gateway.access("/whoami")["request_id"]);

    let forged = [
        "X-Forwarded-For: 10.1.2.3",
        "X-Real-IP: 10.1.2.3",
        "X_Real_IP: 10.1.2.3",
        "X_Forwarded_For: 10.1.2.3",
        "Forwarded: for=10.1.2.3",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.example",
        "X-Request-ID: forged",
    ];
    let arguments: Vec<_> =
        ["--interface", STRANGER].into_iter().chain(forged.iter().flat_map(|field| ["-H", *field])).collect();
    let seen = whoami(&gateway, &arguments);
    assert_eq!(
        (&seen["client_ip"], &seen["x_real_ip"], &seen["x_forwarded_for"]),
        (&json!(STRANGER), &json!(STRANGER), &json!(STRANGER))
    );
    assert_eq!((&seen["is_secure"], &seen["x_forwarded_proto"]), (&json!(false), &json!("http")));
    assert_eq!(
        (&seen["x_forwarded_host"], &seen["host"]),
        (&json!(gateway.address().to_string()), &json!(gateway.address().to_string()))
    );
    let text = seen.to_string();
    assert!(!text.contains("10.1.2.3") && !text.contains("evil") && !text.contains("\"forged\""), "{text}");
    assert_eq!(status(&gateway, "/readyz", &arguments), 403);

    let unknown = whoami(&gateway, &["--interface", PROXY, "-H", "X-Forwarded-For: 198.51.100.7, garbage"]);
    assert_eq!(unknown["client_ip"], "233.252.0.0", "an address that no list calls internal");
}

#[test]
fn bodies_pass_unchanged_and_answers_in_parts() {
    let django = Django::start(&[]);
    let gateway = gateway(&django);
    let folder = Folder::new();
    let body: Vec<u8> = (0..700_000u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes().into_iter().take(1))
        .collect();
    let file = folder.write("body", &body);
    let sum = Command::new("sha256sum").arg(&file).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap().split_whitespace().next().unwrap().to_owned();
    let data = format!("@{}", file.display());
    let arguments = ["--data-binary", &data, "-H", "Content-Type: application/octet-stream"];
    let seen = whoami(&gateway, &arguments);
    assert_eq!((&seen["body_sha256"], &seen["body_length"]), (&json!(sum), &json!(body.len())));
    assert_eq!(seen["method"], "POST");
    let echo = ask(&gateway, "/echo", &arguments);
    assert!(echo.status == 200 && echo.body == body, "{}", echo.status);
    let large = folder.write("large", vec![b'x'; 1024 * 1024 + 1]);
    let large = format!("@{}", large.display());
    assert_eq!(status(&gateway, "/echo", &["--data-binary", &large]), 413, "above the example's max_body");

    let url = format!("http://{}/stream?n=3&ms=3000", gateway.address());
    let streaming = Program::start(Command::new("curl").args(["-sS", "--no-buffer", "--max-time", "40", &url]));
    let first = streaming.wait_for("the first part", |text| text.contains("chunk 1 of 3\n").then(|| text.to_owned()));
    assert!(!first.contains("chunk 3 of 3"), "it came before the last was made");
    let whole: Vec<_> = (1..=3).map(|number| format!("chunk {number} of 3\n")).collect();
    assert_eq!(streaming.wait().out, whole.concat());
}

#[test]
fn the_admin_is_for_the_office_only() {
    let django = Django::start(&[]);
    let gateway = gateway(&django);
    let via = |client: &str, target: &str| {
        let field = format!("X-Forwarded-For: {client}");
        ask(&gateway, target, &["--interface", PROXY, "-H", &field])
    };
    for target in ["/admin/", "/admin", "/admin/login/", "/Admin/../admin/", "/%61dmin/"] {
        assert_eq!(via("198.51.100.7", target).status, 404, "{target}");
        assert_eq!(status(&gateway, target, &[]), 404, "{target}: internal is not the office");
        assert_eq!(via("garbage", target).status, 404, "{target}");
    }
    let office = via("203.0.113.7", "/admin/");
    assert_eq!((office.status, office.field("location").as_deref()), (302, Some("/admin/login/?next=/admin/")));
    let login = via("203.0.113.7", "/admin/login/");
    assert!(login.status == 200 && login.text().contains("csrfmiddlewaretoken"), "{}", login.status);
    let home = via("198.51.100.7", "/");
    assert!(home.status == 200 && home.text().contains("Hello from Django"));
}

#[test]
fn a_database_that_cannot_be_opened_fails_readiness_and_nothing_else() {
    let django = Django::before_its_database("missing/db.sqlite3", &[]).serve();
    let gateway = gateway(&django);
    let ready = ask(&gateway, "/readyz", &[]);
    assert_eq!(
        (ready.status, ready.json()),
        (503, json!({"status": "not_ready", "checks": {"database.default": "fail"}}))
    );
    assert_eq!(status(&gateway, "/startupz", &[]), 503);
    assert_eq!((status(&gateway, "/healthz", &[]), status(&gateway, "/", &[])), (200, 200));
    assert_eq!(gateway.access("/readyz")["decision"], "forward", "the app's own answer");
    std::fs::create_dir(django.folder.path().join("missing")).unwrap();
    django.migrate();
    let ready = eventually("it is ready", || Some(ask(&gateway, "/readyz", &[])).filter(|ready| ready.status == 200));
    assert_eq!(ready.json()["checks"], json!({"database.default": "ok"}));
    // The answer from before is kept for a second.
    eventually("it has started", || (status(&gateway, "/startupz", &[]) == 200).then_some(()));
}

#[test]
fn a_slow_page_is_finished_when_the_gateway_goes_down() {
    let django = Django::start(&[]);
    let mut gateway = gateway(&django);
    let url = format!("http://{}/slow?s=5", gateway.address());
    let slow = Program::start(Command::new("curl").args(["-sS", "--max-time", "40", "-w", "%{http_code}", &url]));
    eventually("it is in flight", || {
        metrics(&gateway)
            .iter()
            .any(|(name, count)| name.starts_with("probegate_upstream_in_flight{") && *count > 0.5)
            .then_some(())
    });
    gateway.signal("TERM");
    let home = format!("http://{}/", gateway.address());
    eventually("newcomers are refused", || {
        let asked = Command::new("curl").args(["-s", "-o", "/dev/null", "--max-time", "5", &home]).status().unwrap();
        (asked.code() == Some(7)).then_some(())
    });
    let answered = slow.wait();
    assert_eq!((&*answered.out, &*answered.err), ("slept 5 s\n200", ""));
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

/// A gateway that has Django below `/app`.
fn below_app(django: &Django, more: &str) -> Gateway {
    Gateway::start(format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}]\nadmin: off\nworkers: 1\nservices:\n  shop:\n    upstream: {{servers: [\"unix:{}\"]}}\n    \
         security_headers: true\n    routes: [{{path: /app/, strip_prefix: /app{more}}}]\n",
        django.socket().display()
    ))
}

/// The log-in page, and what it takes to send it back: the cookie and the token of the form.
fn login_page(gateway: &Gateway) -> (Response, String, String) {
    let page = ask(gateway, "/app/admin/login/?next=/admin/", &[]);
    let text = page.text();
    let token =
        text.split("name=\"csrfmiddlewaretoken\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let cookie = page.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    (page, cookie, token)
}

#[test]
fn django_below_a_prefix_sends_to_its_log_in_and_takes_the_form() {
    let django = Django::start(&[]);
    let gateway = below_app(&django, "");
    let admin = ask(&gateway, "/app/admin/", &[]);
    assert_eq!((admin.status, admin.field("location").as_deref()), (302, Some("/app/admin/login/?next=/admin/")));
    let (page, cookie, token) = login_page(&gateway);
    // What Django says of itself stays, the rest is the gateway's.
    assert_eq!(page.field("x-frame-options").as_deref(), Some("DENY"));
    assert_eq!(page.field("referrer-policy").as_deref(), Some("same-origin"), "Django's own");
    assert_eq!(page.field("permissions-policy").as_deref(), Some("camera=(), geolocation=(), microphone=()"));
    let form = |gateway: &Gateway, origin: &str, token: &str| {
        let (cookie, origin) = (format!("Cookie: {cookie}"), format!("Origin: {origin}"));
        let data = format!("csrfmiddlewaretoken={token}&username=nobody&password=wrong");
        status(gateway, "/app/admin/login/?next=/admin/", &["-H", &cookie, "-H", &origin, "--data", &data])
    };
    let ours = format!("http://{}", gateway.address());
    assert_eq!(form(&gateway, &ours, &token), 200, "the form came through: the password is wrong");
    assert_eq!((form(&gateway, &ours, "forged"), form(&gateway, "http://evil.example", &token)), (403, 403));
    assert_eq!(status(&gateway, "/app/readyz", &[]), 400, "no detour to a probe");

    // With another host, Django compares the origin with that one, and is asked under its own name.
    let renamed = below_app(&django, ", host: shop.example.com");
    assert_eq!(whoami_at(&renamed, "/app/whoami")["host"], "shop.example.com");
    assert_eq!(form(&renamed, &format!("http://{}", renamed.address()), &token), 403, "see headers-and-rewriting.md");
    assert_eq!(form(&renamed, "http://shop.example.com", &token), 200);
}

fn whoami_at(gateway: &Gateway, target: &str) -> Value {
    ask(gateway, target, &[]).json()
}

#[test]
fn django_decides_who_gets_a_file_and_the_gateway_sends_it() {
    let django = Django::start(&[]);
    let gateway = gateway(&django);
    assert_eq!(status(&gateway, "/invoices/7.txt", &[]), 403);
    assert_eq!(status(&gateway, "/protected/7.txt", &[]), 404);
    let cookie = ask(&gateway, "/sign-in", &[]).field("set-cookie").unwrap();
    let cookie = format!("Cookie: {}", cookie.split(';').next().unwrap());
    let whole = ask(&gateway, "/invoices/7.txt", &["-H", &cookie]);
    assert_eq!((whole.status, whole.text()), (200, "One chair, 40 euros.\n".to_owned()));
    assert_eq!(whole.field("content-disposition").as_deref(), Some("attachment"));
    assert_eq!(whole.field("x-accel-redirect"), None);
    let tag = format!("If-None-Match: {}", whole.field("etag").unwrap());
    assert_eq!(status(&gateway, "/invoices/7.txt", &["-H", &cookie, "-H", &tag]), 304);
    let part = ask(&gateway, "/invoices/7.txt", &["-H", &cookie, "-r", "4-8"]);
    assert_eq!((part.status, part.text()), (206, "chair".to_owned()));
    assert_eq!(status(&gateway, "/invoices/8.txt", &["-H", &cookie]), 404);
}
