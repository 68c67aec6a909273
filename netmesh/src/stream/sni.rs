//! Callers that name a server as no server can be named.
//!
//! A Go node puts its own node ID where TLS wants the server's DNS name, and node IDs may hold blanks and more. The TLS
//! library refuses such a greeting whole, although nobody here looks at the name. So the extension that holds it is
//! hidden from the library by giving it a private number, which the library skips as unknown. Both ends sign a hash of
//! the greeting, so the hash functions that the library gets put the true number back.
//!
//! ```text
//! caller ─ ClientHello ─► hide ─► TLS library ─ transcript ─► restore ─► SHA-2
//! ```

use std::{
    any::Any,
    sync::{Arc, LazyLock},
};

use quinn::crypto::{ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session};
use quinn::{ConnectionId, Side};
use quinn_proto::{TransportError, TransportErrorCode, crypto::UnsupportedVersion};
use rustls::{
    CipherSuiteCommon, SupportedCipherSuite, Tls13CipherSuite,
    crypto::{
        CryptoProvider,
        hash::{Context, Hash, HashAlgorithm, Output},
    },
};

use quinn_proto::transport_parameters::TransportParameters;

/// The number of the extension that holds the server's name. Source: RFC 6066.
pub(crate) const SERVER_NAME: u16 = 0;
/// The number it has while hidden, of the range for private use. A caller that sends this number by itself is refused.
pub(crate) const HIDDEN: u16 = 0xff53;
/// The handshake message that greets. Source: RFC 8446, 4.
const CLIENT_HELLO: u8 = 1;
/// A greeting of more bytes is refused.
const HELLO_MAX: usize = 64 * 1024;

/// A server that accepts any server name; wraps the one that does the work.
pub(crate) struct AnyName<S>(pub(crate) Arc<S>);

impl<S: ServerConfig + 'static> ServerConfig for AnyName<S> {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.0.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
        let inner = self.0.clone().start_session(version, params);
        Box::new(AnyNameSession { inner, hello: Vec::new(), greeted: false })
    }
}

/// `provider` with hash functions that see greetings as the caller sent them.
pub(crate) fn restoring(provider: CryptoProvider) -> CryptoProvider {
    CryptoProvider { cipher_suites: SUITES.iter().map(SupportedCipherSuite::Tls13).collect(), ..provider }
}

/// The suites of TLS 1.3, which is all that QUIC uses. They are constant, but their makers are not `const`.
static SUITES: LazyLock<Vec<Tls13CipherSuite>> = LazyLock::new(|| {
    TLS13
        .iter()
        .zip(HASHES.iter())
        .map(|(suite, hash)| Tls13CipherSuite {
            common: CipherSuiteCommon {
                suite: suite.common.suite,
                hash_provider: hash,
                confidentiality_limit: suite.common.confidentiality_limit,
            },
            hkdf_provider: suite.hkdf_provider,
            aead_alg: suite.aead_alg,
            quic: suite.quic,
        })
        .collect()
});

static HASHES: LazyLock<Vec<RestoringHash>> =
    LazyLock::new(|| TLS13.iter().map(|suite| RestoringHash(suite.common.hash_provider)).collect());

static TLS13: LazyLock<Vec<&'static Tls13CipherSuite>> = LazyLock::new(|| {
    crate::tls::provider().cipher_suites.iter().filter_map(SupportedCipherSuite::tls13).collect()
});

/// One conversation: holds the greeting back until it is whole, then hands it on with the name hidden.
struct AnyNameSession {
    inner: Box<dyn Session>,
    hello: Vec<u8>,
    /// The greeting is over. What comes now arrives in pieces that may begin with any byte.
    greeted: bool,
}

