//! Keeps the promises of CONTRIBUTING.md: who must not know whom, how long files may be, that documentation and examples are true.
//!
//! Every check collects all it finds and says it at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect in the shortest way; clippy.toml reaches only functions marked #[test]"
)]

#[path = "tidy/documentation.rs"]
mod documentation;

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file, and of one that holds tests only.
const BUDGET: (usize, usize) = (400, 500);

/// What policies may depend on.
const POLICIES_USE: [&str; 7] = ["ahash", "bytemuck", "ipnet", "memchr", "sha2", "subtle", "thiserror"];

/// What may lie at the top of the repository, besides hidden files.
const TOP: &str = "Cargo.toml Cargo.lock gateway policies examples benches README.md docker-compose.yml CHANGELOG.md \
    CONTRIBUTING.md LICENSE Dockerfile Makefile deny.toml clippy.toml rustfmt.toml target";

// --- what there is -------------------------------------------------------------------------------------------------------

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Files below `folder` whose names end with `ending`, as paths from the root, with their texts.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            let skipped = name.starts_with('.') || matches!(&*name, "target" | "runs" | "__pycache__" | "node_modules");
            match entry.path() {
                _ if skipped => {}
                path if path.is_dir() => walk(&path, ending, found),
                path if name.ends_with(ending) => found.push(path),
                _ => {}
            }
        }
    }
    let root = root();
    let mut paths = Vec::new();
    walk(&root.join(folder), ending, &mut paths);
    paths.sort();
    let short = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (short(path), fs::read_to_string(path).unwrap())).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn rust() -> Vec<(String, String)> {
    ["policies", "gateway", "benches"].iter().flat_map(|folder| files(folder, ".rs")).collect()
}

/// Whether a file holds tests only.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// The lines that end up in the program: no comments, and nothing from the first `#[cfg(test)]` on. With their numbers.
fn program(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    code.map(|(index, line)| (index + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Whether `word` stands in `line`, not as a part of a longer name.
fn names(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let begins = !line[..at].ends_with(inside);
        let ends = !word.ends_with(inside) || !line[at + word.len()..].starts_with(inside);
        begins && ends
    })
}

/// The violations of "files that `covered` accepts do not name `words`".
fn naming(covered: impl Fn(&str) -> bool, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in rust().iter().filter(|(path, _)| !is_test(path) && covered(path)) {
        for (number, line) in program(text) {
            found.extend(words.iter().filter(|word| names(line, word)).map(|word| format!("{path}:{number}: {word}")));
        }
    }
    found
}

#[track_caller]
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}\n", found.join("\n  "));
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

// --- layers --------------------------------------------------------------------------------------------------------------

#[test]
fn policies_are_pure() {
    let manifest = read("policies/Cargo.toml");
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let used = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).filter(|name| !name.is_empty());
    let strange: Vec<_> = used.filter(|name| !POLICIES_USE.contains(name)).map(str::to_owned).collect();
    none("policies depend on", &strange);
    let impure = [
        "Instant",
        "SystemTime",
        "std::env",
        "std::fs",
        "std::net::Tcp",
        "TcpStream",
        "std::thread",
        "std::process",
        "tokio",
        "log::",
        "tracing",
        "pingora",
        "async",
        "rand::",
        "println!",
        "unsafe",
    ];
    none("policies name", &naming(|path| path.starts_with("policies/src/"), &impure));
    assert!(read("policies/src/lib.rs").contains("#![forbid(unsafe_code)]"));
}

#[test]
fn pingora_is_named_in_three_places() {
    let allowed = |path: &str| {
        matches!(path, "gateway/src/server.rs" | "gateway/src/listen.rs") || path.starts_with("gateway/src/server/")
    };
    none("Pingora is named in", &naming(|path| !allowed(path), &["pingora::", "pingora_core::", "pingora_proxy::"]));
}

#[test]
fn unsafe_has_two_places() {
    let allowed = |path: &str| matches!(path, "gateway/src/listen/inherit.rs" | "gateway/src/memory.rs");
    none("`unsafe` is allowed in", &naming(|path| !allowed(path), &["allow(unsafe_code", "expect(unsafe_code"]));
}

