//! What only a store in a file can do, and what can be wrong with a file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ringwall_controller::audit::Actor;
use ringwall_controller::change::Change;
use ringwall_controller::id::{AuditNumber, Epoch, FleetId};
use ringwall_controller::store::{Error, Keep, Read as _, Sqlite, Store as _, backup, restore};
use ringwall_controller::time::Time;
use sqlx::{Connection as _, SqliteConnection};

use crate::store::parts::{KEEP, access, agent_id, apply, at, changed, commit, enrol, event, fleet, node, seen, token, write};
use crate::store::{Folder, block_on, open};

async fn sql(path: &Path, statement: &'static str) {
    let mut connection = SqliteConnection::connect(path.to_str().expect("a path in UTF-8")).await.expect("a connection");
    sqlx::raw_sql(statement).execute(&mut connection).await.expect("a statement");
    connection.close().await.expect("closed");
}

async fn fails(path: &Path) -> Error {
    Sqlite::open(path, KEEP).await.err().expect("an error")
}

#[test]
fn what_was_written_is_there_when_it_is_opened_again() {
    let folder = Folder::new();
    let path = folder.path("store");
    block_on(async {
        let store = open(&path, KEEP).await;
        apply(&store, Change::Found(fleet())).await;
        apply(&store, Change::CreateToken(token(1))).await;
        assert!(matches!(fails(&path).await, Error::InUse(used) if used == path));
        store.close().await;
        let store = open(&path, Keep::default()).await;
        assert_eq!(store.read().await.expect("rows").tokens().await.expect("tokens"), [token(1)]);
    });
    for entry in fs::read_dir(&folder.0).expect("the folder") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let folder = Folder::new();
    block_on(async {
        let newer = folder.path("newer");
        open(&newer, KEEP).await.close().await;
        sql(&newer, "PRAGMA user_version = 99").await;
        let error = fails(&newer).await;
        assert_eq!(error.to_string(), "the store has schema 99, and this version knows 1 at most: a newer controller wrote it");
        let foreign = folder.path("foreign");
        fs::write(&foreign, "").expect("a file");
        sql(&foreign, "CREATE TABLE theirs (a)").await;
        let before = fs::read(&foreign).expect("a file");
        assert!(matches!(fails(&foreign).await, Error::Foreign(_)));
        assert_eq!(fs::read(&foreign).expect("a file"), before);
        let text = folder.path("text");
        fs::write(&text, "policy: not a database, though long enough to be one\n".repeat(99)).expect("a file");
        assert!(matches!(fails(&text).await, Error::Damaged(_)));
        let gone = folder.path("no/such/folder");
        assert!(matches!(fails(&gone).await, Error::File { .. }));
    });
}

#[test]
fn the_audit_log_can_only_grow() {
    let folder = Folder::new();
    let path = folder.path("store");
    block_on(async {
        let store = open(&path, KEEP).await;
        apply(&store, Change::CreateToken(token(1))).await;
        store.close().await;
        let mut connection = SqliteConnection::connect(path.to_str().expect("a path")).await.expect("a connection");
        for statement in ["DELETE FROM audit", "UPDATE audit SET who = '\"controller\"'"] {
            let error = sqlx::raw_sql(statement).execute(&mut connection).await.expect_err("a trigger");
            assert!(error.to_string().contains("only added to"), "{error}");
        }
    });
}

#[test]
fn damaged_rows_are_errors() {
    let folder = Folder::new();
    let path = folder.path("store");
    block_on(async {
        let store = open(&path, KEEP).await;
        apply(&store, Change::CreateToken(token(1))).await;
        for (damage, part) in [
            ("UPDATE tokens SET labels = '{'", "EOF"),
            ("UPDATE tokens SET labels = '{}', node = 'a b'", "a node's name"),
            ("UPDATE tokens SET node = NULL, uses = 99999999999", "`uses`"),
            ("UPDATE tokens SET uses = 2, secret = 'abc'", "a SHA-256 digest"),
        ] {
            sql(&path, damage).await;
            let error = store.read().await.expect("rows").tokens().await.expect_err(damage);
            assert!(matches!(&error, Error::Damaged(text) if text.contains(part)), "{damage}: {error}");
        }
    });
}

