//! Has another node make the unit, once.
//!
//! ```text
//!    dial, ask for features ─► look the request id up, when a node of ours was asked before
//!    note durably that it is asked ─► submit line ─► its id, noted durably ─► payload ─► "Job Started", noted durably
//! ```
//! A node of ours is told the payload's length and digest and a request id, so a cut anywhere is harmless: the next try
//! looks the id up, and goes on from the byte that is there. Toward a Go node the end of the payload is the end of the stream; that it may have left is noted first.

use std::{io::SeekFrom, path::Path};

use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::{
    Context,
    adopt::is_ours,
    ledger::Ledger,
    meta,
    mirror::Asked,
    talk::{NoAnswer, Talk, shown},
    went::Went,
};
use crate::{
    engine::UnitHandle,
    request::{Extension, Offers, PayloadEnd, Stderr, Submit, WorkRequest, created_byte, created_unit},
    store::events::Log,
    unit::{Outcome, Phase, State, Unit},
};

/// How much of a payload is in memory at a time, in bytes.
const BLOCK: usize = 256 << 10;

/// Submits the unit, or finds that an earlier try did. Gives back the conversation, to be used on.
pub(super) async fn submit(
    context: &Context,
    unit: &UnitHandle,
    ledger: &Ledger,
) -> Result<Option<(Talk, Offers)>, Went> {
    let _call = context.call(unit).await;
    let (mut talk, offers) = context.open(unit).await?;
    let attempt = match ledger.asked() {
        Asked::Nobody => 1,
        Asked::Netmesh { .. } if !offers.is_safe_to_repeat() => return Err(Went::Unanswerable),
        Asked::Netmesh { attempt } => match look_up(&mut talk, unit, attempt).await? {
            Found::Started => return Ok(Some((talk, offers))),
            // The same request again: its node says from which byte to go on, takes over an upload that broke off, or replaces the
            // unit that it left. To release it there and choose another request is two steps, and a crash between them
            // refuses the first for good.
            Found::Arriving(_) | Found::CutOff(_) | Found::Nothing => attempt,
        },
        Asked::Go { .. } => return Err(Went::Unanswerable),
    };
    let request = WorkRequest::Submit(Box::new(asked_for(unit, offers, attempt)?));
    let line = context.signed(unit, request, offers)?;
    let asked = if offers.is_safe_to_repeat() {
        Asked::Netmesh { attempt }
    } else {
        Asked::Go { payload_sent: false }
    };
    ledger.note(asked).await?;
    unit.update_lazily(|unit| unit.phase = Some(Phase::Submitting)).await?;
    talk.say(&line).await?;
    let (id, from) = match talk.reply().await {
        Ok(line) => {
            let id = created_unit(&line).map(str::to_owned);
            let from = created_byte(&line);
            (id.ok_or_else(|| Went::denied(format!("could not parse response: {line}")))?, from)
        }
        Err(NoAnswer::Refused(refusal)) => return Err(Went::not_submitted(refusal)),
        Err(broken) => return Err(broken.into()),
    };
    let named = move |unit: &mut Unit| set_remote(unit, |remote| remote.remote_unit_id = id);
    // A node of ours can be asked for it again, by the request id; of a Go node it is all that there is.
    match offers.is_safe_to_repeat() {
        true => unit.update_lazily(named).await?,
        false => unit.update(named).await?,
    };
    send_payload(unit, &mut talk, from, offers, ledger).await?;
    match talk.object().await {
        Ok(_) => {}
        Err(NoAnswer::Refused(text)) if offers.is_safe_to_repeat() => {
            drop(talk);
            return refused(context, unit, attempt, from, text.text).await;
        }
        Err(NoAnswer::Refused(text)) => return Err(Went::failed(format!("error from remote: {text}"))),
        Err(NoAnswer::Garbled(line)) => return Err(Went::failed(format!("error from remote: {line}"))),
        Err(broken) => return Err(broken.into()),
    }
    unit.update(|unit| set_remote(unit, |remote| remote.remote_started = true)).await?;
    // A Go node ends the conversation after a submission.
    Ok(offers.is_safe_to_repeat().then_some((talk, offers)))
}

/// A node of ours has taken the request and then refused the payload: what became of the unit says what that means. It
/// is asked in a new conversation, since after some refusals the old one takes no more requests.
async fn refused(
    context: &Context,
    unit: &UnitHandle,
    attempt: u32,
    from: u64,
    text: String,
) -> Result<Option<(Talk, Offers)>, Went> {
    let (mut talk, offers) = context.open(unit).await?;
    match look_up(&mut talk, unit, attempt).await? {
        Found::Started => Ok(Some((talk, offers))),
        // Another conversation brings the payload: an older one of ours, that has yet to find out that it was cut.
        Found::Arriving(_) => Err(Went::Away(text)),
        // What was there before is not what was sent then, as after a power cut: once more, from the first byte.
        Found::CutOff(_) if from > 0 => Err(Went::Away(text)),
        Found::CutOff(_) | Found::Nothing => Err(Went::failed(format!("error from remote: {text}"))),
    }
}

/// What a look-up by request id found.
pub(super) enum Found {
    /// It was started; its id is noted.
    Started,
    /// It exists, and its payload has yet to arrive or was cut.
    Arriving(String),
    /// It exists, and is not going to start: its payload broke off, or was not what was declared.
    CutOff(String),
    /// The other node knows nothing of it.
    Nothing,
}