impl Session for AnyNameSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.inner.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        // Whoever begins with anything else does not greet, whatever the next piece begins with.
        self.greeted |= self.hello.is_empty() && buf.first().is_some_and(|kind| *kind != CLIENT_HELLO);
        if self.greeted {
            return self.inner.read_handshake(buf);
        }
        self.hello.extend_from_slice(buf);
        let Some([_, a, b, c]) = self.hello.first_chunk() else { return Ok(false) };
        let len = 4 + usize::from(*a) * 65_536 + usize::from(*b) * 256 + usize::from(*c);
        if len > HELLO_MAX {
            let reason = "the greeting is too long".to_owned();
            return Err(TransportError {
                code: TransportErrorCode::CRYPTO_BUFFER_EXCEEDED,
                frame: None,
                reason,
            });
        }
        if self.hello.len() < len {
            return Ok(false);
        }
        let mut hello = std::mem::take(&mut self.hello);
        if extension_at(&hello, HIDDEN).is_some() {
            // Nobody uses the number, and the hash could not tell whether the caller did or somebody on the way.
            const ILLEGAL_PARAMETER: u8 = 47;
            let reason = "the greeting uses a private number of this end".to_owned();
            return Err(TransportError {
                code: TransportErrorCode::crypto(ILLEGAL_PARAMETER),
                frame: None,
                reason,
            });
        }
        renumber(&mut hello, SERVER_NAME, HIDDEN);
        self.inner.read_handshake(&hello)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let keys = self.inner.write_handshake(buf);
        // A greeting that was asked for again gets no keys yet.
        self.greeted |= keys.is_some();
        keys
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.inner.next_1rtt_keys()
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}

/// A hash function that puts the true number back before it hashes.
struct RestoringHash(&'static dyn Hash);

struct RestoringContext(Box<dyn Context>);

impl Hash for RestoringHash {
    fn start(&self) -> Box<dyn Context> {
        Box::new(RestoringContext(self.0.start()))
    }

    fn hash(&self, data: &[u8]) -> Output {
        match restored(data) {
            Some(hello) => self.0.hash(&hello),
            None => self.0.hash(data),
        }
    }

    fn output_len(&self) -> usize {
        self.0.output_len()
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.0.algorithm()
    }
}

impl Context for RestoringContext {
    fn fork_finish(&self) -> Output {
        self.0.fork_finish()
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(RestoringContext(self.0.fork()))
    }

    fn finish(self: Box<Self>) -> Output {
        self.0.finish()
    }

    fn update(&mut self, data: &[u8]) {
        match restored(data) {
            Some(hello) => self.0.update(&hello),
            None => self.0.update(data),
        }
    }
}

/// `data` with the name's true number, if it is a greeting with a hidden name.
pub(crate) fn restored(data: &[u8]) -> Option<Vec<u8>> {
    if data.first() != Some(&CLIENT_HELLO) {
        return None;
    }
    let mut hello = data.to_vec();
    renumber(&mut hello, HIDDEN, SERVER_NAME).then_some(hello)
}

/// Gives the extension `from` of a greeting the number `to`. False, and nothing done, if it has no such extension or is
/// no greeting, or if the number `to` is taken.
pub(crate) fn renumber(hello: &mut [u8], from: u16, to: u16) -> bool {
    match (extension_at(hello, from), extension_at(hello, to)) {
        (Some(at), None) => {
            hello[at..at + 2].copy_from_slice(&to.to_be_bytes());
            true
        }
        _ => false,
    }
}

/// Where in a greeting the number of an extension stands.
///
/// Shape: kind 1, length 3, version 2, random 32, session ID (length 1), suites (length 2), compression (length 1),
/// extensions (length 2), each of number 2 and data (length 2). Source: RFC 8446, 4.1.2.
pub(crate) fn extension_at(hello: &[u8], wanted: u16) -> Option<usize> {
    let byte = |at: usize| hello.get(at).copied().map(usize::from);
    let short = |at: usize| Some(byte(at)? << 8 | byte(at + 1)?);
    if byte(0)? != usize::from(CLIENT_HELLO) {
        return None;
    }
    let mut at = 4 + 2 + 32;
    at += 1 + byte(at)?;
    at += 2 + short(at)?;
    at += 1 + byte(at)?;
    let end = at + 2 + short(at)?;
    at += 2;
    while at + 4 <= end {
        if short(at)? == usize::from(wanted) {
            return Some(at);
        }
        at += 4 + short(at + 2)?;
    }
    None
}

#[cfg(test)]
mod tests;
