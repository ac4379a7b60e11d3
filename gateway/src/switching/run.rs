//! One switch: ask, move, watch, and stay or go back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use probegate_policies::switch::{self, Counts, Expected, Next, Regress, Switch};

use super::ready::Watch;
use super::{Means, Outcome, Phase, Run, Wanted, ask, find};
use crate::state::{Active, State, unix_time};
use crate::switches::{Ended, InSlots, Underway};
use crate::wire::deadline::TICK;

/// How often it is told what was seen, where that has changed.
const NEWS: Duration = Duration::from_secs(5);

/// How long servers may take to say that they are ready at the end of a stage before that is told.
const WAITS: Duration = Duration::from_secs(1);

/// What is told of a switch that nobody has put to the proof.
const UNSEEN: &str = "no request was seen: nothing but its probes speaks for it";

/// Carries a switch out, to its end or that of the process.
pub(super) async fn run(means: Means, run: Arc<Run>) {
    let Some(wanted) = &run.wanted else {
        run.say("goes on: another process had begun it".to_owned());
        return watch(&means, &run, None).await;
    };
    if !run.moves() {
        return confirm(&means, &run, wanted).await;
    }
    run.say(format!("from {} to {}", run.from, run.to));
    if wanted.force {
        run.say("no server is asked first, as wanted".to_owned());
    }
    loop {
        let asked = if wanted.force { Ok(None) } else { checks(&means, &run, wanted).await.map(Some) };
        let departed = match asked {
            Ok(asked) => depart(&means, &run, wanted, asked.as_deref()).await,
            Err(why) => Departed::Not(Outcome::Refused, why),
        };
        match departed {
            Departed::Yes(counts) => return watch(&means, &run, Some(counts)).await,
            Departed::Others => {
                run.say("its servers are others than those that were asked: they are asked again".to_owned());
            }
            Departed::Not(outcome, why) => {
                let Some(state) = means.state.upgrade() else { return };
                let (outcome, why) = if run.is_aborted() { (Outcome::Aborted, wanted_back()) } else { (outcome, why) };
                state.slots.count_end(&run.service, outcome.word());
                run.say("nothing has moved".to_owned());
                run.is_at(Phase::Ended(outcome, why));
                return;
            }
            Departed::Nowhere => return,
        }
    }
}

/// The slot has the requests already. Whether it is the version that is expected.
async fn confirm(means: &Means, run: &Run, wanted: &Wanted) {
    run.say(format!("{} has the requests already, and is asked for its version", run.to));
    let phase = match checks(means, run, wanted).await {
        _ if run.is_aborted() => Phase::Ended(Outcome::Aborted, wanted_back()),
        Ok(_) => Phase::Ended(Outcome::Done, String::new()),
        Err(why) => Phase::Ended(Outcome::Refused, why),
    };
    run.say("nothing has moved".to_owned());
    run.is_at(phase);
}

fn wanted_back() -> String {
    "somebody wanted it".to_owned()
}

/// Asks everybody. Who was asked, or why nothing moves.
async fn checks(means: &Means, run: &Run, wanted: &Wanted) -> Result<Vec<(Box<str>, bool)>, String> {
    let Some(active) = means.state.upgrade().map(|state| state.active()) else { return Err(String::new()) };
    let asked = servers(&active, run).unwrap_or_default();
    let findings = ask::everything(means, &active, run).await;
    for finding in &findings {
        let said = finding.said.as_ref().map(|said| format!(", {said}")).unwrap_or_default();
        let (server, probe) = (&finding.server, finding.probe.name());
        run.say(match &finding.answer {
            Ok(status) => format!("{server}: {probe} answers with status {status}{said}"),
            Err(why) => format!("{server}: {probe} is not answered: {why}"),
        });
    }
    let is_told = ask::tells_version(&active, run);
    let expected = wanted.version.as_deref().map(|version| Expected { version, is_told });
    let refusals = switch::judge(&findings, expected);
    for refusal in &refusals {
        run.say(format!("refused: {refusal}"));
    }
    let all = refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if all.is_empty() { Ok(asked) } else { Err(all) }
}

/// What became of moving the first share.
#[derive(Debug)]
enum Departed {
    /// It has moved. What was counted of the slot until then.
    Yes(Counts),
    /// There is a server that nobody has asked: a reload brought it, or somebody let it have requests again.
    Others,
    /// Nothing moves.
    Not(Outcome, String),
    /// This process is not there any more.
    Nowhere,
}

