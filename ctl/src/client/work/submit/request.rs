//! From flags to the request: what is said to every daemon, and what only to one that offers it.

use std::{collections::BTreeMap, fs, io::Read as _};

use netmesh::json::parse_go_duration;
use workunits::request::{Extension, Limits, Meta, Offers, PayloadEnd, Sandbox, Stderr, Submit};

use crate::{
    args::{StderrArg, SubmitArgs},
    exit::Failure,
};

/// The request that the flags describe, but for what depends on the daemon.
pub(super) fn request(args: &SubmitArgs) -> Result<Submit, Failure> {
    let mut submit = Submit {
        node: args.node.clone().filter(|node| !node.is_empty()).unwrap_or_else(|| "localhost".to_owned()),
        work_type: args.worktype.clone(),
        tls_client: args.tls_client.clone(),
        ttl: args.ttl.clone(),
        sign_work: args.signwork,
        ..Submit::default()
    };
    // The last of several with one name counts.
    let params: BTreeMap<&str, &str> =
        args.param.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (name, value) in params {
        let value = param_text(name, value)?;
        // Receptor's client lets a parameter fill a member that no flag has filled.
        match name {
            "tlsclient" if submit.tls_client.is_empty() => submit.tls_client = value,
            "ttl" if submit.ttl.is_empty() => submit.ttl = value,
            "signature" => submit.signature = value,
            "signwork" if !submit.sign_work => submit.sign_work = value == "true",
            taken if Submit::MEMBERS.contains(&taken) => {
                return Err(Failure::usage(format!(
                    "`{taken}` cannot be a parameter: it is a member of the submission itself"
                )));
            }
            _ => drop(submit.params.insert(name.to_owned(), value)),
        }
    }
    check_ttl(&submit)?;
    if !args.params.is_empty() {
        let first = submit.params.remove("params");
        let words: Vec<String> = first.into_iter().chain(args.params.iter().cloned()).collect();
        submit.params.insert("params".to_owned(), words.join(" "));
    }
    Ok(submit)
}

/// A time to live can be judged before anybody is asked.
fn check_ttl(submit: &Submit) -> Result<(), Failure> {
    if submit.ttl.is_empty() {
        return Ok(());
    }
    parse_go_duration(&submit.ttl)
        .map_err(|bad| Failure::usage(format!("--ttl: {bad}; write it like 1h20m30s")))?;
    Ok(())
}

/// Says how long work on the daemon's own node may wait in our words: Receptor's member is for other nodes.
pub(super) fn local_ttl(submit: &mut Submit, offers: Offers) -> Result<(), Failure> {
    if submit.ttl.is_empty() || !submit.node.eq_ignore_ascii_case("localhost") {
        return Ok(());
    }
    if !offers.meta {
        let text = "--ttl: this daemon knows it for work on another node only: name that with --node";
        return Err(Failure::usage(text));
    }
    let ttl = std::mem::take(&mut submit.ttl).parse();
    submit.extension.meta.ttl =
        Some(ttl.map_err(|bad| Failure::usage(format!("--ttl: {bad}; write it like 1h20m30s")))?);
    Ok(())
}

/// A parameter's text: a file's for `@FILE`, otherwise as it stands.
fn param_text(name: &str, value: &str) -> Result<String, Failure> {
    let Some(path) = value.strip_prefix('@').filter(|path| !path.starts_with('@')) else {
        return Ok(value.to_owned());
    };
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    read.map_err(|error| {
        Failure::usage(format!("parameter `{name}`: cannot read the text of {path}: {error}"))
    })?;
    Ok(text)
}

/// What only a daemon that offers it is told.
pub(super) fn extension(
    args: &SubmitArgs,
    payload: Option<PayloadEnd>,
    offers: Offers,
) -> Result<Extension, Failure> {
    let stderr = match (args.stderr, offers.stderr_separate) {
        (Some(StderrArg::Separate), false) => {
            return Err(Failure::usage("--stderr separate: this daemon cannot keep the error output apart"));
        }
        (_, false) => None,
        (Some(StderrArg::Separate), true) => Some(Stderr::Separate),
        (Some(StderrArg::Merge), true) => Some(Stderr::Merge),
        (None, true) => args.follow.then_some(Stderr::Separate),
    };
    let request_id = match offers.request_id {
        true => Some(random_id()?),
        false => None,
    };
    let meta = Meta {
        timeout: args.timeout,
        ttl: None,
        not_before: args.not_before,
        max_output: args.max_output,
        keep: args.keep,
    };
    if meta != Meta::default() && !offers.meta {
        let text = "--timeout, --not-before, --max-output and --keep: this daemon knows none of them";
        return Err(Failure::usage(text));
    }
    let sandbox = sandbox(args)?;
    if !sandbox.is_empty() && !offers.sandbox {
        let text = "--command, --arg, --env, --directory, --user and --limit: this daemon knows none of them";
        return Err(Failure::usage(text));
    }
    Ok(Extension { request_id, payload, stderr, meta, sandbox, ..Extension::default() })
}

/// What is asked of the process.
fn sandbox(args: &SubmitArgs) -> Result<Sandbox, Failure> {
    let sandbox = Sandbox {
        command: args.command.clone(),
        args: args.arg.clone(),
        user: args.user.clone(),
        directory: args.directory.clone(),
        env: args.env.iter().cloned().collect(),
        limits: args.limit.iter().fold(Limits::default(), |all, limit| all.and(limit)),
    };
    match sandbox.check() {
        Ok(()) => Ok(sandbox),
        Err(bad) => Err(Failure::usage(format!("cannot submit this: {bad}"))),
    }
}

/// 128 random bits from the kernel, 32 hex digits.
fn random_id() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| Failure::not_done(format!("cannot read /dev/urandom: {error}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
