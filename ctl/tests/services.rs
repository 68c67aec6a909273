//! Command services and proxies for datagrams, through a relay, as a user configures them.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, UdpSocket},
    os::unix::fs::MetadataExt as _,
    process::Command,
    thread,
};

use common::{Daemon, PATIENCE, Pki, World, connect, free_port, line, program};

/// Reads until `end` has come, or the end.
fn until(from: &mut impl Read, end: &str) -> String {
    let (mut heard, mut byte) = (Vec::new(), [0]);
    while !heard.ends_with(end.as_bytes()) || end.is_empty() {
        match from.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => heard.push(byte[0]),
            Err(error) => panic!("after {:?}: {error}", String::from_utf8_lossy(&heard)),
        }
    }
    String::from_utf8(heard).expect("text")
}

/// a - b - c with a command service on c, and a TCP port on a that leads to it.
fn with_command(world: &World, command: &str) -> ([Daemon; 3], u16) {
    let port = free_port();
    let near =
        format!("- tcp-server: {{port: {port}, bindaddr: 127.0.0.1, remotenode: c, remoteservice: run}}\n");
    let far = format!("- command-service: {{service: run, command: {command:?}}}\n");
    (line(world, "tcp", &near, "", &far), port)
}

fn lives(pid: &str) -> bool {
    // A zombie has ended; whoever should wait for it may not be us.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ") && !stat.contains(") X ")
}

#[test]
fn each_caller_has_a_command_of_its_own_in_a_terminal_and_it_ends_with_the_caller() {
    let world = World::new();
    let ([a, _b, mut c], port) = with_command(
        &world,
        "sh -c 'test -t 0 && echo pid $$ of $NETMESH_NODE for $NETMESH_CALLER; exec cat'",
    );
    let (mut one, mut two) = (connect(port), connect(port));
    let pids: Vec<String> = [&mut one, &mut two]
        .into_iter()
        .map(|caller| {
            let said = until(caller, "\r\n");
            let words: Vec<_> = said.trim().split(' ').collect();
            assert_eq!((words[0], &words[2..]), ("pid", &["of", "c", "for", "a"][..]), "{said}");
            words[1].to_owned()
        })
        .collect();
    assert_ne!(pids[0], pids[1]);
    one.write_all(b"echoed\n").expect("it reads");
    assert_eq!(until(&mut one, "echoed\r\nechoed\r\n"), "echoed\r\nechoed\r\n", "by the terminal and by cat");
    a.wait_advert(&["\"type\":\"Command Service\""]);
    // A caller that goes without a word: the first of the two is its process.
    drop(one);
    c.wait_log(&["a caller's command has ended"]);
    assert!(!lives(&pids[0]) && lives(&pids[1]), "its own, and no other");
    // A command is not left behind by its node.
    c.stop();
    assert!(!lives(&pids[1]));
}

#[test]
fn a_caller_that_has_said_all_is_still_answered() {
    let world = World::new();
    let (_nodes, port) = with_command(&world, "sh -c 'stty -echo; echo ready; sort; echo sorted'");
    for (said, answer) in
        [("b\na\n", "a\r\nb\r\nsorted\r\n"), ("b\na", "a\r\nb\r\nsorted\r\n"), ("", "sorted\r\n")]
    {
        let mut caller = connect(port);
        assert_eq!(until(&mut caller, "\r\n"), "ready\r\n");
        caller.write_all(said.as_bytes()).expect("it reads");
        caller.shutdown(Shutdown::Write).expect("connected");
        assert_eq!(until(&mut caller, ""), answer, "of {said:?}");
    }
}

#[test]
fn a_command_that_ends_leaves_its_caller_all_it_wrote_and_an_end() {
    let world = World::new();
    let ([_a, _b, mut c], port) = with_command(&world, "seq 1 20000");
    let all: String = (1..=20_000).map(|n| format!("{n}\r\n")).collect();
    assert!(until(&mut connect(port), "") == all, "every line, and then the end");
    c.wait_log(&["a caller's command has ended: by itself"]);
}

