//! What stands in `examples/` works as it stands. The two nodes are run by the test of the work guide.

mod common;

use std::{collections::BTreeMap, fs};

use common::{World, free_port, root};

#[test]
fn the_relay_carries_work_from_one_that_dials_to_another_over_two_kinds_of_links() {
    let world = World::new();
    let port = free_port().to_string();
    let changes = [("27199", port.as_str())];
    let mut b = world.start_example("relay/b.yml", "b", &changes);
    let mut c = world.start_example("relay/c.yml", "c", &changes);
    let mut a = world.start_example("relay/a.yml", "a", &changes);
    a.wait_reach("c");
    c.wait_reach("a");
    let route = a.run(&["traceroute", "c"]).ok();
    assert_eq!(route.lines().count(), 3, "a, b, c: {route}");
    let work = ["work", "submit", "upper", "--node", "c", "--payload", "-", "--follow"];
    assert_eq!(a.run_with(&work, b"through b\n").ok(), "THROUGH B\n");
    for node in [&mut a, &mut b, &mut c] {
        assert_eq!(node.stop().code(), Some(0));
    }
}

#[test]
fn the_service_waits_for_readiness_and_leaves_units_running() {
    let file = root().join("examples/systemd/netmesh.service");
    let text = fs::read_to_string(&file).expect("the unit file");
    let mut section = "";
    let mut settings = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => section = name,
            None => {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("no setting: {line}"));
                settings.insert((section, key), value);
            }
        }
    }
    for (key, value) in [("Type", "notify"), ("KillMode", "process"), ("StateDirectory", "netmesh")] {
        assert_eq!(settings.get(&("Service", key)), Some(&value), "{key}");
    }
    assert!(settings[&("Service", "ExecStart")].ends_with("netmesh node --config /etc/netmesh/netmesh.yml"));
    assert!(settings.contains_key(&("Install", "WantedBy")), "{settings:?}");
}
