//! `reload`: read the configuration file again and take over what changed.
//!
//! Reply: `{"Success":true}`, or `{"Error":"... ERRORCODE 3","Success":false}`; Receptor's client makes its exit code of
//! the number, and whoever wants codes gets `Code` besides. The work is the daemon's: the command hands it a request and waits.

use netmesh::json::to_go_string;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use workunits::request::ErrorCode;

/// Where a request to reload is answered.
pub(crate) type ReloadRequest = oneshot::Sender<Result<(), ReloadFailed>>;

/// The door to the daemon.
pub(crate) type Reloads = mpsc::Sender<ReloadRequest>;

/// Why nothing was taken over, or not everything. The first two texts are Receptor's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReloadFailed {
    /// Something changed that only a restart can take over.
    #[error(
        "a non-reloadable config action '{0}' was modified or added. Must restart receptor for these changes to take effect"
    )]
    Changed(String),
    /// Something is missing that only a restart can take away.
    #[error(
        "a non-reloadable config action '{0}' was removed. Must restart receptor for changes to take effect"
    )]
    Removed(String),
    /// The daemon was not started from a file.
    #[error("no configuration file was provided, reload function not set")]
    NoFile,
    /// The file has faults; nothing was changed.
    #[error("error loading config file: {0}")]
    BadFile(String),
    /// Some listeners could not be opened; those before them run on.
    #[error("{0}")]
    Listeners(String),
    /// The daemon is about to stop.
    #[error("the node is stopping: try again when it has started")]
    Stopping,
}

impl ReloadFailed {
    /// Receptor's number for it: 3 asks for a restart, 4 for a better file.
    fn number(&self) -> u8 {
        match self {
            ReloadFailed::Changed(_) | ReloadFailed::Removed(_) => 3,
            _ => 4,
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            ReloadFailed::Changed(_) | ReloadFailed::Removed(_) => ErrorCode::RestartNeeded,
            ReloadFailed::NoFile => ErrorCode::NoConfig,
            ReloadFailed::BadFile(_) => ErrorCode::BadConfig,
            ReloadFailed::Listeners(_) => ErrorCode::ListenFailed,
            ReloadFailed::Stopping => ErrorCode::Closing,
        }
    }
}

/// Asks the daemon to reload, and says how it went.
pub(super) async fn answer(codes: bool, reloads: &Reloads) -> String {
    let (request, answer) = oneshot::channel();
    let outcome = match reloads.send(request).await {
        Ok(()) => answer.await.unwrap_or(Err(ReloadFailed::Stopping)),
        Err(_) => Err(ReloadFailed::Stopping),
    };
    let why = match outcome {
        Ok(()) => return to_go_string(&json!({ "Success": true })),
        Err(why) => why,
    };
    let mut failed = json!({ "Error": format!("{why} ERRORCODE {}", why.number()), "Success": false });
    if codes {
        failed["Code"] = json!(why.code().word());
    }
    to_go_string(&failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_that_needs_a_restart_has_code_3_and_a_bad_file_code_4() {
        for (why, expected) in [
            (
                ReloadFailed::Changed("work-command".into()),
                r#"{"Error":"a non-reloadable config action 'work-command' was modified or added. Must restart receptor for these changes to take effect ERRORCODE 3","Success":false}"#,
            ),
            (
                ReloadFailed::NoFile,
                r#"{"Error":"no configuration file was provided, reload function not set ERRORCODE 4","Success":false}"#,
            ),
        ] {
            let (reloads, mut requests) = mpsc::channel::<ReloadRequest>(1);
            let daemon = async { requests.recv().await.unwrap().send(Err(why)).unwrap() };
            assert_eq!(tokio::join!(answer(false, &reloads), daemon).0, expected);
        }
    }

    #[tokio::test]
    async fn a_daemon_that_stops_answers_too() {
        let (reloads, requests) = mpsc::channel::<ReloadRequest>(1);
        drop(requests);
        assert!(answer(false, &reloads).await.contains("ERRORCODE 4"));
        assert!(answer(true, &reloads).await.contains(r#""Code":"closing""#));
    }
}
