//! `explain`: what would become of the answer.

use probegate_policies::encoding::negotiate;
use probegate_policies::fields::Fields as _;

use super::Out;
use crate::plan::{Bandwidth, Compression, Handling};
use crate::wire::head::FieldView;

impl Out {
    /// What happens between the app's answer and the client.
    pub(super) fn answers(&mut self, handling: &Handling, fields: &FieldView<'_>) {
        if let Some(compression) = &handling.compression {
            self.line("answer", &compressed(compression, fields));
        }
        let Bandwidth { rate, after, per_client } = handling.bandwidth;
        if let Some(rate) = rate {
            let after = if after == 0 { String::new() } else { format!(" after the first {after} bytes") };
            self.line("answer", &format!("at most {} bytes a second{after}, unless the app says otherwise", rate.0));
        }
        if let Some(rate) = per_client {
            self.line("answer", &format!("at most {} bytes a second for all answers to this client", rate.0));
        }
    }
}

fn compressed(compression: &Compression, fields: &FieldView<'_>) -> String {
    let terms = &compression.terms;
    let accepted =
        fields.lines().filter(|(name, _)| name.eq_ignore_ascii_case(b"accept-encoding")).map(|(_, value)| value);
    let Some(coding) = negotiate(&accepted, &terms.codings) else {
        return "not compressed: the client takes none of the configured encodings".to_owned();
    };
    let types: Vec<_> = terms.types.iter().map(ToString::to_string).collect();
    format!(
        "compressed with `{}` (level {}) from {} bytes on, {}, if its type is one of {}",
        coding.as_str(),
        compression.levels.of(coding),
        terms.min_length,
        if terms.personal { "personal or not" } else { "unless it is personal" },
        types.join(", ")
    )
}
