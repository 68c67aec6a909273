//! A named set of TLS settings: what this end shows, and what it accepts of the other.
//!
//! A [`ServerProfile`] is for ends that are called (`tls-server`), a [`ClientProfile`] for those that call (`tls-client`).
//! Each handshake takes its settings of the files as they are then, so certificates and authorities can be renewed while
//! links and streams go on. Nothing is resumed: every session shows and checks its certificates anew.

use std::{any::Any, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

use super::{
    files::{self, CertificateFacts, Watched},
    fingerprint::Fingerprint,
    verify::{ClientCheck, Expect, Said, ServerCheck},
};
use crate::id::NodeId;

/// What the certificate of a link's other end must say about the node that it announces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeIdRule {
    /// If it names nodes, it must name that one.
    #[default]
    IfNamed,
    /// It must name that one.
    Required,
    /// Anything.
    Off,
}

/// The settings of an end that is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// The name of the profile.
    pub name: String,
    /// The PEM file of the certificate and those that lead to its authority.
    pub cert: PathBuf,
    /// The PEM file of its key.
    pub key: PathBuf,
    /// Callers must show a certificate.
    pub require_client_cert: bool,
    /// Who may have signed it; otherwise the authorities of the system.
    pub client_cas: Option<PathBuf>,
    /// It must be one of these, if there are any.
    pub pinned: Vec<Fingerprint>,
    /// TLS 1.2 is not good enough.
    pub min_tls13: bool,
    /// The node that our own certificate must name, if it is checked.
    pub own_node: Option<NodeId>,
    /// What the certificate of a link's caller must say.
    pub node_id_rule: NodeIdRule,
}

/// The settings of an end that calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// The name of the profile.
    pub name: String,
    /// The PEM files of the certificate that is shown and of its key, if one is.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Who may have signed the other end's; otherwise the authorities of the system.
    pub root_cas: Option<PathBuf>,
    /// Neither signature nor name of the other end's certificate is looked at.
    pub insecure_skip_verify: bool,
    /// It must be one of these, if there are any.
    pub pinned: Vec<Fingerprint>,
    /// TLS 1.2 is not good enough.
    pub min_tls13: bool,
    /// The node that our own certificate must name, if it is checked.
    pub own_node: Option<NodeId>,
    /// What the certificate of a link's other end must say.
    pub node_id_rule: NodeIdRule,
}

/// Why a profile cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {text}")]
pub struct ProfileError {
    /// The option that is at fault, as the configuration calls it.
    pub option: &'static str,
    /// What is wrong with it.
    pub text: String,
}

/// A profile of an end that is called.
pub struct ServerProfile {
    settings: ServerSettings,
    files: Watched<ServerFiles>,
}

/// A profile of an end that calls.
pub struct ClientProfile {
    settings: ClientSettings,
    files: Watched<ClientFiles>,
}

struct ServerFiles {
    identity: Arc<CertifiedKey>,
    /// `None` when callers need show nothing.
    client_roots: Option<Arc<RootCertStore>>,
    facts: Vec<CertificateFacts>,
}

struct ClientFiles {
    identity: Option<Arc<CertifiedKey>>,
    /// `None` when nothing is verified.
    roots: Option<Arc<RootCertStore>>,
    facts: Vec<CertificateFacts>,
}

impl ServerSettings {
    /// Callers are asked for a certificate. What they show is verified.
    pub fn asks_callers(&self) -> bool {
        self.require_client_cert || self.client_cas.is_some() || !self.pinned.is_empty()
    }
}

/// What `read` gives, elsewhere: disks may be slow.
async fn off_thread<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())
}

impl ServerProfile {
    /// Reads its files.
    pub fn load(settings: ServerSettings) -> Result<ServerProfile, ProfileError> {
        let all = [Some(&settings.cert), Some(&settings.key), settings.client_cas.as_ref()];
        let of = settings.clone();
        let files = Watched::new(all.into_iter().flatten().cloned().collect(), move || server_files(&of))?;
        Ok(ServerProfile { settings, files })
    }

    /// What was set.
    pub fn settings(&self) -> &ServerSettings {
        &self.settings
    }

    /// The certificates that it uses now: its own first, then those of authorities.
    pub fn facts(&self) -> Vec<CertificateFacts> {
        self.files().facts.clone()
    }

    fn files(&self) -> Arc<ServerFiles> {
        self.files.current(format_args!("tls-server `{}`", self.settings.name))
    }

    /// What it holds now; another one when its files have changed, and that of no other profile.
    pub(crate) async fn held(self: &Arc<Self>) -> Result<Arc<dyn Any + Send + Sync>, String> {
        let this = self.clone();
        Ok(off_thread(move || this.files()).await?)
    }

    /// The settings of one handshake. A caller's certificate must name `node`, if that is given.
    pub(crate) async fn handshake(
        self: &Arc<Self>,
        protocols: Protocols,
        node: Option<NodeId>,
    ) -> Result<(ServerConfig, Said), String> {
        let this = self.clone();
        off_thread(move || this.handshake_now(protocols, node)).await?
    }

