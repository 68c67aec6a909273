//! A bound token is good once, for one request, from the node that signed it; and keys are chosen by what they are called.

use std::process::Command;

use super::*;

/// A digest of some request, and what is said when exactly that comes from `foo`.
const REQUEST: &str = "d1";
const SAME: Asked<'_> = Asked { digest: Some(REQUEST), from: Some("foo") };

fn bond(digest: &str) -> Bond<'_> {
    Bond { digest, subject: "uid:5@foo" }
}

/// A key pair of another kind than RSA, as `openssl genpkey` makes it.
fn pair(files: &Files, kind: &[&str]) -> (String, String) {
    let private = files.directory.path().join(kind.join("-"));
    let made = Command::new("openssl").arg("genpkey").args(kind).arg("-out").arg(&private).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let public = Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&private).output().unwrap();
    (std::fs::read_to_string(private).unwrap(), String::from_utf8(public.stdout).unwrap())
}

fn refusal(verifier: &Verifier, token: &str, asked: Asked<'_>) -> VerifyError {
    verifier.verify(token, asked, at(0)).expect_err("good")
}

#[test]
fn a_bound_token_is_good_for_its_request_alone_and_once() {
    let files = Files::new();
    let verifier = files.verifier(&keys(0).public);
    let token = files.signer(&keys(0).pkcs1, 5).sign_bound("bar", bond(REQUEST), at(0)).unwrap();
    for bent in [Some("d2"), Some(""), None] {
        let refused = refusal(&verifier, &token, Asked { digest: bent, ..SAME });
        assert!(matches!(refused, VerifyError::OtherRequest), "{bent:?}: {refused}");
    }
    let stolen = refusal(&verifier, &token, Asked { from: Some("thief"), ..SAME });
    assert_eq!(
        stolen.to_string(),
        "could not verify signature: token was signed by node foo, and node thief sent it"
    );
    // What was refused has not used it up.
    let proof = verifier.verify(&token, SAME, at(1)).unwrap();
    assert_eq!(proof, Proof { subject: Some("uid:5@foo".to_owned()), bound: true });
    assert!(matches!(refusal(&verifier, &token, SAME), VerifyError::Replayed));
    // Another one for the same request is another use.
    let again = files.signer(&keys(0).pkcs1, 5).sign_bound("bar", bond(REQUEST), at(0)).unwrap();
    verifier.verify(&again, SAME, at(0)).unwrap();
}

#[test]
fn a_verifier_with_new_keys_remembers_the_tokens_of_the_old_one() {
    let files = Files::new();
    let verifier = files.verifier(&keys(0).public);
    let token = files.signer(&keys(0).pkcs1, 5).sign_bound("bar", bond(REQUEST), at(0)).unwrap();
    verifier.verify(&token, SAME, at(0)).unwrap();
    let renewed = verifier.renewed(Some(files.put("public.pem", &keys(0).public).into()));
    assert!(matches!(refusal(&renewed, &token, SAME), VerifyError::Replayed));
}

#[test]
fn who_accepts_bound_tokens_only_refuses_receptors() {
    let files = Files::new();
    let signer = files.signer(&keys(0).pkcs1, 5);
    let key = VerificationKey { id: None, path: files.put("public.pem", &keys(0).public) };
    let strict = Verification { keys: vec![key], accept: Accept::Bound };
    let strict = Verifier::new(Some(strict), "bar".to_owned());
    assert!(matches!(refusal(&strict, &signer.sign("bar", at(0)).unwrap(), SAME), VerifyError::NotBound));
    strict.verify(&signer.sign_bound("bar", bond(REQUEST), at(0)).unwrap(), SAME, at(0)).unwrap();
}

#[test]
fn a_token_that_is_half_bound_is_refused() {
    let files = Files::new();
    let verifier = files.verifier(&keys(0).public);
    let key = EncodingKey::from_rsa_pem(keys(0).pkcs1.as_bytes()).unwrap();
    for missing in ["jti", "iss"] {
        let mut claims = serde_json::json!({"aud": ["bar"], "exp": NOW.as_secs() + 300, "rqh": REQUEST, "jti": "1", "iss": "foo"});
        claims.as_object_mut().unwrap().remove(missing);
        let token = jsonwebtoken::encode(&Header::new(Algorithm::RS512), &claims, &key).unwrap();
        let refused = refusal(&verifier, &token, SAME).to_string();
        assert!(refused.contains(&format!("no `{missing}`")), "{refused}");
    }
}

#[test]
fn keys_of_p256_and_ed25519_sign_bound_tokens_and_none_for_receptor() {
    let files = Files::new();
    for kind in [&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..], &["-algorithm", "ED25519"]]
    {
        let (private, public) = pair(&files, kind);
        let (signer, verifier) = (files.signer(&private, 5), files.verifier(&public));
        let token = signer.sign_bound("bar", bond(REQUEST), at(0)).unwrap();
        assert!(verifier.verify(&token, SAME, at(0)).unwrap().bound, "{kind:?}");
        let refused = signer.sign("bar", at(0)).unwrap_err();
        assert!(matches!(refused, SignError::NotRsa { .. }), "{refused}");
        // A key is never taken for one of another kind.
        let rsa = files.signer(&keys(0).pkcs1, 5).sign("bar", at(0)).unwrap();
        assert!(verifier.verify(&rsa, ANY, at(0)).is_err(), "{kind:?}");
    }
}

#[test]
fn a_token_that_names_its_key_is_checked_with_that_one() {
    let files = Files::new();
    let signer = |id: Option<&str>, which: usize| {
        let private_key = files.put("private.pem", &keys(which).pkcs1);
        let key_id = id.map(str::to_owned);
        let config = SigningConfig { private_key, key_id, token_expiration: Duration::from_secs(300) };
        Signer::new(config, "foo".to_owned()).sign("bar", at(0)).unwrap()
    };
    let key = |id: Option<&str>, which: usize| VerificationKey {
        id: id.map(str::to_owned),
        path: files.put(&format!("public{which}.pem"), &keys(which).public),
    };
    let verifier = |keys: Vec<VerificationKey>| {
        Verifier::new(Some(Verification { keys, accept: Accept::Compatible }), "bar".to_owned())
    };
    let two = verifier(vec![key(Some("old"), 0), key(Some("new"), 1)]);
    two.verify(&signer(Some("old"), 0), ANY, at(0)).unwrap();
    two.verify(&signer(Some("new"), 1), ANY, at(0)).unwrap();
    two.verify(&signer(None, 1), ANY, at(0)).unwrap();
    assert!(matches!(refusal(&two, &signer(Some("new"), 0), ANY), VerifyError::WrongKey { .. }));
    let unknown = refusal(&two, &signer(Some("other"), 0), ANY);
    assert!(matches!(&unknown, VerifyError::UnknownKey(id) if id == "other"), "{unknown}");
    // A key without a name is for every token whose key has no name here.
    let mixed = verifier(vec![key(None, 0), key(Some("new"), 1)]);
    mixed.verify(&signer(Some("whatever"), 0), ANY, at(0)).unwrap();
    assert!(refusal(&mixed, &signer(None, 1), ANY).to_string().contains("crypto/rsa"));
}
