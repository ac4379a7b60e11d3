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
    switches.freeze();
    assert!(switches.hold().is_none());
    switches.thaw();
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
    let said = || file::read(&folder).unwrap().0.lifted;
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

const GOOD: &str = r#"{"maintenance": {"blog": {"since": 7}}, "drained": {"blog": ["127.0.0.1:1"]}, "newer": [1],
    "slots": {"blog": {"active": "green", "newer": 1}}}"#;

/// A file that says this about the switch of `shop`, and something good about `blog`.
fn with_switch(switch: &str) -> String {
    GOOD.replace("\"slots\": {", &format!("\"slots\": {{\"shop\": {{\"active\": \"blue\", \"switch\": {switch}}}, "))
}

/// What a switch looks like in the file, with these words in it.
fn underway(from: &str, to: &str, stages: &str, at: &str) -> String {
    format!(
        r#"{{"id": "a1", "from": "{from}", "to": "{to}", "servers": ["127.0.0.1:2"], "stages": {stages}, "at": {at},
        "errors": 5, "min_requests": 50, "retry": true, "newer": {{}}}}"#
    )
}

#[test]
fn what_a_newer_version_wrote_besides_is_passed_over() {
    let folder = folder("newer");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(file::path(&folder), with_switch(&underway("blue", "green", "[[5, 1000], [100, 60000]]", "0")))
        .unwrap();
    let switches = Switches::load(&folder);
    assert_eq!(switches.doubt(), None);
    assert!(switches.in_maintenance("blog").is_some() && switches.is_drained("blog", "127.0.0.1:1"));
    assert_eq!(switches.slots("shop").switch.map(|switch| switch.share()), Some(5));
    assert_eq!(switches.slots("blog").active.as_deref(), Some("green"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_switch_that_can_not_be_is_left_out_and_the_rest_holds() {
    let folder = folder("strange");
    std::fs::create_dir_all(&folder).unwrap();
    let good = "[[5, 1000], [100, 60000]]";
    for switch in [
        underway("blue", "green", "[[200, 1000]]", "0"),
        underway("blue", "green", "[[5, 1000], [5, 1000], [100, 1]]", "0"),
        underway("blue", "green", "[[5, 1000]]", "0"),
        underway("blue", "green", "[[0, 1000], [100, 1]]", "0"),
        underway("blue", "green", "[[100, 86400001]]", "0"),
        underway("blue", "green", "[]", "0"),
        underway("blue", "green", good, "2"),
        underway("blue", "green", good, "-1"),
        underway("blue", "blue", good, "0"),
        underway("", "green", good, "0"),
        underway("blue", "gr een", good, "0"),
        "7".to_owned(),
        "{}".to_owned(),
    ] {
        let text = with_switch(&switch);
        std::fs::write(file::path(&folder), &text).unwrap();
        let switches = Switches::load(&folder);
        assert_eq!((switches.doubt(), switches.slots("shop").switch), (Some(Doubt::Bad), None), "{switch}");
        assert_eq!(switches.slots("shop").active.as_deref(), Some("blue"));
        assert_eq!(switches.slots("blog").active.as_deref(), Some("green"));
        // Not before this process is in charge.
        assert!(file::path(&folder).exists() && !file::aside(&folder).exists());
        switches.take_charge();
        assert_eq!(
            (switches.doubt(), std::fs::read_to_string(file::aside(&folder)).unwrap()),
            (Some(Doubt::Aside), text)
        );
        let next = Switches::load(&folder);
        assert_eq!(next.doubt(), Some(Doubt::Aside), "somebody has to look at it");
        assert_eq!(next.slots("blog").active.as_deref(), Some("green"));
        std::fs::remove_file(file::aside(&folder)).unwrap();
        assert_eq!(Switches::load(&folder).doubt(), None);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_was_not_understood_is_put_aside_and_never_over_another_one() {
    let folder = folder("aside");
    std::fs::create_dir_all(&folder).unwrap();
    for text in ["one", "two", "three"] {
        std::fs::write(file::path(&folder), text).unwrap();
        let switches = Switches::load(&folder);
        assert_eq!(switches.doubt(), Some(Doubt::Bad));
        assert!(switches.maintain("shop", Some(InMaintenance::default())).unsaved.is_none());
        assert!(Switches::load(&folder).in_maintenance("shop").is_some());
    }
    for (name, text) in [("bad", "one"), ("bad.2", "two"), ("bad.3", "three")] {
        assert_eq!(std::fs::read_to_string(folder.join(format!("switches.json.{name}"))).unwrap(), text);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_the_system_does_not_give_out_is_not_replaced() {
    let folder = folder("closed");
    std::fs::create_dir_all(&folder).unwrap();
    let path = file::path(&folder);
    // Nobody can open a link to itself, whoever they are.
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let switches = Switches::load(&folder);
    assert_eq!(switches.doubt(), Some(Doubt::Closed));
    switches.attach(&plan(&folder, ""));
    switches.take_charge();
    let unsaved = switches.maintain("shop", Some(InMaintenance::default())).unsaved.unwrap();
    assert!(unsaved.contains("is not replaced"), "{unsaved}");
    assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(switches.in_maintenance("shop").is_some());
    // It can be read again, and somebody has turned a switch meanwhile.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, GOOD).unwrap();
    switches.attach(&plan(&folder, ""));
    assert_eq!((switches.doubt(), switches.in_maintenance("blog")), (Some(Doubt::Aside), None));
    assert_eq!(std::fs::read_to_string(file::aside(&folder)).unwrap(), GOOD);
    assert!(Switches::load(&folder).in_maintenance("shop").is_some());
    std::fs::remove_file(file::aside(&folder)).unwrap();
    switches.attach(&plan(&folder, ""));
    assert_eq!(switches.doubt(), None);
    std::fs::remove_dir_all(&folder).unwrap();
}
