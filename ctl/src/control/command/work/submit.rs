//! `work submit`: a unit is made, its payload arrives, it starts.
//!
//! ```text
//! client   work submit NODE TYPE␊
//! server   Work unit created with ID aB3dEf9Z. Send stdin data and EOF.␊
//! client   payload, to its declared length, its final mark, or the end of the stream
//! server   {"result":"Job Started","unitid":"aB3dEf9Z"}␊
//! ```
//! A submission that may be gone on with is told from which byte: `... and EOF. From byte 1048576.`
//!
//! A payload that broke off never starts anything. When only the end of the stream could end it, that is the end of
//! the conversation too.

use std::io;

use netmesh::json::to_go_string;
use serde_json::json;
use tracing::info;
use workunits::{
    engine::{Accepted, Caller, Engine, Upload, WorkError},
    request::{ErrorCode, PayloadEnd, Submit, created, created_from},
};

use crate::control::{
    code::Reason,
    peer::Wire,
    session::{Next, Session},
};

/// How receiving a payload ended, when the connection held.
enum Received {
    /// Every byte of it is with the engine.
    All,
    /// It broke off.
    Cut(String),
    /// The engine could not take it.
    Refused(WorkError),
}

/// Makes the unit, receives its payload, starts it.
pub(super) async fn run<W: Wire>(
    submit: Submit,
    session: &mut Session<W>,
    engine: &Engine,
    caller: &Caller,
) -> io::Result<Next> {
    let (end, resume) = (submit.extension.payload.clone(), submit.extension.resume);
    let (node, work_type) = (submit.node.clone(), submit.work_type.clone());
    let mut upload = match engine.submit(submit, caller).await {
        Ok(upload) => upload,
        Err(refusal) => return session.refuse(refusal).await,
    };
    let unit = upload.id().to_string();
    info!(unit, node, work_type, principal = caller.principal, "unit submitted");
    let there = if resume { upload.there() } else { 0 };
    let line = if resume { created_from(&unit, there) } else { created(&unit) };
    session.send_line(&line).await?;

    let next = if end.is_some() { Next::Request } else { Next::Close };
    let received = match end {
        Some(PayloadEnd::Length { length, .. }) => {
            counted(session, &mut upload, length.saturating_sub(there)).await
        }
        Some(PayloadEnd::Framed { .. }) => framed(session, &mut upload).await,
        None => to_the_end(session, &mut upload).await,
    };
    match received {
        Ok(Received::All) => {}
        Ok(Received::Cut(why)) => {
            upload.incomplete(&why).await;
            let rest =
                if resume { "; submit it again with the same request id to bring the rest" } else { "" };
            let why = format!("unit {unit} was not started: {why}{rest}");
            session.refuse(Reason(ErrorCode::IncompletePayload, why)).await?;
            return Ok(Next::Close);
        }
        Ok(Received::Refused(error)) => {
            upload.incomplete(&error.to_string()).await;
            session.refuse(error).await?;
            // The rest of the payload must not be taken for requests.
            while !session.next_bytes(usize::MAX).await?.is_empty() {}
            return Ok(Next::Close);
        }
        Err(lost) => {
            upload.incomplete(&format!("Error reading input data: {lost}")).await;
            return Err(lost);
        }
    }
    match upload.complete().await {
        Ok(accepted) => {
            let result = match accepted {
                Accepted::Started => "Job Started",
                Accepted::Submitted => "Job Submitted",
            };
            session.send_line(&to_go_string(&json!({ "result": result, "unitid": unit }))).await?;
        }
        Err(error) => {
            session.refuse(error).await?;
        }
    }
    Ok(next)
}

/// A payload of a declared length.
async fn counted<W: Wire>(
    session: &mut Session<W>,
    upload: &mut Upload,
    length: u64,
) -> io::Result<Received> {
    let mut missing = length;
    while missing > 0 {
        let bytes = session.next_bytes(usize::try_from(missing).unwrap_or(usize::MAX)).await?;
        if bytes.is_empty() {
            return Ok(Received::Cut(format!("its payload ended {missing} bytes early")));
        }
        if let Err(error) = upload.write(&bytes).await {
            return Ok(Received::Refused(error));
        }
        missing -= bytes.len() as u64;
    }
    Ok(Received::All)
}

/// A payload in frames: `length: u32, big-endian`, then `length` bytes; a frame of length 0 is the end.
async fn framed<W: Wire>(session: &mut Session<W>, upload: &mut Upload) -> io::Result<Received> {
    const MARK_BYTES: usize = 4;
    loop {
        let mut mark = [0; MARK_BYTES];
        let mut have = 0;
        while have < MARK_BYTES {
            let bytes = session.next_bytes(MARK_BYTES - have).await?;
            if bytes.is_empty() {
                return Ok(Received::Cut("its payload ended without the final mark".to_owned()));
            }
            mark[have..have + bytes.len()].copy_from_slice(&bytes);
            have += bytes.len();
        }
        match u32::from_be_bytes(mark) {
            0 => return Ok(Received::All),
            length => match counted(session, upload, u64::from(length)).await? {
                Received::All => {}
                Received::Cut(_) => {
                    return Ok(Received::Cut("its payload ended in the middle of a frame".to_owned()));
                }
                refused => return Ok(refused),
            },
        }
    }
}

/// A payload that ends with the stream, if the client is still there to mean it.
async fn to_the_end<W: Wire>(session: &mut Session<W>, upload: &mut Upload) -> io::Result<Received> {
    loop {
        let bytes = session.next_bytes(usize::MAX).await?;
        if bytes.is_empty() {
            return Ok(match session.wire.is_gone() {
                true => Received::Cut(
                    "the client closed the connection before its payload was complete".to_owned(),
                ),
                false => Received::All,
            });
        }
        if let Err(error) = upload.write(&bytes).await {
            return Ok(Received::Refused(error));
        }
    }
}
