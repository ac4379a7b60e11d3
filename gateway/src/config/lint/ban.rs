//! Lints about bans.

use crate::config::ConfigPath;
use crate::config::compile::{Context, Definitions};
use crate::plan::Offences;

/// Offences that nobody can commit.
pub(in crate::config) fn offences(
    offences: &Offences,
    definitions: &Definitions,
    path: &ConfigPath,
    cx: &mut Context<'_>,
) {
    if offences.limited && definitions.limits.iter().next().is_none() {
        let message = "`limited` counts nothing: there are no limits";
        cx.lint(&path.key("limited"), message, "define one under `limits`, or remove this");
    }
    if offences.wrong_token && definitions.tokens.iter().next().is_none() {
        let message = "`wrong_token` counts nothing: there are no tokens";
        cx.lint(&path.key("wrong_token"), message, "define some under `tokens`, or remove this");
    }
    if offences.wrong_token && offences.denied {
        let message = "`denied` counts wrong tokens already";
        cx.lint(&path.key("wrong_token"), message, "remove this");
    }
}
