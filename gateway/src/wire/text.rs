//! Small texts that every protocol writes.

/// A date as fields say it: an IMF-fixdate (RFC 9110 §5.6.7).
pub type Date = [u8; 29];

/// Appends a number in decimal.
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// The reason phrases of RFC 9110 §15 for the statuses that the gateway gives itself.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use probegate_policies::reason::Reason;

    use super::*;

    #[test]
    fn every_status_that_the_gateway_gives_has_its_registered_phrase() {
        // Besides refusals: an expectation met, its own pages, a redirect, a page that is not there, and one that is hidden.
        let others = [100, 200, 206, 301, 304, 308, 404, 405, 503];
        for status in Reason::ALL.iter().map(|reason| reason.status()).chain(others) {
            let registered = match status {
                // Nobody is left to read it.
                499 => continue,
                // RFC 9110 §15.5.14 has renamed it; the crate still says "Payload".
                413 => "Content Too Large",
                _ => StatusCode::from_u16(status).unwrap().canonical_reason().unwrap(),
            };
            assert_eq!(reason_phrase(status), registered, "{status}");
        }
    }
}
