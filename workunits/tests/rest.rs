//! Units that have ended rest on disk: they are found, shown, followed, chosen and removed as if they were in memory.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

mod common;

use std::{collections::BTreeSet, fs, path::Path};

use common::{Node, in_time, local, request, submit};
use tokio::task::JoinSet;
use workunits::{
    engine::{Caller, Frame, Page, Way},
    request::{Filter, Output, Paging, Submit},
    unit::{Outcome, State, Unit, UnitId},
};

/// Puts a finished unit into a datadir, created at that second of a minute.
fn put(units: &Path, id: &str, second: usize, members: &str) {
    let status = format!(
        "{{\"State\":2,\"Detail\":\"exit status 0\",\"StdoutSize\":3,\"WorkType\":\"cat\",\"ExtraData\":null,\"Format\":1,\"CreatedAt\":\"2026-11-21T10:00:{second:02}Z\",\"EndedAt\":\"2026-11-21T10:01:00Z\"{members}}}\n"
    );
    fs::create_dir(units.join(id)).unwrap();
    fs::write(units.join(id).join("status"), status).unwrap();
    fs::write(units.join(id).join("stdout"), "hi\n").unwrap();
}

fn ids(page: &Page) -> Vec<&str> {
    page.units.iter().map(|(id, _)| id.as_str()).collect()
}

fn first(limit: usize) -> Paging {
    Paging { limit, after: None }
}

#[tokio::test]
async fn a_unit_at_rest_is_followed_watched_canceled_and_released_like_any_other() {
    let node = Node::start().await.restart_after(|units| put(units, "finished", 1, "")).await;
    let id: UnitId = "finished".parse().unwrap();
    assert_eq!(node.end(id).await.1, b"hi\n");
    let mut watch = node.engine.watch("finished", 0, 0, "", &local()).await.unwrap();
    let mut told = Vec::new();
    while let Some(frame) = in_time(watch.next()).await.unwrap() {
        told.push(frame);
    }
    let [Frame::Status(status), Frame::Stdout(output), Frame::End] = &told[..] else { panic!("{told:?}") };
    let status: Unit = serde_json::from_slice(status).unwrap();
    assert_eq!((status.state, &output[..]), (State::Succeeded, &b"hi\n"[..]));
    node.engine.cancel("finished", "", &local()).await.unwrap();
    assert_eq!(node.engine.unit("finished").unwrap().state, State::Succeeded);
    node.engine.release("finished", false, "", &local()).await.unwrap();
    assert!(node.engine.unit("finished").is_err() && !node.dir(id).exists());
}

#[tokio::test]
async fn a_request_finds_the_unit_that_it_made_long_after_that_has_ended() {
    let node = Node::start().await;
    let asked = Submit { extension: request(1), ..submit("cat") };
    let id = node.submit(asked.clone(), b"first").await.unwrap();
    node.end(id).await;
    assert_eq!(node.submit(asked, b"second").await.unwrap(), id);
    assert_eq!(node.end(id).await.1, b"first");
}

