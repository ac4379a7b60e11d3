//! Examples and documentation: they work, and they are complete.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use probegate::config::{Environment, Source, compile, schema};
use probegate_policies::reason::Reason;

use super::{files, none, one_line, read, root};

/// What examples find around them: their variables and files hold tokens.
struct Surroundings;

impl Environment for Surroundings {
    fn variable(&self, name: &str) -> Option<Vec<u8>> {
        // Three names only, so that whoever tries examples knows what to set.
        let digit = match name {
            "PROBE_TOKEN" => b"0123456789abcdef",
            "APP_PROBE_TOKEN" => b"fedcba9876543210",
            "REDIS_PASSWORD" => b"02468ace13579bdf",
            _ => return None,
        };
        Some(digit.repeat(4))
    }

    fn read(&self, path: &Path, _: usize) -> io::Result<Vec<u8>> {
        if path.extension().is_some_and(|extension| extension == "pem" || extension == "key") {
            // Certificate and key in one text: readers take what they look for.
            static MADE: LazyLock<String> = LazyLock::new(|| {
                let names = ["localhost", "shop.example.com", "*.example.com", "*.example.org", "example.com"];
                let made = rcgen::generate_simple_self_signed(names.map(str::to_owned)).unwrap();
                made.cert.pem() + &made.signing_key.serialize_pem()
            });
            return Ok(MADE.clone().into_bytes());
        }
        Ok(b"0f1e2d3c4b5a6978".repeat(4))
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        Path::new("/etc/probegate").join(path)
    }

    fn is_writable(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn is_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn authorities(&self) -> Vec<rustls::pki_types::CertificateDer<'static>> {
        vec![rustls::pki_types::CertificateDer::from_slice(b"an authority")]
    }

    fn unix(&self) -> u64 {
        1_795_305_600
    }

    fn parallelism(&self) -> usize {
        2
    }
}

/// What is wrong with a configuration, lints included unless `odd` ones are fine.
fn judge(name: &str, text: &str, odd: bool) -> Option<String> {
    let source = Source { name: name.to_owned(), text: text.to_owned() };
    match compile(&source, &Surroundings) {
        Ok(loaded) if odd || loaded.lints.is_empty() => None,
        Ok(loaded) => Some(loaded.render_lints(false)),
        Err(problems) => Some(problems.render(&source, false)),
    }
}

#[test]
fn every_example_compiles_without_lints() {
    let examples = files("examples", "probegate.yaml");
    assert!(examples.len() >= 10, "only {} examples were found", examples.len());
    let mut found: Vec<_> = examples.iter().filter_map(|(path, text)| judge(path, text, false)).collect();
    let compared = files("benches/compare", "probegate.yaml");
    found.extend(compared.iter().filter_map(|(path, text)| judge(path, text, true)));
    none("examples", &found);
    let index = read("examples/README.md");
    for (path, text) in &examples {
        let folder = path.strip_prefix("examples/").and_then(|path| path.split('/').next()).unwrap();
        assert!(index.contains(&format!("({folder}/")), "examples/README.md does not name {folder}/");
        assert!(text.starts_with("# "), "{path} does not begin with what it shows");
    }
}

/// The fenced blocks of a page with this language: line and text.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<(usize, String)> {
    let (mut found, mut open): (_, Option<(&'a str, usize, Vec<&'a str>)>) = (Vec::new(), None);
    for (index, line) in page.lines().enumerate() {
        open = match (open, line.strip_prefix("```")) {
            (None, Some(info)) => Some((info, index + 2, Vec::new())),
            (None, None) => None,
            (Some((info, at, lines)), Some(_)) => {
                found.extend((info == language).then(|| (at, lines.join("\n") + "\n")));
                None
            }
            (Some((info, at, mut lines)), None) => {
                lines.push(line);
                Some((info, at, lines))
            }
        };
    }
    assert!(open.is_none(), "a block without an end");
    found
}

fn pages() -> Vec<(String, String)> {
    files(".", ".md")
}

#[test]
fn every_configuration_in_the_documentation_compiles() {
    let mut found = Vec::new();
    let mut tried = 0;
    for (path, page) in pages() {
        for (line, text) in blocks(&page, "yaml") {
            let is_whole = text.lines().any(|line| line.starts_with("services:"));
            tried += usize::from(is_whole);
            found.extend(is_whole.then(|| judge(&format!("{path}, block at line {line}"), &text, true)).flatten());
        }
    }
    assert!(tried >= 5, "only {tried} configurations were found");
    none("documentation", &found);
}

#[test]
fn every_link_in_the_documentation_leads_somewhere() {
    let slug = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
    };
    let mut found = Vec::new();
    for (path, page) in pages() {
        for (index, line) in page.lines().enumerate() {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if link.contains("://") {
                    continue;
                }
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target =
                    if file.is_empty() { root().join(&path) } else { root().join(&path).parent().unwrap().join(file) };
                let text = fs::read_to_string(&target).unwrap_or_default();
                let there = target.exists()
                    && (anchor.is_empty()
                        || text
                            .lines()
                            .filter(|line| line.starts_with('#'))
                            .any(|line| slug(line.trim_start_matches('#')) == anchor));
                found.extend((!there).then(|| format!("{path}:{}: {link}", index + 1)));
            }
        }
    }
    none("links into nowhere", &found);
}

