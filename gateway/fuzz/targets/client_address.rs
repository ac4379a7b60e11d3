//! Who the client is behind trusted proxies, by `X-Forwarded-For` and `Forwarded`: nobody who is not a proxy has a say.
//!
//! The input is the field's lines.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use probegate_policies::client::{ForwardingField, Hops, Identity, MAX_BYTES, Missing, Source, TrustedProxies};
use probegate_policies::fields::Fields;
use probegate_policies::forwarded::{Scheme, Towards, write};
use probegate_policies::ip::{self, IpSet};

struct Lines<'a>(&'a [u8], Vec<&'a [u8]>);

impl Fields for Lines<'_> {
    fn lines(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> + Clone {
        self.1.iter().map(|line| (self.0, *line))
    }
}

fn find(proxies: &TrustedProxies, name: &[u8], lines: &[u8]) -> (Identity, Vec<IpAddr>) {
    let mut hops = Hops::default();
    let lines = Lines(name, lines.split(|&byte| byte == b'\n').collect());
    let identity = proxies.resolve("10.0.0.1".parse().unwrap(), &lines, &mut hops, &mut ());
    let text = hops.as_slice().to_vec();

    // What the app is told is field lines, whatever was said.
    let mut out = Vec::new();
    let towards = Towards { identity: &identity, hops: &hops, scheme: Scheme::Http, host: b"a", port: 80, request_id: &[b'0'; 32] };
    write(&mut out, &towards);
    let told = String::from_utf8(out).unwrap();
    assert_eq!(told.lines().count(), 6);
    (identity, text)
}

fuzz_target!(|input: &[u8]| {
    let trusted = || "10.0.0.0/8".parse().into_iter().chain("fd00::/8".parse()).collect::<IpSet>();
    for (field, name, spoof) in [
        (ForwardingField::XForwardedFor, &b"X-Forwarded-For"[..], &b"192.0.2.66, 10.9.9.9,"[..]),
        (ForwardingField::Forwarded, b"Forwarded", b"for=192.0.2.66;proto=https, for=10.9.9.9,"),
    ] {
        let proxies = TrustedProxies::new(trusted(), field, Missing::Unknown);
        let (identity, hops) = find(&proxies, name, input);
        assert!(hops.iter().all(|&hop| trusted().contains(hop)), "{hops:?}");
        if let Identity::Known(known) = &identity {
            assert_eq!(known.ip, ip::canonical(known.ip));
            // Once an address that is no proxy was found, nothing in front of it counts.
            // But quotes can only be told from the front of a line, which may then not be too long as a whole.
            let fits = spoof.len() + input.len() < MAX_BYTES || !input.contains(&b'"');
            if !trusted().contains(known.ip) && known.source != Source::Peer && fits {
                assert_eq!(find(&proxies, name, &[spoof, input].concat()), (identity, hops), "in front");
                let line = [spoof, b"\n", input].concat();
                assert_eq!(find(&proxies, name, &line).0.known(), find(&proxies, name, input).0.known(), "a line in front");
            }
        }
    }
    // Without trust there is nothing to find.
    let lines = Lines(b"X-Forwarded-For", vec![input]);
    let alone = TrustedProxies::none().resolve("192.0.2.1".parse().unwrap(), &lines, &mut Hops::default(), &mut ());
    assert_eq!(alone.known(), Some("192.0.2.1".parse().unwrap()));
});
