//! Reads over netlink agree with nft's own listing.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use ringwall_node::kernel::{Chain, Counter, Hook, Policy, SetFlags, TableFamily, TableId};
use serde_json::{Value, json};

use crate::namespace::{in_namespace, listed, load, netfilter, ringwall, send_udp};

/// The chain as `nft -j list chains` shows it (without devices, which old versions leave out).
fn as_json(chain: &Chain) -> Value {
    let mut json = json!({
        "family": chain.table.family.to_string(),
        "table": chain.table.name,
        "name": chain.name,
        "handle": chain.handle,
    });
    if let Some(base) = &chain.base {
        json["type"] = json!(base.kind);
        json["hook"] = json!(base.hook.to_string());
        json["prio"] = json!(base.priority);
        json["policy"] = json!(base.policy.to_string());
    }
    json
}

fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by_key(ToString::to_string);
    values
}

fn assert_chains_agree() {
    let ours: Vec<Value> = netfilter().chains().expect("chains").iter().map(as_json).collect();
    let mut theirs = listed(&["chains"], "chain");
    theirs.iter_mut().filter_map(Value::as_object_mut).for_each(|chain| drop(chain.remove("dev")));
    assert_eq!(sorted(ours), sorted(theirs));
}

fn assert_counters_agree(table: &TableId) {
    let theirs: BTreeMap<String, Counter> = listed(&["counters"], "counter")
        .iter()
        .filter(|counter| counter["family"] == table.family.to_string() && counter["table"] == table.name.as_str())
        .map(|counter| {
            let number = |key: &str| counter[key].as_u64().expect("a number");
            let name = counter["name"].as_str().expect("a name").to_owned();
            (name, Counter { packets: number("packets"), bytes: number("bytes") })
        })
        .collect();
    assert_eq!(netfilter().counters(table).expect("counters"), theirs);
}

#[test]
fn an_empty_namespace_has_nothing() {
    in_namespace(|| {
        let mut netfilter = netfilter();
        assert_eq!(netfilter.tables().expect("tables"), []);
        assert_eq!(netfilter.chains().expect("chains"), []);
        assert_eq!(netfilter.rules(&ringwall(), "a").expect("rules"), []);
        assert_eq!(netfilter.counters(&ringwall()).expect("counters"), BTreeMap::new());
        assert_eq!(netfilter.sets(&ringwall()).expect("sets"), []);
        assert!(netfilter.elements(&ringwall(), "armed").is_err());
    });
}

#[test]
fn the_generation_rises_with_each_change() {
    in_namespace(|| {
        let mut netfilter = netfilter();
        let before = netfilter.generation().expect("a generation");
        assert_eq!(netfilter.generation().expect("a generation"), before);
        load("add table inet ringwall\n");
        assert!(netfilter.generation().expect("a generation") > before);
    });
}

#[test]
fn base_chains_of_all_families_are_named() {
    in_namespace(|| {
        load(
            "table inet ringwall { chain i { type filter hook input priority filter; policy drop; }; chain sub { }; }
            table ip nat { chain post { type nat hook postrouting priority srcnat; }; }
            table ip6 mangle { chain out { type route hook output priority -150; policy accept; }; }
            table arp a { chain in { type filter hook input priority 5; policy drop; }; }
            table bridge b { chain f { type filter hook forward priority 0; }; }
            table netdev n { chain ing { type filter hook ingress device lo priority -500; policy drop; }; }
            table inet dark { flags dormant; chain o { type filter hook output priority 0; policy drop; }; }
            ",
        );
        assert_chains_agree();
        let chains = netfilter().chains().expect("chains");
        let base = |family, table: &str| {
            let table = TableId { family, name: table.to_owned() };
            let chain = chains.iter().find(|chain| chain.table == table).expect("a chain of the table");
            chain.base.clone().expect("a base chain")
        };
        let input = base(TableFamily::Inet, "ringwall");
        assert_eq!((input.hook, input.priority, input.policy), (Hook::Input, 0, Policy::Drop));
        let ingress = base(TableFamily::Netdev, "n");
        assert_eq!((ingress.hook, ingress.priority, ingress.devices), (Hook::Ingress, -500, vec!["lo".to_owned()]));
        let ours = netfilter().chains_of(&ringwall()).expect("chains");
        assert_eq!(ours.iter().map(|chain| chain.name.as_str()).collect::<Vec<_>>(), ["i", "sub"]);
        let tables = netfilter().tables().expect("tables");
        let dormant: Vec<_> = tables.iter().filter(|table| table.dormant).map(|table| table.id.to_string()).collect();
        assert_eq!(dormant, ["inet dark"]);
    });
}

#[test]
fn rules_carry_their_comments_in_order() {
    in_namespace(|| {
        load(
            "table inet ringwall {
                set armed { typeof meta nfproto; flags timeout; }
                chain g42_in { accept
                }
                chain g43_in { drop
                }
                chain input { type filter hook input priority 0
                    meta nfproto @armed goto g43_in comment \"g43\"
                    counter
                    goto g42_in comment \"g42\"
                }
            }
            ",
        );
        let rules = netfilter().rules(&ringwall(), "input").expect("rules");
        let comments: Vec<_> = rules.iter().map(|rule| rule.comment.as_deref()).collect();
        assert_eq!(comments, [Some("g43"), None, Some("g42")]);
        let handles = listed(&["chain", "inet", "ringwall", "input"], "rule");
        let handles: Vec<_> = handles.iter().map(|rule| rule["handle"].as_u64().expect("a handle")).collect();
        assert_eq!(rules.iter().map(|rule| rule.handle).collect::<Vec<_>>(), handles);
    });
}

