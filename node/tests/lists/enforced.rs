//! Lists in the real kernel.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use ringwall_lab::frame::{Details, packet};
use ringwall_lab::{Host, Lab, Topology};
use ringwall_node::kernel::{Netfilter, TableId};
use ringwall_node::lists::{Abilities, Entry, Found, Lane, LaneError, Planner, Prefix};
use ringwall_packet::{Flow, Upper};
use ringwall_ruleset::nftables::blocks;

use crate::namespace::{in_namespace, load, netfilter};

const NEW: Abilities = Abilities { destroy: true, update: true };
const OLD: Abilities = Abilities { destroy: false, update: false };
const NOW: Duration = Duration::from_secs(100);

fn prefix(text: &str) -> Prefix {
    match text.split_once('/') {
        Some((network, length)) => {
            Prefix { network: network.parse().expect("an address"), length: length.parse().expect("a length") }
        }
        None => Prefix::from(text.parse::<IpAddr>().expect("an address")),
    }
}

fn lasting(text: &str) -> Entry {
    Entry { prefix: prefix(text), left: None }
}

fn timed(text: &str, seconds: u64) -> Entry {
    Entry { prefix: prefix(text), left: Some(Duration::from_secs(seconds)) }
}

fn lane(abilities: Abilities) -> Lane {
    load(&blocks::skeleton());
    Lane::new(netfilter(), Planner::default(), abilities)
}

fn change(lane: &mut Lane, list: &str, added: &[Entry], removed: &[&str]) {
    let removed = removed.iter().map(|text| prefix(text));
    lane.planner_mut().change(list, 1, added.iter().copied(), removed, NOW).expect("few lists");
}

fn settle(lane: &mut Lane) {
    lane.settle(NOW).expect("the kernel takes it");
}

/// The elements of a set: key, timeout.
fn elements(set: &str) -> Vec<(Vec<u8>, Option<Duration>)> {
    let mut all = netfilter().elements(&TableId::inet("ringwall_blocks"), set).expect("elements");
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all.into_iter().map(|element| (element.key, element.timeout)).collect()
}

/// Two machines on a cable: what `peer` sends under any address arrives at `node`, if it is not dropped there.
struct Rig {
    lab: Lab,
    sockets: [UdpSocket; 2],
}

const PORT: u16 = 9000;
const NODE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
/// Whom nobody blocks.
const FREE: [&str; 2] = ["203.0.113.99", "2001:db8:ffff::99"];

impl Rig {
    fn new() -> Self {
        let net = |text: &str| text.parse().expect("a prefix");
        let address = |text: &str| Some(text.parse().expect("an address"));
        let host = |name: &str, last: u8| {
            let [v4, v6] = [format!("192.0.2.{last}/24"), format!("2001:db8::{last}/64")];
            Host::new(name).interface("eth0", "cable", [net(&v4), net(&v6)])
        };
        let node = host("node", 1).route(net("0.0.0.0/0"), address("192.0.2.2"), "eth0").route(net("::/0"), address("2001:db8::2"), "eth0");
        let lab = Lab::start(&Topology::new().host(node).host(host("peer", 2))).expect("a lab");
        let node = lab.host("node").expect("a host");
        node.output("nft", &["-f", "-"], &blocks::skeleton()).expect("the table");
        let bind = |text: &str| {
            let address = SocketAddr::new(text.parse().expect("an address"), PORT);
            node.run(|| UdpSocket::bind(address)).expect("the host").expect("a socket")
        };
        let sockets = NODE.map(bind);
        for socket in &sockets {
            socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        }
        Self { lab, sockets }
    }

    fn lane(&self) -> Lane {
        let netfilter = self.lab.host("node").expect("a host").run(Netfilter::open).expect("the host").expect("a socket");
        Lane::new(netfilter, Planner::default(), NEW)
    }

