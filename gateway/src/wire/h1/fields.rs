//! Which field lines pass from one side to the other.

use super::framing::{self, Connection};
use crate::wire::head::{Field, FieldList, FieldView, Name};

/// Copies the field lines that pass on, runs of neighbouring lines at once. Hop-by-hop fields and those that `Connection` nominates
/// never pass (RFC 9110 §7.6.1); `keep` decides about the rest.
pub fn copy_fields(out: &mut Vec<u8>, fields: &FieldList, bytes: &[u8], keep: impl Fn(&Field) -> bool) {
    let view = FieldView { bytes, fields };
    let nominates = Connection::of(view).nominates;
    let mut run: Option<(u16, u16)> = None;
    for field in fields {
        let passes = match field.known {
            Name::Connection | Name::HopByHop | Name::TransferEncoding => false,
            // Framing is this hop's own business: a nomination can not take it away.
            Name::ContentLength => keep(field),
            _ => keep(field) && !(nominates && framing::nominated(view, field.name.of(bytes))),
        };
        run = match (run, passes) {
            (None, true) => Some((field.name.start, field.line_end)),
            (Some((start, _)), true) => Some((start, field.line_end)),
            (Some((start, end)), false) => {
                out.extend_from_slice(bytes.get(usize::from(start)..usize::from(end)).unwrap_or_default());
                None
            }
            (None, false) => None,
        };
    }
    if let Some((start, end)) = run {
        out.extend_from_slice(bytes.get(usize::from(start)..usize::from(end)).unwrap_or_default());
    }
}
