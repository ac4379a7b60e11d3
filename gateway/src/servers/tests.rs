use std::sync::atomic::AtomicUsize;
use std::thread;

use super::*;
use crate::plan::{Queue, Server, ServerAddress, UpstreamProtocol};

fn server(port: u16) -> Server {
    let label = format!("127.0.0.1:{port}");
    let address = ServerAddress::Tcp(label.parse().unwrap());
    let (label, key) = (label.into(), u64::from(port));
    Server { address, label, name: None, weight: 1, backup: false, max_in_flight: None, key }
}

fn upstream(servers: Vec<Server>, balancing: Balancing) -> Upstream {
    let second = Duration::from_secs(1);
    Upstream {
        slots: None,
        servers,
        health: None,
        resolver: None,
        balancing,
        connect_timeout: second,
        response_timeout: second,
        idle_timeout: second,
        max_idle: 1,
        protocol: UpstreamProtocol::Http1,
        tls: None,
        proxy: false,
    }
}

fn servers(servers: Vec<Server>, balancing: Balancing) -> Arc<Servers> {
    Servers::new("app", &upstream(servers, balancing), None, None, Instant::now(), 2)
}

fn round_robin() -> Balancing {
    Balancing { choice: Choice::RoundRobin, ..Balancing::default() }
}

fn at(servers: &Arc<Servers>, tried: u128) -> Place<'_> {
    at_moment(servers, tried, servers.now())
}

fn at_moment(servers: &Arc<Servers>, tried: u128, now: Duration) -> Place<'_> {
    match servers.place(Wish { tried, ..Wish::default() }, now) {
        Placed::At(place) => place,
        other => panic!("{other:?}"),
    }
}

/// A place at the first server, when the time for which it is left out has passed.
fn trial(servers: &Arc<Servers>) -> Place<'_> {
    at_moment(servers, 0b10, later(servers))
}

fn later(servers: &Servers) -> Duration {
    servers.now() + Duration::from_secs(1000)
}

fn asked(servers: &Arc<Servers>, count: usize) -> Vec<usize> {
    (0..count).map(|_| at(servers, 0).server()).collect()
}

#[test]
fn a_server_that_fails_is_left_out_and_the_last_one_never() {
    let servers = servers(vec![server(1), server(2)], round_robin());
    assert_eq!(asked(&servers, 4), [0, 1, 0, 1]);
    at(&servers, 0).failed();
    assert!(servers.sites[0].state.is_left_out(servers.now()));
    assert_eq!(asked(&servers, 3), [1, 1, 1]);
    for _ in 0..5 {
        at(&servers, 0).failed();
    }
    assert_eq!((servers.sites[1].state.failures(), servers.sites[1].state.ejections()), (5, 0));
    assert_eq!(asked(&servers, 2), [1, 1]);
    // Where the other was tried, the one that is left out is better than nobody.
    assert_eq!(at(&servers, 0b10).server(), 0);
    let nobody = servers.place(Wish { tried: 0b11, ..Wish::default() }, servers.now());
    assert!(matches!(nobody, Placed::Nobody), "{nobody:?}");
}

#[test]
fn a_server_that_was_left_out_is_tried_with_one_request() {
    let servers = servers(vec![server(1), server(2)], round_robin());
    at(&servers, 0b10).failed();
    let first = trial(&servers);
    let moment = later(&servers);
    assert!((0..5).all(|_| at_moment(&servers, 0, moment).server() == 1), "nobody else goes there meanwhile");
    first.failed();
    assert!(servers.sites[0].state.is_left_out(servers.now() + Duration::from_secs(15)), "for longer");
    drop(first);
    // The client left: nothing is known.
    drop(trial(&servers));
    assert!(servers.sites[0].state.is_ejected() && !servers.sites[0].state.is_left_out(servers.now()));
    let last = trial(&servers);
    last.succeeded();
    assert!(!servers.sites[0].state.is_ejected());
    assert_eq!(servers.sites[0].state.ejections(), 1);
    // Its answer breaks off.
    last.failed();
    last.failed();
    assert!(servers.sites[0].state.is_left_out(servers.now() + Duration::from_secs(35)), "nothing was gained");
    assert_eq!((servers.sites[0].state.failures(), servers.sites[0].state.ejections()), (3, 2));
}

