//! The commands and configurations of `docs/work.md` run as they stand there, against the nodes of `examples/two-nodes`.
//!
//! Only what a test must change is changed: paths, the port, how long the examples sleep, and the ids of units, which
//! the document makes up.

mod common;

use std::{collections::HashMap, fs, process::Command};

use common::{World, free_port, program, root};

/// The fenced blocks of one kind.
fn blocks(document: &str, kind: &str) -> Vec<String> {
    let fence = format!("```{kind}\n");
    let after_each = document.split(&fence).skip(1);
    after_each.map(|rest| rest.split("```").next().expect("a block ends").to_owned()).collect()
}

#[test]
fn the_commands_of_the_work_guide_do_what_it_says() {
    let document = fs::read_to_string(root().join("docs/work.md")).expect("the guide");
    let world = World::new();
    let port = free_port().to_string();
    let changes = [("2222", port.as_str()), ("sleep 1", "sleep 0.01"), ("sleep 3", "sleep 0.01")];
    let mut foo = world.start_example("two-nodes/foo.yml", "foo", &changes);
    let _bar = world.start_example("two-nodes/bar.yml", "bar", &changes);
    foo.wait_reach("bar");

    let mut ids: HashMap<String, String> = HashMap::new();
    let mut ran = 0;
    for block in blocks(&document, "console") {
        for command in block.split("$ ").skip(1) {
            let (line, expected) = command.split_once('\n').expect("a line");
            let mut line = line
                .replace("/tmp/foo.sock", &world.socket("foo").display().to_string())
                .replace("netmesh --socket", &format!("{} --socket", program()));
            for (said, real) in &ids {
                line = line.replace(said, real);
            }
            let output = Command::new("bash")
                .args(["-c", &line])
                .current_dir(world.path())
                .output()
                .expect("bash runs");
            assert!(output.status.success(), "{line}: {output:?}");
            let output = String::from_utf8(output.stdout).expect("text");
            let unit =
                |text: &str| text.lines().find_map(|line| line.strip_prefix("Unit ID: ")).map(str::to_owned);
            match (unit(expected), unit(&output)) {
                (Some(said), Some(real)) => {
                    // What the guide says of a unit's results holds once it has ended.
                    foo.follow(&real);
                    ids.insert(said, real);
                }
                _ if expected.trim().is_empty() => {}
                _ => assert_eq!(output, expected, "{line}"),
            }
            ran += 1;
        }
    }
    assert!(ran >= 10, "the guide's commands were found: {ran}");
}

#[test]
fn the_configurations_of_the_work_guide_start_a_node() {
    let document = fs::read_to_string(root().join("docs/work.md")).expect("the guide");
    let world = World::new();
    let keys = world.path().display();
    let made = Command::new("bash")
        .args(["-c", &format!("openssl genrsa -traditional -out {keys}/signworkprivate.pem 2048 && openssl rsa -in {keys}/signworkprivate.pem -pubout -out {keys}/signworkpublic.pem")])
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
    let snippets = blocks(&document, "yaml");
    assert!(snippets.len() >= 4, "the guide's configurations were found");
    for (n, snippet) in snippets.iter().enumerate() {
        let node = format!("node{n}");
        let text = format!(
            "---\nversion: 2\nnode:\n  id: {node}\n  datadir: {data}\nlocal-only:\n  local: true\n\
             control-services:\n  - service: control\n    filename: {socket}\n{snippet}",
            data = world.path().join("data").display(),
            socket = world.socket(&node).display(),
            snippet = snippet.replace("/full/path", &keys.to_string()),
        );
        let file = world.path().join(format!("{node}.yml"));
        fs::write(&file, text).expect("the configuration is written");
        let mut daemon = world.start_file(&[], &node, &file);
        assert_eq!(daemon.stop().code(), Some(0), "{snippet}");
    }
}
