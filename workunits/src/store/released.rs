//! The file `released`: which requests made units that were released, remembered for a day.
//!
//! A submission that comes late, by a client that never heard its answer, must not run again.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{private, sync_dir};
use crate::{crash, logic::units::Request};

/// How long a released request is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// How many are remembered at most; the oldest go first.
const MOST: usize = 100_000;

/// The memory of released requests.
#[derive(Debug)]
pub struct Released {
    path: PathBuf,
    since: HashMap<Request, u64>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    at: u64,
    owner: String,
    request_id: String,
}

impl Released {
    /// Reads the file, and writes it anew if there is something too old in it. A torn line is forgotten.
    pub fn open(path: PathBuf, now: SystemTime) -> io::Result<Released> {
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let text = String::from_utf8_lossy(&bytes);
        let oldest = seconds(now).saturating_sub(REMEMBERED.as_secs());
        let mut lines: Vec<Line> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        lines.retain(|line| line.at >= oldest);
        lines.drain(..lines.len().saturating_sub(MOST));
        let mut kept = String::new();
        for line in &lines {
            kept.push_str(&serde_json::to_string(line)?);
            kept.push('\n');
        }
        if kept != text {
            // Without room the old file stays: it says the same, and more than is needed.
            match replace(&path, &kept) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
                replaced => replaced?,
            }
        }
        let request = |line: Line| (Request { owner: line.owner, id: line.request_id }, line.at);
        Ok(Released { path, since: lines.into_iter().map(request).collect() })
    }

    /// Remembers a request, durably.
    pub fn remember(&mut self, request: Request, now: SystemTime) -> io::Result<()> {
        let at = seconds(now);
        if self.since.len() >= MOST {
            let oldest = at.saturating_sub(REMEMBERED.as_secs());
            self.since.retain(|_, since| *since >= oldest);
            let first =
                self.since.iter().min_by_key(|(_, since)| **since).map(|(request, _)| request.clone());
            if let (true, Some(first)) = (self.since.len() >= MOST, first) {
                self.since.remove(&first);
            }
        }
        let line = Line { at, owner: request.owner.clone(), request_id: request.id.clone() };
        let mut file = private().append(true).create(true).open(&self.path)?;
        let whole = file.metadata()?.len();
        if whole == 0 {
            sync_parent(&self.path)?; // it may have been made just now
        }
        let bytes = format!("{}\n", serde_json::to_string(&line)?);
        crash::write("remember released", &file, bytes.as_bytes());
        if let Err(error) = file.write_all(bytes.as_bytes()).and_then(|()| file.sync_data()) {
            file.set_len(whole).ok(); // or the next line would be lost together with half of this one
            return Err(error);
        }
        self.since.insert(request, at);
        Ok(())
    }

    /// Whether a request was released within the last day.
    pub fn contains(&self, request: &Request, now: SystemTime) -> bool {
        self.since
            .get(request)
            .is_some_and(|since| since.saturating_add(REMEMBERED.as_secs()) >= seconds(now))
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = private().write(true).create(true).truncate(true).open(&temporary)?;
    crash::write("write released anew", &file, text.as_bytes());
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
    if let Err(error) = written {
        fs::remove_file(&temporary).ok(); // half of it takes room for nothing
        return Err(error);
    }
    crash::point("rename released");
    fs::rename(&temporary, path)?;
    // Or a power cut could bring the old file back, without what is appended to this one.
    crash::point("sync renamed released");
    sync_parent(path)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_dir)
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_request_is_known_for_a_day_across_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("released");
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let request = Request { owner: "uid:1".into(), id: "00".into() };
        Released::open(path.clone(), now).unwrap().remember(request.clone(), now).unwrap();
        assert!(Released::open(path.clone(), now).unwrap().contains(&request, now));
        let later = now + REMEMBERED + Duration::from_secs(1);
        assert!(!Released::open(path, later).unwrap().contains(&request, later));
    }

    #[test]
    fn what_a_power_cut_left_of_a_line_costs_that_line_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("released");
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let [first, second] = ["00", "01"].map(|id| Request { owner: "uid:1".into(), id: id.into() });
        let mut released = Released::open(path.clone(), now).unwrap();
        assert!(!path.exists(), "there is nothing to remember");
        released.remember(first.clone(), now).unwrap();
        let whole = fs::read(&path).unwrap();
        for torn in [&b"{\"at\":1"[..], &[0xff, 0, 0xfe], b""] {
            fs::write(&path, [&whole, torn].concat()).unwrap();
            let mut released = Released::open(path.clone(), now).unwrap();
            assert!(released.contains(&first, now) && !released.contains(&second, now));
            released.remember(second.clone(), now).unwrap();
            assert!(Released::open(path.clone(), now).unwrap().contains(&second, now));
        }
    }

    #[test]
    fn a_moment_that_no_clock_can_show_is_remembered_and_breaks_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("released");
        fs::write(&path, format!("{{\"at\":{},\"owner\":\"uid:1\",\"request_id\":\"00\"}}\n", u64::MAX))
            .unwrap();
        let request = Request { owner: "uid:1".into(), id: "00".into() };
        assert!(Released::open(path, UNIX_EPOCH).unwrap().contains(&request, UNIX_EPOCH));
    }
}
