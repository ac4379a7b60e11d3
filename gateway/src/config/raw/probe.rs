//! Keys about probes: of one service, and of all.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Allow;
use crate::config::shape::Toggle;
use crate::config::value::{
    DenyWord, ExactPath, FieldText, FilePath, Flag, Host, Leaf, QueryWord, Seconds, SecretText, ServeWord, Text,
    Variable,
};

/// Probes. Each can be switched `off`, which hands its path to the app like any other. What is said beside them holds for all of them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `healthz`, `readyz`, `startupz` and `version`")]
pub(in crate::config) struct Probes {
    /// What stands in front of the paths that are not written: `/shop` makes `/shop/readyz` of `readyz`. Default: nothing.
    pub(in crate::config) prefix: Option<Leaf<ExactPath>>,
    /// For all of them, where one says nothing else: who answers.
    pub(in crate::config) serve: Option<Leaf<ServeWord>>,
    /// For all of them, where one says nothing else: who may ask.
    pub(in crate::config) allow: Option<Allow>,
    /// For all of them, where one says nothing else: what others see.
    pub(in crate::config) deny: Option<Leaf<DenyWord>>,
    /// For all of them, where one says nothing else: `Host` to send to the app.
    pub(in crate::config) host: Option<Leaf<Host>>,
    /// For all of them, where one says nothing else: a token that the app wants to see.
    pub(in crate::config) token: Option<AppToken>,
    /// For all of them, where one says nothing else: for the whole exchange with the app.
    pub(in crate::config) timeout: Option<Leaf<Seconds>>,
    /// For all of them, where one says nothing else: how long an answer of the app's serves everybody who asks.
    pub(in crate::config) cache: Option<Toggle<ProbeCache>>,
    /// For all of them, where one says nothing else: what becomes of a query.
    pub(in crate::config) query: Option<Leaf<QueryWord>>,
    /// Is the process alive? Anyone may ask unless `allow` says otherwise.
    pub(in crate::config) healthz: Option<Toggle<Probe>>,
    /// Can the app do its work? The network `internal` may ask unless `allow` says otherwise.
    pub(in crate::config) readyz: Option<Toggle<Probe>>,
    /// Has the app started? The network `internal` may ask unless `allow` says otherwise.
    pub(in crate::config) startupz: Option<Toggle<Probe>>,
    /// Which version is running? The network `internal` may ask unless `allow` says otherwise.
    pub(in crate::config) version: Option<Toggle<Probe>>,
}

/// One probe.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with the keys of a probe, or `off`")]
pub(in crate::config) struct Probe {
    /// Where clients ask. Default: its name, `/readyz`.
    pub(in crate::config) path: Option<Leaf<ExactPath>>,
    /// Who answers: the app (`forward`, the default) or the gateway without asking the app (`answer`).
    pub(in crate::config) serve: Option<Leaf<ServeWord>>,
    /// Who may ask.
    pub(in crate::config) allow: Option<Allow>,
    /// What others see: 403 (default), 404, or `close` for no answer at all.
    pub(in crate::config) deny: Option<Leaf<DenyWord>>,
    /// Where the app expects the question. Default: the same path.
    pub(in crate::config) upstream_path: Option<Leaf<ExactPath>>,
    /// `Host` to send to the app, one of Django's `ALLOWED_HOSTS`. Default: the client's.
    pub(in crate::config) host: Option<Leaf<Host>>,
    /// A token that the app wants to see.
    pub(in crate::config) token: Option<AppToken>,
    /// For the whole exchange with the app. Default: `800ms`, below the second after which Kubernetes gives up.
    pub(in crate::config) timeout: Option<Leaf<Seconds>>,
    /// How long an answer of the app's serves everybody who asks. `off`: the app is asked each time. Default: `{}`, for a second.
    pub(in crate::config) cache: Option<Toggle<ProbeCache>>,
    /// What becomes of a query: `pass` (default), or `drop`, so that no query makes another question of it.
    pub(in crate::config) query: Option<Leaf<QueryWord>>,
    /// Whether an app that has started has started for good, until one of its servers was not there or the list of servers changes. Only
    /// for `startupz`. Default: `false`.
    pub(in crate::config) latch: Option<Leaf<Flag>>,
    /// What the gateway answers, for `version` with `serve: answer`.
    pub(in crate::config) version: Option<Version>,
}

/// How long the answer to a probe serves everybody who asks.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{ok: 1s, fail: 500ms}`, or `off`")]
pub(in crate::config) struct ProbeCache {
    /// A good one (2xx). `0s`: only those share it who ask at the same time. Default: `1s`.
    pub(in crate::config) ok: Option<Leaf<Seconds>>,
    /// Any other one, or that there was none. Default: `1s`.
    pub(in crate::config) fail: Option<Leaf<Seconds>>,
    /// How much longer the last answer stands in for an app that does not answer at all. Default: `0s`, it does not.
    pub(in crate::config) stale: Option<Leaf<Seconds>>,
}

/// A token that the gateway shows to the app. Exactly one of `env`, `file` and `value` says which.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{env: APP_PROBE_TOKEN}`")]
pub(in crate::config) struct AppToken {
    /// The header to send it in. Default: `X-Probe-Token`.
    pub(in crate::config) header: Option<Leaf<FieldText>>,
    /// The environment variable that holds the token.
    pub(in crate::config) env: Option<Leaf<Variable>>,
    /// The file that holds the token; a line break at its end does not belong to it. Relative to the configuration file.
    pub(in crate::config) file: Option<Leaf<FilePath>>,
    /// The token in clear text. For experiments.
    pub(in crate::config) value: Option<Leaf<SecretText>>,
}

/// What the gateway tells about the app's version.
#[allow(clippy::struct_field_names, reason = "the keys are those of the answer")]
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{version: \"1.4.2\"}`")]
pub(in crate::config) struct Version {
    /// Name of the app. Default: the service's name.
    pub(in crate::config) service: Option<Leaf<Text>>,
    /// Where it runs. Default: `local`.
    pub(in crate::config) environment: Option<Leaf<Text>>,
    /// Its version. Default: `unknown`.
    pub(in crate::config) version: Option<Leaf<Text>>,
    /// The commit it was built from.
    pub(in crate::config) commit: Option<Leaf<Text>>,
    /// The branch it was built from.
    pub(in crate::config) branch: Option<Leaf<Text>>,
    /// When it was built.
    pub(in crate::config) build_time: Option<Leaf<Text>>,
    /// Which of two deployments it is, such as `blue`.
    pub(in crate::config) slot: Option<Leaf<Text>>,
}
