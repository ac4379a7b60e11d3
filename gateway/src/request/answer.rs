//! The gateway's own error answers: `application/problem+json` (RFC 9457), or a small page for browsers, with the request id.

use std::io::Write;
use std::time::Duration;

use probegate_policies::limit::{Decision, headers};
use probegate_policies::reason::Reason;

use super::judge::Refused;
use crate::plan::{Deny, Limit};
use crate::wire::head::elements;
use crate::wire::text::{push_number, reason_phrase};
use crate::wire::{Answer, Responder};

const JSON: &[u8] = b"application/problem+json";
const HTML: &[u8] = b"text/html; charset=utf-8";

/// Some of these statuses may be cached unless told otherwise (RFC 9110 §15.1), and what one client may not see another may.
const NO_STORE: (&str, &[u8]) = ("Cache-Control", b"no-store");

/// After how long a client may come back that found no place at the app.
pub const LATER: Duration = Duration::from_secs(5);

/// Answers a refusal in the form the client prefers. `back`: after how long it may come back.
#[expect(clippy::too_many_arguments, reason = "each argument is one thing that the answer tells")]
pub async fn refusal<R: Responder>(
    text: &mut Vec<u8>,
    refused: Refused,
    accept: Option<&[u8]>,
    id: &[u8; 32],
    limited: Option<(&Limit, Decision)>,
    allow: &str,
    back: Option<Duration>,
    reply: &mut R,
) {
    let status = status(refused);
    let html = accept.is_some_and(prefers_html);
    if html {
        page(text, status, refused, id);
    } else {
        problem(text, refused.reason, Some(status), id, limited.map(|(limit, _)| &*limit.name));
    }
    let content_type = if html { HTML } else { JSON };
    let answer = if let Some((limit, decision)) = limited {
        // Only refused requests pay for these texts.
        let (mut policy, mut state) = (Vec::with_capacity(48), Vec::with_capacity(48));
        headers::write_policy(&mut policy, &limit.name, &limit.quota);
        headers::write_state(&mut state, &limit.name, &decision);
        let after = headers::retry_after_seconds(&decision).to_string();
        let fields: [(&str, &[u8]); 5] = [
            ("Content-Type", content_type),
            NO_STORE,
            ("Retry-After", after.as_bytes()),
            ("RateLimit-Policy", &policy),
            ("RateLimit", &state),
        ];
        reply.answer(&Answer { status, fields: &fields, body: text }).await
    } else if status == 405 {
        // RFC 9110 §15.5.6: it must say what would be allowed.
        let fields = [("Content-Type", content_type), NO_STORE, ("Allow", allow.as_bytes())];
        reply.answer(&Answer { status, fields: &fields, body: text }).await
    } else if let Some(back) = back {
        // RFC 9110 §10.2.3: whole seconds.
        let after = back.as_secs().max(1).to_string();
        let fields = [("Content-Type", content_type), NO_STORE, ("Retry-After", after.as_bytes())];
        reply.answer(&Answer { status, fields: &fields, body: text }).await
    } else {
        reply.answer(&Answer { status, fields: &[("Content-Type", content_type), NO_STORE], body: text }).await
    };
    // A client that is gone has no use for the answer; the log line is written either way.
    answer.ok();
}

/// An answer whose text is a problem.
pub fn plain(reason: Reason, text: &[u8]) -> Answer<'_> {
    Answer { status: reason.status(), fields: &[("Content-Type", JSON), NO_STORE], body: text }
}

/// The status the client sees.
pub fn status(refused: Refused) -> u16 {
    match refused.deny {
        // What is hidden is not given away by the spelling of its path either.
        Deny::Hidden if refused.reason.status() == 403 || refused.reason == Reason::PathAmbiguous => 404,
        Deny::Hidden | Deny::Forbidden | Deny::Close => refused.reason.status(),
    }
}

