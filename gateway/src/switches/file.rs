//! The file that switches are kept in: `switches.json` in the storage folder, replaced whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{InMaintenance, InSlots, Record};
use crate::durable;

/// The largest file that is read.
const LIMIT: u64 = 1 << 20;

/// How many files that were not understood may lie beside it.
const ASIDE: usize = 9;

#[derive(Debug, Default, Serialize)]
struct Written {
    maintenance: BTreeMap<Box<str>, WrittenMaintenance>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    lifted: BTreeSet<Box<str>>,
    drained: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    slots: BTreeMap<Box<str>, InSlots>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenMaintenance {
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
}

/// Why it was not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is there, and the system does not give it out.
    Closed(io::Error),
    /// It is not what was written.
    Nonsense(String),
}

/// Where it is.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("switches.json")
}

/// Where one lies that was not understood.
pub(super) fn aside(folder: &Path) -> PathBuf {
    folder.join("switches.json.bad")
}

/// What it says, and what of it can not be understood, which is left out; without a file, nothing is on. What a newer version wrote besides is left out as well.
///
/// # Errors
/// It can not be read, or is not what was written.
pub(super) fn read(folder: &Path) -> Result<(Record, Vec<String>), Unread> {
    let file = match File::open(path(folder)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Record::default(), Vec::new())),
        Err(error) => return Err(Unread::Closed(error)),
    };
    let mut text = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut text).map_err(Unread::Closed)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > LIMIT {
        return Err(Unread::Nonsense(format!("it is larger than {LIMIT} bytes")));
    }
    let mut top: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|error| Unread::Nonsense(error.to_string()))?;
    let mut problems = Vec::new();
    let mut part = |key: &str| entries(top.remove(key), key, &mut problems);
    let (maintenance, drained, slots) = (part("maintenance"), part("drained"), part("slots"));
    let on = |written: WrittenMaintenance| InMaintenance {
        retry_after: written.retry_after.map(|seconds| Duration::from_secs(seconds.into())),
    };
    let lifted = match top.remove("lifted").map(serde_json::from_value) {
        None => BTreeSet::new(),
        Some(Ok(lifted)) => lifted,
        Some(Err(error)) => {
            problems.push(format!("`lifted`: {error}"));
            BTreeSet::new()
        }
    };
    let record = Record {
        maintenance: understood(maintenance, "maintenance", &mut problems)
            .map(|(service, written)| (service, on(written)))
            .collect(),
        lifted,
        drained: understood(drained, "drained", &mut problems).collect(),
        slots: slots
            .into_iter()
            .map(|(service, value)| {
                let told = InSlots::read(value, |problem| problems.push(format!("slots of `{service}`: {problem}")));
                (service, told)
            })
            .filter(|(_, told)| *told != InSlots::default())
            .collect(),
    };
    Ok((record, problems))
}

/// What is said about services.
fn entries(value: Option<Value>, key: &str, problems: &mut Vec<String>) -> Vec<(Box<str>, Value)> {
    match value {
        None => Vec::new(),
        Some(Value::Object(map)) => map.into_iter().map(|(service, value)| (service.into(), value)).collect(),
        Some(_) => {
            problems.push(format!("`{key}` is no object"));
            Vec::new()
        }
    }
}

/// Those of them that are what they should be.
fn understood<T: DeserializeOwned>(
    entries: Vec<(Box<str>, Value)>,
    key: &str,
    problems: &mut Vec<String>,
) -> impl Iterator<Item = (Box<str>, T)> {
    let mut good = Vec::new();
    for (service, value) in entries {
        match serde_json::from_value(value) {
            Ok(value) => good.push((service, value)),
            Err(error) => problems.push(format!("`{key}` of `{service}`: {error}")),
        }
    }
    good.into_iter()
}

/// Replaces it, having put aside what lies there where that was not read (`unread`). Where that is now, if so.
///
/// # Errors
/// The old one stays: also where it can not be read, so that nobody knows what would be lost.
pub(super) fn write_anew(folder: &Path, record: &Record, unread: &AtomicBool) -> io::Result<Option<PathBuf>> {
    let mut put = None;
    if unread.load(Ordering::Acquire) {
        put = put_aside(folder)?;
        unread.store(false, Ordering::Release);
    }
    write(folder, record).map(|()| put)
}

fn put_aside(folder: &Path) -> io::Result<Option<PathBuf>> {
    let from = path(folder);
    let closed = |error: io::Error| {
        io::Error::new(error.kind(), format!("what lies there can not be read, and is not replaced: {error}"))
    };
    match File::open(&from).and_then(|file| file.take(LIMIT).read_to_end(&mut Vec::new())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(closed(error)),
        Ok(_) => {}
    }
    let first = aside(folder);
    let mut to = first.clone();
    for number in 2..=ASIDE {
        if !to.exists() {
            break;
        }
        to = PathBuf::from(format!("{}.{number}", first.display()));
    }
    fs::rename(&from, &to)?;
    File::open(folder)?.sync_all()?;
    Ok(Some(to))
}

/// Replaces it. Its folder is made where there is none.
///
/// # Errors
/// The old one stays.
fn write(folder: &Path, record: &Record) -> io::Result<()> {
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
