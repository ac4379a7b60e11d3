//! What the gateway tells about itself: the access log, metrics, diagnostics.

pub mod access_log;
pub mod denials;
pub mod diagnostics;
pub mod history;
pub mod json;
pub mod metrics;
pub mod redact;
pub mod sparing;
