//! Configurations: whatever the text, there is a plan or there are problems that people can read, and the same ones each time.
#![no_main]

use std::io;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use probegate_fuzz::config::{Environment, Source, compile, render};
use rustls::pki_types::CertificateDer;

/// Nothing around it but one secret.
struct Nowhere;

const SECRET: &str = "6f1d0c9be2a8437fb5d3a1c0e9f87d64";

impl Environment for Nowhere {
    fn variable(&self, name: &str) -> Option<Vec<u8>> {
        (name == "SECRET").then(|| SECRET.into())
    }

    fn read(&self, _: &Path, _: usize) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn is_writable(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn is_folder(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn authorities(&self) -> Vec<CertificateDer<'static>> {
        Vec::new()
    }

    fn unix(&self) -> u64 {
        1_800_000_000
    }

    fn parallelism(&self) -> usize {
        2
    }
}

fuzz_target!(|text: &str| {
    let source = Source { name: "fuzz.yaml".to_owned(), text: text.to_owned() };
    let told = || match compile(&source, &Nowhere) {
        Ok(loaded) => {
            assert!(!format!("{:?}", loaded.plan).contains(SECRET), "a secret in the plan's debug text");
            render(&loaded.lints, &source, false)
        }
        Err(problems) => {
            let text = problems.render(&source, true) + &problems.render(&source, false);
            assert!(!text.trim().is_empty(), "refused without a word");
            text
        }
    };
    let first = told();
    // Maps with random order must not reach the messages.
    assert_eq!(first, told());
    assert!(text.contains(SECRET) || !first.contains(SECRET), "a secret in a message");
});
