//! Proactive negotiation of media types (RFC 9110 sections 12.4.2 and 12.5.1), as far as a gateway has a choice: whether its own answer is a page for
//! people or a document for programs.

use crate::text::{elements, quality, trim_ows};

/// The ranges that mean a page, from the least to the most specific.
const PAGE: [&str; 3] = ["*/*", "text/*", "text/html"];

/// Those that mean a problem document (RFC 9457). Who takes JSON takes one.
const PROBLEM: [&str; 4] = ["*/*", "application/*", "application/json", "application/problem+json"];

/// Whether a client that sent these values of `Accept` wants a page more than a problem document. Of two that weigh the same it is the page only where
/// `text/html` is named, and of the document nothing but that anything goes: some browsers give no weights. Whoever has no preference at all gets the document.
pub fn prefers_page<'v>(accepted: &(impl Iterator<Item = &'v [u8]> + Clone)) -> bool {
    // What most programs send, or nothing.
    if accepted.clone().all(|line| line == b"*/*") {
        return false;
    }
    let (named, page) = weight(accepted, &PAGE);
    let (meant, problem) = weight(accepted, &PROBLEM);
    page > problem || (page == problem && page > 0 && named == PAGE.len() - 1 && meant == 0)
}

/// The ranges that mean JSON of any kind, and those that mean a document about health (draft-inadarei-api-health-check-06).
const JSON: [&str; 3] = ["*/*", "application/*", "application/json"];
const HEALTH: [&str; 3] = ["*/*", "application/*", "application/health+json"];

/// Whether a client that sent these values of `Accept` names a document about health, and wants JSON of no kind more.
pub fn names_health<'v>(accepted: &(impl Iterator<Item = &'v [u8]> + Clone)) -> bool {
    let (named, health) = weight(accepted, &HEALTH);
    let (_, json) = weight(accepted, &JSON);
    named == HEALTH.len() - 1 && health > 0 && health >= json
}

/// How specific the range is that decides about any of `ranges`, as an index, and its weight in thousandths. The most specific one decides, and of two lines
/// with the same one the first.
fn weight<'v>(accepted: &(impl Iterator<Item = &'v [u8]> + Clone), ranges: &[&str]) -> (usize, u16) {
    let mut best: Option<(usize, u16)> = None;
    for element in accepted.clone().flat_map(elements) {
        let mut parts = element.split(|&byte| byte == b';').map(trim_ows);
        let range = parts.next().unwrap_or_default();
        let Some(rank) = ranges.iter().rposition(|known| range.eq_ignore_ascii_case(known.as_bytes())) else {
            continue;
        };
        if best.is_none_or(|(known, _)| rank > known) {
            best = Some((rank, quality(parts)));
        }
    }
    best.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(lines: &[&str]) -> bool {
        prefers_page(&lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn rfc_9110_12_5_1_browsers_get_a_page_and_programs_a_problem() {
        for (accept, expected) in [
            // Firefox, Chrome and Safari, for a page of their own.
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,\
                 application/signed-exchange;v=b3;q=0.7",
                true,
            ),
            // Old Edge and Internet Explorer: no weights.
            ("text/html, application/xhtml+xml, image/jxr, */*", true),
            // For a picture, a style, a script, a `fetch`.
            ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", false),
            ("text/css,*/*;q=0.1", false),
            ("*/*", false),
            // curl, axios, Django's test client.
            ("application/json, text/plain, */*", false),
            ("", false),
            ("text/*", true),
            ("text/plain", false),
            ("text/event-stream", false),
        ] {
            assert_eq!(page(&[accept]), expected, "{accept:?}");
        }
        assert!(!page(&[]), "no `Accept` at all");
    }

    #[test]
    fn rfc_9110_12_4_2_weights_decide() {
        for (accept, expected) in [
            ("application/json", false),
            ("text/html;q=0.5, application/problem+json", false),
            ("text/html, application/json;q=0.9", true),
            ("text/html;q=0.001, */*;q=0", true),
            ("text/html;q=0", false),
            ("*/*, application/*;q=0.5", true),
            ("*/*, text/html;q=0.5", false),
            // The more specific one decides, wherever it stands.
            ("application/problem+json;q=0.1, application/json, text/html;q=0.2", true),
            ("TEXT/HTML; Q=0.3 , Application/JSON ; q = 0.2", true),
            ("text/html;level=1;q=0.4, application/json;q=0.5", false),
            // The same: what is named, where only one is.
            ("text/html;q=0.5, */*;q=0.5", true),
            ("*/*, text/html", true),
            ("text/*, */*", false),
            ("text/html, application/json", false),
            ("text/html, application/*", false),
            ("application/problem+json, text/html, */*", false),
            ("text/html;q=0, */*;q=0", false),
            // A weight that is none wants nothing.
            ("text/html;q=high", false),
            ("text/html;q=1.001", false),
            ("text/html;q=0.0001", false),
            ("text/html;q=, application/json;q=0.1", false),
        ] {
            assert_eq!(page(&[accept]), expected, "{accept:?}");
        }
    }

    #[test]
    fn rfc_9110_5_3_lines_are_one_list() {
        assert!(page(&["application/json;q=0.5", "text/html"]));
        assert!(!page(&["text/html;q=0.5", "application/json"]));
        assert!(!page(&["", "\u{ff}", ";", ",,", ";q=1"]));
    }
}
