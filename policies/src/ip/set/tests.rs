use proptest::prelude::*;

use super::*;

fn set(nets: &[&str]) -> IpSet {
    nets.iter().map(|net| net.parse().unwrap()).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn networks_hold_their_first_and_last_address_and_no_more() {
    let set = set(&["10.0.0.0/8", "192.0.2.128/25", "2001:db8::/32"]);
    for (text, inside) in [
        ("9.255.255.255", false),
        ("10.0.0.0", true),
        ("10.255.255.255", true),
        ("11.0.0.0", false),
        ("192.0.2.127", false),
        ("192.0.2.128", true),
        ("192.0.2.255", true),
        ("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", false),
        ("2001:db8::", true),
        ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
        ("2001:db9::", false),
    ] {
        assert_eq!(set.contains(ip(text)), inside, "{text}");
    }
}

#[test]
fn d3_mapped_addresses_and_networks_are_in_the_ipv4_half() {
    assert!(set(&["10.0.0.0/8"]).contains(ip("::ffff:10.0.0.1")));
    assert_eq!(set(&["::ffff:10.0.0.0/104"]), set(&["10.0.0.0/8"]));
    assert!(!set(&["::/0"]).contains(ip("10.0.0.1")));
    assert!(!set(&["::/0"]).contains(ip("::ffff:10.0.0.1")));
}

#[test]
fn adjoining_and_nested_networks_become_one_range() {
    let halves = set(&["128.0.0.0/1", "0.0.0.0/1", "10.0.0.0/8", "255.255.255.255/32"]);
    assert_eq!(halves, set(&["0.0.0.0/0"]));
    assert!(halves.covers_everything_v4());
    assert!(!set(&["0.0.0.0/1", "128.0.0.0/2"]).covers_everything_v4());
    assert_eq!(set(&["::/1", "8000::/1"]), set(&["::/0"]));
}

#[test]
fn an_empty_set_holds_nothing() {
    assert!(IpSet::empty().is_empty());
    assert!(!set(&["::1/128"]).is_empty());
    assert!(!IpSet::empty().contains(ip("127.0.0.1")));
    assert_eq!(IpSet::empty().intersects(&set(&["0.0.0.0/0", "::/0"])), None);
}

#[test]
fn covering_is_for_whole_networks() {
    let private = set(&["10.0.0.0/9", "10.128.0.0/9", "fd00::/8"]);
    for (net, covered) in
        [("10.0.0.0/8", true), ("10.1.0.0/16", true), ("0.0.0.0/0", false), ("fd00::/8", true), ("fc00::/7", false)]
    {
        assert_eq!(private.covers(&net.parse().unwrap()), covered, "{net}");
    }
}

fn any_net() -> impl Strategy<Value = IpNet> {
    // Few leading bits vary, so that networks overlap, nest and touch.
    let v4 = (any::<u8>(), 0..=32u8).prop_map(|(byte, prefix)| IpNet::new(IpAddr::from([byte, 0, 0, byte]), prefix));
    let v6 = (any::<u8>(), 0..=128u8).prop_map(|(byte, prefix)| {
        IpNet::new(IpAddr::from([u16::from(byte) << 8, 0, 0, 0, 0, 0, 0, u16::from(byte)]), prefix)
    });
    prop_oneof![v4, v6].prop_map(|net| net.unwrap().trunc())
}

fn neighbours(net: &IpNet) -> Vec<IpAddr> {
    let around = |bits: u128| [bits.wrapping_sub(1), bits, bits.wrapping_add(1)];
    match net {
        IpNet::V4(v4) => [v4.network(), v4.broadcast()]
            .into_iter()
            .flat_map(|ip| around(ip.to_bits().into()))
            .filter_map(|bits| u32::try_from(bits).ok())
            .map(|bits| IpAddr::V4(bits.into()))
            .collect(),
        IpNet::V6(v6) => {
            let edges = [v6.network(), v6.broadcast()];
            edges.into_iter().flat_map(|ip| around(ip.to_bits())).map(|bits| IpAddr::V6(bits.into())).collect()
        }
    }
}

proptest! {
    #[test]
    fn a_set_answers_as_a_scan_of_its_networks(nets in prop::collection::vec(any_net(), 0..12)) {
        let set = IpSet::new(nets.clone());
        for ip in nets.iter().flat_map(neighbours) {
            // A mapped address is IPv4 and in no IPv6 network.
            let scan = nets.iter().any(|net| net.contains(&canonical(ip)));
            prop_assert_eq!(set.contains(ip), scan, "{}", ip);
        }
        for net in &nets {
            prop_assert!(set.covers(net));
        }
    }

    #[test]
    fn sets_intersect_when_two_of_their_networks_do(
        left in prop::collection::vec(any_net(), 0..6),
        right in prop::collection::vec(any_net(), 0..6),
    ) {
        let (a, b) = (IpSet::new(left.clone()), IpSet::new(right.clone()));
        let scan = left.iter().any(|l| right.iter().any(|r| l.contains(r) || r.contains(l)));
        let found = a.intersects(&b);
        prop_assert_eq!(found.is_some(), scan);
        prop_assert_eq!(b.intersects(&a), found);
        if let Some(ip) = found {
            prop_assert!(a.contains(ip) && b.contains(ip));
        }
    }
}
