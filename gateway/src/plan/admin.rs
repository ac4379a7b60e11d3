//! The admin listener: who may ask there, its socket, and where changes are written down.

use std::path::PathBuf;
use std::sync::Arc;

use probegate_policies::access::TokenSet;

/// Who may ask for what over TCP. Without any tokens: anybody on this machine, over loopback.
#[derive(Debug, Default)]
pub struct AdminTokens {
    /// These may look.
    pub read: Option<Arc<TokenSet>>,
    /// These may look, and change something.
    pub write: Option<Arc<TokenSet>>,
    /// Metrics are for everybody all the same.
    pub open_metrics: bool,
}

impl AdminTokens {
    /// Whether nothing has to be presented.
    pub fn is_empty(&self) -> bool {
        self.read.is_none() && self.write.is_none()
    }
}

impl AdminSocket {
    /// What its name ends with until it is as it is to be.
    pub const SUFFIX: &'static str = ".new";
}

/// A Unix socket that answers as the admin listener does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSocket {
    /// Where.
    pub path: PathBuf,
    /// Who may open it: the permissions of the file.
    pub mode: u32,
    /// Its owner, by name or number; `None`: who runs the gateway.
    pub owner: Option<Box<str>>,
    /// Its group, by name or number; `None`: that of who runs the gateway.
    pub group: Option<Box<str>>,
}
