//! Texts with variables, as field edits, redirects and pages use them: taken apart once, when the configuration is read.

use std::fmt;

/// A text with variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(Box<[Segment]>);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// These characters, visible ASCII and blanks.
    Text(Box<str>),
    /// What the request says here.
    Variable(Variable),
}

impl Template {
    /// A template of these parts.
    pub fn new(segments: impl Into<Box<[Segment]>>) -> Self {
        Self(segments.into())
    }

    /// Its parts in order.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether it names a variable.
    pub fn names(&self, variable: Variable) -> bool {
        self.0.contains(&Segment::Variable(variable))
    }
}

impl fmt::Display for Template {
    /// As it is written, but for `$${`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.0 {
            match segment {
                Segment::Text(text) => f.write_str(text)?,
                Segment::Variable(variable) => write!(f, "${{{}}}", variable.name())?,
            }
        }
        Ok(())
    }
}

/// What a template can ask about a request. None of them can stand for a byte that ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// The client's address as the rules see it; for an unknown client the one that no host can have (as in `X-Forwarded-For`).
    ClientIp,
    /// Whom the client's certificate names; empty where it showed none. `%`, and what is not printable ASCII, as `%HH`.
    ClientCertificate,
    /// The host the request is for, as received, without port.
    Host,
    /// The method.
    Method,
    /// The path, percent-encoded, without dot segments, before any prefix is stripped.
    Path,
    /// The port the client used.
    Port,
    /// The query without its `?`.
    Query,
    /// The name of the request in all logs.
    RequestId,
    /// The path behind the route's own, percent-encoded; it begins with `/`, like the path.
    Rest,
    /// The path of the route, percent-encoded; empty where the request meets none.
    Route,
    /// How the client spoke to the first proxy: `http` or `https`.
    Scheme,
    /// The service's name.
    Service,
}

impl Variable {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::ClientIp,
        Self::ClientCertificate,
        Self::Host,
        Self::Method,
        Self::Path,
        Self::Port,
        Self::Query,
        Self::RequestId,
        Self::Rest,
        Self::Route,
        Self::Scheme,
        Self::Service,
    ];

    /// As it is written between `${` and `}`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientIp => "client_ip",
            Self::ClientCertificate => "client_certificate",
            Self::Host => "host",
            Self::Method => "method",
            Self::Path => "path",
            Self::Port => "port",
            Self::Query => "query",
            Self::RequestId => "request_id",
            Self::Rest => "rest",
            Self::Route => "route",
            Self::Scheme => "scheme",
            Self::Service => "service",
        }
    }
}
