//! Reads the attack files. `README.md` beside them tells their format.

#![allow(dead_code, reason = "each of the test binaries that share it uses a part of it")]

use std::path::{Path, PathBuf};

/// A file of cases.
#[derive(Debug)]
pub(crate) struct Group {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Everything before the first case, verbatim.
    preamble: String,
    /// What `$name` stands for.
    defines: Vec<(String, Vec<u8>)>,
    /// The cases.
    pub(crate) cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    /// What it shows.
    pub(crate) name: String,
    /// Comment, flag and `>` lines, verbatim.
    pub(crate) given: Vec<String>,
    /// Words behind `!`.
    pub(crate) flags: Vec<String>,
    /// The bytes of the `>` lines.
    pub(crate) sent: Vec<u8>,
    /// The `=` lines.
    pub(crate) outcome: Vec<String>,
    /// The bytes of the `@` lines.
    pub(crate) saw: Vec<u8>,
}

impl Case {
    /// Whether `!` names this word.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|word| word == flag)
    }
}

/// All groups whose file name begins with `prefix`, in the order of their names.
pub(crate) fn groups(prefix: &str) -> Vec<Group> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(prefix) && path.extension().is_some_and(|ending| ending == "txt")
    });
    paths.sort();
    paths.into_iter().map(Group::read).collect()
}

impl Group {
    fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap();
        let shared = std::fs::read_to_string(path.with_file_name("names.txt")).unwrap();
        let named = |line: &str| {
            let (name, value) = line.strip_prefix('$')?.split_once(" = ")?;
            Some((name.to_owned(), bytes(value)))
        };
        let defines = shared.lines().filter_map(named).collect();
        let mut group = Self { path, preamble: String::new(), defines, cases: Vec::new() };
        for line in text.lines() {
            let place = || format!("{}: {line}", group.path.display());
            let (mark, rest) = line.split_at_checked(2).unwrap_or((line, ""));
            if mark == "==" {
                let name = rest.trim().to_owned();
                assert!(!name.is_empty() && group.cases.iter().all(|case| case.name != name), "{}", place());
                group.cases.push(Case { name, ..Case::default() });
                continue;
            }
            let Some(case) = group.cases.last_mut() else {
                group.preamble.push_str(line);
                group.preamble.push('\n');
                continue;
            };
            match mark {
                "# " | "#" => case.given.push(line.to_owned()),
                "! " => {
                    case.given.push(line.to_owned());
                    case.flags.extend(rest.split_whitespace().map(str::to_owned));
                }
                "> " => {
                    case.given.push(line.to_owned());
                    case.sent.extend(bytes(rest));
                }
                "= " => case.outcome.push(rest.trim().to_owned()),
                "@ " => match rest.strip_prefix('$') {
                    Some(name) => {
                        let define = group.defines.iter().find(|(define, _)| define == name);
                        case.saw.extend_from_slice(&define.unwrap_or_else(|| panic!("{}", place())).1);
                    }
                    None => case.saw.extend(bytes(rest)),
                },
                "" => {}
                _ => panic!("{}", place()),
            }
        }
        group
    }

    /// What `$name` stands for.
    pub(crate) fn define(&self, name: &str) -> &[u8] {
        let define = self.defines.iter().find(|(define, _)| define == name);
        &define.unwrap_or_else(|| panic!("no ${name} in {}", self.path.display())).1
    }

    /// Writes the file anew, with the outcomes that the cases have now.
    pub(crate) fn write(&self) {
        let mut out = self.preamble.trim_end().to_owned();
        out.push('\n');
        for case in &self.cases {
            out.push_str(&format!("\n== {}\n", case.name));
            let outcome = case.outcome.iter().map(|line| format!("= {line}"));
            for line in case.given.iter().cloned().chain(outcome).chain(self.seen(&case.saw)) {
                out.push_str(&line);
                out.push('\n');
            }
        }
        std::fs::write(&self.path, out).unwrap();
    }

    /// Bytes as `@` lines, one for each line in them.
    fn seen(&self, mut saw: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        while !saw.is_empty() {
            if let Some((name, value)) =
                self.defines.iter().find(|(_, value)| !value.is_empty() && saw.starts_with(value))
            {
                lines.push(format!("@ ${name}"));
                saw = &saw[value.len()..];
            } else {
                let end = saw.iter().position(|&byte| byte == b'\n').map_or(saw.len(), |at| at + 1);
                lines.push(format!("@ {}", escaped(&saw[..end])));
                saw = &saw[end..];
            }
        }
        lines
    }
}

/// The bytes that an escaped text stands for.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let (byte, length) = match escape.as_bytes().first() {
            Some(b'r') => (b'\r', 1),
            Some(b'n') => (b'\n', 1),
            Some(b't') => (b'\t', 1),
            Some(b'0') => (0, 1),
            Some(b'\\') => (b'\\', 1),
            Some(b'x') => (u8::from_str_radix(&escape[1..3], 16).unwrap(), 3),
            Some(b'{') => {
                let end = escape.find('}').unwrap();
                let (times, what) = escape[1..end].split_once('*').unwrap();
                out.extend(bytes(what).repeat(times.parse().unwrap()));
                rest = &escape[end + 1..];
                continue;
            }
            _ => panic!("no escape: {text}"),
        };
        out.push(byte);
        rest = &escape[length..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// A text that stands for these bytes. Long runs of one byte are written as such.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let run = bytes[at..].iter().take_while(|&&other| other == byte).count();
        let one = match byte {
            b'\r' => "\\r".to_owned(),
            b'\n' => "\\n".to_owned(),
            b'\t' => "\\t".to_owned(),
            b'\\' => "\\\\".to_owned(),
            b' ' if at + 1 == bytes.len() => "\\x20".to_owned(),
            b' '..=b'~' => char::from(byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        };
        if run > 40 && byte != b'}' {
            out.push_str(&format!("\\{{{run}*{one}}}"));
            at += run;
        } else {
            out.push_str(&one);
            at += 1;
        }
    }
    out
}
