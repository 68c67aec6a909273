//! Why a request about work was refused, in the words that Receptor's clients know.

use std::{io, path::PathBuf};

use super::space::is_full;
use crate::{
    logic::{adoption::Unfit, grants::Action, sandbox::NotAllowed, state::NotNow},
    request::ErrorCode,
    sign::VerifyError,
    store::status::StepError,
    unit::Controller,
};

/// Why a request about work was refused. Its text is what goes over the wire, after `ERROR: `.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// No such unit here, or its id is none.
    #[error("unknown work unit {0}")]
    UnknownUnit(String),
    /// No such work type here.
    #[error("unknown work type {0}")]
    UnknownWorkType(String),
    /// The work type takes no parameters of the submitter.
    #[error("extra params provided but not allowed")]
    ExtraParams,
    /// The work type does not let the submitter choose this.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// A time to live for work that starts at once.
    #[error("ttl option is intended for remote work only")]
    LocalTtl,
    /// The time to live cannot be read.
    #[error("{0}")]
    BadTtl(String),
    /// Secrets would travel in clear.
    #[error("cannot send secrets over a non-TLS connection")]
    SecretsInClear,
    /// The target is no node id.
    #[error("invalid node ID {0:?}")]
    BadNode(String),
    /// A token where none is asked for.
    #[error("work type did not expect a signature")]
    UnexpectedSignature,
    /// The token is not good.
    #[error(transparent)]
    Denied(#[from] VerifyError),
    /// The node's grants do not allow it.
    #[error("{principal} may not {action}{about}: {reason}; the `grants` of this node decide")]
    NotGranted {
        /// Who asked: every principal that they showed.
        principal: String,
        /// For what.
        action: Action,
        /// About what; begins with a space, or is empty.
        about: String,
        /// Why not.
        reason: String,
    },
    /// Another node wants this one to sign for it.
    #[error(
        "{0} may not sign: this node signs for another node only where its `grants` say so; submit to the node that is to run it"
    )]
    SignsForNobody(String),
    /// The payload is not what was declared.
    #[error("incomplete payload: {0}; the unit was not started")]
    IncompletePayload(String),
    /// Somebody ended the unit before it could start.
    #[error("work unit {0} was canceled before its payload was complete")]
    Canceled(String),
    /// The same request came again and sends the payload itself.
    #[error("another connection took over the payload of work unit {0}")]
    Superseded(String),
    /// The request's unit was released: it has run, or never will.
    #[error("request {0} was already released")]
    Released(String),
    /// Another controller has the unit now.
    #[error("work unit {unit} was adopted by {by}")]
    Adopted {
        /// The unit.
        unit: String,
        /// Who has it.
        by: Controller,
    },
    /// The unit cannot be adopted as it is.
    #[error("cannot adopt work unit {unit}: {why}")]
    Unfit {
        /// The unit.
        unit: String,
        /// Why not.
        why: Unfit,
    },
    /// The unit is on the node that was asked.
    #[error("work unit {0} is on this very node: there is nothing to adopt")]
    AdoptHere(String),
    /// Somebody asks in another node's name.
    #[error("{principal} cannot adopt for node {node}")]
    AdoptFor {
        /// Who asks.
        principal: String,
        /// For whom.
        node: String,
    },
    /// The other node does not know what is asked of it.
    #[error("node {node} does not offer `{feature}`: it runs Receptor, or an older version of this program")]
    Unsupported {
        /// The node.
        node: String,
        /// What it would have to offer.
        feature: &'static str,
    },
    /// The other node could not be asked.
    #[error("cannot reach node {node}: {why}")]
    OutOfReach {
        /// The node.
        node: String,
        /// Why not.
        why: String,
    },
    /// The id of a request is another one's.
    #[error("this `request_id` has made work unit {0}, which is for something else: choose another")]
    RequestTaken(String),
    /// The unit was released and has yet to go.
    #[error("work unit {0} was released")]
    UnitReleased(String),
    /// The node that was to do it refused, or what it said was not understood.
    #[error("{0}")]
    Remote(String),
    /// The unit cannot do this now.
    #[error(transparent)]
    NotNow(NotNow),
    /// The disk has no room for it.
    #[error("no space: {0}; release units or make room, then submit again")]
    NoSpace(String),
    /// The principal has as many units as it may have.
    #[error(
        "{owner} has {most} units here that have not ended, and may have no more: wait for some to end, or cancel some"
    )]
    TooMany {
        /// Who.
        owner: String,
        /// How many it may have: `maxunits`.
        most: usize,
    },
    /// The engine is stopping.
    #[error("this node is shutting down: ask again when it is back")]
    Closing,
    /// The disk would not have it.
    #[error("{what} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl WorkError {
    /// A word for programs, which never changes.
    pub fn code(&self) -> ErrorCode {
        match self {
            WorkError::UnknownUnit(_) => ErrorCode::UnknownUnit,
            WorkError::UnknownWorkType(_) => ErrorCode::UnknownWorkType,
            WorkError::ExtraParams => ErrorCode::ParamsNotAllowed,
            WorkError::NotAllowed(refusal) => refusal.code(),
            WorkError::LocalTtl | WorkError::BadTtl(_) => ErrorCode::BadTtl,
            WorkError::SecretsInClear => ErrorCode::SecretsInClear,
            WorkError::BadNode(_) => ErrorCode::BadNode,
            WorkError::UnexpectedSignature => ErrorCode::UnexpectedSignature,
            WorkError::Denied(why) => why.code(),
            WorkError::NotGranted { .. } | WorkError::SignsForNobody(_) => ErrorCode::Denied,
            WorkError::IncompletePayload(_) => ErrorCode::IncompletePayload,
            WorkError::Canceled(_) => ErrorCode::Canceled,
            WorkError::Superseded(_) => ErrorCode::Superseded,
            WorkError::Released(_) => ErrorCode::Released,
            WorkError::Adopted { .. } => ErrorCode::Adopted,
            WorkError::Unfit { why: Unfit::Arriving, .. } => ErrorCode::NotNow,
            WorkError::Unfit { why: Unfit::Elsewhere(_), .. } | WorkError::AdoptHere(_) => {
                ErrorCode::NotAdoptable
            }
            WorkError::AdoptFor { .. } => ErrorCode::Denied,
            WorkError::Unsupported { .. } => ErrorCode::Unsupported,
            WorkError::OutOfReach { .. } => ErrorCode::NoRoute,
            WorkError::RequestTaken(_) => ErrorCode::BadRequest,
            WorkError::UnitReleased(_) => ErrorCode::Released,
            WorkError::Remote(_) => ErrorCode::Remote,
            WorkError::NotNow(_) => ErrorCode::NotNow,
            WorkError::Closing => ErrorCode::Closing,
            WorkError::NoSpace(_) => ErrorCode::NoSpace,
            WorkError::TooMany { .. } => ErrorCode::Busy,
            WorkError::Io { source, .. } if is_full(source) => ErrorCode::NoSpace,
            WorkError::Io { .. } => ErrorCode::Io,
        }
    }

    /// A fault of the disk: what was tried, on what.
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> WorkError {
        let path = path.into();
        move |source| WorkError::Io { what, path, source }
    }

    /// A step of a unit that was not taken.
    pub(crate) fn step(path: impl Into<PathBuf>) -> impl FnOnce(StepError) -> WorkError {
        let path = path.into();
        move |error| match error {
            StepError::NotNow(error) => WorkError::NotNow(error),
            StepError::Io(source) => WorkError::Io { what: "cannot change the status in", path, source },
        }
    }
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has this node's units.
    #[error("the units of node `{node}` in {datadir} belong to the daemon with pid {holder}: stop that one, or choose another id or datadir", datadir = .datadir.display())]
    Held {
        /// The node.
        node: String,
        /// Where.
        datadir: PathBuf,
        /// Whose; empty when unknown.
        holder: String,
    },
    /// A work type twice, or one of the built-in name.
    #[error("work type {0} already registered")]
    DuplicateType(String),
    /// A work type demands signatures that nobody here can check.
    #[error(
        "VerifySignature for work command '{0}' is true, but the work verification public key is not specified"
    )]
    NoVerification(String),
    /// The disk would not have it.
    #[error("{what} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}
