//! Certificates made through the front door, judged by OpenSSL where it is installed.

mod common;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
};

use common::{Pki, Ran, World, cert_command, finish, program};

/// Runs OpenSSL; `None` where there is none.
fn openssl(words: &[&str]) -> Option<Ran> {
    let mut command = Command::new("openssl");
    let child =
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    match child {
        Ok(child) => Some(finish(child, words)),
        Err(error) => {
            println!("SKIPPED: openssl does not run: {error}");
            None
        }
    }
}

/// Runs the program under the name `receptor`.
fn receptor(world: &World, words: &[&str]) -> Ran {
    let name = world.path().join("receptor");
    if !name.exists() {
        symlink(program(), &name).expect("a link");
    }
    let mut command = Command::new(name);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.spawn().expect("the program starts"), words)
}

#[test]
fn openssl_accepts_what_is_made_with_either_kind_of_key() {
    for bits in [&[][..], &["--bits", "2048"]] {
        let world = World::new();
        let pki = Pki::new(&world, "ca");
        let at = |file: &str| world.path().join(file).display().to_string();
        let (req, key) = (at("a.req"), at("a.key"));
        let mut words = vec!["makereq", "--commonname", "a", "--outreq", &req, "--outkey", &key];
        words.extend(["--dnsname", "a.example", "--ipaddress", "::1", "--nodeid", "node a"]);
        words.extend(bits);
        cert_command(&words).ok();
        let (ca, ca_key, cert) = (pki.file("ca", "crt"), pki.file("ca", "key"), at("a.crt"));
        cert_command(&[
            "signreq",
            "--req",
            &req,
            "--cacert",
            &ca,
            "--cakey",
            &ca_key,
            "--outcert",
            &cert,
            "--yes",
        ])
        .ok();
        for file in [&key, &ca_key] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
        }
        for words in [
            &["req", "-in", &req, "-noout", "-verify"][..],
            &["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", &ca, &cert],
            &["verify", "-purpose", "sslclient", "-CAfile", &ca, &cert],
            &["pkey", "-in", &key, "-noout", "-check"],
        ] {
            let Some(ran) = openssl(words) else { return };
            assert_eq!(ran.code, Some(0), "{ran:#?}");
        }
        let Some(text) = openssl(&["x509", "-in", &cert, "-noout", "-text"]) else { return };
        let text = text.ok();
        for expected in [
            "DNS:a.example",
            "IP Address:0:0:0:0:0:0:0:1",
            "CN = a",
            "TLS Web Client Authentication",
            "1.3.6.1.4.1.2312.19.1",
        ] {
            assert!(
                text.contains(expected) || text.replace("CN=", "CN = ").contains(expected),
                "{expected} in {text}"
            );
        }
        let pin = openssl(&["x509", "-in", &cert, "-noout", "-fingerprint", "-sha256"]).unwrap().ok();
        let shown = cert_command(&["show", &cert]).ok();
        assert!(shown.contains(pin.trim().split_once('=').unwrap().1), "{shown}");
        assert!(shown.contains("Node ID     node a") && shown.contains(": valid"), "{shown}");
    }
}

#[test]
fn receptors_command_lines_make_a_working_set() {
    let world = World::new();
    let at = |file: &str| world.path().join(file).display().to_string();
    let word = |key: &str, file: &str| format!("{key}={}", at(file));
    receptor(
        &world,
        &[
            "--cert-init",
            "commonname=test CA",
            "bits=2048",
            &word("outcert", "ca.crt"),
            &word("outkey", "ca.key"),
        ],
    )
    .ok();
    receptor(
        &world,
        &[
            "--cert-makereq",
            "bits=2048",
            "commonname=foo",
            "dnsname=localhost",
            "dnsname=foo.example",
            "nodeid=foo",
            &word("outreq", "foo.req"),
            &word("outkey", "foo.key"),
        ],
    )
    .ok();
    let sign = [
        word("req", "foo.req"),
        word("cacert", "ca.crt"),
        word("cakey", "ca.key"),
        word("outcert", "foo.crt"),
    ];
    let sign: Vec<&str> = sign.iter().map(String::as_str).collect();
    let unasked = receptor(&world, &[&["--cert-signreq"], &sign[..]].concat());
    assert_eq!(unasked.code, Some(1), "nobody has answered: {unasked:#?}");
    assert!(
        unasked.stdout.contains("Receptor Node ID: foo") && unasked.stdout.contains("RSA (2048 bits)"),
        "{unasked:#?}"
    );
    receptor(&world, &[&["--cert-signreq", "verify=yes"], &sign[..]].concat()).ok();
    let shown = cert_command(&["show", &at("foo.crt")]).ok();
    assert!(shown.contains("DNS name    foo.example") && shown.contains("Node ID     foo"), "{shown}");
    let wrong = receptor(&world, &["--cert-init", "commonname=x", "size=5"]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("argument 3: cert-init: unknown key `size`"), "{wrong:#?}");
    assert!(wrong.stderr.contains("required parameters missing: outcert, outkey"), "{wrong:#?}");
}

#[test]
fn one_file_makes_a_whole_set_and_starts_no_node() {
    let world = World::new();
    let dir = world.path().display().to_string();
    let text = format!(
        "version: 2\n\
         cert-signreqs:\n- {{req: {dir}/a.req, cacert: {dir}/ca.crt, cakey: {dir}/ca.key, outcert: {dir}/a.crt, verify: true}}\n\
         cert-init: {{commonname: ca, outcert: {dir}/ca.crt, outkey: {dir}/ca.key, notafter: \"2040-01-01T00:00:00Z\"}}\n\
         cert-makereqs:\n- {{commonname: a, nodeid: a, outreq: {dir}/a.req, outkey: {dir}/a.key}}\n"
    );
    let file = world.path().join("certs.yml");
    fs::write(&file, &text).unwrap();
    let run = |file: &Path| receptor(&world, &["-c", &file.display().to_string()]);
    run(&file).ok();
    assert!(cert_command(&["show", &format!("{dir}/a.crt")]).ok().contains("Node ID     a"));
    assert!(cert_command(&["show", &format!("{dir}/ca.crt")]).ok().contains("2040-01-01T00:00:00Z"));
    fs::write(&file, text + "node: {id: a}\n").unwrap();
    let mixed = run(&file);
    assert_eq!(mixed.code, Some(1));
    assert!(mixed.stderr.contains("cannot specify any other options with cert-"), "{mixed:#?}");
}

#[test]
fn what_is_there_is_not_overwritten_unasked() {
    let world = World::new();
    let pki = Pki::new(&world, "ca");
    let (cert, key) = (pki.file("ca", "crt"), pki.file("ca", "key"));
    let before = fs::read(&key).unwrap();
    let again = cert_command(&["init", "--commonname", "x", "--outcert", &cert, "--outkey", &key]);
    assert_eq!(again.code, Some(125));
    assert!(again.stderr.contains("--force"), "{again:#?}");
    assert_eq!(fs::read(&key).unwrap(), before);
}