#[test]
fn whoever_is_asked_because_there_is_no_other_and_leaves_proves_nothing() {
    let servers = servers(vec![server(1), server(2)], round_robin());
    at(&servers, 0b10).failed();
    drop(at(&servers, 0b10));
    assert!(servers.sites[0].state.is_left_out(servers.now()));
    at(&servers, 0b10).succeeded();
    assert!(!servers.sites[0].state.is_ejected());
}

#[test]
fn one_that_is_only_ready_for_a_trial_is_no_reason_to_leave_the_other_out() {
    let servers = servers(vec![server(1), server(2)], round_robin());
    let (one, other) = (at(&servers, 0b10), at(&servers, 0b01));
    one.failed();
    drop(trial(&servers));
    other.failed();
    assert!(!servers.sites[1].state.is_ejected());
}

#[test]
fn what_was_sent_before_a_server_was_left_out_changes_nothing() {
    let servers = servers(vec![server(1), server(2)], round_robin());
    let (one, other) = (at(&servers, 0b10), at(&servers, 0b10));
    one.failed();
    let span = servers.sites[0].state.left_out_for(Duration::ZERO);
    other.succeeded();
    other.failed();
    assert_eq!(servers.sites[0].state.left_out_for(Duration::ZERO), span);
}

/// Many threads find that the time is over: one of them tries the server, and the others look again.
#[test]
fn there_is_one_trial_at_a_time_whoever_comes() {
    let servers = servers(vec![server(1), server(2)], Balancing::default());
    at(&servers, 0b10).failed();
    let moment = later(&servers);
    let barrier = std::sync::Barrier::new(4);
    for _ in 0..200 {
        let trials = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    let place = at_moment(&servers, 0, moment);
                    trials.fetch_add(usize::from(place.server() == 0), Ordering::SeqCst);
                    barrier.wait();
                });
            }
        });
        assert!(trials.load(Ordering::SeqCst) <= 1);
    }
}

/// Who waited has gone when a place is given to it that is a trial: the next one may try.
#[test]
fn a_trial_that_nobody_takes_is_given_back() {
    let bounded = |port| Server { max_in_flight: Some(1), ..server(port) };
    let servers = servers(vec![bounded(1), bounded(2)], round_robin());
    at(&servers, 0b10).failed();
    // The other is drained, and the one that is left out is full.
    servers.set_drained(1, true);
    let held = at(&servers, 0);
    let Placed::Wait(mut gone) = servers.place(Wish::default(), servers.now()) else { panic!("it is full") };
    gone.close();
    let kept = held.keep();
    let moment = later(&servers);
    servers.count_out(0);
    lock(&servers.line).serve(&servers, moment);
    assert_eq!(servers.waiting(), 0);
    assert!(!servers.sites[0].state.is_left_out(servers.now()), "it is ready for the next trial");
    servers.sites[0].state.in_flight.fetch_add(1, Ordering::SeqCst);
    drop(kept);
}

#[test]
fn backups_are_for_when_no_other_is_eligible() {
    let backup = Server { backup: true, ..server(3) };
    let servers = servers(vec![server(1), server(2), backup], round_robin());
    assert_eq!(asked(&servers, 4), [0, 1, 0, 1]);
    at(&servers, 0b110).failed();
    at(&servers, 0b101).failed();
    assert_eq!(asked(&servers, 3), [2, 2, 2]);
    servers.set_drained(2, true);
    assert!(asked(&servers, 4).iter().all(|index| *index < 2), "to try costs less than to refuse");
    servers.set_drained(0, true);
    servers.set_drained(1, true);
    assert!(matches!(servers.place(Wish::default(), servers.now()), Placed::Nobody));
}

#[test]
fn a_server_that_is_down_or_drained_gets_nothing() {
    let servers = servers(vec![server(1), server(2)], round_robin());
    servers.set_health(0, Health::Down);
    assert_eq!(asked(&servers, 3), [1, 1, 1]);
    servers.set_health(0, Health::Up);
    servers.set_drained(1, true);
    assert_eq!(asked(&servers, 3), [0, 0, 0]);
}