/// Asks a node of ours what became of an earlier submission, and notes what it says.
pub(super) async fn look_up(talk: &mut Talk, unit: &UnitHandle, attempt: u32) -> Result<Found, Went> {
    let request_id = Some(request_id(unit, attempt));
    let listed = talk.ask(&WorkRequest::List { unit: None, request_id, all_fields: true }.to_line()).await?;
    let Some((id, status)) = listed.iter().next() else { return Ok(Found::Nothing) };
    let there: Unit =
        serde_json::from_value(status.clone()).map_err(|_| NoAnswer::Garbled(shown(&listed)))?;
    let id = id.clone();
    is_ours(unit, &there)?;
    if there.state == State::Pending && matches!(there.phase, Some(Phase::Created | Phase::Uploading) | None)
    {
        return Ok(Found::Arriving(id));
    }
    if there.outcome == Some(Outcome::IncompletePayload) {
        return Ok(Found::CutOff(id));
    }
    unit.update(move |unit| {
        set_remote(unit, |remote| {
            remote.remote_unit_id = id;
            remote.remote_started = true;
        });
    })
    .await?;
    Ok(Found::Started)
}

/// Has the other node remove a unit whose upload broke off, so that the next try can be the only one.
pub(super) async fn forget(
    context: &Context,
    unit: &UnitHandle,
    talk: &mut Talk,
    offers: Offers,
    id: String,
) -> Result<(), Went> {
    let request = WorkRequest::Release { unit: id, force: false, signature: String::new() };
    match talk.ask(&context.signed(unit, request, offers)?).await {
        Ok(_) => Ok(()),
        Err(NoAnswer::Refused(refusal)) if refusal.is_unknown_unit() => Ok(()),
        Err(other) => Err(other.into()),
    }
}

fn asked_for(unit: &UnitHandle, offers: Offers, attempt: u32) -> Result<Submit, Went> {
    let current = unit.current();
    let remote = current.remote().ok_or(Went::Unanswerable)?;
    let spec = unit.spec();
    let mut extension = Extension::default();
    if offers.is_safe_to_repeat() {
        extension.request_id = Some(request_id(unit, attempt));
        let (length, sha256) = payload(unit)?;
        extension.resume = offers.payload_resume && sha256.is_some();
        extension.payload = Some(PayloadEnd::Length { length, sha256 });
        extension.parent = spec.parent.clone();
    }
    extension.meta = meta::to_tell(&spec.meta, remote, offers, OffsetDateTime::now_utc())?;
    match spec.stderr {
        Some(stderr) if offers.stderr_separate => extension.stderr = Some(stderr),
        Some(Stderr::Separate) => {
            tracing::warn!(unit = %unit.id(), node = remote.remote_node, "node cannot keep stderr apart: it is merged into stdout");
        }
        _ => {}
    }
    if offers.sandbox {
        extension.sandbox = spec.sandbox.clone();
    } else if !spec.sandbox.is_empty() {
        return Err(Went::denied(format!(
            "node {} cannot run a unit with a command, arguments, user, directory, environment or limits of its own: \
             submit it without them, or to a node that offers `sandbox`",
            remote.remote_node
        )));
    }
    let mut params = remote.remote_params.clone();
    params.extend(unit.dir().secrets()?);
    Ok(Submit {
        node: remote.remote_node.clone(),
        work_type: remote.remote_work_type.clone(),
        params,
        tls_client: remote.tls_client.clone(),
        ttl: String::new(),
        sign_work: false,
        signature: String::new(),
        extension,
    })
}

/// The payload's length, and its digest, as this node's own record of its end has them. A Go daemon kept no record.
fn payload(unit: &UnitHandle) -> std::io::Result<(u64, Option<String>)> {
    let length = std::fs::metadata(unit.dir().stdin_path())?.len();
    Ok((length, Log::read(unit.dir())?.last(|note| note.sha256.clone())))
}

/// The request id of the `attempt`th submission: the unit's own for the first, one derived from it for each later.
///
/// It depends on nothing but the spec, which never changes, so a restart asks with the same one.
fn request_id(unit: &UnitHandle, attempt: u32) -> String {
    let spec = unit.spec();
    let seed = match &spec.request_id {
        Some(own) if attempt <= 1 => return own.clone(),
        Some(own) => format!("{own}/{attempt}"),
        // Receptor's clients send none: its name and when it was made are as much its own. Not where it is: a datadir
        // may be moved, and the request must be found again all the same.
        None => {
            let path = unit.dir().path();
            let node = path.parent().and_then(Path::file_name).unwrap_or_default();
            format!("{}/{}/{}/{attempt}", node.display(), unit.id(), spec.created_at)
        }
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, seed.as_bytes());
    digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn send_payload(
    unit: &UnitHandle,
    talk: &mut Talk,
    from: u64,
    offers: Offers,
    ledger: &Ledger,
) -> Result<(), Went> {
    let path = unit.dir().stdin_path();
    let mut left = std::fs::metadata(&path)?.len().saturating_sub(from);
    if left > 0 {
        let mut stdin = tokio::fs::File::open(path).await?;
        if from > 0 {
            stdin.seek(SeekFrom::Start(from)).await?;
        }
        let mut block = vec![0; usize::try_from(left).unwrap_or(BLOCK).min(BLOCK)];
        while left > 0 {
            let n = stdin.read(&mut block).await?;
            if n == 0 {
                break;
            }
            talk.send(&block[..n]).await?;
            left = left.saturating_sub(n as u64);
        }
    }
    if offers.is_safe_to_repeat() {
        return Ok(talk.flush().await?);
    }
    ledger.note(Asked::Go { payload_sent: true }).await?;
    Ok(talk.finish().await?)
}

/// Changes what `ExtraData` says, if this is a remote unit.
pub(super) fn set_remote(unit: &mut Unit, change: impl FnOnce(&mut crate::unit::RemoteExtra)) {
    if let Some(remote) = unit.remote_mut() {
        change(remote);
    }
}
