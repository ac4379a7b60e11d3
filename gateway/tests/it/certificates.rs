//! Certificates in files: swapped while the gateway serves, kept where the new ones are broken, and judged by a scanner.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

use crate::harness::{
    self, Authority, Client, Config, Folder, Gateway, Issued, Upstream, Wish, eventually, metrics, ok,
};

fn start(config: &Config, issued: &Issued) -> Gateway {
    with(config, "", issued)
}

/// As [`start`], with another key of the listener.
fn with(config: &Config, more: &str, issued: &Issued) -> Gateway {
    let tls = format!("{{certificates: [{{cert: cert.pem, key: key.pem}}]{more}}}");
    crate::tls::start(config, &tls, &[("cert.pem", &issued.cert), ("key.pem", &issued.key)])
}

/// The line at which the gateway refuses a pair that has changed, for this reason.
fn wait_for_refusal(gateway: &Gateway, why: &str) {
    gateway.wait_for_log(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.starts_with("changed certificate refused") && message.contains(why)
    });
}

/// Says that it is over when it goes, also where the test goes by a panic: nobody waits for threads that wait for it.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Puts a pair in the place of the one before, as tools do it: the files are replaced, one after the other.
fn replace(gateway: &Gateway, issued: &Issued) {
    put(gateway, "cert.pem", &issued.cert);
    put(gateway, "key.pem", &issued.key);
}

/// Puts a file in the place of the one before.
fn put(gateway: &Gateway, name: &str, content: &str) {
    let folder = gateway.config_path().parent().unwrap();
    let new = folder.join(format!("{name}.new"));
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, folder.join(name)).unwrap();
}

/// Whether a connection was shown this certificate. It asks for something first: a handshake is over for the client before it is for the
/// gateway, which would see one that failed if the client left at once.
fn is_shown(client: &mut Client, issued: &Issued) -> bool {
    client.send("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(client.response().status, 200);
    client.session().peer_certificates().unwrap()[0] == CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap()
}

#[test]
fn a_new_certificate_is_taken_under_load_without_a_lost_request() {
    let app = Upstream::answering(|_| ok("x"));
    let authority = Authority::new("Test");
    let issued: Vec<_> = (0..3).map(|_| authority.issue(&["app.example"])).collect();
    let gateway = start(&Config::before(&app).workers(2), &issued[0]);
    let config = Arc::new(authority.client(None));
    let request = "GET / HTTP/1.1\r\nHost: app.example\r\n\r\n";
    let over = AtomicBool::new(false);
    // It has asked something: who has not has the time for a head and no more.
    let mut kept = Client::secure(gateway.address(), &config, "app.example");
    assert!(is_shown(&mut kept, &issued[0]));
    std::thread::scope(|scope| {
        let _over = Over(&over);
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let mut client = Client::secure(gateway.address(), &config, "app.example");
                    for _ in 0..5 {
                        client.send(request);
                        assert_eq!(client.response().status, 200);
                    }
                }
            });
        }
        // Settings of its own: a resumed session shows the certificate it began with.
        let fresh = || Client::secure(gateway.address(), &Arc::new(authority.client(None)), "app.example");
        for new in &issued[1..] {
            replace(&gateway, new);
            eventually("the new certificate is shown", || is_shown(&mut fresh(), new).then_some(()));
        }
    });
    assert!(is_shown(&mut kept, &issued[0]));
    assert!(gateway.access_log().iter().all(|line| line["status"] == 200));
}

#[test]
fn a_broken_new_certificate_leaves_the_old_one_and_says_so() {
    let app = Upstream::answering(|_| ok("x"));
    let authority = Authority::new("Test");
    let (first, second) = (authority.issue(&["app.example"]), authority.issue(&["app.example"]));
    let gateway = start(&Config::before(&app), &first);
    let fresh = || Client::secure(gateway.address(), &Arc::new(authority.client(None)), "app.example");
    // The key of another certificate. One file alone: between two, somebody may look once more.
    put(&gateway, "cert.pem", &second.cert);
    wait_for_refusal(&gateway, "does not belong");
    assert!(is_shown(&mut fresh(), &first));
    let series = metrics(&gateway);
    assert!((series["probegate_certificate_reload_failures_total"] - 1.0).abs() < 0.1);
    assert!(series["probegate_certificate_expiry_timestamp_seconds{name=\"app.example\"}"] > 1e9);
    assert!(series["probegate_tls_handshakes_total{version=\"1.3\",resumed=\"false\"}"] > 0.5);
    replace(&gateway, &second);
    eventually("the new certificate is shown", || is_shown(&mut fresh(), &second).then_some(()));
    // No key in any log.
    let secret = first.key.lines().nth(1).unwrap();
    assert!(gateway.log_lines().iter().all(|line| !line.contains(secret)));
}

