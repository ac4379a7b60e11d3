//! What the fuzzers begin with (`gateway/fuzz/seeds/`): attacks, so that nobody keeps them twice.
//!
//! `UPDATE_GOLDENS=1` writes the files.

use std::collections::BTreeMap;
use std::path::Path;

use crate::generate::attacks;

/// Files for each target.
const MOST: usize = 20;

/// Different in size, so that the first few stand for many.
fn choice(mut messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    messages.retain(|message| message.len() < 400);
    messages.sort();
    messages.dedup();
    let step = messages.len().div_ceil(MOST);
    messages.into_iter().step_by(step).collect()
}

fn body(message: &[u8]) -> Vec<u8> {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    // The fuzz target takes the size of its pieces from the first byte.
    [b"\x03", &message[end..]].concat()
}

#[test]
fn the_fuzzers_begin_with_the_attacks() {
    let bodies = attacks("request-chunks").iter().map(|message| body(message)).collect();
    let mut expected = BTreeMap::new();
    for (target, messages) in
        [("request_head", attacks("request-")), ("response_head", attacks("answer-")), ("chunked_body", bodies)]
    {
        for (index, bytes) in choice(messages).into_iter().enumerate() {
            expected.insert(format!("{target}/attack-{index:02}"), bytes);
        }
    }
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        for (name, bytes) in &expected {
            let path = seeds.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    for (name, bytes) in &expected {
        assert!(
            std::fs::read(seeds.join(name)).is_ok_and(|found| found == *bytes),
            "{name}: write it with UPDATE_GOLDENS=1"
        );
    }
    for target in std::fs::read_dir(&seeds).unwrap().map(|entry| entry.unwrap().path()) {
        let count = std::fs::read_dir(&target).unwrap().count();
        assert!(count <= MOST, "{count} seeds for {}", target.display());
    }
}
