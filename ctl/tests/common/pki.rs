//! An authority and certificates of a world, made by the program under test.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use super::{Ran, World, finish, program};

/// An authority, with its files in the directory of a world: `NAME.crt`, `NAME.key`.
pub(crate) struct Pki<'w> {
    world: &'w World,
    authority: String,
}

impl<'w> Pki<'w> {
    /// Makes the authority `name`.
    pub(crate) fn new(world: &'w World, name: &str) -> Pki<'w> {
        let pki = Pki { world, authority: name.to_owned() };
        let (cert, key) = (pki.file(name, "crt"), pki.file(name, "key"));
        cert_command(&["init", "--commonname", name, "--outcert", &cert, "--outkey", &key]).ok();
        pki
    }

    /// Makes a certificate for this host and for `nodes`; one of that name is replaced.
    pub(crate) fn issue(&self, name: &str, nodes: &[&str]) {
        self.issue_with(name, nodes, &[]);
    }

    /// The same, with more said of the certificate.
    pub(crate) fn issue_with(&self, name: &str, nodes: &[&str], more: &[&str]) {
        let [req, key, cert] = ["req", "key", "crt"].map(|kind| self.file(name, kind));
        let [ca, ca_key] = ["crt", "key"].map(|kind| self.file(&self.authority, kind));
        let mut words = vec!["makereq", "--force", "--commonname", name, "--outreq", &req, "--outkey", &key];
        words.extend(["--dnsname", "localhost", "--ipaddress", "127.0.0.1"]);
        nodes.iter().for_each(|node| words.extend(["--nodeid", node]));
        cert_command(&words).ok();
        let mut words = vec!["signreq", "--force", "--verify", "--req", &req, "--outcert", &cert];
        words.extend(["--cacert", &ca, "--cakey", &ca_key]);
        words.extend(more);
        cert_command(&words).ok();
    }

    /// The sections of profiles that show `name`: `tls-server` srv and `tls-client` cl, with more keys in each.
    pub(crate) fn profiles(&self, name: &str, more: &str) -> String {
        let [key, cert] = ["key", "crt"].map(|kind| self.file(name, kind));
        let ca = self.file(&self.authority, "crt");
        format!(
            "- tls-server: {{name: srv, cert: {cert}, key: {key}, clientcas: {ca}, requireclientcert: true{more}}}\n\
             - tls-client: {{name: cl, cert: {cert}, key: {key}, rootcas: {ca}{more}}}\n"
        )
    }

    pub(crate) fn file(&self, name: &str, kind: &str) -> String {
        self.world.path().join(format!("{name}.{kind}")).display().to_string()
    }
}

/// Runs `netmesh cert`.
pub(crate) fn cert_command(words: &[&str]) -> Ran {
    let mut command = Command::new(program());
    command.arg("cert").args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.spawn().expect("the program starts"), words)
}

impl World {
    /// Writes the configuration of a node whose control service on the mesh is under the profile `srv`.
    pub(crate) fn write_secure(&self, node: &str, yaml: &str) -> PathBuf {
        let file = self.path().join(format!("{node}.yml"));
        let head = format!(
            "---\n- log-level: debug\n- node: {{id: {node}, datadir: {data}}}\n- control-service: {{service: control, filename: {socket}, tls: srv}}\n",
            data = self.path().join("data").display(),
            socket = self.socket(node).display()
        );
        std::fs::write(&file, head + yaml).expect("the configuration is written");
        file
    }
}
