//! Certificates by ACME, from the real Pebble.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use crate::harness::pebble::{Manner, Pebble, Ports};
use crate::harness::{
    Ended, Folder, Gateway, Upstream, eventually, exchange, get, metric, metrics, ok, run, wait_for_metric,
};

use crate::readiness::wait_warned;

/// An authority, a storage that outlives gateways, and what to write into their configurations.
struct Stage {
    ports: Ports,
    pebble: Pebble,
    storage: Folder,
    app: Upstream,
}

impl Stage {
    fn new() -> Self {
        let ports = Ports::new();
        Self { ports, pebble: Pebble::start(ports), storage: Folder::new(), app: Upstream::answering(|_| ok("app")) }
    }

    /// A gateway where Pebble looks for challenges, with these certificates (keys of `acme` besides `directory` and `ca`).
    fn config(&self, certificates: &[&str]) -> String {
        self.config_at(&self.ports.http.to_string(), &self.ports.tls.to_string(), certificates)
    }

    fn config_at(&self, http: &str, tls: &str, certificates: &[&str]) -> String {
        let (directory, ca) = (self.pebble.directory(), self.pebble.ca());
        let certificates: Vec<_> = certificates
            .iter()
            .map(|keys| format!("{{acme: {{directory: \"{directory}\", ca: \"{}\", {keys}}}}}", ca.display()))
            .collect();
        format!(
            "listeners:\n  - address: \"{http}\"\n  - address: \"{tls}\"\n    tls: {{certificates: [{}]}}\nadmin: {{address: \
             \"127.0.0.1:0\"}}\nworkers: 1\nstorage: \"{}\"\nservices:\n  app:\n    upstream:\n      servers: [\"{}\"]\n",
            certificates.join(", "),
            self.storage.path().display(),
            self.app.server(),
        )
    }

    /// The folder of the authority.
    fn folder(&self) -> PathBuf {
        let path = self.storage.path().join("acme");
        let entry = std::fs::read_dir(&path).unwrap().next().expect("one authority").unwrap();
        entry.path()
    }

    /// Stores a certificate of `names` that was made this many days ago and lasts 90. No authority has signed it.
    fn store(&self, names: &[&str], age: u64) {
        let (name, directory) =
            (file_stem(names), self.pebble.directory().replace("https://", "").replace([':', '/'], "-"));
        let folder = self.storage.path().join("acme").join(directory);
        std::fs::create_dir_all(&folder).unwrap();
        let day = Duration::from_secs(24 * 3600);
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.not_before = (SystemTime::now() - day * u32::try_from(age).unwrap()).into();
        params.not_after = params.not_before + day * 90;
        let key = KeyPair::generate().unwrap();
        let text = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
        std::fs::write(folder.join(format!("{name}.pem")), text).unwrap();
    }

    /// Shakes hands as a client that asks for `name` and believes Pebble's root.
    fn shake(&self, name: &str) -> Ended {
        let mut command = Command::new("openssl");
        command.args([
            "s_client",
            "-connect",
            &self.ports.tls.to_string(),
            "-servername",
            name,
            "-verify_hostname",
            name,
        ]);
        run(command.args(["-verify_return_error", "-CAfile"]).arg(self.pebble.root()).stdin(Stdio::null()))
    }

    /// Pebble has seen so many orders, and no more. What it writes is read a moment later.
    fn expect_orders(&self, count: usize) {
        eventually("so many orders", || (self.pebble.orders() >= count).then_some(()));
        assert_eq!(self.pebble.orders(), count);
    }

    /// Waits until clients are shown a certificate of Pebble's for `name`.
    fn wait_for(&self, name: &str) {
        eventually("a certificate of Pebble's is shown", || is_trusted(&self.shake(name)).then_some(()));
    }
}

/// Whether a handshake ended with a certificate that was verified; where there is none, OpenSSL calls that verified as well.
fn is_trusted(ended: &Ended) -> bool {
    let has = |text: &str| ended.out.contains(text);
    ended.code == Some(0) && has("BEGIN CERTIFICATE") && has("Verify return code: 0 (ok)")
}

/// The name of a certificate's file, as the gateway makes it.
fn file_stem(names: &[&str]) -> String {
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    let hash = sorted
        .join(",")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{}-{hash:016x}", names[0])
}

fn in_force(gateway: &Gateway) -> Value {
    gateway.wait_for_log(|line| line["message"] == "certificate in force")
}

fn failed(gateway: &Gateway) -> Value {
    gateway
        .wait_for_log(|line| line["message"].as_str().is_some_and(|message| message.starts_with("no new certificate")))
}

