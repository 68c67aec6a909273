//! Which addresses belong together: a network as `10.1.0.0/16` or `fd00::/64`, and where an IP packet goes.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A network. What is behind its prefix is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Net {
    address: IpAddr,
    bits: u8,
}

/// A text that names no [`Net`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not parse {0} as a CIDR address")]
pub struct BadNet(String);

impl Net {
    /// The network of `address` whose prefix has `bits`; none if an address has fewer.
    pub fn new(address: IpAddr, bits: u8) -> Option<Net> {
        let address = match address {
            IpAddr::V4(v4) if bits <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) if bits <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
            _ => return None,
        };
        Some(Net { address, bits })
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How long its prefix is.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// True for an address in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Net::new(address, self.bits).is_some_and(|net| net == *self)
    }
}

impl FromStr for Net {
    type Err = BadNet;
    fn from_str(text: &str) -> Result<Net, BadNet> {
        let bad = || BadNet(text.to_owned());
        let (address, bits) = text.split_once('/').ok_or_else(bad)?;
        let plain = !bits.is_empty() && bits.bytes().all(|digit| digit.is_ascii_digit());
        let bits = bits.parse().ok().filter(|_| plain).ok_or_else(bad)?;
        Net::new(address.parse().map_err(|_| bad())?, bits).ok_or_else(bad)
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Where an IP packet goes; none for what is none.
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    let part = |from: usize, len: usize| packet.get(from..from + len);
    match packet.first()? >> 4 {
        4 => Some(<[u8; 4]>::try_from(part(16, 4)?).ok()?.into()),
        6 => {
            part(0, 40)?;
            Some(<[u8; 16]>::try_from(part(24, 16)?).ok()?.into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_read_and_written_as_go_does() {
        for (text, written) in [
            ("10.1.2.3/16", "10.1.0.0/16"),
            ("10.0.0.6/30", "10.0.0.4/30"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("1.2.3.4/32", "1.2.3.4/32"),
            ("fd00::1/64", "fd00::/64"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(text.parse::<Net>().unwrap().to_string(), written);
        }
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/", "::/129", "a/8", "10.0.0/8"] {
            assert_eq!(bad.parse::<Net>(), Err(BadNet(bad.to_owned())));
        }
    }

    #[test]
    fn the_two_families_never_meet() {
        let all: Net = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("9.9.9.9".parse().unwrap()));
        assert!(!all.contains("::1".parse().unwrap()));
        let net: Net = "10.1.0.0/16".parse().unwrap();
        assert!(net.contains("10.1.255.255".parse().unwrap()) && !net.contains("10.2.0.0".parse().unwrap()));
    }

    #[test]
    fn a_packet_says_where_it_goes_and_a_cut_one_does_not() {
        let mut four = [0; 20];
        four[0] = 0x45;
        four[16..].copy_from_slice(&[10, 0, 0, 1]);
        assert_eq!(destination(&four), Some("10.0.0.1".parse().unwrap()));
        let mut six = [0; 40];
        six[0] = 0x60;
        six[39] = 1;
        assert_eq!(destination(&six), Some("::1".parse().unwrap()));
        for cut in [&four[..19], &six[..39], &[][..], &[0x45][..], &[0; 64][..]] {
            assert_eq!(destination(cut), None);
        }
    }
}
