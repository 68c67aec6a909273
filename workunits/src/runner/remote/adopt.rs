//! Has another node hand a unit over to one of ours, and asks about it before there is one.
//!
//! ```text
//!    look: dial, ask for features, ask for the status            nothing is made here yet, so a refusal leaves nothing
//!    adopt: note durably that it is asked ─► adopt ─► noted durably that it is ours ─► follow from byte 0
//! ```
//! The request names our unit, so it may be asked again after a cut or a crash: the other node knows that it was done.

use super::{
    Context, Remote,
    ledger::Ledger,
    mirror::Asked,
    submit::set_remote,
    talk::{NoAnswer, Talk, shown},
    went::Went,
};
use crate::{
    engine::{UnitHandle, WorkError},
    request::{ErrorCode, Offers, Refusal, WorkRequest},
    unit::{Controller, Phase, Unit},
};

/// The feature that a node must offer.
const FEATURE: &str = "adopt";

impl Remote {
    /// What a unit of another node says of itself now, if that node hands units over.
    pub async fn look(&self, node: &str, tls_client: &str, unit: &str) -> Result<Unit, WorkError> {
        let _call = self.context.calls.call(node).await;
        let away = |why: String| WorkError::OutOfReach { node: node.to_owned(), why };
        let refused = |none: NoAnswer| match none {
            NoAnswer::Refused(refusal) if refusal.is_unknown_unit() => {
                WorkError::UnknownUnit(format!("{unit} on node {node}"))
            }
            NoAnswer::Refused(refusal) => WorkError::Remote(refusal.text),
            NoAnswer::Broken(error) => away(format!("the conversation broke off: {error}")),
            NoAnswer::Garbled(line) => away(format!("its answer makes no sense: {line:?}")),
        };
        let dialled = self.context.mesh.dial_control(node, tls_client).await;
        let mut talk = Talk::new(dialled.map_err(|failed| away(failed.to_string()))?);
        if !talk.offers().await.map_err(refused)?.adopt {
            return Err(WorkError::Unsupported { node: node.to_owned(), feature: FEATURE });
        }
        let request = WorkRequest::Status { unit: unit.to_owned(), all_fields: true };
        let said = talk.ask(&request.to_line()).await.map_err(refused)?;
        let text = shown(&said);
        serde_json::from_value(said.into()).map_err(|_| refused(NoAnswer::Garbled(text)))
    }
}

/// Makes the other node's unit ours. Gives back the conversation, to be used on.
pub(super) async fn adopt(
    context: &Context,
    unit: &UnitHandle,
    ledger: &Ledger,
) -> Result<(Talk, Offers), Went> {
    let _call = context.call(unit).await;
    let (mut talk, offers) = context.open(unit).await?;
    let there = unit.spec().adopts.clone().ok_or(Went::Unanswerable)?;
    if !offers.adopt {
        return Err(match ledger.asked() {
            Asked::Nobody => Went::denied(format!("its node does not offer `{FEATURE}` any more")),
            Asked::Netmesh { .. } | Asked::Go { .. } => Went::Unanswerable,
        });
    }
    let request = WorkRequest::HandOver { unit: there.clone(), to: who(unit), signature: String::new() };
    let line = context.signed(unit, request, offers)?;
    ledger.note(Asked::Netmesh { attempt: 1 }).await?;
    talk.ask(&line).await.map_err(|none| match none {
        NoAnswer::Refused(refusal) if is_for_now(&refusal) => Went::Away(refusal.text),
        other => other.into(),
    })?;
    let ours = unit.update(|unit| {
        set_remote(unit, |remote| {
            remote.remote_unit_id = there;
            remote.remote_started = true;
        });
        unit.phase = Some(Phase::Submitting);
    });
    ours.await?;
    Ok((talk, offers))
}

/// Whom a unit of ours is to other nodes.
pub(super) fn who(unit: &UnitHandle) -> Controller {
    let node = unit.dir().path().parent().and_then(std::path::Path::file_name).unwrap_or_default();
    Controller { node: node.to_string_lossy().into_owned(), unit_id: unit.id().to_string() }
}

/// Whether the other node's unit is still ours, by what it says of itself.
pub(super) fn is_ours(unit: &UnitHandle, there: &Unit) -> Result<(), Went> {
    match &there.controller {
        Some(by) if *by != who(unit) => Err(Went::Adopted(format!("adopted by {by}"))),
        _ => Ok(()),
    }
}

/// Whether a refusal says that somebody else has the unit now.
pub(super) fn was_adopted(refusal: &Refusal) -> bool {
    refusal.known() == Some(ErrorCode::Adopted)
}

/// Whether a node that has its hands full, or is stopping, may say yes later.
fn is_for_now(refusal: &Refusal) -> bool {
    matches!(refusal.known(), Some(ErrorCode::Busy | ErrorCode::Closing))
}
