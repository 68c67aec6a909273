//! How a client proves who it is, and what it wants to see, at a control socket with TLS: from flags to settings.

use netmesh::tls::{ClientSettings, NodeIdRule};

use super::Receptorctl;
use crate::{config, exit::Failure};

impl Receptorctl {
    /// The settings that the flags make together, or the `tls-client` of the file that they name.
    ///
    /// # Errors
    /// Bad usage, and a file that holds no such profile.
    pub(crate) fn tls(&self) -> Result<ClientSettings, Failure> {
        let Receptorctl { config, socket_tls_client, rootcas, key, cert, insecureskipverify, .. } = self;
        let alone = [rootcas, key, cert].iter().all(|file| file.is_none());
        match (config, socket_tls_client) {
            (Some(file), Some(name)) if alone => {
                return config::tls_client(file, name).map_err(Failure::usage);
            }
            (None, None) => {}
            (Some(_), Some(_)) => {
                let text = "--config names the profile, so --rootcas, --cert and --key cannot: give one or the other";
                return Err(Failure::usage(text));
            }
            _ => {
                let text = "--config FILE and --tls-client NAME go together: the file, and the name of its `tls-client`";
                return Err(Failure::usage(text));
            }
        }
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            _ => return Err(Failure::usage("--cert and --key go together: give both, or neither")),
        };
        let insecure_skip_verify = match insecureskipverify.as_deref().map(str::to_ascii_lowercase).as_deref()
        {
            None | Some("false" | "no" | "0") => false,
            Some("true" | "yes" | "1") => true,
            Some(other) => {
                return Err(Failure::usage(format!(
                    "--insecureskipverify: `{other}` is neither true nor false"
                )));
            }
        };
        Ok(ClientSettings {
            name: "command line".to_owned(),
            identity,
            root_cas: rootcas.clone(),
            insecure_skip_verify,
            pinned: Vec::new(),
            min_tls13: false,
            own_node: None,
            node_id_rule: NodeIdRule::Off,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;

    fn tls(flags: &str) -> Result<ClientSettings, String> {
        let words = format!("netmesh {flags} status");
        let cli = Cli::try_parse_from(words.split_whitespace()).unwrap_or_else(|told| panic!("{told}"));
        cli.receptorctl.tls().map_err(|failure| failure.text)
    }

    #[test]
    fn the_flags_make_a_profile_and_contradictions_are_told() {
        let all = tls("--rootcas ca --cert c --key k").unwrap();
        assert_eq!(all.identity, Some(("c".into(), "k".into())));
        assert_eq!((all.root_cas, all.insecure_skip_verify), (Some("ca".into()), false));
        assert!(tls("--insecureskipverify True").unwrap().insecure_skip_verify);
        for (wrong, told) in [
            ("--cert c", "--cert and --key"),
            ("-c f", "go together"),
            ("--tls-client t", "go together"),
            ("-c f --tls-client t --rootcas r", "one or the other"),
            ("--insecureskipverify perhaps", "neither true nor false"),
            ("-c /no/such.yml --tls-client t", "/no/such.yml"),
        ] {
            assert!(tls(wrong).unwrap_err().contains(told), "{wrong}: {:?}", tls(wrong));
        }
    }

    #[test]
    fn a_profile_is_found_in_a_file_of_either_form_as_receptorctl_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f.yml");
        for text in [
            "- node: {id: foo}\n- tls-client: {name: other, insecureskipverify: false}\n- tls-client: {name: t, insecureskipverify: true}\n",
            "tls-clients: [{name: t, insecureskipverify: true}]\n",
        ] {
            std::fs::write(&file, text).unwrap();
            let found = tls(&format!("-c {} --tls-client t", file.display())).unwrap();
            assert!(found.name == "t" && found.insecure_skip_verify, "{found:?}");
            let missing = tls(&format!("-c {} --tls-client x", file.display())).unwrap_err();
            assert!(missing.contains("no `tls-client` of the name `x`"), "{missing}");
        }
    }
}
