//! How requests are handled: what a service says, and what its routes say otherwise.

use super::{Context, shaping};
use crate::config::shape::Toggle;
use crate::config::value::{Flag, Leaf, Size};
use crate::config::{ConfigPath, raw};
use crate::plan::{Bandwidth, Handling};

/// Where nothing is said. One mebibyte is nginx's bound for bodies as well.
pub(super) const DEFAULT: Handling = Handling {
    max_body: 1 << 20,
    buffer_request: true,
    buffer_response: true,
    compression: None,
    edits: None,
    errors: None,
    bandwidth: Bandwidth { rate: None, after: 0, per_client: None },
};

/// What is said at `path`; `base` where it is not.
pub(super) fn handling(
    max_body: Option<&Leaf<Size>>,
    buffering: Option<&Toggle<raw::Buffering>>,
    compression: Option<Toggle<raw::Compression>>,
    bandwidth: Option<&Toggle<raw::Bandwidth>>,
    path: &ConfigPath,
    base: &Handling,
    cx: &mut Context<'_>,
) -> Handling {
    let max_body = match max_body {
        // nginx's zero means "any size", a reader's means "none". Neither is guessed.
        Some(Leaf(Size(0))) => {
            cx.error(
                &path.key("max_body"),
                "`max_body` of zero would refuse every upload and every form",
                "write the largest body you expect, such as `1MiB`",
            );
            base.max_body
        }
        Some(Leaf(Size(bytes))) => *bytes,
        None => base.max_body,
    };
    let (buffer_request, buffer_response) = match buffering {
        None => (base.buffer_request, base.buffer_response),
        Some(Toggle::Off) => (false, false),
        Some(Toggle::On(raw::Buffering { request, response })) => {
            let or = |flag: &Option<Leaf<Flag>>, base| flag.as_ref().map_or(base, |Leaf(Flag(flag))| *flag);
            (or(request, base.buffer_request), or(response, base.buffer_response))
        }
    };
    let bandwidth = match bandwidth {
        None => base.bandwidth,
        Some(Toggle::Off) => Bandwidth::default(),
        Some(Toggle::On(raw)) => shaping::bandwidth(*raw, &path.key("bandwidth"), cx),
    };
    let compression = match compression {
        None => base.compression.clone(),
        Some(Toggle::Off) => None,
        Some(Toggle::On(raw)) => Some(Box::new(shaping::compression(raw, &path.key("compression"), cx))),
    };
    Handling {
        max_body,
        buffer_request,
        buffer_response,
        compression,
        bandwidth,
        edits: base.edits.clone(),
        errors: base.errors.clone(),
    }
}
