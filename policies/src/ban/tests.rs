//! Against models that are too slow and too large to be used, but easy to believe.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::limit::Seed;
use crate::reason::Reason;

const SEED: Seed = Seed([1, 2, 3, 4]);

fn client(text: &str) -> Client {
    Client::of(text.parse().unwrap()).unwrap()
}

fn numbered(number: u32) -> Client {
    Client::of(IpAddr::V4((0xcb00_0000 + number).into())).unwrap()
}

fn cause() -> Cause {
    Cause { offence: Some(Offence::Denied), text: "GET /".into() }
}

/// Everybody in it, in pages of this size.
fn all(book: &Book, most: usize) -> Vec<(Client, Ban)> {
    let (mut found, mut next) = (Vec::new(), Some(Page::default()));
    while let Some(page) = next {
        let (bans, behind) = book.page(page, most);
        assert!(bans.len() <= most);
        found.extend(bans);
        next = behind;
    }
    found
}

fn escalation() -> Escalation {
    Escalation::new(std::time::Duration::from_secs(10), [1, 2, 4])
}

#[test]
fn a_client_is_an_ipv4_address_or_an_ipv6_network_of_64_bits() {
    assert_eq!(client("203.0.113.9"), client("::ffff:203.0.113.9"));
    assert_ne!(client("203.0.113.9"), client("203.0.113.8"));
    assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:0:0:1"));
    assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
    assert_eq!(client("203.0.113.9").to_string(), "203.0.113.9");
    assert_eq!(client("2001:db8:0:7:a::1").to_string(), "2001:db8:0:7::/64");
    assert_eq!(client("203.0.113.9").network(), "203.0.113.9/32".parse().unwrap());
}

#[test]
fn behind_a_translator_each_ipv4_address_is_a_client() {
    let of = |text: &str| Client::of(text.parse().unwrap()).unwrap();
    assert_eq!(of("64:ff9b::203.0.113.9"), of("203.0.113.9"));
    assert_ne!(of("64:ff9b::203.0.113.9"), of("64:ff9b::203.0.113.10"));
    assert_eq!(of("203.0.113.9").translated(), Some("64:ff9b::cb00:7109/128".parse().unwrap()));
    assert_eq!(of("2001:db8::9").translated(), None);
}

#[test]
fn nobody_has_these_addresses() {
    for text in ["::", "::1", "ff02::1", "ffff:ffff:cb00:7109::1", "64:ff9b:1::203.0.113.9"] {
        assert_eq!(Client::of(text.parse().unwrap()), None, "{text}");
    }
}

#[test]
fn what_is_not_certainly_the_clients_own_fault_is_no_offence() {
    for reason in [
        Reason::IdentityUnknown,
        Reason::HeadTooLarge,
        Reason::TooManyFields,
        Reason::TargetTooLong,
        Reason::BodyTooLarge,
        Reason::HeadTimeout,
        Reason::ClientClosed,
        Reason::UpstreamTimeout,
        Reason::Maintenance,
        Reason::MethodNotAllowed,
        Reason::FileMissing,
        Reason::Banned,
        Reason::ProxySenderUnknown,
        Reason::PathAmbiguous,
        Reason::CapacityExceeded,
    ] {
        assert_eq!(Offence::of(reason), None, "{reason:?}");
    }
    assert_eq!(Offence::of(Reason::TokenWrong), Some(Offence::WrongToken));
    assert_eq!(Offence::of(Reason::OutsideNetwork), Some(Offence::Denied));
    assert_eq!(Offence::of(Reason::LimitExceeded), Some(Offence::Limited));
    assert_eq!(Offence::of(Reason::InFlightExceeded), Some(Offence::Limited));
    assert_eq!(Offence::of(Reason::FieldInvalid), Some(Offence::Invalid));
    assert_eq!(Offence::of(Reason::HostUnknown), Some(Offence::UnknownHost));
}

#[test]
fn offences_are_read_as_they_are_written() {
    for offence in [
        Offence::Denied,
        Offence::WrongToken,
        Offence::Limited,
        Offence::Invalid,
        Offence::UnknownHost,
        Offence::Status(404),
    ] {
        assert_eq!(Offence::named(&offence.to_string()), Some(offence));
    }
    assert_eq!((Offence::named("status"), Offence::named("")), (None, None));
}

