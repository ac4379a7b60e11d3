use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn d3_mapped_addresses_are_ipv4_everywhere() {
    assert_eq!(canonical(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
    assert_eq!(parse(b"::ffff:10.0.0.1"), Some(ip("10.0.0.1")));
    assert_eq!(parse(b"::ffff:0a00:0001"), Some(ip("10.0.0.1")));
    assert_eq!(parse_node(b"[::ffff:10.0.0.1]:80"), Some(ip("10.0.0.1")));
    assert_eq!(parse_net("::ffff:10.0.0.0/104"), Ok("10.0.0.0/8".parse().unwrap()));
    assert_eq!(parse_net("::ffff:10.0.0.1"), Ok("10.0.0.1/32".parse().unwrap()));
    assert_eq!(group(ip("::ffff:10.1.2.3"), 24, 64), ip("10.1.2.0"));
    // Neither is IPv4-compatible (deprecated) nor translated.
    assert_eq!(canonical(ip("::10.0.0.1")), ip("::10.0.0.1"));
    assert_eq!(canonical(ip("64:ff9b::10.0.0.1")), ip("64:ff9b::10.0.0.1"));
}

#[test]
fn addresses_have_one_strict_spelling() {
    let refused = [
        "",
        " ",
        "10.0.0",
        "10.0.0.1.5",
        "010.0.0.1",
        "10.0.0.1 ",
        " 10.0.0.1",
        "+10.0.0.1",
        "0x0a.0.0.1",
        "167772161",
        "10.0.0.256",
        "10.0.0.0/8",
        "fe80::1%eth0",
        "fd00::g",
        "[::1]",
        "1::2::3",
        "０.0.0.1",
        "0.0.0.0",
        "::",
        "::ffff:0.0.0.0",
        "localhost",
        "unknown",
        "_hidden",
    ];
    for text in refused {
        assert_eq!(parse(text.as_bytes()), None, "{text}");
        if text != "[::1]" {
            assert_eq!(parse_node(text.as_bytes()), None, "{text}");
        }
    }
    assert_eq!(parse(b"\xff\xfe"), None);
    for text in ["192.0.2.1", "255.255.255.255", "::1", "2001:db8::1", "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"]
    {
        assert_eq!(parse(text.as_bytes()), Some(ip(text)), "{text}");
    }
}

#[test]
fn nodes_may_carry_brackets_and_a_port() {
    for text in ["203.0.113.7", "203.0.113.7:51234", "203.0.113.7:0", "203.0.113.7:65535"] {
        assert_eq!(parse_node(text.as_bytes()), Some(ip("203.0.113.7")), "{text}");
    }
    for text in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:443"] {
        assert_eq!(parse_node(text.as_bytes()), Some(ip("2001:db8::1")), "{text}");
    }
    let refused = [
        "203.0.113.7:",
        "203.0.113.7:80x",
        "203.0.113.7:-1",
        "203.0.113.7:+1",
        "203.0.113.7:65536",
        ":80",
        "[]",
        "[]:80",
        "[203.0.113.7]",
        "[203.0.113.7]:80",
        "[::1",
        "::1]",
        "[::1]80",
        "[::1]:",
        "[::1]:x",
        "[::1]:80:80",
        "[fe80::1%1]",
        "[[::1]]",
        "host:80",
    ];
    for text in refused {
        assert_eq!(parse_node(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn groups_clear_the_host_bits() {
    let cases = [
        ("203.0.113.77", 24, 64, "203.0.113.0"),
        ("203.0.113.77", 32, 64, "203.0.113.77"),
        ("203.0.113.77", 0, 64, "0.0.0.0"),
        ("203.0.113.77", 200, 64, "203.0.113.77"),
        ("2001:db8:1:2:3:4:5:6", 24, 64, "2001:db8:1:2::"),
        ("2001:db8:1:2:3:4:5:6", 24, 128, "2001:db8:1:2:3:4:5:6"),
        ("2001:db8:1:2:3:4:5:6", 24, 0, "::"),
        // Behind NAT64, all of IPv4 is in one network of 64 bits.
        ("64:ff9b::203.0.113.77", 32, 64, "203.0.113.77"),
        ("64:ff9b::203.0.113.77", 24, 64, "203.0.113.0"),
        ("64:ff9b:0:0:0:1:cb00:714d", 32, 64, "64:ff9b::"),
        ("64:ff9b:1::203.0.113.77", 32, 64, "64:ff9b:1::203.0.113.77"),
    ];
    for (text, v4, v6, expected) in cases {
        assert_eq!(group(ip(text), v4, v6), ip(expected), "{text}/{v4}/{v6}");
    }
}

#[test]
fn d4_host_bits_are_an_error_with_the_network_that_was_meant() {
    for (text, meant) in
        [("10.1.2.3/8", "10.0.0.0/8"), ("2001:db8::1/32", "2001:db8::/32"), ("::ffff:10.0.0.1/104", "10.0.0.0/8")]
    {
        let suggestion = meant.parse().unwrap();
        assert_eq!(parse_net(text), Err(InvalidNet::HostBits { suggestion }), "{text}");
    }
    assert!(parse_net("10.1.2.3/8").unwrap_err().to_string().ends_with("did you mean 10.0.0.0/8"));
}

#[test]
fn networks_are_read_strictly() {
    for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "::1/128", "192.0.2.1/32"] {
        assert_eq!(parse_net(text), Ok(text.parse().unwrap()), "{text}");
    }
    assert_eq!(parse_net("192.0.2.1"), Ok("192.0.2.1/32".parse().unwrap()));
    assert_eq!(parse_net("2001:db8::1"), Ok("2001:db8::1/128".parse().unwrap()));
    let cases = [
        ("", InvalidNet::Syntax),
        ("10.0.0.0/", InvalidNet::Syntax),
        ("10.0.0.0/+8", InvalidNet::Syntax),
        ("10.0.0.0/08", InvalidNet::Syntax),
        ("10.0.0.0/8/8", InvalidNet::Syntax),
        ("10/8", InvalidNet::Syntax),
        ("10.0.0.0/255.0.0.0", InvalidNet::Syntax),
        ("10.0.0.0-10.0.0.9", InvalidNet::Syntax),
        ("proxy.internal", InvalidNet::Syntax),
        ("10.0.0.0/33", InvalidNet::PrefixTooLong),
        ("::/129", InvalidNet::PrefixTooLong),
        ("::/1000", InvalidNet::PrefixTooLong),
        ("::ffff:10.0.0.0/90", InvalidNet::V4Mapped),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_net(text), Err(expected), "{text}");
    }
}
