//! What is written down of every decision about access, and how does it get to its file?
//!
//! ```text
//! whoever decided ─► Journal ─► a queue of 1,024 lines ─► one thread ─► the file, rotated by size
//!                           └─► the log
//! ```
//! When the queue is full, whoever brings the next line waits: a request goes no faster than what is known of it. A line
//! that the disk would not take is counted, the log says so, and the next line that can be written tells how many are
//! missing. Lines hold names, never payloads, parameters or tokens.

mod file;

#[cfg(test)]
mod tests;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::SystemTime,
};

use serde::Serialize;
use time::{OffsetDateTime, macros::format_description};
use tokio::sync::mpsc;

use file::Rotated;

/// Lines that may wait for the disk.
const QUEUE: usize = 1_024;
/// The longest name in a line, in bytes: names come from strangers.
const NAME_MAX: usize = 256;

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditConfig {
    /// The file, if they go to one.
    pub file: Option<AuditFile>,
    /// Whether they go to the log too.
    pub log: bool,
}

/// A file that does not grow for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFile {
    /// The newest lines; older ones are in `PATH.1`, `PATH.2` and so on.
    pub path: PathBuf,
    /// When it would become larger than this, in bytes, a new one is begun.
    pub max_size: u64,
    /// How many older files are kept.
    pub keep: u32,
}

/// A decision, as it is written down.
#[derive(Clone, Debug, Default)]
pub struct Entry<'a> {
    /// Who asked: every principal that they showed, the one by which they came first.
    pub principals: &'a [&'a str],
    /// By which way.
    pub way: &'a str,
    /// What they wanted: an action's word, or `handshake`.
    pub action: &'a str,
    /// About which work type.
    pub work_type: Option<&'a str>,
    /// About which unit.
    pub unit: Option<&'a str>,
    /// Which other node it is for.
    pub node: Option<&'a str>,
    /// Whether they may.
    pub allowed: bool,
    /// Why, or why not.
    pub reason: &'a str,
}

/// The line of a decision. Every member is always there.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    principal: &'a str,
    also: Vec<&'a str>,
    way: &'a str,
    action: &'a str,
    work_type: Option<&'a str>,
    unit: Option<&'a str>,
    node: Option<&'a str>,
    decision: &'a str,
    reason: &'a str,
}

/// Writes decisions down. A clone is the same journal; the default one writes nothing.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    config: AuditConfig,
    file: Option<mpsc::Sender<Message>>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

enum Message {
    Line(String),
    End,
}

impl Journal {
    /// Opens the file, if there is to be one, and starts its thread.
    ///
    /// # Errors
    /// When the file cannot be opened: then nothing should be decided by whoever wants it audited.
    pub fn open(config: AuditConfig) -> io::Result<Journal> {
        let mut journal = Journal { config, ..Journal::default() };
        if let Some(file) = &journal.config.file {
            let mut file = Rotated::open(file.clone())?;
            let (lines, mut taken) = mpsc::channel(QUEUE);
            let write = move || {
                while let Some(Message::Line(line)) = taken.blocking_recv() {
                    file.write(&line);
                }
            };
            let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(write)?;
            *journal.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
            journal.file = Some(lines);
        }
        Ok(journal)
    }

    /// What it was opened with.
    pub fn config(&self) -> &AuditConfig {
        &self.config
    }

    /// Writes a decision down; waits while the queue is full.
    pub async fn note(&self, entry: &Entry<'_>) {
        if self.config.log {
            let Entry { way, action, work_type, unit, node, allowed, reason, .. } = entry;
            let principals = entry.principals.iter().map(|name| clip(name)).collect::<Vec<_>>().join(" ");
            let (work_type, node) = (work_type.map(clip), node.map(clip));
            tracing::info!(
                principals,
                way,
                action,
                work_type,
                unit,
                node,
                decision = word(*allowed),
                reason,
                "audit"
            );
        }
        if let Some(file) = &self.file {
            // It fails only after `close`, when the node is about to end.
            let _ = file.send(Message::Line(entry.line(SystemTime::now()))).await;
        }
    }

    /// Waits until all that was noted is in the file, and closes it.
    pub async fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(file), Some(writer)) = (&self.file, writer) else { return };
        let _ = file.send(Message::End).await; // a thread that has ended already took all it could
        let joined = tokio::task::spawn_blocking(move || writer.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the thread that writes the audit file broke down");
        }
    }
}

impl Entry<'_> {
    fn line(&self, now: SystemTime) -> String {
        let mut principals = self.principals.iter().map(|name| clip(name));
        let line = Line {
            time: moment(now),
            principal: principals.next().unwrap_or_default(),
            also: principals.collect(),
            way: self.way,
            action: self.action,
            work_type: self.work_type.map(clip),
            unit: self.unit.map(clip),
            node: self.node.map(clip),
            decision: word(self.allowed),
            reason: self.reason,
        };
        line.text()
    }
}

impl Line<'_> {
    fn text(&self) -> String {
        let mut text = serde_json::to_string(self).unwrap_or_default(); // texts only: cannot fail
        text.push('\n');
        text
    }
}

/// The line that stands for `lost` ones.
fn lost(lost: u64, why: &str, now: SystemTime) -> String {
    Line {
        time: moment(now),
        principal: "",
        also: Vec::new(),
        way: "",
        action: "audit",
        work_type: None,
        unit: None,
        node: None,
        decision: "lost",
        reason: &format!("{lost} lines before this one could not be written: {why}"),
    }
    .text()
}

fn word(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "denied" }
}

fn clip(name: &str) -> &str {
    let mut end = name.len().min(NAME_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

fn moment(at: SystemTime) -> String {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from(at).format(form).unwrap_or_default() // every such time has these parts
}