#[test]
fn a_new_certificate_that_serves_fewer_than_the_old_one_waits() {
    let app = Upstream::answering(|_| ok("x"));
    let authority = Authority::new("Test");
    let first = authority.issue(&["app.example", "also.example"]);
    let gateway = with(&Config::before(&app), ", default: app.example", &first);
    let fresh = || Client::secure(gateway.address(), &Arc::new(authority.client(None)), "app.example");
    let both = ["app.example", "also.example"];
    for (wish, why) in [
        (Wish::hosts(&both).days(1, 30), "is not valid before"),
        (Wish::hosts(&both).days(-30, -1), "has expired"),
        (Wish::hosts(&["also.example"]), "lacks `app.example`"),
    ] {
        replace(&gateway, &authority.sign(&wish));
        wait_for_refusal(&gateway, why);
        assert!(is_shown(&mut fresh(), &first), "{why}");
    }
    // What happens while the files are halfway replaced is a failure too, if somebody looks twice meanwhile.
    assert!(metrics(&gateway)["probegate_certificate_reload_failures_total"] > 2.9);
    let fewer = authority.issue(&["app.example"]);
    replace(&gateway, &fewer);
    let line = gateway.wait_for_log(|line| line["message"] == "the new certificate lacks names of the one before");
    assert!(line.to_string().contains("also.example"), "{line}");
    eventually("the new certificate is shown", || is_shown(&mut fresh(), &fewer).then_some(()));
}

#[test]
fn a_reload_is_as_careful_with_certificates_as_the_watch_and_shows_lints() {
    let app = Upstream::answering(|_| ok("x"));
    let authority = Authority::new("Test");
    let first = authority.issue(&["app.example"]);
    let gateway = start(&Config::before(&app), &first);
    let mut kept = Client::secure(gateway.address(), &Arc::new(authority.client(None)), "app.example");
    assert!(is_shown(&mut kept, &first));
    let fresh = || Client::secure(gateway.address(), &Arc::new(authority.client(None)), "app.example");
    let says = |what: &str| {
        gateway.wait_for_log(|line| line["message"].as_str().is_some_and(|message| message.contains(what)));
    };
    for (days, why) in [((-30, -1), "the certificate has expired"), ((1, 30), "the certificate is not valid before")] {
        replace(&gateway, &authority.sign(&Wish::hosts(&["app.example"]).days(days.0, days.1)));
        gateway.signal("HUP");
        gateway.wait_for_log(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.starts_with("reload refused") && message.contains(why)
        });
        assert!(is_shown(&mut fresh(), &first), "{why}");
    }
    let soon = authority.sign(&Wish::hosts(&["app.example"]).days(-30, 5));
    replace(&gateway, &soon);
    gateway.signal("HUP");
    says("this certificate expires in");
    says("configuration reloaded");
    assert!(is_shown(&mut fresh(), &soon));
    assert!(is_shown(&mut kept, &first), "an open connection goes on");
}

/// What `sslyze` finds, run from an environment of its own.
#[test]
fn a_scanner_finds_nothing_weak() {
    let app = Upstream::answering(|_| ok("x"));
    let authority = Authority::new("Test");
    let gateway = start(&Config::before(&app), &authority.issue(&["localhost"]));
    let python = harness::venv("PROBEGATE_TEST_SSLYZE_VENV", "sslyze", "gateway/tests/sslyze.txt").join("bin/python");
    let folder = Folder::new();
    let port = gateway.address().port();
    let target = format!("localhost:{port}{{{}}}", gateway.address().ip());
    let report = folder.path().join("report.json");
    let mut scan = Command::new(&python);
    scan.args(["-m", "sslyze", "--mozilla_config=disable", "--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2"]);
    scan.args([
        "--tlsv1_3",
        "--heartbleed",
        "--openssl_ccs",
        "--compression",
        "--reneg",
        "--early_data",
        "--resum",
        "--json_out",
    ]);
    scan.arg(&report).arg(&target);
    let scanned = scan.output().unwrap();
    let report: Value =
        serde_json::from_slice(&std::fs::read(&report).unwrap_or_else(|_| panic!("{scanned:?}"))).unwrap();
    let result = &report["server_scan_results"][0]["scan_result"];
    let suites = |version: &str| -> Vec<String> {
        let accepted = &result[format!("{version}_cipher_suites")]["result"]["accepted_cipher_suites"];
        let accepted = accepted.as_array().unwrap_or_else(|| panic!("{version}: {scanned:?}"));
        accepted.iter().map(|suite| suite["cipher_suite"]["name"].as_str().unwrap().to_owned()).collect()
    };
    for old in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"] {
        assert_eq!(suites(old), Vec::<String>::new(), "{old}");
    }
    assert!(!suites("tls_1_2").is_empty() && !suites("tls_1_3").is_empty());
    let strong = |suite: &String| suite.contains("_GCM_") || suite.contains("CHACHA20");
    assert!(suites("tls_1_2").iter().all(|suite| strong(suite) && suite.starts_with("TLS_ECDHE_")));
    assert!(suites("tls_1_3").iter().all(strong));
    let plugin = |name: &str| &result[name]["result"];
    assert_eq!(plugin("heartbleed")["is_vulnerable_to_heartbleed"], false);
    assert_eq!(plugin("openssl_ccs_injection")["is_vulnerable_to_ccs_injection"], false);
    assert_eq!(plugin("tls_compression")["supports_compression"], false);
    assert_eq!(plugin("session_renegotiation")["is_vulnerable_to_client_renegotiation_dos"], false);
    assert_eq!(plugin("session_resumption")["session_id_resumption_result"], "FULLY_SUPPORTED");
    assert_eq!(plugin("tls_1_3_early_data")["supports_early_data"], false);
}
