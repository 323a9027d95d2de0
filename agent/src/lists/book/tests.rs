//! A book with a planner, and a kernel that takes everything.

use std::net::IpAddr;
use std::num::NonZeroU32;

use ringwall_node::lists::Bounds;
use ringwall_packet::AddressSet;

use super::*;

const NOW: Duration = Duration::from_secs(1_000);

struct Node {
    book: Book,
    planner: Planner,
}

fn element(text: &str, seconds: u32) -> Element {
    let (network, length) = text.split_once('/').unwrap_or((text, "32"));
    Element { network: network.parse().expect("an address"), length: length.parse().expect("a length"), seconds: NonZeroU32::new(seconds) }
}

fn elements(texts: &[&str]) -> Vec<Element> {
    texts.iter().map(|text| element(text, 0)).collect()
}

fn place(life: u64, revision: u64) -> ListRevision {
    ListRevision { list: "blocks".into(), life, revision }
}

impl Node {
    fn new() -> Self {
        let forbidden: AddressSet = ["192.0.2.7".parse::<IpAddr>().expect("an address")].into_iter().collect();
        let mut node = Self { book: Book::default(), planner: Planner::new(Bounds { forbidden, ..Bounds::default() }) };
        node.book.name(vec![place(1, 0)]);
        node.book.reconciled();
        node
    }

    fn take(&mut self, life: u64, change: Change) -> Option<Refusal> {
        self.book.take(&mut self.planner, List { list: "blocks".into(), life, change }, NOW)
    }

    fn snapshot(&mut self, life: u64, revision: u64, part: u32, last: bool, texts: &[&str]) -> Option<Refusal> {
        self.take(life, Change::Snapshot { revision, part, last, elements: elements(texts) })
    }

    fn delta(&mut self, life: u64, from: u64, to: u64, added: &[&str], removed: &[&str]) -> Option<Refusal> {
        self.take(life, Change::Delta { from, to, added: elements(added), removed: elements(removed) })
    }

    /// The kernel takes the next transaction.
    fn step(&mut self) {
        if let Some(chunk) = self.planner.next(400, NOW) {
            let done = self.planner.done(chunk);
            self.book.enforced(done);
        }
    }

    fn settle(&mut self) -> Vec<ListRevision> {
        while !self.planner.is_settled() {
            self.step();
        }
        self.book.acknowledge()
    }

    fn blocks(&self, text: &str) -> bool {
        self.planner.is_blocked(text.parse().expect("an address"), NOW)
    }
}

fn reason(refusal: Option<Refusal>) -> Option<Reason> {
    refusal.map(|refusal| refusal.reason)
}

#[test]
fn a_list_counts_once_its_last_part_is_there() {
    let mut node = Node::new();
    assert_eq!(node.snapshot(1, 5, 0, false, &["203.0.113.1"]), None);
    assert!(node.settle().is_empty() && !node.blocks("203.0.113.1") && !node.book.is_whole());
    assert_eq!(node.snapshot(1, 5, 1, true, &["203.0.113.2"]), None);
    assert!(node.book.is_whole());
    assert!(node.book.acknowledge().is_empty(), "the kernel does not have it yet");
    assert_eq!(node.settle(), [place(1, 5)]);
    assert!(node.blocks("203.0.113.1") && node.blocks("203.0.113.2"));
    assert_eq!(node.book.revisions(), [place(1, 5)]);
    assert!(node.settle().is_empty(), "it is said once");
}

#[test]
fn what_comes_between_two_parts_is_in_force_at_once_and_in_the_end() {
    let mut node = Node::new();
    node.snapshot(1, 5, 0, false, &["203.0.113.1", "203.0.113.2"]);
    assert_eq!(node.delta(1, 5, 6, &["203.0.113.9"], &["203.0.113.1", "203.0.113.3"]), None);
    assert!(node.blocks("203.0.113.9"), "nobody waits for the rest of the list");
    assert!(node.settle().is_empty(), "but it is not the whole of revision 6");
    node.snapshot(1, 5, 1, true, &["203.0.113.3", "203.0.113.4"]);
    for (address, is_blocked) in [("1", false), ("2", true), ("3", false), ("4", true), ("9", true)] {
        assert_eq!(node.blocks(&format!("203.0.113.{address}")), is_blocked, "{address}");
    }
    assert_eq!(node.settle(), [place(1, 6)]);
}

#[test]
fn nothing_is_acknowledged_of_which_a_part_is_missing_in_the_kernel() {
    let mut node = Node::new();
    let many: Vec<String> = (0..2_000).map(|last| format!("11.0.{}.{}", last / 256, last % 256)).collect();
    node.snapshot(1, 5, 0, true, &many.iter().map(String::as_str).collect::<Vec<_>>());
    node.delta(1, 5, 6, &["203.0.113.9"], &[]);
    node.step();
    assert!(node.book.acknowledge().is_empty(), "the urgent one went first, and the list is not there");
    assert_eq!(node.settle(), [place(1, 6)]);
}

