//! Answers of the app's whose body is not the one that clients see: the status is the app's, the page is the gateway's (nginx's
//! `proxy_intercept_errors`).
//!
//! Invariant: nothing of the app's body reaches the client, nor anything that the app says about it.

use probegate_policies::fields::FieldName;

use super::answer::Fields;
use super::page::Told;
use super::prepare::Case;
use super::refuse;
use crate::wire::head::{FieldView, Name, ResponseHead, elements};
use crate::wire::{Answer, ClientGone, Responder};

/// What stays of the app's answer.
#[derive(Debug)]
pub struct Taken {
    status: u16,
    /// Names and values.
    fields: Vec<(String, Vec<u8>)>,
    /// Seconds, where the app says them in this form.
    retry_after: Option<u64>,
}

/// Fields that stay true of an answer with another body: when to come back, how to sign in, which methods there are, what the browser keeps, and who may
/// read it.
const KEPT: [&str; 7] =
    ["retry-after", "www-authenticate", "proxy-authenticate", "allow", "set-cookie", "vary", "clear-site-data"];

/// Fields of one answer that are kept at the most.
const MOST: usize = 64;

impl Taken {
    /// What stays of this answer. `dropped`: fields that do not pass; nor do those that its `Connection` nominates (RFC 9110 §7.6.1).
    pub fn of(head: &ResponseHead, bytes: &[u8], dropped: &[FieldName]) -> Self {
        let mut taken = Self { status: head.status, fields: Vec::new(), retry_after: None };
        let view = FieldView { bytes, fields: &head.fields };
        for field in &head.fields {
            let (name, value) = (field.name.of(bytes), field.value.of(bytes));
            let is_kept = KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept.as_bytes()))
                || name.get(..15).is_some_and(|start| start.eq_ignore_ascii_case(b"access-control-"));
            if field.known != Name::Other
                || !is_kept
                || dropped.iter().any(|dropped| dropped.matches(name))
                || view.of(Name::Connection).flat_map(elements).any(|option| option.eq_ignore_ascii_case(name))
                || taken.fields.len() == MOST
            {
                continue;
            }
            if name.eq_ignore_ascii_case(b"retry-after") {
                taken.retry_after = std::str::from_utf8(value).ok().and_then(|seconds| seconds.parse().ok());
            }
            taken.fields.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
        }
        taken
    }

    /// Answers with the page for the app's status. `text` is memory for it.
    pub async fn answer<R: Responder>(
        &self,
        case: &Case<'_>,
        text: &mut Vec<u8>,
        reply: &mut R,
    ) -> Result<(), ClientGone> {
        let form = refuse::wanted(case.received, case.handling.errors.as_deref(), self.status);
        let (form, _held) = form.within(case.active, case.budget);
        let told = Told {
            status: self.status,
            detail: "",
            id: case.id,
            retry_after: self.retry_after,
            limit: None,
            banned: false,
        };
        form.write(&told, text);
        let own: Fields<'_> = form.fields();
        let fields: Vec<(&str, &[u8])> =
            own.as_slice().iter().copied().chain(self.fields.iter().map(|(name, value)| (&**name, &**value))).collect();
        reply.answer(&Answer { status: self.status, fields: &fields, body: text }).await
    }
}

/// Whether the body behind this head may be replaced. A call of gRPC has its status in trailers, and its clients read no page.
pub fn may_replace(head: &ResponseHead, bytes: &[u8]) -> bool {
    !FieldView { bytes, fields: &head.fields }.of(Name::ContentType).any(is_grpc)
}

/// Whether a media type is one of gRPC.
pub fn is_grpc(kind: &[u8]) -> bool {
    kind.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::h1::response::ResponseParser;

    #[test]
    fn what_speaks_of_the_body_goes_and_what_speaks_to_the_client_stays() {
        let bytes = b"HTTP/1.1 503 Busy\r\nContent-Type: text/html\r\nContent-Length: 9\r\nContent-Encoding: gzip\r\n\
            ETag: \"a\"\r\nLast-Modified: x\r\nAccept-Ranges: bytes\r\nContent-Range: bytes */9\r\nCache-Control: max-age=60\r\n\
            Expires: 0\r\nContent-Security-Policy: default-src 'none'\r\nLink: </a>\r\nX-Debug: 1\r\nServer: app\r\n\
            X-Gateway-Error: forged\r\nTrailer: X-Sum\r\nDigest: x\r\nretry-after: 30\r\nWWW-Authenticate: Basic\r\nSet-Cookie: a=b\r\n\
            Set-Cookie: c=d\r\nConnection: close, Proxy-Authenticate\r\nProxy-Authenticate: Basic\r\nConnection: ACCESS-CONTROL-MAX-AGE\r\n\
            Access-Control-Max-Age: 1\r\nVary: Cookie\r\nAllow: GET\r\nAccess-Control-Allow-Origin: *\r\n\r\n";
        let mut head = ResponseHead::default();
        assert_eq!(ResponseParser::default().advance(bytes, &mut head), Ok(true));
        let taken = Taken::of(&head, bytes, &["allow".parse().unwrap()]);
        let names: Vec<&str> = taken.fields.iter().map(|(name, _)| &**name).collect();
        assert_eq!(
            names,
            ["retry-after", "WWW-Authenticate", "Set-Cookie", "Set-Cookie", "Vary", "Access-Control-Allow-Origin"]
        );
        assert_eq!((taken.status, taken.retry_after), (503, Some(30)));
        assert!(may_replace(&head, bytes));
        let bytes = b"HTTP/1.1 503 Busy\r\nContent-Type: application/grpc+proto\r\n\r\n";
        let mut head = ResponseHead::default();
        assert_eq!(ResponseParser::default().advance(bytes, &mut head), Ok(true));
        assert!(!may_replace(&head, bytes));
    }
}