#[test]
fn documentation_names_no_machine() {
    let marks = ["root", "home", "work"].map(|folder| format!("/{folder}/"));
    let mut found = Vec::new();
    for (path, text) in pages().into_iter().chain(files("examples", ".yaml")).chain(files("gateway/src", ".yaml")) {
        for (index, line) in text.lines().enumerate() {
            found.extend(
                marks.iter().filter(|mark| line.contains(*mark)).map(|mark| format!("{path}:{}: {mark}", index + 1)),
            );
        }
    }
    none("machines", &found);
}

#[test]
fn every_key_is_in_the_reference_with_the_words_of_the_schema() {
    fn collect(value: &serde_json::Value, found: &mut BTreeSet<(String, String)>) {
        if let Some(keys) = value.get("properties").and_then(serde_json::Value::as_object) {
            for (key, about) in keys {
                let words = about.get("description").and_then(serde_json::Value::as_str).unwrap_or_default();
                found.insert((key.clone(), one_line(words)));
            }
        }
        match value {
            serde_json::Value::Object(map) => map.values().for_each(|value| collect(value, found)),
            serde_json::Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut keys = BTreeSet::new();
    collect(&schema(), &mut keys);
    assert!(keys.len() > 60, "only {} keys were found", keys.len());
    let page = read("gateway/docs/configuration.md");
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let told = |(key, words): &(String, String)| {
        rows.iter().any(|row| row.starts_with(&format!("| `{key}` |")) && row.contains(words))
    };
    let missing: Vec<_> =
        keys.iter().filter(|key| !told(key)).map(|(key, words)| format!("| `{key}` | … | {words} |")).collect();
    none("not in gateway/docs/configuration.md", &missing);
}

#[test]
fn every_reason_is_in_the_reference() {
    let page = read("gateway/docs/proxying.md");
    let row = |reason: &Reason| format!("| {} | `{}` | ", reason.status(), reason.label());
    let missing: Vec<_> = Reason::ALL.iter().map(row).filter(|row| !page.contains(row)).collect();
    none("not in gateway/docs/proxying.md", &missing);
}

/// The words in `text` that begin with `start` and go on with letters and underscores.
fn words<'a>(text: &'a str, start: &'a str) -> BTreeSet<&'a str> {
    let word = |at: usize| text[at..].split(|c: char| !(c.is_ascii_lowercase() || c == '_')).next().unwrap();
    text.match_indices(start).map(|(at, _)| word(at)).filter(|word| word.len() > start.len()).collect()
}

#[test]
fn every_metric_and_every_log_key_is_in_the_reference_and_no_other() {
    let page = read("gateway/docs/logs-and-metrics.md");
    let families = ["families", "aggregates", "servers", "limits", "local", "shields", "slots", "store", "bans"]
        .map(|name| read(&format!("gateway/src/telemetry/metrics/{name}.rs")));
    let families = families.concat();
    let quoted: BTreeSet<&str> = families.split('"').filter(|word| word.starts_with("probegate_")).collect();
    assert!(quoted.len() > 15, "only {} metrics were found", quoted.len());
    let missing: Vec<_> =
        quoted.iter().filter(|name| !page.contains(&format!("| `{name}` |"))).map(ToString::to_string).collect();
    none("metrics not in the reference", &missing);
    let invented: Vec<_> = pages()
        .iter()
        .flat_map(|(path, page)| words(page, "probegate_").into_iter().map(move |name| (path.clone(), name.to_owned())))
        .filter(|(_, name)| name != "probegate_policies" && !quoted.contains(&**name))
        .map(|(path, name)| format!("{path}: {name}"))
        .collect();
    none("metrics that do not exist", &invented);

    let format = read("gateway/src/telemetry/access_log/format.rs");
    let calls = format.split("(out, \"").skip(1).filter_map(|rest| rest.split('"').next());
    let literal = format.split("\\\"").filter(|part| part.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    let keys: BTreeSet<&str> = calls.chain(literal).filter(|key| key.len() > 2).collect();
    assert!(keys.len() > 15, "only {} log keys were found: {keys:?}", keys.len());
    let missing: Vec<_> =
        keys.iter().filter(|key| !page.contains(&format!("`{key}`"))).map(ToString::to_string).collect();
    none("log keys not in the reference", &missing);
}

#[test]
fn every_command_and_option_is_in_the_reference() {
    let help = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_probegate")).args(arguments).arg("--help").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let page = read("gateway/docs/commands.md");
    let all = help(&[]);
    let commands = all.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap().lines();
    let mut missing = Vec::new();
    for command in commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        if !page.contains(&format!("## `probegate {command}")) {
            missing.push(format!("probegate {command}"));
        }
        let text = help(&[command]);
        let options = text.split_whitespace().filter(|word| word.starts_with("--") && *word != "--help");
        missing.extend(
            options.filter(|option| !page.contains(*option)).map(|option| format!("probegate {command} {option}")),
        );
    }
    none("not in gateway/docs/commands.md", &missing);
}
