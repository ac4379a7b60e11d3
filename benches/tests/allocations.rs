//! The judgement allocates nothing, whatever the request looks like.

use allocation_counter::measure;
use probegate_benches::{Case, PLAIN, browser, judge, parse, plan, plan_with_keys};

#[test]
fn a_judgement_does_not_touch_the_heap() {
    let (plan, limiter) = plan().unwrap();
    let token = PLAIN.replace("/products/42", "/readyz").replace("\r\n\r\n", "\r\nX-Probe-Token: test\r\n\r\n");
    let cases = [
        ("plain", PLAIN.to_owned(), true),
        ("browser", browser(), true),
        ("token", token, true),
        ("denied route", PLAIN.replace("/products/42", "/admin/users"), false),
        ("encoded and dotted path", PLAIN.replace("/products/42", "/a/./b/../%63//d;e"), true),
        ("ambiguous", PLAIN.replace("/products/42", "/x/..%2freadyz"), false),
        ("unknown client", PLAIN.replace("198.51.100.7", "garbage"), true),
        ("quoted Forwarded is ignored", PLAIN.replace("X-Forwarded-For: ", "Forwarded: for="), true),
    ];
    for (name, text, passes) in &cases {
        let head = parse(text).unwrap();
        let mut case = Case::new(&plan, &limiter, &head, text);
        // The first judgement grows the memory that the worker keeps.
        assert_eq!(judge(&mut case), *passes, "{name}");
        let info = measure(|| {
            for _ in 0..100 {
                judge(&mut case);
            }
        });
        assert_eq!(info.count_total, 0, "{name} allocates");
    }
    let (plan, limiter) = plan_with_keys().unwrap();
    for text in [PLAIN.to_owned(), browser()] {
        let head = parse(&text).unwrap();
        let mut case = Case::new(&plan, &limiter, &head, &text);
        assert!(judge(&mut case));
        assert_eq!(measure(|| assert!(judge(&mut case))).count_total, 0, "keys of many parts allocate");
    }
    // The instrument can see an allocation.
    assert_eq!(measure(|| drop(std::hint::black_box(Box::new(1_u64)))).count_total, 1);
}
