//! `netmesh work results UNIT...`

use workunits::request::Output;

use super::{
    follow::{Follow, Shows},
    printer::Printer,
    tail,
};
use crate::{
    args::ResultsArgs,
    client::{Console, Door},
    exit::{Code, Failure},
};

/// Prints the output of units, one after the other, each from where it was told until the unit has ended.
///
/// The code is the command's own; of several the first that is not 0. With `--no-follow` it tells whether all of them
/// have ended.
pub(super) async fn run(door: &Door, args: ResultsArgs, console: &mut Console) -> Result<Code, Failure> {
    if args.from.is_some() && args.units.len() > 1 {
        return Err(Failure::usage("--from names a byte of one unit: name one unit"));
    }
    let door = door.beyond(args.via.node.as_deref(), &args.via.tls_client);
    let shows = match (args.both, args.stderr) {
        (true, _) => Shows::BOTH,
        (false, true) => Shows::STDERR,
        (false, false) => Shows::STDOUT,
    };
    let mut code = Code::OK;
    for unit in &args.units {
        let mut printer = Printer::new(unit, console.json);
        let mut follow = Follow::new(&door, unit, shows);
        if let Some(from) = args.from {
            follow.begin_at(from, from);
        }
        if let Some(lines) = args.tail {
            let mut from = [0, 0];
            let outputs = [(Output::Stdout, shows.stdout), (Output::Stderr, shows.stderr)];
            for (from, (output, _)) in from.iter_mut().zip(outputs).filter(|(_, (_, shown))| *shown) {
                *from = tail::start(&door, unit, output, lines, console).await?;
            }
            follow.begin_at(from[0], from[1]);
        }
        let ended = match args.no_follow {
            true => follow.now(&mut printer, console).await?,
            false => follow.run(&mut printer, console).await?,
        };
        code = if code == Code::OK { ended } else { code };
    }
    Ok(code)
}
