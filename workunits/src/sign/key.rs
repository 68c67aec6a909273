//! Key files: which kind of key is this, and so, which algorithm?

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, errors::Error};

/// A private key, and the one algorithm that it signs with.
pub(super) fn private(pem: &[u8]) -> Result<(Algorithm, EncodingKey), Error> {
    let ec = || EncodingKey::from_ec_pem(pem).map(|key| (Algorithm::ES256, key));
    let ed = || EncodingKey::from_ed_pem(pem).map(|key| (Algorithm::EdDSA, key));
    EncodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS512, key)).or_else(|_| ec()).or_else(|_| ed())
}

/// A public key, and the one algorithm that it checks.
pub(super) fn public(pem: &[u8]) -> Result<(Algorithm, DecodingKey), Error> {
    let ec = || DecodingKey::from_ec_pem(pem).map(|key| (Algorithm::ES256, key));
    let ed = || DecodingKey::from_ed_pem(pem).map(|key| (Algorithm::EdDSA, key));
    DecodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS512, key)).or_else(|_| ec()).or_else(|_| ed())
}
