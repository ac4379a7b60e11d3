//! What the documents show is what the program does: every `$ probegate …` in a `console` block is run, and every file that a `sh`
//! block names has to be there.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{APP_TOKEN, Folder, Program, TOKEN, probegate, root, run};

/// The documents whose blocks are tried.
fn documents() -> Vec<PathBuf> {
    let mut found: Vec<_> = [root().join("README.md"), root().join("examples/README.md")].into();
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        found.push(entry.unwrap().path().join("README.md"));
    }
    found.retain(|path| path.is_file());
    found.sort();
    assert!(found.contains(&root().join("README.md")));
    found
}

/// A fenced block and the line it begins at.
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
    line: usize,
}

pub(crate) fn blocks(document: &Path) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in std::fs::read_to_string(document).unwrap().lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(language), None) => {
                open = Some(Block { language: language.trim().to_owned(), text: String::new(), line: index + 2 });
            }
            (Some(_), Some(block)) => found.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block has no end", document.display());
    found
}

/// The commands of a `console` block, each with what is shown below it. A line that ends in `\` goes on in the next.
pub(crate) fn commands(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut unfinished = false;
    for line in text.lines() {
        match (line.strip_prefix("$ "), found.last_mut()) {
            (_, Some((command, _))) if unfinished => {
                command.push('\n');
                command.push_str(line.strip_prefix("> ").unwrap_or(line));
            }
            (Some(command), _) => found.push((command.to_owned(), String::new())),
            (None, Some((_, output))) => {
                output.push_str(line);
                output.push('\n');
            }
            (None, None) => panic!("output without a command: {line}"),
        }
        unfinished = found.last().is_some_and(|(command, output)| output.is_empty() && command.ends_with('\\'));
    }
    found
}

/// Whether `actual` is what is shown; `…` stands for any rest of a line, and alone on a line for any lines.
pub(crate) fn matches(shown: &str, actual: &str) -> bool {
    fn lines(shown: &[&str], actual: &[&str]) -> bool {
        match (shown, actual) {
            ([], []) => true,
            (["…", rest @ ..], _) => (0..=actual.len()).any(|skip| lines(rest, &actual[skip..])),
            ([line, rest @ ..], [found, others @ ..]) => {
                let same = match line.strip_suffix('…') {
                    Some(start) => found.starts_with(start),
                    None => found.trim_end() == line.trim_end(),
                };
                same && lines(rest, others)
            }
            _ => false,
        }
    }
    let split = |text: &str| text.trim_end().lines().map(str::to_owned).collect::<Vec<_>>();
    let (shown, actual) = (split(shown), split(actual));
    let borrow = |text: &[String]| -> Vec<String> { text.to_vec() };
    let (shown, actual) = (borrow(&shown), borrow(&actual));
    lines(&shown.iter().map(String::as_str).collect::<Vec<_>>(), &actual.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_rest_that_is_left_out_matches_anything() {
    for (shown, actual, same) in [
        ("a\nb\n", "a\nb\n", true),
        ("a\n", "a\nb\n", false),
        ("a…\nb\n", "abc\nb\n", true),
        ("a\n…\nd\n", "a\nb\nc\nd\n", true),
        ("a\n…\n", "a\n", true),
        ("a\n…\nd\n", "a\nb\n", false),
        ("", "a\n", false),
    ] {
        assert_eq!(matches(shown, actual), same, "{shown:?} {actual:?}");
    }
}

#[test]
fn every_probegate_command_that_is_shown_prints_what_is_shown() {
    let programs = Path::new(env!("CARGO_BIN_EXE_probegate")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let (mut tried, mut wrong) = (0, Vec::new());
    for document in documents() {
        for block in blocks(&document).into_iter().filter(|block| block.language == "console") {
            for (command, shown) in commands(&block.text) {
                if !command.starts_with("probegate ") {
                    continue;
                }
                let mut shell = Command::new("bash");
                shell.args(["-c", &format!("{{ {command}\n}} 2>&1")]).current_dir(root());
                shell.env("PATH", &path).env("PROBE_TOKEN", TOKEN).env("APP_PROBE_TOKEN", APP_TOKEN);
                let result = run(&mut shell);
                tried += 1;
                if !matches(&shown, &result.out) {
                    let place = format!("{}:{}", document.display(), block.line);
                    wrong.push(format!("{place}: {command}\n--- shown\n{shown}--- printed\n{}", result.out));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried >= 3, "only {tried} commands were found");
}

/// What the README has people start for their own app works as it is written, but for the addresses.
#[test]
fn every_probegate_command_of_a_shell_block_in_the_readme_works() {
    let folder = Folder::new();
    let mut tried = Vec::new();
    for block in blocks(&root().join("README.md")).into_iter().filter(|block| block.language == "sh") {
        for line in block.text.lines().filter_map(|line| line.strip_prefix("probegate ")) {
            let line = line.split(" #").next().unwrap_or_default().trim();
            let (arguments, file) = line.split_once(" > ").map_or((line, None), |(line, file)| (line, Some(file)));
            let words: Vec<_> = arguments.split_whitespace().collect();
            tried.push(words[0].to_owned());
            let mut command = probegate(&words);
            command.current_dir(folder.path());
            if let Some(file) = file {
                let ended = run(&mut command);
                assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
                let elsewhere =
                    ended.out.replace("0.0.0.0:8080", "127.0.0.1:0").replace("127.0.0.1:9900", "127.0.0.1:0");
                assert_ne!(elsewhere, ended.out);
                folder.write(file, elsewhere);
                continue;
            }
            match words[0] {
                "dev" => command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--folder", "dev"]),
                "proxy" => command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]),
                _ => &mut command,
            };
            let program = Program::start(&mut command);
            program.wait_for(line, |text| text.contains("\"message\":\"listening\"").then_some(()));
        }
    }
    assert_eq!(tried, ["dev", "proxy", "init", "run"]);
}

#[test]
fn every_file_that_a_shell_block_names_is_there() {
    let mut missing = Vec::new();
    for document in documents() {
        for block in blocks(&document).into_iter().filter(|block| ["sh", "bash", "shell"].contains(&&*block.language)) {
            // What the reader makes first (`> file`) needs not be there.
            let made: Vec<_> =
                block.text.split("> ").skip(1).filter_map(|rest| rest.split_whitespace().next()).collect();
            for line in block.text.lines() {
                let line = line.split(" #").next().unwrap_or_default();
                for word in line.split_whitespace().map(|word| word.trim_matches(['"', '\'', '`', '(', ')', ';'])) {
                    let relative = word.strip_prefix("./").unwrap_or(word);
                    let first = relative.split('/').next().unwrap_or_default();
                    let ours = word.starts_with("./") || (relative.contains('/') && root().join(first).exists());
                    let name = [".yaml", ".sh", ".md", ".service"].iter().any(|end| relative.ends_with(end));
                    if (ours || (name && !relative.contains('/'))) && !made.contains(&word) && !first.is_empty() {
                        let beside = document.parent().unwrap().join(relative);
                        if !root().join(relative).exists() && !beside.exists() && !relative.starts_with("target/") {
                            missing.push(format!("{}:{}: {word}", document.display(), block.line));
                        }
                    }
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