#[test]
fn readers_do_not_wait_for_a_writer() {
    let folder = Folder::new();
    let path = folder.path("store");
    block_on(async {
        let store = open(&path, KEEP).await;
        apply(&store, Change::CreateToken(token(1))).await;
        let mut other = SqliteConnection::connect(path.to_str().expect("a path")).await.expect("a connection");
        sqlx::raw_sql("BEGIN EXCLUSIVE; DELETE FROM counters").execute(&mut other).await.expect("a transaction");
        assert_eq!(store.read().await.expect("rows").tokens().await.expect("tokens").len(), 1);
        sqlx::raw_sql("COMMIT").execute(&mut other).await.expect("done");
    });
}

#[test]
fn a_backup_is_of_one_moment_and_is_made_while_others_write() {
    let folder = Folder::new();
    let (path, copy) = (folder.path("store"), folder.path("backup"));
    block_on(async {
        let store = std::sync::Arc::new(open(&path, KEEP).await);
        apply(&*store, Change::Found(fleet())).await;
        let writer = tokio::spawn({
            let store = store.clone();
            async move {
                for number in 0..200 {
                    apply(&*store, commit(&number.to_string())).await;
                }
            }
        });
        store.backup(&copy).await.expect("a backup");
        let again = store.backup(&copy).await.expect_err("it exists");
        assert!(matches!(again, Error::File { path, .. } if path == copy));
        writer.await.expect("the writer");
        assert_eq!(fs::metadata(&copy).expect("a file").permissions().mode() & 0o777, 0o600);
        let copied = open(&copy, KEEP).await;
        let mut rows = copied.read().await.expect("rows");
        let revisions = rows.revisions(None, 1000).await.expect("revisions").len();
        assert_eq!(rows.audit(AuditNumber(0), 1000).await.expect("entries").len(), revisions + 1, "whole transactions only");
    });
}

fn ann() -> Actor {
    Actor::Local("ann".to_owned())
}

#[test]
fn a_restored_store_is_newer_and_gives_nothing_back_that_was_withdrawn() {
    let folder = Folder::new();
    let (path, copy) = (folder.path("store"), folder.path("backup"));
    block_on(async {
        let store = open(&path, KEEP).await;
        for change in [
            Change::Found(fleet()),
            Change::CreateToken(token(1)),
            enrol(1, 1),
            enrol(1, 2),
            Change::CreateToken(token(2)),
            Change::CreateAccess(access(1)),
            Change::CreateAccess(access(2)),
            commit("a"),
        ] {
            apply(&store, change).await;
        }
        store.backup(&copy).await.expect("a backup");
        apply(&store, Change::Revoke { agent: agent_id(1), reason: "stolen".to_owned() }).await;
        apply(&store, Change::RevokeAccess(access(1).id)).await;
        apply(&store, commit("b")).await;
        let in_use = restore(&copy, &path, ann(), at(100)).await.expect_err("a controller has it");
        assert!(matches!(in_use, Error::InUse(_)));
        // As a crash leaves it, with what was written last in the log alone.
        let kept = fs::read(folder.path("store-wal")).expect("a log");
        assert!(!kept.is_empty());
        let (crashed, crashed_wal) = (folder.path("crashed"), folder.path("crashed-wal"));
        fs::copy(&path, &crashed).and_then(|_| fs::copy(folder.path("store-wal"), &crashed_wal)).expect("copies");
        store.close().await;
        fs::copy(&crashed, &path).and_then(|_| fs::copy(&crashed_wal, folder.path("store-wal"))).expect("copies");

        let restored = restore(&copy, &path, ann(), at(100)).await.expect("a restore");
        assert_eq!(restored.epoch, Epoch(100), "the time is higher than the next number");
        let store = open(&path, KEEP).await;
        let mut rows = store.read().await.expect("rows");
        assert_eq!(rows.fleet().await.expect("rows"), Some(restored));
        assert_eq!(rows.revisions(None, 9).await.expect("revisions").len(), 1, "as it was");
        let revoked: Vec<_> = rows.agents().await.expect("agents").iter().map(|agent| agent.is_revoked()).collect();
        assert_eq!(revoked, [true, false]);
        assert!(rows.tokens().await.expect("tokens").iter().all(|token| token.revoked == Some(at(100))));
        let withdrawn: Vec<_> = rows.accesses().await.expect("rows").iter().map(|access| access.revoked).collect();
        assert_eq!(withdrawn, [Some(at(100)), None]);
        let entries = rows.audit(AuditNumber(0), 99).await.expect("entries");
        let restored: Vec<_> = entries.iter().filter(|entry| entry.change == "restore").collect();
        assert_eq!(restored.len(), 5, "fleet, two tokens, an agent, an API token");
        assert!(restored.iter().all(|entry| entry.who == ann()));
        drop(rows);
        store.close().await;

        // The replaced store is whole, with what was in its log.
        for ending in ["", "-wal"] {
            let kept = folder.path(&format!("store.before-restore{ending}"));
            fs::rename(kept, folder.path(&format!("former{ending}"))).expect("a kept file");
        }
        let former = open(&folder.path("former"), KEEP).await;
        assert_eq!(former.read().await.expect("rows").revisions(None, 9).await.expect("revisions").len(), 2);
        former.close().await;

        // Once more, from the same backup, at the same time.
        assert_eq!(restore(&copy, &path, ann(), at(100)).await.expect("a restore").epoch, Epoch(101));
        // Without the store that was there.
        fs::remove_file(&path).expect("gone");
        assert_eq!(restore(&copy, &path, ann(), at(200)).await.expect("a restore").epoch, Epoch(200));
    });
}