/// Writes the problem. Strangers are not told why they may not enter: the reason is in the log under the request id.
pub fn problem(out: &mut Vec<u8>, reason: Reason, status: Option<u16>, id: &[u8; 32], limit: Option<&str>) {
    out.clear();
    let status = status.unwrap_or_else(|| reason.status());
    let kind = match limit {
        Some(_) => "https://iana.org/assignments/http-problem-types#quota-exceeded",
        None => "about:blank",
    };
    for part in ["{\"type\":\"", kind, "\",\"title\":\"", reason_phrase(status), "\",\"status\":"] {
        out.extend_from_slice(part.as_bytes());
    }
    push_number(out, u64::from(status));
    if !matches!(status, 403 | 404) {
        out.extend_from_slice(b",\"detail\":\"");
        out.extend_from_slice(reason.text().as_bytes());
        out.push(b'"');
    }
    if let Some(limit) = limit {
        out.extend_from_slice(b",\"violated-policies\":[\"");
        out.extend_from_slice(limit.as_bytes());
        out.extend_from_slice(b"\"]");
    }
    out.extend_from_slice(b",\"request_id\":\"");
    out.extend_from_slice(id);
    out.extend_from_slice(b"\"}\n");
}

/// Writes the page.
fn page(out: &mut Vec<u8>, status: u16, refused: Refused, id: &[u8; 32]) {
    out.clear();
    let title = reason_phrase(status);
    let text = if matches!(status, 403 | 404) { "" } else { refused.reason.text() };
    let written = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{status} {title}</title>\n<style>body{{font:1rem/1.5 system-ui,sans-serif;margin:4rem auto;max-width:36rem;\
         padding:0 1rem;color-scheme:light dark}}</style>\n<h1>{status} {title}</h1>\n<p>{text}</p>\n<p><small>Request "
    );
    debug_assert!(written.is_ok());
    out.extend_from_slice(id);
    out.extend_from_slice(b"</small></p>\n");
}

/// Whether HTML is wanted more than a problem document (RFC 9110 §12.5.1).
fn prefers_html(accept: &[u8]) -> bool {
    let quality = |types: &[&str]| {
        let mut best: Option<(u8, u16)> = None;
        for element in elements(accept) {
            let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let range = parts.next().unwrap_or_default();
            // The most specific range decides.
            let Some(rank) = types.iter().rposition(|known| range.eq_ignore_ascii_case(known.as_bytes())) else {
                continue;
            };
            let rank = u8::try_from(rank).unwrap_or(u8::MAX);
            let weight = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
            let weight = weight.map_or(1000, thousandths);
            if best.is_none_or(|(known, _)| rank > known) {
                best = Some((rank, weight));
            }
        }
        best.map_or(0, |(_, weight)| weight)
    };
    quality(&["*/*", "text/*", "text/html"])
        > quality(&["*/*", "application/*", "application/json", "application/problem+json"])
}

/// A weight such as `0.8` in thousandths; what is not one counts as 0.
fn thousandths(text: &[u8]) -> u16 {
    let text = std::str::from_utf8(text).unwrap_or("");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction: u16 = format!("{fraction:0<3}").get(..3).and_then(|digits| digits.parse().ok()).unwrap_or(0);
    match whole {
        "1" => 1000,
        "0" => fraction,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_9110_12_5_1_browsers_get_a_page_and_programs_a_problem() {
        for (accept, html) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("*/*", false),
            ("", false),
            ("application/json", false),
            ("text/html;q=0.5, application/problem+json", false),
            ("text/html, application/json;q=0.9", true),
            ("text/html;q=0", false),
            ("text/*", true),
        ] {
            assert_eq!(prefers_html(accept.as_bytes()), html, "{accept:?}");
        }
    }

    #[test]
    fn a_stranger_is_not_told_why() {
        let mut text = Vec::new();
        problem(&mut text, Reason::TokenWrong, None, &[b'0'; 32], None);
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("\"status\":403") && !text.contains("detail") && !text.contains("oken"), "{text}");
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
}