#[test]
fn layers_do_not_know_what_is_above_them() {
    let src = |path: &str, layer: &str| {
        path.strip_prefix("gateway/src/")
            .is_some_and(|path| path == format!("{layer}.rs") || path.starts_with(&format!("{layer}/")))
    };
    // The layers that `layer` may name, itself included; all others are forbidden.
    let all = [
        "acme",
        "admin",
        "bans",
        "cli",
        "clients",
        "config",
        "connection",
        "durable",
        "limiter",
        "listen",
        "local",
        "plan",
        "reload",
        "request",
        "server",
        "state",
        "switches",
        "telemetry",
        "upstream",
        "wire",
        "worker",
    ];
    let only = |layer: &str, allowed: &[&str]| {
        let words: Vec<String> =
            all.iter().filter(|name| !allowed.contains(name)).map(|name| format!("crate::{name}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        none(&format!("`{layer}` must not know"), &naming(|path| src(path, layer), &words));
    };
    only("plan", &[]);
    only("config", &["config", "plan"]);
    only("wire", &["wire"]);
    only(
        "request",
        &["request", "plan", "bans", "limiter", "upstream", "wire", "telemetry", "state", "worker", "connection"],
    );
    only("request/judge", &["request", "plan", "bans", "limiter"]);
    only("limiter", &["limiter", "plan"]);
    only("acme", &["acme", "durable", "plan", "state", "tls"]);
    only("bans", &["bans", "durable", "plan", "state"]);
    only("draws", &["draws", "durable", "limiter", "plan"]);
    only("switches", &["switches", "durable", "plan"]);
    only("upstream", &["upstream", "plan", "wire"]);

    let plan =
        naming(|path| path == "gateway/src/plan.rs", &["serde", "serde_yaml", "serde_json", "schemars", "Deserialize"]);
    none("the plan knows how it is written", &plan);
    let rules = ["access", "client", "host", "ip", "limit", "path", "probe", "route"]
        .map(|name| format!("probegate_policies::{name}"));
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    none("the wire knows rules", &naming(|path| src(path, "wire"), &rules));
    none("the wire logs", &naming(|path| src(path, "wire"), &["tracing", "log::", "prometheus"]));

    // The client's protocol: only what speaks to apps may name HTTP/1.
    let speaks = |path: &str| {
        ["exchange", "relay", "headers", "answer"].iter().any(|name| path.ends_with(&format!("/{name}.rs")))
    };
    none(
        "the request knows its protocol",
        &naming(|path| src(path, "request") && !speaks(path), &["wire::h1", "h1::"]),
    );
    none(
        "the request reads heads",
        &naming(|path| src(path, "request"), &["h1::request", "h1::tunnel", "RequestParser"]),
    );
    let clock =
        naming(|path| path == "gateway/src/request/judge.rs", &["Instant", "SystemTime", "async", "await", "tokio"]);
    none("the judgement waits or reads a clock", &clock);
    none(
        "commands are named below",
        &naming(|path| !src(path, "cli") && path != "gateway/src/main.rs", &["crate::cli", "probegate::cli"]),
    );
}

#[test]
fn raw_types_are_taken_apart_completely() {
    let mut found = Vec::new();
    for (path, text) in files("gateway/src/config/compile", ".rs")
        .into_iter()
        .chain([("gateway/src/config/compile.rs".to_owned(), read("gateway/src/config/compile.rs"))])
    {
        for start in text.match_indices("let raw::").map(|(at, _)| at) {
            let pattern = text[start..].split('=').next().unwrap();
            if pattern.contains("..") {
                found.push(format!("{path}: {}", one_line(pattern)));
            }
        }
    }
    none("a new key could go unread", &found);
}

// --- files ---------------------------------------------------------------------------------------------------------------

#[test]
fn files_keep_their_budget() {
    let long = |(path, text): (String, String)| {
        let (lines, most) = (text.lines().count(), if is_test(&path) { BUDGET.1 } else { BUDGET.0 });
        (lines > most).then(|| format!("{path} has {lines} lines, {most} are allowed"))
    };
    none("files with two subjects", &rust().into_iter().filter_map(long).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_to_do() {
    let marks = [
        ["#[ign", "ore"],
        ["to", "do!("],
        ["unimple", "mented!("],
        ["TO", "DO"],
        ["FIX", "ME"],
        ["X", "XX "],
        ["dbg", "!("],
    ];
    let marks = marks.map(|parts| parts.concat());
    let mut found = Vec::new();
    for (path, text) in
        rust().into_iter().chain(files(".", ".sh")).chain(files(".", ".md")).chain(files("examples", ".py"))
    {
        for (index, line) in text.lines().enumerate() {
            // CONTRIBUTING and this file may say that there are none.
            found.extend(
                marks.iter().filter(|mark| line.contains(*mark)).map(|mark| format!("{path}:{}: {mark}", index + 1)),
            );
        }
    }
    none("left to do", &found);
}

#[test]
fn the_top_of_the_repository_is_a_short_list() {
    let names = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let strange: Vec<_> =
        names.filter(|name| !name.starts_with('.') && !TOP.split_whitespace().any(|allowed| allowed == name)).collect();
    none("not at the top", &strange);
}

#[test]
fn the_changelog_begins_with_what_is_unreleased() {
    let first = read("CHANGELOG.md").lines().find_map(|line| line.strip_prefix("## ").map(str::to_owned));
    assert_eq!(first.as_deref(), Some("Unreleased"));
}

#[test]
fn every_defect_has_a_test_with_its_number_or_a_reason() {
    let contributing = read("CONTRIBUTING.md");
    let sources = rust();
    let mut found = Vec::new();
    for number in 1..=17 {
        let Some(row) = contributing.lines().find(|line| line.starts_with(&format!("| D{number} |"))) else {
            found.push(format!("D{number} is not in CONTRIBUTING.md"));
            continue;
        };
        let explained = row.rsplit('|').nth(1).is_some_and(|cell| cell.trim().starts_with("no test: "));
        let tested = sources.iter().any(|(_, text)| text.contains(&format!("fn d{number}_")));
        if !explained && !tested {
            found.push(format!("D{number}: no test is called d{number}_…"));
        }
        if explained && tested {
            found.push(format!("D{number} has a test, but CONTRIBUTING.md says that it has none"));
        }
    }
    none("defects", &found);
}
