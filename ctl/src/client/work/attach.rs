//! `netmesh work attach UNIT`

use super::{
    follow::{Follow, Shows},
    printer::Printer,
};
use crate::{
    args::AttachArgs,
    client::{Console, Door},
    exit::{Code, Failure},
};

/// Follows a unit as if it ran here: the first Ctrl-C cancels it and waits for its end, the second leaves; SIGTERM
/// leaves it to itself. The code is the command's own.
///
/// JSON: the events of [`Printer`].
pub(super) async fn run(door: &Door, args: AttachArgs, console: &mut Console) -> Result<Code, Failure> {
    let door = door.beyond(args.via.node.as_deref(), &args.via.tls_client);
    let mut printer = Printer::new(&args.unit, console.json);
    Follow::new(&door, &args.unit, Shows::BOTH).attached(&mut printer, console).await
}
