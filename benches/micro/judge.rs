//! The whole judgement of a parsed request: target, canonical path, identity, service, route, access, limit.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use probegate_benches::{Case, PLAIN, browser, judge, parse, plan};

fn judgement(criterion: &mut Criterion) {
    let (plan, limiter) = plan().expect("the plan of the benchmarks compiles");
    let denied = PLAIN.replace("/products/42", "/admin/users");
    let token = PLAIN.replace("/products/42", "/readyz").replace("\r\n\r\n", "\r\nX-Probe-Token: test\r\n\r\n");
    for (name, text) in
        [("plain", PLAIN.to_owned()), ("browser", browser()), ("denied", denied), ("probe_with_token", token)]
    {
        let head = parse(&text).expect("a good head");
        let mut case = Case::new(&plan, &limiter, &head, &text);
        criterion.bench_function(&format!("judge/{name}"), |bencher| bencher.iter(|| black_box(judge(&mut case))));
    }
}

criterion_group!(benches, judgement);
criterion_main!(benches);
