//! The moment a request is judged at.

/// One reading of the caller's clocks, taken once per request, so that every rule judges the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic nanoseconds since an origin the caller fixes, never 0. Rate limits count in these.
    pub nanos: u64,
    /// Seconds since the Unix epoch. Token validity is written in these.
    pub unix: u64,
}
