//! The files that AWX writes: they are understood, and what they ask for that is missing here is named, with its line.

use super::{config, problems};

const CONTROL: &str = include_str!("awx-control.conf");
const EXECUTION: &str = include_str!("awx-execution.conf");

#[test]
fn the_file_of_a_control_node_is_refused_only_for_files_that_are_missing() {
    assert_eq!(
        problems(CONTROL),
        [
            "f.yml:19:17: work-signing: privatekey: /etc/receptor/work_private_key.pem does not exist; name the PEM file of the key",
            "f.yml:24:5: tls-client: cert: /etc/receptor/tls/receptor.crt cannot be read: No such file or directory (os error 2); name a PEM file that this node can use",
        ]
    );
}

#[test]
fn the_file_of_an_execution_node_is_refused_only_for_files_that_are_missing() {
    assert_eq!(
        problems(EXECUTION),
        [
            "f.yml:5:16: work-verification: publickey: /etc/receptor/work_public_key.pem does not exist; name the PEM file of the key",
            "f.yml:14:5: tls-server: cert: /etc/receptor/tls/exec1.example.com.crt cannot be read: No such file or directory (os error 2); name a PEM file that this node can use",
            "f.yml:21:5: tls-client: cert: /etc/receptor/tls/exec1.example.com.crt cannot be read: No such file or directory (os error 2); name a PEM file that this node can use",
        ]
    );
}

#[test]
fn the_rest_of_the_file_of_a_control_node_is_understood() {
    let (_dir, key) = super::key_file("PRIVATE KEY");
    let rest = |line: &&str| !line.contains("tls: tlsclient");
    let (before, after) = CONTROL.split_once("- tls-client").unwrap();
    let after = after.split_once("- tcp-peer").unwrap().1;
    let text = format!("{before}- tcp-peer{after}")
        .replace("/etc/receptor/work_private_key.pem", key.to_str().unwrap());
    let config = config(&text.lines().filter(rest).collect::<Vec<_>>().join("\n"));
    assert!(config.local_only);
    assert_eq!(config.firewall.len(), 1);
    assert_eq!(config.node.as_str(), "host.example");
    assert_eq!(config.control_services[0].permissions, 0o660);
    assert_eq!(config.work_signing.unwrap().token_expiration.as_secs(), 60);
    assert_eq!(config.peers[0].address, "exec1.example.com:27199");
    assert_eq!(config.warnings, []);
}