/// The first share moves, to servers that were `asked`, each with whether it was drained. `None`: nobody wanted that.
async fn depart(means: &Means, run: &Run, wanted: &Wanted, asked: Option<&[(Box<str>, bool)]>) -> Departed {
    let stages = wanted.stages.iter();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let stages: Vec<_> = stages.map(|stage| (stage.share, millis(stage.time))).collect();
    loop {
        let Some(state) = means.state.upgrade() else { return Departed::Nowhere };
        if let Some(_held) = state.switches.hold() {
            if run.is_aborted() {
                return Departed::Not(Outcome::Aborted, wanted_back());
            }
            let Some(servers) = servers(&state.active(), run) else {
                let why = "the configuration has no such slots any more".to_owned();
                return Departed::Not(Outcome::Refused, why);
            };
            // Whoever is drained meanwhile gets nothing.
            let same = |asked: &[(Box<str>, bool)]| {
                asked.len() == servers.len()
                    && asked.iter().zip(&servers).all(|(was, is)| was.0 == is.0 && was.1 <= is.1)
            };
            if !asked.is_none_or(same) {
                return Departed::Others;
            }
            let switch = Underway {
                id: run.id.clone(),
                from: run.from.clone(),
                to: run.to.clone(),
                servers: labels(servers),
                stages,
                at: 0,
                errors: wanted.tolerance.percent,
                min_requests: wanted.tolerance.min_requests,
                retry: wanted.retry,
                required: wanted.required,
                seen: (0, 0),
                whole: false,
            };
            let before = state.switches.slots(&run.service);
            // Requests come before it is written, and a disk may take its time.
            let counts = counts(&state, run);
            keep(&state, run, InSlots { switch: Some(switch), ..before });
            return Departed::Yes(counts);
        }
        drop(state);
        tokio::time::sleep(TICK).await;
    }
}

/// Watches the new slot until it is over. `before`: what was counted of it when it moved; `None`: that was another process.
async fn watch(means: &Means, run: &Arc<Run>, before: Option<Counts>) {
    let origin = Instant::now();
    let mut begun: Option<(Switch, Watch)> = None;
    let mut overdue = Overdue::default();
    let mut news = (Instant::now(), Counts::default());
    // What a process saw that was killed, or that still ends, is not known.
    let mut whole = before.is_some();
    loop {
        let Some(state) = means.state.upgrade() else { return };
        let kept = state.switches.slots(&run.service);
        let Some(switch) = kept.switch.clone().filter(|switch| switch.id == run.id) else { return };
        let counts = counts(&state, run);
        let now = origin.elapsed();
        let (machine, watch) = begun.get_or_insert_with(|| {
            let before = before.unwrap_or(counts);
            let machine = Switch::begin(switch.stages(), switch.at, switch.tolerance(), before, now);
            let machine = machine.having_seen(switch.seen()).requiring(switch.required);
            whole |= switch.whole;
            run.is_whole(whole);
            if switch.seen() != Counts::default() {
                run.say(format!("until then, {}", seen_so_far(switch.seen())));
            }
            run.say(moved(machine.share(), run, machine.left(now)));
            (machine, Watch::begin(means, run, &switch.servers, origin))
        });
        let next = if run.is_aborted() {
            Err((Outcome::Aborted, wanted_back()))
        } else if servers(&state.active(), run).map(labels).as_ref() != Some(&switch.servers) {
            Err((Outcome::Returned, "the configuration has other servers for it, which nobody has asked".to_owned()))
        } else {
            match machine.look(counts, watch.ready(), now) {
                Next::Return(Regress::Errors(Counts { requests, errors })) => {
                    Err((Outcome::Returned, format!("{errors} of {requests} requests went wrong")))
                }
                Next::Return(Regress::Unready) => Err((Outcome::Returned, "a server is not ready any more".to_owned())),
                Next::Return(Regress::Unseen { requests, required }) => {
                    let known = if whole { "" } else { " that are known of" };
                    let why = format!("it was sent {requests} requests{known}, and {required} were required");
                    Err((Outcome::Returned, why))
                }
                next => Ok(next),
            }
        };
        let seen = machine.seen(counts);
        let phase = Phase::Moving { share: machine.share(), left: machine.left(now), seen };
        if let Err((outcome, why)) = next {
            if end(&state, run, outcome, &why) {
                return;
            }
        } else if next == Ok(Next::Done) {
            let unseen = whole && seen.requests == 0;
            if end(&state, run, Outcome::Done, if unseen { UNSEEN } else { "" }) {
                return;
            }
        } else {
            if overdue.is_news(machine.left(now).is_zero() && next == Ok(Next::Stay)) {
                run.say("the time is over: it goes on when every server has said that it is ready".to_owned());
            }
            if let Ok(Next::Share(share)) = next {
                watch.stage();
                run.say(format!("{}: {}", seen_so_far(seen), moved(share, run, machine.left(now))));
                news = (Instant::now(), seen);
            } else if news.0.elapsed() >= NEWS && news.1 != seen {
                run.say(seen_so_far(seen));
                news = (Instant::now(), seen);
            }
            run.moves_on(phase, counts);
            // Also where another process took over in between, and gave up: what is written is what requests see.
            // And should this process be killed, what it has seen is missing. Not behind its last word.
            if (switch.at != machine.stage() || switch.whole)
                && let Some(_held) = state.switches.hold()
                && !state.is_closing()
            {
                let switch = Underway { at: machine.stage(), whole: false, ..switch }.having_seen(seen);
                keep(&state, run, InSlots { switch: Some(switch), ..kept });
            }
        }
        drop(state);
        tokio::time::sleep(TICK).await;
    }
}

