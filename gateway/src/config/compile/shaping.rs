//! What becomes of answers on their way to the client.

use std::ops::RangeInclusive;

use probegate_policies::encoding::{Coding, MediaPattern, Terms};

use super::Context;
use crate::config::value::{ByteRateWord, CodingWord, Count, Flag, Leaf, Size};
use crate::config::{ConfigPath, raw};
use crate::plan::{Bandwidth, Compression, Levels};

/// What shrinks, among what apps and folders of files send.
const TYPES: [&str; 12] = [
    "text/*",
    "application/javascript",
    "application/json",
    "application/xml",
    "application/x-ndjson",
    "application/*+json",
    "application/*+xml",
    "application/wasm",
    "image/svg+xml",
    "font/ttf",
    "font/otf",
    "application/vnd.ms-fontobject",
];

/// The compression that is described at `path`.
pub(super) fn compression(raw: raw::Compression, path: &ConfigPath, cx: &mut Context<'_>) -> Compression {
    let raw::Compression { encodings, types, min_length, personal, levels } = raw;
    let mut codings = Vec::new();
    let at = path.key("encodings");
    match encodings {
        None => codings.extend([Coding::Zstd, Coding::Brotli, Coding::Gzip]),
        Some(list) if list.is_empty() => {
            cx.error(&at, "without an encoding nothing is compressed", "write `compression: off`, or name one");
        }
        Some(list) => {
            for (index, Leaf(CodingWord(coding))) in list {
                if codings.contains(&coding) {
                    cx.error(&at.index(index), format!("`{}` is named already", coding.as_str()), "remove it");
                }
                codings.push(coding);
            }
        }
    }
    let types = match types {
        Some(list) if list.is_empty() => {
            cx.error(
                &path.key("types"),
                "without a type nothing is compressed",
                "write `compression: off`, or name one",
            );
            Vec::new()
        }
        Some(list) => list.into_iter().map(|(_, Leaf(pattern))| pattern).collect(),
        None => TYPES.iter().filter_map(|pattern| pattern.parse::<MediaPattern>().ok()).collect(),
    };
    let raw::Levels { zstd, br, gzip } = levels.unwrap_or_default();
    let at = path.key("levels");
    let levels = Levels {
        zstd: level(zstd, &at.key("zstd"), 1..=9, 3, cx),
        brotli: level(br, &at.key("br"), 0..=6, 4, cx),
        gzip: level(gzip, &at.key("gzip"), 1..=9, 5, cx),
    };
    let min_length = min_length.map_or(256, |Leaf(Size(bytes))| bytes);
    let personal = personal.is_some_and(|Leaf(Flag(personal))| personal);
    Compression { terms: Terms { codings, types, min_length, personal }, levels }
}

/// A level. Brotli's end at six: the seventh takes ten times the memory, for a hundredth less to send.
fn level(
    raw: Option<Leaf<Count>>,
    path: &ConfigPath,
    levels: RangeInclusive<u8>,
    default: u8,
    cx: &mut Context<'_>,
) -> u8 {
    let Some(Leaf(Count(written))) = raw else { return default };
    match u8::try_from(written) {
        Ok(level) if levels.contains(&level) => level,
        _ => {
            let message = format!("level {written} is not one of {} to {}", levels.start(), levels.end());
            cx.error(path, message, format!("the default is {default}"));
            default
        }
    }
}

/// The bandwidth that is described at `path`.
pub(super) fn bandwidth(raw: raw::Bandwidth, path: &ConfigPath, cx: &mut Context<'_>) -> Bandwidth {
    let raw::Bandwidth { rate, after, per_client } = raw;
    if rate.is_none() && after.is_some() && !cx.is_broken(&path.key("rate")) {
        cx.key_error(
            &path.key("after"),
            "`after` without `rate` holds nothing back",
            "write `rate: 1MiB/s`, or remove `after`",
        );
    }
    Bandwidth {
        rate: rate.map(|Leaf(ByteRateWord(rate))| rate),
        after: after.map_or(0, |Leaf(Size(bytes))| bytes),
        per_client: per_client.map(|Leaf(ByteRateWord(rate))| rate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_by_default_are_types() {
        assert!(TYPES.iter().all(|pattern| pattern.parse::<MediaPattern>().is_ok()));
    }
}
