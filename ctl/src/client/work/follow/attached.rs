//! A unit followed as if it ran here: what Ctrl-C and SIGTERM do to it and to us.
//!
//! ```text
//! Ctrl-C          the unit is canceled; we follow to its end
//! Ctrl-C again    we leave; the cancel stands
//! SIGTERM         we leave; the unit runs on
//! ```

use std::convert::Infallible;

use tokio::time::sleep;
use workunits::request::WorkRequest;

use super::{Follow, PAUSE, Printer, with_next_step};
use crate::{
    client::{Console, Door, console::Aside, no_answer::NoAnswer},
    exit::{Code, Failure},
};

impl Follow<'_> {
    /// Prints all output until the unit has ended, and returns the command's code.
    ///
    /// # Errors
    /// That we left before; a daemon that is gone for too long; a refusal.
    pub(in super::super) async fn attached(
        &mut self,
        printer: &mut Printer<'_>,
        console: &mut Console,
    ) -> Result<Code, Failure> {
        let interrupt = console.interrupt.clone();
        let mut aside = console.aside();
        let (door, unit, flag) = (self.door, self.unit, self.shows.flag());
        let leave = async {
            tokio::select! {
                () = interrupt.terminated() => format!(
                    "no longer attached; unit {unit} runs on: `netmesh work results {unit}{flag}` follows it again, `netmesh work cancel {unit}` ends it"
                ),
                () = interrupt.interrupted(2) => format!(
                    "left before unit {unit} had ended: `netmesh work status {unit}` shows what becomes of it"
                ),
            }
        };
        let steer = async {
            interrupt.interrupted(1).await;
            cancel(door, unit, &mut aside).await;
            std::future::pending::<Infallible>().await
        };
        let ended = tokio::select! {
            biased;
            ended = self.until_ended(printer, console) => ended?,
            left = leave => return Err(Failure::new(Code::CANCELED, left)),
            never = steer => match never {},
        };
        self.tell(&ended, printer, console).await
    }
}

/// Has the unit canceled, and tells what came of that. A daemon that is gone is asked again: cancelling twice is
/// cancelling once, and whoever follows gives up in time.
async fn cancel(door: &Door, unit: &str, aside: &mut Aside) {
    aside.say(&format!("canceling unit {unit}; Ctrl-C again leaves at once")).await;
    let request = WorkRequest::Cancel { unit: unit.to_owned(), signature: String::new() };
    loop {
        let answer = async {
            let mut session = door.open().await?;
            session.offers().await?;
            session.ask(&request.to_line()).await
        };
        match answer.await {
            Ok(answer) if answer.contains_key("cancel pending") => {
                let text = "its node is out of reach: the cancel is carried out when it returns";
                return aside.say(&format!("unit {unit}: {text}")).await;
            }
            Ok(_) => return,
            Err(gone) if gone.is_gone() => sleep(PAUSE.1).await,
            Err(NoAnswer::Refused(refusal)) => {
                let why = with_next_step(&refusal);
                return aside.say(&format!("cannot cancel unit {unit}: {why}")).await;
            }
            Err(other) => return aside.say(&format!("cannot cancel unit {unit}: {other}")).await,
        }
    }
}
