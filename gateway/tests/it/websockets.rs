//! WebSocket through the gateway: the real `websockets` package on both sides, with the server and the client of `examples/websocket`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::{self, Authority, Config, Gateway, Program, accepts, eventually, free_address, root, run};

/// The Python of a virtual environment with what the example requires: the one that `gateway/tests/all.sh` made, or one of our own.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let venv = harness::venv("PROBEGATE_TEST_WEBSOCKET_VENV", "websocket", "examples/websocket/requirements.txt");
        venv.join("bin/python")
    })
}

/// The example's server, and the gateway's configuration in front of it.
fn server() -> (Program, Config) {
    let address = free_address();
    let mut command = Command::new(python());
    let server = Program::start(command.arg(root().join("examples/websocket/server.py")).arg(address.to_string()));
    eventually("the server listens", || accepts(address).then_some(()));
    (server, Config::servers([address.to_string()]))
}

/// Runs the example's client, which says what is not as it should be, and looks at what the server and the log say.
fn talk(gateway: &Gateway, server: &Program, ca: Option<&Path>) {
    let mut command = Command::new(python());
    command.arg(root().join("examples/websocket/client.py")).arg(gateway.address().to_string()).arg("localhost");
    let ended = run(command.args(ca));
    assert_eq!((ended.code, ended.out.lines().last()), (Some(0), Some("all of it: ok")), "{ended:?}");
    // What the client saw is in its own checks. The server has a thread for each connection: the order of lines is not given.
    for closed in [
        "closed: received 4001 (private use) enough; then sent 4001 ",
        "closed: received 1000 (OK); then sent 1000 ",
        "closed: sent 4002 (private use) as asked; then received 4002 ",
        // It does not wait for the answer to this one.
        "closed: sent 1009 ",
    ] {
        server.wait_for(closed, |text| text.lines().any(|line| line.starts_with(closed)).then_some(()));
    }
    let statuses = || gateway.access_log().iter().map(|line| line["status"].clone()).collect::<Vec<_>>();
    eventually("every handshake has its line", || (statuses().len() == 4).then_some(()));
    assert!(statuses().iter().all(|status| *status == 101), "{:?}", gateway.access_log());
}

#[test]
fn rfc_6455_messages_pings_and_close_codes_pass() {
    let (server, config) = server();
    talk(&Gateway::start(config), &server, None);
}

#[test]
fn rfc_6455_messages_pings_and_close_codes_pass_over_tls() {
    let ours = Authority::new("ours");
    let issued = ours.issue(&["localhost"]);
    let (server, config) = server();
    let tls = "127.0.0.1:0\"\n    tls: {certificates: [{cert: own.pem, key: own.key}]}\n";
    let config = config.to_string().replacen("127.0.0.1:0\"\n", tls, 1);
    let gateway = Gateway::with(config).file("own.pem", &issued.cert).file("own.key", &issued.key).start();
    let ca = gateway.config_path().with_file_name("ca.pem");
    std::fs::write(&ca, &ours.pem).unwrap();
    talk(&gateway, &server, Some(&ca));
}
