//! The control grammar: lines out of bytes, requests out of lines, and replies that stay one line.

use serde_json::Value;

use crate::control::{LineBuffer, Params, Request, failed, failure, greeted_by, greeting};

/// A conversation's bytes, which arrive in pieces of so many as the first one says.
pub fn control(data: &[u8]) {
    let Some((&step, stream)) = data.split_first() else { return };
    let lines = cut(stream, stream.len());
    assert_eq!(lines, cut(stream, usize::from(step)), "lines depend on how they arrive");
    let rejoined: Vec<u8> = lines.0.iter().flat_map(|line| [line.as_slice(), b"\n"].concat()).collect();
    assert_eq!([rejoined, lines.1].concat(), stream, "bytes were lost between lines and payload");
    for line in &lines.0 {
        request(line);
        reply(&String::from_utf8_lossy(line));
    }
}

/// The lines of `stream`, and what waits behind them.
fn cut(stream: &[u8], step: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut buffer, mut lines) = (LineBuffer::default(), Vec::new());
    for piece in stream.chunks(step.max(1)) {
        buffer.input().extend_from_slice(piece);
        while let Some(line) = buffer.next_line().expect("no input is that long") {
            lines.push(line.to_vec());
        }
    }
    let waits = buffer.waiting_bytes();
    let rest = buffer.take(usize::MAX).to_vec();
    assert_eq!(rest.len(), waits);
    (lines, rest)
}

fn request(line: &[u8]) {
    match Request::parse(line) {
        Ok(None) => assert!(
            line.iter().all(|byte| *byte == b'\r'),
            "a line that asks for something is taken for none"
        ),
        Ok(Some(Request { command, params: Params::Text(params) })) => {
            assert!(!command.contains([' ', '\r']) && !params.contains('\r'));
            assert_eq!(command.to_lowercase(), command);
        }
        Ok(Some(Request { command, params: Params::Json(members) })) => {
            assert_eq!(members.get("command"), Some(&Value::String(command.clone())));
            let written = Value::Object(members.clone()).to_string();
            let again = Request::parse(written.as_bytes()).expect("what is written reads");
            assert_eq!(again, Some(Request { command, params: Params::Json(members) }));
        }
        Err(bad) => assert!(!failure(&bad.to_string()).trim_end().is_empty()),
    }
}

fn reply(text: &str) {
    let refusal = failure(text);
    assert_eq!(refusal.matches(['\n', '\r']).count(), 1, "a refusal is one line");
    assert_eq!(failed(&refusal), Some(text.replace(['\r', '\n'], " ").trim()));
    assert_eq!(failed(&greeting(text)), None);
    if let Some(node) = greeted_by(text) {
        assert_eq!(greeted_by(&greeting(node)), Some(node));
    }
    let _ = failed(text);
}
