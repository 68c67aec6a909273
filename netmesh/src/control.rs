//! The grammar of the control language: a line, a reply, and the switch to raw bytes.
//!
//! ```text
//! server   Receptor Control, node foo␊
//! client   ping bar␊                                       one word, then parameters
//! client   {"command":"ping","target":"bar"}␊              or one JSON object
//! server   {"From":"bar",...}␊   or   ERROR: text␊         one line for each request
//! ```
//! After some requests the line language stops and raw bytes follow at once, perhaps in the same packet:
//! [`LineBuffer`] cuts lines off and keeps everything behind them.

use bytes::{Buf, Bytes, BytesMut};
use serde_json::{Map, Value};

/// The longest request line, in bytes, its line feed not counted.
pub const LINE_MAX: usize = 8 << 20;

const GREETING: &str = "Receptor Control, node ";
const FAILURE: &str = "ERROR";

/// One request: a command and what it is to work on.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The command's name; in lower case when the request was text.
    pub command: String,
    /// Its parameters.
    pub params: Params,
}

/// The parameters of a request, in the form in which they came.
#[derive(Clone, Debug, PartialEq)]
pub enum Params {
    /// Everything after the first space, unchanged.
    Text(String),
    /// All members of the object, `command` too.
    Json(Map<String, Value>),
}

/// Why a line is no [`Request`]. The texts are Receptor's, but for those of the JSON reader.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// The JSON stops in the middle.
    #[error("unexpected end of JSON input")]
    Unfinished,
    /// No JSON.
    #[error("invalid JSON: {0}")]
    Json(String),
    /// An object without a command.
    #[error("JSON did not contain a command")]
    NoCommand,
    /// A command that is no text.
    #[error("command must be a string")]
    NotText,
}

impl Request {
    /// Reads one line, given without its line feed; `None` for an empty one, which asks nothing.
    ///
    /// Every carriage return is dropped. A line that begins with `{` is JSON, and its command is taken as it is
    /// written; any other line is divided at its first space, and its command may be in any case.
    /// Bytes that are no UTF-8 become U+FFFD.
    pub fn parse(line: &[u8]) -> Result<Option<Request>, BadLine> {
        let text = String::from_utf8_lossy(line);
        let text = if text.contains('\r') { text.replace('\r', "").into() } else { text };
        match text.bytes().next() {
            None => Ok(None),
            Some(b'{') => from_json(&text).map(Some),
            Some(_) => {
                let (command, params) = text.split_once(' ').unwrap_or((&text, ""));
                let params = Params::Text(params.to_owned());
                Ok(Some(Request { command: command.to_lowercase(), params }))
            }
        }
    }
}

fn from_json(text: &str) -> Result<Request, BadLine> {
    let members: Map<String, Value> = serde_json::from_str(text).map_err(|bad| match bad.is_eof() {
        true => BadLine::Unfinished,
        false => BadLine::Json(bad.to_string()),
    })?;
    match members.get("command") {
        Some(Value::String(command)) => {
            Ok(Request { command: command.clone(), params: Params::Json(members) })
        }
        Some(_) => Err(BadLine::NotText),
        None => Err(BadLine::NoCommand),
    }
}

/// The line with which the control service of `node` greets, line feed included.
pub fn greeting(node: &str) -> String {
    format!("{GREETING}{node}\n")
}

/// The node that a greeting names; `None` when `line` is no greeting.
pub fn greeted_by(line: &str) -> Option<&str> {
    line.trim().strip_prefix(GREETING).filter(|node| !node.is_empty())
}

/// The reply that refuses a request, line feed included: always one line, whatever `text` holds.
pub fn failure(text: &str) -> String {
    format!("{FAILURE}: {}\n", text.trim_end().replace(['\r', '\n'], " "))
}

/// What a refusal says; `None` when `line` is no refusal.
pub fn failed(line: &str) -> Option<&str> {
    let text = line.strip_prefix(FAILURE)?;
    Some(text.strip_prefix(':').unwrap_or(text).trim())
}

/// Cuts lines off a stream of bytes, and keeps what follows them for whoever reads next.
#[derive(Debug, Default)]
pub struct LineBuffer {
    bytes: BytesMut,
    /// No line feed stands before this place.
    searched: usize,
}

/// A line longer than [`LINE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line may have at most {LINE_MAX} bytes: send large data as payload or in a file")]
pub struct LineTooLong;

