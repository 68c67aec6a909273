//! What the kernel is told of an interface: an address, that it is up, and which networks lie behind it.
//!
//! Each request is one message of rtnetlink(7) and is answered at once with an error number.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{Mutex, PoisonError},
};

use netmesh::proxy::ip::Net;
use nix::{
    libc,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

/// A message's own header, and that of an attribute.
const HEADER: usize = 16;
const REPLY_MAX: usize = 8 << 10;

/// A conversation with the kernel.
pub(super) struct Netlink {
    socket: OwnedFd,
    /// The number of the last request.
    last: Mutex<u32>,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Netlink> {
        let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
        let socket = socket(AddressFamily::Netlink, kind.0, kind.1, kind.2)?;
        Ok(Netlink { socket, last: Mutex::default() })
    }

    /// Gives the interface `index` the address `here`, with `there` at its other end.
    pub(super) fn add_address(&self, index: u32, here: Ipv4Addr, there: Ipv4Addr) -> io::Result<()> {
        let mut body = vec![libc::AF_INET as u8, 32, 0, 0];
        body.extend(index.to_ne_bytes());
        attribute(&mut body, libc::IFA_LOCAL, &here.octets());
        attribute(&mut body, libc::IFA_ADDRESS, &there.octets());
        self.ask(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &body)
    }

    /// Brings the interface `index` up.
    pub(super) fn set_up(&self, index: u32) -> io::Result<()> {
        let up = (libc::IFF_UP as u32).to_ne_bytes();
        let mut body = vec![libc::AF_UNSPEC as u8, 0, 0, 0];
        body.extend(index.to_ne_bytes());
        body.extend(up); // what it is to be,
        body.extend(up); // and which of its flags are meant
        self.ask(libc::RTM_NEWLINK, 0, &body)
    }

    /// From now on `net` is reached over the interface `index`; by way of `via` in a network of IPv4.
    pub(super) fn add_route(&self, index: u32, net: &Net, via: Ipv4Addr) -> io::Result<()> {
        self.ask(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &route(index, net, via))
    }

    /// Takes that back.
    pub(super) fn remove_route(&self, index: u32, net: &Net, via: Ipv4Addr) -> io::Result<()> {
        self.ask(libc::RTM_DELROUTE, 0, &route(index, net, via))
    }

    fn ask(&self, kind: u16, flags: i32, body: &[u8]) -> io::Result<()> {
        // A number is valid whoever panicked.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = last.wrapping_add(1);
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        send(self.socket.as_raw_fd(), &message(kind, flags, *last, body), MsgFlags::empty())?;
        let mut reply = vec![0; REPLY_MAX];
        loop {
            let len = recv(self.socket.as_raw_fd(), &mut reply, MsgFlags::empty())?;
            if let Some(outcome) = outcome(&reply[..len], *last) {
                return outcome;
            }
        }
    }
}

fn message(kind: u16, flags: u16, number: u32, body: &[u8]) -> Vec<u8> {
    let len = (HEADER + body.len()) as u32; // of a few dozen bytes
    let mut message = len.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(number.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

/// How the request `number` went, if a reply tells.
fn outcome(reply: &[u8], number: u32) -> Option<io::Result<()>> {
    let at = |from: usize| reply.get(from..from + 4)?.try_into().ok();
    let kind = reply.get(4..6)?.try_into().ok().map(u16::from_ne_bytes)?;
    let is_answer = i32::from(kind) == libc::NLMSG_ERROR && at(8).map(u32::from_ne_bytes)? == number;
    let error = at(HEADER).map(i32::from_ne_bytes)?;
    is_answer.then(|| if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-error)) })
}

fn route(index: u32, net: &Net, via: Ipv4Addr) -> Vec<u8> {
    let (family, address) = match net.address() {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let (table, protocol) = (libc::RT_TABLE_MAIN, libc::RTPROT_BOOT);
    let mut body =
        vec![family as u8, net.bits(), 0, 0, table, protocol, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST];
    body.extend(0_u32.to_ne_bytes());
    attribute(&mut body, libc::RTA_DST, &address);
    if net.address().is_ipv4() {
        attribute(&mut body, libc::RTA_GATEWAY, &via.octets());
    }
    attribute(&mut body, libc::RTA_OIF, &index.to_ne_bytes());
    body
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((value.len() as u16 + 4).to_ne_bytes()); // of at most 16 bytes
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_by_its_number() {
        let reply =
            |number: u32, error: i32| message(libc::NLMSG_ERROR as u16, 0, number, &error.to_ne_bytes());
        assert!(matches!(outcome(&reply(7, 0), 7), Some(Ok(()))));
        let refused = outcome(&reply(7, -libc::EPERM), 7);
        assert_eq!(refused.and_then(Result::err).and_then(|error| error.raw_os_error()), Some(libc::EPERM));
        assert!(outcome(&reply(6, 0), 7).is_none());
        assert!(outcome(&reply(7, 0)[..17], 7).is_none());
    }

    #[test]
    fn a_route_is_as_the_kernel_wants_it() {
        let net = "10.9.0.0/16".parse().expect("a network");
        let body = route(3, &net, Ipv4Addr::new(10, 0, 0, 2));
        let expected = [
            &[2, 16, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0][..],
            &[8, 0, 1, 0, 10, 9, 0, 0],
            &[8, 0, 5, 0, 10, 0, 0, 2],
            &[8, 0, 4, 0, 3, 0, 0, 0],
        ];
        if cfg!(target_endian = "little") {
            assert_eq!(body, expected.concat());
        }
    }
}
