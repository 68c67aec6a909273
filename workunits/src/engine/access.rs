//! Who asks, and whether they may.

use std::time::SystemTime;

use super::{Inner, UnitHandle, WorkError};
use crate::unit::Extra;

/// Who asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// How they came in.
    pub way: Way,
    /// Who they are: `uid:1000`, `node:foo`.
    pub principal: String,
}

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The Unix socket, which its file mode guards: no signatures are asked for.
    UnixSocket,
    /// A TCP port.
    Tcp,
    /// The mesh.
    Mesh,
}

impl Inner {
    /// Whether `caller` may do something that is, or is not, to be signed.
    pub(super) fn authorize(
        &self,
        demanded: bool,
        signature: &str,
        caller: &Caller,
    ) -> Result<(), WorkError> {
        match (demanded, caller.way) {
            (false, _) if signature.is_empty() => Ok(()),
            (false, _) => Err(WorkError::UnexpectedSignature),
            (true, Way::UnixSocket) => Ok(()),
            (true, Way::Tcp | Way::Mesh) => Ok(self.verifier.verify(signature, SystemTime::now())?),
        }
    }

    /// Whether `caller` may end, release or read a unit.
    pub(super) fn authorize_unit(
        &self,
        unit: &UnitHandle,
        signature: &str,
        caller: &Caller,
    ) -> Result<(), WorkError> {
        let current = unit.current();
        let demanded = match &current.extra_data {
            Extra::Remote(remote) => remote.sign_work,
            _ => self.types.get(&current.work_type).is_some_and(|of| of.verify_signature),
        };
        self.authorize(demanded, signature, caller)
    }
}
