//! Memory for one request at a time. A connection borrows a workspace when bytes arrive and gives it back when it falls idle, so that
//! ten thousand idle connections hold none.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::request::judge::Scratch;
use crate::wire::buffer::Buffer;
use crate::wire::head::{RequestHead, ResponseHead};

/// Size of the buffer for a request head at first; it grows to the configured bound.
const HEAD: usize = 2 * 1024;

/// Size of the buffers for bodies and answers, once there is a request that needs them.
const BODY: usize = 16 * 1024;

/// Bytes of memory for texts and heads that are kept for later.
const LARGE: usize = 32 * 1024;

/// Bytes of memory in one part of a workspace that nobody has needed for [`REST`]: what was larger was so for one large body or head.
const SMALL: usize = 16 * 1024;

/// How long a workspace may lie unused as large as it has become.
const REST: Duration = Duration::from_secs(1);

/// Workspaces kept by a worker for later.
const KEPT: usize = 256;

/// Of those, how many stay when many connections have ended.
const FEW: usize = 8;

/// Everything a request needs memory for.
#[derive(Debug)]
pub struct Workspace {
    /// The request head as received.
    pub head: Buffer,
    /// What follows the head.
    pub body: Buffer,
    /// Index of the request head.
    pub request: RequestHead,
    /// For the judgement.
    pub judge: Scratch,
    /// The head towards the upstream.
    pub errand: Vec<u8>,
    /// What the upstream sends.
    pub answer: Buffer,
    /// Index of its head.
    pub response: ResponseHead,
    /// The head towards the client.
    pub reply: Vec<u8>,
    /// Texts of the gateway's own answers.
    pub text: Vec<u8>,
}

impl Workspace {
    fn new() -> Box<Self> {
        Box::new(Self {
            head: Buffer::new(HEAD),
            body: Buffer::new(0),
            request: RequestHead::default(),
            judge: Scratch::default(),
            errand: Vec::new(),
            answer: Buffer::new(0),
            response: ResponseHead::default(),
            reply: Vec::new(),
            text: Vec::new(),
        })
    }
}

impl Workspace {
    /// The head is complete: memory for the rest. A client that never completes one holds little.
    pub fn furnish(&mut self) {
        self.body.grow(BODY);
        self.furnish_answer();
    }

    /// Parts what came behind a complete head from it: it belongs to the body, or to the next request.
    pub fn part(&mut self) {
        self.furnish();
        self.body.clear();
        let behind = self.head.filled().get(self.request.len..).unwrap_or_default();
        if !behind.is_empty() {
            self.body.grow(behind.len());
            self.body.extend(behind);
        }
        self.head.truncate(self.request.len);
    }

    /// The request is over: what is left behind it begins the next one. `false`: nothing is.
    pub fn carry(&mut self) -> bool {
        self.head.clear();
        let Self { head, body, .. } = self;
        if !body.is_empty() {
            head.grow(body.len());
            head.extend(body.filled());
        }
        !head.is_empty()
    }

    /// Memory for an answer only: bodies of HTTP/2 need none here.
    pub fn furnish_answer(&mut self) {
        self.answer.grow(BODY);
    }

    /// Gives back what large heads and bodies have needed.
    fn trim(&mut self) {
        for (buffer, first) in [(&mut self.head, HEAD), (&mut self.body, 0), (&mut self.answer, 0)] {
            if buffer.size() > SMALL {
                *buffer = Buffer::new(first);
            }
        }
        for text in [&mut self.errand, &mut self.reply, &mut self.text] {
            if text.capacity() > SMALL {
                *text = Vec::new();
            }
        }
    }
}

/// The unused workspaces of a worker.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "workspaces are moved between connections as one pointer")]
pub struct Workspaces {
    /// Taken from the end and put there.
    unused: RefCell<Vec<Box<Workspace>>>,
    /// So many in front were not needed since the last look.
    spare: Cell<usize>,
    /// So many of them are small.
    small: Cell<usize>,
    looked: Cell<Duration>,
}

impl Workspaces {
    /// A workspace with empty buffers.
    pub fn take(&self) -> Box<Workspace> {
        let mut unused = self.unused.borrow_mut();
        let Some(workspace) = unused.pop() else { return Workspace::new() };
        self.spare.set(self.spare.get().min(unused.len()));
        workspace
    }

    /// Makes those small that nobody has needed for a while. What comes again and again finds its workspace as large as it left it.
    pub fn sweep(&self, now: Duration) {
        if now.saturating_sub(self.looked.get()) < REST {
            return;
        }
        self.looked.set(now);
        let mut unused = self.unused.borrow_mut();
        let spare = self.spare.replace(unused.len());
        let small = self.small.replace(spare).min(spare);
        unused.iter_mut().take(spare).skip(small).for_each(|workspace| workspace.trim());
    }

    /// Gives back memory: few are needed again soon.
    pub fn shrink(&self) {
        let mut unused = self.unused.borrow_mut();
        unused.truncate(FEW);
        unused.shrink_to(FEW);
        self.spare.set(self.spare.get().min(unused.len()));
    }

    /// Gives a workspace back.
    pub fn put(&self, mut workspace: Box<Workspace>) {
        let mut unused = self.unused.borrow_mut();
        if unused.len() < KEPT {
            workspace.head.clear();
            workspace.body.clear();
            workspace.answer.clear();
            for text in [&mut workspace.text, &mut workspace.reply] {
                // A page may have been large, and the next one is far.
                if text.capacity() > LARGE {
                    *text = Vec::new();
                }
            }
            unused.push(workspace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a workspace holds after a large body and a large head.
    fn large(workspaces: &Workspaces) -> Box<Workspace> {
        let mut workspace = workspaces.take();
        workspace.head.grow(60 << 10);
        workspace.body.grow(64 << 10);
        workspace.answer.grow(64 << 10);
        workspace.errand.reserve(60 << 10);
        workspace
    }

    fn held(workspaces: &Workspaces) -> usize {
        let unused = workspaces.unused.borrow();
        let of = |it: &Workspace| it.head.size() + it.body.size() + it.answer.size() + it.errand.capacity();
        unused.iter().map(|workspace| of(workspace)).sum()
    }

    #[test]
    fn what_large_bodies_needed_is_given_back_when_nobody_needs_it_any_more() {
        let workspaces = Workspaces::default();
        let many: Vec<_> = (0..100).map(|_| large(&workspaces)).collect();
        for workspace in many {
            workspaces.put(workspace);
        }
        let mut now = Duration::from_secs(5);
        workspaces.sweep(now);
        assert!(held(&workspaces) >= 100 * (248 << 10), "they are needed a moment ago");
        for _ in 0..3 {
            // Large bodies go on, two at a time.
            let two = [large(&workspaces), large(&workspaces)];
            for workspace in two {
                workspaces.put(workspace);
            }
            now += REST / 2;
            workspaces.sweep(now);
            now += REST / 2;
            workspaces.sweep(now);
            let held = held(&workspaces);
            assert!((2 * (248 << 10)..2 * (256 << 10) + 98 * HEAD).contains(&held), "{held}");
        }
        // And when they have ended as well, nothing large is left.
        workspaces.sweep(now + REST);
        workspaces.sweep(now + 2 * REST);
        assert_eq!((workspaces.unused.borrow().len(), held(&workspaces)), (100, 100 * HEAD));
        workspaces.shrink();
        assert_eq!((workspaces.unused.borrow().len(), held(&workspaces)), (FEW, FEW * HEAD));
        // It serves as before.
        assert!(large(&workspaces).answer.room() >= 64 << 10);
    }
}
