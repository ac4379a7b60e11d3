//! What the gateway wants from a store, whoever speaks to it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// An answer that is waited for.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Vec<i64>, Failed>> + 'a>>;

/// The same, of words.
pub type Telling<'a> = Pin<Box<dyn Future<Output = Result<Vec<String>, Failed>> + 'a>>;

/// A connection to the store, or several that act as one. What is asked at the same time goes out together, and nothing waits for an earlier answer.
pub trait Client {
    /// Runs the script with these keys and arguments. One round trip, or two when the server does not know the script yet. It ends when it is dropped.
    fn run<'a>(&'a self, keys: &'a [Vec<u8>], arguments: &'a [u64]) -> Answering<'a>;

    /// Runs the script that exchanges bans. One round trip, or two.
    fn tell<'a>(&'a self, keys: &'a [Vec<u8>], arguments: &'a [String]) -> Telling<'a>;

    /// Whether it can still be used, as far as is known without asking.
    fn is_open(&self) -> bool;

    /// Whether it replaces connections that break by itself. Where it leads to several servers, one that is gone does not break it.
    fn mends(&self) -> bool;
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub struct Failed {
    /// What kind of failure it is.
    pub kind: Failure,
    /// In words, for people.
    pub text: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer in time.
    Timeout,
    /// There is no connection.
    Unreachable,
    /// The connection broke, or is not the one to use any more.
    Broken,
    /// The server answered that it does not want to.
    Refused,
}

impl Failure {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Timeout, Self::Unreachable, Self::Broken, Self::Refused];

    /// One word for it: a metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::Refused => "refused",
        }
    }
}
