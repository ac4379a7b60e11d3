//! The addresses of this machine, which are nobody else's.

use std::io;

use ipnet::{IpNet, Ipv4Net};
use nix::ifaddrs::getifaddrs;
use probegate_policies::ip::{IpSet, canonical};

/// All of its interfaces, and whatever is loopback.
///
/// # Errors
/// The system does not tell.
pub(super) fn addresses() -> io::Result<IpSet> {
    let loopback = IpNet::from(Ipv4Net::new_assert([127, 0, 0, 0].into(), 8));
    let interfaces = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpNet::from(std::net::IpAddr::V4(v4.ip())));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpNet::from(canonical(v6.ip().into()))))
    });
    Ok(IpSet::new(interfaces.chain([loopback])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_knows_itself() {
        let own = addresses().unwrap();
        assert!(own.contains("127.0.0.1".parse().unwrap()) && own.contains("127.9.9.9".parse().unwrap()));
        assert!(!own.contains("203.0.113.9".parse().unwrap()));
    }
}
