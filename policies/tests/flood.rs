//! A flood of sources that never come twice, ten times as many as the table has room for, with honest clients and one abuser among them. `benches/micro/limit.rs` does the
//! same with ten million.

use std::net::{IpAddr, Ipv4Addr};

use probegate_policies::Now;
use probegate_policies::client::{Identity, Known, Source};
use probegate_policies::limit::{Key, Quota, Seed, Table};

const SECOND: u64 = 1_000_000_000;
const KEYS: usize = 50_000;
const SOURCES: u32 = 500_000;

fn client(table: &Table, address: u32) -> Key {
    let identity = Identity::Known(Known { ip: IpAddr::V4(Ipv4Addr::from_bits(address)), source: Source::Peer });
    table.client_key(&identity, 32, 64)
}

/// What a flood of this many sources in ten seconds does: how many honest requests were refused, how many of the abuser's were admitted, and what was forgotten. With no
/// sources, it is what happens without a flood.
fn run(quota: &Quota, sources: u32) -> (u32, u32, u64) {
    let table = Table::new(KEYS, Seed([1, 2, 3, 4]));
    let (capacity, steps) = (table.capacity(), 1000);
    let (mut refused, mut abused) = (0, 0);
    for step in 0..steps {
        let now = Now { nanos: SECOND + u64::from(step) * SECOND / 100, unix: 0 };
        for source in 0..sources / steps {
            let key = client(&table, 0x0A00_0000 + step * (sources / steps) + source);
            assert!(table.admit(key, quota, now).admitted, "whoever comes first passes, however many there are");
        }
        // A hundred honest clients, each of which comes five times in the ten seconds.
        for honest in (0..100).filter(|honest| step % 200 == honest * 2) {
            refused += u32::from(!table.admit(client(&table, 0xC000_0200 + honest), quota, now).admitted);
        }
        // One that comes all the time.
        abused += u32::from(table.admit(client(&table, 0xC633_6400), quota, now).admitted);
    }
    assert_eq!(table.capacity(), capacity);
    assert_eq!(table.stats().contended, 0);
    (refused, abused, table.stats().evicted_live)
}

#[test]
fn nobody_is_refused_because_there_are_many_others_and_who_owes_most_is_not_forgotten() {
    // Debts that last for long: there is room for one source in ten.
    let quota = Quota::new("1/m".parse().unwrap(), 9);
    let (refused, abused, _) = run(&quota, 0);
    assert_eq!((refused, abused), (0, 10));
    let (refused, abused, evicted) = run(&quota, SOURCES);
    assert_eq!((refused, abused), (0, 10), "the flood changed decisions");
    let room = u64::try_from(Table::new(KEYS, Seed([0; 4])).capacity()).unwrap();
    assert!(evicted >= u64::from(SOURCES) - room, "every live entry that was forgotten is counted: {evicted}");
}

#[test]
fn debts_that_are_over_make_room_without_loss() {
    // 50,000 a second, each in debt for a fifth of one: 10,000 at a time.
    let quota = Quota::new("5/s".parse().unwrap(), 4);
    let alone = run(&quota, 0);
    let flooded = run(&quota, SOURCES);
    assert_eq!((alone.0, alone.1), (flooded.0, flooded.1), "nothing is decided otherwise");
    assert_eq!((alone.0, alone.2), (0, 0));
    // Keys are spread by chance, and now and then more than seven live ones meet in one bucket.
    assert!(flooded.2 < u64::from(SOURCES) / 1000, "{} were forgotten although there was room", flooded.2);
}
