//! Every example that the project ships: accepted, and started for real.

use std::path::PathBuf;

use crate::harness::{APP_TOKEN, Folder, Gateway, TOKEN, get, probegate, root, run, wait_ready};

/// `examples/NAME/probegate.yaml`, by name.
fn examples() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let folder = entry.unwrap().path();
        let file = folder.join("probegate.yaml");
        if file.is_file() {
            found.push((folder.file_name().unwrap().to_string_lossy().into_owned(), file));
        }
    }
    assert!(found.len() >= 5, "{found:?}");
    found.sort();
    found
}

#[test]
fn every_example_passes_check() {
    for (name, file) in examples() {
        let result = run(&mut probegate(["check".as_ref(), file.as_os_str()]));
        assert_eq!(result.code, Some(0), "{name}: {}", result.err);
        assert!(!result.err.contains("error"), "{name}: {}", result.err);
    }
}

/// The text with every listener and the admin listener on a port that the kernel chooses, and files where the test may write.
fn movable(text: &str, folder: &Folder) -> String {
    let mut out = String::new();
    let mut in_listeners = false;
    for line in text.lines() {
        let key = !line.starts_with([' ', '-', '#']) && !line.is_empty();
        in_listeners = if key { line.starts_with("listeners:") } else { in_listeners };
        // One that is written is dropped; a fresh one is added below.
        let admin = line.starts_with("admin:") || (line.trim_start().starts_with("address:") && !in_listeners);
        if in_listeners || admin {
            continue;
        }
        out.push_str(&line.replace("/var/log/probegate", &folder.path().display().to_string()));
        out.push('\n');
    }
    out + "listeners: [{address: \"127.0.0.1:0\"}]\nadmin: {address: \"127.0.0.1:0\"}\n"
}

#[test]
fn every_example_starts_and_answers() {
    for (name, file) in examples() {
        let folder = Folder::new();
        let text = movable(&std::fs::read_to_string(&file).unwrap(), &folder);
        let builder = Gateway::with(text).env("PROBE_TOKEN", TOKEN).env("APP_PROBE_TOKEN", APP_TOKEN);
        let mut gateway = builder.start();
        wait_ready(&gateway);
        // No app stands behind it here, and not every one of them knows this host.
        let status = get(gateway.address(), "/").status;
        assert!([421, 502, 504].contains(&status), "{name}: {status}");
        gateway.signal("TERM");
        assert_eq!(gateway.wait_exit().code(), Some(0), "{name}");
    }
}
