//! A TUN interface: what the kernel routes to it is read here, and what is written here the kernel takes for its own.
//!
//! The interface, its address and its routes are gone when its descriptor is.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io,
    net::{IpAddr, Ipv4Addr},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    sync::{Mutex, PoisonError},
};

use netmesh::proxy::ip::{IpDevice, Net};
use nix::{libc, net::if_::if_nametoindex};
use tokio::io::{Interest, unix::AsyncFd};

use super::netlink::Netlink;

const DEVICE: &str = "/dev/net/tun";

/// An interface that is up.
pub(super) struct Tun {
    packets: AsyncFd<OwnedFd>,
    kernel: Netlink,
    name: String,
    index: u32,
    via: Ipv4Addr,
    /// The networks that the kernel was told of.
    routes: Mutex<BTreeSet<Net>>,
}

/// `struct ifreq` of netdevice(7), as TUNSETIFF uses it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

impl Tun {
    /// Makes an interface, called `name` or whatever the kernel likes, with the second address of `local`; it leads to the
    /// third.
    ///
    /// # Errors
    /// A text: what cannot be done, and what may help.
    pub(super) fn open(name: Option<&str>, local: &Net) -> Result<Tun, String> {
        let (packets, name) = make(name).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                format!("error opening tun device: {DEVICE}: {error}: load the kernel's module `tun`, or give the container the device")
            }
            Some(libc::EPERM | libc::EACCES) => {
                format!("error opening tun device: {DEVICE}: {error}: give this process CAP_NET_ADMIN")
            }
            _ => format!("error opening tun device: {DEVICE}: {error}: if it has another owner, set another `interface`"),
        })?;
        let IpAddr::V4(base) = local.address() else {
            return Err(format!("local network {local} must be IPv4"));
        };
        let [here, via] = [1, 2].map(|n| Ipv4Addr::from_bits(base.to_bits() + n)); // a /30 has four
        let with = |what: &str, error: io::Error| format!("error {what} {name}: {error}");
        let index = if_nametoindex(name.as_str())
            .map_err(|error| with("accessing link for tun device", error.into()))?;
        let kernel = Netlink::open().map_err(|error| with("talking to the kernel about", error))?;
        kernel.add_address(index, here, via).map_err(|error| with("adding IP address to", error))?;
        kernel.set_up(index).map_err(|error| with("setting link up:", error))?;
        let both = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: an `OwnedFd` stays open, and the same, until `packets` is dropped.
        let packets = unsafe { AsyncFd::register_with_interest(packets, both) };
        let packets = packets.map_err(|error| with("waiting for packets of", error.into()))?;
        Ok(Tun { packets, kernel, name, index, via, routes: Mutex::default() })
    }

    /// What the interface is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl IpDevice for Tun {
    async fn recv(&self, packet: &mut [u8]) -> io::Result<usize> {
        let read = |tun: &OwnedFd| Ok(nix::unistd::read(tun, packet)?);
        self.packets.async_io(Interest::READABLE, read).await
    }

    async fn send(&self, packet: &[u8]) -> io::Result<()> {
        let write = |tun: &OwnedFd| Ok(nix::unistd::write(tun, packet)?);
        self.packets.async_io(Interest::WRITABLE, write).await.map(|_| ())
    }

    fn set_routes(&self, nets: &BTreeSet<Net>) -> Vec<(Net, io::Error)> {
        // Whoever panicked, each network in it has a route.
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<Net> = routes.difference(nets).copied().collect();
        for net in gone {
            // An error says that somebody has removed it before us.
            let _ = self.kernel.remove_route(self.index, &net, self.via);
            routes.remove(&net);
        }
        let mut failed = Vec::new();
        for net in nets {
            if !routes.contains(net) {
                match self.kernel.add_route(self.index, net, self.via) {
                    Ok(()) => drop(routes.insert(*net)),
                    Err(error) => failed.push((*net, error)),
                }
            }
        }
        failed
    }
}

/// Makes an interface, and says what it is called.
fn make(name: Option<&str>) -> io::Result<(OwnedFd, String)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let device: File = options.open(DEVICE)?;
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags, rest: [0; 22] };
    let wanted = name.unwrap_or_default().as_bytes();
    request.name[..wanted.len().min(libc::IFNAMSIZ - 1)]
        .copy_from_slice(&wanted[..wanted.len().min(libc::IFNAMSIZ - 1)]);
    // SAFETY: the kernel reads and writes a `struct ifreq`, which `request` has the size and shape of.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let end = request.name.iter().position(|byte| *byte == 0).unwrap_or(libc::IFNAMSIZ);
    let name = String::from_utf8_lossy(&request.name[..end]).into_owned();
    Ok((device.into(), name))
}
