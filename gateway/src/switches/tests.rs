//! What switches keep, and what holds besides them.

use super::*;
use crate::config::{self, Source, System};

/// With this word about the maintenance of `shop`.
fn plan(storage: &Path, maintenance: &str) -> Plan {
    let text = format!(
        "storage: {}\nservices:\n  shop:\n    upstream: {{servers: [\"127.0.0.1:1\"]}}\n{maintenance}",
        storage.display()
    );
    config::compile(&Source { name: "test".into(), text }, &System::new("")).unwrap().plan
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("probegate-switches-{}-{name}", std::process::id()));
    std::fs::remove_dir_all(&path).ok();
    path
}

#[test]
fn what_was_turned_is_there_for_the_next_process() {
    let folder = folder("kept");
    let switches = Switches::load(&folder);
    let on = InMaintenance { retry_after: Some(Duration::from_secs(600)) };
    let turned = switches.maintain("shop", Some(on));
    assert!(turned.changed && turned.unsaved.is_none(), "{turned:?}");
    assert!(!switches.maintain("shop", Some(on)).changed);
    assert!(switches.drain("shop", "unix:/run/\"app\".sock", true).changed);
    assert!(!switches.drain("shop", "unix:/run/\"app\".sock", true).changed);
    assert_eq!(switches.changes(), 2);
    let next = Switches::load(&folder);
    assert_eq!(next.in_maintenance("shop"), Some(on));
    assert!(next.is_drained("shop", "unix:/run/\"app\".sock") && !next.is_drained("blog", "unix:/run/\"app\".sock"));
    assert!(next.maintain("shop", None).changed && next.drain("shop", "unix:/run/\"app\".sock", false).changed);
    // The other one has not seen that yet.
    assert_eq!(switches.in_maintenance("shop"), Some(on));
    switches.read_again(&folder);
    assert_eq!(switches.in_maintenance("shop"), None);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn none_is_turned_while_another_process_takes_over() {
    let switches = Switches::default();
    drop(switches.hold().unwrap());
    switches.freeze(true);
    assert!(switches.hold().is_none());
    switches.freeze(false);
    assert!(switches.hold().is_some());
}

#[test]
fn the_configuration_holds_until_somebody_says_otherwise_and_again_when_it_is_a_new_word() {
    let folder = folder("configured");
    let configured = |kept: &Switches, enabled, minutes: Option<u64>| {
        let cell =
            Cell { configured: enabled, retry_after: minutes.map(|m| Duration::from_secs(m * 60)), ..Cell::default() };
        let mut kept = kept.kept();
        kept.cells.insert("shop".into(), cell);
        kept.forget_lifted();
    };
    let on = |minutes: Option<u64>| Some(InMaintenance { retry_after: minutes.map(|m| Duration::from_secs(m * 60)) });
    let switches = Switches::load(&folder);
    configured(&switches, true, Some(5));
    assert_eq!(switches.in_maintenance("shop"), on(Some(5)));
    assert!(switches.maintain("shop", None).changed && !switches.maintain("shop", None).changed);
    assert_eq!(switches.in_maintenance("shop"), None);
    // For the next process as well, as long as the configuration is the same.
    let next = Switches::load(&folder);
    configured(&next, true, Some(5));
    assert_eq!(next.in_maintenance("shop"), None);
    assert!(next.maintain("shop", Some(InMaintenance::default())).changed);
    assert_eq!(next.in_maintenance("shop"), on(Some(5)), "its own time, or the configuration's");
    next.maintain("shop", on(Some(10)));
    assert_eq!(next.in_maintenance("shop"), on(Some(10)));
    configured(&next, false, None);
    assert_eq!(next.in_maintenance("shop"), on(Some(10)), "a switch is turned by its command only");
    assert!(next.maintain("shop", None).changed);
    configured(&next, true, None);
    assert_eq!(next.in_maintenance("shop"), on(None));
    assert!(next.maintain("shop", None).changed);
    configured(&next, false, None);
    configured(&next, true, None);
    assert_eq!(next.in_maintenance("shop"), on(None), "a new word");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_a_process_forgets_when_it_starts_the_next_one_does_not_know_either() {
    const ON: &str = "    maintenance: true\n";
    let folder = folder("forgotten");
    let first = Switches::load(&folder);
    first.attach(&plan(&folder, ON));
    first.take_charge();
    assert!(first.maintain("shop", None).changed);
    assert_eq!(first.in_maintenance("shop"), None);

    // The key is gone: whoever takes it up again says something new.
    let second = Switches::load(&folder);
    second.attach(&plan(&folder, ""));
    let said = || file::read(&folder).unwrap().lifted;
    assert_eq!(said().len(), 1, "it is not in charge yet");
    second.take_charge();
    assert_eq!(said().len(), 0);
    second.attach(&plan(&folder, ON));
    assert_eq!(second.in_maintenance("shop"), Some(InMaintenance::default()));
    let third = Switches::load(&folder);
    third.attach(&plan(&folder, ON));
    assert_eq!(third.in_maintenance("shop"), Some(InMaintenance::default()));

    // Over a hand-over: the old process turned it meanwhile, and the new one does not have the key.
    third.take_charge();
    let fourth = Switches::load(&folder);
    fourth.attach(&plan(&folder, ""));
    assert!(third.maintain("shop", None).changed);
    assert_eq!(said().len(), 1);
    fourth.read_again(&folder);
    fourth.take_charge();
    assert_eq!(said().len(), 0);
    fourth.attach(&plan(&folder, ON));
    assert_eq!(fourth.in_maintenance("shop"), Some(InMaintenance::default()));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_cell_says_what_it_was_told() {
    let cell = Maintenance::default();
    assert_eq!(cell.get(), None);
    for retry_after in [None, Some(Duration::from_secs(1)), Some(Duration::from_secs(86_400))] {
        cell.set(Some(InMaintenance { retry_after }));
        assert_eq!(cell.get(), Some(InMaintenance { retry_after }));
    }
    cell.set(None);
    assert_eq!(cell.get(), None);
}

#[test]
fn where_nothing_can_be_written_a_switch_is_turned_all_the_same_and_says_so() {
    let folder = folder("taken");
    std::fs::write(&folder, "no folder").unwrap();
    let switches = Switches::load(&folder.join("below"));
    let turned = switches.maintain("shop", Some(InMaintenance::default()));
    assert!(turned.changed && turned.unsaved.is_some_and(|why| why.contains("switches.json")));
    assert_eq!(switches.in_maintenance("shop"), Some(InMaintenance::default()));
    std::fs::remove_file(&folder).unwrap();
}

#[test]
fn a_broken_file_turns_nothing_on() {
    let folder = folder("broken");
    std::fs::create_dir_all(&folder).unwrap();
    for text in ["", "{", "[]", "{\"maintenance\": {\"shop\": 7}, \"drained\": {}}"] {
        std::fs::write(file::path(&folder), text).unwrap();
        assert_eq!(Switches::load(&folder).in_maintenance("shop"), None, "{text}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
