//! Why there is no certificate, in plain words, with what to do about it.

use std::error::Error as _;

use instant_acme::{Error, Problem};

use crate::plan::Challenge;

/// What the types of problems begin with (RFC 8555 §6.7).
const URN: &str = "urn:ietf:params:acme:error:";

/// An hour, for authorities that refuse for having been asked too often without saying how long they want to rest.
const REST: u64 = 3600;

/// An order that led to nothing.
#[derive(Debug)]
pub(super) struct Failure {
    /// What happened.
    pub(super) what: String,
    /// What to do about it.
    pub(super) advice: String,
    /// The authority was not reached: nothing was ordered.
    pub(super) unreached: bool,
    /// The authority does not know our account.
    pub(super) account_gone: bool,
    /// The authority does not take that the new certificate replaces the old one (RFC 9773 §5).
    pub(super) not_replaceable: bool,
    /// Seconds that the authority wants to be left alone for at least.
    pub(super) rest: u64,
}

impl Failure {
    /// Something on our side.
    pub(super) fn here(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            advice: advice.into(),
            unreached: false,
            account_gone: false,
            not_replaceable: false,
            rest: 0,
        }
    }

    /// What the library tells.
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::Api(problem) => Self::refused(problem, "the authority refuses", None),
            // An authority that knows renewal information and yet does not repeat which certificate is replaced (RFC 9773 §5).
            Error::Other(error) if error.to_string().starts_with("replaces field mismatch") => Self {
                not_replaceable: true,
                ..Self::here(
                    "the authority does not take the mark of what is replaced",
                    "it is ordered again without it",
                )
            },
            Error::Timeout(_) => Self::here("the authority took too long to decide", "it is tried again"),
            Error::Other(_) | Error::Http(_) | Error::Hyper(_) | Error::Json(_) => {
                let mut text = error.to_string();
                let mut source = error.source();
                while let Some(deeper) = source {
                    let deeper_text = deeper.to_string();
                    if !text.ends_with(&deeper_text) {
                        text = format!("{text}: {deeper_text}");
                    }
                    source = deeper.source();
                }
                let advice = "this gateway must reach the authority (names, routes, proxies); `directory` and `ca` must be right";
                Self { unreached: true, ..Self::here(format!("the authority cannot be spoken to: {text}"), advice) }
            }
            error => Self::here(error.to_string(), "it is tried again"),
        }
    }

    /// A name whose challenge failed.
    pub(super) fn invalid(problem: &Problem, domain: &str, challenge: Challenge) -> Self {
        let word = match challenge {
            Challenge::Http01 => "http-01",
            Challenge::TlsAlpn01 => "tls-alpn-01",
        };
        Self::refused(problem, &format!("{domain} failed {word}"), Some((domain, challenge)))
    }

    fn refused(problem: &Problem, what: &str, about: Option<(&str, Challenge)>) -> Self {
        let kind = problem.r#type.as_deref().unwrap_or_default();
        let kind = kind.strip_prefix(URN).unwrap_or(kind);
        let mut details: Vec<String> = problem.detail.iter().cloned().collect();
        details.extend(problem.subproblems.iter().map(ToString::to_string));
        let details = if details.is_empty() { "without saying why".to_owned() } else { details.join("; ") };
        let domain = about.map_or("the name", |(domain, _)| domain);
        let port = match about {
            Some((_, Challenge::TlsAlpn01)) => "port 443",
            Some((_, Challenge::Http01)) => "port 80",
            None => "port 80 or 443",
        };
        let reach = format!(
            "{port} of {domain} must reach this gateway, from everywhere and without another program answering"
        );
        let advice = match kind {
            "connection" | "unauthorized" | "tls" | "incorrectResponse" => reach,
            "dns" => format!("{domain} must have an A or AAAA record that leads to this gateway"),
            "caa" => format!("a CAA record of {domain} keeps this authority from issuing for it"),
            "rateLimited" => "wait; try things out with `directory: staging`".to_owned(),
            "rejectedIdentifier" | "unsupportedIdentifier" => "this authority does not issue for that name".to_owned(),
            "invalidContact" | "unsupportedContact" => "`email` must be an address that takes mail".to_owned(),
            "externalAccountRequired" => {
                "this authority wants an external account binding, which probegate does not have; use another one"
                    .to_owned()
            }
            "userActionRequired" => "the authority wants something from you; see its message".to_owned(),
            "accountDoesNotExist" => "a new account is made".to_owned(),
            "alreadyReplaced" => "it is ordered again without the mark".to_owned(),
            _ => "it is tried again".to_owned(),
        };
        Self {
            what: format!("{what}: {details} ({})", if kind.is_empty() { "no type" } else { kind }),
            advice,
            // Three in a row, while one is what every client has to take (RFC 8555 §6.5): the next attempt has better luck.
            unreached: kind == "badNonce",
            account_gone: kind == "accountDoesNotExist",
            not_replaceable: kind == "alreadyReplaced",
            rest: if kind == "rateLimited" { REST } else { 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str) -> Problem {
        let text = format!("{{\"type\": \"{URN}{kind}\", \"detail\": \"Timeout after connect\", \"status\": 400}}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_failed_challenge_says_which_port_of_which_name_must_lead_here() {
        let failure = Failure::invalid(&problem("connection"), "shop.example.com", Challenge::Http01);
        assert_eq!(failure.what, "shop.example.com failed http-01: Timeout after connect (connection)");
        assert!(
            failure.advice.starts_with("port 80 of shop.example.com must reach this gateway"),
            "{}",
            failure.advice
        );
        let failure = Failure::invalid(&problem("unauthorized"), "shop.example.com", Challenge::TlsAlpn01);
        assert!(failure.advice.starts_with("port 443 of"), "{}", failure.advice);
    }

    #[test]
    fn an_authority_that_was_asked_too_often_is_left_alone() {
        let failure = Failure::of(&Error::Api(problem("rateLimited")));
        assert_eq!((failure.rest, failure.unreached), (3600, false));
        assert!(failure.advice.contains("staging"));
        assert!(Failure::of(&Error::Api(problem("accountDoesNotExist"))).account_gone);
        assert!(Failure::of(&Error::Other("no route".into())).unreached);
    }
}
