//! Who was turned away at a handshake, and who is told of it.

use std::{error::Error, fmt, io, sync::Arc};

use super::PeerCertificate;
use crate::id::NodeId;

/// A neighbour or caller that this end turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where it came: `tcp 0.0.0.0:27199`, `service control`.
    pub at: String,
    /// Where it came from: an address of the network, or `node:service`.
    pub from: String,
    /// The node that it says it is, where it came to say so.
    pub node: Option<NodeId>,
    /// The certificate that it showed. Nothing but [`Refused::reason`] has been found out about it.
    pub certificate: Option<PeerCertificate>,
    /// Which check failed, on what, and what to do.
    pub reason: String,
}

impl Refused {
    /// Who that was, as far as they said: `cert:NAME` by their certificate, else `node:NAME`, else `address:FROM`.
    /// Nothing of it is proved.
    pub fn principal(&self) -> String {
        match (&self.certificate, &self.node) {
            (Some(certificate), _) => certificate.principal(),
            (None, Some(node)) => format!("node:{node}"),
            (None, None) => format!("address:{}", self.from),
        }
    }

    /// Makes an error of it, which [`Refused::within`] finds again.
    pub(crate) fn into_error(self) -> io::Error {
        io::Error::new(io::ErrorKind::PermissionDenied, self)
    }

    /// The refusal that an error of a listener tells of.
    pub fn within(error: &io::Error) -> Option<&Refused> {
        error.get_ref()?.downcast_ref()
    }
}

/// Prints what has happened, without where that was and whence they came.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused { node, reason, .. } = self;
        match node {
            // Receptor's words.
            Some(node) => write!(
                f,
                "rejected connection with node {node}: {reason}; give every node an id of its own, and let both ends of a link allow each other"
            ),
            None => write!(f, "refused a caller: {reason}"),
        }
    }
}

impl Error for Refused {}

/// Is told of everyone who is turned away, besides the log.
#[derive(Clone, Default)]
pub struct Witness(Option<Arc<Tell>>);

type Tell = dyn Fn(&Refused) + Send + Sync;

impl Witness {
    /// Tells `told`. It is called in the middle of other things, so it must not wait.
    pub fn new(told: impl Fn(&Refused) + Send + Sync + 'static) -> Witness {
        Witness(Some(Arc::new(told)))
    }

    /// Tells the log, and whoever wants to know.
    pub fn tell(&self, refused: &Refused) {
        tracing::warn!(at = refused.at, from = refused.from, "{refused}");
        if let Some(told) = &self.0 {
            told(refused);
        }
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Witness").field(&self.0.is_some()).finish()
    }
}
