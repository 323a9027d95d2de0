//! Threads for what waits for the kernel or the disk.
//!
//! In: actions, one after the other; the kernel's word of changes. Out: events. Never: a network namespace other than that of the thread
//! that began it.

use std::net::IpAddr;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringwall_node::apply::{Hands, Load};
use ringwall_node::kernel::{Monitor, Netfilter};
use ringwall_node::reconciler::{Action, Event, Process};
use ringwall_packet::Family;
use ringwall_ruleset::nftables::{Loading, TABLE, name_set};
use tokio::sync::mpsc::Sender;

use crate::edge;
use crate::lists::{Lists, Told};
use crate::names::Names;
use crate::shell::Settings;

/// Carries out actions until there is nobody who gives some.
pub fn run(settings: &Settings, lists: &Lists, names: &Names, mut netfilter: Netfilter, actions: &Receiver<Action>, events: &Sender<Event>) {
    while let Ok(action) = actions.recv() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut hands =
            Hands { nft: &settings.nft, netfilter: &mut netfilter, folder: &settings.folder, read: edge::ruleset, now };
        let event = match action {
            Action::Persist(assignment) => hands.persist(&assignment),
            Action::Load(assignment) => {
                let ruleset = edge::ruleset(&assignment.ruleset);
                if let Ok(ruleset) = &ruleset {
                    lists.blocking_tell(Told::Ruleset(ruleset.protected.union(&ruleset.local)));
                }
                let proof = |loadings: &[Loading<'_>]| (settings.proof)(ruleset.as_ref().map_err(String::as_str)?, loadings);
                let load = Load { ways_in: &settings.ways_in, answers: names.answers(), proof: &proof };
                hands.load(&assignment, load)
            }
            Action::ConfirmInKernel(generation) => hands.confirm(generation),
            Action::Rollback(generation) => hands.rollback(generation),
            Action::ReadKernel => hands.kernel().map_or(Event::KernelNotRead, Event::KernelRead),
            Action::Heal(generation) => hands.heal(generation, &settings.floor),
            Action::Remove => hands.remove(),
            Action::Refresh { generations, name, addresses, seconds } => {
                for generation in generations {
                    refresh(settings, &name_set(generation, &name, Family::V4), &addresses, Family::V4, seconds);
                    refresh(settings, &name_set(generation, &name, Family::V6), &addresses, Family::V6, seconds);
                }
                continue;
            }
            _ => continue,
        };
        if events.blocking_send(event).is_err() {
            return;
        }
    }
}

/// Tells of changes that others made. What the nft program does for us is told, too: it is read, and found well.
pub fn watch(mut monitor: Monitor, events: &Sender<Event>) {
    const LOOK_UP: Duration = Duration::from_secs(1);
    while !events.is_closed() {
        let process = match monitor.next(Instant::now() + LOOK_UP) {
            Ok(None) => continue,
            Ok(Some(change)) => change.process,
            // It is read now and then without.
            Err(_) => return,
        };
        let process = process.map(|(name, id)| Process { name, id });
        // Elements that we set ourselves are no rules. The kernel names the thread.
        if process.as_ref().is_some_and(|process| std::path::Path::new("/proc/self/task").join(process.id.to_string()).exists()) {
            continue;
        }
        // One that waits already is as good as two.
        let _ = events.try_send(Event::ForeignChange(process));
    }
}

/// Adding again what is there would keep its old end: deleted and added in one transaction.
fn refresh(settings: &Settings, set: &str, addresses: &[IpAddr], family: Family, seconds: u32) {
    let keys: Vec<String> = addresses.iter().filter(|address| Family::of(**address) == family).map(IpAddr::to_string).collect();
    if keys.is_empty() {
        return;
    }
    let timed: Vec<String> = keys.iter().map(|key| format!("{key} timeout {seconds}s")).collect();
    let (keys, timed) = (keys.join(", "), timed.join(", "));
    let text = format!(
        "add element inet {TABLE} {set} {{ {keys} }}\ndelete element inet {TABLE} {set} {{ {keys} }}\nadd element inet {TABLE} {set} {{ {timed} }}\n"
    );
    // A generation that is gone has no set; the next answer comes soon.
    let _ = settings.nft.load(&text);
}
