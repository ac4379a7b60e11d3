//! The admin listener: where it is, and who may ask for what.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use probegate_policies::access::TokenSet;

use super::{Context, Definitions};
use crate::config::shape::Toggle;
use crate::config::value::{AdminAddress, FileMode, FilePath, Flag, Leaf, Name};
use crate::config::{ConfigPath, lint, raw};
use crate::plan;

/// The longest path of a Unix socket that every system takes, without its end.
const LONGEST: usize = 107;

/// Everything about the admin listener.
#[derive(Default)]
pub(super) struct Admin {
    pub(super) address: Option<SocketAddr>,
    pub(super) socket: Option<plan::AdminSocket>,
    pub(super) tokens: plan::AdminTokens,
    pub(super) audit: Option<PathBuf>,
}

pub(super) fn admin(
    raw: Option<Toggle<raw::Admin>>,
    listeners: &[plan::Listener],
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> Admin {
    let raw::Admin { address, socket, token, tokens, open_metrics, audit } = match raw {
        Some(Toggle::Off) => return Admin::default(),
        Some(Toggle::On(raw)) => raw,
        None => raw::Admin::default(),
    };
    let path = ConfigPath::root().key("admin");
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 9900));
    let address = address.map_or(Some(default), |Leaf(AdminAddress(address))| address);
    if address.is_none() && socket.is_none() && !cx.is_broken(&path.key("socket")) {
        cx.error(&path.key("address"), "`admin` has neither an address nor a `socket`", "write `admin: off`");
    }
    let open_metrics = open_metrics.is_some_and(|Leaf(Flag(open))| open);
    let is_named = token.is_some() || tokens.is_some();
    let tokens = plan::AdminTokens { open_metrics, ..tokens_of(token.as_ref(), tokens, definitions, cx) };
    if open_metrics && !is_named {
        let message = "`open_metrics` has no meaning without tokens: metrics are open";
        cx.key_error(&path.key("open_metrics"), message, "remove it");
    }
    if address.is_none() && socket.is_some() && is_named {
        let key = if cx.origin(&path.key("tokens")).line > 0 { "tokens" } else { "token" };
        let message =
            format!("`{key}` has no meaning without an address: over the socket, nobody is asked for a token");
        cx.key_error(&path.key(key), message, "remove it, or `address: off`");
    }
    if let Some(address) = address {
        apart(address, listeners, cx);
        if !address.ip().is_loopback() && !is_named {
            let message = format!("`{address}` is reached from other machines, and `admin` names no tokens");
            let hint =
                "write `tokens: {read: NAME, write: NAME}` with names under `tokens`, or listen on a loopback address";
            cx.error(&path.key("address"), message, hint);
        }
    }
    let socket = socket.and_then(|socket| compile_socket(socket, &path.key("socket"), cx));
    let audit = audit.map(|Leaf(FilePath(file))| cx.environment().resolve(&file));
    if let Some(file) = &audit {
        lint::audit(file, cx);
    }
    Admin { address, socket, tokens, audit }
}

/// The sets that `token` or `tokens` name.
fn tokens_of(
    token: Option<&Leaf<Name>>,
    tokens: Option<raw::AdminTokens>,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> plan::AdminTokens {
    let path = ConfigPath::root().key("admin");
    if token.is_some() && tokens.is_some() {
        cx.key_error(
            &path.key("token"),
            "`token` and `tokens` are both there",
            "write `tokens: {read: …, write: …}` alone",
        );
    }
    let mut find = |name: Option<&Leaf<Name>>, path: &ConfigPath| -> Option<Arc<TokenSet>> {
        let Leaf(Name(name)) = name?;
        definitions.tokens.find(name, path, cx).map(|tokens| Arc::clone(&tokens.set))
    };
    let Some(raw::AdminTokens { read, write }) = tokens else {
        return plan::AdminTokens { write: find(token, &path.key("token")), ..plan::AdminTokens::default() };
    };
    let path = path.key("tokens");
    let found = plan::AdminTokens {
        read: find(read.as_ref(), &path.key("read")),
        write: find(write.as_ref(), &path.key("write")),
        open_metrics: false,
    };
    match (&read, &write) {
        (None, None) if !cx.is_broken(&path.key("read")) && !cx.is_broken(&path.key("write")) => {
            cx.error(
                &path,
                "`tokens` names neither `read` nor `write`",
                "name sets that are under `tokens` at the top",
            );
        }
        (Some(Leaf(Name(read))), Some(Leaf(Name(write)))) if read == write => {
            let message = format!("`read` and `write` are both `{read}`: whoever has one of it may do both");
            cx.error(&path.key("read"), message, format!("write `token: {write}`, or name another set"));
        }
        _ => {}
    }
    found
}

/// The address is none that clients connect to.
fn apart(address: SocketAddr, listeners: &[plan::Listener], cx: &mut Context<'_>) {
    let overlaps = |other: SocketAddr| {
        let any = other.ip().is_unspecified() || address.ip().is_unspecified();
        other.port() == address.port() && (other.ip() == address.ip() || any && other.is_ipv4() == address.is_ipv4())
    };
    if address.port() != 0
        && let Some(index) = listeners.iter().position(|listener| overlaps(listener.address))
    {
        let mut path = ConfigPath::root().key("admin").key("address");
        if cx.origin(&path).line == 0 {
            path = ConfigPath::root().key("listeners").index(index).key("address");
        }
        let message = format!("`{address}` is the address of `admin` and of a listener");
        cx.error(&path, message, "choose another port for one of them, or write `admin: off`");
    }
}

fn compile_socket(raw: raw::AdminSocket, path: &ConfigPath, cx: &mut Context<'_>) -> Option<plan::AdminSocket> {
    let raw::AdminSocket { path: file, mode, owner, group } = raw;
    let Leaf(FilePath(file)) = cx.required(file, path, "path", "path: /run/probegate/admin.sock")?;
    let file = cx.environment().resolve(&file);
    // Its name is longer for a moment, while it takes the place of an earlier one.
    if file.as_os_str().len() + plan::AdminSocket::SUFFIX.len() > LONGEST {
        let message = format!("`{}` is too long for a socket", file.display());
        cx.error(&path.key("path"), message, format!("{LONGEST} bytes are what every system takes"));
    }
    let mode = mode.map_or(0o600, |Leaf(FileMode(mode))| mode);
    let name = |raw: Option<Leaf<Name>>| raw.map(|Leaf(Name(name))| name);
    let socket = plan::AdminSocket { path: file, mode, owner: name(owner), group: name(group) };
    lint::socket(&socket, path, cx);
    Some(socket)
}
