//! `kill -9` at any moment: the old or the new ruleset is whole, and `status` says which.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::{policy, small};
use crate::acceptance::rig::{Rig, SOON, folder, ip, until};

/// One port is open and the other tells that it is shut, so that no probe has to wait.
fn one_open(open: u16, shut: u16) -> String {
    policy(&format!(
        "  - allow: users -> node\n    services: [tcp/{open}]\n    id: opens-{open}\n\
         \x20 - deny: users -> node\n    services: [tcp/{shut}]\n    reject: true\n    id: shuts-{shut}\n"
    ))
}

fn reached(rig: &Rig) -> Vec<u16> {
    let open = |port: &u16| {
        let to = SocketAddr::new(ip("192.0.2.10"), *port);
        rig.host("user").run(|| TcpStream::connect_timeout(&to, SOON).is_ok()).unwrap()
    };
    [80, 81].into_iter().filter(open).collect()
}

/// The generation, and the port that it opens by its rules' names; the same before and after the
/// probe, since an nft whose starter was killed may still be at work.
fn settled(rig: &Rig) -> (String, u16, Vec<u16>) {
    loop {
        let status = rig.status("node");
        let reached = reached(rig);
        let again = rig.status("node");
        if status["generation"] != again["generation"] {
            continue;
        }
        let rules = status["rules"].as_array().unwrap();
        let opens = rules.iter().filter_map(|rule| rule["id"].as_str()?.strip_prefix("opens-")?.parse().ok());
        let opens: Vec<u16> = opens.collect();
        assert_eq!(opens.len(), 1, "{status:#}");
        return (status["generation"].as_str().unwrap().to_owned(), opens[0], reached);
    }
}

/// Kills spread over twice the time that a whole run takes, however busy the machine is.
fn kill_at_many_points(confirm: &[&str], path_variable: Option<&str>, kills: u32) {
    let rig = small();
    let _listeners = [80, 81].map(|port| {
        rig.host("node").run(|| TcpListener::bind(SocketAddr::new(ip("192.0.2.10"), port)).unwrap()).unwrap()
    });
    let files = [rig.write("a.yaml", &one_open(80, 81)), rig.write("b.yaml", &one_open(81, 80))];
    rig.enforce(&["node"], &one_open(80, 81), &[]);
    let mut seen = std::collections::BTreeSet::new();
    let mut whole = None;
    for turn in 0..=kills as usize {
        let arguments = [&["apply", &files[(turn + 1) % 2], "--no-management", "--learn", "0"][..], confirm].concat();
        let mut command = rig.command("node", &arguments);
        if let Some(path) = path_variable {
            command.env("PATH", path);
        }
        let mut tool = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        // The first run is let to its end.
        let delay = whole.map(|whole: Duration| whole * turn as u32 * 2 / kills);
        let begun = Instant::now();
        if let Some(delay) = delay {
            std::thread::sleep(delay);
            tool.kill().unwrap();
        }
        tool.wait().unwrap();
        whole.get_or_insert(begun.elapsed());
        let (generation, opens, reached) = settled(&rig);
        assert_eq!(reached, [opens], "{generation} after {delay:?}");
        seen.insert(generation);
        // What was left is kept or ended; a killed program's lock goes a moment after it.
        let end = if confirm == ["--no-confirm"] { "confirm" } else { "rollback" };
        assert!(until(SOON, || rig.ringwall("node", &[end]).code != Some(3)));
        assert_eq!(rig.status("node")["generation"], rig.status("node")["confirmed"]);
    }
    assert!(seen.len() > 1, "no kill came after a load: {seen:?}");
    rig.enforce(&["node"], &one_open(80, 81), &[]);
    assert_eq!(settled(&rig).1, 80);
    assert_eq!(rig.status("node")["drift"], false);
}

#[test]
fn while_it_applies_for_good() {
    kill_at_many_points(&["--no-confirm"], None, 20);
}

#[test]
fn while_it_applies_on_trial() {
    kill_at_many_points(&["--confirm", "60s"], None, 20);
}

/// With nft slowed down, kills fall between its start and its load, and after its load and before
/// its end.
#[test]
fn while_nft_is_at_work() {
    let folder = folder();
    let path = folder.join("nft");
    std::fs::write(&path, "#!/bin/sh\nsleep 0.02\n/usr/sbin/nft \"$@\"\nstatus=$?\nsleep 0.02\nexit $status\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.display());
    kill_at_many_points(&["--no-confirm"], Some(&path), 16);
}
