//! Whether the servers of the new slot stay ready: each is asked every second, by itself, so that one that hangs hides nobody.
//!
//! Invariant: who has not answered has not passed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use probegate_policies::switch::Ready;
use tokio::task::{JoinHandle, spawn_local};

use super::{Means, Run, ask, find};
use crate::wire::deadline::TICK;

/// From one question to a server to the next.
const EVERY: Duration = Duration::from_secs(1);

/// Asks as long as it is there.
#[derive(Debug)]
pub(super) struct Watch {
    heard: Rc<Heard>,
    tasks: Vec<JoinHandle<()>>,
}

/// What is known.
#[derive(Debug)]
struct Heard {
    /// What times are told since.
    origin: Instant,
    /// When the stage began, for which everybody is asked again.
    since: Cell<Duration>,
    /// By server.
    each: RefCell<Vec<One>>,
}

/// What is known about one server.
#[derive(Clone, Copy, Debug)]
enum One {
    /// It is drained: it gets no requests, and is not asked.
    Drained,
    /// The app does not answer such questions.
    Untold,
    /// It was asked.
    Asked {
        /// How many times in a row it has failed.
        failed: u32,
        /// When it was asked last what it has passed.
        passed: Option<Duration>,
    },
}

/// Nothing is known yet.
const UNHEARD: One = One::Asked { failed: 0, passed: None };

impl Watch {
    /// Of the slot that a switch moves to, whose servers these are.
    pub(super) fn begin(means: &Means, run: &Arc<Run>, servers: &[Box<str>], origin: Instant) -> Self {
        let heard = Heard { origin, since: Cell::default(), each: RefCell::new(vec![UNHEARD; servers.len()]) };
        let heard = Rc::new(heard);
        let tasks = servers.iter().enumerate().map(|(at, server)| {
            spawn_local(watch(means.clone(), Arc::clone(run), Rc::clone(&heard), (at, server.clone())))
        });
        let tasks = tasks.collect();
        Self { heard, tasks }
    }

    /// What is known about all of them together.
    pub(super) fn ready(&self) -> Ready {
        let (mut worst, mut first, mut asked) = (0, None, false);
        for one in self.heard.each.borrow().iter() {
            match *one {
                One::Drained => {}
                One::Untold => return Ready::Untold,
                One::Asked { failed, passed } => {
                    worst = worst.max(failed);
                    // `None`, who has not passed at all, is before everything.
                    first = if asked { passed.min(first) } else { passed };
                    asked = true;
                }
            }
        }
        Ready::Told { failed: worst, passed: first }
    }

    /// A stage begins: who has a second to go is asked at once.
    pub(super) fn stage(&self) {
        self.heard.since.set(self.heard.origin.elapsed());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn watch(means: Means, run: Arc<Run>, heard: Rc<Heard>, (at, server): (usize, Box<str>)) {
    let mut failed = 0;
    let mut passed = None;
    let mut told = false;
    let set = |one| {
        if let Some(known) = heard.each.borrow_mut().get_mut(at) {
            *known = one;
        }
    };
    loop {
        let begun = heard.origin.elapsed();
        let Some(active) = means.state.upgrade().map(|state| state.active()) else { return };
        let kind = find(&active, &run.service).and_then(|(service, ..)| ask::readiness(service));
        let finding = match kind {
            Some(kind) => ask::server(&means, &active, &run, &server, kind).await,
            None => None,
        };
        if kind.is_none() {
            set(One::Untold);
            // Once is enough, for all of them.
            if at == 0 && !std::mem::replace(&mut told, true) {
                run.say("readiness is not watched: the app answers neither readyz nor healthz".to_owned());
            }
        } else if let Some(finding) = finding {
            let why = match finding.answer {
                Ok(200..=299) => None,
                Ok(status) => Some(format!("answers with status {status}")),
                Err(why) => Some(format!("is not answered: {why}")),
            };
            if let Some(why) = why {
                failed += 1;
                run.say(format!("{server}: {} {why}", finding.probe.name()));
            } else {
                (failed, passed) = (0, Some(begun));
            }
            set(One::Asked { failed, passed });
        } else {
            (failed, passed) = (0, None);
            set(One::Drained);
        }
        drop(active);
        let due = || heard.origin.elapsed() >= begun + EVERY || begun < heard.since.get();
        loop {
            tokio::time::sleep(TICK).await;
            if due() {
                break;
            }
        }
    }
}
