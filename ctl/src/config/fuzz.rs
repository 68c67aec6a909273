//! Both forms of a configuration: whatever a file says, the answer is a Config or every problem, and it comes at once.
//!
//! The program is no library, so the fuzzer's target `config` includes this folder's source.

use std::path::{Path, PathBuf};

use super::{Config, LoadOptions};

/// A file.
pub(crate) fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let read = || {
        let options = LoadOptions {
            host_name: "host.example".to_owned(),
            datadir: PathBuf::from("/var/lib/netmesh"),
            temp_dir: PathBuf::from("/tmp"),
        };
        Config::parse(&text, Path::new("f.yml"), &options)
    };
    match (read(), read()) {
        (Ok(config), Ok(again)) => {
            assert_eq!(config, again);
            assert!(!config.node.as_str().is_empty());
            assert!(config.warnings.iter().all(|warning| !warning.to_string().trim().is_empty()));
        }
        (Err(problems), Err(again)) => {
            let told = problems.to_string();
            assert!(!told.trim().is_empty(), "refused without a reason");
            assert_eq!(told, again.to_string());
            // The editor of the file goes to each place.
            assert!(told.lines().all(|line| line.starts_with("f.yml")), "a problem without a place:\n{told}");
        }
        _ => panic!("read once, and refused once"),
    }
}
