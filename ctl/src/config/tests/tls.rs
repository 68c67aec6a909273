//! Profiles of TLS: what the sections mean, and what is wrong with the files that they name.

use std::{fs, path::Path};

use netmesh::tls::{
    NodeIdRule,
    issue::{Key, KeyKind, Request, Validity, authority, request},
    names::Names,
};

use super::{config, parse, problems};

/// `ca.crt`, and `foo.crt` with `foo.key` for the node foo, good for so many days.
fn files(dir: &Path, days: i64) {
    let (ca_key, key) = (Key::generate(KeyKind::Ecdsa).unwrap(), Key::generate(KeyKind::Ecdsa).unwrap());
    let ca = authority("ca", &ca_key, Validity::default()).unwrap();
    let names = Names { nodes: vec!["foo".into()], ..Names::default() };
    let asked = Request::from_pem(request("foo", &names, &key).unwrap().as_bytes()).unwrap();
    let now = time::OffsetDateTime::now_utc();
    let validity = Validity {
        not_before: Some(now - time::Duration::days(100)),
        not_after: Some(now + time::Duration::days(days) + time::Duration::hours(1)),
    };
    fs::write(dir.join("foo.crt"), asked.sign(ca.as_bytes(), &ca_key, validity).unwrap()).unwrap();
    fs::write(dir.join("ca.crt"), ca).unwrap();
    fs::write(dir.join("foo.key"), key.to_pem().unwrap()).unwrap();
    fs::write(dir.join("other.key"), ca_key.to_pem().unwrap()).unwrap();
}

fn text(dir: &Path, text: &str) -> String {
    text.replace('@', &format!("{}/", dir.display()))
}

#[test]
fn every_key_is_read_in_both_forms_and_reaches_whoever_names_the_profile() {
    let dir = tempfile::tempdir().unwrap();
    files(dir.path(), 300);
    let pin = "ab:".repeat(32);
    let server = "{name: s, cert: @foo.crt, key: @foo.key, requireclientcert: true, clientcas: @ca.crt, pinnedclientcert: ['PIN'], requirenodeid: true, mintls13: true}";
    let client = "{name: c, cert: @foo.crt, key: @foo.key, rootcas: @ca.crt, pinnedservercert: 'PIN', requirenodeid: off}";
    let list = format!(
        "- node: {{id: foo}}\n- tls-server: {server}\n- tls-client: {client}\n- tcp-listener: {{port: 1, tls: s}}\n- quic-peer: {{address: 'a:1', tls: c}}\n- control-service: {{tls: s}}\n"
    );
    let map = format!(
        "node: {{id: foo}}\ntls-servers: [{server}]\ntls-clients: [{client}]\ntcp-listeners: [{{port: 1, tls: s}}]\nquic-peers: [{{address: 'a:1', tls: c}}]\ncontrol-services: [{{tls: s}}]\n"
    );
    let [list, map] = [list, map].map(|form| config(&text(dir.path(), &form.replace("PIN", &pin))));
    assert_eq!(list, map);
    let (server, client) = (&list.tls_servers[0], &list.tls_clients[0]);
    assert!(server.require_client_cert && server.min_tls13 && server.pinned.len() == 1);
    assert_eq!((server.node_id_rule, client.node_id_rule), (NodeIdRule::Required, NodeIdRule::Off));
    assert_eq!(client.root_cas.as_deref(), Some(&*dir.path().join("ca.crt")));
    assert_eq!(list.listeners[0].tls.as_ref(), Some(server));
    assert_eq!(list.control_services[0].tls.as_ref(), Some(server));
    assert_eq!(list.peers[0].tls.as_ref(), Some(client));
    assert_eq!(list.warnings, []);
}

#[test]
fn what_is_wrong_with_the_files_is_told_at_the_key_that_names_them() {
    let dir = tempfile::tempdir().unwrap();
    files(dir.path(), 300);
    fs::write(dir.path().join("empty"), "").unwrap();
    for (section, expected) in [
        ("tls-server: {name: s, cert: @foo.crt, key: @other.key}", "is not the key of the certificate in"),
        ("tls-server: {name: s, cert: @empty, key: @foo.key}", "holds no certificate"),
        ("tls-server: {name: s, cert: @foo.crt, key: @empty}", "holds no key"),
        (
            "tls-server: {name: s, cert: @foo.crt, key: @foo.key, clientcas: @empty}",
            "tls-server: clientcas: ",
        ),
        (
            "tls-server: {name: s, cert: @foo.crt, key: @foo.key, requirenodeid: true}",
            "asked for no certificate",
        ),
    ] {
        let section = text(dir.path(), &format!("- {section}"));
        let told = problems(&format!("- local-only\n- node: {{id: foo}}\n{section}"));
        assert!(told.len() == 1 && told[0].contains(expected), "{expected}: {told:?}");
        let key = told[0].split(' ').nth(2).unwrap().trim_end_matches(':');
        let column = 1 + section.find(&format!(" {key}: ")).unwrap() + 1;
        assert!(told[0].starts_with(&format!("f.yml:3:{column}: ")), "{told:?}");
    }
    let file = "- local-only\n- node: {id: bar}\n- tls-server: {name: s, cert: @foo.crt, key: @foo.key}";
    let told = problems(&text(dir.path(), file));
    assert!(
        told[0].contains("nodeID=bar not found in certificate name(s); names found=[foo]; cfg section=s"),
        "{told:?}"
    );
    let skip = file.replace("name: s", "name: s, skipreceptornamescheck: true");
    assert!(parse(&text(dir.path(), &skip)).is_ok());
}

#[test]
fn a_certificate_near_its_end_or_past_it_is_a_warning() {
    for (days, expected) in [(29, "expires in 29 days"), (0, "expires today"), (-2, "has expired"), (31, "")]
    {
        let dir = tempfile::tempdir().unwrap();
        files(dir.path(), days);
        let file = "- local-only\n- node: {id: foo}\n- tls-server: {name: s, cert: @foo.crt, key: @foo.key}";
        let warnings = config(&text(dir.path(), file)).warnings;
        let told: String = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), usize::from(!expected.is_empty()), "{told}");
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn a_port_under_tls_is_open_to_those_only_whom_its_profile_asks_for_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    files(dir.path(), 300);
    let told = |asks: &str, control: &str| -> Vec<String> {
        let server = format!("{{name: s, cert: @foo.crt, key: @foo.key, clientcas: @ca.crt{asks}}}");
        let file = format!("- node: {{id: foo}}\n- tls-server: {server}\n- control-service: {control}\n");
        let config = config(&text(dir.path(), &file));
        assert_eq!(config.control_services[0].tcp_tls.is_some(), control.contains("tcptls"));
        config.warnings.iter().map(ToString::to_string).collect()
    };
    let must = ", requireclientcert: true";
    assert_eq!(told(must, "{tcplisten: 1, tcptls: s}"), [""; 0]);
    assert!(told("", "{tcplisten: 1, tcptls: s}")[0].contains("give `s` `requireclientcert: true`"));
    assert!(
        told(must, "{tcplisten: 'localhost:1', tls: s}")[0].contains("none on its TCP port; add `tcptls`")
    );
    assert!(told(must, "{filename: /s, tcptls: s}")[0].contains("give `tcplisten`, or remove the key"));
}
