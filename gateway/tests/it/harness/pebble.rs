//! A real ACME authority: Pebble (Debian's package), with a name server of its own that leads every name to one address.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

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
        // Some, because every client has to take that.
        Self { valid: 90 * 24 * 3600, nonces_refused: 20 }
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
    authority: Program,
    names: Child,
    ports: Ports,
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
        let config = folder.write("pebble.json", config.to_string());
        let names = Command::new("pebble-challtestsrv")
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""])
            .args(["-defaultIPv4", &http.ip().to_string(), "-dns01", &ports.names.to_string()])
            .args(["-management", &ports.names_management.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut command = Command::new("pebble");
        command.arg("-config").arg(config).args(["-dnsserver", &ports.names.to_string()]);
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        command.env("PEBBLE_WFE_NONCEREJECT", manner.nonces_refused.to_string());
        let authority = Program::start(&mut command);
        eventually("Pebble listens", || (accepts(api) && accepts(management)).then_some(()));
        eventually("its name server listens", || accepts(ports.names_management).then_some(()));
        Self { authority, names, ports, folder }
    }

    /// The root of its own server.
    fn make_certificate(folder: &Folder, ip: IpAddr) {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new([ip.to_string()]).unwrap().signed_by(&key, &root).unwrap();
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
        directory(self.ports)
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

    /// How many orders it has seen.
    pub(crate) fn orders(&self) -> usize {
        self.authority.text().matches("Added order").count()
    }
}

/// The URL of the directory of an authority with these ports.
pub(crate) fn directory(ports: Ports) -> String {
    format!("https://{}/dir", ports.api)
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.names.kill().ok();
        self.names.wait().ok();
    }
}
