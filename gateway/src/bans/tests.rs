use std::path::PathBuf;

use probegate_policies::ban::{Ban, Cause, Offence};
use probegate_policies::client::{Identity, Known, Source, Unknown, UnknownReason};
use probegate_policies::now::Now;

use super::*;
use crate::config;

const SEED: Seed = Seed([1, 2, 3, 4]);

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("probegate-bans-{}-{name}", std::process::id()));
    std::fs::remove_dir_all(&path).ok();
    path
}

fn plan(storage: &Path, bans: &str) -> Plan {
    let text = format!(
        "storage: {}\nclient_ip: {{trusted_proxies: [192.0.2.10, \"2001:db8:5::7\"]}}\nnetworks: {{office: [198.51.100.0/24]}}\n\
         services:\n  app: {{upstream: {{servers: [\"127.0.0.1:8000\"]}}, routes: [{{path: /in, allow: {{network: office}}}}]}}\n{bans}",
        storage.display()
    );
    let source = config::Source { name: "test".to_owned(), text };
    let loaded = config::compile(&source, &config::System::new(""));
    loaded.unwrap_or_else(|problems| panic!("{}", problems.render(&source, false))).plan
}

fn identity(text: &str) -> Identity {
    Identity::Known(Known { ip: text.parse().unwrap(), source: Source::Peer })
}

fn client(text: &str) -> Client {
    file::client(text).unwrap()
}

/// Offends until the client is banned, or `most` times.
fn offend(gate: &Gate, plan: &Plan, from: &str, most: usize, now: u64) {
    for at in 0..most {
        let now = Now { nanos: 1 + at as u64, unix: now };
        gate.offend(plan, client(from), Offence::Status(404), |_| true, now, || "status 404: GET /x".into());
    }
}

fn is_out(gate: &Gate, plan: &Plan, who: &str, now: u64) -> Option<bool> {
    gate.find(plan, 0, &identity(who), now).map(|hit| hit.shadow)
}

const SCANS: &str = "bans: {scans: {offences: {status: [404]}, mode: enforce, except: [office]}}\n";

#[test]
fn nobody_is_banned_who_speaks_for_others_or_is_one_of_us() {
    let folder = folder("exempt");
    let (mut plan, bans) = (plan(&folder, SCANS), Bans::load(&folder, SEED));
    let from = ["192.0.2.77/32", "64:ff9b::c000:24e/128"].iter().map(|net| net.parse().unwrap()).collect();
    let mut behind = crate::plan::Listener::plain("127.0.0.1:0".parse().unwrap());
    behind.proxy = Some(crate::plan::ProxyHeader { from, timeout: Duration::from_secs(1) });
    plan.listeners.push(behind);
    let gate = bans.attach(&plan, 1000);
    for (who, why) in [
        ("192.0.2.77", Exempt::Proxy),
        ("192.0.2.78", Exempt::Proxy),
        ("192.0.2.10", Exempt::Proxy),
        ("2001:db8:5::99", Exempt::Proxy),
        ("127.0.0.1", Exempt::Own),
        ("10.1.2.3", Exempt::Network("internal".into())),
        ("fd00::1", Exempt::Network("internal".into())),
        ("198.51.100.7", Exempt::Network("office".into())),
    ] {
        offend(&gate, &plan, who, 20, 1000);
        assert_eq!(is_out(&gate, &plan, who, 1000), None, "{who}");
        let found = gate.exempt(&plan, plan.bans.first(), client(who));
        // A machine may have such addresses itself.
        assert!(found == Some(why) || found == Some(Exempt::Own), "{who}: {found:?}");
        assert_eq!(gate.jails()[0].offences(client(who), Now { nanos: 5, unix: 1000 }), 0, "{who}");
    }
    offend(&gate, &plan, "203.0.113.9", 4, 1000);
    assert_eq!(is_out(&gate, &plan, "203.0.113.9", 1000), None);
    offend(&gate, &plan, "203.0.113.9", 1, 1000);
    assert_eq!(is_out(&gate, &plan, "203.0.113.9", 1000), Some(false));
    assert_eq!(is_out(&gate, &plan, "203.0.113.9", 1600), None, "after ten minutes");
    assert_eq!(is_out(&gate, &plan, "203.0.113.10", 1000), None);
    // Whoever can not be told is nobody.
    let unknown = Unknown { reason: UnknownReason::Missing, peer: "203.0.113.9".parse().unwrap() };
    assert_eq!(gate.find(&plan, 0, &Identity::Unknown(unknown), 1000), None);
}

