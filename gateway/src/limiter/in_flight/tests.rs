use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::thread;

use probegate_policies::limit::KeyPart;

use super::*;

fn room(most: u32, queue: usize) -> Arc<Room> {
    let room = Arc::new(Room::new(100, Seed([1, 2, 3, 4])));
    set(&room, most, queue);
    room
}

fn set(room: &Arc<Room>, most: u32, queue: usize) {
    room.set(&InFlight { most, queue, timeout: std::time::Duration::ZERO });
}

fn come(room: &Arc<Room>, number: u8) -> Came<Ticket> {
    room.come(0, room.places().key(&[KeyPart::Bytes(&[number])]))
}

fn place(room: &Arc<Room>, number: u8) -> Place {
    match come(room, number) {
        Came::In(Some(place), _) => place,
        other => panic!("{other:?}"),
    }
}

fn ticket(room: &Arc<Room>, number: u8) -> Ticket {
    match come(room, number) {
        Came::Waits(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

fn turn(ticket: &mut Ticket) -> Option<Place> {
    match ticket.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(place) => Some(place),
        Poll::Pending => None,
    }
}

fn is_empty(room: &Room) -> bool {
    room.occupancy() == Occupancy::default() && room.line().len() == 0
}

#[test]
fn a_line_for_each_key_first_come_first() {
    let room = room(1, 2);
    let first = place(&room, 1);
    let other = place(&room, 2);
    let (mut second, mut third) = (ticket(&room, 1), ticket(&room, 1));
    assert!(matches!(come(&room, 1), Came::Full));
    let mut others = ticket(&room, 2);
    assert!([&mut second, &mut third, &mut others].into_iter().all(|ticket| turn(ticket).is_none()));
    drop(first);
    assert!(turn(&mut third).is_none() && turn(&mut others).is_none());
    let second = turn(&mut second).unwrap();
    // One has left the line.
    let mut fourth = ticket(&room, 1);
    drop(second);
    drop(turn(&mut third).unwrap());
    drop(turn(&mut fourth).unwrap());
    drop(other);
    drop(turn(&mut others).unwrap());
    drop((third, fourth, others));
    assert!(is_empty(&room));
}

#[test]
fn who_leaves_the_line_makes_room_and_gives_on_what_it_just_got() {
    let room = room(1, 2);
    let first = place(&room, 1);
    let (second, mut third) = (ticket(&room, 1), ticket(&room, 1));
    drop(first);
    // The place lies in the hand of somebody who never looked.
    drop(second);
    let third_place = turn(&mut third).unwrap();
    let (fourth, mut fifth) = (ticket(&room, 1), ticket(&room, 1));
    drop(fourth);
    drop(third_place);
    assert!(turn(&mut fifth).is_some());
    drop((third, fifth));
    assert!(is_empty(&room));
    drop(place(&room, 1));
}

#[test]
fn a_reload_changes_how_many_there_may_be() {
    let room = room(1, 1);
    let first = place(&room, 1);
    let mut second = ticket(&room, 1);
    set(&room, 3, 1);
    // Who comes next is behind those who wait, and both are in.
    let third = place(&room, 1);
    let second = turn(&mut second).unwrap();
    set(&room, 1, 0);
    assert!(matches!(come(&room, 1), Came::Full));
    drop((first, second));
    assert!(matches!(come(&room, 1), Came::Full));
    drop(third);
    drop(place(&room, 1));
    assert!(is_empty(&room));
}

#[test]
fn more_places_lose_nobody_who_waits_or_comes() {
    let room = room(1, 2);
    let first = place(&room, 1);
    let mut second = ticket(&room, 1);
    set(&room, 2, 2);
    let second = turn(&mut second).expect("let in by the reload, not by whoever comes next");
    let mut third = ticket(&room, 1);
    drop(first);
    drop(turn(&mut third).unwrap());
    drop(second);
    // The same where only whoever comes next finds the place.
    let first = place(&room, 1);
    let second = place(&room, 1);
    let mut third = ticket(&room, 1);
    room.most.store(3, Ordering::Relaxed);
    let mut fourth = ticket(&room, 1);
    let third = turn(&mut third).unwrap();
    drop((first, second));
    let fourth = turn(&mut fourth).expect("its key is marked, so that whoever leaves looks at the line");
    drop((third, fourth));
    drop(place(&room, 1));
}

#[test]
fn in_shadow_mode_there_is_no_end() {
    let room = room(1, 1);
    let key = room.places().key(&[]);
    let came: Vec<Came<Ticket>> = (0..4).map(|_| room.come_anyway(0, key)).collect();
    let over: Vec<_> = came.iter().map(|came| came.is_over(&Quota::at_a_time(1))).collect();
    assert_eq!(over, [None, Some(false), Some(true), Some(true)], "the second one would have waited");
    assert_eq!(room.occupancy().requests, 4);
    drop(came);
    assert!(is_empty(&room));
}

#[test]
fn threads_that_wait_and_leave_lose_no_place() {
    let room = room(2, 1000);
    let inside = AtomicU32::new(0);
    thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (room, inside) = (&room, &inside);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for round in 0..2000_u32 {
                    let place = match come(room, 1) {
                        Came::In(place, _) => place,
                        // Some do not wait for their turn.
                        Came::Waits(ticket) if (round + thread).is_multiple_of(3) => {
                            drop(ticket);
                            continue;
                        }
                        Came::Waits(mut ticket) => Some(runtime.block_on(poll_fn(|cx| ticket.poll(cx)))),
                        Came::Full | Came::Shadowed(_) => panic!("there is room in the line"),
                    };
                    if place.is_some() {
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert!(is_empty(&room));
    assert_eq!(come_many(&room), 2, "and both places are there");
}

fn come_many(room: &Arc<Room>) -> usize {
    set(room, 2, 0);
    let came: Vec<_> = (0..5).map(|_| come(room, 1)).collect();
    came.iter().filter(|came| matches!(came, Came::In(Some(_), _))).count()
}
