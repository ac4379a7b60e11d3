//! One decision of a local limit, alone and from two threads at once; and ten million sources that come once each, against a table for one million.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use probegate_policies::client::{Identity, Known, Source};
use probegate_policies::limit::{Quota, Rate, Seed, Table};
use probegate_policies::now::Now;

const SECOND: u64 = 1_000_000_000;

fn client(address: u32) -> Identity {
    Identity::Known(Known { ip: IpAddr::V4(Ipv4Addr::from_bits(address)), source: Source::Peer })
}

/// One decision: the key is put together, and charged.
fn decide(table: &Table, quota: &Quota, address: u32, nanos: u64) -> bool {
    let key = table.client_key(&client(address), 32, 64);
    table.admit(key, quota, Now { nanos, unix: 0 }).admitted
}

fn decisions(criterion: &mut Criterion) {
    let (table, quota) =
        (Table::new(1 << 18, Seed([1, 2, 3, 4])), Quota::new(Rate { count: 1_000_000, period: SECOND }, 1000));
    let mut clock = SECOND;
    criterion.bench_function("limit/one client", |bencher| {
        bencher.iter(|| {
            clock += 1000;
            black_box(decide(&table, &quota, 1, clock))
        });
    });
    let mut next = 0_u32;
    criterion.bench_function("limit/1000 clients", |bencher| {
        bencher.iter(|| {
            clock += 1000;
            next = (next + 1) % 1000;
            black_box(decide(&table, &quota, next, clock))
        });
    });
    let refusing = Quota::new(Rate { count: 1, period: 3600 * SECOND }, 0);
    criterion.bench_function("limit/refused", |bencher| {
        bencher.iter(|| {
            clock += 1000;
            black_box(decide(&table, &refusing, 2_000_000, clock))
        });
    });
    // Time on the processor for as many decisions in each of the threads: the same as alone, where it scales. Not by the wall, where waiting for a processor
    // that others use would count.
    for threads in [1_u32, 2] {
        criterion.bench_function(&format!("limit/1000 clients, {threads} threads"), |bencher| {
            bencher.iter_custom(|count| together(&table, &quota, threads, count));
        });
    }
}

/// How long it takes that each of the threads decides so often.
fn together(table: &Table, quota: &Quota, threads: u32, count: u64) -> Duration {
    let longest = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let longest = &longest;
            scope.spawn(move || {
                let begun = on_processor();
                for number in 0..count {
                    let address = u32::try_from(number % 1000).unwrap_or(0) + thread * 1000;
                    black_box(decide(table, quota, address, 2 * SECOND + number * 1000));
                }
                longest.fetch_max(on_processor().saturating_sub(begun), Ordering::Relaxed);
            });
        }
    });
    Duration::from_nanos(longest.load(Ordering::Relaxed))
}

/// Nanoseconds that this thread has been on a processor.
fn on_processor() -> u64 {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    times.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}

/// Resident memory in KiB.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0) * 4
}

fn flood(_: &mut Criterion) {
    let quota = Quota::new(Rate { count: 10, period: 60 * SECOND }, 9);
    let before = resident();
    let table = Table::new(1_000_000, Seed([1, 2, 3, 4]));
    let mut slowest = 0;
    let begun = Instant::now();
    let (mut refused, mut honest) = (0, 0);
    for source in 0..10_000_000_u32 {
        let nanos = SECOND + u64::from(source) * 6000;
        let one = Instant::now();
        black_box(decide(&table, &quota, source, nanos));
        slowest = slowest.max(one.elapsed().as_nanos());
        if source % 10_000 == 0 {
            // A thousand honest clients among them, each of which comes once in the minute that all of this stands for.
            honest += 1;
            refused += u32::from(!decide(&table, &quota, 0xF000_0000 + source / 10_000, nanos));
        }
    }
    let each = begun.elapsed().as_nanos() / 10_000_000;
    let told = format!(
        "flood: 10,000,000 sources, {} entries: {each} ns each (both readings of the clock included), the slowest {slowest} ns; {} MiB more than before; {} live entries \
         forgotten; {refused} of {honest} honest requests refused\n",
        table.capacity(),
        (resident().saturating_sub(before)) / 1024,
        table.stats().evicted_live
    );
    std::io::Write::write_all(&mut std::io::stdout(), told.as_bytes()).ok();
}

criterion_group!(benches, decisions, flood);
criterion_main!(benches);
