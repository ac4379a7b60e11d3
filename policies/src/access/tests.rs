use super::*;
use crate::client::{Known, Source, Unknown, UnknownReason};

const NO_FIELDS: &[(&[u8], &[u8])] = &[];
const RIGHT: &[(&[u8], &[u8])] = &[(b"X-Probe-Token", b"secret")];
const WRONG: &[(&[u8], &[u8])] = &[(b"X-Probe-Token", b"guess")];
const TWICE: &[(&[u8], &[u8])] = &[(b"X-Probe-Token", b"secret"), (b"X-Probe-Token", b"secret")];

fn at(condition: Condition) -> Rule {
    Rule { origin: Origin { line: 7 }, condition }
}

fn internal() -> Rule {
    let set = Arc::new(IpSet::new(["10.0.0.0/8".parse().unwrap()]));
    at(Condition::Network { name: "internal".into(), set })
}

fn token() -> Rule {
    let slot = Slot { name: "main".into(), digest: TokenDigest::of(b"secret"), not_before: None, expires: None };
    at(Condition::Token(Arc::new(TokenSet::new("probe".into(), "X-Probe-Token".parse().unwrap(), vec![slot]))))
}

fn any_of<const N: usize>(rules: [Rule; N]) -> Rule {
    at(Condition::Any(rules.into()))
}

fn all_of<const N: usize>(rules: [Rule; N]) -> Rule {
    at(Condition::All(rules.into()))
}

fn known(ip: &str) -> Identity {
    Identity::Known(Known { ip: ip.parse().unwrap(), source: Source::Peer })
}

fn unknown() -> Identity {
    Identity::Unknown(Unknown { reason: UnknownReason::Malformed { at: 1 }, peer: "10.0.0.5".parse().unwrap() })
}

fn judge(rule: &Rule, identity: &Identity, fields: &[(&[u8], &[u8])]) -> Result<Permit, Refusal> {
    rule.judge(&Facts { identity, fields, certificate: None, unix: 1000 }, &mut ())
}

fn refusal(rule: &Rule, identity: &Identity, fields: &[(&[u8], &[u8])]) -> Option<Refusal> {
    judge(rule, identity, fields).err()
}

#[test]
fn a_network_lets_its_members_in() {
    assert_eq!(refusal(&internal(), &known("10.1.2.3"), NO_FIELDS), None);
    assert_eq!(refusal(&internal(), &known("8.8.8.8"), NO_FIELDS), Some(Refusal::OutsideNetwork));
    assert_eq!(refusal(&Rule::anyone(), &unknown(), NO_FIELDS), None);
}