#[test]
fn a_command_that_leaves_something_behind_ends_all_the_same_and_what_it_left_does_too() {
    let world = World::new();
    let ([_a, _b, mut c], port) = with_command(&world, "sh -c 'set -m; sleep 1000 & echo $!; yes & exit'");
    let said = until(&mut connect(port), "");
    c.wait_log(&["a caller's command has ended: by itself"]);
    let pid = said.split_whitespace().next().expect("a pid");
    assert!(pid.parse::<u32>().is_ok() && !lives(pid), "{pid}");
}

#[test]
fn a_command_that_cannot_be_run_closes_its_caller_at_once_and_the_log_says_why() {
    let world = World::new();
    let ([_a, _b, mut c], port) = with_command(&world, "/nonexistent/command");
    let mut caller = connect(port);
    // Closed or reset, but at once.
    assert!(matches!(caller.read(&mut [0]), Ok(0) | Err(_)));
    c.wait_log(&["Error running command", "/nonexistent/command", "No such file"]);
}

#[test]
fn a_command_under_tls_runs_for_members_and_for_nobody_else() {
    let (world, member, stranger) = (World::new(), free_port(), free_port());
    let pki = Pki::new(&world, "ca");
    for node in ["a", "c"] {
        pki.issue(node, &[node]);
    }
    let door = |port: u16, tls: &str| {
        format!(
            "- tcp-server: {{port: {port}, bindaddr: 127.0.0.1, remotenode: c, remoteservice: run{tls}}}\n"
        )
    };
    // One door of a shows its certificate, the other one shows none.
    let authority = pki.file("ca", "crt");
    let near = pki.profiles("a", "")
        + &format!("- tls-client: {{name: nobody, rootcas: {authority}}}\n")
        + &door(member, ", tlsclient: cl")
        + &door(stranger, ", tlsclient: nobody");
    let far = pki.profiles("c", "")
        + "- command-service: {service: run, command: \"echo for members\", tls: srv}\n";
    let [_a, _b, mut c] = line(&world, "tcp", &near, "", &far);
    assert_eq!(until(&mut connect(member), ""), "for members\r\n");
    let refused = connect(stranger).read(&mut [0]);
    assert!(matches!(refused, Ok(0) | Err(_)), "{refused:?}");
    c.wait_log(&["service run", "a:"]);
    assert_eq!(c.said(&["a caller's command runs"]), 1, "for the member alone");
}

#[test]
fn a_udp_port_leads_to_a_udp_address_two_hops_away_and_answers_come_back() {
    for link in common::LINKS {
        let (world, port) = (World::new(), free_port());
        let target = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = target.local_addr().expect("its address");
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok((len, from)) = target.recv_from(&mut buffer) {
                buffer[..len].reverse();
                drop(target.send_to(&buffer[..len], from));
            }
        });
        let near = format!(
            "- udp-server: {{port: {port}, bindaddr: 127.0.0.1, remotenode: c, remoteservice: back}}\n"
        );
        let far = format!("- udp-client: {{service: back, address: \"{address}\"}}\n");
        let [a, _b, _c] = line(&world, link, &near, "", &far);
        let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
        client.connect(("127.0.0.1", port)).expect("loopback");
        client.set_read_timeout(Some(PATIENCE)).expect("a socket");
        for payload in [&b""[..], b"stressed", &[7; 1_200]] {
            client.send(payload).expect("the proxy reads");
            let mut buffer = [0; 2_000];
            let len = client.recv(&mut buffer).expect("an answer");
            let mut answer = buffer[..len].to_vec();
            answer.reverse();
            assert_eq!(answer, payload, "{link}");
        }
        a.wait_advert(&["\"type\":\"UDP Proxy\"", &format!("\"address\":\"{address}\"")]);
    }
}

