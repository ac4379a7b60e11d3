use super::*;

type Lines<'a> = [(&'a [u8], &'a [u8])];

fn slot(name: &str, secret: &[u8]) -> Slot {
    Slot { name: name.into(), digest: TokenDigest::of(secret), not_before: None, expires: None }
}

fn set(slots: Vec<Slot>) -> TokenSet {
    TokenSet::new("probe".into(), "X-Probe-Token".parse().unwrap(), slots)
}

fn check(set: &TokenSet, lines: &Lines<'_>) -> Result<usize, Refusal> {
    set.check(lines, 1000)
}

#[test]
fn the_slot_of_the_presented_secret_is_found() {
    let set = set(vec![slot("old", b"alpha"), slot("new", b"beta")]);
    assert_eq!(check(&set, &[(b"x-probe-token", b"alpha")]), Ok(0));
    assert_eq!(check(&set, &[(b"X-PROBE-TOKEN", b"beta")]), Ok(1));
    for wrong in [b"Alpha".as_slice(), b"alph", b"alphaa", b"alpha ", b"\0"] {
        assert_eq!(check(&set, &[(b"X-Probe-Token", wrong)]), Err(Refusal::TokenWrong));
    }
}

#[test]
fn an_absent_or_empty_token_is_missing() {
    let set = set(vec![slot("empty", b"")]);
    assert_eq!(check(&set, &[]), Err(Refusal::TokenMissing));
    assert_eq!(check(&set, &[(b"X-Probe-Token", b"")]), Err(Refusal::TokenMissing));
}

#[test]
fn d2_non_ascii_token_is_refused_not_a_crash() {
    let set = set(vec![slot("a", b"secret"), slot("bytes", b"\xff\x00\x80")]);
    for wrong in [b"\x80".as_slice(), b"s\xc3\xa9cret", b"\xff\xfe", "sécret".as_bytes()] {
        assert_eq!(check(&set, &[(b"X-Probe-Token", wrong)]), Err(Refusal::TokenWrong));
    }
    assert_eq!(check(&set, &[(b"X-Probe-Token", b"\xff\x00\x80")]), Ok(1));
}

#[test]
fn d5_a_set_without_slots_lets_nobody_in() {
    assert_eq!(check(&set(Vec::new()), &[(b"X-Probe-Token", b"x")]), Err(Refusal::TokenWrong));
}

#[test]
fn d16_the_underscore_twin_of_the_field_is_not_read() {
    let set = set(vec![slot("a", b"secret")]);
    assert_eq!(check(&set, &[(b"X_Probe_Token", b"secret")]), Err(Refusal::TokenMissing));
    assert_eq!(check(&set, &[(b"X-Probe-Token", b"secret"), (b"X_Probe_Token", b"x")]), Ok(0));
}

#[test]
fn d17_a_token_sent_twice_is_refused_even_when_both_are_right() {
    let set = set(vec![slot("a", b"secret")]);
    for second in [b"secret".as_slice(), b"", b"other"] {
        let twice: &Lines<'_> = &[(b"X-Probe-Token", b"secret"), (b"x-probe-token", second)];
        assert_eq!(check(&set, twice), Err(Refusal::TokenDuplicated));
    }
}

#[test]
fn validity_starts_at_its_first_second_and_ends_before_its_last() {
    let dated = |not_before, expires| Slot { not_before, expires, ..slot("dated", b"secret") };
    let cases = [
        (Some(1000), Some(1001), Ok(0)),
        (Some(1001), None, Err(Refusal::TokenNotYetValid)),
        (None, Some(1000), Err(Refusal::TokenExpired)),
        (None, Some(999), Err(Refusal::TokenExpired)),
        (Some(2000), Some(500), Err(Refusal::TokenExpired)),
    ];
    for (not_before, expires, expected) in cases {
        assert_eq!(check(&set(vec![dated(not_before, expires)]), &[(b"X-Probe-Token", b"secret")]), expected);
    }
}

#[test]
fn of_two_slots_with_one_secret_the_valid_one_counts() {
    let old = Slot { expires: Some(10), ..slot("old", b"secret") };
    let rotated = set(vec![old.clone(), slot("new", b"secret"), old]);
    assert_eq!(check(&rotated, &[(b"X-Probe-Token", b"secret")]), Ok(1));
}

#[test]
fn a_token_of_unreasonable_length_is_wrong() {
    let long = vec![b'a'; MAX_TOKEN + 1];
    let set = set(vec![slot("long", &long), slot("longest", &long[1..])]);
    assert_eq!(check(&set, &[(b"X-Probe-Token", &long)]), Err(Refusal::TokenWrong));
    assert_eq!(check(&set, &[(b"X-Probe-Token", &long[1..])]), Ok(1));
}

#[test]
fn digests_are_read_as_sha256sum_prints_them() {
    let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(TokenDigest::from_hex(hex), Ok(TokenDigest::of(b"abc")));
    assert_eq!(TokenDigest::from_hex(&hex.to_uppercase()), Ok(TokenDigest::of(b"abc")));
    assert_eq!(TokenDigest::from_hex("abc"), Err(InvalidDigest::Length { found: 3 }));
    assert_eq!(TokenDigest::from_hex(&hex.replace("ba", "bg")), Err(InvalidDigest::Digit));
    assert_eq!(TokenDigest::from_hex(&hex.replacen("ba", "+a", 1)), Err(InvalidDigest::Digit));
}

#[test]
fn nothing_of_a_digest_is_printed() {
    assert_eq!(format!("{:?}", TokenDigest::of(b"abc")), "TokenDigest(..)");
    assert!(format!("{:?}", slot("a", b"abc")).contains("TokenDigest(..)"));
}
