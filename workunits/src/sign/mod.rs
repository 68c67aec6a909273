//! A signed request: make it, check it.
//!
//! A token is a JWT with Receptor's two claims: `aud`, an array that names the node that is to act, and `exp`. Between
//! nodes of ours it is bound: `rqh` is the digest of the one request that it is for ([`digest`]), `sub` says for whom that
//! is made, `iss` which node signed, and `jti` is a number that no other token has. Such a token can be used once, for
//! that request, by that node. Key files are read at every use, so that a rotated key needs no restart.
//!
//! The key decides the algorithm: RS512 for RSA, ES256 for P-256, EdDSA for Ed25519. We are stricter than Receptor in two
//! points that no sender of its own depends on: no other algorithm is accepted for a key, and a token without `exp` is
//! refused.

mod bound;
mod key;
mod seen;

#[cfg(test)]
mod tests;

pub use bound::digest;

use std::{
    fmt::Write as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use self::seen::Seen;
use crate::request::ErrorCode;

/// How long a token is good for when nobody says otherwise.
pub const DEFAULT_EXPIRATION: Duration = Duration::from_secs(5 * 60);

/// Nodes of a token that a refusal names.
const AUDIENCE_TOLD: usize = 3;
/// Letters of a stranger's name that a refusal tells.
const NAME_TOLD: usize = 64;

/// The private key that signs what this node asks of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningConfig {
    /// A PEM file with one private key: RSA (PKCS#1 or PKCS#8), P-256 or Ed25519 (both PKCS#8).
    pub private_key: PathBuf,
    /// What the key is called by those who check; told in the token's header as `kid`.
    pub key_id: Option<String>,
    /// How long a token is good for, from the moment it is made.
    pub token_expiration: Duration,
}

/// The public keys that check what others ask of this node, and which tokens are good enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// The keys. Of one without an id any token may be; a token that names a key is checked with that one, if it is here.
    pub keys: Vec<VerificationKey>,
    /// Which tokens.
    pub accept: Accept,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationKey {
    /// What it is called.
    pub id: Option<String>,
    /// A PEM file (`PUBLIC KEY`): RSA, P-256 or Ed25519.
    pub path: PathBuf,
}

/// Which tokens a node takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    /// Receptor's too, which are good for any request until they expire.
    #[default]
    Compatible,
    /// Only such as are bound to their request.
    Bound,
}

/// A key alone, whose tokens may be Receptor's.
impl From<PathBuf> for Verification {
    fn from(path: PathBuf) -> Verification {
        Verification { keys: vec![VerificationKey { id: None, path }], accept: Accept::Compatible }
    }
}

/// What a token is to be bound to.
#[derive(Clone, Copy, Debug)]
pub struct Bond<'a> {
    /// The digest of the request.
    pub digest: &'a str,
    /// For whom it is made.
    pub subject: &'a str,
}

/// What came with a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The digest of the request; unknown for one in words, which cannot carry a token.
    pub digest: Option<&'a str>,
    /// The node that sent it, if it came over the mesh.
    pub from: Option<&'a str>,
}

/// What a good token proves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// For whom it speaks.
    pub subject: Option<String>,
    /// Whether it is for this request and no other.
    pub bound: bool,
}

/// Signs requests for other nodes.
#[derive(Clone, Debug)]
pub struct Signer {
    config: SigningConfig,
    node: String,
}

/// Checks requests that other nodes signed for this one. A clone remembers the same tokens.
#[derive(Clone, Debug)]
pub struct Verifier {
    config: Option<Verification>,
    node: String,
    seen: Arc<Mutex<Seen>>,
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
    /// A node that knows Receptor's tokens alone.
    #[error("cannot sign work for {node}: a Receptor node checks RSA signatures only, and {path} is no RSA key", path = .path.display())]
    NotRsa {
        /// The file.
        path: PathBuf,
        /// The node.
        node: String,
    },
    /// The system gives no random numbers.
    #[error("cannot sign work: the system gives no random numbers")]
    NoDice,
    /// The file holds no private key.
    #[error("could not load signing key file: {path}: no usable private key in PEM form (RSA in PKCS#1 or PKCS#8, P-256 or Ed25519 in PKCS#8): {source}", path = .path.display())]
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
    /// The file holds no public key.
    #[error("could not load verifying key file: {path}: no usable public key in PEM form (PUBLIC KEY; RSA, P-256 or Ed25519): {source}", path = .path.display())]
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
    /// It names a key that is not here.
    #[error("could not verify signature: its key id is {0:?}, and no public key of that id is configured")]
    UnknownKey(String),
    /// It is good for any request, and only bound ones are taken.
    #[error(
        "could not verify signature: this node accepts bound tokens only, and this one is good for any request"
    )]
    NotBound,
    /// It was made for another request.
    #[error("could not verify signature: token was made for another request")]
    OtherRequest,
    /// It is for one request, which does not say what its payload is.
    #[error(
        "could not verify signature: token is bound, and the submission does not declare the SHA-256 of its payload"
    )]
    PayloadNotBound,
    /// It was used before.
    #[error("could not verify signature: token was used before; each request needs one of its own")]
    Replayed,
    /// It was signed by a node that did not send it.
    #[error("could not verify signature: token was signed by node {issuer}, and node {from} sent it")]
    OtherSender {
        /// Who signed it, as it says.
        issuer: String,
        /// Who sent it.
        from: String,
    },
    /// More tokens are remembered than may be.
    #[error(
        "could not verify signature: too many tokens are to be remembered until they expire; try again, or shorten tokenexpiration at the senders"
    )]
    TooMany,
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
            VerifyError::TooMany => ErrorCode::Busy,
            VerifyError::Malformed(_)
            | VerifyError::WrongKey { .. }
            | VerifyError::UnknownKey(_)
            | VerifyError::NotBound
            | VerifyError::OtherRequest
            | VerifyError::PayloadNotBound
            | VerifyError::Replayed
            | VerifyError::OtherSender { .. }
            | VerifyError::NoExpiration
            | VerifyError::WrongAudience { .. } => ErrorCode::Denied,
        }
    }
}