#[test]
fn five_offences_in_a_window_are_too_many_and_four_are_not() {
    let ledger = Ledger::new(5, 100, 1000, SEED);
    let guesser = client("203.0.113.9");
    for (at, outcome) in [(1, 1), (10, 2), (20, 3), (99, 4)] {
        assert_eq!(ledger.offend(guesser, at), Outcome::Counted(outcome));
    }
    assert_eq!(ledger.count(guesser, 100), 4);
    // The first is 100 old: out. With the others it is four again.
    assert_eq!(ledger.offend(guesser, 101), Outcome::Counted(4));
    assert_eq!(ledger.offend(guesser, 102), Outcome::TooMany);
    // From then on anew, and the neighbour was never meant.
    assert_eq!(ledger.count(guesser, 102), 0);
    assert_eq!(ledger.offend(guesser, 103), Outcome::Counted(1));
    assert_eq!(ledger.offend(client("203.0.113.10"), 103), Outcome::Counted(1));
    ledger.forget(guesser);
    assert_eq!((ledger.count(guesser, 103), ledger.count(client("203.0.113.10"), 103)), (0, 1));
    ledger.clear();
    assert_eq!(ledger.count(client("203.0.113.10"), 103), 0);
}

#[test]
fn one_offence_may_be_too_many() {
    let ledger = Ledger::new(1, 100, 10, SEED);
    assert_eq!(ledger.offend(client("203.0.113.9"), 1), Outcome::TooMany);
    assert_eq!(ledger.offend(client("203.0.113.9"), 1), Outcome::TooMany);
}

#[test]
fn who_has_offended_most_is_remembered_in_a_flood_of_sources() {
    let ledger = Ledger::new(10, 1_000_000, 1000, SEED);
    let guesser = client("198.51.100.1");
    for at in 1..=9 {
        assert_eq!(ledger.offend(guesser, at), Outcome::Counted(usize::try_from(at).unwrap()));
    }
    for number in 0..100_000 {
        ledger.offend(numbered(number), 10 + u64::from(number));
    }
    assert!(ledger.stats().evicted > 90_000 && ledger.stats().contended == 0, "{:?}", ledger.stats());
    assert_eq!(ledger.offend(guesser, 200_000), Outcome::TooMany);
}

proptest! {
    /// The model keeps every moment of every client.
    #[test]
    fn the_ledger_counts_as_a_list_of_moments_does(
        max in 1_usize..8,
        window in 1_u64..50,
        offences in prop::collection::vec((0_u32..6, 0_u64..12), 1..200),
    ) {
        let ledger = Ledger::new(max, window, 1000, SEED);
        let mut model: HashMap<u32, Vec<u64>> = HashMap::new();
        let mut now = 1;
        for (number, later) in offences {
            now += later;
            let moments = model.entry(number).or_default();
            moments.retain(|at| now - at < window);
            moments.push(now);
            let expected = if moments.len() >= max {
                moments.clear();
                Outcome::TooMany
            } else {
                Outcome::Counted(moments.len())
            };
            prop_assert_eq!(ledger.offend(numbered(number), now), expected);
            prop_assert_eq!(ledger.count(numbered(number), now), model.get(&number).map_or(0, Vec::len));
        }
    }

    /// The model knows every ban by its client.
    #[test]
    fn the_book_and_its_doors_know_the_same_bans(
        steps in prop::collection::vec((0_u8..6, 0_u32..24, 0_u64..8), 1..300),
    ) {
        let mut book = Book::new(16, 30, Arc::default(), SEED);
        let doors = Arc::clone(book.doors());
        let mut model: HashMap<u32, (u64, u32)> = HashMap::new();
        let mut now = 1000;
        for (step, number, later) in steps {
            now += later;
            model.retain(|_, (until, _)| *until + 30 > now);
            match step {
                0 => {
                    let known = model.remove(&number);
                    prop_assert_eq!(book.lift(numbered(number)).is_some_and(|ban| ban.until + 30 > now), known.is_some());
                }
                1 => {
                    book.expire(now);
                    prop_assert_eq!(book.len(), model.values().filter(|(until, _)| *until > now).count());
                }
                _ => {
                    let (until, count) = model.get(&number).copied().unwrap_or_default();
                    let banned = book.ban(numbered(number), cause(), &escalation(), None, now).map(|ban| (ban.until, ban.count));
                    if until > now {
                        prop_assert_eq!(banned, None);
                    } else {
                        let ban = (now + escalation().seconds(count), count + 1);
                        prop_assert_eq!(banned, Some(ban));
                        if model.len() == 16 && !model.contains_key(&number) {
                            // Room is made by whoever has been free for longest, else by whose ban ends first.
                            let held: HashSet<u32> = all(&book, 9).iter().filter_map(|(client, _)| (0..24).find(|&n| numbered(n) == *client)).collect();
                            let gone: Vec<u32> = model.keys().copied().filter(|n| !held.contains(n)).collect();
                            prop_assert_eq!(gone.len(), 1);
                            let (end, _) = model.remove(&gone[0]).unwrap();
                            prop_assert!(model.values().all(|(until, _)| *until >= end));
                        }
                        model.insert(number, ban);
                    }
                }
            }
            for number in 0..24 {
                let expected = model.get(&number).map(|(until, _)| *until).filter(|until| *until > now);
                let found = doors.until(numbered(number)).filter(|until| *until > now);
                prop_assert_eq!(found, expected, "client {}", number);
            }
        }
    }
}

