//! Does what a [`Job`] says: reads, asks, signs, writes.

use std::{
    fs,
    io::{BufRead, Write},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use netmesh::tls::issue::{IssueError, Key, Request, authority, request};

use super::{CertError, Existing, Job, KeyFile};

/// Keys are for their owner, from their first byte on.
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;

/// Makes what `job` says. A person is shown requests on `out`, and answers on `answers`.
pub(crate) fn make(
    job: &Job,
    existing: Existing,
    answers: &mut dyn BufRead,
    out: &mut dyn Write,
) -> Result<(), CertError> {
    match job {
        Job::Authority { common_name, key, validity, out_cert, out_key } => {
            check_free(existing, &[out_cert, out_key])?;
            let key = Key::generate(*key)?;
            let certificate = authority(common_name, &key, *validity)?;
            write_key(out_key, &key)?;
            write(out_cert, &certificate, CERTIFICATE_MODE)
        }
        Job::Request { common_name, names, key, out_req } => {
            let key = match key {
                KeyFile::Read(file) => {
                    check_free(existing, &[out_req])?;
                    read_key(file)?
                }
                KeyFile::Make { kind, out } => {
                    check_free(existing, &[out_req, out])?;
                    let key = Key::generate(*kind)?;
                    write_key(out, &key)?;
                    key
                }
            };
            write(out_req, &request(common_name, names, &key)?, CERTIFICATE_MODE)
        }
        Job::Sign { req, ca_cert, ca_key, validity, verified, out_cert } => {
            check_free(existing, &[out_cert])?;
            let asked = Request::from_pem(&read(req)?).map_err(of(req))?;
            if asked.names.is_empty() {
                return Err(of(req)(IssueError::NoNames));
            }
            let (ca, key) = (read(ca_cert)?, read_key(ca_key)?);
            if !verified {
                confirm(&asked, answers, out)?;
            }
            let at_fault = |why| match why {
                IssueError::OtherKey => of(ca_key)(why),
                IssueError::Certificate(_) | IssueError::NoAuthority => of(ca_cert)(why),
                why => why.into(),
            };
            write(out_cert, &asked.sign(&ca, &key, *validity).map_err(at_fault)?, CERTIFICATE_MODE)
        }
    }
}

fn of(file: &Path) -> impl Fn(IssueError) -> CertError {
    move |why| CertError::Issue { file: file.to_owned(), why }
}

/// Shows a request as Receptor does, and waits for `y` or `yes`.
fn confirm(asked: &Request, answers: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), CertError> {
    let mut text = format!(
        "Requested certificate:\n  Subject: {}\n  Encryption Algorithm: {}\n",
        asked.subject, asked.key
    );
    text += "  Names:\n";
    for name in &asked.names.dns {
        text += &format!("    DNS Name: {name}\n");
    }
    for address in &asked.names.ips {
        text += &format!("    IP Address: {address}\n");
    }
    for node in &asked.names.nodes {
        text += &format!("    Receptor Node ID: {node}\n");
    }
    // What others wrote must not move the cursor about under the question.
    let shown: String = text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect();
    let told = write!(out, "{shown}Sign certificate (yes/no)? ").and_then(|()| out.flush());
    told.map_err(|why| CertError::Write { file: "the terminal".into(), why })?;
    let mut answer = String::new();
    match answers.read_line(&mut answer) {
        Ok(0) | Err(_) => Err(CertError::NoAnswer),
        Ok(_) if ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) => Ok(()),
        Ok(_) => Err(CertError::Declined),
    }
}

fn check_free(existing: Existing, files: &[&Path]) -> Result<(), CertError> {
    let taken = files.iter().find(|file| existing == Existing::Keep && file.symlink_metadata().is_ok());
    taken.map_or(Ok(()), |file| Err(CertError::Exists(file.to_path_buf())))
}

fn read(file: &Path) -> Result<Vec<u8>, CertError> {
    fs::read(file).map_err(|why| CertError::Read { file: file.to_owned(), why: why.to_string() })
}

