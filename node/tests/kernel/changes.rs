//! Set elements over netlink.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use nix::errno::Errno;
use ringwall_node::kernel::{ChangeError, Edit, Key, Netfilter};
use ringwall_packet::{Family, Protocol};

use crate::namespace::{in_namespace, listed, load, netfilter, ringwall};

const SETS: &str = "table inet ringwall {
    set blocked { type ipv4_addr; flags timeout; size 100000
    }
    set blocked6 { type ipv6_addr; flags timeout
    }
    set armed { typeof meta nfproto; flags timeout
    }
    set probes { type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags timeout
    }
}
";

fn address(text: &str) -> Key {
    Key::new().address(text.parse().expect("an address"))
}

fn add(set: &str, key: Key, seconds: u64) -> Edit<'_> {
    Edit::Add { set, key, timeout: Some(Duration::from_secs(seconds)) }
}

fn keys(netfilter: &mut Netfilter, set: &str) -> BTreeSet<Vec<u8>> {
    let elements = netfilter.elements(&ringwall(), set).expect("elements");
    elements.into_iter().map(|element| element.key).collect()
}

/// What nft shows of a set's elements.
fn shown(set: &str) -> String {
    let sets = listed(&["set", "inet", "ringwall", set], "set");
    sets[0]["elem"].to_string()
}

#[test]
fn elements_of_all_kinds_come_back() {
    in_namespace(|| {
        load(SETS);
        let probe = Key::new()
            .address(IpAddr::from([192, 0, 2, 1]))
            .address(IpAddr::from([192, 0, 2, 2]))
            .protocol(Protocol::TCP)
            .port(443);
        let edits = [
            add("blocked", address("192.0.2.1"), 60),
            Edit::Add { set: "blocked", key: address("192.0.2.2"), timeout: None },
            add("blocked6", address("2001:db8::1"), 120),
            add("armed", Key::new().family(Family::V4), 60),
            add("armed", Key::new().family(Family::V6), 60),
            add("probes", probe, 5),
        ];
        let mut netfilter = netfilter();
        netfilter.change_elements(&ringwall(), &edits).expect("added");

        let elements = netfilter.elements(&ringwall(), "blocked").expect("elements");
        let timed = elements.iter().find(|element| element.key == [192, 0, 2, 1]).expect("it was added");
        assert_eq!(timed.timeout, Some(Duration::from_secs(60)));
        assert!(timed.expires.is_some_and(|left| left <= Duration::from_secs(60) && left > Duration::from_secs(30)));
        let lasting = elements.iter().find(|element| element.key == [192, 0, 2, 2]).expect("it was added");
        assert_eq!((lasting.timeout, lasting.expires), (None, None));
        assert_eq!(keys(&mut netfilter, "probes"), BTreeSet::from([probe.bytes().to_vec()]));
        // What nft reads out of the same bytes.
        assert!(shown("blocked6").contains("2001:db8::1"), "{}", shown("blocked6"));
        assert!(shown("armed").contains("\"ipv4\"") && shown("armed").contains("\"ipv6\""), "{}", shown("armed"));
        assert!(shown("probes").contains(r#"["192.0.2.1","192.0.2.2","tcp",443]"#), "{}", shown("probes"));

        let deletes =
            [Edit::Delete { set: "blocked", key: address("192.0.2.1") }, Edit::Delete { set: "probes", key: probe }];
        netfilter.change_elements(&ringwall(), &deletes).expect("deleted");
        assert_eq!(keys(&mut netfilter, "blocked"), BTreeSet::from([vec![192, 0, 2, 2]]));
        assert_eq!(keys(&mut netfilter, "probes"), BTreeSet::new());
    });
}

#[test]
fn a_batch_is_done_as_a_whole_or_not_at_all() {
    in_namespace(|| {
        load(SETS);
        let mut netfilter = netfilter();
        netfilter.change_elements(&ringwall(), &[]).expect("nothing to do");
        netfilter.change_elements(&ringwall(), &[add("blocked", address("192.0.2.1"), 60)]).expect("added");
        let edits = [
            add("blocked", address("192.0.2.2"), 60),
            Edit::Delete { set: "blocked", key: address("192.0.2.3") },
            Edit::Delete { set: "blocked", key: address("192.0.2.1") },
            Edit::Delete { set: "nowhere", key: address("192.0.2.1") },
            add("blocked", address("2001:db8::1"), 60),
            add("blocked", address("192.0.2.4"), 60),
        ];
        let error = netfilter.change_elements(&ringwall(), &edits).expect_err("three of them can't be done");
        let ChangeError::Refused(refusals) = error else { panic!("{error:?}") };
        let refused: Vec<_> = refusals.iter().map(|refusal| (refusal.edit, refusal.errno)).collect();
        assert_eq!(refused, [(1, Errno::ENOENT), (3, Errno::ENOENT), (4, Errno::EINVAL)]);
        assert_eq!(keys(&mut netfilter, "blocked"), BTreeSet::from([vec![192, 0, 2, 1]]));
        // The socket is as good as before.
        netfilter.change_elements(&ringwall(), &[add("blocked", address("192.0.2.2"), 60)]).expect("added");
    });
}

#[test]
fn the_smallest_timeout_is_not_for_ever() {
    in_namespace(|| {
        load(SETS);
        let mut netfilter = netfilter();
        let edits = [Edit::Add { set: "blocked", key: address("192.0.2.1"), timeout: Some(Duration::ZERO) }];
        netfilter.change_elements(&ringwall(), &edits).expect("added");
        let elements = netfilter.elements(&ringwall(), "blocked").expect("elements");
        assert!(elements.iter().all(|element| element.timeout.is_some()), "{elements:?}");
    });
}

#[test]
fn a_large_batch_is_one_transaction() {
    in_namespace(|| {
        load(SETS);
        let mut netfilter = netfilter();
        let all: Vec<Edit<'_>> =
            (0..50_000u32).map(|i| add("blocked", Key::new().raw(&(0xc633_0000 + i).to_be_bytes()), 600)).collect();
        let before = netfilter.generation().expect("a generation");
        netfilter.change_elements(&ringwall(), &all).expect("added");
        assert_eq!(netfilter.generation().expect("a generation"), before.wrapping_add(1));
        let sets = netfilter.sets(&ringwall()).expect("sets");
        assert_eq!(sets.iter().find(|set| set.name == "blocked").and_then(|set| set.count), Some(50_000));

        let mut edits: Vec<Edit<'_>> = (0..2_000u32)
            .map(|i| Edit::Delete { set: "blocked", key: Key::new().raw(&(0xc633_0000 + i).to_be_bytes()) })
            .collect();
        edits[1_234] = Edit::Delete { set: "blocked", key: address("192.0.2.1") };
        let error = netfilter.change_elements(&ringwall(), &edits).expect_err("one of them isn't there");
        let ChangeError::Refused(refusals) = error else { panic!("{error:?}") };
        assert_eq!(refusals.iter().map(|refusal| refusal.edit).collect::<Vec<_>>(), [1_234]);
    });
}

#[test]
fn every_refusal_of_a_small_batch_is_told() {
    in_namespace(|| {
        load(SETS);
        let edits: Vec<Edit<'_>> =
            (0..1024u32).map(|i| Edit::Delete { set: "blocked", key: Key::new().raw(&i.to_be_bytes()) }).collect();
        let error = netfilter().change_elements(&ringwall(), &edits).expect_err("none of them is there");
        let ChangeError::Refused(refusals) = error else { panic!("{error:?}") };
        assert!(refusals.iter().map(|refusal| refusal.edit).eq(0..1024));
    });
}
