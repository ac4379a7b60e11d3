//! What is odd about the store of shared limits.

use crate::config::ConfigPath;
use crate::config::compile::Context;
use crate::plan::{self, OnFailure};

/// A store that nothing is counted in.
pub(in crate::config) fn store_in_use(limits: &[plan::Limit], bans: bool, path: &ConfigPath, cx: &mut Context<'_>) {
    if !bans && !limits.iter().any(|limit| limit.shared) {
        cx.lint(
            path,
            "no limit is counted in this store",
            "write `shared: true` for the limits that all gateways share",
        );
    }
}

/// Limits that would not be divided.
pub(in crate::config) fn store_replicas(
    on_failure: OnFailure,
    is_given: bool,
    path: &ConfigPath,
    cx: &mut Context<'_>,
) {
    if on_failure == OnFailure::Local && !is_given && !cx.is_broken(&path.key("replicas")) {
        let message =
            "nobody says how many gateways share the store: while it is gone, each of them lets pass the whole limit";
        cx.lint(path, message, "write `replicas: N`, or `replicas: 1` where there is one");
    }
}
