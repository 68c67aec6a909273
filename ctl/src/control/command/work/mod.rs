//! `work ...`: units of work, made, shown, followed and ended.
//!
//! What a request says is read by `workunits::request`, and done by the engine; here is what stands between the two:
//! the lines and bytes of a conversation.

mod follow;
mod now;
mod show;
mod submit;

use std::io;

use netmesh::{control::Params, json::to_go_string};
use serde_json::json;
use tracing::info;
use workunits::{
    engine::{Engine, Reply, WorkError},
    request::{Filter, WorkRequest},
    sign::digest,
};

use crate::control::{
    peer::Wire,
    session::{Next, Session},
};

/// Reads the request and runs it; an error means that the connection is lost.
pub(super) async fn run<W: Wire>(
    params: &Params,
    session: &mut Session<W>,
    engine: &Engine,
) -> io::Result<Next> {
    let parsed = match params {
        Params::Text(words) => WorkRequest::from_text(words).map(|request| (request, None)),
        Params::Json(members) => WorkRequest::from_json(members)
            .and_then(|request| Ok((request.speaks_for(members)?, request)))
            .map(|(controller, request)| (request, controller)),
    };
    let (request, speaks_for) = match parsed {
        Ok(parsed) => parsed,
        Err(bad) => return session.refuse(bad).await,
    };
    let mut caller = session.wire.caller().clone();
    if let Params::Json(members) = params
        && members.contains_key("signature")
    {
        caller.request = Some(digest(members));
    }
    if let Err(refusal) = engine.check_controller(&request, speaks_for.as_ref(), &caller) {
        return session.refuse(refusal).await;
    }
    let answered = match request {
        WorkRequest::Submit(submit) => return submit::run(*submit, session, engine, &caller).await,
        WorkRequest::Results { unit, from, output, signature } => {
            let followed = engine.results(&unit, from, output, &signature, &caller).await;
            return follow::results(&unit, followed, session).await;
        }
        WorkRequest::Watch { unit, stdout_pos, stderr_pos, follow: true, signature } => {
            let watched = engine.watch(&unit, stdout_pos, stderr_pos, &signature, &caller).await;
            return follow::watch(&unit, watched, session).await;
        }
        WorkRequest::Watch { unit, stdout_pos, stderr_pos, follow: false, signature } => {
            let wanted = now::Wanted { unit: &unit, stdout_pos, stderr_pos, signature: &signature };
            return now::watch(wanted, session, engine, &caller).await;
        }
        WorkRequest::List { unit: Some(unit), all_fields, .. } => {
            show::one(engine, &unit, all_fields, &caller).await
        }
        WorkRequest::List { unit: None, request_id, all_fields } => {
            show::list(engine, Filter { request_id, ..Filter::default() }, all_fields, &caller).await
        }
        WorkRequest::Find { filter, paging: None, all_fields } => {
            show::list(engine, filter, all_fields, &caller).await
        }
        WorkRequest::Find { filter, paging: Some(paging), all_fields } => {
            show::page(engine, filter, paging, all_fields, &caller).await
        }
        WorkRequest::Status { unit, all_fields } => show::status(engine, &unit, all_fields, &caller).await,
        WorkRequest::Cancel { unit, signature } => {
            let done = engine.cancel(&unit, &signature, &caller).await;
            info!(unit, principal = caller.principal, ?done, "cancel was asked for");
            ended(done, &unit, "cancelled", "cancel pending")
        }
        WorkRequest::Adopt(adopt) => {
            let (node, there) = (adopt.node.clone(), adopt.unit.clone());
            let adopted = engine.adopt(adopt, &caller).await;
            info!(node, unit = there, principal = caller.principal, ?adopted, "adoption was asked for");
            adopted.and_then(|(unit, done)| ended(Ok(done), unit.as_str(), "adopted", "adopt pending"))
        }
        WorkRequest::HandOver { unit, to, signature } => {
            let handed = engine.hand_over(&unit, to.clone(), &signature, &caller).await;
            info!(unit, %to, principal = caller.principal, ?handed, "unit was asked for");
            handed.map(|()| to_go_string(&json!({ "adopted": unit })))
        }
        WorkRequest::Release { unit, force, signature } => {
            let done = engine.release(&unit, force, &signature, &caller).await;
            info!(unit, force, principal = caller.principal, ?done, "release was asked for");
            ended(done, &unit, "released", "release pending")
        }
    };
    match answered {
        Ok(line) => session.answer(&line).await,
        Err(refusal) => session.refuse(refusal).await,
    }
}

fn ended(done: Result<Reply, WorkError>, unit: &str, now: &str, later: &str) -> Result<String, WorkError> {
    Ok(match done? {
        Reply::Done => to_go_string(&json!({ now: unit })),
        Reply::Pending => to_go_string(&json!({ later: unit })),
    })
}
