//! What is odd about limits.

use crate::config::ConfigPath;
use crate::config::compile::Context;
use crate::plan::{LimitKey, LimitPart};

/// A key of nothing but what clients choose. `path`: of the limit.
pub(in crate::config) fn chosen(key: &LimitKey, shadow: bool, path: &ConfigPath, cx: &mut Context<'_>) {
    let is_chosen =
        |part: &&LimitPart| matches!(part, LimitPart::Header(_) | LimitPart::Cookie(_) | LimitPart::Query(_));
    let proves =
        |part: &LimitPart| matches!(part, LimitPart::ClientIp | LimitPart::Token | LimitPart::ClientCertificate);
    let Some(part) = key.parts.iter().find(is_chosen).filter(|_| !shadow && !key.parts.iter().any(proves)) else {
        return;
    };
    let message = format!(
        "clients choose the {part} that this limit counts by: whoever sends another one each time is never refused, and whoever sends somebody else's uses up what belongs to that one"
    );
    let name = match part {
        LimitPart::Header(name) => format!("{{header: {name}}}"),
        LimitPart::Cookie(name) => format!("{{cookie: {name}}}"),
        LimitPart::Query(name) => format!("{{query: {name}}}"),
        _ => return,
    };
    let hint = format!(
        "write `key: [client_ip, {name}]`, and limit `client_ip` alone besides; or count a `token`, which is proved"
    );
    cx.lint(&path.key("key"), message, hint);
}