#[test]
fn a_reload_forgets_nothing_about_a_server_that_stays() {
    let balancing = round_robin();
    let before = servers(vec![server(1), server(2)], balancing.clone());
    before.set_drained(1, true);
    let mut place = at(&before, 0);
    place.sent(0);
    let plan = upstream(vec![server(3), server(2), server(1)], balancing);
    let after = Servers::new("app", &plan, Some(&before), None, Instant::now(), 2);
    assert!(after.sites[1].state.is_drained());
    assert_eq!((after.sites[2].state.in_flight(), after.sites[2].state.sent()), (1, 1));
    drop(place);
    assert_eq!((after.sites[2].state.in_flight(), after.sites[2].state.sent()), (0, 1));
    assert_eq!(after.sites[2].state.in_flight.load(Ordering::Relaxed), 0);
}

#[test]
fn a_place_is_given_back_however_a_request_ends() {
    let one = Server { max_in_flight: Some(1), ..server(1) };
    let queue = Queue { max: 0, timeout: Duration::from_secs(5) };
    let servers = servers(vec![one], Balancing { queue, ..Balancing::default() });
    let place = at(&servers, 0);
    let refused = servers.place(Wish::default(), servers.now());
    assert!(matches!(refused, Placed::Refused(Reason::UpstreamQueueFull)), "{refused:?}");
    // A tunnel.
    let kept = place.keep();
    assert!(matches!(servers.place(Wish::default(), servers.now()), Placed::Refused(_)));
    drop(kept);
    let theirs = Arc::clone(&servers);
    let panicked = thread::spawn(move || {
        let _place = at(&theirs, 0);
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    drop(at(&servers, 0));
}

#[test]
fn whoever_waits_is_served_in_turn_and_whoever_leaves_is_passed_over() {
    let one = Server { max_in_flight: Some(1), ..server(1) };
    let queue = Queue { max: 3, timeout: Duration::from_secs(5) };
    let servers = servers(vec![one], Balancing { queue, ..Balancing::default() });
    let wait = || match servers.place(Wish::default(), servers.now()) {
        Placed::Wait(waiting) => waiting,
        other => panic!("{other:?}"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let first = at(&servers, 0);
        let (gone, mut second, late) = (wait(), wait(), wait());
        assert_eq!(servers.waiting(), 3);
        assert!(matches!(servers.place(Wish::default(), servers.now()), Placed::Refused(Reason::UpstreamQueueFull)));
        drop(gone);
        assert_eq!(servers.waiting(), 2);
        drop(first);
        let second = second.place().await;
        drop(second);
        // It was given the place, and leaves without having looked.
        drop(late);
        assert_eq!(servers.waiting(), 0);
        drop(at(&servers, 0));
    });
}

/// One place, many requests on several threads: every one gets it, never two at a time, and nobody is forgotten.
#[test]
fn no_wake_up_is_lost_between_threads() {
    let one = Server { max_in_flight: Some(1), ..server(1) };
    let queue = Queue { max: 1000, timeout: Duration::from_secs(5) };
    let servers = servers(vec![one], Balancing { queue, ..Balancing::default() });
    let (at_once, served) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let use_place = |place: &Place<'_>| {
        assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
        served.fetch_add(1, Ordering::SeqCst);
        std::hint::black_box(place);
        at_once.fetch_sub(1, Ordering::SeqCst);
    };
    let begun = Instant::now();
    thread::scope(|scope| {
        for thread in 0..4_usize {
            let (servers, use_place) = (&servers, &use_place);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    for round in 0..2_000_usize {
                        match servers.place(Wish::default(), servers.now()) {
                            Placed::At(place) => use_place(&place),
                            // Some leave.
                            Placed::Wait(_) if (round + thread).is_multiple_of(7) => {}
                            Placed::Wait(mut waiting) => use_place(&waiting.place().await),
                            other => panic!("{other:?}"),
                        }
                    }
                });
            });
        }
    });
    assert!(served.load(Ordering::SeqCst) > 5_000);
    assert_eq!((servers.waiting(), servers.sites[0].state.in_flight.load(Ordering::SeqCst)), (0, 0));
    // One that is forgotten is found a tenth of a second later, so that many would show here.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