    /// Whether a packet from `source` reaches the node. One that nobody blocks is sent behind it: what
    /// has not come by then was dropped.
    fn reaches(&self, source: &str) -> bool {
        let source: IpAddr = source.parse().expect("an address");
        let family = usize::from(source.is_ipv6());
        let peer = self.lab.host("peer").expect("a host");
        let wire = peer.wire("eth0").expect("a wire");
        let to = self.lab.host("node").expect("a host").mac("eth0").expect("a mac");
        let send = |source: IpAddr| {
            let flow = Flow::new(source, NODE[family].parse().expect("an address"), Upper::udp(40_000, PORT)).expect("one family");
            wire.send(to, &packet(&flow, &Details::default())).expect("sent");
        };
        let free: IpAddr = FREE[family].parse().expect("an address");
        send(source);
        send(free);
        let mut came = false;
        loop {
            let (_, from) = self.sockets[family].recv_from(&mut [0; 64]).expect("the free one arrives");
            if from.ip() == free {
                return came;
            }
            assert_eq!(from.ip(), source);
            came = true;
        }
    }

    fn open(&self, sources: &[&str]) {
        sources.iter().for_each(|source| assert!(self.reaches(source), "{source} is dropped"));
    }

    fn shut(&self, sources: &[&str]) {
        sources.iter().for_each(|source| assert!(!self.reaches(source), "{source} passes"));
    }
}

#[test]
fn packets_of_who_is_blocked_are_dropped() {
    let rig = Rig::new();
    let mut lane = rig.lane();
    rig.open(&["198.51.100.7", "198.51.100.8", "2001:db8:1::7"]);
    change(&mut lane, "blocks", &[timed("198.51.100.7", 3600), lasting("2001:db8:1::7")], &[]);
    settle(&mut lane);
    rig.shut(&["198.51.100.7", "2001:db8:1::7"]);
    rig.open(&["198.51.100.6", "198.51.100.8", "2001:db8:1::6", "2001:db8:1::8"]);

    // Every length that there is, each with its first and last address and those beside them.
    let mut entries = Vec::new();
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for (index, length) in (16..=31u32).enumerate() {
        let first = 0x6440_0000 + (u32::try_from(index).expect("few") << 18) + (1 << 17); // 100.64.0.0/10, RFC 6598
        let last = first + (u32::MAX >> length);
        entries.push(lasting(&format!("{}/{length}", std::net::Ipv4Addr::from(first))));
        inside.extend([first, last, first + (last - first) / 2].map(|address| std::net::Ipv4Addr::from(address).to_string()));
        outside.extend([first - 1, last + 1].map(|address| std::net::Ipv4Addr::from(address).to_string()));
    }
    for (index, length) in [29u32, 32, 33, 36, 47, 48, 56, 60, 61, 64, 65, 68, 96, 112, 124, 125, 127].into_iter().enumerate() {
        let first = (0x2001_0db8_u128 << 96) + ((u128::try_from(index).expect("few") + 1) << 100);
        let last = first + (u128::MAX >> length);
        entries.push(lasting(&format!("{}/{length}", std::net::Ipv6Addr::from(first))));
        inside.extend([first, last].map(|address| std::net::Ipv6Addr::from(address).to_string()));
        outside.extend([first - 1, last + 1].map(|address| std::net::Ipv6Addr::from(address).to_string()));
    }
    rig.open(&inside.iter().map(String::as_str).collect::<Vec<_>>());
    change(&mut lane, "imported", &entries, &[]);
    settle(&mut lane);
    rig.shut(&inside.iter().map(String::as_str).collect::<Vec<_>>());
    rig.open(&outside.iter().map(String::as_str).collect::<Vec<_>>());

    // Out, too: what the node sends to who is blocked.
    let sent = rig.sockets[0].send_to(&[0], "100.66.0.1:9");
    assert_eq!(sent.map_err(|error| error.kind()), Err(std::io::ErrorKind::PermissionDenied));

    lane.planner_mut().forget("imported", 2);
    settle(&mut lane);
    rig.open(&inside.iter().map(String::as_str).collect::<Vec<_>>());
    rig.shut(&["198.51.100.7"]);
}

