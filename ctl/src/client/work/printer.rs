//! What following a unit prints: its bytes as they are, or an event per line.
//!
//! With `--json` each line is one object:
//! ```text
//! {"event":"submitted","unitid":"X","result":"Job Started"}
//! {"event":"stdout","unitid":"X","text":"..."}            or "hex":"..." when the bytes are no UTF-8
//! {"event":"stderr","unitid":"X","text":"..."}
//! {"event":"status","unitid":"X","status":{...}}          whenever it changes, where the daemon pushes it
//! {"event":"end","unitid":"X","status":{...},"exit_code":N}
//! {"event":"released","unitid":"X"}                       with --rm
//! ```

use serde_json::{Map, Value, json};

use crate::{
    client::Console,
    exit::{Code, Failure},
};

/// Which output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Stdout,
    Stderr,
}

/// Somebody who takes bytes.
type Sink<'s> = Box<dyn FnMut(&[u8]) + 's>;

/// Prints what becomes of one unit.
pub(super) struct Printer<'s> {
    unit: String,
    json: bool,
    /// Who takes the output instead of the console.
    sink: Option<Sink<'s>>,
    /// A character cut in two by the end of a chunk, per channel: at most three bytes.
    unfinished: [Vec<u8>; 2],
}

impl<'s> Printer<'s> {
    pub(super) fn new(unit: &str, json: bool) -> Printer<'s> {
        Printer { unit: unit.to_owned(), json, sink: None, unfinished: [vec![], vec![]] }
    }

    /// One that prints nothing and hands the output on.
    pub(super) fn into(sink: impl FnMut(&[u8]) + 's) -> Printer<'s> {
        Printer { sink: Some(Box::new(sink)), ..Printer::new("", false) }
    }

    /// Output, as it comes.
    pub(super) async fn bytes(
        &mut self,
        channel: Channel,
        bytes: &[u8],
        console: &mut Console,
    ) -> Result<(), Failure> {
        if let Some(sink) = &mut self.sink {
            sink(bytes);
            return Ok(());
        }
        match (self.json, channel) {
            (false, Channel::Stdout) => console.bytes(bytes).await,
            (false, Channel::Stderr) => console.error_bytes(bytes).await,
            (true, channel) => match self.text_event(channel, bytes) {
                Some(event) => console.compact(&event).await,
                None => Ok(()),
            },
        }
    }

    /// The submission's reply.
    pub(super) async fn submitted(&mut self, result: &str, console: &mut Console) -> Result<(), Failure> {
        self.event("submitted", json!({"result": result}), console).await
    }

    /// A change of the unit's status.
    pub(super) async fn status(
        &mut self,
        status: &Map<String, Value>,
        console: &mut Console,
    ) -> Result<(), Failure> {
        self.event("status", json!({"status": status}), console).await
    }

    /// The unit's last status.
    pub(super) async fn end(
        &mut self,
        status: &Map<String, Value>,
        code: Code,
        console: &mut Console,
    ) -> Result<(), Failure> {
        for channel in [Channel::Stdout, Channel::Stderr] {
            let rest = std::mem::take(&mut self.unfinished[channel as usize]);
            if !rest.is_empty() {
                console.compact(&self.hex_event(channel, &rest)).await?;
            }
        }
        self.event("end", json!({"status": status, "exit_code": code.0}), console).await
    }

    /// The unit's files are gone.
    pub(super) async fn released(&mut self, console: &mut Console) -> Result<(), Failure> {
        self.event("released", json!({}), console).await
    }

    async fn event(&self, event: &str, mut members: Value, console: &mut Console) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        members["event"] = json!(event);
        members["unitid"] = json!(self.unit);
        console.compact(&members).await
    }

    fn text_event(&mut self, channel: Channel, bytes: &[u8]) -> Option<Value> {
        let mut all = std::mem::take(&mut self.unfinished[channel as usize]);
        all.extend_from_slice(bytes);
        match std::str::from_utf8(&all) {
            Ok(text) => Some(json!({"event": name(channel), "unitid": self.unit, "text": text})),
            // Only the last character is incomplete: it waits for its other bytes.
            Err(bad) if bad.error_len().is_none() => {
                let rest = all.split_off(bad.valid_up_to());
                self.unfinished[channel as usize] = rest;
                let text = String::from_utf8(all).unwrap_or_default(); // valid up to here
                let event = json!({"event": name(channel), "unitid": self.unit, "text": text});
                (!text.is_empty()).then_some(event)
            }
            Err(_) => Some(self.hex_event(channel, &all)),
        }
    }

    fn hex_event(&self, channel: Channel, bytes: &[u8]) -> Value {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({"event": name(channel), "unitid": self.unit, "hex": hex})
    }
}

fn name(channel: Channel) -> &'static str {
    match channel {
        Channel::Stdout => "stdout",
        Channel::Stderr => "stderr",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_cut_in_two_is_put_together_again() {
        let mut printer = Printer::new("u", true);
        let euro = "a€".as_bytes();
        assert_eq!(printer.text_event(Channel::Stdout, &euro[..2]).unwrap()["text"], "a");
        assert_eq!(printer.text_event(Channel::Stdout, &euro[2..3]), None);
        assert_eq!(printer.text_event(Channel::Stderr, b"x").unwrap()["text"], "x");
        assert_eq!(printer.text_event(Channel::Stdout, &euro[3..]).unwrap()["text"], "€");
    }

    #[test]
    fn bytes_that_are_no_text_are_hex() {
        let mut printer = Printer::new("u", true);
        let event = printer.text_event(Channel::Stdout, b"\xff\x00").unwrap();
        assert_eq!((&event["hex"], event.get("text")), (&json!("ff00"), None));
    }
}