#[test]
fn bans_survive_reloads_and_processes_but_not_a_plan_that_forbids_them() {
    let folder = folder("kept");
    let first = plan(&folder, SCANS);
    let bans = Bans::load(&folder, SEED);
    let gate = bans.attach(&first, 1000);
    offend(&gate, &first, "203.0.113.9", 5, 1000);
    offend(&gate, &first, "203.0.113.99", 4, 1000);
    bans.ban(client("2001:db8::1"), Cause { offence: None, text: "\"odd\"".into() }, 60, 1000);
    bans.write().unwrap();

    // Other numbers, the same bans.
    let second = plan(&folder, &SCANS.replace("except", "max_clients: 100, time: 1h, except"));
    let gate = bans.attach(&second, 1001);
    assert_eq!(is_out(&gate, &second, "203.0.113.9", 1001), Some(false));
    // In another mode, from the beginning.
    let shadow = plan(&folder, &SCANS.replace("enforce", "shadow"));
    assert_eq!(is_out(&bans.attach(&shadow, 1001), &shadow, "203.0.113.9", 1001), None);

    let now = crate::state::unix_time();
    let next = Bans::load(&folder, SEED);
    let gate = next.attach(&first, 1001);
    // Long over by the clock that the file is read with.
    assert_eq!(is_out(&gate, &first, "203.0.113.9", now), None);
    std::fs::write(
        file::path(&folder),
        format!(
            "{{\"policies\":{{\"scans\":{{\"shadow\":false,\"clients\":[{{\"client\":\"203.0.113.9\",\"since\":{now},\"until\":{},\
             \"count\":2,\"offence\":\"status 404\",\"text\":\"x\"}}]}}}}}}",
            now + 100
        ),
    )
    .unwrap();
    let next = Bans::load(&folder, SEED);
    let gate = next.attach(&first, now);
    assert_eq!(is_out(&gate, &first, "203.0.113.9", now), Some(false));
    let known = gate.jails()[0].get(client("203.0.113.9")).unwrap();
    let cause = Cause { offence: Some(Offence::Status(404)), text: "x".into() };
    assert_eq!(known, Ban { since: now, until: now + 100, count: 2, cause });
    // What another process has lifted meanwhile is lifted.
    std::fs::write(file::path(&folder), "{}").unwrap();
    next.read_again(&folder, now);
    assert_eq!(is_out(&gate, &first, "203.0.113.9", now), None);
    offend(&gate, &first, "203.0.113.9", 5, now);
    assert_eq!(is_out(&gate, &first, "203.0.113.9", now), Some(false));
    // What another process has pronounced before this plan forbade it, and what is about a policy that this plan does not have.
    let line = format!(
        "{{\"clients\":[{{\"client\":\"198.51.100.7\",\"since\":{now},\"until\":{},\"count\":1,\"text\":\"\"}}],\"shadow\":false}}",
        now + 100
    );
    std::fs::write(file::path(&folder), format!("{{\"policies\":{{\"scans\":{line},\"later\":{line}}}}}")).unwrap();
    next.read_again(&folder, now);
    gate.release(&first);
    assert_eq!(is_out(&gate, &first, "198.51.100.7", now), None);
    let later = plan(&folder, &SCANS.replace("scans", "later").replace(", except: [office]", ""));
    assert_eq!(is_out(&next.attach(&later, now), &later, "198.51.100.7", now), None);
    let gate = next.attach(&first, now);
    offend(&gate, &first, "203.0.113.9", 5, now);
    // Now it is one of ours.
    let mut inside = plan(&folder, SCANS);
    inside.internal = Arc::new(["203.0.113.0/24".parse().unwrap()].into_iter().collect());
    assert_eq!(is_out(&next.attach(&inside, now), &inside, "203.0.113.9", now), None);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_broken_file_bans_nobody() {
    let folder = folder("broken");
    std::fs::create_dir_all(&folder).unwrap();
    for text in ["", "{", "[]", "{\"policies\": {\"scans\": 7}}", "{\"by_hand\": [{\"client\": \"x\"}]}"] {
        std::fs::write(file::path(&folder), text).unwrap();
        assert_eq!(Bans::load(&folder, SEED).by_hand().list(1000), [], "{text}");
    }
    // What nobody can read is not written over.
    let aside = folder.join("bans.json.unreadable");
    std::fs::write(file::path(&folder), "{\"half").unwrap();
    let bans = Bans::load(&folder, SEED);
    bans.ban(client("203.0.113.9"), Cause { offence: None, text: "".into() }, 60, 1000);
    bans.write().unwrap();
    assert_eq!(std::fs::read_to_string(&aside).unwrap(), "{\"half");
    assert!(std::fs::read_to_string(file::path(&folder)).unwrap().contains("203.0.113.9"));
    // Another version may know more; what is not known here is left out alone.
    let now = crate::state::unix_time();
    let line = format!("\"since\":{now},\"until\":{},\"count\":1,\"text\":\"\",\"new\":1", now + 100);
    let text = format!(
        "{{\"by_hand\":[{{\"client\":\"203.0.113.9\",{line}}},{{\"client\":\"nobody\",{line}}}],\"newer\":[]}}"
    );
    std::fs::write(file::path(&folder), text).unwrap();
    assert_eq!(Bans::load(&folder, SEED).by_hand().list(now).len(), 1);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn whoever_is_lifted_begins_anew() {
    let folder = folder("lifted");
    let (plan, bans) = (plan(&folder, SCANS), Bans::load(&folder, SEED));
    let gate = bans.attach(&plan, 1000);
    offend(&gate, &plan, "203.0.113.9", 5, 1000);
    offend(&gate, &plan, "203.0.113.10", 4, 1000);
    bans.ban(client("203.0.113.9"), Cause { offence: None, text: "".into() }, 60, 1000);
    assert_eq!(bans.lift(Some(client("203.0.113.9")), 1000), 2);
    assert_eq!(is_out(&gate, &plan, "203.0.113.9", 1000), None);
    offend(&gate, &plan, "203.0.113.9", 5, 1000);
    assert_eq!(gate.jails()[0].get(client("203.0.113.9")).map(|ban| ban.count), Some(1));
    assert_eq!((bans.lift(Some(client("203.0.113.10")), 1000), bans.lift(None, 1000)), (0, 1));
    offend(&gate, &plan, "203.0.113.10", 4, 1000);
    assert_eq!(is_out(&gate, &plan, "203.0.113.10", 1000), None);
}

#[test]
fn clients_are_written_as_they_are_listed() {
    for text in ["203.0.113.9", "203.0.113.9/32", "2001:db8::/64", "2001:db8::7"] {
        assert_eq!(file::client(&client(text).to_string()), Some(client(text)), "{text}");
    }
    for text in
        ["203.0.113.0/24", "203.0.113.9/64", "2001:db8::1/32", "2001:db8::/48", "host", "", "::1", "127.0.0.1:80"]
    {
        assert_eq!(file::client(text), None, "{text}");
    }
}

/// What began by the clock of before could not be told: nobody would have believed it.
#[test]
fn after_a_clock_is_set_back_everything_is_told() {
    let folder = folder("set-back");
    let (plan, bans, wrong) = (plan(&folder, SCANS), Bans::load(&folder, SEED), 1_000_000);
    let gate = bans.attach(&plan, wrong);
    bans.outbox().open(true);
    offend(&gate, &plan, "203.0.113.9", 5, wrong);
    bans.expire(wrong + 1);
    assert!(!bans.outbox().is_for_all());
    bans.expire(1000);
    assert!(bans.outbox().is_for_all());
    let ban = gate.jails()[0].get(client("203.0.113.9")).unwrap();
    assert_eq!((ban.since, ban.until), (999, 1599));
    bans.expire(1001);
    assert!(!bans.outbox().is_for_all());
}

/// Whether it is this process that notices it, or the next one from what is written.
#[test]
fn a_ban_after_a_lift_holds_when_the_clock_is_set_back_and_in_the_processes_after_it() {
    let folder = folder("set-back-lifts");
    let (plan, wrong) = (plan(&folder, SCANS), crate::state::unix_time() + 3600);
    let right = || crate::state::unix_time();
    let cause = || Cause { offence: None, text: "".into() };
    let [stays, lifted, later] = ["203.0.113.9", "203.0.113.10", "203.0.113.11"];
    let states = |bans: &Bans, gate: &Gate| {
        let known = bans.by_hand().get(client(stays)).unwrap();
        assert!(known.until <= right() + 7200 && known.since <= right(), "{known:?}");
        [stays, lifted, later].map(|who| is_out(gate, &plan, who, right()).is_some())
    };
    // While the process runs; and before the next one starts.
    for is_noticed in [true, false] {
        std::fs::remove_dir_all(&folder).ok();
        let bans = Bans::load(&folder, SEED);
        bans.attach(&plan, wrong);
        bans.ban(client(lifted), cause(), 7200, wrong);
        assert_eq!(bans.lift(None, wrong + 1), 1);
        bans.ban(client(stays), cause(), 7200, wrong + 1);
        bans.expire(wrong + 20);
        if is_noticed {
            bans.expire(right());
        }
        bans.write().unwrap();
        for _ in 0..2 {
            let bans = Bans::load(&folder, SEED);
            let gate = bans.attach(&plan, right());
            assert_eq!(states(&bans, &gate), [true, false, false], "{is_noticed}");
            // Something else is written.
            bans.ban(client("203.0.113.77"), cause(), 7200, right());
            bans.write().unwrap();
        }
        // Nobody is lifted by it any more.
        let bans = Bans::load(&folder, SEED);
        let gate = bans.attach(&plan, right());
        bans.ban(client(later), cause(), 7200, right() + 1);
        assert!(bans.by_hand().get(client(later)).unwrap().since <= right() + 1);
        assert_eq!(states(&bans, &gate), [true, false, true]);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Nobody is banned any more when the clock is set back: the lift is no later than it was, whenever that is asked.
#[test]
fn a_lift_of_everybody_is_set_back_with_the_clock() {
    let folder = folder("set-back-all");
    let (plan, bans, wrong) = (plan(&folder, SCANS), Bans::load(&folder, SEED), 1_000_000);
    bans.attach(&plan, wrong);
    bans.lift(None, wrong);
    bans.expire(wrong + 10);
    bans.expire(1000);
    for now in [1000, 1001, 1050] {
        assert_eq!(bans.shared.lifts().at(client("203.0.113.9"), now), Some(990));
    }
}

#[test]
fn a_disk_that_hangs_holds_so_many_threads_and_no_more() {
    let (open, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let hangs = |gate: &Arc<Mutex<mpsc::Receiver<()>>>| {
        let gate = Arc::clone(gate);
        move || {
            // Until nobody holds the other end.
            gate.lock().unwrap().recv().ok();
            Ok(())
        }
    };
    let late = Some("the disk does not answer".to_owned());
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..WRITERS).map(|_| scope.spawn(|| save(hangs(&gate)))).collect();
        for thread in waiting {
            assert_eq!(thread.join().unwrap(), late);
        }
    });
    assert_eq!(save(|| unreachable!("no thread is left")), late);
    drop(open);
    let began = std::time::Instant::now();
    while save(|| Ok(())).is_some() {
        assert!(began.elapsed() < Duration::from_secs(30), "they end when the disk answers");
        thread::yield_now();
    }
}
