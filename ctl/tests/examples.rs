//! What stands in `examples/` works as it stands. The two nodes are run by the test of the work guide.

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    thread,
};

use common::{PATIENCE, World, free_port, root};

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
fn the_services_of_one_node_are_used_at_the_other() {
    let world = World::new();
    let [link, web, shell, dns] = [(); 4].map(|()| free_port().to_string());
    let page_at = TcpListener::bind("127.0.0.1:0").expect("a port");
    let name_at = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let (web_server, name_server) =
        (page_at.local_addr().expect("it").to_string(), name_at.local_addr().expect("it").to_string());
    let dns_port = format!("port: {dns}");
    let changes = [
        ("27199", link.as_str()),
        ("8080", web.as_str()),
        ("2323", shell.as_str()),
        ("port: 5353", dns_port.as_str()),
        ("localhost:80", web_server.as_str()),
        ("127.0.0.1:53", name_server.as_str()),
    ];
    let mut near = world.start_example("services/near.yml", "near", &changes);
    let mut far = world.start_example("services/far.yml", "far", &changes);
    far.wait_reach("near");
    near.wait_reach("far");
    let served =
        thread::spawn(move || page_at.accept().expect("a client").0.write_all(b"a page").expect("it reads"));
    let mut page = String::new();
    let mut client = connect(&web);
    client.read_to_string(&mut page).expect("a page and an end");
    served.join().expect("it ended");
    assert_eq!(page, "a page");
    let mut shell = connect(&shell);
    shell.write_all(b"echo $((6 * 7)) $NETMESH_CALLER; exit\n").expect("it reads");
    let mut said = String::new();
    shell.read_to_string(&mut said).expect("what the shell says, and an end");
    assert!(said.contains("42 near\r\n"), "{said}");
    let served = thread::spawn(move || {
        let (mut question, mut answer) = ([0; 64], b"answer to ".to_vec());
        let (len, from) = name_at.recv_from(&mut question).expect("a question");
        answer.extend_from_slice(&question[..len]);
        name_at.send_to(&answer, from).expect("loopback");
    });
    let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    client.send_to(b"question", format!("127.0.0.1:{dns}")).expect("loopback");
    let mut answer = [0; 64];
    let (len, _) = client.recv_from(&mut answer).expect("an answer");
    served.join().expect("it ended");
    assert_eq!(&answer[..len], b"answer to question");
}

fn connect(port: &str) -> TcpStream {
    let stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("the proxy listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
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
