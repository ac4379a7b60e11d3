//! Why a request was not answered by the application: one table that gives the status, the metric label and the
//! sentence for people, so that no two places tell it differently.

use crate::access::Refusal;

macro_rules! reasons {
    ($($name:ident $status:literal $label:literal $text:literal)*) => {
        /// Why a request was not answered by the application.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Reason {
            $(#[doc = concat!("`", $status, "`: ", $text, ".")] $name,)*
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The status code of the answer. 499 is never sent: nobody is left to read it.
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                }
            }

            /// The value of the metric label.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }

            /// A sentence for people, without its full stop.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    // The rules.
    OutsideNetwork 403 "outside_network" "the client is not in an allowed network"
    IdentityUnknown 403 "identity_unknown" "a trusted proxy did not say who the client is"
    TokenMissing 403 "token_missing" "no token was presented"
    TokenWrong 403 "token_wrong" "the token is not a known one"
    TokenDuplicated 403 "token_duplicated" "the token field was sent more than once"
    TokenExpired 403 "token_expired" "the token has expired"
    TokenNotYetValid 403 "token_not_yet_valid" "the token is not valid yet"
    CertificateMissing 403 "certificate_missing" "the client showed no certificate"
    CertificateWrong 403 "certificate_wrong" "the client's certificate is not a known one"
    Banned 403 "banned" "the client is banned"
    LimitExceeded 429 "limit_exceeded" "the client sent more requests than its limit allows"
    LimitUnavailable 503 "limit_unavailable" "the requests of the client can not be counted now"
    InFlightExceeded 429 "in_flight_exceeded" "the client has more requests in flight than it may"
    CapacityExceeded 503 "capacity_exceeded" "all clients together make more requests than may be"

    // What was asked for.
    PathInvalid 400 "path_invalid" "the path is not a valid one"
    PathAmbiguous 400 "path_ambiguous" "the path can be read in two ways that different rules apply to"
    HostMissing 400 "host_missing" "no host was named"
    HostInvalid 400 "host_invalid" "the host is not a valid one"
    HostDuplicated 400 "host_duplicated" "more than one host was named"
    HostUnknown 421 "host_unknown" "no service has this host"
    HostMisdirected 421 "host_misdirected" "the host is not one that this connection was made for"
    MethodNotAllowed 405 "method_not_allowed" "the method is not allowed here"
    ExpectationUnknown 417 "expectation_unknown" "the expectation cannot be met"

    // A file that was asked for.
    FileMissing 404 "file_missing" "there is no such file"
    PreconditionFailed 412 "precondition_failed" "the file is not the one that the request is about"
    RangeUnsatisfiable 416 "range_unsatisfiable" "the file has no such part"
    FileRefused 502 "file_refused" "the application pointed to a file that it may not have sent"
    FileFailed 500 "file_failed" "the file could not be read"

    // The head of the request.
    RequestLineInvalid 400 "request_line_invalid" "the request line is not a valid one"
    FieldInvalid 400 "field_invalid" "a header field is not a valid one"
    FramingInvalid 400 "framing_invalid" "the length of the request cannot be told"
    VersionUnsupported 505 "version_unsupported" "the version of HTTP is not supported"
    TransferCodingUnknown 501 "transfer_coding_unknown" "the transfer coding is not a known one"
    TargetTooLong 414 "target_too_long" "the request target is too long"
    HeadTooLarge 431 "head_too_large" "the header fields are too large"
    TooManyFields 431 "too_many_fields" "there are too many header fields"
    HeadTimeout 408 "head_timeout" "the header fields did not arrive in time"

    // Its body.
    BodyTooLarge 413 "body_too_large" "the body is too large"
    BodyInvalid 400 "body_invalid" "the body does not follow its transfer coding"
    BodyTimeout 408 "body_timeout" "the body did not arrive in time"
    BodyTooSlow 408 "body_too_slow" "the body arrived too slowly"
    ClientClosed 499 "client_closed" "the client closed the connection before it was answered"

    ClientStalled 499 "client_stalled" "the client did not take the answer in time"
    ConnectionEnded 499 "connection_ended" "the gateway ended the connection that the request came on"

    // Its connection. None of these is answered: there is nobody yet who could be.
    ConnectionsExceeded 503 "connections_exceeded" "the client has more connections open than it may"
    StreamsExceeded 503 "streams_exceeded" "the client has more requests at work over HTTP/2 than it may"
    HandshakesExceeded 503 "handshakes_exceeded" "too many handshakes are in flight"
    HandshakeTimeout 408 "handshake_timeout" "the handshake was not completed in time"
    HandshakeFailed 400 "handshake_failed" "the handshake failed"
    ServerNameUnknown 421 "server_name_unknown" "no certificate is for the server name that was asked for"
    ProxyHeaderInvalid 400 "proxy_header_invalid" "the PROXY protocol header is missing or not a valid one"
    ProxyHeaderTimeout 408 "proxy_header_timeout" "the PROXY protocol header did not arrive in time"
    ProxySenderUnknown 403 "proxy_sender_unknown" "the PROXY protocol is not taken from this sender"
    Http2Invalid 400 "http2_invalid" "the connection does not follow HTTP/2"
    Http2Flood 400 "http2_flood" "the connection sends more control frames than it may"

    // The application.
    UpstreamUnreachable 502 "upstream_unreachable" "the application cannot be reached"
    UpstreamInvalid 502 "upstream_invalid" "the application sent an answer that cannot be read"
    UpstreamClosed 502 "upstream_closed" "the application closed the connection before it answered"
    UpstreamConnectTimeout 504 "upstream_connect_timeout" "the application did not accept a connection in time"
    UpstreamTimeout 504 "upstream_timeout" "the application did not answer in time"
    UpstreamTlsFailed 502 "upstream_tls_failed" "the application could not be reached safely"
    UpstreamBusy 503 "upstream_busy" "the gateway has no connection to the application to spare"
    UpstreamQueueFull 503 "upstream_queue_full" "too many requests wait for the application"
    UpstreamQueueTimeout 503 "upstream_queue_timeout" "the application had no time for the request"
    UpstreamDrained 503 "upstream_drained" "every server of the application is drained"
    UpstreamDown 503 "upstream_down" "every server of the application fails its checks"
    UpstreamDeclined 502 "upstream_declined" "the application could not serve the request"
    Maintenance 503 "maintenance" "the service is in maintenance"
    ProbeUnknown 404 "probe_unknown" "there is no such probe"
    ProbeRedirected 503 "probe_redirected" "the application answered a probe with a redirect"
    ProbeTimeout 504 "probe_timeout" "the application did not answer a probe in time"
    AggregateFailing 503 "aggregate_failing" "a service that the aggregate requires does not pass"
    ProbeBusy 503 "probe_busy" "too many questions that are one client's alone wait for the application"

    // Ourselves.
    Draining 503 "draining" "the gateway is going down, and others are to be asked"
    ShuttingDown 503 "shutting_down" "the gateway is going down and waits no longer"
    BuffersFull 503 "buffers_full" "the gateway has no room to keep the body"
    BufferFailed 507 "buffer_failed" "the gateway could not keep the body on its disk"
    Panicked 500 "panicked" "the gateway failed to handle the request"
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::OutsideNetwork => Self::OutsideNetwork,
            Refusal::IdentityUnknown => Self::IdentityUnknown,
            Refusal::TokenMissing => Self::TokenMissing,
            Refusal::TokenWrong => Self::TokenWrong,
            Refusal::TokenDuplicated => Self::TokenDuplicated,
            Refusal::TokenExpired => Self::TokenExpired,
            Refusal::TokenNotYetValid => Self::TokenNotYetValid,
            Refusal::CertificateMissing => Self::CertificateMissing,
            Refusal::CertificateWrong => Self::CertificateWrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn labels_are_the_names_in_snake_case_and_no_two_are_alike() {
        let mut labels = HashSet::new();
        for reason in Reason::ALL {
            let mut snake = String::new();
            for c in format!("{reason:?}").chars() {
                if c.is_ascii_uppercase() && !snake.is_empty() {
                    snake.push('_');
                }
                snake.push(c.to_ascii_lowercase());
            }
            assert_eq!(reason.label(), snake);
            assert!(labels.insert(reason.label()));
        }
    }

    #[test]
    fn every_reason_is_an_error_with_a_sentence() {
        for reason in Reason::ALL {
            assert!((400..600).contains(&reason.status()), "{reason:?}");
            assert!(!reason.text().is_empty() && !reason.text().ends_with('.'), "{reason:?}");
        }
    }

    #[test]
    fn refusals_are_all_forbidden_under_their_own_label() {
        let refusals = [
            (Refusal::OutsideNetwork, "outside_network"),
            (Refusal::IdentityUnknown, "identity_unknown"),
            (Refusal::TokenMissing, "token_missing"),
            (Refusal::TokenWrong, "token_wrong"),
            (Refusal::TokenDuplicated, "token_duplicated"),
            (Refusal::TokenExpired, "token_expired"),
            (Refusal::TokenNotYetValid, "token_not_yet_valid"),
            (Refusal::CertificateMissing, "certificate_missing"),
            (Refusal::CertificateWrong, "certificate_wrong"),
        ];
        for (refusal, label) in refusals {
            assert_eq!((Reason::from(refusal).status(), Reason::from(refusal).label()), (403, label));
        }
    }
}
