//! What the body of an error says: a page for people, or a problem document (RFC 9457) for programs.
//!
//! Invariant: nothing that a client or an app has sent is in it. The request id is the gateway's own, and so is every sentence.

use std::io::Write as _;

use crate::plan::{Page, PagePart, PageVariable};
use crate::wire::text::{push_number, reason_phrase};

/// What is told about an error.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The status.
    pub status: u16,
    /// Why; empty where the client is not told.
    pub detail: &'a str,
    /// The request's id.
    pub id: &'a [u8; 32],
    /// Seconds until the client may come back.
    pub retry_after: Option<u64>,
    /// The limit that was exceeded.
    pub limit: Option<&'a str>,
    /// The client is banned, and told so.
    pub banned: bool,
}

impl Told<'_> {
    /// Writes the document.
    pub fn document(&self, out: &mut Vec<u8>) {
        out.clear();
        let kind = match self.limit {
            // Not the client: the server is the reason.
            Some(_) if self.status == 503 => {
                "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
            }
            Some(_) => "https://iana.org/assignments/http-problem-types#quota-exceeded",
            None if self.banned => "https://iana.org/assignments/http-problem-types#abnormal-usage-detected",
            None => "about:blank",
        };
        for part in ["{\"type\":\"", kind, "\",\"title\":\"", reason_phrase(self.status), "\",\"status\":"] {
            out.extend_from_slice(part.as_bytes());
        }
        push_number(out, u64::from(self.status));
        if !self.detail.is_empty() {
            for part in [",\"detail\":\"", self.detail, "\""] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        if let Some(limit) = self.limit {
            for part in [",\"violated-policies\":[\"", limit, "\"]"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(b",\"request_id\":\"");
        out.extend_from_slice(self.id);
        out.extend_from_slice(b"\"}\n");
    }

    /// Writes a page of the configuration's own, or the one that is built in.
    pub fn page(&self, page: Option<&Page>, out: &mut Vec<u8>) {
        out.clear();
        out.reserve(page.map_or(0, |page| usize::try_from(page.length()).unwrap_or(0)));
        match page {
            Some(page) => page.parts.iter().for_each(|part| match part {
                PagePart::Text(text) => out.extend_from_slice(text.as_bytes()),
                PagePart::Variable(variable) => self.variable(*variable, out),
            }),
            None => self.built_in(out),
        }
    }

    fn variable(&self, variable: PageVariable, out: &mut Vec<u8>) {
        match variable {
            PageVariable::Detail => escape(self.detail, out),
            PageVariable::RequestId => out.extend_from_slice(self.id),
            PageVariable::RetryAfter => {
                if let Some(seconds) = self.retry_after {
                    push_number(out, seconds);
                }
            }
            PageVariable::Status => push_number(out, self.status.into()),
            PageVariable::Title => escape(reason_phrase(self.status), out),
        }
    }

    fn built_in(&self, out: &mut Vec<u8>) {
        let (status, title) = (self.status, reason_phrase(self.status));
        let written = write!(
            out,
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>{status} {title}</title>\n<style>body{{font:1rem/1.5 system-ui,sans-serif;margin:4rem auto;max-width:36rem;\
             padding:0 1rem;color-scheme:light dark}}</style>\n<h1>{status} {title}</h1>\n<p>"
        );
        debug_assert!(written.is_ok());
        escape(self.detail, out);
        out.extend_from_slice(b"</p>\n<p><small>Request ");
        out.extend_from_slice(self.id);
        out.extend_from_slice(b"</small></p>\n");
    }
}

/// Writes text so that it is text wherever it stands in HTML, between quotes of both kinds as well.
fn escape(text: &str, out: &mut Vec<u8>) {
    for &byte in text.as_bytes() {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: Told<'static> = Told {
        status: 503,
        detail: "it's <b>\"&\"",
        id: &[b'a'; 32],
        retry_after: Some(60),
        limit: None,
        banned: false,
    };

    #[test]
    fn a_page_says_what_is_known_as_text() {
        let parts = PageVariable::ALL.into_iter().flat_map(|variable| {
            [PagePart::Text(format!("<i {}>", variable.name()).into()), PagePart::Variable(variable)]
        });
        let page = Page { name: "x".into(), parts: parts.collect() };
        let mut out = b"before".to_vec();
        TOLD.page(Some(&page), &mut out);
        let id = "a".repeat(32);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(
                "<i detail>it&#39;s &lt;b&gt;&quot;&amp;&quot;<i request_id>{id}<i retry_after>60<i status>503\
                 <i title>Service Unavailable"
            )
        );
        let mut out = Vec::new();
        Told { retry_after: None, detail: "", ..TOLD }.page(Some(&page), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("<i detail><i request_id>") && text.contains("<i retry_after><i status>"), "{text}");
    }

    #[test]
    fn every_reason_makes_a_document_that_is_json() {
        for reason in probegate_policies::reason::Reason::ALL {
            let mut out = Vec::new();
            Told { status: reason.status(), detail: reason.text(), limit: Some("login"), ..TOLD }.document(&mut out);
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!((&value["status"], &value["detail"]), (&reason.status().into(), &reason.text().into()));
        }
    }
}
