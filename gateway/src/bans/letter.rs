//! What gateways write to each other about bans: one record for each.

use probegate_policies::ban::{Ban, Client};
use serde::{Deserialize, Serialize};

use super::file::{self, Line};
use super::outbox::Change;

/// How long a lift is kept, in seconds: a gateway that was away for longer may bring back what was lifted meanwhile.
pub(super) const LIFTED: u64 = 30 * 86_400;

/// A record.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Letter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<Box<str>>,
    #[serde(default)]
    shadow: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ban: Option<Line>,
    /// Whose bans are lifted; `*`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lift: Option<String>,
    /// When, in seconds since the epoch.
    at: u64,
}

/// What the store is told of a change. Whoever tells of it, in the same words: told again, it is nothing new.
pub(super) fn write(change: &Change, remember: u64) -> [String; 5] {
    let (name, client, until, letter) = match change {
        Change::Ban { policy, shadow, client, ban } => {
            let mode = if *shadow { "shadow" } else { "enforce" };
            let letter = Letter {
                policy: Some(policy.clone()),
                shadow: *shadow,
                ban: Some(file::line(&(*client, ban.clone()))),
                lift: None,
                at: ban.since,
            };
            (format!("ban {policy} {mode} {client}"), client.to_string(), ban.until.saturating_add(remember), letter)
        }
        Change::Lift { client, at } => {
            let whose = file::named(*client);
            let name = format!("lift {whose}");
            let letter = Letter { policy: None, shadow: false, ban: None, lift: Some(whose), at: *at };
            (name, String::new(), at.saturating_add(LIFTED), letter)
        }
    };
    let text = serde_json::to_string(&letter).unwrap_or_default();
    [name, client, letter.at.to_string(), until.to_string(), text]
}

/// What a gateway has told. `None`: it says nothing that is known here.
pub(super) fn read(record: &str) -> Option<Change> {
    let (_, text) = record.split_once('|')?;
    let letter: Letter = serde_json::from_str(text).ok()?;
    match (letter.policy, letter.ban, letter.lift) {
        (Some(policy), Some(line), None) => {
            let (client, ban): (Client, Ban) = file::read_line(line)?;
            Some(Change::Ban { policy, shadow: letter.shadow, client, ban })
        }
        (None, None, Some(whose)) => Some(Change::Lift { client: file::whose(&whose).ok()?, at: letter.at }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use probegate_policies::ban::{Cause, Offence};

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let client = file::client("2001:db8::/64").unwrap();
        let cause = Cause { offence: Some(Offence::Status(404)), text: "GET /\"x|".into() };
        let ban = Ban { since: 10, until: 70, count: 2, cause };
        let change = Change::Ban { policy: "scans".into(), shadow: true, client, ban };
        let [name, whose, at, until, text] = write(&change, 100);
        assert_eq!((&*name, &*whose, &*at, &*until), ("ban scans shadow 2001:db8::/64", "2001:db8::/64", "10", "170"));
        let record = format!("{at}|{text}");
        assert_eq!(format!("{:?}", read(&record).unwrap()), format!("{change:?}"));
        // Nobody's words are endless, or orders to a terminal.
        let endless = format!("{at}|{}", text.replace("GET", &format!("\\u001b[2J{}", "x".repeat(9999))));
        let Some(Change::Ban { ban, .. }) = read(&endless) else { panic!("no ban") };
        assert_eq!((ban.cause.text.chars().count(), ban.cause.text.starts_with("[2Jxx")), (512, true));
        for client in [None, Some(client)] {
            let lift = Change::Lift { client, at: 5 };
            let [name, whose, at, until, text] = write(&lift, 0);
            assert_eq!((&*whose, &*until), ("", &*(5 + LIFTED).to_string()), "{name}");
            assert_eq!(format!("{:?}", read(&format!("{at}|{text}")).unwrap()), format!("{lift:?}"));
        }
        for nothing in ["", "7", "7|{}", "7|[1]", "x|{\"at\":1,\"lift\":\"host\"}"] {
            assert!(read(nothing).is_none(), "{nothing}");
        }
    }
}
