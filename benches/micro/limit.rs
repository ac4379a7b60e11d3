//! One decision of a local limit, alone and from two threads at once; and ten million sources that come once each, against a table for one million
//! (`cargo bench -p probegate-benches --bench limit -- flood`: only that).

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Barrier;
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
    let begins = AtomicU64::new(clock);
    // Room for one thread to be far ahead of the other.
    let roomy = Quota::new(Rate { count: 1_000_000, period: SECOND }, u32::MAX - 1);
    for (threads, own) in [(1, true), (2, true), (2, false)] {
        let whose = if own { "1000 clients" } else { "the same 1000 clients" };
        criterion.bench_function(&format!("limit/{whose}, {threads} threads"), |bencher| {
            bencher.iter_custom(|count| together(&table, &roomy, (threads, own), count, &begins));
        });
    }
}

/// How long it takes that each of the threads lets in so many requests, of clients of its `own` or of the same ones. Time goes on from where the last ones left it.
fn together(table: &Table, quota: &Quota, (threads, own): (u32, bool), count: u64, begins: &AtomicU64) -> Duration {
    let longest = AtomicU64::new(0);
    let (ready, clock) = (Barrier::new(threads as usize), begins.load(Ordering::Relaxed));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (longest, ready) = (&longest, &ready);
            scope.spawn(move || {
                let first = if own { thread * 1000 } else { 0 };
                ready.wait();
                let (begun, mut admitted) = (on_processor(), 0);
                for number in 0..count {
                    let address = u32::try_from(number % 1000).unwrap_or(0) + first;
                    admitted += u64::from(black_box(decide(table, quota, address, clock + number * 1000)));
                }
                longest.fetch_max(on_processor().saturating_sub(begun), Ordering::Relaxed);
                assert_eq!(admitted, count, "a refusal is another decision");
            });
        }
    });
    begins.fetch_add(count * 1000, Ordering::Relaxed);
    Duration::from_nanos(longest.load(Ordering::Relaxed))
}

/// Nanoseconds that this thread has been on a processor.
fn on_processor() -> u64 {
    // The system counts when it schedules.
    std::thread::yield_now();
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    times.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}

/// Resident memory in KiB.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0) * 4
}

/// How long things took: how many took so many nanoseconds, and those that took longer than there are places.
struct Took {
    counts: Vec<u32>,
    slowest: u128,
}

impl Took {
    fn new() -> Self {
        Self { counts: vec![0; 1 << 16], slowest: 0 }
    }

    fn count(&mut self, nanos: u128) {
        let last = self.counts.len() - 1;
        let place = usize::try_from(nanos).map_or(last, |nanos| nanos.min(last));
        self.counts.get_mut(place).into_iter().for_each(|count| *count += 1);
        self.slowest = self.slowest.max(nanos);
    }

    /// What so many of a thousand did not exceed, in nanoseconds.
    fn within(&self, thousandths: u64) -> usize {
        let all: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        let mut below = 0;
        let enough = |count: &u32| {
            below += u64::from(*count);
            below * 1000 >= all * thousandths
        };
        self.counts.iter().position(enough).unwrap_or(0)
    }
}

impl std::fmt::Display for Took {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [half, most, nearly] = [500, 990, 999].map(|thousandths| self.within(thousandths));
        write!(f, "p50 {half} ns, p99 {most} ns, p99.9 {nearly} ns, the slowest {} ns", self.slowest)
    }
}

/// Ten million sources within a minute, each of which owes for a whole one: where the table is full, each of them makes it forget another. Among them a thousand
/// honest clients, and one that asks all the time.
fn flood(_: &mut Criterion) {
    let quota = Quota::new(Rate { count: 1, period: 60 * SECOND }, 9);
    let (mut filling, mut evicting, mut clock) = (Took::new(), Took::new(), Took::new());
    for _ in 0..1_000_000 {
        let one = Instant::now();
        clock.count(one.elapsed().as_nanos());
    }
    let before = resident();
    let table = Table::new(1_000_000, Seed([1, 2, 3, 4]));
    let (mut refused, mut honest, mut abused, mut insisted) = (0, 0, 0, 0);
    let capacity = u32::try_from(table.capacity()).unwrap_or(u32::MAX);
    for source in 0..10_000_000_u32 {
        let nanos = SECOND + u64::from(source) * 6000;
        let one = Instant::now();
        black_box(decide(&table, &quota, source, nanos));
        let took = one.elapsed().as_nanos();
        let took_now = if source < capacity { &mut filling } else { &mut evicting };
        took_now.count(took);
        if source % 10_000 == 0 {
            honest += 1;
            refused += u32::from(!decide(&table, &quota, 0xF000_0000 + source / 10_000, nanos));
        }
        if source % 1000 == 0 {
            insisted += 1;
            abused += u32::from(decide(&table, &quota, 0xE000_0000, nanos));
        }
    }
    let told = format!(
        "flood: 10,000,000 sources, {capacity} entries, {} MiB more than before, {} live entries forgotten\n\
         flood: while it fills:  {filling}\n\
         flood: while it evicts: {evicting}\n\
         flood: the clock alone: {clock} (part of all of these)\n\
         flood: {refused} of {honest} honest requests refused; one that insisted was let in {abused} times of {insisted}\n",
        (resident().saturating_sub(before)) / 1024,
        table.stats().evicted_live
    );
    std::io::Write::write_all(&mut std::io::stdout(), told.as_bytes()).ok();
}

criterion_group!(benches, decisions, flood);
criterion_main!(benches);
