//! The greeting of a caller of a stream, which may name a server as no server can be named.

use quinn::Side;
use quinn_proto::{crypto::Session, transport_parameters::TransportParameters};
use std::sync::OnceLock;

use crate::stream::{
    Kit,
    sni::{HIDDEN, SERVER_NAME, extension_at, renumber, restored},
};

/// A greeting, which arrives in pieces of so many bytes as the first one says.
pub fn greeting(data: &[u8]) {
    let Some((&step, hello)) = data.split_first() else { return };
    hidden(hello);
    // What follows the greeting is another message, of which the caller cannot know anything yet.
    let length =
        hello.first_chunk().map_or(0, |[_, a, b, c]| 4 + u32::from_be_bytes([0, *a, *b, *c]) as usize);
    let hello = &hello[..length.min(hello.len())];
    let whole = read(hello, hello.len());
    assert_eq!(read(hello, usize::from(step)), whole, "it depends on how it arrives");
    if extension_at(hello, HIDDEN).is_some() {
        assert_ne!(whole, Ok(true), "a greeting with our private number was taken");
    }
}

/// The name is hidden from the library, and the hash sees what the caller sent.
fn hidden(hello: &[u8]) {
    let mut bent = hello.to_vec();
    if renumber(&mut bent, SERVER_NAME, HIDDEN) {
        assert_eq!(hello.iter().zip(&bent).filter(|(a, b)| a != b).count(), 2, "the number and no more");
        // A second name stays, and spoils the hash.
        let once = extension_at(&bent, SERVER_NAME).is_none();
        assert_eq!(restored(&bent).as_deref(), once.then_some(hello));
    } else {
        assert_eq!(bent, hello);
    }
}

/// What a server makes of it: whether it answers, or why not.
fn read(hello: &[u8], step: usize) -> Result<bool, String> {
    let mut session = server();
    for piece in hello.chunks(step.max(1)) {
        session.read_handshake(piece).map_err(|error| error.to_string())?;
    }
    session.transport_parameters().map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    while session.write_handshake(&mut answer).is_some() {}
    Ok(!answer.is_empty())
}

fn server() -> Box<dyn Session> {
    static KIT: OnceLock<Kit> = OnceLock::new();
    let config = KIT.get_or_init(Kit::new).server(None).expect("without a profile nothing can be wrong");
    let parameters = TransportParameters::read(Side::Client, &mut &[][..]).expect("none are good ones");
    config.crypto.clone().start_session(1, &parameters)
}
