//! The digest of a table: still under traffic, moved by every foreign edit.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ringwall_node::kernel::{Digest, Edit, Key};

use crate::namespace::{in_namespace, load, netfilter, ringwall, send_udp};

const TABLE: &str = "table inet ringwall {
    counter g1_seen { }
    set blocked { type ipv4_addr; flags timeout
    }
    set names { type ipv4_addr
    }
    set asked { type ipv4_addr; flags dynamic, timeout; timeout 1m
    }
    map g1_verdicts { type ipv4_addr . inet_service : verdict; elements = { 192.0.2.1 . 22 : accept, 192.0.2.2 . 22 : drop }
    }
    map g1_ranges { type ipv4_addr . inet_service : verdict; flags interval; elements = { 192.0.2.0/24 . 1-9 : accept }
    }
    chain g1_in {
        counter name \"g1_seen\"
        counter comment \"anonymous\"
        ip saddr @blocked drop
        update @asked { ip saddr timeout 1m }
        limit rate 5/second burst 5 packets counter
        quota over 100 bytes counter
        udp dport { 7, 9 } counter
        ip saddr . udp dport vmap @g1_verdicts
        ip saddr . udp dport vmap @g1_ranges
    }
    chain g2_in { accept
    }
    chain input { type filter hook input priority 0; policy accept
        goto g1_in comment \"g1\"
    }
}
";

fn digest() -> Digest {
    let selects = |name: &str| name.starts_with("g1_") || ["input", "theirs"].contains(&name);
    let digest = netfilter().digest(&ringwall(), selects).expect("a digest");
    digest.expect("the table is there")
}

#[test]
fn traffic_and_blocks_leave_it_as_it_is() {
    in_namespace(|| {
        assert_eq!(netfilter().digest(&ringwall(), |_| true).expect("no table is no error"), None);
        load(TABLE);
        let before = digest();
        send_udp(9, 20);
        let blocked = [
            Edit::Add { set: "blocked", key: Key::new().address([192, 0, 2, 9].into()), timeout: None },
            Edit::Add { set: "names", key: Key::new().address([192, 0, 2, 9].into()), timeout: None },
        ];
        netfilter().change_elements(&ringwall(), &blocked).expect("added");
        assert!(netfilter().counters(&ringwall()).expect("counters")["g1_seen"].packets >= 20);
        assert_eq!(digest(), before);
        // The next generation is loaded beside it.
        load("table inet ringwall { chain g3_in { tcp dport { 1, 2 } drop; }; set g3_set { type mark; }; }\n");
        assert_eq!(digest(), before);
        load("table inet foreign { chain input { type filter hook input priority 0; policy drop; }; }\n");
        assert_eq!(digest(), before);
    });
}

#[test]
fn the_same_text_elsewhere_has_the_same_digest() {
    let first = in_namespace(|| {
        load(TABLE);
        digest()
    });
    let second = in_namespace(|| {
        // Other handles and other numbers of anonymous sets.
        load("table inet ringwall { chain g0 { tcp dport { 1, 2 } accept; udp dport { 3, 4 } accept; }; }\n");
        load(TABLE);
        digest()
    });
    assert_eq!(first, second);
}

#[test]
fn every_foreign_edit_moves_it() {
    let edits = [
        ("a rule added", "add rule inet ringwall g1_in accept\n"),
        ("a rule inserted", "insert rule inet ringwall g1_in ip saddr 192.0.2.7 accept\n"),
        ("a base chain's rule added", "insert rule inet ringwall input accept\n"),
        ("a chain emptied", "flush chain inet ringwall g1_in\n"),
        ("a policy", "chain inet ringwall input { policy drop; }\n"),
        (
            "a base chain added",
            "add chain inet ringwall theirs { type filter hook input priority -5; policy accept; }\n",
        ),
        ("a chain added", "add chain inet ringwall g1_more\n"),
        ("an element added", "add element inet ringwall g1_verdicts { 192.0.2.3 . 22 : accept }\n"),
        ("an element deleted", "delete element inet ringwall g1_verdicts { 192.0.2.1 . 22 }\n"),
        ("an interval added", "add element inet ringwall g1_ranges { 198.51.100.0/24 . 1-9 : accept }\n"),
        (
            "an element's verdict",
            "delete element inet ringwall g1_verdicts { 192.0.2.2 . 22 : drop }\nadd element inet ringwall g1_verdicts { 192.0.2.2 . 22 : accept }\n",
        ),
        ("the table asleep", "table inet ringwall { flags dormant; }\n"),
    ];
    let mut seen = BTreeSet::new();
    for (name, edit) in edits {
        let (before, after) = in_namespace(|| {
            load(TABLE);
            let before = digest();
            load(edit);
            (before, digest())
        });
        assert_ne!(before, after, "{name}");
        assert!(seen.insert(after.to_string()), "{name}: the same as another edit");
    }
}

#[test]
fn a_replaced_rule_moves_it_though_only_its_anonymous_set_differs() {
    in_namespace(|| {
        let table = |ports: &str| {
            format!("table inet ringwall {{\n chain g1_in {{\n tcp dport {{ {ports} }} accept\n }}\n}}\n")
        };
        load(&table("22, 80"));
        let before = digest();
        load("flush chain inet ringwall g1_in\n");
        load(&table("23, 80"));
        assert_ne!(digest(), before);
        load("flush chain inet ringwall g1_in\n");
        load(&table("80, 22"));
        assert_eq!(digest(), before);
    });
}

#[test]
fn reads_settle_while_other_programs_keep_changing_sets() {
    in_namespace(|| {
        load(TABLE);
        let before = digest();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let changing = scope.spawn(|| {
                let mut netfilter = netfilter();
                let mut changes = 0u32;
                while !done.load(Ordering::Relaxed) {
                    let key = Key::new().raw(&changes.to_be_bytes());
                    let edit = Edit::Add { set: "blocked", key, timeout: Some(Duration::from_secs(60)) };
                    netfilter.change_elements(&ringwall(), &[edit]).expect("added");
                    changes += 1;
                }
                changes
            });
            // Whatever happens here must end the other thread.
            let reads = std::panic::catch_unwind(|| {
                for _ in 0..50 {
                    assert_eq!(digest(), before);
                    assert_eq!(netfilter().chains_of(&ringwall()).expect("chains").len(), 3);
                    assert_eq!(netfilter().counters(&ringwall()).expect("counters").len(), 1);
                }
            });
            done.store(true, Ordering::Relaxed);
            assert!(changing.join().expect("changed") > 50);
            reads.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    });
}
