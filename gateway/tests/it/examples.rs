//! Every example that the project ships: accepted, and started for real.

use std::path::PathBuf;

use crate::harness::{APP_TOKEN, Authority, Folder, Gateway, TOKEN, get, probegate, root, run, wait_ready};

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
        let folder = Folder::new();
        let (text, files) = certified(&rooted(&file));
        let file = folder.write("probegate.yaml", text);
        for (name, content) in &files {
            folder.write(name, content);
        }
        let result = run(&mut probegate(["check".as_ref(), file.as_os_str()]));
        assert_eq!(result.code, Some(0), "{name}: {}", result.err);
        assert!(!result.err.contains("error"), "{name}: {}", result.err);
    }
}

/// The text with certificate files beside it, and those files. Each holds a certificate with its key: readers take what they look for.
fn certified(text: &str) -> (String, Vec<(String, String)>) {
    let issued = Authority::new("Test").issue(&["shop.example.com", "*.example.com", "*.example.org"]);
    let content = issued.cert + &issued.key;
    let text = text.replace("/etc/probegate/", "");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = lines.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && !"-_./".contains(c)));
    let is_file = |word: &&str| matches!(word.rsplit_once('.'), Some((_, "pem" | "key")));
    let names = words.filter(is_file).map(str::to_owned);
    let files = names.map(|name| (name, content.clone())).collect();
    (text, files)
}

/// The text with folders of the example itself where they are.
fn rooted(file: &std::path::Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let folder = file.parent().unwrap().display();
    text.replace("root: ", &format!("root: {folder}/")).replace(": pages/", &format!(": {folder}/pages/"))
}

/// The text with every listener and the admin listener on a port that the kernel chooses, and files where the test may write.
pub(crate) fn movable(text: &str, folder: &Folder) -> String {
    let mut out = String::new();
    let mut dropped = false;
    for line in text.lines() {
        let key = !line.starts_with([' ', '-', '#']) && !line.is_empty();
        // Of the first two, fresh ones are added below; nobody here waits for balancers to notice.
        dropped =
            if key { ["listeners:", "admin:", "shutdown:"].iter().any(|key| line.starts_with(key)) } else { dropped };
        if dropped {
            continue;
        }
        out.push_str(&line.replace("/var/log/probegate", &folder.path().display().to_string()));
        out.push('\n');
    }
    let probes = if text.contains("serve: probes") { ", {address: \"127.0.0.2:0\", serve: probes}" } else { "" };
    out + &format!("listeners: [{{address: \"127.0.0.1:0\"}}{probes}]\nadmin: {{address: \"127.0.0.1:0\"}}\n")
}

#[test]
fn every_example_starts_and_answers() {
    for (name, file) in examples() {
        let folder = Folder::new();
        let (text, files) = certified(&movable(&rooted(&file), &folder));
        let builder = Gateway::with(text)
            .env("PROBE_TOKEN", TOKEN)
            .env("APP_PROBE_TOKEN", APP_TOKEN)
            .env("REDIS_PASSWORD", TOKEN);
        let mut gateway = files.iter().fold(builder, |builder, (name, content)| builder.file(name, content)).start();
        wait_ready(&gateway);
        // No app stands behind it here, and not every one of them knows this host.
        let status = get(gateway.address(), "/").status;
        assert!([421, 502, 504].contains(&status), "{name}: {status}");
        gateway.signal("TERM");
        assert_eq!(gateway.wait_exit().code(), Some(0), "{name}");
    }
}
