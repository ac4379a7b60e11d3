use std::path::Path;

use super::*;
use crate::config::{self, Source, System};

#[test]
fn keys_of_one_request_lie_in_one_slot() {
    let key = SharedKey(*b"0123456789abcdef");
    let text = |slot| String::from_utf8(name("shop", slot, "login", key)).unwrap();
    assert_eq!(text(None), "shop:{30313233343536373839616263646566}:login");
    assert_eq!(text(Some("api")), "shop:{api}:login:30313233343536373839616263646566");
}

#[test]
fn what_changes_the_meaning_of_a_state_is_part_of_its_name() {
    let definitions = [
        ("rate: 5/h", "x"),
        ("rate: 9/m, burst: 4, delay: 2", "x"),
        ("rate: 5/h, count: {status: [401]}", "x:answers"),
        ("rate: 5/h, algorithm: fixed_window", "x:w3600"),
        ("rate: 9/h, algorithm: fixed_window", "x:w3600"),
        ("rate: 5/2h, algorithm: fixed_window", "x:w7200"),
        ("rate: 5/d, algorithm: fixed_window, count: {status: [401]}", "x:w86400:answers"),
    ];
    for (definition, expected) in definitions {
        let rest = "limit_store: {redis: \"redis://127.0.0.1\", replicas: 2}\nservices: {one: {upstream: {servers: [\"127.0.0.1:1\"]}, limits: [x]}}\n";
        let plan = plan(&format!("limits: {{x: {{{definition}, shared: true}}}}\n{rest}"));
        assert_eq!(&*title(&plan.limits[0]), expected, "{definition}");
    }
}

#[test]
fn no_request_waits_for_the_store_for_more_than_20_milliseconds_where_nothing_else_is_said() {
    let rest = "limit_store: {redis: \"redis://127.0.0.1\", replicas: 2}\nservices: {one: {upstream: {servers: [\"127.0.0.1:1\"]}, limits: [x]}}\n";
    let plan = plan(&format!("limits: {{x: {{rate: 1/s, shared: true}}}}\n{rest}"));
    assert_eq!(plan.limit_store.unwrap().timeout, std::time::Duration::from_millis(20));
}

#[test]
fn the_time_that_answers_take_is_not_the_clients() {
    let rest = "limit_store: {redis: \"redis://127.0.0.1\", replicas: 2}\nservices: {one: {upstream: {servers: [\"127.0.0.1:1\"]}, limits: [x]}}\n";
    let plan = plan(&format!("limits: {{x: {{rate: 100/s, burst: 0, shared: true}}}}\n{rest}"));
    let (seed, millis) = (Seed([1, 2, 3, 4]), |millis: u64| millis * 1_000_000);
    let shared = Shared::new(&plan, None, &seed);
    let sharing = shared.of(0).unwrap();
    let key = sharing.over.key(&[]);
    let at = |time| Now { nanos: millis(time), unix: 0 };
    // Asked at 100 ms, let in as the last one for 10 ms, heard of 4 ms later.
    sharing.remember(key, millis(10), at(100), millis(104));
    let told = |time| shared.refusal(0, &plan.limits[0].quota, key, at(time)).map(|refusal| refusal.retry_after);
    assert_eq!(told(104), Some(millis(10)), "whoever comes back then is not too early");
    assert_eq!(told(109), Some(millis(5)));
    assert_eq!(told(110), None, "by its own clock the store lets in the next one");
}

fn plan(text: &str) -> Plan {
    let source = Source { name: "test".to_owned(), text: text.to_owned() };
    config::compile(&source, &System::new(Path::new("")))
        .map_err(|problems| problems.render(&source, false))
        .unwrap()
        .plan
}

#[test]
fn limits_that_count_by_the_same_key_are_spread_and_others_share_a_slot() {
    let limits = "limits:\n  a: {rate: 1/s, shared: true}\n  b: {rate: 1/s, shared: true}\n  c: {rate: 1/s, shared: true, ipv4_prefix: 24}\n  d: {rate: 1/s, shared: true}\n";
    let rest = "limit_store: {redis: \"redis://127.0.0.1\", replicas: 2}\nservices:\n  one:\n    hosts: [one]\n    upstream: {servers: [\"127.0.0.1:1\"]}\n    limits: [b]\n    routes:\n      - {path: /x, limits: [c]}\n      - {path: /y, limits: [a]}\n  two:\n    hosts: [two]\n    upstream: {servers: [\"127.0.0.1:1\"]}\n    limits: [d]\n";
    let plan = plan(&format!("{limits}{rest}"));
    let slots: Vec<_> = (0..4).map(|index| slot(&plan, index)).collect();
    let set = Some("a".into());
    assert_eq!(slots, [set.clone(), set.clone(), set, None]);
}
