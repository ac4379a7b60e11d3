//! Who may ask, and who may turn something.
//!
//! Where the configuration names tokens, whoever comes over TCP has to present one: of either set to look, of the set for writing to change something.
//! Without tokens, anybody on this machine may do both over a loopback address, and nobody over any other. Whoever may open the gateway's Unix socket may
//! do both: who that is, is the business of the file's owner and mode.
//!
//! A browser on this machine is nobody's servant: what a strange page has it send lacks the field that has to be there to change something, as such a
//! page may not add it without being allowed to (a preflight, which is refused); and a name that was made to lead here is not an address.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use probegate_policies::access::{Refusal, TokenSet};
use probegate_policies::fields::Fields as _;
use probegate_policies::reason::Reason;

use super::route::{Access, Refused};
use crate::local::{Peer, Request};
use crate::plan::AdminTokens;
use crate::wire::head::{FieldView, Name};

/// What has to be there to change something, so that no page can send it.
pub const FIELD: &str = "X-Probegate-Control";

/// Who asked, as far as anybody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Somebody at this address, who had nothing to show.
    Address(SocketAddr),
    /// Whoever has this token: its set and its slot, and from where.
    Token(Box<str>, Box<str>, SocketAddr),
    /// A process of this machine.
    User(u32, Option<i32>),
}

impl Who {
    /// Of a request that shows nothing.
    pub(super) fn of(peer: Peer) -> Self {
        match peer {
            Peer::Tcp(address) => Self::Address(address),
            Peer::Unix { user, process } => Self::User(user, process),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{}", address.ip()),
            Self::Token(set, slot, address) => write!(f, "token {set}/{slot} from {}", address.ip()),
            Self::User(user, None) => write!(f, "user {user}"),
            Self::User(user, Some(process)) => write!(f, "user {user}, process {process}"),
        }
    }
}

/// Whether this request may do what it asks for, and who that is. `address`: where the listener is; `None`: at a path.
///
/// # Errors
/// Why it may not.
pub(super) fn judge(
    access: Access,
    request: &Request<'_>,
    address: Option<SocketAddr>,
    tokens: &AdminTokens,
    unix: u64,
) -> Result<Who, Refused> {
    let nobody = Who::of(request.peer);
    if access == Access::Open || access == Access::Metrics && !tokens.is_empty() && tokens.open_metrics {
        return Ok(nobody);
    }
    let asked = request.fields.lines().any(|(name, _)| name.eq_ignore_ascii_case(FIELD.as_bytes()));
    if access == Access::Write && !asked {
        let text = format!("the field `{FIELD}: 1` is missing, which keeps pages of the Web from turning switches");
        return Err((403, "field_missing", text));
    }
    let (Peer::Tcp(from), Some(address)) = (request.peer, address) else { return Ok(nobody) };
    if !tokens.is_empty() {
        return present(access, request.fields, tokens, unix).map(|(set, slot)| Who::Token(set, slot, from));
    }
    if !address.ip().is_loopback() {
        let text = "this is answered over a loopback address only, unless `admin` names tokens".to_owned();
        return Err((403, "not_loopback", text));
    }
    if !names_address(request.fields) {
        let text = "`Host` has to be an address or `localhost`: another name may lead here without belonging here";
        return Err((403, "host_not_an_address", text.to_owned()));
    }
    Ok(nobody)
}

/// The set and the slot of the token that is presented.
fn present(
    access: Access,
    fields: FieldView<'_>,
    tokens: &AdminTokens,
    unix: u64,
) -> Result<(Box<str>, Box<str>), Refused> {
    let check = |set: &TokenSet| {
        let slot = match set.check(&fields, unix) {
            Err(why @ (Refusal::TokenMissing | Refusal::TokenWrong)) => bearer(set, fields, unix, why)?,
            checked => checked?,
        };
        Ok::<_, Refusal>((set.name.clone(), set.slots().get(slot).map(|slot| slot.name.clone()).unwrap_or_default()))
    };
    let written = tokens.write.as_deref().map(check);
    if let Some(Ok(found)) = written {
        return Ok(found);
    }
    let read = tokens.read.as_deref().map(check);
    match (access, read, written) {
        (Access::Write, Some(Ok(_)), _) => {
            let text = match &tokens.write {
                Some(set) => format!("this token is for reading: changes take one of `{}`", set.name),
                None => "the configuration names no tokens for changes (`admin.tokens.write`)".to_owned(),
            };
            Err((403, "token_read_only", text))
        }
        (_, Some(Ok(found)), _) => Ok(found),
        (Access::Write, _, None) => {
            let text = "the configuration names no tokens for changes (`admin.tokens.write`)".to_owned();
            Err((403, "token_read_only", text))
        }
        (_, read, written) => {
            let why = |checked: Option<Result<_, Refusal>>| checked.and_then(Result::err);
            // Of both, what says more: that there was a token.
            let mut whys = [why(read), why(written)].into_iter().flatten();
            let first = whys.next().unwrap_or(Refusal::TokenMissing);
            let why = if first == Refusal::TokenMissing { whys.next().unwrap_or(first) } else { first };
            let reason = Reason::from(why);
            let mut wanted: Vec<_> =
                [&tokens.write, &tokens.read].into_iter().flatten().map(|set| set.field.as_str()).collect();
            wanted.dedup();
            let (text, wanted) = (reason.text(), wanted.join("` or `"));
            let text = format!("{text}: `admin` asks for one in `{wanted}`, or as `Authorization: Bearer TOKEN`");
            Err((403, reason.label(), text))
        }
    }
}

