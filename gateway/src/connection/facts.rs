//! What is known about a connection before its first request.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use probegate_policies::client::Missing;
use probegate_policies::forwarded::Scheme;
use probegate_policies::proxy::Header;
use rustls::pki_types::CertificateDer;

use crate::request::judge::{Handshake, Showing};
use crate::state::Active;
use crate::tls::server::Listener;

/// What is known about a connection from the start.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The other side's address, canonical.
    pub peer: IpAddr,
    /// Its port.
    pub peer_port: u16,
    /// The address it connected to, canonical.
    pub local: IpAddr,
    /// The port it connected to.
    pub local_port: u16,
    /// How it is protected.
    pub scheme: Scheme,
    /// The listener that it was made on, as it is configured: a reload may have it demand more. Shared by its connections, of which the idle
    /// ones should hold little.
    pub listener: Rc<SocketAddr>,
    /// What the handshake told, on a TLS connection.
    pub secured: Option<Rc<Secured>>,
    /// Requests are redirected to HTTPS on this port.
    pub redirect_https: Option<u16>,
    /// Nothing is served but probes, for every host.
    pub probes_only: bool,
    /// Who the client is where a trusted proxy names nobody, if its listener says so. As it said when the connection was made, like what is served on it: a reload
    /// that narrows what may be asked and trusts more would otherwise trust whoever may still ask everything.
    pub missing: Option<Missing>,
    /// It counts towards the connections of its client, and so do its requests over HTTP/2. Those of trusted proxies do not, whoever else comes from their network.
    pub counted: bool,
}

/// What a TLS handshake told about a connection.
#[derive(Debug)]
pub struct Secured {
    /// The name the client asked for, lower-case.
    pub server_name: Option<Box<str>>,
    /// The names in the certificate that the client was shown. Of a resumed session: that it would have been shown.
    pub shown: Arc<[Box<str>]>,
    /// The version of TLS, as it is logged.
    pub version: &'static str,
    /// The cipher suite, as it is logged.
    pub cipher: &'static str,
    /// The client's certificate, verified.
    pub certificate: Option<ClientCertificate>,
    /// What the certificate, or that there is none, means under the plan that was asked last.
    pub judged: RefCell<Judged>,
}

/// What a plan makes of the client's certificate. The bits of another plan would mean other sets.
#[derive(Debug)]
pub struct Judged {
    /// The listener of the plan that was asked. Made anew for each plan; its memory is not used again while this points to it.
    pub by: Weak<Listener>,
    /// The sets that the certificate belongs to, a bit for each of [`crate::plan::Plan::client_certificates`].
    pub sets: u64,
    /// A certificate is demanded, and what was shown is none that counts: a reload has made the demand.
    pub unmet: bool,
}

/// A client's certificate, after it was verified.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate and those it was sent with: a reload has them judged again.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whom it names, as it is logged.
    pub subject: Box<str>,
}

impl Secured {
    /// Judges the certificate again where another plan is in force than the last time.
    fn judge(&self, active: &Active, listener: Option<&Arc<Listener>>) {
        let by = listener.map_or_else(Weak::new, Arc::downgrade);
        let mut judged = self.judged.borrow_mut();
        if listener.is_some() && judged.by.ptr_eq(&by) {
            return;
        }
        let clients = listener.and_then(|found| found.clients(&active.plan, self.server_name.as_deref()));
        let chain = self.certificate.as_ref().map(|certificate| certificate.chain.as_slice());
        let verdict = clients.map(|clients| clients.judge(chain));
        let unmet = matches!(verdict, Some(Err(_)));
        *judged = Judged { by, sets: verdict.and_then(Result::ok).unwrap_or(0), unmet };
    }
}

impl Facts {
    /// What the judgement of a request for `host` has to know of how the client has shown itself, under the plan in force.
    pub fn showing<'a>(&'a self, active: &'a Active, host: &[u8]) -> Showing<'a> {
        let listener = active.secured(*self.listener);
        let Some(secured) = &self.secured else {
            // Older than TLS on its listener: nobody was asked for anything.
            let clients = listener.and_then(|listener| listener.clients(&active.plan, None));
            return Showing { handshake: None, unmet: clients.is_some_and(|clients| clients.judge(None).is_err()) };
        };
        secured.judge(active, listener);
        let judged = secured.judged.borrow();
        let certificate = secured.certificate.as_ref().map(|_| judged.sets);
        let subject = secured.certificate.as_ref().map(|certificate| &*certificate.subject);
        let server_name = secured.server_name.as_deref();
        let instead = listener.and_then(|listener| listener.instead(server_name, &secured.shown, host));
        Showing { handshake: Some(Handshake { server_name, instead, certificate, subject }), unmet: judged.unmet }
    }

    /// The facts of a plain TCP connection, made on the listener that is configured as `listener`.
    pub fn plain(peer: SocketAddr, local: SocketAddr, listener: Rc<SocketAddr>) -> Self {
        Self {
            peer: probegate_policies::ip::canonical(peer.ip()),
            peer_port: peer.port(),
            local: probegate_policies::ip::canonical(local.ip()),
            local_port: local.port(),
            scheme: Scheme::Http,
            listener,
            secured: None,
            redirect_https: None,
            probes_only: false,
            missing: None,
            counted: false,
        }
    }

    /// A PROXY protocol header speaks for the connection: from here on, the client it names is the peer.
    pub fn relayed(&mut self, header: &Header) {
        if let Header::Relayed { source, destination } = header {
            self.peer = source.ip();
            self.peer_port = source.port();
            self.local = probegate_policies::ip::canonical(destination.ip());
            self.local_port = destination.port();
        }
    }
}