#[test]
fn bans_escalate_are_remembered_for_a_while_and_forgotten_then() {
    let mut book = Book::new(10, 100, Arc::default(), SEED);
    let guesser = client("203.0.113.9");
    let mut ban =
        |now| book.ban(guesser, cause(), &escalation(), None, now).map(|ban| (ban.until - ban.since, ban.count));
    assert_eq!(ban(1000), Some((10, 1)));
    assert_eq!(ban(1009), None, "banned already");
    assert_eq!(ban(1010), Some((20, 2)));
    assert_eq!(ban(1030), Some((40, 3)));
    assert_eq!(ban(1169), Some((40, 4)), "99 s after the end of the last one");
    assert_eq!(ban(1309), Some((10, 1)), "100 s after it");
}

#[test]
fn whoever_is_lifted_was_never_banned() {
    let mut book = Book::new(10, 100, Arc::default(), SEED);
    let guesser = client("203.0.113.9");
    book.ban(guesser, cause(), &escalation(), None, 1000);
    book.ban(client("203.0.113.10"), cause(), &escalation(), None, 1000);
    assert_eq!(book.lift(guesser).map(|ban| ban.count), Some(1));
    assert_eq!((book.doors().until(guesser), book.lift(guesser)), (None, None));
    assert_eq!(book.ban(guesser, cause(), &escalation(), None, 1001).map(|ban| ban.count), Some(1));
    assert!(book.lift(guesser).is_some() && book.len() == 1);
    assert!(book.lift(client("203.0.113.10")).is_some() && book.is_empty());
}

#[test]
fn what_was_written_down_comes_back_and_no_clock_makes_it_longer() {
    let mut book = Book::new(10, 100, Arc::default(), SEED);
    let old = |since, until, count| Ban { since, until, count, cause: cause() };
    let (running, over, forgotten, wrong) =
        (client("203.0.113.1"), client("203.0.113.2"), client("203.0.113.3"), client("203.0.113.4"));
    book.restore(running, old(900, 1050, 2), 500, 1000);
    book.restore(over, old(900, 950, 2), 500, 1000);
    book.restore(forgotten, old(800, 900, 2), 500, 1000);
    book.restore(wrong, old(9_000_000, 9_900_000, 0), 500, 1000);
    assert_eq!(book.doors().until(running), Some(1050));
    assert_eq!((book.doors().until(over), book.get(over).map(|ban| ban.count)), (None, Some(2)));
    assert_eq!(book.get(forgotten), None);
    assert_eq!(book.get(wrong).map(|ban| (ban.since, ban.until, ban.count)), Some((1000, 1500, 1)));
    // Written later by a process before this one, which has banned for less, and for so little that it is over.
    book.restore(running, old(900, 1040, 1), 500, 1000);
    assert_eq!(book.get(running).map(|ban| (ban.until, ban.count)), Some((1040, 1)));
    book.restore(wrong, old(880, 890, 1), 500, 1000);
    assert_eq!((book.doors().until(wrong), book.get(wrong)), (None, None));
    assert_eq!(book.ban(over, cause(), &escalation(), None, 1000).map(|ban| ban.count), Some(3));
    let listed: Vec<String> = all(&book, 2).iter().map(|(client, _)| client.to_string()).collect();
    assert_eq!(listed, ["203.0.113.1", "203.0.113.2"]);
}

