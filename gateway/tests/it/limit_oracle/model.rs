//! What a limit may have done to a request, by what is known of the moment at which the program looked at it.
//!
//! The arithmetic is exact, the moments are not: each lies in an interval. So does the debt of a bucket, and where both fates lie in it, both are right.

/// A limit in milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// Requests in `seconds`.
    pub(super) count: u32,
    pub(super) seconds: u32,
    pub(super) burst: u32,
    /// `None`: nobody waits.
    pub(super) delay: Option<u32>,
}

impl Spec {
    fn interval(&self) -> f64 {
        f64::from(self.seconds) * 1000.0 / f64::from(self.count)
    }

    fn window(&self) -> f64 {
        self.interval() * (f64::from(self.burst) + 1.0)
    }

    /// Debt that keeps nobody waiting.
    fn free(&self) -> f64 {
        self.delay.map_or(f64::INFINITY, |delay| self.interval() * (f64::from(delay) + 1.0))
    }
}

/// A range of milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) least: f64,
    pub(super) most: f64,
}

/// What a program did to a request, and what is known of when.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// When its clock was read.
    pub(super) at: Range,
    pub(super) admitted: bool,
    /// How long it said that an admitted request waits, and how exactly.
    pub(super) delay: Option<Range>,
}

/// Milliseconds that floating point may be wrong by.
const CRUMB: f64 = 1e-6;

/// What is known of a bucket.
#[derive(Debug)]
struct Bucket {
    spec: Spec,
    /// When it is empty.
    empty: Range,
    /// What it held at most after the last request, and the latest moment of that one.
    held: (f64, f64),
}

impl Bucket {
    /// What it holds when a request comes.
    fn debt(&self, at: Range) -> Range {
        // Clocks do not go back: since the last request, no less than nothing has flowed out.
        let most = (self.held.0 - (at.least - self.held.1).max(0.0)).max(0.0);
        Range { least: (self.empty.least - at.most).max(0.0), most: (self.empty.most - at.least).max(0.0).min(most) }
    }

    fn may_admit(&self, at: Range) -> bool {
        self.debt(at).least + self.spec.interval() <= self.spec.window() + CRUMB
    }

    fn may_refuse(&self, at: Range) -> bool {
        self.debt(at).most + self.spec.interval() > self.spec.window() + CRUMB
    }

    /// How long a request waits that is admitted.
    fn delay(&self, at: Range) -> Range {
        let (debt, interval, free) = (self.debt(at), self.spec.interval(), self.spec.free());
        let most = debt.most.min(self.spec.window() - interval);
        Range { least: (debt.least + interval - free).max(0.0), most: (most + interval - free).max(0.0) }
    }

    /// It was admitted, and said to wait for so long where that is known.
    fn admit(&mut self, at: Range, said: Option<Range>) {
        let (mut debt, interval) = (self.debt(at), self.spec.interval());
        debt.most = debt.most.min(self.spec.window() - interval);
        if let Some(said) = said.filter(|said| said.least > 0.0) {
            debt.least = debt.least.max(said.least + self.spec.free() - interval);
            debt.most = debt.most.min(said.most + self.spec.free() - interval);
        }
        let before = self.empty;
        self.empty = Range {
            least: before.least.max(at.least + debt.least) + interval,
            most: before.most.max(at.most).min(at.most + debt.most) + interval,
        };
        self.held = (debt.most + interval, at.most);
    }

    /// It was refused, and no other limit could have been the reason.
    fn refuse(&mut self, at: Range) {
        self.empty.least = self.empty.least.max(at.least + self.spec.window() - self.spec.interval());
    }
}

/// Follows a program through the requests of one trace. For each request, whether it could have fared otherwise; an error where it could not have fared as it did.
pub(super) fn follow(specs: &[Spec], observed: &[Observed]) -> Result<Vec<bool>, String> {
    let mut buckets: Vec<Bucket> = specs
        .iter()
        .map(|spec| Bucket { spec: spec.clone(), empty: Range { least: 0.0, most: 0.0 }, held: (0.0, 0.0) })
        .collect();
    let mut open = vec![false; observed.len()];
    for index in order(observed) {
        let Observed { at, admitted, delay } = observed[index].clone();
        let may_pass = buckets.iter().all(|bucket| bucket.may_admit(at));
        let may_fail = buckets.iter().any(|bucket| bucket.may_refuse(at));
        open[index] = may_pass && may_fail;
        if !(if admitted { may_pass } else { may_fail }) {
            return Err(format!("request {index} was {admitted:?} at {at:?}: {buckets:?}"));
        }
        if !admitted {
            if let [bucket] = buckets.as_mut_slice() {
                bucket.refuse(at);
            }
            continue;
        }
        let expected =
            buckets.iter().map(|bucket| bucket.delay(at)).fold(Range { least: 0.0, most: 0.0 }, |all, one| Range {
                least: all.least.max(one.least),
                most: all.most.max(one.most),
            });
        if let Some(said) = delay
            && (said.most + 1.0 < expected.least || said.least - 1.0 > expected.most)
        {
            return Err(format!("request {index} waits for {said:?} instead of {expected:?} at {at:?}: {buckets:?}"));
        }
        let said = delay.filter(|_| buckets.len() == 1);
        for bucket in &mut buckets {
            bucket.admit(at, said);
        }
    }
    Ok(open)
}

/// The order in which they may have been looked at. Those whose moments overlap could have been in any order: refused ones change nothing, so that the others come
/// first, by how long they wait.
fn order(observed: &[Observed]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..observed.len()).collect();
    order.sort_by(|&a, &b| observed[a].at.least.total_cmp(&observed[b].at.least));
    let mut from = 0;
    while from < order.len() {
        let mut to = from + 1;
        let mut most = observed[order[from]].at.most;
        while to < order.len() && observed[order[to]].at.least <= most {
            most = most.max(observed[order[to]].at.most);
            to += 1;
        }
        let key = |index: &usize| {
            let observed = &observed[*index];
            (!observed.admitted, observed.delay.map_or(0.0, |delay| delay.least))
        };
        order[from..to].sort_by(|a, b| {
            let ((refused, delay), (other_refused, other_delay)) = (key(a), key(b));
            // They were sent in the order of their numbers, which is the best guess where nothing else tells.
            refused.cmp(&other_refused).then(delay.total_cmp(&other_delay)).then(a.cmp(b))
        });
        from = to;
    }
    order
}

#[test]
fn the_model_knows_what_is_certain() {
    let spec = [Spec { count: 10, seconds: 1, burst: 5, delay: None }];
    let at = |millis: f64, admitted| Observed {
        at: Range { least: millis - 2.0, most: millis + 2.0 },
        admitted,
        delay: None,
    };
    let admitted = |count: usize| (0..8).map(|index| at(1000.0, index < count)).collect::<Vec<_>>();
    assert_eq!(follow(&spec, &admitted(6)), Ok(vec![false; 8]));
    assert!(follow(&spec, &admitted(5)).is_err(), "one too few");
    assert!(follow(&spec, &admitted(7)).is_err(), "one too many");
    let mut later = admitted(6);
    later.push(at(1100.0, true));
    assert_eq!(follow(&spec, &later).map(|open| open[8]), Ok(true), "2 ms earlier it would have been refused");
}
