//! Who may turn switches.
//!
//! Anybody on this machine may, over a loopback address, unless a token is configured; over any other address, only who has the token. A browser on this
//! machine is nobody's servant: what a strange page has it send lacks the field that has to be there, as such a page may not add it without being
//! allowed to (a preflight, which is refused), and a name that was made to lead here is not an address.

use std::net::{IpAddr, SocketAddr};

use probegate_policies::access::TokenSet;
use probegate_policies::fields::Fields as _;

use super::route::{Access, Refused};
use crate::local::Request;
use crate::wire::head::{FieldView, Name};

/// What has to be there, so that no page can send it.
pub const FIELD: &str = "X-Probegate-Control";

/// Whether this request may do what it asks for. `address` is where the admin listener is.
///
/// # Errors
/// Why it may not.
pub(super) fn judge(
    access: Access,
    request: &Request<'_>,
    address: SocketAddr,
    tokens: Option<&TokenSet>,
    unix: u64,
) -> Result<(), Refused> {
    if access == Access::Open {
        return Ok(());
    }
    let asked =
        access == Access::Read || request.fields.lines().any(|(name, _)| name.eq_ignore_ascii_case(FIELD.as_bytes()));
    if !asked {
        let text = format!("the field `{FIELD}: 1` is missing, which keeps pages of the Web from turning switches");
        return Err((403, "field_missing", text));
    }
    match tokens {
        Some(tokens) => match tokens.check(&request.fields, unix) {
            Ok(_) => Ok(()),
            Err(refusal) => {
                let reason = probegate_policies::reason::Reason::from(refusal);
                Err((
                    403,
                    reason.label(),
                    format!("{}: `admin.token` asks for one in `{}`", reason.text(), tokens.field),
                ))
            }
        },
        None if !address.ip().is_loopback() => {
            let text =
                "switches are turned over a loopback address only, unless `admin.token` is configured".to_owned();
            Err((403, "not_loopback", text))
        }
        None if !names_address(request.fields) => {
            let text = "`Host` has to be an address or `localhost`: another name may lead here without belonging here"
                .to_owned();
            Err((403, "host_not_an_address", text))
        }
        None => Ok(()),
    }
}

fn names_address(fields: FieldView<'_>) -> bool {
    let Some(host) = fields.first(Name::Host).and_then(|host| std::str::from_utf8(host).ok()) else { return false };
    let bracketed = |text: &str| text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    host.parse::<SocketAddr>().is_ok()
        || host.parse::<IpAddr>().is_ok()
        || bracketed(host).is_some()
        || name.eq_ignore_ascii_case("localhost")
}
