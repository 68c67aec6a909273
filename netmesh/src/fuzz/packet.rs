//! Packets of an interface and the networks that adverts name: where one goes is said by its whole header, or not at all.

use std::net::IpAddr;

use crate::proxy::ip::{Net, destination};

/// A packet, and behind it a text in lines: networks.
pub fn packet(data: &[u8]) {
    let to = destination(data);
    match (data.first().map(|first| first >> 4), to) {
        (Some(4), Some(IpAddr::V4(to))) => assert_eq!(to.octets(), data[16..20]),
        (Some(6), Some(IpAddr::V6(to))) => assert_eq!(to.octets(), data[24..40]),
        (Some(4), None) => assert!(data.len() < 20),
        (Some(6), None) => assert!(data.len() < 40),
        (_, to) => assert_eq!(to, None),
    }
    for line in String::from_utf8_lossy(data).lines() {
        let Ok(net) = line.parse::<Net>() else { continue };
        assert_eq!(net.to_string().parse(), Ok(net), "{line}");
        assert!(net.contains(net.address()), "{line}");
        assert_eq!(Net::new(net.address(), net.bits()), Some(net), "{line}");
        if let Some(to) = to {
            let same = Net::new(to, net.bits()) == Some(net);
            assert_eq!(net.contains(to), same, "{line}");
        }
    }
}
