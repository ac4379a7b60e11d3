//! The file that bans are kept in: `bans.json` in the storage folder, replaced whole or not at all.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use probegate_policies::ban::{AHEAD, Ban, Cause, Client, Offence};
use probegate_policies::ip;
use serde::{Deserialize, Serialize};

use crate::durable;

/// The largest file that is read.
const LIMIT: u64 = 1 << 30;

/// Characters of what is said about a ban, whoever says it.
const TEXT: usize = 512;

/// Clients, and what is known about them.
pub(super) type Clients = Vec<(Client, Ban)>;

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// By the name of the policy: whether it was in shadow mode, and its clients.
    pub(super) policies: BTreeMap<Box<str>, (bool, Clients)>,
    pub(super) by_hand: Clients,
    /// When whose bans were lifted; `None`: all.
    pub(super) lifts: Vec<(Option<Client>, u64)>,
}

impl Written {
    /// The bans of a policy in this mode, which are not here any more then. Those of another mode count for nothing.
    pub(super) fn of(&mut self, name: &str, shadow: bool) -> Clients {
        self.policies.remove(name).filter(|(was, _)| *was == shadow).map(|(_, bans)| bans).unwrap_or_default()
    }

    /// Keeps only bans of which this is true.
    pub(super) fn retain(&mut self, of: impl Fn(Client, &Ban) -> bool) {
        self.lists().for_each(|bans| bans.retain(|(client, ban)| of(*client, ban)));
    }

    /// Where a clock has written it that was ahead, all of it was earlier than it says: what began after a lift still did, and no ban is longer.
    pub(super) fn set_back(&mut self, now: u64) {
        let bans = self.lists().filter_map(|bans| bans.iter().map(|(_, ban)| ban.since).max()).max();
        let Some(last) = self.lifts.iter().map(|(_, at)| *at).max().max(bans) else { return };
        if last <= now.saturating_add(AHEAD) {
            return;
        }
        let earlier = |at: &mut u64| *at = at.saturating_sub(last - now);
        self.lifts.iter_mut().for_each(|(_, at)| earlier(at));
        self.lists().flatten().for_each(|(_, ban)| [&mut ban.since, &mut ban.until].into_iter().for_each(earlier));
    }

    fn lists(&mut self) -> impl Iterator<Item = &mut Clients> {
        self.policies.values_mut().map(|(_, bans)| bans).chain([&mut self.by_hand])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_hand.is_empty() && self.lifts.is_empty() && self.policies.values().all(|(_, bans)| bans.is_empty())
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Whole {
    #[serde(default)]
    policies: BTreeMap<Box<str>, Policy>,
    #[serde(default)]
    by_hand: Vec<Line>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lifts: Vec<Lift>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Policy {
    shadow: bool,
    clients: Vec<Line>,
}

/// One client's ban.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    /// An IPv4 address or an IPv6 network.
    client: String,
    /// In seconds since the epoch.
    since: u64,
    until: u64,
    count: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offence: Option<Box<str>>,
    text: Box<str>,
}

/// Bans that were lifted.
#[derive(Debug, Serialize, Deserialize)]
struct Lift {
    /// Whose; `*`: all.
    client: String,
    /// In seconds since the epoch.
    at: u64,
}

/// Where it is.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("bans.json")
}

/// A client as people and the file write it: an address, or the network of an IPv6 one.
pub fn client(text: &str) -> Option<Client> {
    let address = text.strip_suffix("/32").or_else(|| text.strip_suffix("/64")).unwrap_or(text);
    let ip = ip::parse(address.as_bytes())?;
    let whole = if ip.is_ipv4() { "/64" } else { "/32" };
    Client::of(ip).filter(|_| !text.ends_with(whole))
}

/// Whose bans a lift is about, `None`: everybody's.
///
/// # Errors
/// Nobody is called so.
pub(super) fn whose(text: &str) -> Result<Option<Client>, ()> {
    if text == "*" { Ok(None) } else { client(text).map(Some).ok_or(()) }
}

/// The same in words.
pub(super) fn named(whose: Option<Client>) -> String {
    whose.map_or_else(|| "*".to_owned(), |client| client.to_string())
}

/// What it says; without a file, nobody is banned. A line that says nothing is left out.
///
/// # Errors
/// It can not be read, or is not what was written.
pub(super) fn read(folder: &Path) -> io::Result<Written> {
    let file = match File::open(path(folder)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Written::default()),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(LIMIT).read_to_end(&mut text)?;
    let Whole { policies, by_hand, lifts } = serde_json::from_slice(&text)?;
    let mut strange = 0_usize;
    let mut bans = |lines: Vec<Line>| -> Clients {
        let all = lines.len();
        let bans: Clients = lines.into_iter().filter_map(read_line).collect();
        strange += all - bans.len();
        bans
    };
    let policies = policies.into_iter().map(|(name, policy)| (name, (policy.shadow, bans(policy.clients)))).collect();
    let by_hand = bans(by_hand);
    let all = lifts.len();
    let lifts: Vec<_> = lifts.into_iter().filter_map(|lift| Some((whose(&lift.client).ok()?, lift.at))).collect();
    strange += all - lifts.len();
    if strange > 0 {
        let path = path(folder);
        tracing::warn!(path = %path.display(), count = strange, "bans are left out: these lines say nothing that is known here");
    }
    Ok(Written { policies, by_hand, lifts })
}

/// What a line says; `None`: nothing that is known here.
pub(super) fn read_line(line: Line) -> Option<(Client, Ban)> {
    let Line { client: name, since, until, count, offence, text } = line;
    let offence = match offence.as_deref() {
        Some(label) => Some(Offence::named(label)?),
        None => None,
    };
    let text: String = text.chars().filter(|c| !c.is_control()).take(TEXT).collect();
    let text = text.into();
    Some((client(&name)?, Ban { since, until, count, cause: Cause { offence, text } }))
}

/// Moves a file away that can not be read: somebody may want to mend it.
///
/// # Errors
/// It is where it was.
pub(super) fn put_aside(folder: &Path) -> io::Result<()> {
    match std::fs::rename(path(folder), folder.join("bans.json.unreadable")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Replaces it. Its folder is made where there is none.
///
/// # Errors
/// The old one stays.
pub(super) fn write(folder: &Path, written: &Written) -> io::Result<()> {
    let lines = |bans: &[(Client, Ban)]| bans.iter().map(line).collect();
    let policies = written.policies.iter();
    let policies = policies
        .map(|(name, (shadow, bans))| (name.clone(), Policy { shadow: *shadow, clients: lines(bans) }))
        .collect();
    let lifts = written.lifts.iter().map(|&(client, at)| Lift { client: named(client), at }).collect();
    let whole = Whole { policies, by_hand: lines(&written.by_hand), lifts };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut text = serde_json::to_vec(&whole)?;
    text.push(b'\n');
    durable::replace(&path(folder), &text, 0o600)
}

/// The line about a client.
pub(super) fn line((client, ban): &(Client, Ban)) -> Line {
    Line {
        client: client.to_string(),
        since: ban.since,
        until: ban.until,
        count: ban.count,
        offence: ban.cause.offence.map(|offence| offence.to_string().into()),
        text: ban.cause.text.clone(),
    }
}
