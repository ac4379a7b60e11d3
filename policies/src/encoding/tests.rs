use super::*;

use Coding::{Brotli, Gzip, Zstd};

const ALL: [Coding; 3] = [Zstd, Brotli, Gzip];

fn negotiated(accept: &str) -> Option<Coding> {
    negotiate(&accept.split('|').map(str::as_bytes), &ALL)
}

#[test]
fn rfc_9110_12_5_3_weights_come_first_and_the_order_of_the_gateway_second() {
    for (accept, coding) in [
        ("gzip", Some(Gzip)),
        ("gzip, deflate, br, zstd", Some(Zstd)),
        ("gzip, deflate, br", Some(Brotli)),
        ("gzip, deflate| br", Some(Brotli)),
        ("GZIP", Some(Gzip)),
        ("x-gzip", Some(Gzip)),
        ("br;q=0.9, gzip;q=1.0", Some(Gzip)),
        ("br;q=0.9, gzip ; Q = 0.901", Some(Gzip)),
        ("br;q=0.9, gzip;q=0.9", Some(Brotli)),
        ("zstd;q=0, br;q=0.000, gzip", Some(Gzip)),
        ("*", Some(Zstd)),
        ("*;q=0.5, gzip", Some(Gzip)),
        ("*, zstd;q=0", Some(Brotli)),
        ("zstd;q=0, *", Some(Brotli)),
        ("gzip;q=0, *;q=0", None),
        ("*;q=0", None),
        ("", None),
        ("deflate", None),
        ("identity", None),
        ("identity, gzip", Some(Gzip)),
        ("identity;q=1, gzip;q=0.5", None),
        ("identity;q=0.5, *;q=0.7", Some(Zstd)),
        ("identity;q=0, gzip;q=0.1", Some(Gzip)),
        ("identity;q=0", None),
        ("*;q=0.1", Some(Zstd)),
        (",, gzip ,", Some(Gzip)),
    ] {
        assert_eq!(negotiated(accept), coding, "{accept:?}");
    }
    assert_eq!(negotiate(&std::iter::empty(), &ALL), None, "who says nothing gets what everybody can read");
    assert_eq!(negotiate(&[&b"gzip, br"[..]].into_iter(), &[Gzip, Brotli]), Some(Gzip));
    assert_eq!(negotiate(&[&b"gzip, br"[..]].into_iter(), &[]), None);
}

#[test]
fn a_weight_that_can_not_be_read_asks_for_nothing() {
    for weight in ["", "2", "1.001", "0.0001", "-1", "x", "0,5", "1.0.0", "01"] {
        assert_eq!(negotiated(&format!("gzip;q={weight}")), None, "{weight:?}");
    }
    for weight in ["1", "1.", "1.000", "0.001", "0.5"] {
        assert_eq!(negotiated(&format!("gzip;q={weight}")), Some(Gzip), "{weight:?}");
    }
    assert_eq!(negotiated("gzip;level=9"), Some(Gzip));
    assert_eq!(negotiated("gzip;level=9;q=0"), None);
}

fn terms() -> Terms {
    let types = ["text/*", "application/json", "application/*+json"].map(|pattern| pattern.parse().unwrap());
    Terms { codings: ALL.to_vec(), types: types.to_vec(), min_length: 256, personal: false }
}

fn judged(status: u16, fields: &[(&str, &str)], length: Option<u64>, accept: &str, terms: &Terms) -> Verdict {
    let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    judge(terms, &Answer { status, fields: &fields, length }, &[accept.as_bytes()].into_iter())
}

#[test]
fn what_is_worth_it_is_compressed() {
    let html = ("Content-Type", "text/html; charset=utf-8");
    for (fields, length, accept, verdict) in [
        (vec![html], Some(256), "gzip", Verdict::Encode(Gzip)),
        (vec![html], None, "gzip, br", Verdict::Encode(Brotli)),
        (vec![html], Some(256), "", Verdict::Declined),
        (vec![html], Some(255), "gzip", Verdict::AsIs(Why::Short)),
        (vec![html], Some(0), "", Verdict::AsIs(Why::Short)),
        (vec![], Some(9999), "gzip", Verdict::AsIs(Why::Type)),
        (vec![html, html], Some(9999), "gzip", Verdict::AsIs(Why::Type)),
        (vec![("content-type", "APPLICATION/Problem+JSON")], Some(300), "zstd", Verdict::Encode(Zstd)),
        (vec![("content-type", "application/+json")], Some(300), "zstd", Verdict::AsIs(Why::Type)),
        (vec![("content-type", "image/png")], Some(9999), "gzip", Verdict::AsIs(Why::Type)),
        (vec![("content-type", "text/event-stream;x=y")], None, "gzip", Verdict::AsIs(Why::Type)),
        (vec![html, ("Content-Encoding", "br")], Some(9999), "gzip", Verdict::AsIs(Why::Fixed)),
        (vec![html, ("Content-Encoding", "identity")], Some(9999), "gzip", Verdict::AsIs(Why::Fixed)),
        (vec![html, ("Content-Range", "bytes 0-1/2")], Some(9999), "gzip", Verdict::AsIs(Why::Fixed)),
        (vec![html, ("Repr-Digest", "sha-256=:x:")], Some(9999), "gzip", Verdict::AsIs(Why::Fixed)),
        (vec![html, ("Content-MD5", "x")], Some(9999), "gzip", Verdict::AsIs(Why::Fixed)),
        (vec![html, ("Cache-Control", "max-age=1, No-Transform")], Some(9999), "gzip", Verdict::AsIs(Why::Fixed)),
        (vec![html, ("Cache-Control", "max-age=1, public")], Some(9999), "gzip", Verdict::Encode(Gzip)),
        (vec![html, ("Vary", "Accept-Language")], Some(9999), "gzip", Verdict::Encode(Gzip)),
    ] {
        assert_eq!(judged(200, &fields, length, accept, &terms()), verdict, "{fields:?} {length:?} {accept:?}");
    }
}