const ISSUED: &str = "probegate_acme_orders_total{result=\"issued\"}";
const FAILED: &str = "probegate_acme_orders_total{result=\"failed\"}";

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn http_01_leads_to_a_certificate_of_several_names_that_clients_are_shown() {
    let stage = Stage::new();
    let names =
        "domains: [shop.example.com, www.shop.example.com, example.org], challenges: [http-01], email: ops@example.com";
    let gateway = Gateway::start(stage.config(&[names]));
    in_force(&gateway);
    for name in ["shop.example.com", "www.shop.example.com", "example.org"] {
        stage.wait_for(name);
    }
    assert!(!stage.shake("other.example").out.contains("BEGIN CERTIFICATE"));
    stage.expect_orders(1);
    wait_for_metric(&gateway, ISSUED, 1.0);
    let series = metrics(&gateway);
    let expiry = series.iter().find(|(name, _)| name.starts_with("probegate_certificate_expiry_timestamp_seconds{"));
    assert!(expiry.is_some_and(|(_, until)| *until > 1.7e9), "{series:?}");
    let line = gateway.wait_for_log(|line| {
        line["target"].as_str().is_some_and(|target| target.starts_with("/.well-known/acme-challenge/"))
    });
    assert_eq!((&line["status"], &line["decision"]), (&200.into(), &"answer".into()));
    // What is not being validated goes to the app, which may have challenges of its own.
    let response = get(stage.ports.http, "/.well-known/acme-challenge/somebody-elses");
    assert_eq!((response.status, &*response.text()), (200, "app"));

    // Nobody else can read what was stored.
    let folder = stage.folder();
    assert_eq!((mode(&folder), mode(folder.parent().unwrap())), (0o700, 0o700));
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_listener_that_redirects_answers_challenges_and_sends_everybody_else_away() {
    let stage = Stage::new();
    let http = stage.ports.http;
    let config = stage.config(&["domains: [shop.example.com], challenges: [http-01]"]);
    let plain = format!("  - address: \"{http}\"\n");
    assert!(config.contains(&plain), "{config}");
    let config = config.replacen(&plain, &format!("{plain}    redirect_https: {}\n", stage.ports.tls.port()), 1);
    let gateway = Gateway::start(config);
    in_force(&gateway);
    stage.wait_for("shop.example.com");
    // No validation had to be tried twice.
    stage.expect_orders(1);
    gateway.wait_for_log(|line| line["target"].as_str().is_some_and(is_challenge));
    let lines = gateway.access_log();
    let asked: Vec<_> = lines.iter().filter(|line| line["target"].as_str().is_some_and(is_challenge)).collect();
    assert!(!asked.is_empty());
    for line in asked {
        assert_eq!((&line["status"], &line["decision"]), (&200.into(), &"answer".into()), "{line}");
    }
    // What is not being validated is a path like any other.
    let ask = |target: &str| exchange(http, format!("GET {target} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"));
    for target in ["/", "/.well-known/acme-challenge/somebody-elses"] {
        let response = ask(target);
        let to = format!("https://shop.example.com:{}{target}", stage.ports.tls.port());
        assert_eq!((response.status, response.field("location")), (308, Some(to)));
    }
    assert!(stage.app.targets().is_empty());
}

fn is_challenge(target: &str) -> bool {
    target.starts_with("/.well-known/acme-challenge/")
}

#[test]
fn rfc8737_tls_alpn_01_leads_to_a_certificate_and_shows_its_own_to_nobody_else() {
    let stage = Stage::new();
    let gateway = Gateway::start(stage.config(&["domains: [shop.example.com], challenges: [tls-alpn-01]"]));
    in_force(&gateway);
    stage.wait_for("shop.example.com");
    // Once the order is over, nothing is answered any more.
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &stage.ports.tls.to_string(), "-servername", "shop.example.com"]);
    let ended = run(command.args(["-alpn", "acme-tls/1"]).stdin(Stdio::null()));
    assert!(!ended.out.contains("BEGIN CERTIFICATE"), "{ended:?}");
    stage.expect_orders(1);
}

#[test]
fn a_restart_shows_the_stored_certificate_and_orders_nothing() {
    let stage = Stage::new();
    let config = stage.config(&["domains: [shop.example.com]"]);
    let gateway = Gateway::start(&config);
    let first = in_force(&gateway);
    drop(gateway);
    let gateway = Gateway::start(&config);
    // Before anybody could have ordered anything.
    assert!(is_trusted(&stage.shake("shop.example.com")));
    assert_eq!(in_force(&gateway)["valid_until"], first["valid_until"]);
    // The same over a reload.
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    assert!(is_trusted(&stage.shake("shop.example.com")));
    stage.expect_orders(1);
    assert!(metrics(&gateway).keys().all(|name| !name.contains("acme")));
}

