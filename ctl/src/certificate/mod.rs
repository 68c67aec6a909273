//! Certificates made and shown, without a daemon: `netmesh cert`, Receptor's `--cert-*` and the sections of these names.

mod make;
mod show;

pub(crate) use self::{
    make::make,
    show::{rfc3339, show, state},
};

use std::{net::IpAddr, path::PathBuf};

use netmesh::tls::{
    issue::{IssueError, KeyKind, Validity},
    names::Names,
};

/// One file or two to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// The certificate of an authority, and its key.
    Authority { common_name: String, key: KeyKind, validity: Validity, out_cert: PathBuf, out_key: PathBuf },
    /// A request, and its key unless there is one.
    Request { common_name: String, names: Names, key: KeyFile, out_req: PathBuf },
    /// A certificate for whoever made a request.
    Sign {
        req: PathBuf,
        ca_cert: PathBuf,
        ca_key: PathBuf,
        validity: Validity,
        /// Nobody need be asked: the request has been looked at. Receptor's word for it is `verify`.
        verified: bool,
        out_cert: PathBuf,
    },
}

/// Where the key of a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyFile {
    /// It is there.
    Read(PathBuf),
    /// It is made, and written there.
    Make { kind: KeyKind, out: PathBuf },
}

/// What may be overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Anything, as Receptor does.
    Replace,
    /// Nothing.
    Keep,
}

/// Why something was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertError {
    /// A file cannot be read, or is not what it should be.
    #[error("{}: {why}", file.display())]
    Read { file: PathBuf, why: String },
    /// What it holds cannot be used for this.
    #[error("{}: {why}", file.display())]
    Issue {
        file: PathBuf,
        #[source]
        why: IssueError,
    },
    /// No file is at fault.
    #[error(transparent)]
    Make(#[from] IssueError),
    /// A file cannot be written.
    #[error("cannot write {}: {why}", file.display())]
    Write {
        file: PathBuf,
        #[source]
        why: std::io::Error,
    },
    /// There is something that would be lost.
    #[error("{} is there already: remove it, name another file, or say --force", .0.display())]
    Exists(PathBuf),
    /// The words are Receptor's.
    #[error("user declined")]
    Declined,
    /// Nobody was there to be asked.
    #[error("nobody has answered: look at the request, then say --verify")]
    NoAnswer,
}

/// The kind of key for `bits`: RSA where they are given.
pub(crate) fn key_kind(bits: Option<u32>) -> KeyKind {
    bits.map_or(KeyKind::Ecdsa, KeyKind::Rsa)
}

/// `text` as an address of a host. The words are Receptor's.
pub(crate) fn ip_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("invalid IP address: {text}"))
}

/// `text` as a moment of Unix time, written as RFC 3339 has it.
pub(crate) fn moment(text: &str) -> Result<time::OffsetDateTime, String> {
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
        .map_err(|_| format!("`{text}` is no time; write it like 2030-01-31T00:00:00Z"))
}

/// Which key a request is signed with. The words up to the semicolons are Receptor's.
pub(crate) fn key_file(
    in_key: Option<PathBuf>,
    out_key: Option<PathBuf>,
    bits: Option<u32>,
) -> Result<KeyFile, &'static str> {
    match (in_key, out_key, bits) {
        (None, None, _) => Err("must provide either InKey or OutKey; give `inkey` or `outkey`"),
        (Some(_), Some(_), _) => Err("cannot use both InKey and OutKey; remove one of the two"),
        (Some(_), None, Some(_)) => {
            Err("cannot specify key bits when reading an already-existing key; remove `bits`")
        }
        (Some(file), None, None) => Ok(KeyFile::Read(file)),
        (None, Some(out), bits) => Ok(KeyFile::Make { kind: key_kind(bits), out }),
    }
}
