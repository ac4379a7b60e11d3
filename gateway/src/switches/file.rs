//! The file that switches are kept in: `switches.json` in the storage folder, replaced whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{InMaintenance, InSlots, Record};
use crate::durable;

/// The largest file that is read.
const LIMIT: u64 = 1 << 20;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    maintenance: BTreeMap<Box<str>, WrittenMaintenance>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    lifted: BTreeSet<Box<str>>,
    #[serde(default)]
    drained: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    slots: BTreeMap<Box<str>, InSlots>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMaintenance {
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
}

/// Where it is.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("switches.json")
}

/// What it says; without a file, nothing is on.
///
/// # Errors
/// It can not be read, or is not what was written.
pub(super) fn read(folder: &Path) -> io::Result<Record> {
    let file = match File::open(path(folder)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(LIMIT).read_to_end(&mut text)?;
    let Written { maintenance, lifted, drained, slots } = serde_json::from_slice(&text)?;
    let on = |written: WrittenMaintenance| InMaintenance {
        retry_after: written.retry_after.map(|seconds| Duration::from_secs(seconds.into())),
    };
    let maintenance = maintenance.into_iter().map(|(name, written)| (name, on(written))).collect();
    Ok(Record { maintenance, lifted, drained, slots })
}

/// Replaces it. Its folder is made where there is none.
///
/// # Errors
/// The old one stays.
pub(super) fn write(folder: &Path, record: &Record) -> io::Result<()> {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let maintenance = record
        .maintenance
        .iter()
        .map(|(name, on)| (name.clone(), WrittenMaintenance { retry_after: on.retry_after.map(seconds) }));
    let written = Written {
        maintenance: maintenance.collect(),
        lifted: record.lifted.clone(),
        drained: record.drained.clone(),
        slots: record.slots.clone(),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut text = serde_json::to_vec_pretty(&written)?;
    text.push(b'\n');
    durable::replace(&path(folder), &text, 0o600)
}
