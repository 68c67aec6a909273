//! The commands: a file each, from its parameters to its reply.

mod connect;
mod liveness;
mod ping;
pub(super) mod reload;
mod status;
mod traceroute;
mod work;

use std::io;

use netmesh::control::{Params, Request};
use workunits::{logic::grants::Action, request::ErrorCode};

use super::{
    Context,
    code::{Coded, Reason},
    peer::Wire,
    session::{Next, Session},
};

/// Runs one request and answers it; an error means that the connection is lost.
pub(super) async fn run<W: Wire>(
    request: Request,
    session: &mut Session<W>,
    context: &Context,
) -> io::Result<Next> {
    let params = &request.params;
    match request.command.as_str() {
        "ping" => reply(session, ping::answer(params, session.codes, &context.node).await).await,
        "traceroute" => reply(session, traceroute::answer(params, session.codes, &context.node).await).await,
        "status" if status::is_public(params) => reply(session, status::answer(params, context).await).await,
        "status" => match context.engine.permit(Action::Status, None, session.wire.caller()).await {
            Ok(()) => reply(session, status::answer(params, context).await).await,
            Err(refusal) => session.refuse(refusal).await,
        },
        "reload" => match context.engine.permit(Action::Reload, None, session.wire.caller()).await {
            Ok(()) => session.answer(&reload::answer(session.codes, &context.reloads).await).await,
            Err(refusal) => session.refuse(refusal).await,
        },
        "connect" => connect::run(params, session, context).await,
        "work" => work::run(params, session, &context.engine).await,
        _ => session.refuse(Reason(ErrorCode::UnknownCommand, "Unknown command")).await,
    }
}

async fn reply<W: Wire, E: Coded>(session: &mut Session<W>, outcome: Result<String, E>) -> io::Result<Next> {
    match outcome {
        Ok(line) => session.answer(&line).await,
        Err(refusal) => session.refuse(refusal).await,
    }
}

/// Why a probe has no target. The texts are Receptor's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum BadTarget {
    /// None was given.
    #[error("no {0} target")]
    Missing(&'static str),
    /// It is no text.
    #[error("{0} target must be string")]
    NotText(&'static str),
}

impl Coded for BadTarget {
    fn code(&self) -> ErrorCode {
        ErrorCode::BadRequest
    }
}

/// The target of `command`: all of its text, or the member `target`.
fn target<'p>(params: &'p Params, command: &'static str) -> Result<&'p str, BadTarget> {
    let target = match params {
        Params::Text(text) => text,
        Params::Json(members) => match members.get("target") {
            None => return Err(BadTarget::Missing(command)),
            Some(value) => value.as_str().ok_or(BadTarget::NotText(command))?,
        },
    };
    if target.is_empty() { Err(BadTarget::Missing(command)) } else { Ok(target) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(line: &str) -> Params {
        Request::parse(line.as_bytes()).unwrap().unwrap().params
    }

    #[test]
    fn a_target_comes_as_text_or_as_a_member() {
        for (line, expected) in [
            ("ping bar", Ok("bar")),
            ("ping a b", Ok("a b")),
            ("ping", Err(BadTarget::Missing("ping"))),
            (r#"{"command":"ping","target":"bar"}"#, Ok("bar")),
            (r#"{"command":"ping"}"#, Err(BadTarget::Missing("ping"))),
            (r#"{"command":"ping","target":""}"#, Err(BadTarget::Missing("ping"))),
            (r#"{"command":"ping","target":5}"#, Err(BadTarget::NotText("ping"))),
        ] {
            assert_eq!(target(&params(line), "ping"), expected, "{line}");
        }
    }
}
