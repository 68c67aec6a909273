//! A signed request: make it, check it.
//!
//! A token is a JWT (RS512) with Receptor's two claims: `aud`, an array that names the node that is to act, and `exp`.
//! Key files are read at every use, so that a rotated key needs no restart.
//!
//! We are stricter than Receptor in two points that no sender of its own depends on: the algorithm is RS512 and no
//! other, and a token without `exp` is refused.

#[cfg(test)]
mod tests;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::request::ErrorCode;

/// How long a token is good for when nobody says otherwise.
pub const DEFAULT_EXPIRATION: Duration = Duration::from_secs(5 * 60);

/// The private key that signs what this node asks of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningConfig {
    /// A PEM file with one RSA private key, PKCS#1 or PKCS#8.
    pub private_key: PathBuf,
    /// How long a token is good for, from the moment it is made.
    pub token_expiration: Duration,
}

/// Signs requests for other nodes.
#[derive(Clone, Debug)]
pub struct Signer {
    config: SigningConfig,
}

/// Checks requests that other nodes signed for this one.
#[derive(Clone, Debug)]
pub struct Verifier {
    public_key: Option<PathBuf>,
    node: String,
}

/// Why a request could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// No private key is configured.
    #[error(
        "cannot sign work: signing key is empty: add a work-signing section with a privatekey to this node"
    )]
    NoKey,
    /// The file cannot be read.
    #[error("could not load signing key file: {path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no RSA private key.
    #[error("could not load signing key file: {path}: no usable RSA private key in PEM form (PKCS#1 or PKCS#8): {source}", path = .path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What the library says.
        source: jsonwebtoken::errors::Error,
    },
}

/// Why a token was refused: the key, the signature, the time or the audience.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no token.
    #[error("could not verify signature: signature is empty")]
    Empty,
    /// No public key is configured.
    #[error("could not verify signature: verifying key not specified")]
    NoKey,
    /// The file cannot be read.
    #[error("could not load verifying key file: open {path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no RSA public key.
    #[error("could not load verifying key file: {path}: no usable RSA public key in PEM form (PUBLIC KEY): {source}", path = .path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What the library says.
        source: jsonwebtoken::errors::Error,
    },
    /// It is no token.
    #[error("could not verify signature: {0}")]
    Malformed(String),
    /// Another key signed it.
    #[error("could not verify signature: crypto/rsa: verification error: not signed by the private half of {path}", path = .path.display())]
    WrongKey {
        /// The public key's file.
        path: PathBuf,
    },
    /// It was good once.
    #[error(
        "could not verify signature: token is expired by {late}: it ended at {ended}, this node's clock says {clock}; compare both clocks, or raise tokenexpiration at the sender"
    )]
    Expired {
        /// For how long.
        late: String,
        /// Until when.
        ended: String,
        /// Now.
        clock: String,
    },
    /// It will be good later.
    #[error(
        "could not verify signature: token is not valid yet, its time begins in {early}; compare both clocks"
    )]
    TooEarly {
        /// In how long.
        early: String,
    },
    /// It says nothing about its end.
    #[error("could not verify signature: token has no expiration")]
    NoExpiration,
    /// It is for another node.
    #[error("token audience did not match node ID: it is for {audience}, this node is {node}")]
    WrongAudience {
        /// Whom it names.
        audience: String,
        /// Who we are.
        node: String,
    },
}

impl VerifyError {
    /// The word for it.
    pub fn code(&self) -> ErrorCode {
        match self {
            VerifyError::Empty => ErrorCode::NotSigned,
            VerifyError::NoKey | VerifyError::Unreadable { .. } | VerifyError::BadKey { .. } => {
                ErrorCode::NoVerificationKey
            }
            VerifyError::Expired { .. } | VerifyError::TooEarly { .. } => ErrorCode::SignatureTime,
            VerifyError::Malformed(_)
            | VerifyError::WrongKey { .. }
            | VerifyError::NoExpiration
            | VerifyError::WrongAudience { .. } => ErrorCode::Denied,
        }
    }
}

#[derive(Serialize)]
struct Made<'a> {
    aud: [&'a str; 1],
    exp: u64,
}

#[derive(Deserialize)]
struct Read {
    #[serde(default)]
    aud: Audience,
    exp: Option<f64>,
    nbf: Option<f64>,
}

/// The standard allows a string where there is one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    Many(Vec<String>),
    One(String),
}