#[test]
fn counters_count_what_was_sent() {
    in_namespace(|| {
        load(
            "table inet ringwall {
                counter g1_seen { }
                counter g1_unseen { packets 5 bytes 6 }
                chain input { type filter hook input priority 0
                    udp dport 9 counter name g1_seen
                }
            }
            table ip other { counter g1_seen { }
            }
            ",
        );
        send_udp(9, 7);
        let counters = netfilter().counters(&ringwall()).expect("counters");
        // An IPv4 and a UDP header and one byte.
        assert_eq!(counters["g1_seen"], Counter { packets: 7, bytes: 7 * 29 });
        assert_eq!(counters["g1_unseen"], Counter { packets: 5, bytes: 6 });
        assert_counters_agree(&ringwall());
    });
}

#[test]
fn sets_tell_their_shape_and_count() {
    in_namespace(|| {
        load(
            "table inet ringwall {
                set blocked { type ipv4_addr; flags timeout; size 1000; elements = { 192.0.2.1 timeout 1h, 192.0.2.2 }
                }
                map g1_in { type ipv4_addr . inet_service : verdict; flags interval; elements = { 192.0.2.0/24 . 1-9 : accept }
                }
                chain a { tcp dport { 22, 80 } accept
                }
            }
            ",
        );
        let sets = netfilter().sets(&ringwall()).expect("sets");
        let set = |name: &str| sets.iter().find(|set| set.name == name).expect("a set");
        let blocked = set("blocked");
        assert!(blocked.flags.has(SetFlags::TIMEOUT) && !blocked.flags.has(SetFlags::MAP));
        assert_eq!((blocked.key_length, blocked.size, blocked.count), (4, Some(1000), Some(2)));
        let map = set("g1_in");
        assert!(map.flags.has(SetFlags::MAP) && map.flags.has(SetFlags::INTERVAL) && map.flags.has(SetFlags::CONCAT));
        assert_eq!((map.key_length, map.count), (8, Some(1)));
        assert!(set("__set0").flags.has(SetFlags::ANONYMOUS));
    });
}

#[test]
fn elements_tell_what_is_left_of_their_time() {
    in_namespace(|| {
        load(
            "table inet ringwall { set armed { typeof meta nfproto; flags timeout; }; }
            add element inet ringwall armed { ipv4 timeout 1m, ipv6 timeout 1h comment \"g43\" }
            ",
        );
        let mut elements = netfilter().elements(&ringwall(), "armed").expect("elements");
        elements.sort_by(|a, b| a.key.cmp(&b.key));
        let [v4, v6] = elements.as_slice() else { panic!("{elements:?}") };
        // NFPROTO_IPV4 and NFPROTO_IPV6 of linux/netfilter.h.
        assert_eq!((v4.key.as_slice(), v6.key.as_slice()), (&[2][..], &[10][..]));
        assert_eq!(v4.timeout, Some(Duration::from_secs(60)));
        let left = v4.expires.expect("it expires");
        assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(30), "{left:?}");
        assert_eq!(v6.comment.as_deref(), Some("g43"));
    });
}

/// A table of some chains, rules and counters, as nft text.
fn table() -> impl Strategy<Value = String> {
    let hook = prop_oneof!["input", "output", "forward", "prerouting", "postrouting"];
    let base = (hook, -400i32..400, prop_oneof!["accept", "drop"]);
    let base = base
        .prop_map(|(hook, priority, policy)| format!("type filter hook {hook} priority {priority}; policy {policy};"));
    let rule = (1u16.., "[a-z0-9 ]{0,20}")
        .prop_map(|(port, comment)| format!("    udp dport {port} counter return comment \"c{comment}\"\n"));
    let chain = (prop::option::of(base), prop::collection::vec(rule, 0..4))
        .prop_map(|(base, rules)| format!("{}\n{}", base.unwrap_or_default(), rules.concat()));
    let counter =
        (0u64..1 << 40, 0u64..1 << 50).prop_map(|(packets, bytes)| format!("packets {packets} bytes {bytes}"));
    let family = prop_oneof!["inet", "ip", "ip6"];
    (family, prop::collection::vec(chain, 0..5), prop::collection::vec(counter, 0..5)).prop_map(
        |(family, chains, counters)| {
            let counters =
                counters.iter().enumerate().map(|(i, counter)| format!("  counter n{i} {{ {counter}\n  }}\n"));
            let chains = chains.iter().enumerate().map(|(i, chain)| format!("  chain c{i} {{\n    {chain}  }}\n"));
            format!("table {family} NAME {{\n{}{}}}\n", counters.collect::<String>(), chains.collect::<String>())
        },
    )
}

#[test]
fn random_tables_read_as_nft_lists_them() {
    in_namespace(|| {
        let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let agree = |tables: Vec<String>| {
            load("flush ruleset\n");
            tables.iter().zip(["a", "b"]).for_each(|(table, name)| load(&table.replace("NAME", name)));
            assert_chains_agree();
            for table in netfilter().tables().expect("tables") {
                assert_counters_agree(&table.id);
                for chain in netfilter().chains_of(&table.id).expect("chains") {
                    let place = [table.id.family.to_string(), table.id.name.clone(), chain.name.clone()];
                    let theirs = listed(&["chain", &place[0], &place[1], &place[2]], "rule");
                    let theirs: Vec<_> = theirs
                        .iter()
                        .map(|rule| (rule["handle"].as_u64(), rule["comment"].as_str().map(String::from)))
                        .collect();
                    let ours = netfilter().rules(&table.id, &chain.name).expect("rules");
                    let ours: Vec<_> = ours.into_iter().map(|rule| (Some(rule.handle), rule.comment)).collect();
                    assert_eq!(ours, theirs);
                }
            }
            Ok(())
        };
        runner.run(&prop::collection::vec(table(), 0..3), agree).unwrap_or_else(|failure| panic!("{failure}"));
    });
}
