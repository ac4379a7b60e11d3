//! Keys about one app and how it is reached.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Address, Allow, Balance, Bandwidth, ClientCertificates, Compression, Cors, ErrorPages, FieldEdits, Files, Health,
    Maintenance, Probes, Queue, Redirect, Retries, SecurityHeaders, Server, Switching, UpstreamSlot, UpstreamTls,
};
use crate::config::shape::{List, Named, Preset, Toggle};
use crate::config::value::{
    Count, Date, DenyWord, FailureStatus, Flag, Host, Leaf, Name, ProtocolWord, Seconds, ServerHeaderWord, Size,
    StatusesWord, Upgrade,
};
use probegate_policies::host::HostPattern;
use probegate_policies::route::PathPrefix;

/// One app behind the gateway.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with the keys of a service")]
pub(in crate::config) struct Service {
    /// The hosts it answers for: `shop.example.com`, `*.example.com`, or `*` for all others. May be left out when there is only
    /// one service.
    pub(in crate::config) hosts: Option<List<Leaf<HostPattern>>>,
    /// Where the app listens. Only a service that is a `redirect`, or has `slots`, may have none.
    pub(in crate::config) upstream: Option<Upstream>,
    /// Groups of servers by name, two or more, of which one gets the requests: for releases that take turns, see `probegate switch`. How they are
    /// spoken to stands in `upstream`, without `servers`. Default: none.
    pub(in crate::config) slots: Option<Named<UpstreamSlot>>,
    /// The slot that gets requests while nobody has switched.
    pub(in crate::config) active: Option<Leaf<Name>>,
    /// How `probegate switch` moves requests, where it does not say it itself.
    pub(in crate::config) switch: Option<Switching>,
    /// The largest request body. Default: `1MiB`.
    pub(in crate::config) max_body: Option<Leaf<Size>>,
    /// Whether the app is kept from slow clients. `off`: neither requests nor answers wait here. Default: both do.
    pub(in crate::config) buffering: Option<Toggle<Buffering>>,
    /// Whether answers are compressed, and which. `{}`: with the defaults. Default: `off`.
    pub(in crate::config) compression: Option<Toggle<Compression>>,
    /// Changes of header fields on the way to the app. Default: none.
    pub(in crate::config) request_headers: Option<FieldEdits>,
    /// Changes of header fields of answers, the app's and the gateway's own. Default: none.
    pub(in crate::config) response_headers: Option<FieldEdits>,
    /// `Host` to send to the app. Default: the client's.
    pub(in crate::config) host: Option<Leaf<Host>>,
    /// How fast answers may go out. Default: `off`, as fast as clients take them.
    pub(in crate::config) bandwidth: Option<Toggle<Bandwidth>>,
    /// Headers that tell browsers to be careful, where the app sends none of its own: `true`, or what differs. Default: none.
    pub(in crate::config) security_headers: Option<Preset<SecurityHeaders>>,
    /// Which other origins may read answers (CORS). Default: the app says.
    pub(in crate::config) cors: Option<Toggle<Cors>>,
    /// Clients are sent elsewhere, and the app is not asked; there is no `upstream` then. Default: they are not.
    pub(in crate::config) redirect: Option<Redirect>,
    /// Files with the pages that browsers see in place of errors, by status: `"404"`, `5xx` for all of a class, `default` for all. `off`, for one
    /// or for all: the small page that is built in. Default: as the top level says. What is written here comes on top of that.
    pub(in crate::config) error_pages: Option<ErrorPages>,
    /// Statuses of the app's own answers whose body is replaced by the page: `[502, 503]`, `[5xx]`. Default: `[]`.
    pub(in crate::config) intercept: Option<List<Leaf<StatusesWord>>>,
    /// Whether the service is in maintenance, `true` or `false`, or what happens while it is. Default: `false`.
    pub(in crate::config) maintenance: Option<Preset<Maintenance>>,
    /// Browsers are told to come back over HTTPS only (`Strict-Transport-Security`). Default: they are not.
    pub(in crate::config) hsts: Option<Hsts>,
    /// What becomes of `Server` in answers: `off` (default) for none, `pass` for the app's, or a text of your own.
    pub(in crate::config) server_header: Option<Leaf<ServerHeaderWord>>,
    /// Clients that name one of the hosts in the handshake are asked for a certificate. Default: as the listener says.
    pub(in crate::config) client_certificates: Option<ClientCertificates>,
    /// Protocols that clients may switch to. Default: `[websocket]`; `[]` for none.
    pub(in crate::config) upgrades: Option<List<Leaf<Upgrade>>>,
    /// The probes. One that is not mentioned is guarded with its defaults.
    pub(in crate::config) probes: Option<Probes>,
    /// Names of limits on every request but probes. Default: none.
    pub(in crate::config) limits: Option<List<Leaf<Name>>>,
    /// Parts of the app with rules or limits of their own. The longest path wins.
    pub(in crate::config) routes: Option<List<Route>>,
}

