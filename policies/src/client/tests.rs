use super::*;

/// Field lines as a test writes them.
type Lines<'a> = [(&'a str, &'a str)];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn proxies(trusted: &[&str], field: ForwardingField, missing: Missing) -> TrustedProxies {
    TrustedProxies::new(trusted.iter().map(|net| net.parse().unwrap()).collect(), field, missing)
}

fn owned(lines: &Lines<'_>) -> Vec<(String, String)> {
    lines.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The identity and the hops as text.
fn resolve(proxies: &TrustedProxies, peer: &str, lines: &Lines<'_>) -> String {
    let mut hops = Hops::new();
    match proxies.resolve(ip(peer), &owned(lines), &mut hops, &mut ()) {
        Identity::Known(known) => format!("{} {} via {:?}", known.ip, known.source, hops),
        Identity::Unknown(unknown) => format!("unknown {}", unknown.reason),
    }
}

/// `X-Forwarded-For` from 10.0.0.5, with 10.0.0.0/8 trusted.
fn xff(values: &[&str]) -> String {
    let lines: Vec<_> = values.iter().map(|&value| ("X-Forwarded-For", value)).collect();
    resolve(&proxies(&["10.0.0.0/8"], ForwardingField::XForwardedFor, Missing::Unknown), "10.0.0.5", &lines)
}

/// `Forwarded` from 10.0.0.5, with 10.0.0.0/8 trusted.
fn forwarded(values: &[&str]) -> String {
    let lines: Vec<_> = values.iter().map(|&value| ("Forwarded", value)).collect();
    resolve(&proxies(&["10.0.0.0/8"], ForwardingField::Forwarded, Missing::Unknown), "10.0.0.5", &lines)
}

// The rows of the table in semantics section 2.3, by number.

#[test]
fn row_01_an_untrusted_peer_is_the_client_whatever_it_says() {
    let proxies = proxies(&["192.0.2.0/24"], ForwardingField::XForwardedFor, Missing::Unknown);
    assert_eq!(resolve(&proxies, "198.51.100.9", &[("X-Forwarded-For", "10.1.2.3")]), "198.51.100.9 peer via []");
}

#[test]
fn row_02_a_trusted_peer_is_believed() {
    let proxies = proxies(&["192.0.2.0/24"], ForwardingField::XForwardedFor, Missing::Unknown);
    let lines = [("X-Forwarded-For", "10.1.2.3")];
    assert_eq!(resolve(&proxies, "192.0.2.10", &lines), "10.1.2.3 xff[-1] via [192.0.2.10]");
}

#[test]
fn row_03_trusted_entries_are_walked_through() {
    let proxies = proxies(&["192.0.2.0/24", "10.0.0.0/8"], ForwardingField::XForwardedFor, Missing::Unknown);
    let lines = [("X-Forwarded-For", "198.51.100.7, 10.9.9.9")];
    assert_eq!(resolve(&proxies, "192.0.2.10", &lines), "198.51.100.7 xff[-2] via [192.0.2.10, 10.9.9.9]");
}

#[test]
fn row_04_garbage_left_of_the_client_is_never_parsed() {
    assert_eq!(xff(&["garbage, 8.8.8.8"]), "8.8.8.8 xff[-1] via [10.0.0.5]");
}

#[test]
fn row_05_d1_garbage_where_the_client_should_be_is_not_the_proxy() {
    assert_eq!(xff(&["8.8.8.8, garbage"]), "unknown malformed@-1");
}

#[test]
fn row_06_d1_garbage_behind_a_hop_is_not_the_hop() {
    assert_eq!(xff(&["8.8.8.8, garbage, 10.0.0.9"]), "unknown malformed@-2");
}

#[test]
fn row_07_d1_an_absent_field_is_unknown_unless_the_peer_is_asked_for() {
    assert_eq!(xff(&[]), "unknown missing");
    let lenient = proxies(&["10.0.0.0/8"], ForwardingField::XForwardedFor, Missing::Peer);
    assert_eq!(resolve(&lenient, "10.0.0.5", &[]), "10.0.0.5 missing_peer via []");
    let lines = [("X-Forwarded-For", "garbage")];
    assert_eq!(resolve(&lenient, "10.0.0.5", &lines), "unknown malformed@-1", "only absence counts as absent");
}

#[test]
fn who_is_asked_may_say_otherwise_about_an_absent_field_and_about_no_other() {
    let proxies = proxies(&["10.0.0.0/8"], ForwardingField::XForwardedFor, Missing::Unknown);
    let find = |lines: &Lines<'_>| {
        let missing = || Missing::Peer;
        proxies.resolve_where(ip("10.0.0.5"), &owned(lines), &mut Hops::new(), &mut (), missing).known()
    };
    assert_eq!(find(&[]), Some(ip("10.0.0.5")));
    assert_eq!(find(&[("X-Forwarded-For", "garbage")]), None);
    assert_eq!(find(&[("X-Forwarded-For", "8.8.8.8")]), Some(ip("8.8.8.8")));
}