#[test]
fn one_list_less_unblocks_nobody_whom_another_blocks() {
    let rig = Rig::new();
    let mut lane = rig.lane();
    change(&mut lane, "blocks", &[lasting("198.51.100.7"), lasting("198.51.100.0/30")], &[]);
    change(&mut lane, "imported", &[lasting("198.51.100.7"), timed("198.51.100.0/24", 600)], &[]);
    settle(&mut lane);
    rig.shut(&["198.51.100.7", "198.51.100.3", "198.51.100.9"]);
    lane.planner_mut().forget("imported", 2);
    settle(&mut lane);
    rig.shut(&["198.51.100.7", "198.51.100.3"]);
    rig.open(&["198.51.100.9"]);
    change(&mut lane, "blocks", &[], &["198.51.100.7"]);
    settle(&mut lane);
    rig.open(&["198.51.100.7"]);
    rig.shut(&["198.51.100.3"]);
    // Who is protected is not asked, whatever is in the sets.
    let node = rig.lab.host("node").expect("a host");
    node.output("nft", &["-f", "-"], "add element inet ringwall_blocks protected4 { 198.51.100.3 }\n").expect("added");
    rig.open(&["198.51.100.3"]);
    rig.shut(&["198.51.100.2"]);
}

#[test]
fn connections_of_who_is_blocked_end() {
    let rig = Rig::new();
    let [node, peer] = ["node", "peer"].map(|name| rig.lab.host(name).expect("a host"));
    let track = "table inet t { chain i { type filter hook input priority 0; ct state new accept; }; \
                 chain o { type filter hook output priority 0; ct state new accept; }; }\n";
    node.output("nft", &["-f", "-"], track).expect("a table");
    let mut lane = rig.lane();
    let mut netfilter = node.run(Netfilter::open).expect("the host").expect("a socket");
    let connect = |from: &str, to: &str, address: &str| {
        let at = SocketAddr::new(address.parse().expect("an address"), 0);
        let listener = rig.lab.host(to).expect("a host").run(|| TcpListener::bind(at)).expect("the host").expect("a listener");
        let at = listener.local_addr().expect("bound");
        let client = rig.lab.host(from).expect("a host").run(|| TcpStream::connect(at)).expect("the host").expect("a connection");
        (client, listener.accept().expect("accepted"))
    };
    let _ = &peer;
    for (address, own, many) in [("192.0.2.2", "192.0.2.1", false), ("2001:db8::2", "2001:db8::1", false), ("192.0.2.2", "192.0.2.1", true)] {
        let _in = connect("peer", "node", own);
        let _out = connect("node", "peer", address);
        let other = if own.contains(':') { connect("peer", "node", "192.0.2.1") } else { connect("peer", "node", "2001:db8::1") };
        let tracked = |netfilter: &mut Netfilter| {
            let mut ends: Vec<IpAddr> = Vec::new();
            for connection in netfilter.connections().expect("connections") {
                if connection.tcp.is_some() && connection.original.source.is_ipv4() == address.parse::<IpAddr>().expect("an address").is_ipv4() {
                    ends.push(connection.original.source);
                }
            }
            ends.len()
        };
        assert_eq!(tracked(&mut netfilter), 2);
        let mut entries = vec![timed(address, 600)];
        if many {
            // Then all connections are looked at once.
            entries.extend((1..100).map(|last| lasting(&format!("198.51.100.{last}"))));
        }
        change(&mut lane, "blocks", &entries, &[]);
        settle(&mut lane);
        assert_eq!(lane.cut(NOW).expect("cut").len(), 2);
        assert_eq!(tracked(&mut netfilter), 0);
        assert_eq!(lane.cut(NOW).expect("cut"), []);
        assert!(!netfilter.connections().expect("connections").is_empty(), "{other:?} goes on");
        lane.planner_mut().forget("blocks", 2);
        settle(&mut lane);
        drop(other);
        for connection in netfilter.connections().expect("connections") {
            netfilter.delete_connection(&connection).expect("deleted");
        }
    }
}

#[test]
fn times_are_those_of_the_last_update() {
    in_namespace(|| {
        for abilities in [NEW, OLD] {
            load("add table inet ringwall_blocks\ndelete table inet ringwall_blocks\n");
            let mut lane = lane(abilities);
            let is = |expected: Option<u64>| {
                assert_eq!(elements("block4"), [(vec![192, 0, 2, 7], expected.map(Duration::from_secs))], "{abilities:?}");
            };
            for left in [Some(600), Some(1200), Some(300), None, Some(60), None] {
                let entry = Entry { prefix: prefix("192.0.2.7"), left: left.map(Duration::from_secs) };
                change(&mut lane, "blocks", &[entry], &[]);
                settle(&mut lane);
                is(left);
            }
            // The longest that any list wants.
            change(&mut lane, "blocks", &[timed("192.0.2.7", 60)], &[]);
            change(&mut lane, "imported", &[timed("192.0.2.7", 600)], &[]);
            settle(&mut lane);
            is(Some(600));
            change(&mut lane, "imported", &[], &["192.0.2.7"]);
            settle(&mut lane);
            is(Some(60));
        }
    });
}