    /// The same, on this thread.
    pub(crate) fn handshake_now(
        &self,
        protocols: Protocols,
        node: Option<NodeId>,
    ) -> Result<(ServerConfig, Said), String> {
        let files = self.files();
        let Protocols { names, quic, provider } = protocols;
        let said = Said::default();
        let versions: &[_] = if quic || self.settings.min_tls13 { &[&TLS13] } else { &[&TLS13, &TLS12] };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let builder = match &files.client_roots {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let (pinned, must) = (self.settings.pinned.clone(), self.settings.require_client_cert);
                let check = ClientCheck::new(roots.clone(), pinned, must, node, said.clone(), &provider)?;
                builder.with_client_cert_verifier(Arc::new(check))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(files.identity.clone())));
        config.alpn_protocols = names;
        // A session that is resumed would show no certificate, so one that is withdrawn would be good for days.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok((config, said))
    }
}

impl ClientProfile {
    /// Reads its files.
    pub fn load(settings: ClientSettings) -> Result<ClientProfile, ProfileError> {
        let own = settings.identity.iter().flat_map(|(cert, key)| [cert, key]);
        let all: Vec<PathBuf> = own.chain(&settings.root_cas).cloned().collect();
        let of = settings.clone();
        let files = Watched::new(all, move || client_files(&of))?;
        Ok(ClientProfile { settings, files })
    }

    /// What was set.
    pub fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    /// The certificates that it uses now: its own first, if it has one, then those of authorities.
    pub fn facts(&self) -> Vec<CertificateFacts> {
        self.files().facts.clone()
    }

    fn files(&self) -> Arc<ClientFiles> {
        self.files.current(format_args!("tls-client `{}`", self.settings.name))
    }

    /// What it holds now; another one when its files have changed, and that of no other profile.
    pub(crate) async fn held(self: &Arc<Self>) -> Result<Arc<dyn Any + Send + Sync>, String> {
        let this = self.clone();
        Ok(off_thread(move || this.files()).await?)
    }

    /// The settings of one handshake with whoever is `expected`.
    pub(crate) async fn handshake(
        self: &Arc<Self>,
        protocols: Protocols,
        expected: Expect,
    ) -> Result<(ClientConfig, Said), String> {
        let this = self.clone();
        off_thread(move || this.handshake_now(protocols, expected)).await?
    }

    fn handshake_now(&self, protocols: Protocols, expected: Expect) -> Result<(ClientConfig, Said), String> {
        let files = self.files();
        let Protocols { names, quic, provider } = protocols;
        let said = Said::default();
        let versions: &[_] = if quic || self.settings.min_tls13 { &[&TLS13] } else { &[&TLS13, &TLS12] };
        // A Go node puts no name into the greeting when it looks for a node.
        let names_host = expected == Expect::Host;
        let pinned = self.settings.pinned.clone();
        let check = ServerCheck::new(files.roots.clone(), pinned, expected, said.clone(), &provider);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(check));
        let mut config = match &files.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.clone())))
            }
        };
        config.alpn_protocols = names;
        config.enable_sni = names_host;
        config.resumption = rustls::client::Resumption::disabled();
        Ok((config, said))
    }
}

/// What is spoken over a session.
#[derive(Clone)]
pub(crate) struct Protocols {
    /// Their names in the handshake, the best first; none for frames over TCP, which have no name.
    pub(crate) names: Vec<Vec<u8>>,
    /// Over QUIC, which has TLS 1.3 only.
    pub(crate) quic: bool,
    /// The cryptography.
    pub(crate) provider: Arc<CryptoProvider>,
}

fn server_files(of: &ServerSettings) -> Result<ServerFiles, ProfileError> {
    let (identity, mut facts) = files::identity(&of.cert, &of.key)?;
    check_own_name(of.own_node.as_ref(), &of.name, &facts)?;
    let mut client_roots = None;
    if of.asks_callers() {
        let (roots, more) = files::authorities(of.client_cas.as_deref(), "clientcas")?;
        facts.extend(more);
        client_roots = Some(roots);
    }
    Ok(ServerFiles { identity, client_roots, facts })
}

fn client_files(of: &ClientSettings) -> Result<ClientFiles, ProfileError> {
    let (mut identity, mut roots, mut facts) = (None, None, Vec::new());
    if let Some((cert, key)) = &of.identity {
        let (certified, own) = files::identity(cert, key)?;
        check_own_name(of.own_node.as_ref(), &of.name, &own)?;
        identity = Some(certified);
        facts = own;
    }
    if !of.insecure_skip_verify {
        let (found, more) = files::authorities(of.root_cas.as_deref(), "rootcas")?;
        facts.extend(more);
        roots = Some(found);
    }
    Ok(ClientFiles { identity, roots, facts })
}

/// The first certificate must name the node, if that is checked. The words up to the semicolon are Receptor's.
fn check_own_name(
    node: Option<&NodeId>,
    profile: &str,
    facts: &[CertificateFacts],
) -> Result<(), ProfileError> {
    let (Some(node), Some(own)) = (node, facts.first()) else { return Ok(()) };
    if own.names.nodes.iter().any(|name| name == node.as_str()) {
        return Ok(());
    }
    let text = format!(
        "nodeID={node} not found in certificate name(s); names found=[{}]; cfg section={profile}; server cert={}; sign one for this node, or set `skipreceptornamescheck: true`",
        own.names.nodes.join(" "),
        own.file.display()
    );
    Err(ProfileError { option: "cert", text })
}

impl std::fmt::Debug for ServerProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ServerProfile").field(&self.settings).finish()
    }
}

impl std::fmt::Debug for ClientProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ClientProfile").field(&self.settings).finish()
    }
}
