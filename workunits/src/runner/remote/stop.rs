//! Has another node stop a unit, or forget it.

use super::{
    Context,
    ledger::Ledger,
    mirror::Asked,
    submit::{Found, forget, look_up, set_remote},
    went::Went,
};
use crate::{engine::UnitHandle, request::WorkRequest};

/// Sends a cancel. Good once the other node has taken it.
pub(super) async fn cancel(context: &Context, unit: &UnitHandle) -> Result<(), Went> {
    ask(context, unit, |id| WorkRequest::Cancel { unit: id, signature: String::new() }).await
}

/// Sends a release. Good once the other node has forgotten the unit, or never knew it.
pub(super) async fn release(context: &Context, unit: &UnitHandle) -> Result<(), Went> {
    let request = |id| WorkRequest::Release { unit: id, force: false, signature: String::new() };
    match ask(context, unit, request).await {
        Err(Went::Gone) => Ok(()),
        other => other,
    }
}

async fn ask(
    context: &Context,
    unit: &UnitHandle,
    request: impl FnOnce(String) -> WorkRequest,
) -> Result<(), Went> {
    let current = unit.current();
    let id = current.remote().map(|remote| remote.remote_unit_id.clone()).unwrap_or_default();
    let _call = context.call(unit).await;
    let (mut talk, offers) = context.open(unit).await?;
    talk.ask(&context.signed_for(unit, request(id), offers)?).await?;
    Ok(())
}

/// Finds out by request id whether the other node has the unit, and makes sure that what has not started never will.
pub(super) async fn look_up_only(
    context: &Context,
    unit: &UnitHandle,
    ledger: &Ledger,
) -> Result<Known, Went> {
    let _call = context.call(unit).await;
    let (mut talk, offers) = context.open(unit).await?;
    let Asked::Netmesh { attempt } = ledger.asked() else { return Err(Went::Unanswerable) };
    if !offers.is_safe_to_repeat() {
        return Err(Went::Unanswerable);
    }
    match look_up(&mut talk, unit, attempt).await? {
        Found::Started => Ok(Known::There),
        Found::Arriving(id) | Found::CutOff(id) => {
            forget(context, unit, &mut talk, offers, id).await?;
            unit.update(|unit| set_remote(unit, |remote| remote.remote_unit_id.clear())).await?;
            Ok(Known::Nowhere)
        }
        Found::Nothing => Ok(Known::Nowhere),
    }
}

/// Where a unit turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The other node has it, and its id is noted.
    There,
    /// It was never started, and will not be.
    Nowhere,
}
