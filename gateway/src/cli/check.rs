//! `check`: everything that is wrong with a configuration, and what is odd about it.

use std::path::Path;
use std::process::ExitCode;

use super::{USAGE, colour, say};
use crate::config;

/// Exit 0: it works. 1: it works, but `--strict` and there are lints. 64: it does not.
pub(super) fn run(path: &Path, strict: bool) -> ExitCode {
    match config::load(path) {
        Ok(loaded) => {
            if !loaded.lints.is_empty() {
                say(&loaded.render_lints(colour()));
            }
            let count = loaded.lints.len();
            let odd = match count {
                0 => String::new(),
                1 => ", 1 lint".to_owned(),
                _ => format!(", {count} lints"),
            };
            say(&format!("{}: ok{odd}", path.display()));
            if strict && count > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(failure) => {
            say(&failure.render(colour()));
            ExitCode::from(USAGE)
        }
    }
}
