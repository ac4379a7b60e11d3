//! What the gateway tells about itself: the access log, metrics, diagnostics.

pub mod access_log;
pub mod diagnostics;
pub mod json;
pub mod metrics;
pub mod redact;
