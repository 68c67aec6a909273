//! Authorities and certificates for tests, and profiles that use them.

use std::{fs, path::PathBuf, sync::Arc};

use netmesh::tls::{
    ClientProfile, ClientSettings, NodeIdRule, ServerProfile, ServerSettings,
    issue::{Key, KeyKind, Request, Validity, authority, request},
    names::Names,
};

/// A directory with an authority in it.
pub(crate) struct Pki {
    directory: tempfile::TempDir,
    key: Key,
    ca: String,
}

impl Pki {
    pub(crate) fn new() -> Pki {
        let directory = tempfile::tempdir().unwrap();
        let key = Key::generate(KeyKind::Ecdsa).unwrap();
        let ca = authority("test authority", &key, Validity::default()).unwrap();
        fs::write(directory.path().join("ca.crt"), &ca).unwrap();
        Pki { directory, key, ca }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// Makes `NAME.crt` and `NAME.key` for 127.0.0.1 and for the given nodes; what was there is replaced.
    pub(crate) fn issue(&self, name: &str, nodes: &[&str]) {
        self.issue_until(name, nodes, Validity::default());
    }

    pub(crate) fn issue_until(&self, name: &str, nodes: &[&str], validity: Validity) {
        let names = Names {
            dns: Vec::new(),
            ips: vec![[127, 0, 0, 1].into()],
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        };
        let key = Key::generate(KeyKind::Ecdsa).unwrap();
        let asked = Request::from_pem(request(name, &names, &key).unwrap().as_bytes()).unwrap();
        let certificate = asked.sign(self.ca.as_bytes(), &self.key, validity).unwrap();
        self.replace(&format!("{name}.crt"), &certificate);
        self.replace(&format!("{name}.key"), &key.to_pem().unwrap());
    }

    /// Puts a new file in the place of an old one, so that they differ whatever the clock says.
    fn replace(&self, file: &str, text: &str) {
        let new = self.path(&format!("{file}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(file)).unwrap();
    }

    /// A profile that shows `name` and wants callers of the same authority.
    pub(crate) fn server(&self, name: &str, change: impl FnOnce(&mut ServerSettings)) -> Arc<ServerProfile> {
        let mut settings = ServerSettings {
            name: name.to_owned(),
            cert: self.path(&format!("{name}.crt")),
            key: self.path(&format!("{name}.key")),
            require_client_cert: true,
            client_cas: Some(self.path("ca.crt")),
            pinned: Vec::new(),
            min_tls13: false,
            own_node: None,
            node_id_rule: NodeIdRule::IfNamed,
        };
        change(&mut settings);
        Arc::new(ServerProfile::load(settings).unwrap())
    }

    /// A profile that shows `name` and wants others of the same authority.
    pub(crate) fn client(&self, name: &str, change: impl FnOnce(&mut ClientSettings)) -> Arc<ClientProfile> {
        let mut settings = ClientSettings {
            name: name.to_owned(),
            identity: Some((self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")))),
            root_cas: Some(self.path("ca.crt")),
            insecure_skip_verify: false,
            pinned: Vec::new(),
            min_tls13: false,
            own_node: None,
            node_id_rule: NodeIdRule::IfNamed,
        };
        change(&mut settings);
        Arc::new(ClientProfile::load(settings).unwrap())
    }
}