#[test]
fn what_is_gone_already_keeps_nothing_from_being_taken_out() {
    in_namespace(|| {
        for abilities in [NEW, OLD] {
            load("add table inet ringwall_blocks\ndelete table inet ringwall_blocks\n");
            let mut lane = lane(abilities);
            let all: Vec<String> = (0..1000).map(|number| format!("198.51.{}.{}", number / 250, number % 250)).collect();
            let entries: Vec<Entry> = all.iter().map(|text| timed(text, 600)).collect();
            change(&mut lane, "blocks", &entries, &[]);
            settle(&mut lane);
            assert_eq!(elements("block4").len(), 1000);
            load("delete element inet ringwall_blocks block4 { 198.51.0.3, 198.51.0.4, 198.51.3.200 }\n");
            change(&mut lane, "blocks", &[timed("203.0.113.1", 60)], &all[..900].iter().map(String::as_str).collect::<Vec<_>>());
            settle(&mut lane);
            assert_eq!(elements("block4").len(), 100, "{abilities:?}");
        }
    });
}

#[test]
fn a_full_set_is_an_error_by_name_and_nothing_is_lost() {
    in_namespace(|| {
        load(&blocks::skeleton().replace("size 2097152", "size 1000"));
        let mut lane = Lane::new(netfilter(), Planner::default(), NEW);
        let all: Vec<Entry> = (0..1200).map(|number| lasting(&format!("198.51.{}.{}", number / 250, number % 250))).collect();
        change(&mut lane, "imported", &all, &[]);
        let error = lane.settle(NOW).expect_err("1,200 are more than 1,000");
        assert!(matches!(error, LaneError::Full { set: "block4", .. }), "{error:?}");
        assert_eq!(error.to_string(), "set `block4` of table `inet ringwall_blocks` is full: it takes 2097152 elements");
        // What the kernel has, it has; and what is urgent comes through as soon as there is room.
        assert_eq!(elements("block4").len(), 800);
        change(&mut lane, "blocks", &[lasting("203.0.113.7")], &[]);
        let step = lane.step(NOW).expect("there is room for one").expect("a step");
        assert!(step.urgent);
        assert_eq!(step.enforced[0].list, "blocks");
        let gone: Vec<String> = (0..201).map(|number| format!("198.51.0.{number}")).collect();
        change(&mut lane, "imported", &[], &gone.iter().map(String::as_str).collect::<Vec<_>>());
        let enforced = lane.settle(NOW).expect("there is room again");
        assert_eq!(enforced.len(), 2);
        assert_eq!(elements("block4").len(), 1000);
    });
}

#[test]
fn foreign_changes_are_noticed_and_put_right() {
    in_namespace(|| {
        let mut lane = lane(NEW);
        let entries = [lasting("198.51.100.7"), lasting("192.0.2.0/24"), lasting("2001:db8::7"), timed("203.0.113.0/25", 600)];
        change(&mut lane, "blocks", &entries, &[]);
        settle(&mut lane);
        assert_eq!(lane.check(NOW).expect("checked"), Found::Whole);
        assert_eq!(lane.check(NOW).expect("checked"), Found::Same);
        load("table inet others { chain c { accept; }; }\n");
        assert_eq!(lane.check(NOW).expect("checked"), Found::Whole);
        let content = || ["block4", "block4_prefixes", "block4_covers", "block6"].map(elements);
        let before = content();
        for set in ["block4", "block4_prefixes", "block4_covers", "block6"] {
            load(&format!("flush set inet ringwall_blocks {set}\n"));
            assert!(matches!(lane.check(NOW).expect("checked"), Found::Lost { set: lost, found: 0, .. } if lost == set), "{set}");
            settle(&mut lane);
            assert_eq!(content(), before);
            assert_eq!(lane.check(NOW).expect("checked"), Found::Whole);
        }
        load("delete table inet ringwall_blocks\n");
        assert_eq!(lane.check(NOW).expect("checked"), Found::Gone);
        assert!(matches!(lane.settle(NOW), Err(LaneError::NoTable)));
        assert!(matches!(lane.settle(NOW), Err(LaneError::NoTable)));
        load(&blocks::skeleton());
        settle(&mut lane);
        assert_eq!(content(), before);
        // What an earlier program left goes when everything is sent anew.
        load("add element inet ringwall_blocks block4 { 203.0.113.200 }\n");
        lane.planner_mut().rebuild(true);
        settle(&mut lane);
        assert_eq!(content(), before);
    });
}

