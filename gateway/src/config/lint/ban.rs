//! Lints about bans.

use crate::config::ConfigPath;
use crate::config::compile::{Context, Definitions};
use crate::plan::{Limit, Offences};

/// Answers with 404 that say more about the client than about the site.
const MANY: usize = 10;

/// Offences that nobody can commit.
pub(in crate::config) fn offences(
    offences: &Offences,
    definitions: &Definitions,
    limits: &[Limit],
    path: &ConfigPath,
    cx: &mut Context<'_>,
) {
    if offences.limited && limits.is_empty() {
        let message = "`limited` counts nothing: there are no limits";
        cx.lint(&path.key("limited"), message, "define one under `limits`, or remove this");
    }
    if offences.limited && !limits.is_empty() && !limits.iter().any(|limit| limit.key.is_one_client()) {
        let message = "`limited` counts nothing: others can use up these limits";
        let hint = "only a limit counts whose `key` has `client_ip` in it, and tells addresses (of IPv6: networks of 64 bits) apart";
        cx.lint(&path.key("limited"), message, hint);
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

/// Answers that honest clients get as well: a page with broken links is an offence for each of them. `path`: of the ban.
pub(in crate::config) fn honest(offences: &Offences, max: usize, path: &ConfigPath, cx: &mut Context<'_>) {
    if offences.statuses.contains(&404) && max < MANY {
        let message = format!("{max} answers with 404 ban a client: a page with a few broken links is enough for that");
        let hint = format!(
            "write `max_offences: {MANY}` or more, or say where they count with `paths`; try it with `mode: shadow`"
        );
        cx.lint(&path.key("offences").key("status"), message, hint);
    }
}