#[derive(Serialize)]
struct Made<'a> {
    aud: [&'a str; 1],
    exp: u64,
    #[serde(flatten)]
    bond: Option<Bound<'a>>,
}

/// The claims of a bound token.
#[derive(Serialize)]
struct Bound<'a> {
    iss: &'a str,
    jti: String,
    rqh: &'a str,
    sub: &'a str,
}

#[derive(Deserialize)]
struct Read {
    #[serde(default)]
    aud: Audience,
    exp: Option<f64>,
    nbf: Option<f64>,
    iss: Option<String>,
    jti: Option<String>,
    rqh: Option<String>,
    sub: Option<String>,
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
    /// Signs with the key that `config` names, as the node named `node`.
    pub fn new(config: SigningConfig, node: String) -> Signer {
        Signer { config, node }
    }

    /// Who signs.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// A token as Receptor makes it, for any request that the node `target` is to act on.
    ///
    /// # Errors
    /// [`SignError`] when the key file is missing, unreadable or no RSA private key.
    pub fn sign(&self, target: &str, now: SystemTime) -> Result<String, SignError> {
        self.make(target, None, now)
    }

    /// A token for one request alone.
    ///
    /// # Errors
    /// [`SignError`] when the key file is missing, unreadable or no private key.
    pub fn sign_bound(&self, target: &str, bond: Bond<'_>, now: SystemTime) -> Result<String, SignError> {
        self.make(target, Some(bond), now)
    }

    fn make(&self, target: &str, bond: Option<Bond<'_>>, now: SystemTime) -> Result<String, SignError> {
        let path = &self.config.private_key;
        if path.as_os_str().is_empty() {
            return Err(SignError::NoKey);
        }
        let pem =
            std::fs::read(path).map_err(|source| SignError::Unreadable { path: path.clone(), source })?;
        let bad = |source| SignError::BadKey { path: path.clone(), source };
        let (algorithm, key) = key::private(&pem).map_err(bad)?;
        if bond.is_none() && algorithm != Algorithm::RS512 {
            return Err(SignError::NotRsa { path: path.clone(), node: target.to_owned() });
        }
        let bond = match bond {
            Some(Bond { digest, subject }) => {
                let jti = bound::number().ok_or(SignError::NoDice)?;
                Some(Bound { iss: &self.node, jti, rqh: digest, sub: subject })
            }
            None => None,
        };
        let exp = unix(now + self.config.token_expiration).as_secs();
        let mut header = Header::new(algorithm);
        header.kid.clone_from(&self.config.key_id);
        jsonwebtoken::encode(&header, &Made { aud: [target], exp, bond }, &key).map_err(bad)
    }
}

impl Verifier {
    /// Checks as `config` says, as the node named `node`.
    pub fn new(config: Option<Verification>, node: String) -> Verifier {
        Verifier { config, node, seen: Arc::default() }
    }

    /// One that checks as `config` says from now on, and remembers the tokens that this one has seen.
    pub fn renewed(&self, config: Option<Verification>) -> Verifier {
        Verifier { config, ..self.clone() }
    }

    /// Says what `token` proves at `now`, and if it is not good, what is wrong with it. A bound token is used up.
    ///
    /// # Errors
    /// [`VerifyError`], which tells the key from the signature, the time, the audience and the bond.
    pub fn verify(&self, token: &str, asked: Asked<'_>, now: SystemTime) -> Result<Proof, VerifyError> {
        if token.is_empty() {
            return Err(VerifyError::Empty);
        }
        let config = self.config.as_ref().filter(|config| !config.keys.is_empty());
        let config = config.ok_or(VerifyError::NoKey)?;
        let claims = config.read(token)?;
        self.check_time(&claims, now)?;
        self.check_audience(&claims.aud)?;
        let bound = claims.rqh.is_some();
        if bound {
            self.check_bond(&claims, asked, now)?;
        } else if config.accept == Accept::Bound {
            return Err(VerifyError::NotBound);
        }
        Ok(Proof { subject: claims.sub, bound })
    }

