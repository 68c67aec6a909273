//! The TLS profiles that run: by name, each with its files as they are now.
//!
//! A reload puts new ones in the place of those that changed. What has one in its hand keeps it.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use netmesh::tls::{CertificateFacts, ClientProfile, ProfileError, ServerProfile};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::config::Config;

/// How often people are reminded of a certificate that will expire.
const REMIND_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// The profiles of a daemon. Cheap to clone: all clones see the same.
#[derive(Clone, Default)]
pub(crate) struct TlsProfiles {
    shared: Arc<Mutex<Profiles>>,
}

/// Those of one configuration.
#[derive(Clone, Default)]
pub(super) struct Profiles {
    servers: BTreeMap<String, Arc<ServerProfile>>,
    clients: BTreeMap<String, Arc<ClientProfile>>,
}

/// What is to be shown of a certificate that a profile uses.
#[derive(Clone, Debug)]
pub(crate) struct InUse {
    /// `tls-server` or `tls-client`.
    pub(crate) section: &'static str,
    /// The profile's name.
    pub(crate) profile: String,
    /// The certificate.
    pub(crate) facts: CertificateFacts,
}

impl Profiles {
    /// Those of `config`; the ones that are the same in `old` are taken over. The files of all others are read.
    pub(super) fn load(config: &Config, old: &Profiles) -> Result<Profiles, String> {
        let failed = |section: &str, name: &str, error: ProfileError| format!("{section} `{name}`: {error}");
        let mut new = Profiles::default();
        for settings in &config.tls_servers {
            let same = old.servers.get(&settings.name).filter(|profile| profile.settings() == settings);
            let profile = match same {
                Some(profile) => profile.clone(),
                None => ServerProfile::load(settings.clone())
                    .map(Arc::new)
                    .map_err(|error| failed("tls-server", &settings.name, error))?,
            };
            new.servers.insert(settings.name.clone(), profile);
        }
        for settings in &config.tls_clients {
            let same = old.clients.get(&settings.name).filter(|profile| profile.settings() == settings);
            let profile = match same {
                Some(profile) => profile.clone(),
                None => ClientProfile::load(settings.clone())
                    .map(Arc::new)
                    .map_err(|error| failed("tls-client", &settings.name, error))?,
            };
            new.clients.insert(settings.name.clone(), profile);
        }
        Ok(new)
    }

    /// The `tls-server` of that name. It is there if the same configuration names it.
    pub(super) fn server(&self, name: &str) -> Option<Arc<ServerProfile>> {
        self.servers.get(name).cloned()
    }

    /// The `tls-client` of that name.
    pub(super) fn client(&self, name: &str) -> Option<Arc<ClientProfile>> {
        self.clients.get(name).cloned()
    }
}

impl TlsProfiles {
    /// The profiles as they are.
    pub(super) fn get(&self) -> Profiles {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses `profiles` from now on.
    pub(super) fn set(&self, profiles: Profiles) {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = profiles;
    }

    /// The `tls-server` of that name.
    pub(crate) fn server(&self, name: &str) -> Option<Arc<ServerProfile>> {
        self.get().server(name)
    }

    /// The `tls-client` of that name.
    pub(crate) fn client(&self, name: &str) -> Option<Arc<ClientProfile>> {
        self.get().clients.get(name).cloned()
    }

    /// Every certificate in use, as its file is now.
    pub(crate) async fn certificates(&self) -> Vec<InUse> {
        let profiles = self.get();
        // It reads files that have changed.
        let all = tokio::task::spawn_blocking(move || {
            let servers =
                profiles.servers.iter().map(|(name, profile)| ("tls-server", name, profile.facts()));
            let clients =
                profiles.clients.iter().map(|(name, profile)| ("tls-client", name, profile.facts()));
            let in_use = |(section, name, facts): (&'static str, &String, Vec<CertificateFacts>)| {
                let profile = name.clone();
                facts.into_iter().map(move |facts| InUse { section, profile: profile.clone(), facts })
            };
            servers.chain(clients).flat_map(in_use).collect()
        });
        all.await.unwrap_or_default()
    }

    /// Tells the log every day which certificates expire soon, for as long as it is polled. What is so at the start is
    /// told by the check of the configuration.
    pub(super) fn remind(&self) -> impl Future<Output = ()> + Send + 'static {
        let this = self.clone();
        async move {
            let mut next = Instant::now();
            loop {
                next += REMIND_EVERY;
                sleep_until(next).await;
                let mut told = std::collections::BTreeSet::new();
                for InUse { facts, .. } in this.certificates().await {
                    if let Some(warning) =
                        facts.warning(SystemTime::now()).filter(|text| told.insert(text.clone()))
                    {
                        warn!("{warning}");
                    }
                }
            }
        }
    }
}