#[tokio::test]
async fn a_request_released_from_rest_is_refused_and_its_unit_does_not_come_back() {
    let made_by = format!(",\"Owner\":\"uid:1\",\"RequestID\":\"{:032x}\"", 7);
    let node = Node::start().await.restart_after(|units| put(units, "finished", 1, &made_by)).await;
    let asked = Submit { extension: request(7), ..submit("cat") };
    assert_eq!(node.submit(asked.clone(), b"").await.unwrap().as_str(), "finished");
    node.engine.release("finished", false, "", &local()).await.unwrap();
    assert_eq!(node.submit(asked, b"").await.unwrap_err().code(), "released");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_comes_while_a_unit_at_rest_is_removed_gets_all_of_it_or_hears_that_it_is_gone() {
    let names: Vec<String> = (0..40).map(|n| format!("finish{n:02}")).collect();
    let node =
        Node::start().await.restart_after(|units| names.iter().for_each(|id| put(units, id, 1, ""))).await;
    let mut tasks = JoinSet::new();
    for id in &names {
        for part in 0..4 {
            let (engine, id) = (node.engine.clone(), id.clone());
            tasks.spawn(async move {
                if part == 3 {
                    engine.release(&id, false, "", &local()).await.unwrap();
                    return;
                }
                let Ok(mut follower) = engine.results(&id, 0, Output::Stdout, "", &local()).await else {
                    return;
                };
                let mut all = Vec::new();
                while let Some(bytes) = in_time(follower.next()).await.unwrap() {
                    all.extend_from_slice(&bytes);
                }
                assert!(all.is_empty() || all == b"hi\n", "{all:?}");
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok(()) => {}
            // Two releases of one unit are not made here, and nobody else may break.
            Err(died) => std::panic::resume_unwind(died.into_panic()),
        }
    }
    assert!(node.engine.units().is_empty());
    assert_eq!(common::entries(&node.units_dir()), 0);
}

#[tokio::test]
async fn a_unit_that_cannot_be_read_hides_no_other_and_says_what_is_wrong() {
    let node = Node::start()
        .await
        .restart_after(|units| {
            put(units, "finished", 1, "");
            put(units, "damaged1", 2, "");
            // Neither can be opened, whoever asks.
            fs::create_dir(units.join("loopedin")).unwrap();
            for file in ["status", "status.lock", "spec", "events"] {
                std::os::unix::fs::symlink(file, units.join("loopedin").join(file)).unwrap();
            }
        })
        .await;
    // Damaged after the start, when nothing but its summary is in memory.
    let status = node.units_dir().join("damaged1/status");
    fs::remove_file(&status).unwrap();
    fs::create_dir(&status).unwrap();
    let page = node.engine.page(Filter::default(), first(10)).await.unwrap();
    let shown = |id: &str| page.units.iter().find(|(of, _)| of.as_str() == id).unwrap().1.clone();
    assert_eq!(page.units.len(), 3);
    assert_eq!((shown("finished").state, shown("finished").stdout_size), (State::Succeeded, 3));
    assert_eq!(shown("damaged1").state, State::Succeeded, "that is remembered");
    assert!(shown("damaged1").detail.starts_with("cannot read the unit in "), "{:?}", shown("damaged1"));
    assert_eq!((shown("loopedin").state, shown("loopedin").outcome), (State::Failed, Some(Outcome::Lost)));
    assert!(node.dir("loopedin".parse().unwrap()).exists());
    let refused = node.engine.results("damaged1", 0, Output::Stdout, "", &local()).await.err().unwrap();
    assert!(refused.to_string().contains("damaged1"), "{refused}");
}

#[tokio::test]
async fn pages_show_every_unit_once_newest_first_and_say_when_there_are_no_more() {
    let node = Node::start()
        .await
        .restart_after(|units| {
            for (id, second) in [("aaaaaaaa", 3), ("bbbbbbbb", 1), ("cccccccc", 2), ("dddddddd", 2)] {
                put(units, id, second, "");
            }
        })
        .await;
    let page = node.engine.page(Filter::default(), first(3)).await.unwrap();
    assert_eq!(ids(&page), ["aaaaaaaa", "dddddddd", "cccccccc"]);
    // What came and went since does not matter to those who go on.
    node.engine.release("cccccccc", false, "", &local()).await.unwrap();
    let newest = node.submit(submit("cat"), b"").await.unwrap();
    node.end(newest).await;
    let rest = node.engine.page(Filter::default(), Paging { limit: 3, after: page.next }).await.unwrap();
    assert_eq!((ids(&rest), rest.next), (vec!["bbbbbbbb"], None));
    let all = node.engine.page(Filter::default(), first(4)).await.unwrap();
    assert_eq!((ids(&all)[0], all.next), (newest.as_str(), None), "as many as wanted, and no more");
}

#[tokio::test]
async fn a_long_table_is_paged_through_whatever_the_filter_leaves_of_it() {
    let number = 4200; // more than the table is locked for at once
    let node = Node::start()
        .await
        .restart_after(|units| {
            for n in 0..number {
                let owner = if n % 1000 == 0 { ",\"Owner\":\"uid:7\"" } else { "" };
                put(units, &format!("{n:08}"), n / 100, owner);
            }
        })
        .await;
    for (filter, limit, wanted) in [
        (Filter::default(), 999, number),
        (Filter { owner: Some("uid:7".to_owned()), ..Filter::default() }, 2, 5),
        (Filter { owner: Some("uid:7".to_owned()), ..Filter::default() }, 5, 5),
        (Filter { owner: Some("uid:8".to_owned()), ..Filter::default() }, 5, 0),
    ] {
        let (mut seen, mut paging) = (Vec::new(), first(limit));
        loop {
            let page = node.engine.page(filter.clone(), paging).await.unwrap();
            assert!(page.units.len() <= limit);
            seen.extend(page.units.iter().map(|(id, _)| *id));
            match page.next {
                None => break,
                after => paging.after = after,
            }
        }
        assert!(seen.is_sorted_by(|one, next| one > next), "newest first; here their ids say so too");
        assert_eq!(seen.len(), wanted, "{filter:?}");
        let whole = node
            .engine
            .fold(filter, BTreeSet::new(), |all, id, _| {
                all.insert(id);
            })
            .await
            .unwrap();
        assert_eq!(whole, seen.into_iter().collect());
    }
}

#[tokio::test]
async fn a_filter_tells_units_that_run_from_those_that_ended_at_any_moment() {
    let node = Node::start().await.restart_after(|units| put(units, "finished", 1, "")).await;
    let running = node.sh("exec sleep 1000").await;
    node.running(running).await;
    let find = async |state| {
        let filter = Filter { states: vec![state], ..Filter::default() };
        let page = node.engine.page(filter, first(10)).await.unwrap();
        page.units.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(find(State::Running).await, [running]);
    assert_eq!(find(State::Succeeded).await, ["finished".parse().unwrap()]);
    node.engine.cancel(running.as_str(), "", &local()).await.unwrap();
    node.end(running).await;
    assert_eq!((find(State::Running).await, find(State::Canceled).await), (vec![], vec![running]));
}

#[tokio::test]
async fn a_survey_tells_of_each_unit_when_it_ended_and_how_much_it_wrote() {
    let node = Node::start().await.restart_after(|units| put(units, "finished", 1, "")).await;
    let id = node.sh("echo twelve byte").await;
    node.end(id).await;
    let mut seen = Vec::new();
    node.engine.survey(|id, summary| {
        seen.push((
            id,
            summary.origin.work_type.to_string(),
            summary.standing.output,
            summary.standing.ended,
        ));
    });
    let ended = node.engine.unit(id.as_str()).unwrap().ended_at.as_ref().unwrap().parse().ok();
    let before = "2026-11-21T10:01:00Z".parse().ok();
    assert_eq!(
        seen,
        [(id, "sh".to_owned(), 12, ended), ("finished".parse().unwrap(), "cat".to_owned(), 3, before)]
    );
}

#[tokio::test]
async fn a_finished_unit_of_a_go_node_rests_and_is_found_by_when_its_status_was_written() {
    let status =
        "{\"State\":4,\"Detail\":\"Canceled\",\"StdoutSize\":0,\"WorkType\":\"cat\",\"ExtraData\":null}\n";
    let node = Node::start()
        .await
        .restart_after(|units| {
            fs::create_dir(units.join("ofgonode")).unwrap();
            fs::write(units.join("ofgonode/status"), status).unwrap();
        })
        .await;
    let written = fs::metadata(node.units_dir().join("ofgonode/status")).unwrap().modified().unwrap();
    let since = |since| Filter { since: Some(since), ..Filter::default() };
    let found = node.engine.page(since(written.into()), first(1)).await.unwrap();
    assert_eq!(ids(&found), ["ofgonode"]);
    let later = written + std::time::Duration::from_nanos(1);
    assert_eq!(ids(&node.engine.page(since(later.into()), first(1)).await.unwrap()), [""; 0]);
    assert_eq!(
        fs::read_to_string(node.units_dir().join("ofgonode/status")).unwrap(),
        status,
        "it stays as it was"
    );
    let other = Caller::new(Way::UnixSocket, "uid:2");
    node.engine.release("ofgonode", false, "", &other).await.unwrap();
    assert_eq!(common::entries(&node.units_dir()), 0);
}
