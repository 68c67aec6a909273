//! What grants mean to the engine, whoever asks and however they came; and whose a unit is.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

mod common;

use std::fs;

use common::{Node, request, submit};
use serde_json::{Value, json};
use workunits::{
    audit::{AuditConfig, AuditFile, Journal},
    engine::{Caller, Policy, Way, WorkError},
    logic::grants::{Action, Grant, Grants, Units},
    request::{ErrorCode, Filter, Paging, Submit},
    unit::UnitId,
};

fn grant(principal: &str, actions: &[Action]) -> Grant {
    let principals = vec![principal.parse().unwrap()];
    Grant { principals, actions: actions.to_vec(), work_type: None, units: Units::Own }
}

fn decides(node: &Node, grants: Vec<Grant>) {
    node.engine.set_policy(Policy { grants: Some(Grants(grants)), journal: Journal::default() });
}

async fn make(node: &Node, submit: Submit, caller: &Caller) -> UnitId {
    let upload = node.engine.submit(submit, caller).await.unwrap();
    let id = upload.id();
    upload.complete().await.unwrap();
    id
}

#[tokio::test]
async fn a_unit_is_its_submitters_by_every_way_in_and_after_a_restart() {
    let node = Node::start().await;
    let by_certificate =
        Caller { certificate: Some("cert:foo".to_owned()), ..Caller::new(Way::Mesh, "node:foo") };
    let callers = [
        (Caller::new(Way::UnixSocket, "uid:7"), "uid:7"),
        (Caller::new(Way::Tcp, "tcp:10.0.0.1"), "tcp:10.0.0.1"),
        (Caller::new(Way::Tls, "cert:alice"), "cert:alice"),
        (Caller::new(Way::Mesh, "node:foo"), "node:foo"),
        (by_certificate, "node:foo"),
    ];
    let mut made = Vec::new();
    for (caller, owner) in &callers {
        made.push((make(&node, submit("cat"), caller).await, *owner));
    }
    let node = node.restart().await;
    for (id, owner) in &made {
        assert_eq!(node.engine.unit(id.as_str()).unwrap().owner.as_deref(), Some(*owner));
    }
    // Each may end its own and no other's.
    decides(&node, vec![grant("*", &[Action::Cancel])]);
    for (caller, owner) in &callers {
        for (id, of) in &made {
            let may = node.engine.cancel(id.as_str(), "", caller).await;
            assert_eq!(may.is_ok(), of == owner, "{caller:?} {of}: {may:?}");
        }
    }
    // By the certificate too.
    decides(&node, vec![grant("cert:foo", &[Action::Cancel])]);
    for (id, of) in &made {
        assert_eq!(
            node.engine.cancel(id.as_str(), "", &callers[4].0).await.is_ok(),
            *of == "node:foo",
            "{of}"
        );
    }
}

#[tokio::test]
async fn a_refused_submission_leaves_nothing_behind() {
    let node = Node::start().await;
    decides(&node, vec![grant("uid:2", &[Action::Submit])]);
    let refused =
        node.engine.submit(submit("cat"), &Caller::new(Way::UnixSocket, "uid:1")).await.err().unwrap();
    assert!(matches!(refused, WorkError::NotGranted { .. }) && refused.code() == ErrorCode::Denied);
    assert_eq!(
        refused.to_string(),
        "uid:1 may not submit work of type cat: no grant allows it; the `grants` of this node decide"
    );
    assert_eq!(common::entries(&node.units_dir()), 0);
}

#[tokio::test]
async fn whoever_may_submit_finds_what_they_submitted_by_its_request_and_nothing_else() {
    let node = Node::start().await;
    let (foo, bar) = (Caller::new(Way::Mesh, "node:foo"), Caller::new(Way::Mesh, "node:bar"));
    let asked = |number| Submit { extension: request(number), ..submit("cat") };
    let id = make(&node, asked(1), &foo).await;
    make(&node, asked(2), &bar).await;
    decides(&node, vec![grant("node:*", &[Action::Submit])]);
    let found = async |number: Option<u8>, caller: &Caller| {
        let request_id = number.and_then(|number| request(number).request_id);
        let paging = Paging { limit: 10, after: None };
        let page = node.engine.page_for(Filter { request_id, ..Filter::default() }, paging, caller).await;
        page.map(|page| page.units.into_iter().map(|(id, _)| id).collect::<Vec<_>>())
    };
    assert_eq!(found(Some(1), &foo).await.unwrap(), [id]);
    assert_eq!(found(Some(2), &foo).await.unwrap(), []);
    assert!(matches!(found(None, &foo).await, Err(WorkError::NotGranted { .. })));
    decides(&node, vec![grant("node:bar", &[Action::Submit])]);
    assert!(matches!(found(Some(1), &foo).await, Err(WorkError::NotGranted { .. })));
}

#[tokio::test]
async fn who_was_turned_away_at_the_door_is_written_down() {
    let node = Node::start().await;
    let path = node.root.path().join("audit");
    let file = AuditFile { path: path.clone(), max_size: 1 << 20, keep: 1 };
    let journal = Journal::open(AuditConfig { file: Some(file), log: false }).unwrap();
    node.engine.set_policy(Policy { grants: None, journal });
    node.engine.refused_handshake("tcp 0.0.0.0:1", "cert:mallory", "certificate has expired").await;
    node.engine.policy().journal.close().await;
    let line: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let [action, way, principal, decision, reason] =
        ["action", "way", "principal", "decision", "reason"].map(|member| line[member].clone());
    assert_eq!(
        json!([action, way, principal, decision, reason]),
        json!(["handshake", "tcp 0.0.0.0:1", "cert:mallory", "denied", "certificate has expired"])
    );
}
