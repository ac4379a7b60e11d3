//! HTTPS to an authority, with what instant-acme's own client leaves out: a deadline for each request, a bound on answers, the roots that
//! are to be believed, `Retry-After` of refusals, and our name beside the library's (RFC 8555 §6.1).

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{HeaderMap, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::state::unix_time;

/// For one request, connecting included.
const PATIENCE: Duration = Duration::from_secs(30);

/// The largest answer that is read, in bytes. A chain takes some thousands.
const LARGEST: usize = 1 << 20;

const NAME: &str = concat!("probegate/", env!("CARGO_PKG_VERSION"), " instant-acme");

/// Speaks to one authority.
#[derive(Clone, Debug)]
pub(super) struct Https {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    /// When the authority wants to be asked again, in seconds since the epoch; 0: it has not said.
    later: Arc<AtomicU64>,
}

impl Https {
    /// Believes the authorities of the system, and that of the file `ca`.
    ///
    /// # Errors
    /// The file can not be used, or there is nobody to believe.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if let Some(path) = ca {
            let failed = |error: &dyn std::fmt::Display| format!("`ca: {}`: {error}", path.display());
            let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<_, _>>)
                .map_err(|error| failed(&error))?;
            if certificates.is_empty() {
                return Err(failed(&"there is no certificate in it"));
            }
            for certificate in certificates {
                roots.add(certificate).map_err(|error| failed(&error))?;
            }
        }
        if roots.is_empty() {
            return Err("the system has no list of authorities (Debian's package is `ca-certificates`)".to_owned());
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().enable_http2().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), later: Arc::default() })
    }

    /// When the authority wants to be asked again, if it has said so since the last call: seconds since the epoch.
    pub(super) fn take_later(&self) -> Option<u64> {
        Some(self.later.swap(0, Ordering::AcqRel)).filter(|&at| at > 0)
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(NAME));
        let (client, later) = (self.client.clone(), Arc::clone(&self.later));
        Box::pin(async move {
            let exchange = async {
                let response = client.request(request).await.map_err(|error| Error::Other(Box::new(error)))?;
                let (parts, body) = response.into_parts();
                if !parts.status.is_success()
                    && let Some(at) = retry_after(&parts.headers, unix_time())
                {
                    later.store(at, Ordering::Release);
                }
                let body = Limited::new(body, LARGEST).collect().await.map_err(Error::Other)?;
                Ok(BytesResponse { parts, body: Box::new(body.to_bytes()) })
            };
            let late = |_| Error::Other(format!("no answer within {} seconds", PATIENCE.as_secs()).into());
            tokio::time::timeout(PATIENCE, exchange).await.map_err(late)?
        })
    }
}

/// When `Retry-After` says, in seconds since the epoch (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap, now: u64) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(now.saturating_add(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    date.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_10_2_3_retry_after_is_seconds_or_a_date() {
        for (text, at) in
            [("120", Some(1120)), ("Thu, 01 Jan 1970 01:00:00 GMT", Some(3600)), ("soon", None), ("-1", None)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            assert_eq!(retry_after(&headers, 1000), at, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), 1000), None);
    }
}
