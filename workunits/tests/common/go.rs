//! A node that speaks as a Go node does: nothing of ours is offered, and the end of the stream ends a payload.
#![allow(dead_code)] // each test file takes what it needs

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::pipes::{Answer, End};

/// A unit: its payload, once that was whole.
type Unit = Option<Vec<u8>>;

/// The units of all its names, by the name that was dialled: it gives a payload back.
#[derive(Clone, Default)]
pub(crate) struct GoNode {
    units: Arc<Mutex<HashMap<String, Vec<Unit>>>>,
}

impl GoNode {
    pub(crate) fn answer(&self) -> Answer {
        let go = self.clone();
        Arc::new(move |end, node| {
            let go = go.clone();
            tokio::spawn(async move { go.serve(end, node).await.ok() }); // a cut ends it
        })
    }

    /// How many units were made under this name.
    pub(crate) fn units(&self, node: &str) -> usize {
        self.units.lock().unwrap().get(node).map_or(0, Vec::len)
    }

    /// How many of them got a whole payload, and ran.
    pub(crate) fn runs(&self, node: &str) -> usize {
        self.units.lock().unwrap().get(node).map_or(0, |units| units.iter().flatten().count())
    }

    async fn serve(self, end: End, node: String) -> io::Result<()> {
        let mut stream = BufReader::new(end);
        let mut line = String::new();
        while stream.read_line(&mut line).await? > 0 && line.ends_with('\n') {
            let asked: Value = serde_json::from_str(&line).unwrap_or_default();
            let said = std::mem::take(&mut line);
            if asked["command"] == "status" {
                stream.write_all(b"{\"Version\":\"1.6.9\"}\n").await?;
            } else if asked["subcommand"] == "submit" {
                let number = {
                    let mut units = self.units.lock().unwrap();
                    let units = units.entry(node.clone()).or_default();
                    units.push(None);
                    units.len() - 1
                };
                let asking =
                    format!("Work unit created with ID gounit{number:02}. Send stdin data and EOF.\n");
                stream.write_all(asking.as_bytes()).await?;
                let mut payload = Vec::new();
                stream.read_to_end(&mut payload).await?;
                self.units.lock().unwrap().get_mut(&node).unwrap()[number] = Some(payload);
                let started = json!({ "result": "Job Started", "unitid": format!("gounit{number:02}") });
                stream.write_all(format!("{started}\n").as_bytes()).await?;
                return stream.shutdown().await;
            } else if let Some(unit) = said.strip_prefix("work status gounit") {
                let number: usize = unit.trim().parse().unwrap();
                let (state, detail, size) = match &self.units.lock().unwrap()[&node][number] {
                    Some(payload) => (2, "exit status 0", payload.len()),
                    None => (3, "Error reading input data: stream reset", 0),
                };
                let status = json!({ "State": state, "Detail": detail, "StdoutSize": size, "WorkType": "cat", "ExtraData": null });
                stream.write_all(format!("{status}\n").as_bytes()).await?;
            } else if asked["subcommand"] == "results" {
                let unit = asked["unitid"].as_str().unwrap();
                let from = asked["startpos"].as_u64().unwrap() as usize;
                let number: usize = unit.strip_prefix("gounit").unwrap().parse().unwrap();
                let all = self.units.lock().unwrap()[&node][number].clone().unwrap_or_default();
                stream.write_all(format!("Streaming results for work unit {unit}\n").as_bytes()).await?;
                stream.write_all(&all[from..]).await?;
                return stream.shutdown().await;
            } else {
                panic!("a Go node would not understand {said:?}");
            }
        }
        Ok(())
    }
}
