//! Parsing a request head.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use probegate::wire::h1::request::RequestParser;
use probegate::wire::head::RequestHead;
use probegate_benches::{BOUNDS, PLAIN, browser};

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    for (name, text) in [("plain", PLAIN.to_owned()), ("browser", browser())] {
        let mut head = RequestHead::default();
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(RequestParser::default().advance(text.as_bytes(), &BOUNDS, &mut head)));
        });
    }
    group.finish();
}

criterion_group!(benches, heads);
criterion_main!(benches);
