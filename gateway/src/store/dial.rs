//! Sockets to the servers of a store.
//!
//! Not those of [`crate::upstream`]: the client library drives a connection by itself, and wants streams of its own runtime.

use std::io;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::plan::{ServerAddress, StoreServer, UpstreamTls};

/// A socket.
pub(super) enum Dialled {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to a server.
///
/// # Errors
/// Nobody is there, or nobody who can be trusted.
pub(super) async fn dial(server: &StoreServer, tls: Option<&Arc<ClientConfig>>) -> io::Result<Dialled> {
    let stream = match &server.address {
        ServerAddress::Unix(path) => return UnixStream::connect(path).await.map(Dialled::Unix),
        ServerAddress::Tcp(address) => TcpStream::connect(address).await?,
        ServerAddress::Name(name, port) => TcpStream::connect((&**name, *port)).await?,
    };
    // A question is one small segment, and somebody waits for its answer.
    stream.set_nodelay(true)?;
    match (tls, &server.name) {
        (Some(tls), Some(name)) => {
            let stream = TlsConnector::from(Arc::clone(tls)).connect(name.clone(), stream).await?;
            Ok(Dialled::Tls(Box::new(stream)))
        }
        _ => Ok(Dialled::Tcp(stream)),
    }
}

/// What TLS is spoken with. `None`: the plan's certificates can not be used, which was found out when it was made.
pub(super) fn config(tls: &UpstreamTls) -> Option<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(crate::tls::provider());
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    let mut roots = RootCertStore::empty();
    // A system's store may hold what nobody can read; such an authority is not believed.
    roots.add_parsable_certificates(tls.authorities.iter().cloned());
    let builder = builder.with_root_certificates(roots);
    match &tls.certificate {
        Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key()).ok(),
        None => Some(builder.with_no_client_auth()),
    }
}
