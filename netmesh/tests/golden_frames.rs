//! Every frame recorded between Receptor nodes reads, and reads the same after we have written it.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

use netmesh::wire::{Message, RoutingUpdate};

#[test]
fn every_recorded_frame_decodes_and_encodes_to_an_equivalent_message() {
    let frames: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("golden/mesh-frames.json")).unwrap();
    assert!(!frames.is_empty());
    for frame in &frames {
        let bytes = unhex(frame["hex"].as_str().unwrap());
        let message = Message::decode(&bytes).unwrap();
        let written = message.encode().unwrap();
        assert_eq!(written, bytes, "{message:?}");
        assert_eq!(Message::decode(&written).unwrap(), message);
    }
}

#[test]
fn a_recorded_update_with_our_offer_is_the_same_to_a_reader_that_skips_it() {
    let text = r#"{"NodeID":"a","UpdateID":"x","UpdateEpoch":30118817007635813,"UpdateSequence":1,"Connections":{},"ForwardingNode":"a","SuspectedDuplicate":0,"Netmesh":{"Version":1,"Digest":18446744073709551615}}"#;
    let message = [b"\x01", text.as_bytes()].concat();
    let Message::Routing(update) = Message::decode(&message).unwrap() else { panic!("no update") };
    assert_eq!(update.offer.map(|offer| offer.version), Some(1));
    let plain = Message::Routing(RoutingUpdate { offer: None, ..update }).encode().unwrap();
    assert_eq!(
        plain,
        [
            b"\x01",
            text.replace(",\"Netmesh\":{\"Version\":1,\"Digest\":18446744073709551615}", "").as_bytes()
        ]
        .concat()
    );
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
