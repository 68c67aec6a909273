//! Greetings, whole, cut, bent and forged.

use std::sync::Arc;

use rustls::{pki_types::ServerName, quic};

use super::*;
use crate::{logic::dice::Dice, stream::kit::Kit, tls::AcceptSelfSigned};

/// A greeting with one cipher suite and the given extensions.
fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut list = Vec::new();
    for (number, data) in extensions {
        list.extend(number.to_be_bytes());
        list.extend((data.len() as u16).to_be_bytes());
        list.extend(*data);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend((list.len() as u16).to_be_bytes());
    body.extend(list);
    [&[CLIENT_HELLO, 0, 0, body.len() as u8][..], &body].concat()
}

#[test]
fn a_hidden_name_comes_back_exactly() {
    let original = hello(&[(10, b"groups"), (SERVER_NAME, b"node_1 x"), (43, b"")]);
    let mut hidden = original.clone();
    assert!(renumber(&mut hidden, SERVER_NAME, HIDDEN));
    assert_eq!(extension_at(&hidden, SERVER_NAME), None);
    assert_eq!(restored(&hidden), Some(original));
}

#[test]
fn a_greeting_without_a_name_and_anything_else_stay_as_they_are() {
    let nameless = hello(&[(10, b"groups")]);
    assert_eq!(restored(&nameless), None);
    for len in 0..nameless.len() {
        assert!(!renumber(&mut nameless[..len].to_vec(), SERVER_NAME, HIDDEN));
    }
    assert_eq!(restored(b""), None);
    assert_eq!(restored(&[2; 300]), None);
}

#[test]
fn a_greeting_that_somebody_bent_hides_and_comes_back_exactly_or_stays_as_it_is() {
    let mut dice = Dice::new(11);
    let original = client().0;
    for _ in 0..20_000 {
        let bent = bend(&original, &mut dice);
        let mut hidden = bent.clone();
        if renumber(&mut hidden, SERVER_NAME, HIDDEN) {
            assert_eq!(bent.iter().zip(&hidden).filter(|(a, b)| a != b).count(), 2, "the number and no more");
            // A second name stays, and spoils the hash.
            let once = extension_at(&hidden, SERVER_NAME).is_none();
            assert_eq!(restored(&hidden), once.then_some(bent.clone()));
        } else {
            assert_eq!(hidden, bent);
        }
        restored(&bent);
    }
}

#[test]
fn a_handshake_in_pieces_of_any_size_is_finished() {
    for size in [1, 2, 3, 5, 50, 1_000] {
        let (hello, mut caller) = client();
        let mut session = server();
        assert_eq!(converse(&mut *session, &mut caller, &hello, size), Ok(()), "pieces of {size}");
        assert!(!caller.is_handshaking() && !session.is_handshaking());
    }
}

#[test]
fn after_the_greeting_nothing_is_taken_for_one() {
    let mut session = server();
    assert!(session.read_handshake(&client().0).is_ok());
    while session.write_handshake(&mut Vec::new()).is_some() {}
    // What follows, such as a certificate, comes in pieces, and one in 256 begins like a greeting.
    let refused = session.read_handshake(&[CLIENT_HELLO, 0xff, 0xff, 0xff]).unwrap_err();
    assert!(!refused.reason.contains("greeting"), "{refused}: the piece was not handed on");
}

#[test]
fn a_message_of_another_kind_is_no_greeting_wherever_it_is_cut() {
    let mut session = server();
    assert!(session.read_handshake(&[2, 0, 0, 40]).is_ok());
    // The second piece begins like a greeting that is too long for us.
    let told = session.read_handshake(&[&[CLIENT_HELLO, 0xff, 0xff, 0xff][..], &[0; 36]].concat());
    let refused = told.expect_err("the library knows that nobody begins so");
    assert!(!refused.reason.contains("greeting"), "{refused}: the piece was not handed on");
}

#[test]
fn a_greeting_that_was_changed_on_the_way_ends_in_no_handshake() {
    let mut dice = Dice::new(12);
    for round in 0..400 {
        let (hello, mut caller) = client();
        let mut session = server();
        let bent = bend(&hello, &mut dice);
        if bent != hello {
            let _ = converse(&mut *session, &mut caller, &bent, 100);
            assert!(caller.is_handshaking(), "round {round}: {bent:02x?}");
        }
    }
    // In particular not one whose name was hidden already, which the hash alone would not show.
    let (hello, mut caller) = client();
    let mut forged = hello.clone();
    assert!(renumber(&mut forged, SERVER_NAME, HIDDEN));
    let refused = converse(&mut *server(), &mut caller, &forged, 100).unwrap_err();
    assert!(refused.contains("private number"), "{refused}");
}

/// A greeting that names a server, and the caller that sent it.
fn client() -> (Vec<u8>, quic::ClientConnection) {
    let provider = Arc::new(crate::tls::provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(AcceptSelfSigned::new(None, &provider))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"netceptor".to_vec()];
    let name = ServerName::try_from("node-1.example").unwrap();
    let mut caller =
        quic::ClientConnection::new(Arc::new(config), quic::Version::V1, name, Vec::new()).unwrap();
    let mut hello = Vec::new();
    assert!(caller.write_hs(&mut hello).is_none());
    assert!(extension_at(&hello, SERVER_NAME).is_some());
    (hello, caller)
}

fn server() -> Box<dyn Session> {
    let config = Kit::new().server(None).unwrap();
    let parameters = TransportParameters::read(Side::Client, &mut &[][..]).unwrap();
    config.crypto.clone().start_session(1, &parameters)
}

/// Carries a handshake back and forth; the server reads in pieces of `size` bytes.
fn converse(
    session: &mut dyn Session,
    caller: &mut quic::ClientConnection,
    hello: &[u8],
    size: usize,
) -> Result<(), String> {
    let mut flight = hello.to_vec();
    while !flight.is_empty() {
        let mut answers = Vec::new();
        for piece in flight.chunks(size) {
            session.read_handshake(piece).map_err(|error| error.to_string())?;
            // What goes out under other keys is another message.
            loop {
                let mut answer = Vec::new();
                let keys = session.write_handshake(&mut answer);
                answers.push(answer);
                if keys.is_none() {
                    break;
                }
            }
        }
        flight.clear();
        for answer in answers.iter().filter(|answer| !answer.is_empty()) {
            caller.read_hs(answer).map_err(|error| error.to_string())?;
            while caller.write_hs(&mut flight).is_some() {}
        }
    }
    Ok(())
}

/// `bytes` with one to four changes: a byte, a bit, a cut, a gap, or something put in.
fn bend(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bent = bytes.to_vec();
    for _ in 0..=below(dice, 4) {
        let at = below(dice, bent.len() as u64) as usize;
        match below(dice, 6) {
            0 => bent[at] = below(dice, 256) as u8,
            1 => bent[at] ^= 1 << below(dice, 8),
            2 => bent.truncate(at + 1),
            3 if bent.len() > 1 => drop(bent.remove(at)),
            4 => bent.insert(at, below(dice, 256) as u8),
            _ => bent[at] = [0, 1, 0xff][below(dice, 3) as usize],
        }
    }
    bent
}

fn below(dice: &mut Dice, limit: u64) -> u64 {
    dice.roll() % limit
}
