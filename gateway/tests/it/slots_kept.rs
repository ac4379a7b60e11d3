//! What is kept about slots, when the file that it is kept in is not what it should be.

use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{Folder, Gateway, eventually, get, get_admin, wait_ready};
use crate::slots::{Release, command, state, switch, two};

fn file(storage: &Folder, name: &str) -> PathBuf {
    storage.path().join(name)
}

/// What the gateway warns of.
fn warned(gateway: &Gateway) -> Vec<Value> {
    let told = get_admin(gateway.admin(), "/readyz").json();
    told["warnings"].as_array().unwrap().iter().map(|warning| warning["reason"].clone()).collect()
}

fn reload(gateway: &Gateway) {
    let lines = || gateway.log_lines().iter().filter(|line| line.contains("configuration reloaded")).count();
    let before = lines();
    gateway.signal("HUP");
    eventually("it is reloaded", || (lines() > before).then_some(()));
}

#[test]
fn a_file_of_switches_that_is_not_understood_is_put_aside_and_told() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    let broken = "{\"slots\": {\"shop\": {\"active\": \"green\"";
    storage.write("switches.json", broken);
    let gateway = Gateway::start(two(&storage, &blue, &green));
    wait_ready(&gateway);
    let line = gateway.wait_for_log(|line| line["message"] == "switches can not be understood");
    assert_eq!(line["path"], *file(&storage, "switches.json").display().to_string());
    assert!(line["assumed"].as_str().unwrap().starts_with("as the configuration says"), "{line}");
    let line = gateway.wait_for_log(|line| line["service"] == "shop" && line["slot"] == "blue");
    assert!(line["message"].as_str().unwrap().starts_with("requests go to the slot of the configuration"), "{line}");
    gateway.wait_for_log(|line| line["path"] == *file(&storage, "switches.json.bad").display().to_string());
    assert_eq!(std::fs::read_to_string(file(&storage, "switches.json.bad")).unwrap(), broken);
    assert_eq!(get(gateway.address(), "/").text(), "1");
    assert_eq!(warned(&gateway), ["switches_unread"]);
    // What is switched from now on is kept.
    assert_eq!(switch(gateway.admin(), &["green", "--bake", "0s"]).code, Some(0));
    drop(gateway);
    let gateway = Gateway::start(two(&storage, &blue, &green));
    wait_ready(&gateway);
    assert_eq!((&*get(gateway.address(), "/").text(), &*warned(&gateway)), ("2", &["switches_unread".into()][..]));
    std::fs::remove_file(file(&storage, "switches.json.bad")).unwrap();
    reload(&gateway);
    assert_eq!(warned(&gateway), [""; 0]);
}

#[test]
fn a_switch_that_can_not_be_is_none_and_what_is_good_beside_it_holds() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    storage.write(
        "switches.json",
        r#"{"maintenance": {"other": {}}, "slots": {"shop": {"switch": {"id": "a1", "from": "blue", "to": "green", "servers": [], "stages": [[200, 60000]],
            "at": 0, "errors": 5, "min_requests": 50, "retry": true}}}}"#,
    );
    let gateway = Gateway::start(two(&storage, &blue, &green));
    wait_ready(&gateway);
    let line = gateway.wait_for_log(|line| line["problem"].is_string());
    assert!(line["problem"].as_str().unwrap().contains("`stages` are no shares"), "{line}");
    assert_eq!(get(gateway.address(), "/").text(), "1");
    assert_eq!(state(gateway.admin())["slots"][0]["percent"], 100);
    let kept = std::fs::read_to_string(file(&storage, "switches.json")).unwrap();
    assert!(kept.contains("other") && !kept.contains("stages"), "{kept}");
}

#[test]
fn a_file_of_switches_that_can_not_be_read_is_not_replaced_and_a_reload_takes_it_up_again() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    let path = file(&storage, "switches.json");
    // Nobody can open a link to itself, whoever they are.
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let gateway = Gateway::start(two(&storage, &blue, &green));
    wait_ready(&gateway);
    gateway.wait_for_log(|line| line["message"].as_str().is_some_and(|text| text.contains("the file stays as it is")));
    assert_eq!(warned(&gateway), ["switches_unread"]);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, r#"{"slots": {"shop": {"active": "green"}}}"#).unwrap();
    reload(&gateway);
    eventually("it is taken up", || {
        (get(gateway.address(), "/").text() == "2" && warned(&gateway).is_empty()).then_some(())
    });

    // What is turned while it can not be read is told not to last.
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    drop(gateway);
    let gateway = Gateway::start(two(&storage, &blue, &green));
    wait_ready(&gateway);
    let turned = command(gateway.admin(), &["maintenance", "on", "shop"]);
    assert!(turned.code == Some(0) && turned.err.contains("is not replaced"), "{turned:?}");
    assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
}
