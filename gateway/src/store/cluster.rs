//! Clusters: the client library finds the servers, and follows them when slots move.

use std::time::Duration;

use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::{
    ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisResult, TlsCertificates, TlsMode,
};
use secrecy::ExposeSecret as _;

use super::pem;
use crate::plan::{LimitStore, ServerAddress};

/// What connecting to one server of the cluster may take.
const CONNECT: Duration = Duration::from_secs(1);

/// What the library may spend on a question; who asked has given up long before.
const ANSWER: Duration = Duration::from_secs(1);

/// Connects to the cluster.
///
/// # Errors
/// None of the servers that are configured tells of the others.
pub(super) async fn open(store: &LimitStore) -> RedisResult<ClusterConnection> {
    let nodes = store.servers.iter().filter_map(|server| {
        let (host, port) = match &server.address {
            ServerAddress::Tcp(address) => (address.ip().to_string(), address.port()),
            ServerAddress::Name(name, port) => (name.to_string(), *port),
            // Refused when the plan was made.
            ServerAddress::Unix(_) => return None,
        };
        let address = match store.tls {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        };
        address.into_connection_info().ok()
    });
    let nodes: Vec<ConnectionInfo> = nodes.collect();
    let mut builder: ClusterClientBuilder = ClusterClient::builder(nodes)
        // One more where a slot has moved; more than that takes longer than anybody waits.
        .retries(2)
        .min_retry_wait(1)
        .max_retry_wait(10)
        .connection_timeout(CONNECT)
        .response_timeout(ANSWER);
    if let Some(user) = &store.login.user {
        builder = builder.username(user);
    }
    if let Some(password) = &store.login.password {
        builder = builder.password(password.expose_secret());
    }
    if let Some(tls) = &store.tls {
        let client_tls = tls
            .certificate
            .as_ref()
            .map(|own| ClientTlsConfig { client_cert: pem::certificates(&own.chain), client_key: pem::key(&own.key) });
        let root_cert = Some(pem::certificates(&tls.authorities));
        builder = builder.tls(TlsMode::Secure).certs(TlsCertificates { client_tls, root_cert });
    }
    builder.build()?.get_async_connection().await
}
