use proptest::prelude::*;

use super::*;

fn line(text: &str) -> Result<Option<(Header, usize)>, Invalid> {
    parse(text.as_bytes())
}

fn header(source: &str, destination: &str) -> Header {
    Header::Relayed { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// A header in the binary form.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&SIGNATURE, &[command, family][..], &length, block].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

/// 192.0.2.1:56324 to 198.51.100.7:443.
const BLOCK4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb];

/// A block whose checksum is right.
fn summed(before: &[u8], after: &[u8]) -> Vec<u8> {
    let block = |sum: u32| [&BLOCK4[..], before, &tlv(TLV_CRC32C, &sum.to_be_bytes()), after].concat();
    let sum = crc32c([&v2(PROXY, TCP4, &block(0))[..]]);
    v2(PROXY, TCP4, &block(sum))
}

#[test]
fn section_2_1_the_text_form() {
    for (text, expected) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", header("192.0.2.1:56324", "198.51.100.7:443")),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            header("255.255.255.255:65535", "255.255.255.255:65535"),
        ),
        ("PROXY TCP4 192.0.2.1 198.51.100.7 0 0\r\n", header("192.0.2.1:0", "198.51.100.7:0")),
        ("PROXY TCP6 2001:db8::1 2001:db8::2 4124 443\r\n", header("[2001:db8::1]:4124", "[2001:db8::2]:443")),
        ("PROXY TCP6 2001:DB8::1 2001:db8:0:0:0:0:0:2 4124 443\r\n", header("[2001:db8::1]:4124", "[2001:db8::2]:443")),
        // D3: one spelling for each address.
        ("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.7 1 2\r\n", header("192.0.2.1:1", "198.51.100.7:2")),
        ("PROXY UNKNOWN\r\n", Header::Own),
        ("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", Header::Own),
        ("PROXY UNKNOWN \r\n", Header::Own),
    ] {
        assert_eq!(line(text), Ok(Some((expected, text.len()))), "{text:?}");
        let longer = format!("{text}GET / HTTP/1.1\r\n");
        assert_eq!(line(&longer), Ok(Some((expected, text.len()))), "{text:?}");
    }
}

#[test]
fn section_2_1_what_is_no_text_form() {
    for text in [
        "PROXY\r\n",
        "PROXY \r\n",
        "proxy UNKNOWN\r\n",
        "PROXY  UNKNOWN\r\n",
        "PROXY\tUNKNOWN\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY UNKNOWN\n",
        "PROXY UNKNOWN\rX",
        "PROXY UNKNOWN \0\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.7 1 2\r\n",
        "PROXY TCP5 192.0.2.1 198.51.100.7 1 2\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 1 2 3\r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.7 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7  1 2\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n",
        "PROXY TCP4 192.0.2 198.51.100.7 1 2\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.7 1 2\r\n",
        "PROXY TCP4 0.0.0.0 198.51.100.7 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 01 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 65536 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 1 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 1 2\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 1 2\rX",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n",
        "PROXY TCP6 [2001:db8::1] 2001:db8::2 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 2001:db8::2 1 2\r\n",
        "PROXY TCP6 :: 2001:db8::2 1 2\r\n",
        "PROXY TCP6 ::ffff:0.0.0.0 2001:db8::2 1 2\r\n",
        "GET / HTTP/1.1\r\n",
        "\u{16}\u{3}\u{1}",
    ] {
        assert_eq!(line(text), Err(Invalid), "{text:?}");
    }
    let long = format!("PROXY UNKNOWN {}\r\n", "a".repeat(91));
    assert_eq!((long.len(), line(&long)), (107, Ok(Some((Header::Own, 107)))));
    let longer = format!("PROXY UNKNOWN {}\r\n", "a".repeat(92));
    assert_eq!(line(&longer), Err(Invalid));
    assert_eq!(line(&longer[..106]), Ok(None));
    assert_eq!(line(&longer[..107]), Err(Invalid));
}

#[test]
fn whoever_speaks_something_else_is_refused_with_the_first_byte_that_shows_it() {
    for (text, at) in [
        ("GET / HTTP/1.1\r\n\r\n", 1),
        ("POST / HTTP/1.1\r\n", 2),
        ("PRI * HTTP/2.0\r\n", 3),
        ("PROXY TCP4 192.0.2.1x", 21),
        ("PROXY TCP4 192.0.2.300 1", 23),
        ("PROXY TCP4 192.0.2.1 198.51.100.7 1 2 ", 38),
        ("\r\n\r\n\0\r\nQUIT\n\x31", 13),
        ("\r\n\r\nGET", 5),
    ] {
        assert_eq!(line(&text[..at - 1]), Ok(None), "{text:?}");
        assert_eq!(line(&text[..at]), Err(Invalid), "{text:?}");
    }
}

