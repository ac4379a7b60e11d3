//! Probes: who may ask, who answers, and for how long an answer serves.

use std::time::Duration;

use probegate_policies::access::{Origin, Rule};
use probegate_policies::probe::{ProbeKind, VersionInfo};
use probegate_policies::shield::Terms;
use secrecy::SecretSlice;

use super::Deny;

/// One probe of a service.
#[derive(Debug)]
pub struct Probe {
    /// Which question it answers.
    pub kind: ProbeKind,
    /// The canonical path it is found at.
    pub path: Box<str>,
    /// Who answers.
    pub serve: Serve,
    /// Who may ask.
    pub allow: Rule,
    /// What strangers see.
    pub deny: Deny,
    /// Where the probe is defined (0 when it is a default).
    pub origin: Origin,
}

/// Who answers a probe.
#[derive(Debug)]
pub enum Serve {
    /// The gateway, without asking the app.
    Answer(VersionInfo),
    /// The app, asked as it wants to be asked.
    Forward(Box<ProbeForward>),
}

/// How a probe is put to the app.
#[derive(Debug)]
pub struct ProbeForward {
    /// Path at the app, when it differs from the one clients use.
    pub path: Box<str>,
    /// `Host` to send (one of Django's `ALLOWED_HOSTS`); `None`: the client's.
    pub host: Option<Box<str>>,
    /// `Host` to send where clients name any host: the first of the service's that is a name; `None`: the client's all the same.
    pub own: Option<Box<str>>,
    /// A token the app wants to see: field name as it is sent, and value.
    pub token: Option<AppToken>,
    /// The whole exchange with the app. Kubelet gives up after one second.
    pub timeout: Duration,
    /// How long an answer serves everybody who asks; `None`: the app is asked by each of them.
    pub cache: Option<Terms>,
    /// The query goes to the app.
    pub query: bool,
}

/// A token that the gateway shows to the app.
#[derive(Debug)]
pub struct AppToken {
    /// Field name as it is sent.
    pub field: Box<str>,
    /// Its value; printable ASCII without line breaks.
    pub secret: SecretSlice<u8>,
}