/// The slot of the token that comes as programs send tokens that know no other field (RFC 6750 §2.1). `why`: there is none in the set's own field.
fn bearer(set: &TokenSet, fields: FieldView<'_>, unix: u64, why: Refusal) -> Result<usize, Refusal> {
    const SCHEME: &[u8] = b"bearer ";
    if why == Refusal::TokenWrong && !set.field.matches(b"authorization") {
        return Err(why);
    }
    let mut lines = fields.of(Name::Authorization);
    let (Some(line), more) = (lines.next(), lines.next()) else { return Err(why) };
    if more.is_some() {
        return Err(Refusal::TokenDuplicated);
    }
    match line.split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => {
            set.check(&[(set.field.as_bytes(), token)][..], unix)
        }
        _ => Err(why),
    }
}

/// Who asks, as far as they show it, whatever they may do.
pub(super) fn known(request: &Request<'_>, address: Option<SocketAddr>, tokens: &AdminTokens, unix: u64) -> Who {
    let nobody = Who::of(request.peer);
    let (Peer::Tcp(from), Some(_)) = (request.peer, address) else { return nobody };
    let shown = present(Access::Read, request.fields, tokens, unix);
    shown.map_or(nobody, |(set, slot)| Who::Token(set, slot, from))
}

/// When the token ends to be good that was presented, in seconds since the epoch; `None`: never, or there was none.
pub(super) fn expiry(who: &Who, tokens: &AdminTokens) -> Option<u64> {
    let Who::Token(set, slot, _) = who else { return None };
    let set = [&tokens.read, &tokens.write].into_iter().flatten().find(|known| known.name == *set)?;
    set.slots().iter().find(|known| known.name == *slot)?.expires
}

/// Whether the one `Host` is an address or `localhost`, with a port or without.
fn names_address(fields: FieldView<'_>) -> bool {
    let mut hosts = fields.of(Name::Host);
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let bracketed = |text: &str| text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let (name, port) = host.rsplit_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    host.parse::<SocketAddr>().is_ok()
        || host.parse::<IpAddr>().is_ok()
        || bracketed(host).is_some()
        || name.eq_ignore_ascii_case("localhost") && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::h1::request::{HeadBounds, RequestParser};
    use crate::wire::head::RequestHead;

    #[test]
    fn a_host_is_one_address_or_localhost() {
        let names = |fields: &str| {
            let bytes = format!("GET / HTTP/1.1\r\n{fields}\r\n").into_bytes();
            let mut head = RequestHead::default();
            let bounds = HeadBounds { head: 1024, fields: 10, target: 100 };
            assert_eq!(RequestParser::default().advance(&bytes, &bounds, &mut head), Ok(true), "{fields}");
            names_address(FieldView { bytes: &bytes, fields: &head.fields })
        };
        for host in ["127.0.0.1", "127.0.0.1:9900", "[::1]", "[::1]:9900", "localhost", "LocalHost:9900", "192.0.2.7:1"]
        {
            assert!(names(&format!("Host: {host}\r\n")), "{host}");
        }
        for host in [
            "evil.com",
            "localhost:evil.com",
            "localhost:",
            "localhost:99999",
            "localhost.evil.com",
            "127.0.0.1.evil.com",
            "127.0.0.1:evil.com",
            "[127.0.0.1]",
            "[::1].evil.com",
            "evil.com:80",
            "a@localhost",
        ] {
            assert!(!names(&format!("Host: {host}\r\n")), "{host}");
        }
        assert!(!names(""), "there is none");
        assert!(!names("Host: 127.0.0.1\r\nHost: evil.com\r\n"), "there are two");
        assert!(!names("Host: 127.0.0.1\r\nhost: 127.0.0.1\r\n"), "there are two, alike");
    }
}