#[test]
fn a_service_that_nobody_has_and_a_node_out_of_reach_are_told_once() {
    let (world, nobody, nowhere) = (World::new(), free_port(), free_port());
    let mut foo = world.start(
        "foo",
        &format!(
            "- udp-server: {{port: {nobody}, bindaddr: 127.0.0.1, remotenode: localhost, remoteservice: nobody}}\n\
             - udp-server: {{port: {nowhere}, bindaddr: 127.0.0.1, remotenode: far, remoteservice: x}}\n"
        ),
    );
    let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
    for (port, words) in [
        (nobody, ["datagrams do not arrive", "service unknown"]),
        (nowhere, ["Error sending packet", "no route to node far"]),
    ] {
        for _ in 0..5 {
            client.send_to(b"hello", ("127.0.0.1", port)).expect("loopback");
        }
        foo.wait_log(&words);
        // The fifth of them was handled before this is answered.
        assert!(foo.talk_once("ping foo").contains("Success"));
        assert_eq!(foo.said(&words), 1, "{words:?}");
    }
}

#[test]
fn a_node_without_a_device_says_so_and_goes_on() {
    let world = World::new();
    let yaml = "- ip-router: {networkname: net, localnet: 10.99.0.0/30}\n";
    // Root without any capability may make no interface; nobody else may anyway.
    let powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let is_root = std::fs::metadata(world.path()).expect("it is there").uid() == 0;
    let mut foo = world.start_under(if is_root { &powerless } else { &[] }, "foo", yaml);
    foo.wait_log(&["this node does not route", "/dev/net/tun"]);
    let status = foo.talk_once("status");
    assert!(!status.contains("IP Router"), "what is not there is not advertised: {status}");
    assert!(foo.talk_once("ping foo").contains("Success"));
}

#[test]
fn all_three_forms_say_the_same_and_are_shown() {
    let world = World::new();
    let list = "- node: {id: foo}\n- local-only:\n- udp-server: {port: 0, remotenode: bar, remoteservice: dns}\n\
        - udp-client: {service: dns, address: \"localhost:53\"}\n- command-service: {service: sh, command: \"sh -l\"}\n\
        - ip-router: {networkname: net, localnet: 10.0.0.0/30, routes: \"10.1.0.0/16,fd00::/64\"}\n";
    let map = "version: 2\nnode: {id: foo}\nlocal-only: {local: true}\nudp-servers: [{port: 0, remotenode: bar, remoteservice: dns}]\n\
        udp-clients: [{service: dns, address: \"localhost:53\"}]\ncommand-services: [{service: sh, command: \"sh -l\"}]\n\
        iprouters: [{networkname: net, localnet: 10.0.0.0/30, routes: \"10.1.0.0/16,fd00::/64\"}]\n";
    let words = [
        "--node",
        "foo",
        "--local-only",
        "--udp-server",
        "port=0",
        "remotenode=bar",
        "remoteservice=dns",
        "--udp-client",
        "service=dns",
        "address=localhost:53",
        "--command-service",
        "service=sh",
        "command=sh -l",
        "--ip-router",
        "networkname=net",
        "localnet=10.0.0.0/30",
        "routes=10.1.0.0/16,fd00::/64",
    ];
    let [list, map] = [("list.yml", list), ("map.yml", map)].map(|(name, text)| {
        let file = world.path().join(name);
        std::fs::write(&file, text).expect("written");
        vec![file.display().to_string()]
    });
    let shown = [list, map, words.map(str::to_owned).to_vec()].map(|what| {
        let ran =
            Command::new(program()).args(["config", "show", "--json"]).args(&what).output().expect("it runs");
        assert!(ran.status.success(), "{what:?}: {}", String::from_utf8_lossy(&ran.stderr));
        let shown: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("JSON");
        let sections = shown["sections"].as_array().expect("sections").iter();
        let ours = sections.filter(|section| {
            ["udp-server", "udp-client", "command-service", "ip-router"]
                .map(serde_json::Value::from)
                .contains(&section["section"])
        });
        ours.map(|section| {
            let keys = section["keys"].as_object().expect("keys").iter();
            (
                section["section"].clone(),
                keys.map(|(key, of)| (key.clone(), of["value"].to_string().replace('"', "")))
                    .collect::<Vec<_>>(),
            )
        })
        .collect::<Vec<_>>()
    });
    assert_eq!(shown[0].len(), 4);
    assert_eq!(shown[0], shown[1]);
    assert_eq!(shown[0], shown[2]);
}
