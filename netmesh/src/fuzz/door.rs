//! The HTTP door of WebSockets: no head is looked at twice with two answers, and no answer carries what a caller wrote.

use crate::backend::ws::door::{HEAD_MAX, Verdict, look};

const PATHS: [&str; 4] = ["/", "/mesh", "/a/", "/%2f"];

/// A caller's first bytes; the first one chooses the listener's path.
pub fn door(data: &[u8]) {
    let Some((&choice, sent)) = data.split_first() else { return };
    let path = PATHS[usize::from(choice) % PATHS.len()];
    let verdict = look(sent, path);
    let head = match &verdict {
        Verdict::Welcome { head, answer } => {
            assert!((1..=sent.len()).contains(head));
            assert_eq!(answer.lines().count(), 5, "{answer}");
            assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\n"));
            assert_eq!(look(&sent[..*head], path), verdict, "what follows the head changes the answer");
            *head
        }
        Verdict::Refused(refusal) => {
            assert!(refusal.answer().starts_with("HTTP/1.1 4") || refusal.answer().starts_with("HTTP/1.1 5"));
            return;
        }
        Verdict::Incomplete => sent.len(),
    };
    // Whoever sends byte by byte is asked to wait until it is all there.
    for at in (0..head.min(HEAD_MAX)).step_by(1 + head / 16) {
        assert_eq!(look(&sent[..at], path), Verdict::Incomplete, "after {at} of {head} bytes");
    }
}
