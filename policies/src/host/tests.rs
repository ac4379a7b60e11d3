use super::*;

fn host(text: &str) -> Result<(&str, Option<u16>), InvalidHost> {
    parse_authority(text.as_bytes()).map(|found| (str::from_utf8(found.host).unwrap(), found.port))
}

fn table(hosts: &[(&str, usize)]) -> HostTable {
    HostTable::new(hosts.iter().map(|&(text, target)| (text.parse().unwrap(), target))).unwrap()
}

#[test]
fn authorities_are_a_host_and_perhaps_a_port() {
    let cases = [
        ("example.com", "example.com", None),
        ("Example.COM.", "Example.COM.", None),
        ("example.com:8080", "example.com", Some(8080)),
        ("example.com:0", "example.com", Some(0)),
        ("my_service", "my_service", None),
        ("192.0.2.1:80", "192.0.2.1", Some(80)),
        ("[2001:db8::1]", "[2001:db8::1]", None),
        ("[::1]:443", "[::1]", Some(443)),
    ];
    for (text, name, port) in cases {
        assert_eq!(host(text), Ok((name, port)), "{text}");
    }
}

#[test]
fn other_authorities_are_refused() {
    let cases = [
        ("", InvalidHost::Empty),
        (":80", InvalidHost::Empty),
        (".", InvalidHost::Empty),
        (".example.com", InvalidHost::Empty),
        ("a..b", InvalidHost::Empty),
        ("a..", InvalidHost::Empty),
        ("user@example.com", InvalidHost::UserInformation),
        ("user:secret@example.com", InvalidHost::UserInformation),
        ("exa mple.com", InvalidHost::Character),
        ("example.com/", InvalidHost::Character),
        ("example.com\r\nX: y", InvalidHost::Character),
        ("ex%61mple.com", InvalidHost::Character),
        ("exämple.com", InvalidHost::Character),
        ("a\\b", InvalidHost::Character),
        ("[::1", InvalidHost::Literal),
        ("[127.0.0.1]", InvalidHost::Literal),
        ("[fe80::1%25eth0]", InvalidHost::Literal),
        ("[]", InvalidHost::Literal),
        ("[::1]x", InvalidHost::Literal),
        ("example.com:", InvalidHost::Port),
        ("example.com:65536", InvalidHost::Port),
        ("example.com:8o", InvalidHost::Port),
        ("a:80:80", InvalidHost::Port),
        ("::1", InvalidHost::Empty),
    ];
    for (text, expected) in cases {
        assert_eq!(host(text), Err(expected), "{text}");
    }
}

#[test]
fn names_come_before_the_longest_wildcard_before_any() {
    let hosts =
        table(&[("*", 0), ("*.example.com", 1), ("*.b.example.com", 2), ("www.example.com", 3), ("example.com.", 4)]);
    let cases = [
        ("www.example.com", 3),
        ("WWW.Example.COM", 3),
        ("www.example.com.", 3),
        ("example.com", 4),
        ("a.example.com", 1),
        ("a.c.example.com", 1),
        ("b.example.com", 1),
        ("a.b.example.com", 2),
        ("notexample.com", 0),
        ("10.0.0.1", 0),
        ("[::1]", 0),
    ];
    for (text, target) in cases {
        assert_eq!(hosts.find(text.as_bytes()), Some(target), "{text}");
    }
}

#[test]
fn without_any_an_unknown_host_leads_nowhere() {
    let hosts = table(&[("*.example.com", 1)]);
    assert_eq!(hosts.find(b"example.com"), None);
    assert_eq!(hosts.find(b".example.com"), Some(1), "no such host passes parse_authority");
    assert_eq!(hosts.find(b""), None);
    assert_eq!(table(&[("*", 0)]).find(&[b'a'; 257]), None);
    assert_eq!(table(&[("*", 0)]).find(&[b'a'; 256]), Some(0));
}

#[test]
fn patterns_print_as_they_are_meant() {
    for (text, printed) in [("*", "*"), ("*.Example.com", "*.example.com"), ("A.b.", "a.b"), ("[::1]", "[::1]")] {
        assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), printed);
    }
    for text in ["", "*.", "a.*.b", "**", "*.*", "a:80", "*.a:80", "*.[::1]", "a/b", "http://a"] {
        assert!(text.parse::<HostPattern>().is_err(), "{text}");
    }
}

#[test]
fn a_host_given_twice_is_refused_in_any_spelling() {
    for (a, b) in [("a.b", "A.B."), ("*.a.b", "*.A.b"), ("*", "*")] {
        let hosts = [a, "other", b].map(|text| text.parse::<HostPattern>().unwrap());
        let twice = HostTable::new(hosts.clone().into_iter().zip(0..)).unwrap_err();
        assert_eq!(twice, DuplicateHost(hosts[0].clone()));
    }
    assert!(HostTable::new([("a.b", 0), ("*.a.b", 1)].map(|(t, i)| (t.parse().unwrap(), i))).is_ok());
}
