//! Keys about what becomes of answers on their way to the client.

use probegate_policies::encoding::MediaPattern;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::shape::List;
use crate::config::value::{ByteRateWord, CodingWord, Count, Flag, Leaf, Size};

/// Which answers are compressed, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{encodings: [br, gzip]}`")]
pub(in crate::config) struct Compression {
    /// The codings, in the order of preference for clients that have none. Default: `[zstd, br, gzip]`.
    pub(in crate::config) encodings: Option<List<Leaf<CodingWord>>>,
    /// Media types that are compressed, as `text/html`, `text/*` or `application/*+json`. Default: texts, scripts, data, SVG and fonts that are
    /// not compressed themselves. Never event streams and gRPC.
    pub(in crate::config) types: Option<List<Leaf<MediaPattern>>>,
    /// Shorter answers are sent as they are. Default: 256 bytes.
    pub(in crate::config) min_length: Option<Leaf<Size>>,
    /// Whether answers that look as if they were for one person are compressed, too: those that set a cookie, say `Cache-Control: private` or
    /// `no-store`, or vary by `Cookie` or `Authorization`. Their length can then tell a secret (BREACH). Default: `false`.
    pub(in crate::config) personal: Option<Leaf<Flag>>,
    /// How hard each coding tries.
    pub(in crate::config) levels: Option<Levels>,
}

/// How hard each coding tries: more takes more of the processor and makes less to send.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{gzip: 6}`")]
pub(in crate::config) struct Levels {
    /// 1 to 9. Default: 3.
    pub(in crate::config) zstd: Option<Leaf<Count>>,
    /// 0 to 6. Default: 4.
    pub(in crate::config) br: Option<Leaf<Count>>,
    /// 1 to 9. Default: 5.
    pub(in crate::config) gzip: Option<Leaf<Count>>,
}

/// How fast answers may go out.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{rate: 1MiB/s}`")]
pub(in crate::config) struct Bandwidth {
    /// Each answer. Default: as fast as its client takes it.
    pub(in crate::config) rate: Option<Leaf<ByteRateWord>>,
    /// Bytes of an answer that go as fast as they can, before `rate` counts. Default: 0.
    pub(in crate::config) after: Option<Leaf<Size>>,
    /// All answers to one client together, over all its connections. Default: no bound.
    pub(in crate::config) per_client: Option<Leaf<ByteRateWord>>,
}
