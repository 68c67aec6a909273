//! Lines are whole, in order and in files of bounded size; what cannot be written is told of.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::Value;

use super::*;

fn file(path: &Path, max_size: u64, keep: u32) -> AuditConfig {
    AuditConfig { file: Some(AuditFile { path: path.to_owned(), max_size, keep }), log: false }
}

fn entry<'a>(principals: &'a [&'a str], unit: &'a str) -> Entry<'a> {
    Entry {
        principals,
        way: "mesh",
        action: "cancel",
        work_type: Some("cat"),
        unit: Some(unit),
        node: None,
        allowed: false,
        reason: "no grant allows it",
    }
}

#[tokio::test]
async fn a_line_holds_every_member_and_the_file_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let journal = Journal::open(file(&path, 1 << 20, 1)).unwrap();
    journal.note(&entry(&["node:a", "token:uid:5@a"], "aB3dEf9Z")).await;
    journal.close().await;
    let mut line: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let time = line["time"].take();
    assert!(time.as_str().is_some_and(|time| time.len() == 24 && time.ends_with('Z')), "{time}");
    let expected = serde_json::json!({
        "time": null, "principal": "node:a", "also": ["token:uid:5@a"], "way": "mesh", "action": "cancel",
        "work_type": "cat", "unit": "aB3dEf9Z", "node": null, "decision": "denied", "reason": "no grant allows it",
    });
    assert_eq!(line, expected);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn files_are_rotated_by_size_and_the_oldest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let length = entry(&["uid:0"], "0").line(SystemTime::now()).len() as u64;
    // Three lines fit into a file.
    let journal = Journal::open(file(&path, 3 * length + 1, 2)).unwrap();
    for number in 0..10 {
        journal.note(&entry(&["uid:0"], &number.to_string())).await;
    }
    journal.close().await;
    let units = |path: &Path| -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        let unit =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["unit"].as_str().unwrap().to_owned();
        text.lines().map(unit).collect()
    };
    assert_eq!(units(&path), ["9"]);
    assert_eq!(units(&dir.path().join("audit.1")), ["6", "7", "8"]);
    assert_eq!(units(&dir.path().join("audit.2")), ["3", "4", "5"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "the oldest lines have gone");
    // What was there before a restart is kept and counted.
    let journal = Journal::open(file(&path, 3 * length + 1, 2)).unwrap();
    journal.note(&entry(&["uid:0"], "a")).await;
    journal.close().await;
    assert_eq!(units(&path), ["9", "a"]);
}

#[tokio::test]
async fn lines_that_the_disk_would_not_take_are_counted_in_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let mut file = Rotated::open(file(&path, 1, 1).file.unwrap()).unwrap();
    file.write("0\n");
    // In the way of the rotation that is due stands a directory that is not empty.
    fs::create_dir_all(dir.path().join("audit.1/x")).unwrap();
    file.write("1\n");
    file.write("2\n");
    fs::remove_dir_all(dir.path().join("audit.1")).unwrap();
    file.write("3\n");
    let text = fs::read_to_string(&path).unwrap();
    let (told, line) = text.split_once('\n').unwrap();
    assert!(told.contains(r#""decision":"lost""#) && told.contains("2 lines before this one"), "{told}");
    assert_eq!(line, "3\n");
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    assert!(Journal::open(file(Path::new("/nowhere/audit"), 1, 1)).is_err());
}

#[tokio::test]
async fn names_of_strangers_are_cut_and_a_journal_of_nothing_takes_all() {
    let long = "é".repeat(1_000);
    let principals = [long.as_str()];
    assert!(entry(&principals, &long).line(SystemTime::now()).len() < 3 * NAME_MAX);
    Journal::default().note(&entry(&principals, "x")).await;
    Journal::default().close().await;
}