#[test]
fn row_08_empty_elements_are_no_entries() {
    for empty in ["", ",", " , ,\t"] {
        assert_eq!(xff(&[empty]), "unknown missing");
    }
}

#[test]
fn row_09_a_port_is_dropped() {
    assert_eq!(xff(&["203.0.113.7:51234"]), "203.0.113.7 xff[-1] via [10.0.0.5]");
}

#[test]
fn row_10_brackets_and_a_port_are_dropped() {
    assert_eq!(xff(&["[2001:db8::1]:443"]), "2001:db8::1 xff[-1] via [10.0.0.5]");
}

#[test]
fn row_11_d3_mapped_addresses_are_ipv4_on_both_sides() {
    let proxies = proxies(&["10.0.0.0/8"], ForwardingField::XForwardedFor, Missing::Unknown);
    let lines = [("X-Forwarded-For", "::ffff:8.8.8.8")];
    assert_eq!(resolve(&proxies, "::ffff:10.0.0.5", &lines), "8.8.8.8 xff[-1] via [10.0.0.5]");
}

#[test]
fn row_12_the_last_line_was_written_last() {
    assert_eq!(xff(&["1.1.1.1", "8.8.8.8"]), "8.8.8.8 xff[-1] via [10.0.0.5]");
}

#[test]
fn row_13_when_all_are_trusted_the_leftmost_is_the_client() {
    assert_eq!(xff(&["10.1.1.1, 10.2.2.2"]), "10.1.1.1 xff[-2] via [10.0.0.5, 10.2.2.2]");
}

#[test]
fn row_14_d16_the_underscore_twin_of_the_field_is_not_read() {
    let proxies = proxies(&["10.0.0.0/8"], ForwardingField::XForwardedFor, Missing::Unknown);
    assert_eq!(resolve(&proxies, "10.0.0.5", &[("X_Forwarded_For", "10.1.1.1")]), "unknown missing");
}