    fn check_bond(&self, claims: &Read, asked: Asked<'_>, now: SystemTime) -> Result<(), VerifyError> {
        let missing = |claim| VerifyError::Malformed(format!("token has `rqh` and no `{claim}`"));
        let number = claims.jti.as_deref().ok_or_else(|| missing("jti"))?;
        let issuer = claims.iss.as_deref().ok_or_else(|| missing("iss"))?;
        let ended = claims.exp.ok_or(VerifyError::NoExpiration)?;
        if asked.digest.is_none() || asked.digest != claims.rqh.as_deref() {
            return Err(VerifyError::OtherRequest);
        }
        if let Some(from) = asked.from.filter(|from| *from != issuer) {
            return Err(VerifyError::OtherSender {
                issuer: clipped(issuer, NAME_TOLD),
                from: from.to_owned(),
            });
        }
        // Last, so that only what is good in every other way is remembered.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.note(issuer, number, ended, unix(now).as_secs_f64())
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

    fn check_audience(&self, audience: &Audience) -> Result<(), VerifyError> {
        let named = match audience {
            Audience::Many(named) => named.as_slice(),
            Audience::One(one) => std::slice::from_ref(one),
        };
        if named.contains(&self.node) {
            return Ok(());
        }
        let mut audience = String::new();
        for name in named.iter().take(AUDIENCE_TOLD) {
            let _ = write!(
                audience,
                "{}{:?}",
                if audience.is_empty() { "" } else { ", " },
                clipped(name, NAME_TOLD)
            );
        }
        if named.len() > AUDIENCE_TOLD {
            let _ = write!(audience, " and {} more", named.len() - AUDIENCE_TOLD);
        }
        let audience = if audience.is_empty() { "nobody".to_owned() } else { audience };
        Err(VerifyError::WrongAudience { audience, node: self.node.clone() })
    }
}

impl Verification {
    /// What a token says, if one of the keys that it may be signed with has signed it.
    fn read(&self, token: &str) -> Result<Read, VerifyError> {
        let mut refusal = VerifyError::NoKey;
        for key in self.candidates(token)? {
            match key.read(token) {
                Ok(claims) => return Ok(claims),
                Err(why) => refusal = why,
            }
        }
        Err(refusal)
    }

    /// The key that it names, else those without a name, else all: a key may have got its name later than a sender.
    fn candidates(&self, token: &str) -> Result<Vec<&VerificationKey>, VerifyError> {
        let nameless: Vec<_> = self.keys.iter().filter(|key| key.id.is_none()).collect();
        match jsonwebtoken::decode_header(token).ok().and_then(|header| header.kid) {
            Some(id) => match self.keys.iter().find(|key| key.id.as_ref() == Some(&id)) {
                Some(key) => Ok(vec![key]),
                None if nameless.is_empty() => Err(VerifyError::UnknownKey(clipped(&id, NAME_TOLD))),
                None => Ok(nameless),
            },
            None if nameless.is_empty() => Ok(self.keys.iter().collect()),
            None => Ok(nameless),
        }
    }
}

impl VerificationKey {
    fn read(&self, token: &str) -> Result<Read, VerifyError> {
        let path = &self.path;
        let pem =
            std::fs::read(path).map_err(|source| VerifyError::Unreadable { path: path.clone(), source })?;
        let (algorithm, key) =
            key::public(&pem).map_err(|source| VerifyError::BadKey { path: path.clone(), source })?;
        let mut validation = Validation::new(algorithm);
        // Time and audience are judged by the verifier, where there is more to say than yes or no.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let read =
            jsonwebtoken::decode::<Read>(token, &key, &validation).map_err(|bad| match bad.kind() {
                ErrorKind::InvalidSignature => VerifyError::WrongKey { path: path.clone() },
                ErrorKind::InvalidToken => {
                    VerifyError::Malformed("token contains an invalid number of segments".to_owned())
                }
                ErrorKind::InvalidAlgorithm => VerifyError::Malformed(format!(
                    "token is not signed with {algorithm:?}, the one algorithm accepted"
                )),
                // The library quotes the token where a claim has another type than it should.
                _ => {
                    VerifyError::Malformed(format!("token is malformed: {}", clipped(&bad.to_string(), 120)))
                }
            })?;
        Ok(read.claims)
    }
}

/// A text of a stranger, as long as a message bears, and in one line.
fn clipped(text: &str, letters: usize) -> String {
    let visible = |letter: char| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter };
    text.chars().take(letters).map(visible).collect()
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