impl LineBuffer {
    /// Where bytes that arrived are appended.
    ///
    /// Only append to it: what stands in it already has been looked at.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// The next whole line, without its line feed; `None` until one is there.
    ///
    /// # Errors
    /// [`LineTooLong`] as soon as a line has too many bytes, finished or not.
    pub fn next_line(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        match self.bytes[self.searched..].iter().position(|byte| *byte == b'\n') {
            Some(at) if self.searched + at > LINE_MAX => Err(LineTooLong),
            Some(at) => {
                let line = self.bytes.split_to(self.searched + at).freeze();
                self.bytes.advance(1); // the line feed itself
                self.searched = 0;
                Ok(Some(line))
            }
            None if self.bytes.len() > LINE_MAX => Err(LineTooLong),
            None => {
                self.searched = self.bytes.len();
                Ok(None)
            }
        }
    }

    /// Takes what has arrived behind the last line, at most `bytes_max` of it: payload, or an unfinished last line.
    pub fn take(&mut self, bytes_max: usize) -> Bytes {
        self.searched = 0;
        self.bytes.split_to(self.bytes.len().min(bytes_max)).freeze()
    }

    /// How many bytes wait behind the last line.
    pub fn waiting_bytes(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(command: &str, params: &str) -> Result<Option<Request>, BadLine> {
        Ok(Some(Request { command: command.into(), params: Params::Text(params.into()) }))
    }

    #[test]
    fn a_text_line_is_divided_once_at_its_first_space() {
        assert_eq!(Request::parse(b"PING bar"), text("ping", "bar"));
        assert_eq!(Request::parse(b"connect a b "), text("connect", "a b "));
        assert_eq!(Request::parse(b"work\r list\r"), text("work", "list"));
        assert_eq!(Request::parse(b"status"), text("status", ""));
        assert_eq!(Request::parse(b" status"), text("", "status"));
        assert_eq!(Request::parse(b"ping \xff"), text("ping", "\u{fffd}"));
    }

    #[test]
    fn an_empty_line_asks_nothing() {
        assert_eq!(Request::parse(b""), Ok(None));
        assert_eq!(Request::parse(b"\r\r"), Ok(None));
    }

    #[test]
    fn a_json_line_keeps_its_members_and_the_case_of_its_command() {
        let Ok(Some(request)) = Request::parse(br#"{"command":"Status","x":[1]}"#) else { panic!() };
        assert_eq!(request.command, "Status");
        let Params::Json(members) = request.params else { panic!() };
        assert_eq!(members["x"], serde_json::json!([1]));
    }

    #[test]
    fn bad_json_is_told_in_one_text() {
        for (line, expected) in [
            (r#"{"command":"#, "unexpected end of JSON input"),
            (r#"{"nocommand":1}"#, "JSON did not contain a command"),
            (r#"{"command":5}"#, "command must be a string"),
        ] {
            assert_eq!(Request::parse(line.as_bytes()).unwrap_err().to_string(), expected);
        }
        for line in ["{bad}", r#"{"command":"status"} x"#, &"{\"a\":".repeat(1_000)] {
            assert!(Request::parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn a_refusal_is_one_line_and_reads_back() {
        assert_eq!(failure("unknown work unit x\n"), "ERROR: unknown work unit x\n");
        assert_eq!(failure("a\nb"), "ERROR: a b\n");
        assert_eq!(failed("ERROR: a b\n"), Some("a b"));
        assert_eq!(failed("{}"), None);
    }

    #[test]
    fn a_greeting_names_its_node() {
        assert_eq!(greeted_by(&greeting("foo")), Some("foo"));
        assert_eq!(greeted_by("Receptor Control, node \n"), None);
        assert_eq!(greeted_by("220 mail ready\n"), None);
    }

    #[test]
    fn bytes_behind_a_line_are_kept_wherever_the_stream_was_cut() {
        let stream = b"work submit a b\npay\nload";
        for cut in 0..stream.len() {
            let mut lines = LineBuffer::default();
            lines.input().extend_from_slice(&stream[..cut]);
            let early = lines.next_line().unwrap();
            lines.input().extend_from_slice(&stream[cut..]);
            let line = early.or_else(|| lines.next_line().unwrap()).unwrap();
            assert_eq!(
                (&line[..], &lines.take(usize::MAX)[..]),
                (&stream[..15], &stream[16..]),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_line_of_the_longest_length_passes_and_one_byte_more_does_not() {
        let mut lines = LineBuffer::default();
        lines.input().resize(LINE_MAX, b'x');
        assert_eq!(lines.next_line(), Ok(None));
        lines.input().extend_from_slice(b"\n");
        assert_eq!(lines.next_line().unwrap().unwrap().len(), LINE_MAX);
        lines.input().resize(LINE_MAX + 1, b'x');
        assert_eq!(lines.next_line(), Err(LineTooLong));
    }
}