fn read_key(file: &Path) -> Result<Key, CertError> {
    Key::from_pem(&read(file)?).map_err(of(file))
}

fn write_key(file: &Path, key: &Key) -> Result<(), CertError> {
    // Every key that was made has a text.
    write(file, &key.to_pem().unwrap_or_default(), KEY_MODE)
}

/// Puts a whole file there or none, with its mode from the beginning.
fn write(file: &Path, text: &str, mode: u32) -> Result<(), CertError> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = || {
        let mut new = tempfile::Builder::new()
            .prefix(".netmesh-cert-")
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(directory)?;
        new.write_all(text.as_bytes())?;
        new.as_file().sync_all()?;
        new.persist(file)?;
        Ok(())
    };
    written().map_err(|why| CertError::Write { file: file.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use netmesh::tls::{
        certificates_in,
        issue::{KeyKind, Validity},
        names::Names,
    };

    use super::*;

    fn make_in(directory: &Path, answer: &str, verified: bool) -> (Result<(), CertError>, String) {
        let at = |file: &str| directory.join(file);
        let mut out = Vec::new();
        let mut run = |job: Job| make(&job, Existing::Replace, &mut answer.as_bytes(), &mut out);
        run(Job::Authority {
            common_name: "ca".into(),
            key: KeyKind::Ecdsa,
            validity: Validity::default(),
            out_cert: at("ca.crt"),
            out_key: at("ca.key"),
        })
        .unwrap();
        run(Job::Request {
            common_name: "a".into(),
            names: Names { nodes: vec!["node\u{7}a".into()], ..Names::default() },
            key: KeyFile::Make { kind: KeyKind::Ecdsa, out: at("a.key") },
            out_req: at("a.req"),
        })
        .unwrap();
        let signed = run(Job::Sign {
            req: at("a.req"),
            ca_cert: at("ca.crt"),
            ca_key: at("ca.key"),
            validity: Validity::default(),
            verified,
            out_cert: at("a.crt"),
        });
        (signed, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_request_is_signed_when_somebody_says_yes_or_has_looked_before() {
        let directory = tempfile::tempdir().unwrap();
        for (answer, verified) in [("yes\n", false), ("Y\n", false), ("", true)] {
            let (signed, shown) = make_in(directory.path(), answer, verified);
            signed.unwrap();
            assert_eq!(shown.contains("Receptor Node ID: node?a"), !verified, "{shown}");
            let (_, facts) = certificates_in(&directory.path().join("a.crt")).unwrap().remove(0);
            assert_eq!(facts.names.nodes, ["node\u{7}a"]);
            fs::remove_file(directory.path().join("a.crt")).unwrap();
        }
        for (answer, expected) in [("no\n", "user declined"), ("", "nobody has answered")] {
            let (signed, _) = make_in(directory.path(), answer, false);
            assert!(signed.unwrap_err().to_string().contains(expected));
            assert!(!directory.path().join("a.crt").exists());
        }
    }

    #[test]
    fn keys_are_for_their_owner_alone_even_where_a_file_was_open_to_all() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("a.key");
        fs::write(&key, "old").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o666)).unwrap();
        make_in(directory.path(), "", true).0.unwrap();
        for file in ["ca.key", "a.key"] {
            let mode = fs::metadata(directory.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn what_is_there_is_kept_unless_it_may_be_replaced() {
        let directory = tempfile::tempdir().unwrap();
        make_in(directory.path(), "", true).0.unwrap();
        let before = fs::read(directory.path().join("ca.key")).unwrap();
        let job = Job::Authority {
            common_name: "ca".into(),
            key: KeyKind::Ecdsa,
            validity: Validity::default(),
            out_cert: directory.path().join("new.crt"),
            out_key: directory.path().join("ca.key"),
        };
        let refused = make(&job, Existing::Keep, &mut &b""[..], &mut Vec::new());
        assert!(matches!(refused, Err(CertError::Exists(_))));
        assert_eq!(fs::read(directory.path().join("ca.key")).unwrap(), before);
        assert!(!directory.path().join("new.crt").exists());
    }
}
