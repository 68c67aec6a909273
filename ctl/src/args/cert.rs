//! The flags of `netmesh cert`. They have the names of Receptor's keys.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};
use netmesh::tls::{issue::Validity, names::Names};
use time::OffsetDateTime;

use crate::certificate::{Job, ip_address, key_file, key_kind, moment};

/// `netmesh cert`
#[derive(Debug, Subcommand)]
pub(crate) enum Cert {
    /// Make an authority: a certificate that signs others, and its key.
    Init(InitArgs),
    /// Make a request for a certificate, and its key unless there is one.
    Makereq(MakereqArgs),
    /// Sign a request with an authority's key.
    Signreq(SignreqArgs),
    /// Show what certificates say.
    Show {
        /// PEM files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// What is said of new files.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Force {
    /// Replace files that are there already.
    #[arg(long)]
    pub(crate) force: bool,
}

/// From when until when.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct When {
    /// It is good from then on, such as 2030-01-31T00:00:00Z; from five minutes ago unless told.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    notbefore: Option<OffsetDateTime>,
    /// It is good until then; an authority for ten years and others for one unless told.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    notafter: Option<OffsetDateTime>,
}

/// `netmesh cert init`
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The authority's name.
    #[arg(long, value_name = "NAME")]
    commonname: String,
    /// Make an RSA key of this size instead of an ECDSA key.
    #[arg(long, value_name = "N")]
    bits: Option<u32>,
    #[command(flatten)]
    when: When,
    /// Where its certificate goes.
    #[arg(long, value_name = "FILE")]
    outcert: PathBuf,
    /// Where its key goes; for its owner alone.
    #[arg(long, value_name = "FILE")]
    outkey: PathBuf,
    #[command(flatten)]
    pub(crate) force: Force,
}

/// `netmesh cert makereq`
#[derive(Debug, Args)]
pub(crate) struct MakereqArgs {
    /// Whom it is for.
    #[arg(long, value_name = "NAME")]
    commonname: String,
    /// Make an RSA key of this size instead of an ECDSA key.
    #[arg(long, value_name = "N")]
    bits: Option<u32>,
    /// A host name that it should hold.
    #[arg(long, value_name = "NAME")]
    dnsname: Vec<String>,
    /// An address that it should hold.
    #[arg(long, value_name = "ADDRESS", value_parser = ip_address)]
    ipaddress: Vec<IpAddr>,
    /// A node that it should name.
    #[arg(long, value_name = "NODE")]
    nodeid: Vec<String>,
    /// Where the request goes.
    #[arg(long, value_name = "FILE")]
    outreq: PathBuf,
    /// A key that is there already.
    #[arg(long, value_name = "FILE", conflicts_with = "outkey", required_unless_present = "outkey")]
    inkey: Option<PathBuf>,
    /// Where a new key goes; for its owner alone.
    #[arg(long, value_name = "FILE")]
    outkey: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) force: Force,
}

/// `netmesh cert signreq`
#[derive(Debug, Args)]
pub(crate) struct SignreqArgs {
    /// The request.
    #[arg(long, value_name = "FILE")]
    req: PathBuf,
    /// The authority's certificate.
    #[arg(long, value_name = "FILE")]
    cacert: PathBuf,
    /// The authority's key.
    #[arg(long, value_name = "FILE")]
    cakey: PathBuf,
    #[command(flatten)]
    when: When,
    /// Where the certificate goes.
    #[arg(long, value_name = "FILE")]
    outcert: PathBuf,
    /// Do not show the request and ask: it has been looked at.
    #[arg(long, visible_alias = "yes")]
    verify: bool,
    #[command(flatten)]
    pub(crate) force: Force,
}

impl When {
    fn validity(self) -> Validity {
        Validity { not_before: self.notbefore, not_after: self.notafter }
    }
}

impl InitArgs {
    pub(crate) fn job(self) -> Job {
        Job::Authority {
            common_name: self.commonname,
            key: key_kind(self.bits),
            validity: self.when.validity(),
            out_cert: self.outcert,
            out_key: self.outkey,
        }
    }
}

impl MakereqArgs {
    pub(crate) fn job(self) -> Result<Job, &'static str> {
        Ok(Job::Request {
            common_name: self.commonname,
            names: Names { dns: self.dnsname, ips: self.ipaddress, nodes: self.nodeid },
            key: key_file(self.inkey, self.outkey, self.bits)?,
            out_req: self.outreq,
        })
    }
}

impl SignreqArgs {
    pub(crate) fn job(self) -> Job {
        Job::Sign {
            req: self.req,
            ca_cert: self.cacert,
            ca_key: self.cakey,
            validity: self.when.validity(),
            verified: self.verify,
            out_cert: self.outcert,
        }
    }
}
