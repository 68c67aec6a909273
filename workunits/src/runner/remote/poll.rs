//! Takes over status and output of a unit on a Go node: its results stream is followed, its status asked for.
//!
//! A Go node pushes no status, so it is asked: soon after the start, then once a second, and at once when the results
//! stream ends. Its stream of a canceled unit never ends, so the status decides when everything is home.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    Context,
    home::Home,
    news,
    talk::{NoAnswer, Talk, shown},
    went::Went,
};
use crate::{
    engine::UnitHandle,
    request::{Output, WorkRequest},
    unit::Unit,
};

/// How long to wait between two questions: short at first, since most units are.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Follows until the unit has ended and its output is home.
pub(super) async fn follow(context: &Context, unit: &UnitHandle, mut status: Talk) -> Result<(), Went> {
    let current = unit.current();
    let there = current.remote().map(|remote| remote.remote_unit_id.clone()).unwrap_or_default();
    let mut home = Home::open(&unit.dir().stdout_path())?;
    let mut stream: Option<Talk> = None;
    let mut stream_failed_early = false;
    let mut pause = FIRST_PAUSE;
    loop {
        let said = ask(&mut status, &there).await?;
        let (ended, size) = (said.state.is_terminal(), said.stdout_size);
        home.settle().await?;
        news::take_over(unit, said).await?;
        if ended && home.size() >= size {
            return Ok(());
        }
        if stream.is_none() && !stream_failed_early {
            stream = Some(results(context, unit, &there, home.size()).await?);
        }
        let began_at = home.size();
        stream_failed_early = false;
        let ask_again = sleep(pause);
        tokio::pin!(ask_again);
        loop {
            let Some(open) = &mut stream else {
                ask_again.await;
                break;
            };
            let bytes = tokio::select! {
                bytes = open.bytes() => bytes?,
                () = &mut ask_again => break,
            };
            if bytes.is_empty() {
                // As a rule the unit has just ended. If it has not, the next stream waits for the next question.
                stream = None;
                stream_failed_early = home.size() == began_at;
                break;
            }
            let n = bytes.len();
            home.put(bytes).await?;
            open.taken(n);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn ask(status: &mut Talk, there: &str) -> Result<Unit, Went> {
    status.say(&format!("work status {there}")).await?;
    let said = status.object().await?;
    let text = shown(&said);
    serde_json::from_value(said.into()).map_err(|_| NoAnswer::Garbled(text).into())
}

async fn results(context: &Context, unit: &UnitHandle, there: &str, from: u64) -> Result<Talk, Went> {
    let (mut talk, offers) = context.open(unit).await?;
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let (unit_there, signature) = (there.to_owned(), String::new());
    let request = WorkRequest::Results { unit: unit_there, from, output: Output::Stdout, signature };
    talk.say(&context.signed(unit, request, offers)?).await?;
    let header = talk.reply().await?;
    if header.contains("Streaming results") { Ok(talk) } else { Err(NoAnswer::Garbled(header).into()) }
}
