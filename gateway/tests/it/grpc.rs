//! gRPC through the gateway: the real `grpcio` on both sides, with the service and the client of `examples/grpc`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::{self, Authority, Config, Gateway, Program, accepts, eventually, free_address, root, run};

/// The Python of a virtual environment with what the example requires: the one that `gateway/tests/all.sh` made, or one of our own.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let venv = harness::venv("PROBEGATE_TEST_GRPC_VENV", "grpc", "examples/grpc/requirements.txt");
        venv.join("bin/python")
    })
}

/// The example's service, and the gateway's configuration in front of it.
fn service() -> (Program, Config) {
    let address = free_address();
    let mut command = Command::new(python());
    let server = Program::start(command.arg(root().join("examples/grpc/server.py")).arg(address.to_string()));
    eventually("the service listens", || accepts(address).then_some(()));
    let config = Config::servers([address.to_string()]).upstream("protocol: http2").service("max_body: 64MiB");
    (server, config)
}

/// Runs the example's client, which says what is not as it should be.
fn call(gateway: &Gateway, host: &str, more: Option<&Path>) {
    let mut command = Command::new(python());
    command.arg(root().join("examples/grpc/client.py")).arg(format!("{host}:{}", gateway.address().port()));
    let ended = run(command.args(more));
    assert_eq!((ended.code, ended.out.lines().last()), (Some(0), Some("all calls: ok")), "{ended:?}");
}

#[test]
fn every_kind_of_call_passes_with_prior_knowledge() {
    let (_server, config) = service();
    let config = config.to_string().replacen("127.0.0.1:0\"\n", "127.0.0.1:0\"\n    http2: true\n", 1);
    let gateway = Gateway::start(config);
    call(&gateway, "127.0.0.1", None);
    let line = gateway.access("/demo.Greeter/Unary");
    assert_eq!(
        (&line["protocol"], &line["status"], &line["upstream_status"]),
        (&"HTTP/2.0".into(), &200.into(), &200.into())
    );
}

#[test]
fn every_kind_of_call_passes_over_tls() {
    let ours = Authority::new("ours");
    let issued = ours.issue(&["localhost"]);
    let (_server, config) = service();
    let tls = "127.0.0.1:0\"\n    tls: {certificates: [{cert: own.pem, key: own.key}]}\n";
    let config = config.to_string().replacen("127.0.0.1:0\"\n", tls, 1);
    let gateway = Gateway::with(config).file("own.pem", &issued.cert).file("own.key", &issued.key).start();
    let ca = gateway.config_path().with_file_name("ca.pem");
    std::fs::write(&ca, &ours.pem).unwrap();
    call(&gateway, "localhost", Some(&ca));
}