#[test]
fn a_delta_needs_what_it_leads_on_from() {
    let mut node = Node::new();
    assert_eq!(reason(node.delta(1, 4, 5, &["203.0.113.1"], &[])), Some(Reason::Gap));
    node.snapshot(1, 5, 0, true, &["203.0.113.1"]);
    assert_eq!(reason(node.delta(1, 6, 7, &["203.0.113.2"], &[])), Some(Reason::Gap));
    assert_eq!(reason(node.delta(2, 5, 6, &["203.0.113.2"], &[])), Some(Reason::Gap), "of another life");
    assert!(!node.blocks("203.0.113.2"));
    // One that begins before what is here leads to the same: it was told to who had less.
    assert_eq!(node.delta(1, 3, 9, &["203.0.113.3"], &["203.0.113.1"]), None);
    assert!(node.blocks("203.0.113.3") && !node.blocks("203.0.113.1"));
    assert_eq!(node.delta(1, 3, 4, &["203.0.113.4"], &[]), None);
    assert_eq!(node.settle(), [place(1, 9)]);
}

#[test]
fn another_life_is_another_list() {
    let mut node = Node::new();
    node.snapshot(1, 50, 0, true, &["203.0.113.1", "203.0.113.2"]);
    // Not in the kernel yet when a controller that began anew sends its own.
    node.book.begin_session();
    node.book.name(vec![place(2, 3)]);
    assert!(!node.book.is_whole());
    node.snapshot(2, 3, 0, true, &["203.0.113.2"]);
    assert_eq!(node.settle(), [place(2, 3)]);
    assert!(!node.blocks("203.0.113.1") && node.blocks("203.0.113.2"));
    // What was half received when a session ended is nothing.
    node.snapshot(2, 4, 0, false, &[]);
    node.book.begin_session();
    node.book.name(vec![place(2, 4)]);
    assert_eq!(node.snapshot(2, 4, 1, true, &[]), None);
    assert!(node.blocks("203.0.113.2") && node.settle().is_empty());
}

#[test]
fn a_snapshot_that_begins_anew_takes_the_place_of_the_first() {
    let mut node = Node::new();
    node.snapshot(1, 5, 0, false, &["203.0.113.1"]);
    node.snapshot(1, 6, 0, false, &["203.0.113.2"]);
    assert_eq!(node.snapshot(1, 5, 1, true, &["203.0.113.3"]), None, "a part of the first, on its way still");
    assert!(node.settle().is_empty());
    node.snapshot(1, 6, 1, true, &["203.0.113.4"]);
    assert_eq!(node.settle(), [place(1, 6)]);
    assert!(node.blocks("203.0.113.2") && node.blocks("203.0.113.4") && !node.blocks("203.0.113.1") && !node.blocks("203.0.113.3"));
}

#[test]
fn a_list_with_everything_or_with_our_own_address_blocks_neither_and_loses_nothing() {
    let mut node = Node::new();
    node.snapshot(1, 1, 0, true, &["203.0.113.1"]);
    let refusal = node.delta(1, 1, 2, &["0.0.0.0/0", "192.0.2.7", "203.0.113.2", "192.0.2.0/24"], &[]).expect("it is told");
    assert_eq!((refusal.reason, refusal.what), (Reason::Protected, Refused::List(place(1, 2))));
    assert!(refusal.detail.starts_with("0.0.0.0/0 is too wide") && refusal.detail.contains("3 of the update"), "{}", refusal.detail);
    assert_eq!(node.settle(), [place(1, 2)]);
    assert!(node.blocks("203.0.113.1") && node.blocks("203.0.113.2") && node.blocks("192.0.2.8"));
    assert!(!node.blocks("192.0.2.7") && !node.blocks("198.51.100.1"));
    let whole = node.snapshot(1, 3, 0, true, &["::/0", "203.0.113.3"]).expect("it is told");
    assert_eq!(whole.reason, Reason::Protected);
    assert!(node.blocks("203.0.113.3") && !node.blocks("2001:db8::1"));
}

#[test]
fn before_the_kernel_was_looked_at_nothing_is_acknowledged() {
    let mut node = Node::new();
    node.book.is_ours = false;
    node.snapshot(1, 1, 0, true, &["203.0.113.1"]);
    assert!(node.settle().is_empty() && node.book.revisions().is_empty());
    node.book.reconciled();
    assert_eq!(node.settle(), [place(1, 1)]);
}

#[test]
fn what_waits_while_a_list_comes_is_bounded() {
    let mut node = Node::new();
    node.snapshot(1, 1, 0, false, &[]);
    let many: Vec<Element> = (0..10_000u32).map(|last| Element { network: std::net::Ipv4Addr::from_bits(0x0b00_0000 + last).into(), length: 32, seconds: None }).collect();
    let refused = (1..=11u64).find_map(|revision| node.take(1, Change::Delta { from: revision, to: revision + 1, added: many.clone(), removed: Vec::new() }));
    assert_eq!(reason(refused), Some(Reason::Gap));
    assert_eq!(node.snapshot(1, 1, 1, true, &[]), None, "it is not taken for the whole");
    assert!(!node.book.is_whole());
}
