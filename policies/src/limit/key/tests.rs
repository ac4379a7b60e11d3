use super::*;
use crate::client::{Known, Source, Unknown, UnknownReason};

const SEED: Seed = Seed([1, 2, 3, 4]);

fn key(parts: &KeyParts<'_>) -> Key {
    Key::new(&SEED.hasher(), parts)
}

fn known(ip: &str) -> Identity {
    Identity::Known(Known { ip: ip.parse().unwrap(), source: Source::Peer })
}

fn unknown(peer: &str) -> Identity {
    Identity::Unknown(Unknown { reason: UnknownReason::Missing, peer: peer.parse().unwrap() })
}

fn client(identity: &Identity) -> KeyPart<'_> {
    KeyPart::Client { identity, v4_prefix: 32, v6_prefix: 64 }
}

#[test]
fn clients_of_one_network_share_a_key() {
    let of = |text: &str| key(&[client(&known(text))]);
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_ne!(of("203.0.113.1"), of("203.0.113.2"));
    assert_eq!(of("203.0.113.1"), of("::ffff:203.0.113.1"));
}

#[test]
fn an_unknown_client_never_shares_a_key_with_a_known_one() {
    for ip in ["10.0.0.5", "2001:db8::"] {
        assert_ne!(key(&[client(&unknown(ip))]), key(&[client(&known(ip))]));
    }
    assert_ne!(key(&[client(&unknown("10.0.0.5"))]), key(&[client(&unknown("10.0.0.6"))]));
}

#[test]
fn parts_do_not_run_into_each_other() {
    // The collision of django-ratelimit: group and rate without a separator.
    let joined = |a: &'static str, b: &'static str| key(&[KeyPart::Bytes(a.as_bytes()), KeyPart::Bytes(b.as_bytes())]);
    assert_ne!(joined("view1", "5/60s"), joined("view", "15/60s"));
    assert_ne!(joined("", "a"), joined("a", ""));
    assert_ne!(key(&[]), key(&[KeyPart::Bytes(b"")]));
    assert_ne!(key(&[client(&known("1.2.3.4"))]), key(&[KeyPart::Bytes(&[1, 2, 3, 4])]));
}

#[test]
fn another_seed_gives_other_keys() {
    let parts = [KeyPart::Bytes(b"login")];
    assert_ne!(key(&parts), Key::new(&Seed([5, 6, 7, 8]).hasher(), &parts));
}

#[test]
fn several_values_of_one_name_and_spellings_in_quotes_are_no_value() {
    let identity = known("203.0.113.1");
    let of = |build: &dyn Fn(&mut KeyBuilder<AHasher>, &KeyPart<'_>)| {
        let mut key = KeyBuilder::new(&SEED.hasher(), false);
        build(&mut key, &client(&identity));
        key.finish()
    };
    let values = |values: &[&'static str]| of(&|key, client| key.value(values.iter().map(|v| v.as_bytes()), client));
    let cookie = |field: &'static str| of(&|key, client| key.cookie([field.as_bytes()].into_iter(), b"sid", client));
    let spelled = |values: &[&'static str]| of(&|key, client| key.spelled(values.iter().map(|v| v.bytes()), client));
    for (sent, same) in [(&["", "a"][..], &["a"][..]), (&["a", "b"], &[]), (&["a", "a"], &[]), (&[""], &[])] {
        assert_eq!((values(sent), spelled(sent)), (values(same), spelled(same)), "{sent:?}");
    }
    assert!(values(&["a"]) != values(&[]) && spelled(&["a"]) != spelled(&[]));
    assert_eq!(cookie("sid = abc ; x=1"), cookie("sid=abc"));
    assert_ne!(cookie("sid=abc"), cookie(""));
    for dodge in ["sid=1; sid=abc", "sid=\"abc\"", "sid=\"\\141bc\"", "sid=1; sid=\"abc\"", "sid=a b"] {
        assert_eq!(cookie(dodge), cookie(""), "{dodge}");
    }
}