impl Default for Audience {
    fn default() -> Audience {
        Audience::Many(Vec::new())
    }
}

impl Signer {
    /// Signs with the key that `config` names.
    pub fn new(config: SigningConfig) -> Signer {
        Signer { config }
    }

    /// A token for one request that the node `target` is to act on.
    ///
    /// # Errors
    /// [`SignError`] when the key file is missing, unreadable or no RSA private key.
    pub fn sign(&self, target: &str, now: SystemTime) -> Result<String, SignError> {
        let path = &self.config.private_key;
        if path.as_os_str().is_empty() {
            return Err(SignError::NoKey);
        }
        let pem =
            std::fs::read(path).map_err(|source| SignError::Unreadable { path: path.clone(), source })?;
        let bad = |source| SignError::BadKey { path: path.clone(), source };
        let key = EncodingKey::from_rsa_pem(&pem).map_err(bad)?;
        let exp = unix(now + self.config.token_expiration).as_secs();
        jsonwebtoken::encode(&Header::new(Algorithm::RS512), &Made { aud: [target], exp }, &key).map_err(bad)
    }
}

impl Verifier {
    /// Checks with the key in `public_key`, as the node named `node`.
    pub fn new(public_key: Option<PathBuf>, node: String) -> Verifier {
        Verifier { public_key, node }
    }

    /// Says whether `token` is good at `now`, and if not, what is wrong with it.
    ///
    /// # Errors
    /// [`VerifyError`], which tells the key from the signature, the time and the audience.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<(), VerifyError> {
        if token.is_empty() {
            return Err(VerifyError::Empty);
        }
        let path = self.public_key.as_deref().ok_or(VerifyError::NoKey)?;
        let key = read_public(path)?;
        let mut validation = Validation::new(Algorithm::RS512);
        // Time and audience are judged below, where there is more to say than yes or no.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let claims = jsonwebtoken::decode::<Read>(token, &key, &validation)
            .map_err(|bad| match bad.kind() {
                ErrorKind::InvalidSignature => VerifyError::WrongKey { path: path.to_owned() },
                ErrorKind::InvalidToken => {
                    VerifyError::Malformed("token contains an invalid number of segments".to_owned())
                }
                ErrorKind::InvalidAlgorithm => VerifyError::Malformed(
                    "token is not signed with RS512, the one algorithm accepted".to_owned(),
                ),
                _ => VerifyError::Malformed(format!("token is malformed: {bad}")),
            })?
            .claims;
        self.check_time(&claims, now)?;
        self.check_audience(claims.aud)
    }

    fn check_time(&self, claims: &Read, now: SystemTime) -> Result<(), VerifyError> {
        let clock = unix(now).as_secs_f64();
        let ended = claims.exp.ok_or(VerifyError::NoExpiration)?;
        // JSON has no number that is none, so these comparisons leave no gap.
        if clock >= ended {
            return Err(VerifyError::Expired {
                late: seconds(clock - ended),
                ended: moment(ended),
                clock: moment(clock),
            });
        }
        match claims.nbf {
            Some(begins) if begins > clock => Err(VerifyError::TooEarly { early: seconds(begins - clock) }),
            _ => Ok(()),
        }
    }

    fn check_audience(&self, audience: Audience) -> Result<(), VerifyError> {
        let named = match audience {
            Audience::Many(named) => named,
            Audience::One(one) => vec![one],
        };
        if named.contains(&self.node) {
            return Ok(());
        }
        let mut audience = String::new();
        for name in &named {
            let _ = write!(audience, "{}{name:?}", if audience.is_empty() { "" } else { ", " });
        }
        let audience = if audience.is_empty() { "nobody".to_owned() } else { audience };
        Err(VerifyError::WrongAudience { audience, node: self.node.clone() })
    }
}

fn read_public(path: &Path) -> Result<DecodingKey, VerifyError> {
    let pem =
        std::fs::read(path).map_err(|source| VerifyError::Unreadable { path: path.to_owned(), source })?;
    DecodingKey::from_rsa_pem(&pem).map_err(|source| VerifyError::BadKey { path: path.to_owned(), source })
}

fn unix(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn seconds(n: f64) -> String {
    netmesh::json::go_duration(Duration::try_from_secs_f64(n.abs()).unwrap_or(Duration::MAX))
}

fn moment(unix: f64) -> String {
    OffsetDateTime::from_unix_timestamp(unix as i64)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{unix} s after 1970"))
}