#[test]
fn answers_without_a_whole_representation_stay_as_they_are() {
    let html = [("Content-Type", "text/html")];
    for status in [101, 204, 205, 206, 304] {
        assert_eq!(judged(status, &html, None, "gzip", &terms()), Verdict::AsIs(Why::Status), "{status}");
    }
    for status in [200, 201, 403, 404, 500, 503] {
        assert_eq!(judged(status, &html, None, "gzip", &terms()), Verdict::Encode(Gzip), "{status}");
    }
}

#[test]
fn what_is_for_one_person_is_not_compressed_unless_the_terms_say_so() {
    for secret in [
        ("Set-Cookie", "csrftoken=x"),
        ("Cache-Control", "private"),
        ("Cache-Control", "max-age=0, no-store"),
        ("Cache-Control", "private=\"x\""),
        ("Vary", "Accept-Language, Cookie"),
        ("Vary", "authorization"),
        ("Vary", "*"),
    ] {
        let fields = [("Content-Type", "text/html"), secret];
        assert_eq!(judged(200, &fields, None, "gzip", &terms()), Verdict::AsIs(Why::Personal), "{secret:?}");
        let all = Terms { personal: true, ..terms() };
        assert_eq!(judged(200, &fields, None, "gzip", &all), Verdict::Encode(Gzip), "{secret:?}");
    }
}

#[test]
fn patterns_read_and_print() {
    for good in ["text/html", "text/*", "application/*+json", "image/svg+xml"] {
        assert_eq!(good.parse::<MediaPattern>().unwrap().to_string(), good);
    }
    for bad in [
        "",
        "text",
        "text/",
        "/html",
        "*/*",
        "te*/x",
        "text/h*",
        "text/*json",
        "text/html;q=1",
        "text/a b",
        "a/b/c",
        "text/**",
    ] {
        assert_eq!(bad.parse::<MediaPattern>(), Err(InvalidMediaPattern), "{bad:?}");
    }
    assert!("Text/HTML".parse::<MediaPattern>().unwrap().fits(b"text/html"));
}

#[test]
fn rfc_9110_12_5_3_the_best_that_is_accepted() {
    use Coding::{Brotli, Gzip, Zstd};
    let choose = |accept: &[&str], offered: &[Coding]| negotiate(&accept.iter().map(|line| line.as_bytes()), offered);
    for (accept, chosen) in [
        ("gzip, deflate, br, zstd", Some(Brotli)),
        ("gzip, deflate", Some(Gzip)),
        ("br;q=0.5, gzip;q=0.8", Some(Gzip)),
        ("br;q=0.5, gzip;q=0.8, zstd;q=0.8", Some(Zstd)),
        ("br;q=0, gzip", Some(Gzip)),
        ("br;q=0", None),
        ("*", Some(Brotli)),
        ("*;q=0.1, gzip;q=0.2", Some(Gzip)),
        ("br;q=0, *;q=0.5", Some(Zstd)),
        ("identity", None),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip;q=0.8", Some(Gzip)),
        ("gzip;q=0.001", Some(Gzip)),
        ("GZIP;Q=1.000", Some(Gzip)),
        ("x-gzip", Some(Gzip)),
        ("gzip;q=x", None),
        ("gzip;q=2", None),
        ("gzip;q=0.0001", None),
        ("gzipped", None),
        ("", None),
        ("identity;q=0", None),
        ("*;q=0", None),
        ("gzip ; q = 0.5", Some(Gzip)),
    ] {
        assert_eq!(choose(&[accept], &[Brotli, Zstd, Gzip]), chosen, "{accept}");
    }
    assert_eq!(choose(&["br, gzip"], &[Gzip]), Some(Gzip));
    assert_eq!(choose(&["br"], &[Gzip]), None);
    assert_eq!(choose(&["gzip;q=0.1", "br"], &[Brotli, Gzip]), Some(Brotli));
    assert_eq!(choose(&[], &[Brotli]), None, "a client that says nothing may know no coding");
}
