use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn buffers() -> Buffers {
    Buffers {
        memory: 1000,
        total_memory: 1 << 20,
        disk: 1 << 20,
        total_disk: 1 << 20,
        timeout: Duration::from_secs(30),
        folder: std::env::temp_dir(),
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

async fn put(spool: &mut Spool, data: &[u8]) -> Result<(), Full> {
    spool.push(data)?;
    if let Some(job) = spool.overflow() {
        let block = job.await.unwrap();
        spool.settle(block).ok();
    }
    Ok(())
}

async fn get(spool: &mut Spool) -> Vec<u8> {
    match spool.take() {
        Next::Bytes(bytes) => bytes,
        Next::Reading(job) => job.await.unwrap().unwrap(),
        Next::Nothing => Vec::new(),
    }
}

async fn get_all(spool: &mut Spool) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let more = get(spool).await;
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// Bytes that tell their position.
fn bytes(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_goes_in_comes_out_in_order(steps in proptest::collection::vec((0_usize..70_000, 0_usize..4), 1..20)) {
        run(async {
            let budget = Arc::new(Budget::default());
            let mut spool = Spool::new(&buffers(), &budget, false);
            let (mut sent, mut received) = (0, Vec::new());
            for (count, takes) in steps {
                put(&mut spool, &bytes(sent, count)).await.unwrap();
                sent += count;
                for _ in 0..takes {
                    received.extend(get(&mut spool).await);
                }
            }
            received.extend(get_all(&mut spool).await);
            assert!(received == bytes(0, sent));
            assert_eq!((budget.held(), spool.len()), ((0, 0), 0));
            drop(spool);
            assert_eq!(budget.held(), (0, 0));
        });
    }
}

#[test]
fn what_is_kept_can_be_taken_out_again() {
    run(async {
        let budget = Arc::new(Budget::default());
        let mut spool = Spool::new(&buffers(), &budget, true);
        for part in bytes(0, 200_000).chunks(7777) {
            put(&mut spool, part).await.unwrap();
        }
        for _ in 0..2 {
            assert_eq!(spool.len(), 200_000);
            assert!(get_all(&mut spool).await == bytes(0, 200_000));
            assert!(spool.rewind());
        }
    });
}

#[test]
fn bounds_hold_and_what_went_in_before_them_is_not_lost() {
    run(async {
        let budget = Arc::new(Budget::default());
        let tight = Buffers { total_memory: MOVING + 2500, total_disk: 100_000, ..buffers() };
        let mut spool = Spool::new(&tight, &budget, false);
        let mut sent = 0;
        while put(&mut spool, &bytes(sent, 999)).await.is_ok() {
            sent += 999;
        }
        assert!((99_000..=102_000).contains(&sent), "{sent}");
        assert!(!spool.has_room(1 << 20));
        assert!(get_all(&mut spool).await == bytes(0, sent));
        assert!(spool.has_room(1 << 20), "its room is free again");
    });
}

#[test]
fn without_a_disk_everything_stays_in_memory_and_then_there_is_no_room() {
    run(async {
        let budget = Arc::new(Budget::default());
        let nowhere = Buffers { folder: PathBuf::from("/proc/nowhere"), ..buffers() };
        let mut spool = Spool::new(&nowhere, &budget, false);
        let mut sent = 0;
        while spool.has_room(1 << 20) {
            put(&mut spool, &bytes(sent, 5000)).await.unwrap();
            sent += 5000;
        }
        assert!(get_all(&mut spool).await == bytes(0, sent));
        assert!(spool.has_room(1 << 20), "in memory");
        put(&mut spool, &bytes(0, 900)).await.unwrap();
        assert!(get_all(&mut spool).await == bytes(0, 900));
        // A part may be larger than what is left; then there is no room.
        put(&mut spool, &bytes(0, 5000)).await.unwrap();
        assert!(!spool.has_room(1 << 20));
        assert_eq!(put(&mut spool, b"x").await, Err(Full));
        assert!(get_all(&mut spool).await == bytes(0, 5000));
    });
}

#[test]
fn what_moves_into_the_file_is_not_taken_for_nothing() {
    run(async {
        let budget = Arc::new(Budget::default());
        let mut spool = Spool::new(&buffers(), &budget, false);
        spool.push(&bytes(0, 1000)).unwrap();
        spool.push(&bytes(1000, BLOCK)).unwrap();
        let moving = spool.overflow().unwrap();
        assert_eq!(get(&mut spool).await, bytes(0, 1000));
        assert!(matches!(spool.take(), Next::Nothing) && !spool.is_empty());
        spool.push(&bytes(1000 + BLOCK, 10)).unwrap();
        assert!(matches!(spool.take(), Next::Nothing) && !spool.is_empty());
        let block = moving.await.unwrap();
        spool.settle(block).unwrap();
        assert_eq!(get_all(&mut spool).await, bytes(1000, BLOCK + 10));
        assert_eq!((spool.is_empty(), budget.held()), (true, (0, 0)));
    });
}

#[test]
fn small_bodies_hold_what_they_are() {
    run(async {
        let budget = Arc::new(Budget::default());
        let mut spools: Vec<_> = (0..100).map(|_| Spool::new(&buffers(), &budget, true)).collect();
        for spool in &mut spools {
            put(spool, b"hello").await.unwrap();
        }
        assert_eq!(budget.held(), (500, 0));
        spools.iter_mut().for_each(Spool::forget);
        assert_eq!(budget.held(), (0, 0));
    });
}
