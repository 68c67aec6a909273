//! Tokens of signed requests: a good one proves what its claims say and no more, and a refusal can stand in a log.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::Value;

use super::files::Scratch;
use crate::sign::{Accept, Asked, Verification, VerificationKey, Verifier, VerifyError};

const NOW: u64 = 1_800_000_000;
const NODE: &str = "bar";
const KEY_ID: &str = "k";
/// What was asked of us, and by whom.
const ASKED: Asked<'_> = Asked { digest: Some("d1"), from: Some("foo") };
/// The longest refusal that a log should have to bear.
const REFUSAL_MAX: usize = 600;

/// The first byte says what is accepted, and what the rest is: a token as it stands, or a header and behind a line feed
/// claims, which are signed with the right key.
pub fn token(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed of 32 bytes");
    let private: Pkcs8V1Der<'_> = key.as_der().expect("a key");
    let private = EncodingKey::from_ed_der(private.as_ref());
    let signed = |message: &str| {
        let signature = crypto::sign(message.as_bytes(), &private, Algorithm::EdDSA).expect("a key signs");
        format!("{message}.{signature}")
    };
    let token = if choice & 1 == 0 {
        String::from_utf8_lossy(rest).into_owned()
    } else {
        let mut parts = rest.splitn(2, |byte| *byte == b'\n').map(url_safe);
        let (header, claims) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        signed(&format!("{header}.{claims}"))
    };
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path()).expect("a scratch directory");
    let path = scratch.path().join("public.pem");
    let public: PublicKeyX509Der<'_> = key.public_key().as_der().expect("a key");
    let public = standard(public.as_ref());
    fs::write(&path, format!("-----BEGIN PUBLIC KEY-----\n{public}\n-----END PUBLIC KEY-----\n"))
        .expect("a file");
    let id = (choice & 2 != 0).then(|| KEY_ID.to_owned());
    let accept = if choice & 4 == 0 { Accept::Compatible } else { Accept::Bound };
    let config = Verification { keys: vec![VerificationKey { id: id.clone(), path }], accept };
    let verifier = Verifier::new(Some(config), NODE.to_owned());
    let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(NOW + seconds);

    let proof = match verifier.verify(&token, ASKED, at(0)) {
        Ok(proof) => proof,
        Err(why) => return refused(&why),
    };
    let (message, _) = token.rsplit_once('.').expect("a token has three parts");
    assert_eq!(signed(message), token, "another signature than that of the key was taken");
    let json = |part: &str| serde_json::from_slice(&plain(part).expect("it was read")).ok();
    let mut parts = message.split('.').map(json);
    // In a member that means nothing to us an escape may be wrong, and then nobody else reads the whole.
    let (Some(Some(header)), Some(Some(claims))) = (parts.next(), parts.next()) else { return };
    let (header, claims): (Value, Value) = (header, claims);
    assert_eq!(header["alg"], "EdDSA");
    assert!(id.is_none() || header["kid"].is_null() || header["kid"] == KEY_ID, "{header}");
    assert!(claims["exp"].as_f64().is_some_and(|ends| ends > NOW as f64), "{claims}");
    assert!(claims["nbf"].is_null() || claims["nbf"].as_f64().is_some_and(|begins| begins <= NOW as f64));
    let audience: BTreeSet<&str> = match &claims["aud"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => name.as_str().into_iter().collect(),
    };
    assert!(audience.contains(NODE), "{claims}");
    assert_eq!((proof.bound, proof.subject.as_deref()), (!claims["rqh"].is_null(), claims["sub"].as_str()));
    assert!(proof.bound || accept == Accept::Compatible, "{claims}");
    let again = |asked, now: SystemTime| verifier.verify(&token, asked, now);
    if proof.bound {
        assert!(claims["jti"].is_string() && claims["rqh"] == "d1" && claims["iss"] == "foo", "{claims}");
        assert!(matches!(again(ASKED, at(0)), Err(VerifyError::Replayed)), "used twice");
        for other in [Asked { digest: Some("d2"), ..ASKED }, Asked { digest: None, ..ASKED }] {
            assert!(matches!(again(other, at(0)), Err(VerifyError::OtherRequest)));
        }
        assert!(matches!(
            again(Asked { from: Some("thief"), ..ASKED }, at(0)),
            Err(VerifyError::OtherSender { .. })
        ));
    } else {
        assert_eq!(again(Asked::default(), at(0)).ok(), Some(proof));
    }
    if claims["exp"].as_f64().is_some_and(|ends| ends <= (NOW + 100) as f64) {
        assert!(matches!(again(ASKED, at(100)), Err(VerifyError::Expired { .. })), "{claims}");
    }
}

fn refused(why: &VerifyError) {
    let told = why.to_string();
    assert!(!told.trim().is_empty() && !told.contains(char::is_control), "{told:?}");
    assert!(told.chars().count() <= REFUSAL_MAX, "a refusal of {} letters", told.chars().count());
    let line = why.code().refusal(&told);
    assert_eq!(line.matches('\n').count(), 1);
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 as PEM has it. Source: RFC 4648, 4.
fn standard(bytes: &[u8]) -> String {
    let text = digits(bytes, STANDARD);
    let padding = "=".repeat(text.len().next_multiple_of(4) - text.len());
    text + &padding
}

/// Base64 as tokens have it, which is not padded. Source: RFC 4648, 5.
pub(crate) fn url_safe(bytes: &[u8]) -> String {
    digits(bytes, URL_SAFE)
}

fn digits(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number =
            (0..3).fold(0, |number, at| number << 8 | u32::from(three.get(at).copied().unwrap_or(0)));
        let digit = |at: usize| char::from(alphabet[(number >> (18 - 6 * at)) as usize & 63]);
        text.extend((0..=three.len()).map(digit));
    }
    text
}

/// The bytes that a text in base64 stands for.
fn plain(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut number, mut bits) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes() {
        let digit = URL_SAFE.iter().position(|letter| *letter == byte)?;
        number = number << 6 | u32::try_from(digit).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((number >> bits) as u8);
            number &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}
