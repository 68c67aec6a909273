//! Who is who: certificates, profiles that say which to show and which to accept, and the cryptography under them.
//!
//! ```text
//! profile ─► files (read again when they change) ─► rustls settings of one handshake ─► verify ─► names
//! session: a handshake over TCP ─► why it failed, who it was (peer), who is told (refused)
//! issue: certificates made ─► der          insecure: what stands in where there is no profile
//! ```
//!
//! The cryptography is aws-lc-rs, named here and nowhere else.

mod der;
mod files;
mod fingerprint;
mod insecure;
pub mod issue;
mod lifetime;
pub mod names;
mod peer;
mod profile;
mod refused;
mod session;
mod verify;
mod why;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use self::{
    files::{CertificateFacts, certificates_in},
    fingerprint::{BadFingerprint, Fingerprint},
    lifetime::{Lifetime, WARN_AHEAD},
    peer::PeerCertificate,
    profile::{ClientProfile, ClientSettings, NodeIdRule, ProfileError, ServerProfile, ServerSettings},
    refused::{Refused, Witness},
    session::{Called, Connector, NotAccepted, accept, connector},
    why::told_by_peer,
};
pub(crate) use self::{
    insecure::{AcceptSelfSigned, SelfSigned},
    profile::Protocols,
    session::host_of,
    verify::{Expect, Said, Side, identity_of, proved_by},
    why::{Cause, alert_in, refusal_of},
};

/// The cryptography of the whole program.
///
/// Key exchange is by X25519 and the NIST curves and not post-quantum: the larger key share would make a second
/// packet of the first flight, and a Go node cuts datagrams at 1,452 bytes.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
            aws_lc_rs::kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    }
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The generator of aws-lc-rs never fails once seeded, and the seed comes from the kernel, which waits until it has one.
    aws_lc_rs::default_provider().secure_random.fill(&mut bytes).expect("the system has random bytes");
    bytes
}