#[test]
fn row_15_forwarded_with_quotes_and_other_parameters() {
    let expected = "2001:db8::1 xff[-1] via [10.0.0.5]";
    assert_eq!(forwarded(&[r#"for="[2001:db8::1]:4711";proto=https"#]), expected);
}

#[test]
fn row_16_d1_unknown_and_obfuscated_nodes_are_no_addresses() {
    for node in ["for=unknown", "for=_hidden", "proto=https", "for=\"_gazonk\""] {
        assert_eq!(forwarded(&[node]), "unknown malformed@-1", "{node}");
    }
}

#[test]
fn row_17_d1_a_single_address_sent_twice_is_malformed() {
    let field = ForwardingField::Single("X-Real-IP".parse().unwrap());
    let proxies = proxies(&["10.0.0.0/8"], field, Missing::Unknown);
    let twice = [("X-Real-IP", "8.8.8.8"), ("x-real-ip", "8.8.8.8")];
    assert_eq!(resolve(&proxies, "10.0.0.5", &twice), "unknown malformed@-1");
    assert_eq!(resolve(&proxies, "10.0.0.5", &[("X-Real-IP", "8.8.8.8, 9.9.9.9")]), "unknown malformed@-1");
    assert_eq!(resolve(&proxies, "10.0.0.5", &twice[1..]), "8.8.8.8 xff[-1] via [10.0.0.5]");
    assert_eq!(resolve(&proxies, "10.0.0.5", &[("X-Real-IP", "")]), "unknown missing");
    assert_eq!(resolve(&proxies, "10.0.0.5", &[]), "unknown missing");
}

#[test]
fn row_18_other_spellings_of_addresses_are_malformed() {
    for entry in ["010.0.0.1", "0.0.0.0", "::"] {
        assert_eq!(xff(&[entry]), "unknown malformed@-1", "{entry}");
    }
}

// The bounds.

#[test]
fn thirty_two_entries_are_walked_and_no_more() {
    let list = |entries: usize| vec!["10.1.1.1"; entries].join(",");
    let all = xff(&[&list(32)]);
    assert!(all.starts_with("10.1.1.1 xff[-32] via [10.0.0.5, 10.1.1.1"), "{all}");
    assert_eq!(xff(&[&list(33)]), "unknown too_long");
    assert_eq!(xff(&[&list(20), &list(13)]), "unknown too_long");
    assert_eq!(xff(&[&format!("8.8.8.8,{}", list(31))]).split(" via").next(), Some("8.8.8.8 xff[-32]"));
    assert_eq!(xff(&[&format!("garbage,{}", list(32))]), "unknown too_long");
}

#[test]
fn four_kilobytes_are_walked_and_no_more() {
    let commas = |count| format!("8.8.8.8{}", ",".repeat(count));
    assert!(xff(&[&commas(4096 - 8)]).starts_with("8.8.8.8 "));
    assert_eq!(xff(&[&commas(4096 - 7)]), "unknown too_long");
    assert_eq!(xff(&[&"x".repeat(100_000)]), "unknown too_long");
    assert_eq!(xff(&vec![""; 5000]), "unknown too_long");
    // What is not walked costs nothing.
    assert_eq!(xff(&[&format!("{}, 8.8.8.8", "x,".repeat(100_000))]), "8.8.8.8 xff[-1] via [10.0.0.5]");
}

#[test]
fn forwarded_has_the_same_bounds() {
    let list = |entries: usize, element: &str| vec![element; entries].join(", ");
    for element in ["for=10.1.1.1", r#"for="10.1.1.1""#] {
        assert!(forwarded(&[&list(32, element)]).starts_with("10.1.1.1 xff[-32]"));
        assert_eq!(forwarded(&[&list(33, element)]), "unknown too_long");
        assert_eq!(forwarded(&[&list(20, element), &list(13, element)]), "unknown too_long");
    }
    let long = format!(r#"{}for="8.8.8.8""#, ",".repeat(4096));
    assert_eq!(forwarded(&[&long]), "unknown too_long");
}

// RFC 7239.

#[test]
fn rfc7239_4_what_an_element_may_look_like() {
    let read = [
        "for=8.8.8.8",
        "FOR=8.8.8.8",
        r#"for="8.8.8.8:80""#,
        "for=8.8.8.8;by=10.0.0.1",
        "by=_secret;for=8.8.8.8;proto=http",
        "for=8.8.8.8;",
        ";;for=8.8.8.8",
        "for=8.8.8.8 ; proto=http",
        r#"for="\8.8.8.8""#,
        r#"host="a,b;for=1.1.1.1";for=8.8.8.8"#,
        r#"host="a\",for=1.1.1.1";for=8.8.8.8"#,
        "for=8.8.8.8:80",
        r#"for=1.1.1.1, host="x, y";for=8.8.8.8"#,
        "for=8.8.8.8, ,",
        r#"for="8.8.8.8", ,"#,
    ];
    for line in read {
        assert_eq!(forwarded(&[line]), "8.8.8.8 xff[-1] via [10.0.0.5]", "{line}");
    }
    let malformed = [
        "8.8.8.8",
        "for",
        "for=",
        "=8.8.8.8",
        "for=8.8.8.8;for=8.8.8.8",
        "for=8.8.8.8;FOR=1.1.1.1",
        "for = 8.8.8.8",
        r#"for="8.8.8.8"#,
        r#"for="8.8.8.8"x"#,
        r#"for=x"8.8.8.8""#,
        r#"for="8.8.8.8\"#,
        r#"for="8.8.8.8";x"#,
        r#"for="""#,
        "fo r=8.8.8.8",
        "for=\"a\"\"8.8.8.8\"",
    ];
    for line in malformed {
        assert_eq!(forwarded(&[line]), "unknown malformed@-1", "{line}");
    }
}

#[test]
fn rfc7239_4_a_quote_that_a_client_leaves_open_cannot_hide_or_forge_an_entry() {
    // The proxy appended the last element to whatever the client sent.
    for client in [r#"for=""#, r#"for="x"#, r#"for="\"#, r#"for=1.1.1.1;x="a\""#] {
        for proxy in ["for=8.8.8.8", r#"for="[2001:db8::7]:80";by="[::1]""#] {
            assert_eq!(forwarded(&[&format!("{client}, {proxy}")]), "unknown malformed@-1", "{client}");
            // On a line of its own the proxy is understood.
            assert!(forwarded(&[client, proxy]).contains("xff[-1]"), "{client}");
        }
    }
}

// What the rest of the gateway relies on.

#[test]
fn without_trusted_proxies_every_client_is_its_peer() {
    assert_eq!(resolve(&TrustedProxies::none(), "10.0.0.5", &[("X-Forwarded-For", "8.8.8.8")]), "10.0.0.5 peer via []");
    assert!(!TrustedProxies::none().trusts(ip("127.0.0.1")));
}

#[test]
fn hops_of_an_earlier_request_are_forgotten() {
    let proxies = proxies(&["10.0.0.0/8"], ForwardingField::XForwardedFor, Missing::Unknown);
    let mut hops = Hops::new();
    let lines = owned(&[("X-Forwarded-For", "8.8.8.8, 10.0.0.9")]);
    proxies.resolve(ip("10.0.0.5"), &lines, &mut hops, &mut ());
    assert_eq!(hops.as_slice(), [ip("10.0.0.5"), ip("10.0.0.9")]);
    proxies.resolve(ip("8.8.8.8"), &lines, &mut hops, &mut ());
    assert!(hops.as_slice().is_empty());
}

#[test]
fn a_watch_sees_every_entry_until_the_stop() {
    #[derive(Default)]
    struct Seen(Vec<String>);
    impl Watch for Seen {
        fn entry(&mut self, entry: &[u8], step: Step) {
            self.0.push(format!("{} {step:?}", String::from_utf8_lossy(entry)));
        }
    }
    let proxies = proxies(&["10.0.0.0/8"], ForwardingField::XForwardedFor, Missing::Unknown);
    let mut seen = Seen::default();
    let lines = owned(&[("X-Forwarded-For", "never, 8.8.8.8:1 , , 10.0.0.9")]);
    proxies.resolve(ip("10.0.0.5"), &lines, &mut Hops::new(), &mut seen);
    assert_eq!(seen.0, ["10.0.0.9 Trusted(10.0.0.9)", " Empty", "8.8.8.8:1 Client(8.8.8.8)"]);
}

#[test]
fn labels_have_no_numbers_in_them() {
    let sources = [Source::Peer, Source::Field { hop: 3 }, Source::MissingPeer];
    assert_eq!(sources.map(Source::label), ["peer", "field", "missing_peer"]);
    let reasons = [UnknownReason::Missing, UnknownReason::Malformed { at: 3 }, UnknownReason::TooLong];
    assert_eq!(reasons.map(UnknownReason::label), ["missing", "malformed", "too_long"]);
}