#[test]
fn a_certificate_that_is_due_is_renewed_and_shown_without_a_restart() {
    let stage = Stage::new();
    stage.store(&["shop.example.com"], 62);
    let gateway = Gateway::start(stage.config(&["domains: [shop.example.com]"]));
    stage.wait_for("shop.example.com");
    wait_for_metric(&gateway, ISSUED, 1.0);
    stage.expect_orders(1);

    let stage = Stage::new();
    stage.store(&["shop.example.com"], 50);
    let gateway = Gateway::start(stage.config(&["domains: [shop.example.com]"]));
    in_force(&gateway);
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    // It was not due.
    stage.expect_orders(0);
}

#[test]
fn short_lives_are_renewed_again_and_again() {
    let ports = Ports::new();
    let pebble = Pebble::with(ports, Manner { valid: 9, ..Manner::default() });
    let stage = Stage { ports, pebble, storage: Folder::new(), app: Upstream::answering(|_| ok("app")) };
    let gateway = Gateway::start(stage.config(&["domains: [shop.example.com]"]));
    eventually("it is renewed", || (metric(&gateway, ISSUED) >= 2.0).then_some(()));
    stage.wait_for("shop.example.com");
}

#[test]
fn when_a_challenge_fails_the_next_kind_is_tried() {
    let stage = Stage::new();
    // Nothing listens where Pebble looks for tls-alpn-01.
    let config = stage.config_at(&stage.ports.http.to_string(), "127.0.0.1:0", &["domains: [shop.example.com]"]);
    let gateway = Gateway::start(config);
    let line = failed(&gateway);
    assert!(line["message"].as_str().unwrap().contains("shop.example.com failed tls-alpn-01"), "{line}");
    assert!(
        line["advice"].as_str().unwrap().starts_with("port 443 of shop.example.com must reach this gateway"),
        "{line}"
    );
    assert_eq!(line["in_force"], "there is no certificate: handshakes for these names are refused");
    in_force(&gateway);
    wait_for_metric(&gateway, FAILED, 1.0);
    wait_for_metric(&gateway, ISSUED, 1.0);
    assert!(metric(&gateway, "probegate_acme_last_failure_timestamp_seconds") > 1.7e9);
}

