//! Memory for one request at a time. A connection borrows a workspace when bytes arrive and gives it back when it falls idle, so that
//! ten thousand idle connections hold none.

use std::cell::RefCell;

use crate::request::judge::Scratch;
use crate::wire::buffer::Buffer;
use crate::wire::head::{RequestHead, ResponseHead};

/// Size of the buffer for a request head at first; it grows to the configured bound.
const HEAD: usize = 2 * 1024;

/// Size of the buffers for bodies and answers, once there is a request that needs them.
const BODY: usize = 16 * 1024;

/// Bytes of memory for texts and heads that are kept for later.
const LARGE: usize = 32 * 1024;

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
}

/// The unused workspaces of a worker.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "workspaces are moved between connections as one pointer")]
pub struct Workspaces {
    unused: RefCell<Vec<Box<Workspace>>>,
}

impl Workspaces {
    /// A workspace with empty buffers.
    pub fn take(&self) -> Box<Workspace> {
        self.unused.borrow_mut().pop().unwrap_or_else(Workspace::new)
    }

    /// Gives back memory: few are needed again soon.
    pub fn shrink(&self) {
        let mut unused = self.unused.borrow_mut();
        unused.truncate(FEW);
        unused.shrink_to(FEW);
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