#[test]
fn section_2_2_the_binary_form() {
    let six = "20010db8000000000000000000000001 20010db8000000000000000000000002 101c 01bb";
    let six: Vec<u8> = six
        .replace(' ', "")
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let mapped =
        [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 1], &[0; 10], &[0xff, 0xff, 198, 51, 100, 7, 0, 1, 0, 2]].concat();
    let noop = [&BLOCK4[..], &tlv(4, b"padding"), &tlv(0xea, b"\x01vpce-1")].concat();
    let named = header("192.0.2.1:56324", "198.51.100.7:443");
    for (bytes, expected) in [
        (v2(PROXY, TCP4, &BLOCK4), named),
        (v2(PROXY, TCP4, &noop), named),
        (v2(PROXY, TCP6, &six), header("[2001:db8::1]:4124", "[2001:db8::2]:443")),
        (v2(PROXY, TCP6, &mapped), header("192.0.2.1:1", "198.51.100.7:2")),
        (v2(PROXY, 0x31, &[0; 216]), Header::Own),
        (v2(PROXY, 0x00, &[]), Header::Own),
        (v2(PROXY, 0x00, &tlv(1, b"h2")), Header::Own),
        (v2(LOCAL, 0x00, &[]), Header::Own),
        (v2(LOCAL, TCP4, &BLOCK4), Header::Own),
        (v2(LOCAL, TCP4, b"what it is, is not looked at"), Header::Own),
        (summed(b"", b""), named),
        (summed(&tlv(1, b"h2"), &tlv(4, b"")), named),
        (v2(LOCAL, 0x00, &[0; MAX_LENGTH - 16]), Header::Own),
    ] {
        let length = bytes.len();
        assert_eq!(parse(&bytes), Ok(Some((expected, length))), "{bytes:?}");
        assert_eq!(parse(&[&bytes[..], b"GET /"].concat()), Ok(Some((expected, length))), "{bytes:?}");
    }
}

#[test]
fn section_2_2_what_is_no_binary_form() {
    let with = |tlvs: &[u8]| v2(PROXY, TCP4, &[&BLOCK4[..], tlvs].concat());
    let mut wrong = summed(b"", b"");
    *wrong.last_mut().unwrap() ^= 1;
    let twice = summed(&[], &tlv(TLV_CRC32C, &[0; 4]));
    for bytes in [
        v2(0x11, TCP4, &BLOCK4),
        v2(0x22, TCP4, &BLOCK4),
        v2(0x30, TCP4, &BLOCK4),
        v2(PROXY, 0x12, &BLOCK4),
        v2(PROXY, 0x10, &BLOCK4),
        v2(PROXY, 0x22, &[1; 36]),
        v2(PROXY, 0x41, &[1; 36]),
        v2(PROXY, TCP4, &BLOCK4[..11]),
        v2(PROXY, TCP6, &BLOCK4),
        v2(PROXY, 0x31, &[0; 215]),
        v2(PROXY, TCP4, &[0; 12]),
        with(&[1]),
        with(&[1, 0]),
        with(&[1, 0, 2, 0]),
        with(&[&tlv(1, b"h2")[..], &[4, 0xff, 0xff]].concat()),
        with(&tlv(TLV_CRC32C, &[0; 4])),
        with(&tlv(TLV_CRC32C, &[0; 3])),
        v2(LOCAL, 0x00, &[0; MAX_LENGTH - 15]),
        wrong,
        twice,
    ] {
        assert_eq!(parse(&bytes), Err(Invalid), "{bytes:?}");
    }
    // The length alone decides, before what it promises is waited for.
    assert_eq!(parse(&v2(PROXY, TCP4, &[0; 5000])[..16]), Err(Invalid));
    assert_eq!(parse(&v2(PROXY, TCP6, &BLOCK4)[..16]), Err(Invalid));
}

/// Bytes that are headers, nearly headers, or anything.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("TCP4"),
        Just("TCP6"),
        Just("UNKNOWN"),
        Just("192.0.2.1"),
        Just("2001:db8::1"),
        Just("::ffff:1.2.3.4"),
        Just("443"),
        Just("0"),
        Just("65536"),
        Just(""),
        Just("x"),
        Just("\r\n"),
    ];
    let text = proptest::collection::vec(word, 0..7)
        .prop_map(|words| format!("PROXY {}\r\nGET", words.join(" ")).into_bytes());
    let good = (any::<[u8; 4]>(), any::<u16>())
        .prop_map(|(ip, port)| format!("PROXY TCP4 {} 198.51.100.7 {port} 443\r\nrest", IpAddr::from(ip)).into_bytes());
    let two = (
        prop_oneof![Just(LOCAL), Just(PROXY), any::<u8>()],
        prop_oneof![Just(TCP4), Just(TCP6), Just(0x31u8), Just(0u8), any::<u8>()],
        proptest::collection::vec(any::<u8>(), 0..300),
        proptest::collection::vec(any::<u8>(), 0..20),
    );
    let two = two.prop_map(|(command, family, block, rest)| [v2(command, family, &block), rest].concat());
    prop_oneof![text, good, two, proptest::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn every_split_of_the_bytes_gives_the_same_answer(bytes in anything()) {
        let whole = parse(&bytes);
        for length in 0..bytes.len() {
            let part = parse(&bytes[..length]);
            if part != Ok(None) {
                prop_assert_eq!(part, whole, "after {} bytes", length);
            }
            if let Ok(Some((_, used))) = whole {
                prop_assert_eq!(part == Ok(None), length < used, "after {} bytes", length);
            }
        }
    }

    #[test]
    fn a_header_is_never_longer_than_what_came(bytes in anything()) {
        if let Ok(Some((header, used))) = parse(&bytes) {
            prop_assert!(used <= bytes.len() && used <= MAX_LENGTH);
            if let Header::Relayed { source, destination } = header {
                prop_assert_eq!(source.ip(), source.ip().to_canonical());
                prop_assert_eq!(destination.ip(), destination.ip().to_canonical());
            }
        }
    }

    #[test]
    fn one_flipped_bit_of_an_address_breaks_the_checksum(at in 16usize..28, bit in 0u8..8) {
        let mut bytes = summed(&tlv(1, b"h2"), &tlv(4, b"some padding here"));
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(parse(&bytes), Err(Invalid));
    }
}

#[test]
fn what_was_refused_is_not_waited_for_again_when_the_line_ends() {
    assert_eq!(parse(b"PROXY TCP4 19K"), Err(Invalid));
    assert_eq!(parse(b"PROXY TCP4 19KNOWN\r"), Err(Invalid));
    assert_eq!(parse(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r"), Ok(None));
}
