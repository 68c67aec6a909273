//! `netmesh work results UNIT...`

use super::{follow::Follow, printer::Printer};
use crate::{
    args::UnitsArgs,
    client::{Console, Door},
    exit::{Code, Failure},
};

/// Prints the output of units, one after the other, each from its start until it has ended.
///
/// The code is the command's own; of several the first that is not 0.
pub(super) async fn run(door: &Door, args: UnitsArgs, console: &mut Console) -> Result<Code, Failure> {
    let door = door.beyond(args.via.node.as_deref(), &args.via.tls_client);
    let mut code = Code::OK;
    for unit in &args.units {
        let mut printer = Printer::new(unit, console.json);
        let ended = Follow::new(&door, unit).run(&mut printer, console).await?;
        code = if code == Code::OK { ended } else { code };
    }
    Ok(code)
}
