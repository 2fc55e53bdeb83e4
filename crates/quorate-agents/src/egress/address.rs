//! Which addresses a name may lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far a host on the list may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// To addresses of the internet at large.
    Public,
    /// Also to those of this machine and of private networks; to no link-local ones, where clouds keep credentials.
    Private,
    /// To exactly the address the list names.
    Literal,
}

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Public,
    /// Loopback, private networks, unique local addresses, those that carriers share.
    Private,
    /// Link-local, multicast, reserved, and whatever leads elsewhere than it says.
    Other,
}

/// Whether a host of this reach may lead to this address.
pub(crate) fn is_allowed(address: IpAddr, reach: Reach) -> bool {
    match (kind(address), reach) {
        (_, Reach::Literal) | (Kind::Public, _) | (Kind::Private, Reach::Private) => true,
        (Kind::Private, Reach::Public) | (Kind::Other, _) => false,
    }
}

fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

fn kind_v4(address: Ipv4Addr) -> Kind {
    match address.octets() {
        [10, ..] | [127, ..] | [192, 168, ..] => Kind::Private,
        [172, 16..=31, ..] | [100, 64..=127, ..] => Kind::Private,
        // This network, link-local, protocol assignments, examples, 6to4 relays, benchmarks, multicast, reserved.
        [0, ..] | [169, 254, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => Kind::Other,
        [198, 51, 100, _] | [203, 0, 113, _] | [224..=255, ..] => Kind::Other,
        _ => Kind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    // An address of version 4 in other clothes is what is inside, and never less than that.
    if let Some(inner) = address.to_ipv4_mapped() {
        return kind_v4(inner);
    }
    let segments = address.segments();
    let inner = |high: u16, low: u16| kind_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] | [0xfc00..=0xfdff, ..] => Kind::Private,
        // A translator to version 4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
        // 6to4.
        [0x2002, high, low, ..] => inner(high, low),
        // Protocol assignments (Teredo among them), and two prefixes for examples.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Kind::Other,
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(reach: Reach, allowed: bool, addresses: &[&str]) {
        for text in addresses {
            assert_eq!(is_allowed(text.parse().unwrap(), reach), allowed, "{text} {reach:?}");
        }
    }

    const PUBLIC: [&str; 7] = [
        "1.1.1.1",
        "160.79.104.10",
        "172.15.0.1",
        "172.32.0.1",
        "2606:4700::1111",
        "64:ff9b::101:101",
        "::ffff:1.1.1.1",
    ];
    const PRIVATE: [&str; 10] = [
        "127.0.0.1",
        "127.9.9.9",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "64:ff9b::a00:1",
    ];
    const OTHER: [&str; 17] = [
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "240.0.0.1",
        "198.18.0.1",
        "::",
        "fe80::1",
        "ff02::1",
        "fec0::1",
        "2001:db8::1",
        "::7f00:1",
    ];

    #[test]
    fn only_public_addresses_are_reached_by_name() {
        check(Reach::Public, true, &PUBLIC);
        check(Reach::Public, false, &PRIVATE);
        check(Reach::Public, false, &OTHER);
        check(Reach::Public, false, &["2002:7f00:1::", "2001::1", "64:ff9b:1::1"]);
    }

    #[test]
    fn a_local_host_leads_to_private_networks_and_still_not_to_link_local_ones() {
        check(Reach::Private, true, &PUBLIC);
        check(Reach::Private, true, &PRIVATE);
        check(Reach::Private, false, &OTHER);
    }

    #[test]
    fn an_address_that_is_listed_itself_is_reached_whatever_it_is() {
        for addresses in [&PUBLIC[..], &PRIVATE[..], &OTHER[..]] {
            check(Reach::Literal, true, addresses);
        }
    }

    proptest! {
        #[test]
        fn no_clothes_make_an_address_of_version_4_more_than_it_is(address in any::<Ipv4Addr>()) {
            let [a, b, c, d] = address.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            for dressed in [
                address.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ] {
                prop_assert_eq!(kind_v6(dressed), kind_v4(address));
            }
        }
    }
}