#[test]
fn an_address_is_blocked_while_a_long_list_is_loaded() {
    in_namespace(|| {
        let mut lane = lane(NEW);
        let planner = lane.planner_mut();
        let mut snapshot = planner.snapshot();
        let many = (0..50_000u32).map(|number| Entry { prefix: IpAddr::V4((0x6440_0000 + number).into()).into(), left: None });
        planner.receive(&mut snapshot, many, NOW);
        planner.replace("imported", 1, snapshot).expect("few lists");
        for _ in 0..5 {
            assert!(!lane.step(NOW).expect("taken").expect("a step").urgent);
        }
        change(&mut lane, "blocks", &[lasting("203.0.113.7")], &[]);
        let step = lane.step(NOW).expect("taken").expect("a step");
        assert_eq!((step.urgent, step.changed, step.enforced.len()), (true, 1, 1));
        assert!(elements("block4").iter().any(|(key, _)| *key == [203, 0, 113, 7]));
        assert!(lane.planner().waiting() > 40_000);
        let enforced = lane.settle(NOW).expect("taken");
        assert_eq!(enforced[0].list, "imported");
        let sets = netfilter().sets(&TableId::inet("ringwall_blocks")).expect("sets");
        assert_eq!(sets.iter().find(|set| set.name == "block4").and_then(|set| set.count), Some(50_001));
        assert!(lane.cut(NOW).expect("cut").is_empty());
    });
}

/// A program that begins anew finds what the one before it left: what no list has goes, and the rest is not touched.
#[test]
fn what_an_earlier_program_left_is_taken_out() {
    in_namespace(|| {
        for more in [0, 20_000u32] {
            let many = (0..more).map(|last| std::net::Ipv4Addr::from_bits(0x0b00_0000 + last).to_string());
            let kept: Vec<Entry> = many.map(|text| lasting(&text)).chain([lasting("203.0.113.1"), lasting("203.0.113.0/25"), lasting("2001:db8:1::/48")]).collect();
            let gone = [lasting("203.0.113.2"), lasting("198.51.100.0/25"), lasting("2001:db8:2::/48"), timed("2001:db8::9", 600)];
            let mut before = lane(NEW);
            change(&mut before, "blocks", &kept, &[]);
            change(&mut before, "blocks", &gone, &[]);
            settle(&mut before);

            let mut after = Lane::new(netfilter(), Planner::default(), NEW);
            change(&mut after, "blocks", &kept, &[]);
            settle(&mut after);
            let mut tries = 0;
            while !after.reconcile(NOW).expect("the kernel answers") {
                settle(&mut after);
                tries += 1;
            }
            assert_eq!(tries, 1, "{more}: once is enough");
            let addresses = usize::try_from(more).expect("few") + 1;
            let expected = [("block4", addresses), ("block4_prefixes", 2), ("block4_covers", 1), ("block6", 0), ("block6_prefixes", 1), ("block6_covers", 1)];
            for (set, count) in expected {
                assert_eq!(elements(set).len(), count, "{more}: {set}");
            }
            // Nothing is changed where nothing is left over.
            let generation = netfilter().generation().expect("a number");
            assert!(after.reconcile(NOW).expect("the kernel answers"));
            assert_eq!(netfilter().generation().expect("a number"), generation);
            Command::new("nft").args(["delete", "table", "inet", "ringwall_blocks"]).status().expect("nft runs");
        }
    });
}
