//! `Strict-Transport-Security`.

use probegate_policies::hsts::Hsts;

use super::Context;
use crate::config::value::{Date, Flag, Leaf, Seconds};
use crate::config::{ConfigPath, lint, raw};

/// What browser vendors ask of a site on their lists: a year.
const PRELOAD_MIN: u64 = 31_536_000;

pub(super) fn hsts(raw: raw::Hsts, path: &ConfigPath, cx: &mut Context<'_>) -> Option<Hsts> {
    let raw::Hsts { max_age, since, include_subdomains, preload } = raw;
    let flag = |raw: Option<Leaf<Flag>>| raw.is_some_and(|Leaf(Flag(value))| value);
    let (include_subdomains, preload) = (flag(include_subdomains), flag(preload));
    let Leaf(Seconds(max_age)) = cx.required(max_age, path, "max_age", "max_age: 8760h")?;
    if max_age.subsec_nanos() != 0 {
        // Cut to whole seconds, `500ms` would be 0, which takes the promise back.
        cx.error(
            &path.key("max_age"),
            "`max_age` has a part of a second: browsers count in whole ones",
            "write `1s` or more, such as `5m`; `0s` makes browsers forget",
        );
    }
    let max_age = max_age.as_secs();
    if preload && (max_age < PRELOAD_MIN || !include_subdomains || since.is_some()) {
        cx.error(
            &path.key("preload"),
            "browsers take a site on their lists only with a year for all subdomains, and not on a ramp",
            "write `max_age: 8760h` and `include_subdomains: true`, and remove `since`",
        );
    }
    let since = since.map(|Leaf(Date(seconds))| seconds);
    if let Some(since) = since {
        lint::ramp(since, &path.key("since"), cx);
    }
    Some(Hsts { max_age, since, include_subdomains, preload })
}
