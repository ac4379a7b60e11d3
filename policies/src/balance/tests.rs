use super::*;

fn server(index: usize, weight: u32, in_flight: u32) -> Candidate {
    Candidate { index, id: hash(format!("127.0.0.1:{}", 8000 + index).as_bytes()), weight, in_flight }
}

/// Numbers that look random, the same in every run.
fn numbers(count: u64) -> impl Iterator<Item = u64> {
    (1..=count).map(|n| mix(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn count(servers: usize, choices: impl Iterator<Item = Option<usize>>) -> Vec<u32> {
    let mut counts = vec![0; servers];
    choices.for_each(|choice| counts[choice.unwrap()] += 1);
    counts
}

#[test]
fn nobody_is_chosen_among_none_and_the_only_one_among_one() {
    assert_eq!(two_choices(std::iter::empty(), 7), None);
    assert_eq!(rendezvous(7, std::iter::empty()), None);
    assert_eq!(Smooth::new(0).turn(std::iter::empty()), None);
    let one = [server(4, 1, 900)];
    assert!(numbers(50).all(|random| two_choices(one.into_iter(), random) == Some(4)));
    assert_eq!(rendezvous(7, one.into_iter()), Some(4));
    assert_eq!(Smooth::new(5).turn(one.into_iter()), Some(4));
}

#[test]
fn of_two_servers_the_one_with_less_to_do_for_its_weight_gets_the_request() {
    let busy = [server(0, 1, 3), server(1, 1, 2)];
    assert!(numbers(50).all(|random| two_choices(busy.into_iter(), random) == Some(1)));
    // Three times as heavy, and not three times as busy.
    let heavy = [server(0, 3, 7), server(1, 1, 2)];
    assert!(numbers(50).all(|random| two_choices(heavy.into_iter(), random) == Some(0)));
}

#[test]
fn idle_servers_are_drawn_by_their_weight() {
    let idle = [server(0, 1, 0), server(1, 3, 0)];
    // Where both have nothing to do, the heavy one has less for its weight.
    assert!(numbers(50).all(|random| two_choices(idle.into_iter(), random) == Some(1)));
    let even = [server(0, 2, 1), server(1, 2, 1), server(2, 2, 1), server(3, 2, 1)];
    let counts = count(4, numbers(40_000).map(|random| two_choices(even.into_iter(), random)));
    assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
}

#[test]
fn the_busiest_of_many_is_never_chosen() {
    let servers = [server(0, 1, 5), server(1, 1, 1), server(2, 1, 2), server(3, 1, 0)];
    let counts = count(4, numbers(10_000).map(|random| two_choices(servers.into_iter(), random)));
    assert_eq!(counts[0], 0);
    assert!(counts[3] > counts[1] && counts[1] > counts[2], "{counts:?}");
}

#[test]
fn a_round_gives_each_server_exactly_its_weight_and_never_a_row_of_turns() {
    let servers = [server(0, 5, 0), server(1, 1, 0), server(2, 1, 0)];
    let mut smooth = Smooth::new(3);
    let round: Vec<_> = (0..7).map(|_| smooth.turn(servers.into_iter()).unwrap()).collect();
    assert_eq!(round, [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(count(3, (0..700).map(|_| smooth.turn(servers.into_iter()))), [500, 100, 100]);
}

#[test]
fn a_round_goes_on_without_a_server_that_left() {
    let mut smooth = Smooth::new(3);
    let servers = [server(0, 2, 0), server(1, 1, 0), server(2, 1, 0)];
    assert_eq!(count(3, (0..400).map(|_| smooth.turn(servers.into_iter()))), [200, 100, 100]);
    let left = [servers[0], servers[2]];
    assert_eq!(count(3, (0..300).map(|_| smooth.turn(left.into_iter()))), [200, 0, 100]);
}

#[test]
fn a_key_stays_with_its_server_wherever_that_stands_in_the_list() {
    let servers = [server(0, 1, 0), server(1, 1, 0), server(2, 1, 0)];
    for key in numbers(200) {
        let chosen = rendezvous(key, servers.into_iter());
        assert_eq!(rendezvous(key, servers.into_iter().rev()), chosen);
        assert_eq!(rendezvous(key, servers.map(|server| Candidate { in_flight: 9, ..server }).into_iter()), chosen);
    }
}

#[test]
fn only_the_keys_of_a_server_that_goes_move_and_they_spread() {
    let servers: Vec<_> = (0..5).map(|index| server(index, 1, 0)).collect();
    let mut moved = vec![0; 5];
    for key in numbers(10_000) {
        let before = rendezvous(key, servers.iter().copied()).unwrap();
        let after = rendezvous(key, servers.iter().copied().filter(|server| server.index != 2)).unwrap();
        if before == 2 {
            moved[after] += 1;
        } else {
            assert_eq!(before, after);
        }
    }
    assert!((1_800..2_200).contains(&moved.iter().sum::<i32>()), "{moved:?}");
    assert!([0, 1, 3, 4].iter().all(|index| moved[*index] > 400), "{moved:?}");
}

#[test]
fn keys_spread_by_weight() {
    let servers = [server(0, 1, 0), server(1, 2, 0), server(2, 1, 0)];
    let counts = count(3, numbers(40_000).map(|key| rendezvous(key, servers.into_iter())));
    for (count, expected) in counts.iter().zip([10_000_u32, 20_000, 10_000]) {
        assert!(count.abs_diff(expected) < 600, "{counts:?}");
    }
}

#[test]
fn a_key_has_the_same_hash_for_ever() {
    // Written down, so that an upgrade moves nobody's session by accident.
    assert_eq!(hash(b""), 0xf52a_15e9_a9b5_e89b);
    assert_ne!(hash(b"session-1"), hash(b"session-2"));
    let servers = [server(0, 1, 0), server(1, 1, 0), server(2, 1, 0)];
    let chosen: Vec<_> =
        (0..8).map(|n| rendezvous(hash(format!("s{n}").as_bytes()), servers.into_iter()).unwrap()).collect();
    assert_eq!(chosen, [2, 0, 2, 1, 0, 1, 1, 1]);
}

#[test]
fn rfc_6265_5_4_a_cookie_is_found_among_others() {
    let find = |fields: &[&'static str], name: &str| {
        cookie(fields.iter().map(|field| field.as_bytes()), name.as_bytes()).map(|value| String::from_utf8_lossy(value))
    };
    assert_eq!(find(&["a=1; sessionid=abc=; b=2"], "sessionid").as_deref(), Some("abc="));
    assert_eq!(find(&["xsessionid=no; sessionidx=no", "sessionid="], "sessionid").as_deref(), Some(""));
    assert_eq!(find(&["sessionid=1; sessionid=2"], "sessionid").as_deref(), Some("1"));
    assert_eq!(find(&["a=1", "sessionid"], "sessionid"), None);
}
