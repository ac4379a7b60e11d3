//! A real ACME authority: Pebble (Debian's package), with a name server of its own that leads every name to one address.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, IsCa, KeyPair};

use super::{Folder, Program, accepts, eventually, free_address};

/// How it is to behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Seconds that its certificates are valid.
    pub(crate) valid: u64,
    /// Good nonces that it refuses all the same, in a hundred.
    pub(crate) nonces_refused: u8,
}

impl Default for Manner {
    fn default() -> Self {
        // Some, because every client has to take that; few, because three in a row end an order.
        Self { valid: 90 * 24 * 3600, nonces_refused: 1 }
    }
}

/// The ports of a gateway that it validates names at, and its own, which stay the same over restarts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// Where it looks for `http-01`.
    pub(crate) http: SocketAddr,
    /// Where it looks for `tls-alpn-01`.
    pub(crate) tls: SocketAddr,
    api: SocketAddr,
    management: SocketAddr,
    names: SocketAddr,
    names_management: SocketAddr,
}

impl Ports {
    /// Free ones.
    pub(crate) fn new() -> Self {
        let ip = free_address().ip();
        // Held together, so that they differ.
        let held = [(); 6].map(|()| TcpListener::bind((ip, 0)).unwrap());
        let [http, tls, api, management, names, names_management] = held.map(|held| held.local_addr().unwrap());
        Self { http, tls, api, management, names, names_management }
    }
}

/// An authority that runs.
#[derive(Debug)]
pub(crate) struct Pebble {
    authority: Option<Program>,
    names: Child,
    ports: Ports,
    manner: Manner,
    folder: Folder,
}

impl Pebble {
    /// Starts one with its usual manner.
    pub(crate) fn start(ports: Ports) -> Self {
        Self::with(ports, Manner::default())
    }

    /// Starts one.
    pub(crate) fn with(ports: Ports, manner: Manner) -> Self {
        let folder = Folder::new();
        Self::make_certificate(&folder, ports.api.ip());
        let Ports { http, tls, api, management, .. } = ports;
        let config = serde_json::json!({"pebble": {
            "listenAddress": api.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": folder.path().join("server.pem"),
            "privateKey": folder.path().join("server.key"),
            "httpPort": http.port(),
            "tlsPort": tls.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": manner.valid,
        }});
        let names = Command::new("pebble-challtestsrv")
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""])
            .args(["-defaultIPv4", &http.ip().to_string(), "-dns01", &ports.names.to_string()])
            .args(["-management", &ports.names_management.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        folder.write("pebble.json", config.to_string());
        eventually("its name server listens", || accepts(ports.names_management).then_some(()));
        let mut pebble = Self { authority: None, names, ports, manner, folder };
        pebble.restart();
        pebble
    }

    /// Ends it and starts it anew: it forgets all accounts, orders and its roots.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let mut command = Command::new("pebble");
        command.arg("-config").arg(self.folder.path().join("pebble.json"));
        command.args(["-dnsserver", &self.ports.names.to_string()]);
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        command.env("PEBBLE_WFE_NONCEREJECT", self.manner.nonces_refused.to_string());
        self.authority = Some(Program::start(&mut command));
        let Ports { api, management, .. } = self.ports;
        eventually("Pebble listens", || (accepts(api) && accepts(management)).then_some(()));
    }

    /// Ends it; its name server goes on.
    pub(crate) fn stop(&mut self) {
        self.authority = None;
    }

    /// The root of its own server.
    fn make_certificate(folder: &Folder, ip: IpAddr) {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([ip.to_string()]).unwrap();
        // Not the name that the root has by default: OpenSSL would take it for its own issuer.
        params.distinguished_name = DistinguishedName::new();
        let server = params.signed_by(&key, &root).unwrap();
        folder.write("root.pem", root.pem());
        folder.write("server.pem", server.pem());
        folder.write("server.key", key.serialize_pem());
    }

    /// The file with the root of its own server.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// The URL of its directory.
    pub(crate) fn directory(&self) -> String {
        format!("https://{}/dir", self.ports.api)
    }

    /// The root of the certificates it issues, in a file.
    pub(crate) fn root(&self) -> PathBuf {
        let url = format!("https://{}/roots/0", self.ports.management);
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--cacert"]).arg(self.ca()).arg(url);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        self.folder.write("issuing-root.pem", output.stdout)
    }

    /// What it has written.
    pub(crate) fn log(&self) -> String {
        self.authority.as_ref().map(Program::text).unwrap_or_default()
    }

    /// How many orders it has seen since it was started.
    pub(crate) fn orders(&self) -> usize {
        self.log().matches("Added order").count()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.names.kill().ok();
        self.names.wait().ok();
    }
}