/// Where the app listens.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{servers: [\"127.0.0.1:8000\"]}`")]
pub(in crate::config) struct Upstream {
    /// The app's servers, at least one: `127.0.0.1:8000`, `app:8000` or `unix:/run/app.sock`, or a mapping with `address`. Left out where the
    /// service has `slots`.
    pub(in crate::config) servers: Option<List<Server>>,
    /// Which server gets a request: `least_in_flight` (default), `round_robin`, or the one that its `{hash: client_ip}`, `{hash: {header: NAME}}`
    /// or `{hash: {cookie: NAME}}` belongs to.
    pub(in crate::config) balance: Option<Balance>,
    /// After how many failures within `fail_timeout` a server is left out; 0 for never. Default: 1.
    pub(in crate::config) max_fails: Option<Leaf<Count>>,
    /// How long it is left out at first. Default: `10s`.
    pub(in crate::config) fail_timeout: Option<Leaf<Seconds>>,
    /// How long a server that is back takes to get its whole share. Default: `0s`.
    pub(in crate::config) slow_start: Option<Leaf<Seconds>>,
    /// Statuses of the app's that count as failures of its server. Default: `[]`.
    pub(in crate::config) fail_on: Option<List<Leaf<FailureStatus>>>,
    /// Requests that wait because every server is at `max_in_flight`. `off`: none waits. Default: 100 wait for 5 seconds.
    pub(in crate::config) queue: Option<Toggle<Queue>>,
    /// Requests that are sent again. `off`: none is, but after a race for a kept connection. Default: what does no harm twice.
    pub(in crate::config) retries: Option<Toggle<Retries>>,
    /// To establish a connection. Default: `5s`.
    pub(in crate::config) connect_timeout: Option<Leaf<Seconds>>,
    /// From the complete request to the first byte of the answer, and between two parts of its body. Default: `60s`.
    pub(in crate::config) response_timeout: Option<Leaf<Seconds>>,
    /// How long an unused connection is kept. Must stay below the app's own keep-alive time. Default: `1500ms`.
    pub(in crate::config) idle_timeout: Option<Leaf<Seconds>>,
    /// Unused connections kept for each server and worker. Those beyond are closed once nobody needed them for a moment, a twentieth of a second or
    /// two; with 0, at once. Default: 64.
    pub(in crate::config) max_idle: Option<Leaf<Count>>,
    /// What the app speaks: `http1` (default) or `http2`, which gRPC needs.
    pub(in crate::config) protocol: Option<Leaf<ProtocolWord>>,
    /// The app is spoken to over TLS. Default: it is not, unless a server is written as `https://…`.
    pub(in crate::config) tls: Option<UpstreamTls>,
    /// Whether every connection begins with a PROXY protocol header (version 2) that names the client. Such a connection serves one request.
    /// Default: `false`.
    pub(in crate::config) proxy_protocol: Option<Leaf<Flag>>,
    /// The servers of DNS to ask for names of servers. Default: as `/etc/resolv.conf` says.
    pub(in crate::config) resolver: Option<List<Address>>,
    /// How servers are checked, whether or not anybody asks them. Default: they are not.
    pub(in crate::config) health: Option<Health>,
}

