//! The whole judgement of a parsed request: target, canonical path, identity, service, route, access, limit.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use probegate_benches::{Case, PLAIN, browser, judge, parse, plan};

fn judgement(criterion: &mut Criterion) {
    let (plan, limiter) = or_stop(plan());
    let denied = PLAIN.replace("/products/42", "/admin/users");
    let token = PLAIN.replace("/products/42", "/readyz").replace("\r\n\r\n", "\r\nX-Probe-Token: test\r\n\r\n");
    for (name, text) in
        [("plain", PLAIN.to_owned()), ("browser", browser()), ("denied", denied), ("probe_with_token", token)]
    {
        let head = or_stop(parse(&text));
        let mut case = Case::new(&plan, &limiter, &head, &text);
        criterion.bench_function(&format!("judge/{name}"), |bencher| bencher.iter(|| black_box(judge(&mut case))));
    }
}

/// The fixtures are part of this program: one that is broken ends it.
fn or_stop<T>(made: Result<T, String>) -> T {
    made.unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(1)
    })
}

criterion_group!(benches, judgement);
criterion_main!(benches);