#[test]
fn what_is_no_backup_of_this_fleet_replaces_nothing() {
    let folder = Folder::new();
    let path = folder.path("store");
    block_on(async {
        let store = open(&path, KEEP).await;
        apply(&store, Change::Found(fleet())).await;
        store.close().await;
        let other = folder.path("other");
        let theirs = open(&other, KEEP).await;
        apply(&theirs, Change::Found(ringwall_controller::fleet::Fleet { id: FleetId::new([2; 16]), ..fleet() })).await;
        theirs.close().await;
        let text = folder.path("text");
        fs::write(&text, "not a database".repeat(1000)).expect("a file");
        let before = fs::read(&path).expect("a file");
        assert!(matches!(restore(&other, &path, ann(), at(1)).await, Err(Error::OtherFleet { .. })));
        assert!(matches!(restore(&text, &path, ann(), at(1)).await, Err(Error::Damaged(_))));
        assert!(matches!(restore(&folder.path("none"), &path, ann(), at(1)).await, Err(Error::File { .. })));
        assert_eq!(fs::read(&path).expect("a file"), before);
    });
}

#[test]
fn a_damaged_store_can_be_replaced() {
    let folder = Folder::new();
    let (path, copy) = (folder.path("store"), folder.path("backup"));
    block_on(async {
        let store = open(&path, KEEP).await;
        apply(&store, Change::Found(fleet())).await;
        store.close().await;
        backup(&path, &copy).await.expect("a backup of a store that nobody uses");
        fs::write(&path, "x".repeat(10_000)).expect("damage");
        fs::write(folder.path("store-wal"), "y".repeat(10_000)).expect("damage");
        let fleet = restore(&copy, &path, ann(), Time::from_millisecond(-1)).await.expect("a restore");
        assert_eq!(fleet.epoch, Epoch(2));
        open(&path, KEEP).await.close().await;
        assert_eq!(fs::read(folder.path("store.before-restore")).expect("kept").len(), 10_000);
        assert_eq!(fs::read(folder.path("store.before-restore-wal")).expect("kept").len(), 10_000);
    });
}

/// Figures for docs and budgets; they fail only when an order of magnitude is lost.
#[test]
fn a_thousand_nodes_are_assigned_in_one_write() {
    let folder = Folder::new();
    block_on(async {
        let store = open(&folder.path("store"), KEEP).await;
        apply(&store, commit("a")).await;
        let new = |number: u32| ringwall_controller::assignment::NewAssignment {
            node: node(&format!("node-{number}")),
            revision: ringwall_controller::id::RevisionNumber(1),
            ruleset: std::sync::Arc::from(vec![7; 4096]),
        };
        let begun = std::time::Instant::now();
        write(&store, changed(Change::Assign((0..1000).map(new).collect()))).await.expect("assignments");
        let assigned = begun.elapsed();
        let begun = std::time::Instant::now();
        for second in 0..100 {
            write(&store, seen(second, event("drift"))).await.expect("an event");
        }
        let events = begun.elapsed();
        println!("1,000 assignments of 4 KiB in one write: {assigned:?}; 100 writes of one event: {events:?}");
        assert!(assigned.as_secs() < 30 && events.as_secs() < 30);
    });
}