#[test]
fn d1_an_unknown_client_is_in_no_network_not_even_its_proxys() {
    assert_eq!(refusal(&internal(), &unknown(), NO_FIELDS), Some(Refusal::IdentityUnknown));
    let everywhere = Arc::new(IpSet::new(["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]));
    let everywhere = at(Condition::Network { name: "everywhere".into(), set: everywhere });
    assert_eq!(refusal(&everywhere, &unknown(), NO_FIELDS), Some(Refusal::IdentityUnknown));
}

#[test]
fn d8_rules_combine_as_any_and_as_all() {
    let (inside, outside) = (known("10.1.2.3"), known("8.8.8.8"));
    let any = any_of([internal(), token()]);
    assert_eq!(refusal(&any, &inside, NO_FIELDS), None);
    assert_eq!(refusal(&any, &outside, RIGHT), None);
    assert_eq!(refusal(&any, &unknown(), RIGHT), None);
    assert_eq!(refusal(&any, &outside, NO_FIELDS), Some(Refusal::OutsideNetwork));
    let all = all_of([internal(), token()]);
    assert_eq!(refusal(&all, &inside, RIGHT), None);
    assert_eq!(refusal(&all, &inside, NO_FIELDS), Some(Refusal::TokenMissing));
    assert_eq!(refusal(&all, &outside, RIGHT), Some(Refusal::OutsideNetwork));
    assert_eq!(refusal(&all, &unknown(), RIGHT), Some(Refusal::IdentityUnknown));
}

#[test]
fn d5_an_empty_list_lets_nobody_in() {
    for rule in [any_of([]), all_of([]), any_of([all_of([])])] {
        assert!(judge(&rule, &known("10.0.0.1"), RIGHT).is_err(), "{rule}");
    }
}

#[test]
fn any_reports_the_most_telling_refusal_in_either_order() {
    let outside = known("8.8.8.8");
    for rule in [any_of([internal(), token()]), any_of([token(), internal()])] {
        assert_eq!(refusal(&rule, &outside, WRONG), Some(Refusal::TokenWrong));
        assert_eq!(refusal(&rule, &outside, NO_FIELDS), Some(Refusal::OutsideNetwork));
        assert_eq!(refusal(&rule, &unknown(), NO_FIELDS), Some(Refusal::IdentityUnknown));
        assert_eq!(refusal(&rule, &unknown(), WRONG), Some(Refusal::TokenWrong));
    }
}

#[test]
fn refusals_are_ordered_by_what_they_tell() {
    let order = [
        Refusal::TokenDuplicated,
        Refusal::TokenWrong,
        Refusal::TokenExpired,
        Refusal::TokenNotYetValid,
        Refusal::IdentityUnknown,
        Refusal::OutsideNetwork,
        Refusal::TokenMissing,
    ];
    for pair in order.windows(2) {
        assert_eq!(pair[0].more_telling(pair[1]), pair[0]);
        assert_eq!(pair[1].more_telling(pair[0]), pair[0]);
    }
    assert_eq!(order.last(), Some(&Refusal::LEAST_TELLING));
}

#[test]
fn d17_a_duplicated_token_ends_any_where_it_is_reached() {
    let inside = known("10.1.2.3");
    assert_eq!(refusal(&any_of([token(), internal()]), &inside, TWICE), Some(Refusal::TokenDuplicated));
    assert_eq!(refusal(&any_of([any_of([token()]), Rule::anyone()]), &inside, TWICE), Some(Refusal::TokenDuplicated));
    // The first success wins: nobody looked at the token.
    assert_eq!(refusal(&any_of([internal(), token()]), &inside, TWICE), None);
}

#[test]
fn a_permit_names_the_token_that_let_in() {
    let slot = |rule: &Rule, fields| {
        let permit = judge(rule, &known("10.1.2.3"), fields).unwrap();
        permit.slot().map(|(set, slot)| format!("{set}/{slot}"))
    };
    assert_eq!(slot(&token(), RIGHT).as_deref(), Some("probe/main"));
    assert_eq!(slot(&all_of([token(), internal()]), RIGHT).as_deref(), Some("probe/main"));
    assert_eq!(slot(&all_of([internal(), token()]), RIGHT).as_deref(), Some("probe/main"));
    assert_eq!(slot(&any_of([internal(), token()]), RIGHT), None);
    assert_eq!(slot(&Rule::anyone(), RIGHT), None);
}

#[test]
fn a_trace_sees_what_was_asked_and_what_came_of_it() {
    struct Lines(Vec<String>);
    impl Trace for Lines {
        fn rule(&mut self, depth: usize, rule: &Rule, outcome: Result<(), Refusal>) {
            self.0.push(format!("{depth} {} {rule}: {outcome:?}", rule.origin.line));
        }
    }
    let mut lines = Lines(Vec::new());
    let (rule, identity) = (any_of([internal(), token(), Rule::anyone()]), known("8.8.8.8"));
    let outcome = rule.judge(&Facts { identity: &identity, fields: RIGHT, certificate: None, unix: 0 }, &mut lines);
    assert!(outcome.is_ok());
    let expected = [
        "1 7 network internal: Err(OutsideNetwork)",
        "1 7 token probe: Ok(())",
        "0 7 any [network internal, token probe, anyone]: Ok(())",
    ];
    assert_eq!(lines.0, expected);
}

#[test]
fn a_certificate_opens_only_the_doors_of_its_own_sets() {
    let rule =
        |bit| Rule { origin: Origin { line: 1 }, condition: Condition::Certificate { name: "partners".into(), bit } };
    let ask = |bit, certificate| {
        let identity = known("192.0.2.1");
        rule(bit).judge(&Facts { identity: &identity, fields: RIGHT, certificate, unix: 0 }, &mut ()).err()
    };
    assert_eq!(ask(1, Some(0b10)), None);
    assert_eq!(ask(0, Some(0b10)), Some(Refusal::CertificateWrong));
    assert_eq!(ask(0, Some(0)), Some(Refusal::CertificateWrong));
    assert_eq!(ask(0, None), Some(Refusal::CertificateMissing));
    assert_eq!(ask(200, Some(u64::MAX)), Some(Refusal::CertificateWrong), "a bit that no set has");
}
