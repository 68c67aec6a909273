//! Takes over status and output of a unit on a node of ours, as that node pushes them over one stream.
//!
//! ```text
//!    {"command":"work","subcommand":"watch",..}  ──►
//!    ◄──  Watching work unit aB3dEf9Z LF, then frames: kind (1 byte), length (32 bits, big-endian), bytes
//!         s: status as JSON, on every change    o: output    e: error output    z: the end
//! ```
//! The request names the first byte that is missing at home, so a cut costs no byte and repeats none.

use super::{
    Context,
    home::{Home, WORTH_A_THREAD},
    news,
    talk::{NoAnswer, Talk},
    went::Went,
};
use crate::{
    engine::UnitHandle,
    request::{FrameKind, Offers, WorkRequest},
    unit::Unit,
};

/// Follows until the unit has ended and its output is home.
pub(super) async fn follow(
    context: &Context,
    unit: &UnitHandle,
    talk: &mut Talk,
    offers: Offers,
) -> Result<(), Went> {
    let current = unit.current();
    let there = current.remote().map(|remote| remote.remote_unit_id.clone()).unwrap_or_default();
    let mut stdout = Home::open(&unit.dir().stdout_path())?;
    // Made when its first byte comes: a merged unit has no such file.
    let mut stderr = None;
    let request = WorkRequest::Watch {
        unit: there,
        stdout_pos: stdout.size(),
        stderr_pos: unit.dir().stderr_size().unwrap_or(0),
        follow: true,
        signature: String::new(),
    };
    talk.say(&context.signed_for(unit, request, offers)?).await?;
    talk.reply().await?;
    loop {
        let (kind, length) = talk.frame_head().await?;
        match kind {
            FrameKind::Status => {
                // It may speak of every byte that came before it.
                settle(&mut stdout, &mut stderr).await?;
                let status = talk.exactly(length).await?;
                let there: Unit = serde_json::from_slice(&status).map_err(|error| {
                    NoAnswer::Garbled(format!("{error} in {}", String::from_utf8_lossy(&status)))
                })?;
                news::take_over(unit, there).await?;
            }
            FrameKind::Stdout => carry(talk, length, &mut stdout).await?,
            FrameKind::Stderr => {
                let stderr = match &mut stderr {
                    Some(open) => open,
                    none => none.insert(Home::open(&unit.dir().stderr_path())?),
                };
                carry(talk, length, stderr).await?;
            }
            FrameKind::End => return Ok(settle(&mut stdout, &mut stderr).await?),
        }
    }
}

async fn settle(stdout: &mut Home, stderr: &mut Option<Home>) -> std::io::Result<()> {
    stdout.settle().await?;
    match stderr {
        Some(stderr) => stderr.settle().await,
        None => Ok(()),
    }
}

/// As much of a long frame as is put down at once.
const BLOCK: usize = 256 << 10;

async fn carry(talk: &mut Talk, length: u32, home: &mut Home) -> Result<(), Went> {
    let mut left = length as usize;
    // All of a long frame has left its node already: it is put down in few pieces. What a cut takes of it is asked for again.
    while left >= WORTH_A_THREAD {
        let mut block = home.block(left.min(BLOCK));
        talk.fill(&mut block).await?;
        left -= block.len();
        home.put_block(block).await?;
    }
    while left > 0 {
        let bytes = talk.bytes().await?;
        let n = bytes.len().min(left);
        if n == 0 {
            let early =
                std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the stream ended inside a frame");
            return Err(NoAnswer::Broken(early).into());
        }
        home.put(&bytes[..n]).await?;
        talk.taken(n);
        left -= n;
    }
    Ok(())
}
