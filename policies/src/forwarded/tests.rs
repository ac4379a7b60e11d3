use super::*;
use crate::client::{ForwardingField, Missing, TrustedProxies, Unknown, UnknownReason};

fn written(identity: &Identity, hops: &Hops) -> String {
    let mut out = Vec::new();
    let host = b"example.com:8443";
    write(&mut out, &Towards { identity, hops, scheme: Scheme::Https, host, port: 8443, request_id: b"01HF" });
    String::from_utf8(out).unwrap()
}

/// What the application is told about a request from 10.0.0.5, a trusted proxy.
fn told(xff: &str) -> String {
    let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
    let proxies = TrustedProxies::new(trusted.into_iter().collect(), ForwardingField::XForwardedFor, Missing::Unknown);
    let mut hops = Hops::new();
    let fields = vec![("X-Forwarded-For".to_owned(), xff.to_owned())];
    let identity = proxies.resolve("10.0.0.5".parse().unwrap(), &fields, &mut hops, &mut ());
    written(&identity, &hops)
}

#[test]
fn the_application_is_told_the_client_and_the_proxies_in_their_order() {
    let expected = "X-Forwarded-For: 2001:db8::7, fd00::2, 10.0.0.9, 10.0.0.5\r\n\
                    X-Real-IP: 2001:db8::7\r\n\
                    X-Forwarded-Proto: https\r\n\
                    X-Forwarded-Host: example.com:8443\r\n\
                    X-Forwarded-Port: 8443\r\n\
                    X-Request-ID: 01HF\r\n";
    assert_eq!(told("garbage, [2001:db8::7]:80, fd00::2, 10.0.0.9"), expected);
}

#[test]
fn d1_the_application_is_not_told_the_proxy_in_place_of_an_unknown_client() {
    for xff in ["8.8.8.8, garbage", "8.8.8.8, garbage, 10.0.0.9", ""] {
        let lines = told(xff);
        assert!(lines.starts_with("X-Forwarded-For: 233.252.0.0\r\nX-Real-IP: 233.252.0.0\r\n"), "{lines}");
    }
    let unknown = Unknown { reason: UnknownReason::TooLong, peer: "10.0.0.5".parse().unwrap() };
    assert!(!written(&Identity::Unknown(unknown), &Hops::new()).contains("10.0.0.5"));
}

#[test]
fn what_others_would_read_the_client_from_is_not_passed_on() {
    let dropped = [
        "X-Forwarded-For",
        "x-forwarded-proto",
        "X-FORWARDED-HOST",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Ssl",
        "X-Forwarded-Scheme",
        "X-Forwarded-Server",
        "X-Forwarded-By",
        "X-Forwarded-Client-Cert",
        "Forwarded",
        "X-Real-IP",
        "X-Request-ID",
        "X-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "CF-Connecting-IPv6",
        "X-Cluster-Client-IP",
        "Client-IP",
        "X-Original-Forwarded-For",
        "X-Original-URL",
        "X-Original-Host",
        "X-Rewrite-URL",
        "X-Url-Scheme",
        "X-Scheme",
        "Front-End-Https",
        "Fastly-Client-IP",
        "X-Azure-ClientIP",
        "X-Remote-IP",
        "X-Remote-Addr",
        "X-Envoy-External-Address",
        "X-Forwarded",
        "Forwarded-For",
        "X-Original-URI",
        "Proxy-Client-IP",
        "WL-Proxy-Client-IP",
        "Proxy",
    ];
    for name in dropped {
        assert!(is_forwarding_field(name.as_bytes()), "{name}");
        assert!(is_forwarding_field(name.replace('-', "_").as_bytes()), "d16: {name} with underscores");
    }
    let kept = [
        "",
        "Host",
        "Cookie",
        "Content-Type",
        "Authorization",
        "X-Requested-With",
        "X-Probe-Token",
        "Connection",
        "X-Real-IPs",
        "Via",
        "X-Csrftoken",
        "Traceparent",
    ];
    for name in kept {
        assert!(!is_forwarding_field(name.as_bytes()), "{name}");
    }
}

#[test]
fn every_field_we_write_is_one_we_drop() {
    for line in told("8.8.8.8").lines() {
        let name = line.split(':').next().unwrap();
        assert!(is_forwarding_field(name.as_bytes()), "{name}");
    }
}

#[test]
fn the_scheme_is_believed_from_a_trusted_peer_only() {
    let https: &[(&[u8], &[u8])] = &[(b"X-Forwarded-Proto", b"HTTPS")];
    assert_eq!(scheme(true, https, Scheme::Http), Scheme::Https);
    assert_eq!(scheme(false, https, Scheme::Http), Scheme::Http);
    let http: &[(&[u8], &[u8])] = &[(b"x-forwarded-proto", b"http")];
    assert_eq!(scheme(true, http, Scheme::Https), Scheme::Http);
    assert_eq!(scheme(false, http, Scheme::Https), Scheme::Https);
}

#[test]
fn a_scheme_that_is_not_one_statement_is_none() {
    let cases: [&[(&[u8], &[u8])]; 8] = [
        &[],
        &[(b"X-Forwarded-Proto", b"https, http")],
        &[(b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Proto", b"https")],
        &[(b"X-Forwarded-Proto", b"wss")],
        &[(b"X_Forwarded_Proto", b"https")],
        &[(b"X-Forwarded-Proto", b""), (b"Forwarded", b"proto=https")],
        &[(b"Forwarded", b"proto=https;proto=https")],
        &[(b"Forwarded", b"proto=\"https")],
    ];
    for fields in cases {
        assert_eq!(scheme(true, fields, Scheme::Http), Scheme::Http);
    }
}

#[test]
fn without_x_forwarded_proto_the_nearest_element_of_forwarded_counts() {
    for line in [b"for=8.8.8.8;proto=https".as_slice(), b"proto=http, for=10.0.0.1;Proto=\"https\"", b"proto=https, ,"]
    {
        let fields: &[(&[u8], &[u8])] = &[(b"Forwarded", line)];
        assert_eq!(scheme(true, fields, Scheme::Http), Scheme::Https);
        assert_eq!(scheme(false, fields, Scheme::Http), Scheme::Http);
    }
}