/// A stage whose time is over, and that waits for its servers.
#[derive(Debug, Default)]
struct Overdue {
    since: Option<Instant>,
    told: bool,
}

impl Overdue {
    /// Whether it is to be told. Not for the moment that an answer takes.
    fn is_news(&mut self, waits: bool) -> bool {
        if !waits {
            *self = Self::default();
            return false;
        }
        let long = self.since.get_or_insert_with(Instant::now).elapsed() >= WAITS;
        long && !std::mem::replace(&mut self.told, true)
    }
}

fn moved(share: u8, run: &Run, time: Duration) -> String {
    let to = &run.to;
    match share {
        switch::WHOLE if time.is_zero() => format!("all new requests go to {to}, which is not watched any longer"),
        switch::WHOLE => format!("all new requests go to {to}, which is watched for {time:?}"),
        share if time.is_zero() => format!("{share} % of the clients go to {to} for a moment"),
        share => format!("{share} % of the clients go to {to} for {time:?}"),
    }
}

fn seen_so_far(Counts { requests, errors }: Counts) -> String {
    format!("{errors} of {requests} requests went wrong")
}

/// It is over. `false`: another process takes over, and will see to it.
fn end(state: &State, run: &Run, outcome: Outcome, why: &str) -> bool {
    let Some(_held) = state.switches.hold() else { return false };
    let (from, to) = (run.from.clone(), run.to.clone());
    let winner = if outcome == Outcome::Done { to.clone() } else { from.clone() };
    let last = Ended {
        id: run.id.clone(),
        from: from.clone(),
        to,
        outcome: outcome.word().into(),
        why: why.to_owned(),
        at: unix_time(),
    };
    keep(state, run, InSlots { active: Some(winner), switch: None, last: Some(last) });
    state.slots.count_end(&run.service, outcome.word());
    let left = if outcome == Outcome::Done { &*run.from } else { &*run.to };
    run.say(match outcome {
        Outcome::Done if why.is_empty() => format!("{} has stood the time and stays", run.to),
        Outcome::Done => format!("{} has stood the time and stays, but {why}", run.to),
        _ => format!("all new requests go back to {from}: {why}"),
    });
    if let Some(count) = in_flight(state, run, left).filter(|count| *count > 0) {
        run.say(format!("{left} is still at {count} requests, which go on to their end"));
    }
    run.is_at(Phase::Ended(outcome, why.to_owned()));
    true
}

fn keep(state: &State, run: &Run, to: InSlots) {
    if let Some(why) = state.keep_slots(&run.service, to).unsaved {
        run.say(format!("this will not survive the process: {why}"));
    }
}

/// The servers of the slot, as they are written, each with whether it is drained. `None`: there is no such slot, or not the one that requests come from.
fn servers(active: &Active, run: &Run) -> Option<Vec<(Box<str>, bool)>> {
    let (_, slots, servers) = find(active, &run.service)?;
    slots.index(&run.from)?;
    let slot = slots.index(&run.to)?;
    let own = servers.sites().iter().filter(|site| site.slot == Some(slot));
    Some(own.map(|site| (site.label.clone(), site.state.is_drained())).collect())
}

fn labels(servers: Vec<(Box<str>, bool)>) -> Vec<Box<str>> {
    servers.into_iter().map(|(label, _)| label).collect()
}

/// What this process has counted of the new slot.
pub(super) fn counts(state: &State, run: &Run) -> Counts {
    let active = state.active();
    find(&active, &run.service)
        .and_then(|(_, slots, servers)| Some(servers.split()?.counts(slots.index(&run.to)?)))
        .unwrap_or_default()
}

fn in_flight(state: &State, run: &Run, slot: &str) -> Option<u64> {
    let active = state.active();
    let (_, slots, servers) = find(&active, &run.service)?;
    let slot = slots.index(slot)?;
    Some(servers.sites().iter().filter(|site| site.slot == Some(slot)).map(|site| site.state.in_flight()).sum())
}
