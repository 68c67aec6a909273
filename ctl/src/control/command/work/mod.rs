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
        Params::Text(words) => WorkRequest::from_text(words),
        Params::Json(members) => WorkRequest::from_json(members),
    };
    let request = match parsed {
        Ok(request) => request,
        Err(bad) => return session.refuse(bad).await,
    };
    let caller = session.wire.caller().clone();
    let answered = match request {
        WorkRequest::Submit(submit) => return submit::run(*submit, session, engine).await,
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
            return now::watch(wanted, session, engine).await;
        }
        WorkRequest::List { unit: Some(unit), all_fields, .. } => show::one(engine, &unit, all_fields),
        WorkRequest::List { unit: None, request_id, all_fields } => {
            show::list(engine, Filter { request_id, ..Filter::default() }, all_fields).await
        }
        WorkRequest::Find { filter, paging: None, all_fields } => {
            show::list(engine, filter, all_fields).await
        }
        WorkRequest::Find { filter, paging: Some(paging), all_fields } => {
            show::page(engine, filter, paging, all_fields).await
        }
        WorkRequest::Status { unit, all_fields } => show::status(engine, &unit, all_fields),
        WorkRequest::Cancel { unit, signature } => {
            let done = engine.cancel(&unit, &signature, &caller).await;
            info!(unit, principal = caller.principal, ?done, "cancel was asked for");
            ended(done, &unit, "cancelled", "cancel pending")
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