#[test]
fn a_clock_that_is_set_back_makes_no_ban_longer() {
    const WRONG: u64 = 1_000_000;
    let clock = Arc::new(Clock::default());
    let mut book = Book::new(10, 100, Arc::clone(&clock), SEED);
    let [long, short, later] = [1, 2, 3].map(numbered);
    let escalation = escalation();
    book.ban_for(long, cause(), 500, None, WRONG);
    book.ban_for(short, cause(), 5, None, WRONG + 10);
    let doors = Arc::clone(book.doors());
    book.expire(WRONG + 20);
    assert!(!clock.was_set_back());
    // The right time after all. What was left is left.
    book.expire(1000);
    assert!(clock.was_set_back() && !clock.was_set_back(), "that is to be written down, once");
    assert_eq!(doors.until(long), Some(1480));
    assert_eq!((book.get(long).map(|ban| (ban.since, ban.until)), book.len()), (Some((980, 1480)), 1));
    // Who was let out is not taken for banned, and was banned before.
    assert_eq!((doors.until(short), book.get(short).map(|ban| ban.until)), (None, Some(995)));
    assert_eq!(book.ban(short, cause(), &escalation, None, 1001).map(|ban| (ban.since, ban.count)), Some((1001, 2)));
    // A moment, such as threads see it differently, changes nothing.
    book.ban_for(later, cause(), 50, None, 1010);
    book.expire(1006);
    assert!(!clock.was_set_back());
    assert_eq!(doors.until(later), Some(1060));
    book.expire(1480);
    assert_eq!(doors.until(long), None);
    // Whoever notices it first, it is told; and a ban by somebody whose clock is right is not made shorter.
    book.ban_for(long, cause(), 500, None, WRONG);
    assert!(book.merge(short, Ban { since: 2000, until: 2090, count: 1, cause: cause() }, 1000, 2000));
    assert_eq!((doors.until(long), doors.until(short)), (Some(2500), Some(2090)));
    assert!(clock.was_set_back());
    // Once more, with less than that left of them.
    book.expire(100);
    assert_eq!((doors.until(long), doors.until(short)), (Some(600), Some(190)));
    assert_eq!(all(&book, 1).iter().map(|(_, ban)| ban.until).max(), Some(600));
}

/// Whoever holds the book holds up requests: nothing is done for all of them at once.
#[test]
fn bans_end_some_at_a_time_and_are_over_when_they_should_be() {
    let mut book = Book::new(1000, 100, Arc::default(), SEED);
    (0..400).for_each(|n| drop(book.ban_for(numbered(n), cause(), 10, None, 1000)));
    assert!(book.expire(1010));
    assert!((300..400).contains(&book.len()), "{}", book.len());
    // Neither who waits for it is banned, nor who waits to be forgotten was.
    let mut ban = |n, now| book.ban(numbered(n), cause(), &escalation(), None, now).map(|ban| ban.count);
    assert_eq!((ban(399, 1010), ban(398, 1110)), (Some(2), Some(1)));
    let calls = (0..20).position(|_| !book.expire(1111)).unwrap();
    assert!((2..12).contains(&calls), "{calls}");
    assert_eq!((book.len(), all(&book, 7).len()), (1, 2), "one in force, one that is remembered");
}

