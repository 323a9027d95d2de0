//! A state folder that is not as it was left: half a file, another shape, a newer version, nothing. Real nftables, a real
//! controller on loopback.
//!
//! Whatever is damaged: nothing panics, nothing opens, the file is named and kept, and the agent goes on with what the
//! controller gives it.

use std::fs;
use std::path::{Path, PathBuf};

use ringwall_node::apply::{State, damaged, set_aside};
use ringwall_protocol::{Ack, Happened, Place, Stage, ToAgent, ToController};
use ringwall_ruleset::nftables::Generation;

use crate::session::namespace::load;
use crate::session::{Folder, Told, assignment, controller, kernel, run, start, told, until};

type Damage = fn(&str) -> String;

const DAMAGES: [(&str, Damage); 5] = [
    ("half", |text| text[..text.len() / 2].into()),
    ("empty", |_| String::new()),
    ("another type", |_| "[]".into()),
    ("another shape", |text| text.replace("\"schema\"", "\"shape\"")),
    ("a newer version", |text| text.replacen("/1\"", "/2\"", 1)),
];

const FILES: [&str; 3] = ["state.json", "taken.json", "g1/record.json"];

fn confirmed(told: &Told, wanted: u64) -> bool {
    let heard = told.heard.lock().unwrap();
    heard.iter().any(|(_, message)| {
        matches!(message, ToController::Ack(Ack::Assignment { place: Place { number, .. }, stage: Stage::Confirmed, .. }) if *number == wanted)
    })
}

fn is_told(told: &Told, path: &Path) -> bool {
    let (heard, path) = (told.heard.lock().unwrap(), path.display().to_string());
    heard.iter().any(|(_, message)| {
        matches!(message, ToController::Event(event) if matches!(&event.happened, Happened::Trouble { kind, detail } if kind == "state" && detail.contains(&path)))
    })
}

/// An agent that has confirmed its first assignment, and is gone.
async fn with_a_generation(folder: &Folder) {
    let told = told(vec![ToAgent::Assignment(assignment(1)).into()]);
    let (_server, way) = controller(told.clone()).await;
    let mut shell = start(folder);
    shell.use_controller(way);
    until(&mut shell, |_| confirmed(&told, 1)).await;
}

fn damage(folder: &Folder, file: &str, damage: Damage) -> PathBuf {
    let path = folder.0.join(file);
    let text = fs::read_to_string(&path).expect("it was written");
    fs::write(&path, damage(&text)).expect("it is damaged");
    path
}

/// The agent begins with damaged files, on rules that are there or not; then the controller gives it this assignment.
async fn goes_on(name: &str, files: &[&str], how: Damage, is_flushed: bool, next: u64) {
    let folder = Folder::new(name);
    with_a_generation(&folder).await;
    let paths: Vec<PathBuf> = files.iter().map(|file| damage(&folder, file, how)).collect();
    if is_flushed {
        load("delete table inet ringwall\ndelete table inet ringwall_blocks\n");
    }
    let mut shell = start(&folder);
    if !is_flushed {
        assert_eq!(kernel(&folder).current, Some(Generation(1)), "what is enforced stays");
    }
    // Closed, as soon as the agent had its turn.
    until(&mut shell, |_| kernel(&folder).current.is_some()).await;
    for path in &paths {
        let aside = path.with_extension("json.damaged");
        assert!(aside.exists(), "{} is kept", aside.display());
    }
    let told = told(vec![ToAgent::Assignment(assignment(next)).into()]);
    let (_server, way) = controller(told.clone()).await;
    shell.use_controller(way);
    until(&mut shell, |_| confirmed(&told, next) && paths.iter().all(|path| is_told(&told, path))).await;
    until(&mut shell, |_| kernel(&folder).is_intact).await;
    drop(shell);
    assert_eq!(damaged(&folder.0).iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0], "it is whole again");
}

#[test]
fn each_file_may_be_damaged_in_any_way() {
    run(async || {
        for file in FILES {
            for (name, how) in DAMAGES {
                for is_flushed in [false, true] {
                    eprintln!("{file}: {name}, flushed: {is_flushed}");
                    goes_on("damaged", &[file], how, is_flushed, 2).await;
                    load("delete table inet ringwall\ndelete table inet ringwall_blocks\n");
                }
            }
        }
    });
}

#[test]
fn all_files_may_be_damaged_and_the_same_assignment_comes_again() {
    run(async || {
        for is_flushed in [false, true] {
            for files in [&["state.json"][..], &["taken.json"], &["state.json", "taken.json"], &FILES] {
                eprintln!("{files:?}, flushed: {is_flushed}");
                goes_on("again", files, DAMAGES[0].1, is_flushed, 1).await;
                load("delete table inet ringwall\ndelete table inet ringwall_blocks\n");
            }
        }
    });
}

/// Bits that fell over on the disk: it is JSON, and not the ruleset that was given.
#[test]
fn a_ruleset_that_is_not_that_of_its_digest_is_not_loaded() {
    run(async || {
        let folder = Folder::new("bits");
        with_a_generation(&folder).await;
        // A later one that was taken over and not loaded yet.
        let later = edge_assignment(2);
        State::open(&folder.0).expect("a folder").take(&(&later).into()).expect("it is written");
        damage(&folder, "taken.json", |text| text.replacen("\"ruleset\": \"0", "\"ruleset\": \"1", 1));
        let text = fs::read_to_string(folder.0.join("taken.json")).expect("a file");
        assert!(text.contains("\"ruleset\": \"1"), "{text}");
        let mut shell = start(&folder);
        until(&mut shell, |_| kernel(&folder).is_intact).await;
        assert_eq!(shell.reconciler().taken(), None);
        assert_eq!(kernel(&folder).trial, None);
    });
}

fn edge_assignment(number: u64) -> ringwall_node::reconciler::Assignment {
    ringwall_agent::edge::assignment(assignment(number)).expect("an assignment")
}

#[test]
fn what_can_be_used_is_not_touched() {
    run(async || {
        let folder = Folder::new("whole");
        with_a_generation(&folder).await;
        assert!(set_aside(&folder.0).expect("it can be read").is_empty());
        assert!(damaged(&folder.0).is_empty());
        fs::remove_file(folder.0.join("g1/boot.nft")).expect("a file");
        assert_eq!(damaged(&folder.0).len(), 1, "what is loaded at boot is missed");
    });
}
