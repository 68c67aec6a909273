//! What PEM files hold, read again when one of them has changed.
//!
//! Files are looked at before each handshake: size, number and times of change tell whether to read them anew. What
//! cannot be used then is told once, and what was read before goes on being used, so that a certificate may be replaced
//! by two writes and a node never loses the one it has.

use std::{
    fmt, fs, io,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::{fingerprint::Fingerprint, issue::key_of, names::Names, profile::ProfileError, provider};

/// The largest file of certificates that is read; a system's whole store has a quarter of a megabyte.
const FILE_MAX: u64 = 16 << 20;

/// What people want to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The file that holds it.
    pub file: PathBuf,
    /// Whom it is for, as text.
    pub subject: String,
    /// Who has signed it, as text.
    pub issuer: String,
    /// The names in it.
    pub names: Names,
    /// It may sign others.
    pub authority: bool,
    /// The kind of its key, as text.
    pub key: String,
    /// Its SHA-256, by which it can be pinned.
    pub sha256: Fingerprint,
    /// From when it is valid, in seconds of Unix time.
    pub not_before: i64,
    /// Until when it is valid, in seconds of Unix time.
    pub not_after: i64,
}

impl CertificateFacts {
    fn of(file: &Path, der: &[u8]) -> Result<CertificateFacts, String> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|error| {
            format!("{} holds a certificate that cannot be read: {error}", file.display())
        })?;
        let names = Names::of_certificate(der).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(CertificateFacts {
            file: file.to_owned(),
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names,
            authority: certificate.is_ca(),
            key: key_of(certificate.public_key()),
            sha256: Fingerprint::sha256(der),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

/// What is to be known of every certificate in the PEM file `path`, with its DER.
pub fn certificates_in(path: &Path) -> Result<Vec<(CertificateDer<'static>, CertificateFacts)>, String> {
    let bytes = read(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{} is no PEM file: {error}", path.display()))?;
    if certificates.is_empty() {
        return Err(format!("{} holds no certificate; it should be in PEM form", path.display()));
    }
    let with_facts = |der: CertificateDer<'static>| Ok((der.clone(), CertificateFacts::of(path, &der)?));
    certificates.into_iter().map(with_facts).collect()
}

/// The bytes of a regular file; a pipe or a device could be read for ever.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("{} cannot be read: {error}", path.display());
    let meta = fs::metadata(path).map_err(failed)?;
    if !meta.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(failed)?.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(format!("{} is larger than any certificate", path.display()));
    }
    Ok(bytes)
}

/// The certificate chain in `cert` and its key in `key`, which must belong together.
pub(super) fn identity(
    cert: &Path,
    key: &Path,
) -> Result<(Arc<CertifiedKey>, Vec<CertificateFacts>), ProfileError> {
    let of_cert = |text| ProfileError { option: "cert", text };
    let of_key = |text| ProfileError { option: "key", text };
    let (chain, facts): (Vec<_>, Vec<_>) = certificates_in(cert).map_err(of_cert)?.into_iter().unzip();
    let der = PrivateKeyDer::from_pem_slice(&read(key).map_err(of_key)?).map_err(|error| {
        of_key(format!("{} holds no key: {error}; it should be a private key in PEM form", key.display()))
    })?;
    let private = provider().key_provider.load_private_key(der).map_err(|error| {
        of_key(format!("the key in {} cannot be used: {error}; use RSA, ECDSA or Ed25519", key.display()))
    })?;
    let certified = CertifiedKey::new(chain, private);
    match certified.keys_match() {
        Ok(()) => Ok((Arc::new(certified), facts)),
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(of_key(format!("{} is not the key of the certificate in {}", key.display(), cert.display())))
        }
        Err(error) => Err(of_cert(format!("{} cannot be used: {error}", cert.display()))),
    }
}

/// The authorities in the file `path`, or those of the system; what is wrong is told of `option`.
pub(super) fn authorities(
    path: Option<&Path>,
    option: &'static str,
) -> Result<(Arc<RootCertStore>, Vec<CertificateFacts>), ProfileError> {
    let failed = |text| ProfileError { option, text };
    let mut roots = RootCertStore::empty();
    let Some(path) = path else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        return match roots.is_empty() {
            true => Err(failed("this system has no store of authorities; name a file of them".to_owned())),
            false => Ok((Arc::new(roots), Vec::new())),
        };
    };
    let mut all = Vec::new();
    for (der, facts) in certificates_in(path).map_err(failed)? {
        roots.add(der).map_err(|error| {
            failed(format!("{} holds a certificate that cannot be used: {error}", path.display()))
        })?;
        all.push(facts);
    }
    Ok((Arc::new(roots), all))
}

/// What was made of some files.
pub(super) struct Watched<T> {
    files: Vec<PathBuf>,
    load: Box<dyn Fn() -> Result<T, ProfileError> + Send + Sync>,
    state: Mutex<State<T>>,
}

struct State<T> {
    stamps: Vec<Option<Stamp>>,
    value: Arc<T>,
}

/// Device and number of the file, its size, when it was written and when it was changed in any way.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl<T> Watched<T> {
    /// Makes it of `files` with `load`.
    pub(super) fn new(
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, ProfileError> + Send + Sync + 'static,
    ) -> Result<Watched<T>, ProfileError> {
        // Before the files are read, so that a change in between is seen later.
        let stamps = stamps(&files);
        let value = Arc::new(load()?);
        Ok(Watched { files, load: Box::new(load), state: Mutex::new(State { stamps, value }) })
    }

    /// What the files hold now, or what they held when they last could be used. `told` says of whom it is in the log.
    pub(super) fn current(&self, told: impl fmt::Display) -> Arc<T> {
        let stamps = stamps(&self.files);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.stamps != stamps {
            state.stamps = stamps;
            match (self.load)() {
                Ok(value) => {
                    state.value = Arc::new(value);
                    tracing::info!("{told}: its files have changed and were read again");
                }
                Err(ProfileError { option, text }) => tracing::warn!(
                    "{told}: its files have changed and cannot be used, so what they held before is: {option}: {text}"
                ),
            }
        }
        state.value.clone()
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |meta: fs::Metadata| {
        let (written, changed) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
        (meta.dev(), meta.ino(), meta.size(), written, changed)
    };
    files.iter().map(|file| fs::metadata(file).ok().map(stamp)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(file: &Path) -> Watched<String> {
        let read_it = file.to_owned();
        Watched::new(vec![file.to_owned()], move || {
            let text = fs::read_to_string(&read_it).unwrap_or_default();
            if text.is_empty() { Err(ProfileError { option: "cert", text }) } else { Ok(text) }
        })
        .unwrap()
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "one").unwrap();
        let watched = watch(&file);
        let first = watched.current("x");
        assert!(Arc::ptr_eq(&first, &watched.current("x")), "unchanged, it is not read again");
        // Replaced, so that it is another file whatever the clock says.
        fs::write(dir.path().join("new"), "two").unwrap();
        fs::rename(dir.path().join("new"), &file).unwrap();
        assert_eq!(*watched.current("x"), "two");
        fs::remove_file(&file).unwrap();
        assert_eq!(*watched.current("x"), "two");
        fs::write(&file, "three").unwrap();
        assert_eq!(*watched.current("x"), "three");
    }
}
