//! Frames, messages and notices: whatever reads is written, and reads the same again.

use bytes::Bytes;

use crate::wire::{HEADER_LEN, Header, Kind, MAX_MESSAGE, Message, Unreachable, frame, frame::Deframer};

/// A byte stream becomes the same messages in one piece and in many; what was read and what waits are all of it.
pub fn frames(data: &[u8]) {
    let Some((&step, stream)) = data.split_first() else { return };
    let cut = |step: usize| {
        let (mut deframer, mut messages, mut broken) = (Deframer::new(), Vec::<Bytes>::new(), false);
        'stream: for piece in stream.chunks(step.max(1)) {
            deframer.push(piece);
            loop {
                match deframer.pop() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(_) => {
                        broken = true;
                        assert!(deframer.pop().is_err(), "an empty frame is forgotten");
                        break 'stream;
                    }
                }
            }
            assert!(deframer.buffer().len() < 2 + MAX_MESSAGE, "more waits than one frame can hold");
        }
        let waits = deframer.buffer().to_vec();
        (messages, broken, waits)
    };
    let (messages, broken, waits) = cut(stream.len());
    let (in_pieces, broken_in_pieces, _) = cut(usize::from(step));
    assert_eq!((&messages, broken), (&in_pieces, broken_in_pieces));
    let mut written = Vec::new();
    for message in &messages {
        frame::append(&mut written, &[message]).expect("it came in a frame");
        assert_eq!(written[written.len() - message.len() - 2..], frame::frame(message).expect("likewise"));
    }
    assert!(stream.starts_with(&written), "what was read is not what came");
    assert_eq!(stream[written.len()..], waits);
}

/// One message off a link.
pub fn message(data: &[u8]) {
    let Ok(message) = Message::decode(data) else { return };
    Kind::of(data).expect("what reads has a kind");
    if matches!(message, Message::Data(_)) {
        assert_eq!(data.len().min(HEADER_LEN), HEADER_LEN);
        let header = Header::decode(data).expect("a datagram has a header");
        assert_eq!(Header::decode(&header.encode()), Ok(header));
    }
    let Ok(written) = message.encode() else { return }; // escapes may have made it longer than a frame
    assert!(!written.is_empty() && written.len() <= MAX_MESSAGE);
    let again = Message::decode(&written).expect("what is written reads");
    assert_eq!(again, message);
    assert_eq!(again.encode().expect("it did before"), written);
}

/// The payload of a datagram to the service `unreach`.
pub fn notice(data: &[u8]) {
    let Ok(notice) = Unreachable::decode(data) else { return };
    assert_eq!(Unreachable::decode(&notice.encode()).expect("what is written reads"), notice);
}
