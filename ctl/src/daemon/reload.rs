//! Old and new configuration in, changes out: what may change while the node runs, and what may not.
//!
//! Links may: listeners, peers and `local-only`. Those that are the same in both are left alone. Everything else
//! needs a restart, and then nothing at all is changed.

use crate::{
    config::{Backend, Config, Listener, Peer},
    control::ReloadFailed,
};

/// A way to neighbours.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Way {
    /// They dial us.
    Listen(Listener),
    /// We dial one.
    Dial(Peer),
}

impl Way {
    /// All that a configuration asks for, listeners first.
    pub(super) fn all(config: &Config) -> Vec<Way> {
        let listeners = config.listeners.iter().cloned().map(Way::Listen);
        listeners.chain(config.peers.iter().cloned().map(Way::Dial)).collect()
    }

    /// The socket that it occupies on this machine, if any.
    fn socket(&self) -> Option<(Backend, &str)> {
        match self {
            Way::Listen(listener) => Some((listener.backend, &listener.bind)),
            Way::Dial(_) => None,
        }
    }
}

/// What becomes of the ways to neighbours.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes {
    /// Which of the old ones go, by their place.
    pub(super) remove: Vec<usize>,
    /// What comes, and whether its socket is still held by one that goes.
    pub(super) add: Vec<(Way, bool)>,
}

/// Compares what runs with what is wanted; each old one serves for one new one at most.
pub(super) fn changes(old: &[Way], new: Vec<Way>) -> Changes {
    let mut kept = vec![false; old.len()];
    let mut add = Vec::new();
    for way in new {
        match (0..old.len()).find(|&at| !kept[at] && old[at] == way) {
            Some(at) => kept[at] = true,
            None => add.push(way),
        }
    }
    let remove: Vec<usize> = (0..old.len()).filter(|&at| !kept[at]).collect();
    let held =
        |way: &Way| way.socket().is_some() && remove.iter().any(|&at| old[at].socket() == way.socket());
    let add = add.into_iter().map(|way| (way.clone(), held(&way))).collect();
    Changes { remove, add }
}

/// Refuses a configuration that differs in what only a restart can take over; names the section.
pub(super) fn check(old: &Config, new: &Config) -> Result<(), ReloadFailed> {
    let node = |c: &Config| (c.node.clone(), c.datadir.clone(), c.idle_limit, c.limits.clone());
    if node(old) != node(new) {
        return Err(ReloadFailed::Changed("node".to_owned()));
    }
    if old.log_level != new.log_level {
        return Err(ReloadFailed::Changed("log-level".to_owned()));
    }
    let optional = [
        ("work-signing", option(&old.work_signing, &new.work_signing)),
        ("work-verification", option(&old.work_verification, &new.work_verification)),
    ];
    let lists = [
        ("control-service", list(&old.control_services, &new.control_services)),
        ("work-command", list(&old.work_commands, &new.work_commands)),
    ];
    let all = || lists.iter().chain(&optional);
    if let Some((section, _)) = all().find(|(_, difference)| difference.added) {
        return Err(ReloadFailed::Changed((*section).to_owned()));
    }
    match all().find(|(_, difference)| difference.removed) {
        Some((section, _)) => Err(ReloadFailed::Removed((*section).to_owned())),
        None => Ok(()),
    }
}

struct Difference {
    added: bool,
    removed: bool,
}

fn list<T: PartialEq>(old: &[T], new: &[T]) -> Difference {
    Difference {
        added: new.iter().any(|item| !old.contains(item)),
        removed: old.iter().any(|item| !new.contains(item)),
    }
}

fn option<T: PartialEq>(old: &Option<T>, new: &Option<T>) -> Difference {
    list(old.as_slice(), new.as_slice())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::LoadOptions;

    fn config(text: &str) -> Config {
        let options =
            LoadOptions { host_name: "host".into(), datadir: "/tmp/unused".into(), temp_dir: "/tmp".into() };
        Config::parse(text, Path::new("test.yml"), &options).unwrap_or_else(|why| panic!("{why}"))
    }

    const BASE: &str = "
- node: {id: foo}
- tcp-listener: {port: 1111}
- tcp-peer: {address: 'bar:2222'}
- control-service: {filename: /tmp/unused.sock}
- work-command: {worktype: cat, command: cat}
";

    #[test]
    fn links_that_stay_the_same_are_left_alone() {
        let old = Way::all(&config(BASE));
        assert_eq!(changes(&old, Way::all(&config(BASE))), Changes::default());
        let more = config(&format!("{BASE}- tcp-peer: {{address: 'new:1'}}\n"));
        let Changes { remove, add } = changes(&old, Way::all(&more));
        assert!(remove.is_empty());
        assert!(matches!(&add[..], [(Way::Dial(peer), false)] if peer.address == "new:1"));
    }

    #[test]
    fn a_listener_with_another_cost_waits_for_the_socket_of_the_old_one() {
        let old = Way::all(&config(BASE));
        let new = config(&BASE.replace("{port: 1111}", "{port: 1111, cost: 2.0}"));
        let Changes { remove, add } = changes(&old, Way::all(&new));
        assert_eq!(remove, [0]);
        assert!(matches!(&add[..], [(Way::Listen(_), true)]));
    }

    #[test]
    fn the_same_peer_twice_is_two_links() {
        let old = Way::all(&config(BASE));
        let twice = config(&format!("{BASE}- tcp-peer: {{address: 'bar:2222'}}\n"));
        let Changes { remove, add } = changes(&old, Way::all(&twice));
        assert_eq!((remove.len(), add.len()), (0, 1));
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let old = config(BASE);
        for (text, expected) in [
            (BASE.to_owned(), Ok(())),
            (format!("# a comment\n{BASE}- local-only:\n"), Ok(())),
            (BASE.replace("id: foo", "id: baz"), Err(ReloadFailed::Changed("node".into()))),
            (BASE.replace("id: foo", "id: foo, maxrunning: 3"), Err(ReloadFailed::Changed("node".into()))),
            (format!("{BASE}- log-level: debug\n"), Err(ReloadFailed::Changed("log-level".into()))),
            (
                format!("{BASE}- work-command: {{worktype: id, command: id}}\n"),
                Err(ReloadFailed::Changed("work-command".into())),
            ),
            (
                BASE.replace("command: cat}", "command: tac}"),
                Err(ReloadFailed::Changed("work-command".into())),
            ),
            (
                BASE.replace("- work-command: {worktype: cat, command: cat}\n", ""),
                Err(ReloadFailed::Removed("work-command".into())),
            ),
            (BASE.replace("unused.sock", "other.sock"), Err(ReloadFailed::Changed("control-service".into()))),
        ] {
            assert_eq!(check(&old, &config(&text)), expected, "{text}");
        }
    }
}
