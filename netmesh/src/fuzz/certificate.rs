//! Certificates and requests as strangers show them, and the names in them: read or refused, and nothing forges a log.

use rustls::pki_types::CertificateDer;

use crate::tls::{PeerCertificate, issue::Request, names::Names};

/// The longest line that a certificate may fill.
const LINE_MAX: usize = 4096;

/// The first byte says what the rest is: a certificate, the names in one, or a request.
pub fn certificate(data: &[u8]) {
    let Some((&choice, der)) = data.split_first() else { return };
    match choice % 3 {
        0 => shown(der),
        1 => names(der),
        _ => {
            let asked = |der: &[u8]| Request::from_der(der).map(|request| (request.subject, request.names));
            // Whether it was signed with its own key is the same whenever it is asked.
            assert_eq!(asked(der), asked(der));
        }
    }
}

fn shown(der: &[u8]) {
    let certificate = PeerCertificate::read(&CertificateDer::from(der));
    let line = certificate.to_string();
    assert!(!line.contains(char::is_control), "{line:?}");
    assert!(line.chars().count() <= LINE_MAX, "a line of {} letters", line.chars().count());
    assert!(!certificate.name().is_empty() && certificate.principal().starts_with("cert:"));
    if let Ok(names) = Names::of_certificate(der) {
        written(&names);
    }
}

fn names(extension: &[u8]) {
    let mut read = Names::default();
    match read.read(extension) {
        Ok(()) => written(&read),
        Err(_) => assert!(Names::default().read(extension).is_err()),
    }
}

/// What was read is written, and reads the same again.
fn written(names: &Names) {
    let mut again = Names::default();
    again.read(&names.write()).expect("what is written reads");
    assert_eq!(again, *names);
}
