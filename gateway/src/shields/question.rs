//! What an app is asked, as far as clients have a say in it.

/// Bytes of a question that is known.
const LONGEST: usize = 1024;

/// What the app is asked beyond what the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The host, where the client says it. Lower-case.
    pub host: Box<[u8]>,
    /// The query with its `?`, or nothing.
    pub query: Box<[u8]>,
    /// `Accept`; `*/*` where none was sent.
    pub accept: Box<[u8]>,
}

impl Question {
    /// Whether it is short enough to be kept.
    pub fn is_short(&self) -> bool {
        self.host.len() + self.query.len() + self.accept.len() <= LONGEST
    }
}