/// Of a ban and a lift the later one holds, wherever they become known first: so no two are at the same time.
#[test]
fn a_ban_begins_after_the_lift_that_it_follows() {
    let mut book = Book::new(10, 100, Arc::default(), SEED);
    let [one, two] = [1, 2].map(numbered);
    let (escalation, now) = (escalation(), 1000);
    let times = |ban: Ban| (ban.since, ban.until);
    assert_eq!(book.ban(one, cause(), &escalation, Some(999), now).map(times), Some((1000, 1010)));
    assert_eq!(times(book.ban_for(one, cause(), 60, Some(1000), now)), (1001, 1060));
    // By a clock that is ahead.
    assert_eq!(times(book.ban_for(one, cause(), 5, Some(1012), now)), (1013, 1013));
    assert!(book.lift_if(one, |ban| ban.since <= 1012).is_none());
    assert!(book.lift_if(one, |ban| ban.since <= 1013).is_some() && book.doors().is_empty());
    // Whoever is banned twice in a second is banned as was said last, wherever that is heard.
    let first = book.ban_for(one, cause(), 600, None, now);
    let second = book.ban_for(one, cause(), 60, None, now);
    assert_eq!([first, second].map(times), [(1000, 1600), (1001, 1060)]);
    // The same after one by a clock that is ahead.
    assert!(book.merge(one, Ban { since: now + 9, until: now + 3600, count: 1, cause: cause() }, 3600, now));
    assert_eq!((times(book.ban_for(one, cause(), 7200, None, now)), book.latest()), ((1010, 8200), 1013));
    // Further ahead than any clock may be: nobody's.
    let ban = |since| Ban { since, until: since + 10, count: 1, cause: cause() };
    assert!(!book.merge(two, ban(now + AHEAD + 1), 3600, now));
    assert!(book.merge(two, ban(now + AHEAD), 3600, now));
    book.restore(one, ban(now + 2), 3600, now);
    assert_eq!(book.get(one).map(times), Some((1002, 1012)));
}

#[test]
fn requests_are_looked_up_while_others_are_banned_and_lifted() {
    let mut book = Book::new(64, 0, Arc::default(), SEED);
    let doors = Arc::clone(book.doors());
    let stranger = numbered(1_000_000);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| (0..200_000_u32).filter(|_| doors.until(stranger).is_some()).count());
        for round in 0..20_000_u32 {
            let one = numbered(round % 96);
            if book.lift(one).is_none() {
                book.ban(one, cause(), &escalation(), None, 1000);
            }
        }
        assert_eq!(reader.join().unwrap(), 0, "a client that was never banned is never found");
    });
    let held = all(&book, 64);
    assert_eq!(held.len(), doors.len());
    assert!(held.into_iter().all(|(client, _)| doors.until(client).is_some()));
}

#[test]
fn a_ban_that_is_made_longer_lets_nobody_in_meanwhile() {
    let mut book = Book::new(64, 100, Arc::default(), SEED);
    let (doors, one) = (Arc::clone(book.doors()), numbered(1));
    book.ban_for(one, cause(), 1000, None, 1000);
    let (is_over, was_open) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                was_open.fetch_or(doors.until(one).is_none(), Ordering::Relaxed);
            }
        });
        for round in 0..50_000 {
            // Longer, shorter, and by a clock that is set back again and again.
            book.ban_for(one, cause(), 1000 + round % 7, None, 1000 + round % 2 * 50);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(!was_open.into_inner());
    assert_eq!((book.len(), doors.len()), (1, 1));
}

#[test]
fn of_two_who_ban_a_client_the_newer_ban_holds() {
    let mut book = Book::new(4, 100, Arc::default(), SEED);
    let client = Client::of("203.0.113.9".parse().unwrap()).unwrap();
    let ban = |since, until, count| Ban { since, until, count, cause: Cause { offence: None, text: "".into() } };
    assert!(book.merge(client, ban(1000, 1060, 1), 3600, 1010));
    assert!(!book.merge(client, ban(1000, 1060, 1), 3600, 1010), "it is known");
    assert!(!book.merge(client, ban(990, 5000, 1), 3600, 1010), "an older one");
    assert!(book.merge(client, ban(1020, 1030, 2), 3600, 1020), "a shorter one that is newer");
    assert_eq!(book.doors().until(client), Some(1030));
    assert!(book.merge(client, ban(1020, 1040, 2), 3600, 1020), "the longer one of two that began together");
    assert!(book.merge(client, ban(1025, u64::MAX, 3), 3600, 1025), "no longer than any may be");
    assert!(!book.merge(client, ban(1025, u64::MAX, 3), 3600, 1055), "nor when it is told again");
    assert_eq!(book.get(client).map(|ban| ban.until), Some(1025 + 3600));
    let other = Client::of("203.0.113.10".parse().unwrap()).unwrap();
    assert!(book.merge(other, ban(900, 950, 5), 3600, 1025), "over, and remembered");
    assert_eq!((book.doors().until(other), book.get(other).map(|ban| ban.count)), (None, Some(5)));
    assert!(!book.merge(Client::of("203.0.113.11".parse().unwrap()).unwrap(), ban(900, 920, 5), 3600, 1025));
}

