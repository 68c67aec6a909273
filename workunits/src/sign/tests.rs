//! Good tokens pass, every kind of bad one is refused, and the refusal says which kind it was.

mod bound;

use std::sync::OnceLock;

use rsa::{
    RsaPrivateKey,
    pkcs1::EncodeRsaPrivateKey as _,
    pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding},
    rand_core::OsRng,
};

use jsonwebtoken::{DecodingKey, EncodingKey};

use super::*;
use crate::fuzz::url_safe;

/// What a request shows that no token is bound to.
const ANY: Asked<'_> = Asked { digest: None, from: None };
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
        let token_expiration = Duration::from_secs(60 * minutes);
        Signer::new(SigningConfig { private_key, key_id: None, token_expiration }, "foo".to_owned())
    }

    fn verifier(&self, pem: &str) -> Verifier {
        Verifier::new(Some(self.put("public.pem", pem).into()), "bar".to_owned())
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
        files.verifier(&keys(0).public).verify(&token, ANY, at(299)).unwrap();
    }
}

#[test]
fn a_token_says_what_receptor_says_and_no_more() {
    let files = Files::new();
    let token = files.signer(&keys(0).pkcs1, 5).sign("bar", at(0)).unwrap();
    let key = DecodingKey::from_rsa_pem(keys(0).public.as_bytes()).unwrap();
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
    let refusal = |token: &str, now| verifier.verify(token, ANY, now).unwrap_err().to_string();
    let good = files.signer(&keys(0).pkcs1, 5).sign("bar", at(0)).unwrap();
    let late = refusal(&good, at(306));
    assert!(late.starts_with("could not verify signature: token is expired by 6s"), "{late}");
    let elsewhere = files.signer(&keys(0).pkcs1, 5).sign("foo", at(0)).unwrap();
    let elsewhere = refusal(&elsewhere, at(0));
    assert_eq!(elsewhere, "token audience did not match node ID: it is for \"foo\", this node is bar");
    let foreign = files.signer(&keys(1).pkcs1, 5).sign("bar", at(0)).unwrap();
    let foreign = refusal(&foreign, at(0));
    assert!(foreign.starts_with("could not verify signature: crypto/rsa: verification error"), "{foreign}");
    assert_eq!(refusal("", at(0)), "could not verify signature: signature is empty");
    let none = "could not verify signature: token contains an invalid number of segments";
    assert_eq!(refusal("abc", at(0)), none);
    let (head, _) = good.rsplit_once('.').unwrap();
    assert!(verifier.verify(&format!("{head}."), ANY, at(0)).is_err());
}

#[test]
fn what_stands_in_a_token_breaks_no_line_of_a_log_and_fills_none() {
    let files = Files::new();
    let verifier = files.verifier(&keys(0).public);
    // Nobody needs a key to have this read: a header alone, `{"alg":"x\nx\n..."}`.
    let header = format!(r#"{{"alg":"{}"}}"#, r"x\n".repeat(1_000));
    let nameless = jsonwebtoken::encode(&Header::default(), &"", &EncodingKey::from_secret(b"")).unwrap();
    let (_, rest) = nameless.split_once('.').unwrap();
    let forged = format!("{}.{rest}", url_safe(header.as_bytes()));
    let key = EncodingKey::from_rsa_pem(keys(0).pkcs1.as_bytes()).unwrap();
    let signed = |claims| jsonwebtoken::encode(&Header::new(Algorithm::RS512), &claims, &key).unwrap();
    let long = "y\n".repeat(1_000);
    let end = NOW.as_secs() + 300;
    for token in [
        forged,
        signed(serde_json::json!({"aud": ["bar"], "exp": long})),
        signed(serde_json::json!({"aud": vec![&long; 1_000], "exp": end})),
    ] {
        let told = verifier.verify(&token, ANY, at(0)).unwrap_err().to_string();
        assert!(!told.contains('\n') && told.chars().count() < 400, "{told}");
    }
}

#[test]
fn another_algorithm_or_a_token_without_an_end_is_refused() {
    let files = Files::new();
    let verifier = files.verifier(&keys(0).public);
    let key = EncodingKey::from_rsa_pem(keys(0).pkcs1.as_bytes()).unwrap();
    let claims = serde_json::json!({"aud": ["bar"], "exp": NOW.as_secs() + 300});
    let other = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key).unwrap();
    assert!(verifier.verify(&other, ANY, at(0)).unwrap_err().to_string().contains("RS512"));
    let secret = EncodingKey::from_secret(keys(0).public.as_bytes());
    let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &secret).unwrap();
    assert!(verifier.verify(&forged, ANY, at(0)).is_err());
    let endless = serde_json::json!({"aud": ["bar"]});
    let endless = jsonwebtoken::encode(&Header::new(Algorithm::RS512), &endless, &key).unwrap();
    assert!(matches!(verifier.verify(&endless, ANY, at(0)), Err(VerifyError::NoExpiration)));
}

#[test]
fn a_missing_or_useless_key_is_named() {
    let files = Files::new();
    let none = Verifier::new(None, "bar".to_owned()).verify("x", ANY, at(0)).unwrap_err();
    assert_eq!(none.to_string(), "could not verify signature: verifying key not specified");
    let missing = Verifier::new(Some(PathBuf::from("/nowhere/key.pem").into()), "bar".to_owned());
    let missing = missing.verify("x", ANY, at(0)).unwrap_err().to_string();
    assert!(missing.starts_with("could not load verifying key file: open /nowhere/key.pem: "), "{missing}");
    let useless = files.signer("no key", 5).sign("bar", at(0)).unwrap_err().to_string();
    assert!(useless.contains("private.pem") && useless.contains("PEM"), "{useless}");
}
