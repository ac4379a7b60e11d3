//! `dev`: HTTPS on this machine before an app that is being written, with a certificate that browsers believe once they were told to.

mod authority;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::authority::{Authority, Made};
use super::run::start;
use super::{USAGE, colour, say};
use crate::config;
use crate::listen::{Activated, Listening};
use crate::plan::{Certificate, Listener, ListenerTls, Plan};
use crate::server::Options;
use crate::state::unix_time;

/// The arguments of `probegate dev`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the app listens: `127.0.0.1:8000`, `unix:/run/app.sock` or `name:port`.
    #[arg(default_value = "127.0.0.1:8000")]
    upstream: String,
    /// Where to listen, for HTTPS.
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Where metrics and the gateway's own probes are served.
    #[arg(long, default_value = "127.0.0.1:9900")]
    admin: SocketAddr,
    /// Where the local authority is kept. Default: `$XDG_DATA_HOME/probegate/dev`, or `~/.local/share/probegate/dev`.
    #[arg(long, value_name = "PATH")]
    folder: Option<PathBuf>,
    /// A further name in the certificate, such as `app.localhost`; may be repeated. Names once given stay.
    #[arg(long = "name", value_name = "NAME", value_parser = below_localhost)]
    names: Vec<String>,
}

/// The authority vouches for no other names; `localhost` and its kin always lead to this machine (RFC 6761 §6.3).
fn below_localhost(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    let label = |label: &str| {
        !label.is_empty() && label.len() < 64 && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let labels = name.strip_suffix(".localhost").is_some_and(|rest| rest.split('.').all(label));
    if labels && name.len() < 254 {
        Ok(name)
    } else {
        Err("write a name below localhost, such as app.localhost".to_owned())
    }
}

/// Makes what is missing and starts the gateway.
pub(super) fn run(arguments: Arguments) -> ExitCode {
    let Arguments { upstream, listen, admin, folder, names } = arguments;
    let Some(folder) = folder.or_else(default_folder) else {
        say("there is no home for the local authority: set HOME, or name a folder with --folder");
        return ExitCode::from(USAGE);
    };
    let authority = match Authority::open(&folder, &names, unix_time()) {
        Ok(authority) => authority,
        Err(error) => {
            say(&format!("the local authority cannot be used: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let source = config::default_source(&upstream);
    let mut loaded = match config::compile(&source, &config::System::new("")) {
        Ok(loaded) => loaded,
        Err(problems) => {
            say(&problems.render(&source, colour()));
            return ExitCode::from(USAGE);
        }
    };
    let certificate = Certificate::Files { cert: authority.certificate(), key: authority.key() };
    // Whoever names the machine by its address sends no name, and sees the same certificate.
    let tls = ListenerTls { certificates: vec![certificate], default: Some("localhost".into()), clients: None };
    loaded.plan.listeners = vec![Listener { tls: Some(tls), http2: true, ..Listener::plain(listen) }];
    loaded.plan.admin = Some(admin);
    let announce = move |_: &Plan, listening: &[Listening], _: Option<SocketAddr>| {
        let port = listening.first().map_or(listen, |open| open.bound).port();
        say(&instructions(port, &upstream, &authority));
        tracing::info!(address = %listening.first().map_or(listen, |open| open.bound), "listening");
    };
    let options = Options {
        config: None,
        upgrade: false,
        upgrade_socket: None,
        activated: Activated::default(),
        announce: Box::new(announce),
    };
    start(loaded, options)
}

/// Where programs keep data of their own (XDG Base Directory Specification).
fn default_folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))?;
    Some(data.join("probegate/dev"))
}

fn instructions(port: u16, upstream: &str, authority: &Authority) -> String {
    let root = quoted(&authority.root());
    let made = match authority.made {
        Made::Now => "made just now",
        Made::Before => "made before: if your browser believes it already, there is nothing to do",
    };
    format!(
        "\
probegate dev: https://localhost:{port} leads to {upstream}; end it with Ctrl+C.

Its certificate is signed by an authority of your own, {made}:
  {root}
It can vouch for localhost, *.localhost and loopback addresses, and for nothing else. Have it believed, once:

  Debian, Ubuntu    sudo cp {root} /usr/local/share/ca-certificates/probegate-dev.crt && sudo update-ca-certificates
  Fedora            sudo trust anchor {root}
  macOS             sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {root}
  Chrome on Linux   certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n probegate-dev -i {root}
  Firefox           Settings, Privacy & Security, View Certificates, Authorities, Import
  curl              curl --cacert {root} https://localhost:{port}/

"
    )
}

/// As a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
