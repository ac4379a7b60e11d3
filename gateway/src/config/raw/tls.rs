//! Keys about certificates, on both sides of the gateway.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::shape::List;
use crate::config::value::{AcmeDirectory, ChallengeWord, DomainName, FilePath, Flag, Leaf, Name, Text};

/// TLS on a listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{certificates: [{cert: fullchain.pem, key: key.pem}]}`")]
pub(in crate::config) struct ListenerTls {
    /// What clients are shown, by the server name they ask for. At least one.
    #[schemars(required)]
    pub(in crate::config) certificates: Option<List<Certificate>>,
    /// The name whose certificate clients see who ask for none of the names. Default: they are refused.
    pub(in crate::config) default: Option<Leaf<DomainName>>,
    /// Clients are asked for a certificate.
    pub(in crate::config) client_certificates: Option<ClientCertificates>,
}

/// A certificate: from files (`cert` and `key`), or ordered by ACME (`acme`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{cert: fullchain.pem, key: key.pem}`")]
pub(in crate::config) struct Certificate {
    /// The chain in PEM, the server's own certificate first. Relative to the configuration file; watched for changes.
    pub(in crate::config) cert: Option<Leaf<FilePath>>,
    /// Its key in PEM.
    pub(in crate::config) key: Option<Leaf<FilePath>>,
    /// Ordered and renewed from an authority, such as Let's Encrypt.
    pub(in crate::config) acme: Option<Acme>,
}

/// A certificate that is ordered and renewed by ACME.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{email: ops@example.com, domains: [shop.example.com]}`")]
pub(in crate::config) struct Acme {
    /// The names in it, at least one.
    #[schemars(required)]
    pub(in crate::config) domains: Option<List<Leaf<DomainName>>>,
    /// Whom the authority writes to.
    pub(in crate::config) email: Option<Leaf<Text>>,
    /// The authority: `production` (default) and `staging` are Let's Encrypt's; any other by the URL of its directory.
    pub(in crate::config) directory: Option<Leaf<AcmeDirectory>>,
    /// The root of the authority's own server in PEM, where the system does not know it.
    pub(in crate::config) ca: Option<Leaf<FilePath>>,
    /// How control over the names is shown, in the order in which they are tried. Default: `[tls-alpn-01, http-01]`.
    pub(in crate::config) challenges: Option<List<Leaf<ChallengeWord>>>,
}

/// Which client certificates are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{accept: [partners], required: true}`")]
pub(in crate::config) struct ClientCertificates {
    /// Names of sets under `client_certificates`, at least one.
    #[schemars(required)]
    pub(in crate::config) accept: Option<List<Leaf<Name>>>,
    /// Whether clients without one are refused. Default: `false`; what they may do is up to `allow`.
    pub(in crate::config) required: Option<Leaf<Flag>>,
}

/// A set of client certificates.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{ca: partners.pem}`")]
pub(in crate::config) struct CertificateSet {
    /// The authorities that sign them, in PEM. Relative to the configuration file.
    #[schemars(required)]
    pub(in crate::config) ca: Option<Leaf<FilePath>>,
    /// Names of which a certificate must carry one: a DNS name, e-mail address or URI of its subjectAltName, or its common name where it has
    /// no subjectAltName. They are compared as they stand, without `*` or `CN=`. Default: every certificate of the authorities is in the set.
    pub(in crate::config) names: Option<List<Leaf<Text>>>,
}

/// TLS towards an app.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{ca: internal-ca.pem}`, or `{}`")]
pub(in crate::config) struct UpstreamTls {
    /// The authorities to believe, in PEM. Default: the system's.
    pub(in crate::config) ca: Option<Leaf<FilePath>>,
    /// The gateway's own certificate in PEM, for apps that ask for one.
    pub(in crate::config) cert: Option<Leaf<FilePath>>,
    /// Its key in PEM.
    pub(in crate::config) key: Option<Leaf<FilePath>>,
    /// The name the app's certificate must carry. Default: the host of the server.
    pub(in crate::config) server_name: Option<Leaf<DomainName>>,
    /// Whether the app's certificate is verified. Default: `true`. With `false`, anybody on the way can read and change everything.
    pub(in crate::config) verify: Option<Leaf<Flag>>,
}
