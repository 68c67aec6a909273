//! A signed request: make it, check it.
//!
//! A token is a JWT (RS512) with Receptor's two claims: `aud`, an array that names the node that is to act, and `exp`.
//! Key files are read at every use, so that a rotated key needs no restart.
//!
//! We are stricter than Receptor in two points that no sender of its own depends on: the algorithm is RS512 and no
//! other, and a token without `exp` is refused.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

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

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use rsa::{
        RsaPrivateKey,
        pkcs1::EncodeRsaPrivateKey as _,
        pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding},
        rand_core::OsRng,
    };

    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    struct Keys {
        pkcs1: String,
        pkcs8: String,
        public: String,
    }

    fn keys(which: usize) -> &'static Keys {
        static KEYS: [OnceLock<Keys>; 2] = [const { OnceLock::new() }; 2];
        KEYS[which].get_or_init(|| {
            let key = RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
            Keys {
                pkcs1: key.to_pkcs1_pem(LineEnding::LF).unwrap().to_string(),
                pkcs8: key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(),
                public: key.to_public_key().to_public_key_pem(LineEnding::LF).unwrap(),
            }
        })
    }

    struct Files {
        directory: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Files {
            Files { directory: tempfile::tempdir().unwrap() }
        }

        fn put(&self, name: &str, content: &str) -> PathBuf {
            let path = self.directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        }

        fn signer(&self, pem: &str, minutes: u64) -> Signer {
            let private_key = self.put("private.pem", pem);
            Signer::new(SigningConfig { private_key, token_expiration: Duration::from_secs(60 * minutes) })
        }

        fn verifier(&self, pem: &str) -> Verifier {
            Verifier::new(Some(self.put("public.pem", pem)), "bar".to_owned())
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + NOW + Duration::from_secs(seconds)
    }

    #[test]
    fn both_kinds_of_private_key_sign_what_the_public_one_verifies() {
        let files = Files::new();
        for pem in [&keys(0).pkcs1, &keys(0).pkcs8] {
            let token = files.signer(pem, 5).sign("bar", at(0)).unwrap();
            files.verifier(&keys(0).public).verify(&token, at(299)).unwrap();
        }
    }

    #[test]
    fn a_token_says_what_receptor_says_and_no_more() {
        let files = Files::new();
        let token = files.signer(&keys(0).pkcs1, 5).sign("bar", at(0)).unwrap();
        let key = read_public(&files.put("public.pem", &keys(0).public)).unwrap();
        let mut validation = Validation::new(Algorithm::RS512);
        (validation.validate_exp, validation.validate_aud) = (false, false);
        let read = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation).unwrap();
        assert_eq!(read.claims, serde_json::json!({"aud": ["bar"], "exp": NOW.as_secs() + 300}));
        assert_eq!((read.header.alg, read.header.typ.as_deref()), (Algorithm::RS512, Some("JWT")));
    }

    #[test]
    fn a_refusal_says_whether_key_time_or_audience_was_wrong() {
        let files = Files::new();
        let verifier = files.verifier(&keys(0).public);
        let refusal = |token: &str, now| verifier.verify(token, now).unwrap_err().to_string();
        let good = files.signer(&keys(0).pkcs1, 5).sign("bar", at(0)).unwrap();
        let late = refusal(&good, at(306));
        assert!(late.starts_with("could not verify signature: token is expired by 6s"), "{late}");
        let elsewhere = files.signer(&keys(0).pkcs1, 5).sign("foo", at(0)).unwrap();
        let elsewhere = refusal(&elsewhere, at(0));
        assert_eq!(elsewhere, "token audience did not match node ID: it is for \"foo\", this node is bar");
        let foreign = files.signer(&keys(1).pkcs1, 5).sign("bar", at(0)).unwrap();
        let foreign = refusal(&foreign, at(0));
        assert!(
            foreign.starts_with("could not verify signature: crypto/rsa: verification error"),
            "{foreign}"
        );
        assert_eq!(refusal("", at(0)), "could not verify signature: signature is empty");
        let none = "could not verify signature: token contains an invalid number of segments";
        assert_eq!(refusal("abc", at(0)), none);
        let (head, _) = good.rsplit_once('.').unwrap();
        assert!(verifier.verify(&format!("{head}."), at(0)).is_err());
    }

    #[test]
    fn another_algorithm_or_a_token_without_an_end_is_refused() {
        let files = Files::new();
        let verifier = files.verifier(&keys(0).public);
        let key = EncodingKey::from_rsa_pem(keys(0).pkcs1.as_bytes()).unwrap();
        let claims = serde_json::json!({"aud": ["bar"], "exp": NOW.as_secs() + 300});
        let other = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key).unwrap();
        assert!(verifier.verify(&other, at(0)).unwrap_err().to_string().contains("RS512"));
        let secret = EncodingKey::from_secret(keys(0).public.as_bytes());
        let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &secret).unwrap();
        assert!(verifier.verify(&forged, at(0)).is_err());
        let endless = serde_json::json!({"aud": ["bar"]});
        let endless = jsonwebtoken::encode(&Header::new(Algorithm::RS512), &endless, &key).unwrap();
        assert!(matches!(verifier.verify(&endless, at(0)), Err(VerifyError::NoExpiration)));
    }

    #[test]
    fn a_missing_or_useless_key_is_named() {
        let files = Files::new();
        let none = Verifier::new(None, "bar".to_owned()).verify("x", at(0)).unwrap_err();
        assert_eq!(none.to_string(), "could not verify signature: verifying key not specified");
        let missing = Verifier::new(Some("/nowhere/key.pem".into()), "bar".to_owned());
        let missing = missing.verify("x", at(0)).unwrap_err().to_string();
        assert!(
            missing.starts_with("could not load verifying key file: open /nowhere/key.pem: "),
            "{missing}"
        );
        let useless = files.signer("no key", 5).sign("bar", at(0)).unwrap_err().to_string();
        assert!(useless.contains("private.pem") && useless.contains("PEM"), "{useless}");
    }
}
