//! Keys about what is changed in requests and answers.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::shape::{List, Named};
use crate::config::value::{
    FieldOrAny, FieldText, Flag, FramesWord, Leaf, Method, OriginWord, RedirectStatus, Seconds, TemplateText,
    ValueOrOff,
};

/// Changes of header fields. A field stands in one of them only.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{set: {X-Env: prod}, remove: [X-Debug]}`")]
pub(in crate::config) struct FieldEdits {
    /// Fields by name that replace whatever is there.
    pub(in crate::config) set: Option<Named<Leaf<TemplateText>>>,
    /// Fields by name that come besides whatever is there.
    pub(in crate::config) add: Option<Named<Leaf<TemplateText>>>,
    /// Names of fields that do not pass.
    pub(in crate::config) remove: Option<List<Leaf<FieldText>>>,
}

/// Headers that tell browsers to be careful. The app's own come first.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{frames: same_origin}`")]
pub(in crate::config) struct SecurityHeaders {
    /// Whether `X-Content-Type-Options: nosniff` is sent. Default: `true`.
    pub(in crate::config) content_type_options: Option<Leaf<Flag>>,
    /// `Referrer-Policy`. Default: `strict-origin-when-cross-origin`.
    pub(in crate::config) referrer_policy: Option<Leaf<ValueOrOff>>,
    /// Who may show pages in frames, by `X-Frame-Options` and `Content-Security-Policy: frame-ancestors`. Default: `deny`.
    pub(in crate::config) frames: Option<Leaf<FramesWord>>,
    /// `Permissions-Policy`. Default: `camera=(), geolocation=(), microphone=()`.
    pub(in crate::config) permissions_policy: Option<Leaf<ValueOrOff>>,
    /// `Cross-Origin-Opener-Policy`. Default: `same-origin`.
    pub(in crate::config) cross_origin_opener_policy: Option<Leaf<ValueOrOff>>,
}

/// Which other origins may read answers (CORS). The gateway speaks for the app, and answers preflights.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{origins: [\"https://shop.example.com\"]}`")]
pub(in crate::config) struct Cors {
    /// The origins, at least one: `https://shop.example.com`, `https://*.example.com` for its subdomains, or `*` for all.
    #[schemars(required)]
    pub(in crate::config) origins: Option<List<Leaf<OriginWord>>>,
    /// Methods that may be used besides those that need no question. Default: `[GET, HEAD, POST]`.
    pub(in crate::config) methods: Option<List<Leaf<Method>>>,
    /// Headers that may be sent besides those that need no question, or `*`. Default: none.
    pub(in crate::config) headers: Option<List<Leaf<FieldOrAny>>>,
    /// Headers of answers that may be read besides those that always may. Default: none.
    pub(in crate::config) expose: Option<List<Leaf<FieldOrAny>>>,
    /// Whether cookies and other credentials may be sent. Default: `false`.
    pub(in crate::config) credentials: Option<Leaf<Flag>>,
    /// How long browsers remember what a preflight told. Default: `10m`.
    pub(in crate::config) max_age: Option<Leaf<Seconds>>,
}

/// Clients are sent elsewhere.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{to: \"https://www.example.com${path}\", status: 301}`")]
pub(in crate::config) struct Redirect {
    /// The place: `https://…`, or a path on the same host.
    #[schemars(required)]
    pub(in crate::config) to: Option<Leaf<TemplateText>>,
    /// 301 or 308 for good, 302, 303 or 307 for now; 307 and 308 keep the method. Default: 307.
    pub(in crate::config) status: Option<Leaf<RedirectStatus>>,
    /// Whether the query of the request follows. Default: `true`, unless `to` names `${query}`.
    pub(in crate::config) keep_query: Option<Leaf<Flag>>,
}
