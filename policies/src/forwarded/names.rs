//! The names that proxies tell about clients under.

/// The family of `X-Forwarded-For`, whose members are too many to list: `-Proto`, `-Host`, `-Port`, `-Prefix`, `-Ssl`,
/// `-Scheme`, `-Server`, `-By`, `-Uri`, `-Client-Cert` and so on. Somebody reads each of them.
const FAMILY: &[u8] = b"x-forwarded-";

/// Whether a field, named as received, tells about the client or the original request and is therefore never passed on.
///
/// `_` counts as `-`, as it does for the applications that would read it (D16). Called for every field of every
/// request: the length rules out nearly all of them.
#[inline]
pub fn is_forwarding_field(wire_name: &[u8]) -> bool {
    let alike: &[&[u8]] = match wire_name.len() {
        // No claim about a client, but libraries take it for one about their own proxy (httpoxy).
        5 => &[b"proxy"],
        8 => &[b"x-scheme"],
        9 => &[b"forwarded", b"x-real-ip", b"client-ip"],
        11 => &[b"x-client-ip", b"x-remote-ip", b"x-forwarded"],
        12 => &[b"x-request-id", b"x-url-scheme"],
        13 => &[b"x-rewrite-url", b"x-remote-addr", b"forwarded-for"],
        14 => &[b"true-client-ip", b"x-original-url", b"x-original-uri"],
        15 => &[b"x-original-host", b"front-end-https", b"proxy-client-ip"],
        16 => &[b"cf-connecting-ip", b"fastly-client-ip", b"x-azure-clientip"],
        18 => &[b"cf-connecting-ipv6", b"wl-proxy-client-ip"],
        19 => &[b"x-cluster-client-ip"],
        24 => &[b"x-original-forwarded-for", b"x-envoy-external-address"],
        _ => &[],
    };
    alike.iter().any(|name| same(wire_name, name))
        || wire_name.get(..FAMILY.len()).is_some_and(|start| same(start, FAMILY))
}

/// Compares with a lower-case name of the same length.
#[inline]
fn same(wire: &[u8], name: &[u8]) -> bool {
    wire.iter().zip(name).all(|(&w, &n)| w.to_ascii_lowercase() == n || (w == b'_' && n == b'-'))
}
