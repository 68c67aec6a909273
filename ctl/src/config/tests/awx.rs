//! The files that AWX writes: what they ask for that is not supported yet is named, with its line.

use super::{config, problems};

const CONTROL: &str = include_str!("awx-control.conf");
const EXECUTION: &str = include_str!("awx-execution.conf");

#[test]
fn the_file_of_a_control_node_is_refused_for_what_is_not_supported_yet() {
    assert_eq!(
        problems(CONTROL),
        [
            "f.yml:5:5: node: `firewallrules` is not supported yet; remove the key",
            "f.yml:19:17: work-signing: privatekey: /etc/receptor/work_private_key.pem does not exist; name the PEM file of the key",
            "f.yml:21:3: tls-client: this section is not supported yet; remove it",
            "f.yml:29:5: tcp-peer: `tls` is not supported yet; remove the key",
        ]
    );
}

#[test]
fn the_file_of_an_execution_node_is_refused_for_what_is_not_supported_yet() {
    assert_eq!(
        problems(EXECUTION),
        [
            "f.yml:5:16: work-verification: publickey: /etc/receptor/work_public_key.pem does not exist; name the PEM file of the key",
            "f.yml:11:5: control-service: `tls` is not supported yet; remove the key",
            "f.yml:12:3: tls-server: this section is not supported yet; remove it",
            "f.yml:19:3: tls-client: this section is not supported yet; remove it",
            "f.yml:28:5: tcp-listener: `tls` is not supported yet; remove the key",
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
    let (node, rules) = (text.find("    firewallrules").unwrap(), text.find("- control-service").unwrap());
    let text = format!("{}{}", &text[..node], &text[rules..]);
    let config = config(&text.lines().filter(rest).collect::<Vec<_>>().join("\n"));
    assert!(config.local_only);
    assert_eq!(config.node.as_str(), "host.example");
    assert_eq!(config.control_services[0].permissions, 0o660);
    assert_eq!(config.work_signing.unwrap().token_expiration.as_secs(), 60);
    assert_eq!(config.peers[0].address, "exec1.example.com:27199");
    assert_eq!(config.warnings, []);
}