#[test]
fn pages_show_everybody_once_whatever_happens_meanwhile() {
    let mut book = Book::new(100, 1000, Arc::default(), SEED);
    // Some are over, and several end together.
    (0..23).for_each(|n| {
        let ban = Ban { since: 1, until: 90 + u64::from(n) / 3 * 5, count: 1, cause: cause() };
        book.restore(numbered(n), ban, 1000, 100);
    });
    let everybody: Vec<Client> = (0..23).map(numbered).collect();
    for most in [1, 2, 5, 22, 23, 24, 1000] {
        assert_eq!(all(&book, most).into_iter().map(|(client, _)| client).collect::<Vec<_>>(), everybody, "{most}");
    }
    let (mut found, mut next, mut now) = (Vec::new(), Some(Page::default()), 100);
    while let Some(page) = next {
        let (bans, behind) = book.page(page, 3);
        found.extend(bans.into_iter().map(|(client, _)| client));
        next = behind;
        // Bans end, the clock is set back, and some are banned for longer.
        now = if now == 100 { 140 } else { 100 };
        book.expire(now);
        (0..23).step_by(5).for_each(|n| drop(book.ban_for(numbered(n), cause(), 7, None, now)));
    }
    assert_eq!(found, everybody);
}

/// What is told again and again would drive out others again and again.
#[test]
fn a_book_that_is_full_hears_only_of_bans_that_end_later() {
    let mut book = Book::new(3, 1000, Arc::default(), SEED);
    let told: Vec<_> = (0..9)
        .map(|n| (numbered(n), Ban { since: 1000, until: 2000 + u64::from(n % 5), count: 1, cause: cause() }))
        .collect();
    let mut hear = |now| told.iter().filter(|(client, ban)| book.merge(*client, ban.clone(), 3600, now)).count();
    assert!((3..9).contains(&hear(1000)));
    assert_eq!(hear(1000), 0, "nothing is new");
    // One that is over makes room, and does not come back.
    assert_eq!(hear(2003), 0);
    assert!(book.merge(numbered(20), Ban { since: 1000, until: 3000, count: 1, cause: cause() }, 3600, 2003));
    assert_eq!(told.iter().filter(|(client, ban)| book.merge(*client, ban.clone(), 3600, 2003)).count(), 0);
    assert_eq!(all(&book, 9).len(), 3);
}

/// Whatever is kept by one clock stays in order, and each ban as long as it was.
#[test]
fn books_of_one_clock_are_set_back_together() {
    let clock = Arc::new(Clock::default());
    let [mut one, mut two] = [(); 2].map(|()| Book::new(9, 100, Arc::clone(&clock), SEED));
    let lift = clock.pass(1_000_000);
    one.ban_for(numbered(1), cause(), 60, Some(clock.told(lift)), 1_000_000);
    // Whoever notices it, it is so for all.
    one.expire(1_000_030);
    assert_eq!(clock.pass(1000), 1_000_030);
    two.ban_for(numbered(2), cause(), 60, Some(clock.told(lift)), 1000);
    assert_eq!(clock.told(lift), 970);
    let times = |book: &Book, n| book.get(numbered(n)).map(|ban| (ban.since, ban.until));
    assert_eq!((times(&one, 1), times(&two, 2)), (Some((971, 1030)), Some((1000, 1060))));
    assert_eq!((one.doors().until(numbered(1)), one.latest(), two.latest()), (Some(1030), 971, 1000));
}