#[test]
fn when_renewal_fails_the_old_certificate_stays_in_force_and_the_next_order_waits() {
    let stage = Stage::new();
    stage.store(&["shop.example.com"], 70);
    let elsewhere = "127.0.0.1:0";
    let config = stage.config_at(
        elsewhere,
        &stage.ports.tls.to_string(),
        &["domains: [shop.example.com], challenges: [http-01]"],
    );
    let gateway = Gateway::start(&config);
    let line = failed(&gateway);
    assert!(line["in_force"].as_str().unwrap().starts_with("the certificate before stays in force until"), "{line}");
    let wait = line["next"].as_str().unwrap();
    let until = {
        let text = run(Command::new("date").args(["-u", "+%s", "-d", wait])).out;
        Duration::from_secs(text.trim().parse::<u64>().unwrap())
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!((100..=300).contains(&(until.as_secs() - now.as_secs())), "{wait}");
    wait_for_metric(&gateway, FAILED, 1.0);
    let ended = stage.shake_without_root("shop.example.com");
    assert!(ended.out.contains("BEGIN CERTIFICATE"), "{ended:?}");
    stage.expect_orders(1);
}

#[test]
fn a_start_does_not_wait_for_an_authority_that_is_down() {
    let mut stage = Stage::new();
    stage.pebble.stop();
    let gateway = Gateway::start(stage.config(&["domains: [shop.example.com]"]));
    assert_eq!(get(stage.ports.http, "/").status, 200);
    let line = failed(&gateway);
    assert!(line["message"].as_str().unwrap().contains("the authority cannot be spoken to"), "{line}");
    gateway.wait_for_log(|line| line["message"].as_str().is_some_and(|text| text.starts_with("no certificate yet")));
    wait_warned(&gateway, &[("certificate_missing", "shop.example.com")]);
    assert!(!stage.shake_without_root("shop.example.com").out.contains("BEGIN CERTIFICATE"));
    stage.pebble.restart();
    in_force(&gateway);
    stage.wait_for("shop.example.com");
    wait_warned(&gateway, &[]);
}

#[test]
fn a_reload_that_adds_a_certificate_orders_only_that_one() {
    let stage = Stage::new();
    let gateway = Gateway::start(stage.config(&["domains: [shop.example.com]"]));
    in_force(&gateway);
    std::fs::write(
        gateway.config_path(),
        stage.config(&["domains: [shop.example.com], email: ops@example.com", "domains: [blog.example.com]"]),
    )
    .unwrap();
    gateway.signal("HUP");
    stage.wait_for("blog.example.com");
    assert!(is_trusted(&stage.shake("shop.example.com")));
    stage.expect_orders(2);
    // A name more: the certificate before serves until there is one with both.
    std::fs::write(gateway.config_path(), stage.config(&["domains: [shop.example.com, new.example.com]"])).unwrap();
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    assert!(is_trusted(&stage.shake("shop.example.com")));
    stage.wait_for("new.example.com");
    stage.expect_orders(3);
    // Removed: refused, and not renewed.
    assert!(!stage.shake("blog.example.com").out.contains("BEGIN CERTIFICATE"));
}

#[test]
fn a_reload_can_begin_to_order() {
    let stage = Stage::new();
    let app = stage.app.server();
    let without = format!(
        "listeners:\n  - address: \"{}\"\nadmin: {{address: \"127.0.0.1:0\"}}\nworkers: 1\nservices:\n  app:\n    upstream:\n      \
         servers: [\"{app}\"]\n",
        stage.ports.http
    );
    let gateway = Gateway::start(without);
    std::fs::write(gateway.config_path(), stage.config(&["domains: [shop.example.com]"])).unwrap();
    gateway.signal("HUP");
    stage.wait_for("shop.example.com");
}

#[test]
fn two_gateways_on_one_storage_order_once() {
    let stage = Stage::new();
    let keys = "domains: [shop.example.com], challenges: [http-01]";
    // Either of them may be first; the one that is not where Pebble looks fails, and finds what the other one has stored.
    let first = Gateway::start(stage.config(&[keys]));
    let second = Gateway::start(stage.config_at("127.0.0.1:0", "127.0.0.2:0", &[keys]));
    in_force(&first);
    in_force(&second);
    stage.expect_orders(1);
}

#[test]
fn what_is_broken_in_the_storage_is_set_aside_and_made_anew() {
    let stage = Stage::new();
    let config = stage.config(&["domains: [shop.example.com]"]);
    in_force(&Gateway::start(&config));
    let folder = stage.folder();
    let certificate = folder.join(file_stem(&["shop.example.com"]) + ".pem");
    for broken in [&certificate, &folder.join("account.json"), &folder.join("orders.json")] {
        std::fs::write(broken, "nonsense").unwrap();
    }
    let gateway = Gateway::start(&config);
    stage.wait_for("shop.example.com");
    wait_for_metric(&gateway, ISSUED, 1.0);
    let aside = std::fs::read_dir(&folder).unwrap();
    let aside =
        aside.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().contains(".broken-")).count();
    assert_eq!(aside, 2);
}

#[test]
fn an_authority_that_has_forgotten_the_account_gets_a_new_one() {
    let mut stage = Stage::new();
    let config = stage.config(&["domains: [shop.example.com]"]);
    in_force(&Gateway::start(&config));
    stage.pebble.restart();
    stage.store(&["shop.example.com"], 80);
    let gateway = Gateway::start(&config);
    stage.wait_for("shop.example.com");
    gateway
        .wait_for_log(|line| line["message"].as_str().is_some_and(|text| text.contains("does not know the account")));
}

#[test]
fn a_storage_that_can_not_be_written_to_is_said_and_nothing_is_ordered() {
    let stage = Stage::new();
    let config = stage.config(&["domains: [shop.example.com]"]);
    std::fs::write(stage.storage.path().join("acme"), "a file where a folder should be").unwrap();
    let gateway = Gateway::start(config);
    let line = gateway
        .wait_for_log(|line| line["message"].as_str().is_some_and(|text| text.starts_with("nothing is ordered")));
    assert!(line["advice"].as_str().unwrap().contains("`storage`"), "{line}");
    assert_eq!(get(stage.ports.http, "/").status, 200);
    stage.expect_orders(0);
}

impl Stage {
    /// As [`Stage::shake`], believing anybody.
    fn shake_without_root(&self, name: &str) -> Ended {
        let mut command = Command::new("openssl");
        run(command
            .args(["s_client", "-connect", &self.ports.tls.to_string(), "-servername", name])
            .stdin(Stdio::null()))
    }
}