/// Whether the app is kept from slow clients.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{request: false}`")]
pub(in crate::config) struct Buffering {
    /// Whether the app is asked only when the whole body of a request is here. Default: `true`.
    pub(in crate::config) request: Option<Leaf<Flag>>,
    /// Whether the app can go on with other work while a slow client takes its answer. Default: `true`.
    pub(in crate::config) response: Option<Leaf<Flag>>,
}

/// `Strict-Transport-Security`: browsers are told to come back over HTTPS only.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{max_age: 8760h, since: 2026-12-01}`")]
pub(in crate::config) struct Hsts {
    /// How long browsers remember it, in whole seconds. `0s` makes them forget.
    #[schemars(required)]
    pub(in crate::config) max_age: Option<Leaf<Seconds>>,
    /// The day a ramp begins: browsers are told to remember it as long as it has been told already, five minutes on the first day, up to
    /// `max_age`. Default: no ramp.
    pub(in crate::config) since: Option<Leaf<Date>>,
    /// Whether it holds for subdomains, too. Default: `false`.
    pub(in crate::config) include_subdomains: Option<Leaf<Flag>>,
    /// Whether browsers may ship it. Default: `false`.
    pub(in crate::config) preload: Option<Leaf<Flag>>,
}

/// A part of an app with rules or limits of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{path: /admin/, allow: {network: office}}`")]
pub(in crate::config) struct Route {
    /// What it covers: this path and everything below it.
    #[schemars(required)]
    pub(in crate::config) path: Option<Leaf<PathPrefix>>,
    /// Who may enter. Default: `anyone`.
    pub(in crate::config) allow: Option<Allow>,
    /// What others see: 403 (default), 404, or `close` for no answer at all.
    pub(in crate::config) deny: Option<Leaf<DenyWord>>,
    /// Names of limits in addition to the service's.
    pub(in crate::config) limits: Option<List<Leaf<Name>>>,
    /// The largest request body. Default: as the service says.
    pub(in crate::config) max_body: Option<Leaf<Size>>,
    /// Whether the app is kept from slow clients. Default: as the service says.
    pub(in crate::config) buffering: Option<Toggle<Buffering>>,
    /// Whether answers are compressed, and which. Default: as the service says. What is written here replaces all of that.
    pub(in crate::config) compression: Option<Toggle<Compression>>,
    /// Changes of header fields on the way to the app. Default: none but the service's.
    pub(in crate::config) request_headers: Option<FieldEdits>,
    /// Changes of header fields of answers, the app's and the gateway's own. Default: none but the service's.
    pub(in crate::config) response_headers: Option<FieldEdits>,
    /// `Host` to send to the app. Default: as the service says.
    pub(in crate::config) host: Option<Leaf<Host>>,
    /// Files answer, not the app. Default: the app does.
    pub(in crate::config) files: Option<Files>,
    /// How fast answers may go out. Default: as the service says. What is written here replaces all of that.
    pub(in crate::config) bandwidth: Option<Toggle<Bandwidth>>,
    /// Headers that tell browsers to be careful, where the app sends none of its own: `true`, or what differs. Default: as the service says.
    pub(in crate::config) security_headers: Option<Preset<SecurityHeaders>>,
    /// Which other origins may read answers (CORS). Default: as the service says.
    pub(in crate::config) cors: Option<Toggle<Cors>>,
    /// Clients are sent elsewhere, and the app is not asked. Default: as the service says.
    pub(in crate::config) redirect: Option<Redirect>,
    /// Files with the pages that browsers see in place of errors. Default: as the service says. What is written here comes on top of that.
    pub(in crate::config) error_pages: Option<ErrorPages>,
    /// Statuses of the app's own answers whose body is replaced by the page. Default: as the service says. What is written here replaces all of that.
    pub(in crate::config) intercept: Option<List<Leaf<StatusesWord>>>,
    /// What is cut off the front of the path before the app sees it; it is told as `X-Forwarded-Prefix`. Default: nothing.
    pub(in crate::config) strip_prefix: Option<Leaf<PathPrefix>>,
    /// What is put in front of the path before the app sees it. Default: nothing.
    pub(in crate::config) add_prefix: Option<Leaf<PathPrefix>>,
}
