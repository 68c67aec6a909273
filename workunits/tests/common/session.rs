//! A control service over an engine, with as much of it as units elsewhere need.
#![allow(dead_code)] // each test file takes what it needs

use std::io;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use workunits::{
    engine::{Caller, Engine, Frame, Reply, Upload, Way, WorkError},
    request::{PayloadEnd, WorkRequest, created_from},
};

use super::pipes::End;

/// What it offers.
pub(crate) const FEATURES: &str = "{\"Features\":[\"request-id\",\"payload-length\",\"watch\",\"stderr-separate\",\"meta\",\"payload-resume\",\"error-codes\",\"adopt\"]}\n";

/// Serves one conversation with foo to its end, as a node of ours does.
pub(crate) async fn serve(engine: Engine, end: End) -> io::Result<()> {
    serve_as(engine, end, "foo").await
}

/// The same with any node.
pub(crate) async fn serve_as(engine: Engine, end: End, node: &str) -> io::Result<()> {
    let caller = Caller::new(Way::Mesh, format!("node:{node}"));
    let mut stream = BufReader::new(end);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 && line.ends_with('\n') {
        let Value::Object(members) = serde_json::from_str(&line)? else { panic!("{line}") };
        line.clear();
        if members["command"] == "status" {
            stream.write_all(FEATURES.as_bytes()).await?;
            continue;
        }
        let codes = members.get("errors").is_some_and(|how| how == "json");
        let request = WorkRequest::from_json(&members).unwrap();
        let speaks_for = request.speaks_for(&members).unwrap();
        if let Err(error) = engine.check_controller(&request, speaks_for.as_ref(), &caller) {
            refuse(&mut stream, &error, codes).await?;
            continue;
        }
        let answer = match request {
            WorkRequest::Status { unit, .. } => engine.unit(&unit).map(|unit| json!(*unit)),
            WorkRequest::HandOver { unit, to, signature } => {
                engine.hand_over(&unit, to, &signature, &caller).await.map(|()| json!({ "adopted": unit }))
            }
            WorkRequest::Submit(mut submit) => {
                submit.node = "localhost".to_owned(); // each test calls it otherwise
                let Some(PayloadEnd::Length { length, .. }) = submit.extension.payload else {
                    panic!("no length")
                };
                let mut upload = match engine.submit(*submit, &caller).await {
                    Ok(upload) => upload,
                    Err(error) => {
                        refuse(&mut stream, &error, codes).await?;
                        continue;
                    }
                };
                let id = upload.id();
                let line = created_from(id.as_str(), upload.there());
                stream.write_all(format!("{line}\n").as_bytes()).await?;
                match payload(&mut stream, &mut upload, length).await? {
                    Ok(()) => upload
                        .complete()
                        .await
                        .map(|_| json!({ "result": "Job Started", "unitid": id.as_str() })),
                    Err(error) => Err(error),
                }
            }
            WorkRequest::List { request_id, .. } => {
                let units = engine.units();
                let asked = units.iter().filter(|(_, unit)| unit.request_id == request_id);
                Ok(asked.map(|(id, unit)| (id.to_string(), json!(**unit))).collect())
            }
            WorkRequest::Cancel { unit, .. } => {
                engine.cancel(&unit, "", &caller).await.map(|done| told(done, "cancelled", &unit))
            }
            WorkRequest::Release { unit, force, .. } => {
                engine.release(&unit, force, "", &caller).await.map(|done| told(done, "released", &unit))
            }
            WorkRequest::Watch { unit, stdout_pos, stderr_pos, .. } => {
                match engine.watch(&unit, stdout_pos, stderr_pos, "", &caller).await {
                    Ok(mut watch) => {
                        stream.write_all(format!("Watching work unit {unit}\n").as_bytes()).await?;
                        while let Some(frame) = watch.next().await? {
                            let (kind, bytes) = match frame {
                                Frame::Status(bytes) => (b's', bytes),
                                Frame::Stdout(bytes) => (b'o', bytes),
                                Frame::Stderr(bytes) => (b'e', bytes),
                                Frame::End => (b'z', Default::default()),
                            };
                            let head = [&[kind][..], &(bytes.len() as u32).to_be_bytes()].concat();
                            stream.write_all(&[&head[..], &bytes].concat()).await?;
                        }
                        continue;
                    }
                    Err(error) => Err(error),
                }
            }
            other => panic!("nobody asks this of a node of ours: {other:?}"),
        };
        match answer {
            Ok(object) => say(&mut stream, object).await?,
            Err(error) => refuse(&mut stream, &error, codes).await?,
        }
    }
    Ok(())
}

/// What is missing of a payload.
async fn payload(
    stream: &mut BufReader<End>,
    upload: &mut Upload,
    length: u64,
) -> io::Result<Result<(), WorkError>> {
    let mut missing = length - upload.there();
    while missing > 0 {
        let bytes = stream.fill_buf().await?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let n = bytes.len().min(missing as usize);
        if let Err(error) = upload.write(&bytes[..n]).await {
            return Ok(Err(error));
        }
        stream.consume(n);
        missing -= n as u64;
    }
    Ok(Ok(()))
}

fn told(done: Reply, what: &str, unit: &str) -> Value {
    match done {
        Reply::Done => json!({ what: unit }),
        Reply::Pending => json!({ "pending": unit }),
    }
}

async fn say(stream: &mut BufReader<End>, object: Value) -> io::Result<()> {
    stream.write_all(format!("{object}\n").as_bytes()).await
}

async fn refuse(stream: &mut BufReader<End>, error: &WorkError, codes: bool) -> io::Result<()> {
    let line = if codes { error.code().refusal(&error.to_string()) } else { format!("ERROR: {error}\n") };
    stream.write_all(line.as_bytes()).await
}
