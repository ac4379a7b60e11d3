use super::*;

const TERMS: Terms = Terms {
    ok: Duration::from_secs(300),
    fail: Duration::from_secs(300),
    stale: Duration::ZERO,
    latch: false,
    patience: Duration::from_millis(800),
};
const STRANGER: Asker = Asker { known: false, plain: false };
const KNOWN: Asker = Asker { known: true, plain: false };
const PLAIN: Asker = Asker { known: false, plain: true };

fn shield() -> Arc<Shield> {
    Arc::new(Shield::new(0, Arc::default(), Instant::now()))
}

fn about(query: &str) -> Question {
    Question { host: Box::default(), query: query.as_bytes().into(), accept: (*b"*/*").into() }
}

#[test]
fn an_ask_that_never_began_is_nothing_that_the_app_did_not_say() {
    let shield = shield();
    let Found::Ask(flying) = shield.find(&about(""), PLAIN, &TERMS, 0) else { panic!("nothing is known") };
    let Found::Wait(flight) = shield.find(&about(""), PLAIN, &TERMS, 0) else { panic!("it is being asked") };
    flying.cancel();
    assert!(matches!(flight.landed(), Some((Landed::Never, _))), "whoever waited is told");
    assert!(matches!(shield.find(&about(""), PLAIN, &TERMS, 0), Found::Ask(_)), "and the next one asks");
}

#[test]
fn strangers_who_come_first_leave_places_for_known_clients_and_for_the_plain_question() {
    let shield = shield();
    // Answers that are not in yet: each has its place.
    let _asking: Vec<_> =
        (0..32).map(|number| shield.find(&about(&format!("?{number}")), STRANGER, &TERMS, 0)).collect();
    assert!(matches!(shield.find(&about("?more"), STRANGER, &TERMS, 0), Found::Alone));
    assert!(matches!(shield.find(&about("?more"), KNOWN, &TERMS, 0), Found::Ask(_)));
    assert!(matches!(shield.find(&about(""), PLAIN, &TERMS, 0), Found::Ask(_)));
    let singles: Vec<_> = std::iter::from_fn(|| shield.alone(false)).take(1000).collect();
    assert_eq!(singles.len(), 64);
    assert!(shield.alone(true).is_some());
    drop(singles);
    assert!(shield.alone(false).is_some(), "places come back");
}

#[test]
fn what_has_started_for_good_keeps_the_plain_place() {
    let terms = Terms { latch: true, ..TERMS };
    let (long, mut cells) = (u64::try_from(IDLE.as_nanos()).unwrap() + 1, Vec::new());
    for number in 0..Room::Plain.places() {
        let cell = cell(&mut cells, &about(&format!("?{number}")), PLAIN, &terms, 0).unwrap();
        cell.known.answered(0, number == 3);
    }
    assert!(has_place(&mut cells, Room::Plain, &terms, long));
    assert_eq!(cells.iter().map(|cell| cell.question.clone()).collect::<Vec<_>>(), [about("?3")]);
}
