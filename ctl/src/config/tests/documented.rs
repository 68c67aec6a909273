//! What the documents say of the configuration is what is read.

use super::{super::schema::SECTIONS, config};

const GUIDE: &str = include_str!("../../../../docs/configuration.md");
const ACCESS: &str = include_str!("../../../../docs/access.md");
const README: &str = include_str!("../../../../README.md");

#[test]
fn every_section_and_key_stands_in_the_guide_and_what_is_not_supported_does_too() {
    for schema in &SECTIONS {
        for name in [schema.name].iter().chain(schema.keys) {
            assert!(GUIDE.contains(&format!("`{name}`")), "{name} of {}", schema.name);
        }
    }
    for name in super::super::schema::LATER {
        assert!(GUIDE.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn the_files_shown_to_newcomers_are_read_without_a_warning() {
    let mut read = 0;
    for document in [README, GUIDE, ACCESS] {
        for block in document.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            assert!(config(block).warnings.is_empty(), "{block}");
            read += 1;
        }
    }
    assert_eq!(read, 7, "the blocks were found");
}
