//! The planner under random histories, against a model that knows nothing of elements, queues or covers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;
use ringwall_node::lists::{Bounded, Bounds, Change, Entry, Kind, Planner, Prefix};
use ringwall_packet::{AddressSet, Family, Interval, IntervalSet};
use ringwall_ruleset::nftables::blocks;

/// What the kernel would hold, and how a packet's address is looked up in it: as the table's rules do.
#[derive(Default)]
struct Sets(BTreeMap<(Family, Kind, u128), Option<Duration>>);

impl Sets {
    fn has(&self, family: Family, kind: Kind, number: u128, now: Duration) -> bool {
        self.0.get(&(family, kind, number)).is_some_and(|end| end.is_none_or(|end| end > now))
    }

    fn drops(&self, address: IpAddr, now: Duration) -> bool {
        let (family, number) = match address {
            IpAddr::V4(address) => (Family::V4, u128::from(address.to_bits())),
            IpAddr::V6(address) => (Family::V6, address.to_bits()),
        };
        if self.has(family, Kind::Addresses, number, now) {
            return true;
        }
        let mark = |length: u8| match family {
            Family::V4 => {
                let number = u32::try_from(number).expect("IPv4");
                u128::from(blocks::mark4(number & u32::MAX << (32 - length), length))
            }
            Family::V6 => blocks::mark6(number & u128::MAX << (128 - length), length),
        };
        let mut reached = u8::MAX;
        for (tier, cover) in blocks::cover_lengths(family).iter().enumerate() {
            if !self.has(family, Kind::Covers, mark(*cover), now) {
                // Nothing is asked, or only what comes before this cover.
                reached = if tier == 0 { 0 } else { *cover };
                break;
            }
        }
        blocks::lengths(family).any(|length| length <= reached && self.has(family, Kind::Prefixes, mark(length), now))
    }
}

#[derive(Clone, Debug)]
enum Event {
    Change { list: usize, added: Vec<(usize, Option<u8>)>, removed: Vec<usize> },
    Replace { list: usize, entries: Vec<(usize, Option<u8>)> },
    Forget { list: usize },
    Bounds { forbidden: usize },
    Steps { count: u8, most: u8, fails: bool },
    Wait { quarters: u8 },
    Sweep { some: u8 },
    Rebuild { flush: bool },
    /// Another program empties a set, or all.
    Foreign { which: u8 },
}

const NAMES: [&str; 3] = ["blocks", "imported", "more"];

/// Prefixes that overlap, touch, repeat each other, and lie beside borders.
fn prefixes() -> Vec<Prefix> {
    let mut all = Vec::new();
    let mut add = |network: &str, lengths: &[u8]| {
        let network: IpAddr = network.parse().expect("an address");
        all.extend(lengths.iter().map(|length| Prefix { network, length: *length }));
    };
    add("198.51.100.0", &[8, 12, 15, 16, 17, 22, 23, 24, 25, 28, 29, 30, 31, 32]);
    add("198.51.100.1", &[32]);
    add("198.51.100.2", &[31, 32]);
    add("198.51.101.0", &[24, 32]);
    add("198.50.0.0", &[16, 17]);
    add("255.255.255.255", &[31, 32]);
    add("2001:db8::", &[26, 29, 32, 33, 36, 48, 62, 63, 64, 65, 68, 96, 124, 125, 126, 127, 128]);
    add("2001:db8::1", &[128]);
    add("2001:db8::8", &[125]);
    add("2001:db8:0:1::", &[64, 66]);
    add("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &[127, 128]);
    all
}

fn forbidden() -> [AddressSet; 3] {
    let v4 = |first: [u8; 4], last: [u8; 4]| {
        let range = Interval::new(Ipv4Addr::from(first), Ipv4Addr::from(last)).expect("in order");
        AddressSet { v4: range.into(), ..AddressSet::default() }
    };
    let v6 = |text: &str| {
        let address = text.parse::<Ipv6Addr>().expect("an address");
        AddressSet { v6: IntervalSet::single(address), ..AddressSet::default() }
    };
    [
        AddressSet::default(),
        v4([198, 51, 100, 2], [198, 51, 100, 5]).union(&v6("2001:db8::8")),
        v4([198, 51, 100, 0], [198, 51, 101, 0]).union(&v6("2001:db8::1")),
    ]
}

fn addresses() -> Vec<IpAddr> {
    let texts = [
        "198.51.100.0", "198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.5", "198.51.100.6", "198.51.100.9", "198.51.100.70",
        "198.51.100.200", "198.51.101.0", "198.51.101.9", "198.51.103.1", "198.51.200.1", "198.50.0.1", "198.50.200.1", "198.49.1.1",
        "198.1.1.1", "197.1.1.1", "255.255.255.254", "255.255.255.255", "255.255.255.253", "2001:db8::", "2001:db8::1", "2001:db8::3",
        "2001:db8::7", "2001:db8::8", "2001:db8::f", "2001:db8::10", "2001:db8::1:0:0", "2001:db8:0:0:8000::", "2001:db8:0:1::",
        "2001:db8:0:1:4000::", "2001:db8:0:2::", "2001:db8:1::", "2001:db8:8000::", "2001:db0::", "2001:d80::", "2002::",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe",
    ];
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

fn covers(prefix: &Prefix, address: IpAddr) -> bool {
    match (prefix.network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(32 - u32::from(prefix.length)).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(128 - u32::from(prefix.length)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let count = prefixes().len();
    let entries = move |most| prop::collection::vec((0..count, prop::option::of(0u8..40)), 0..most);
    let list = 0..NAMES.len();
    let event = prop_oneof![
        6 => (list.clone(), entries(6), prop::collection::vec(0..count, 0..4))
            .prop_map(|(list, added, removed)| Event::Change { list, added, removed }),
        2 => (list.clone(), entries(20)).prop_map(|(list, entries)| Event::Replace { list, entries }),
        1 => list.prop_map(|list| Event::Forget { list }),
        1 => (0..forbidden().len()).prop_map(|forbidden| Event::Bounds { forbidden }),
        6 => (1u8..20, 1u8..30, any::<bool>()).prop_map(|(count, most, fails)| Event::Steps { count, most, fails }),
        4 => (0u8..30).prop_map(|quarters| Event::Wait { quarters }),
        1 => (1u8..20).prop_map(|some| Event::Sweep { some }),
        1 => any::<bool>().prop_map(|flush| Event::Rebuild { flush }),
        1 => (0u8..7).prop_map(|which| Event::Foreign { which }),
    ];
    prop::collection::vec(event, 1..40)
}

struct Run {
    planner: Planner,
    sets: Sets,
    now: Duration,
    lists: [BTreeMap<Prefix, Option<Duration>>; 3],
    forbidden: AddressSet,
    revision: u64,
    /// Updates that are not yet enforced.
    open: Vec<u64>,
    harmed: bool,
}

impl Run {
    fn new() -> Self {
        let bounds = Bounds { shortest4: 8, shortest6: 20, ..Bounds::default() };
        Self {
            planner: Planner::new(bounds), sets: Sets::default(), now: Duration::from_millis(1_700), lists: Default::default(),
            forbidden: AddressSet::default(), revision: 0, open: Vec::new(), harmed: false,
        }
    }

    fn step(&mut self, most: usize, fails: bool) -> bool {
        let Some(chunk) = self.planner.next(most, self.now) else { return false };
        assert!(chunk.operations.len() <= most);
        if fails {
            self.planner.failed(chunk);
            return true;
        }
        if chunk.flush {
            self.sets.0.clear();
        }
        for operation in &chunk.operations {
            let key = (operation.family, operation.kind, operation.number);
            match operation.change {
                Change::Add(left) => self.sets.0.insert(key, left.map(|left| self.now + left)),
                Change::Remove => self.sets.0.remove(&key),
            };
        }
        for enforced in self.planner.done(chunk) {
            let place = self.open.iter().position(|open| *open == enforced.revision).expect("each once");
            self.open.remove(place);
        }
        true
    }

    /// As the kernel's clock and ours count: what ends within a second may stay until its end.
    fn agrees(&mut self) {
        while self.step(64, false) {}
        assert_eq!(self.open, [0u64; 0], "every update is enforced once nothing waits");
        for address in addresses() {
            let ends = self.lists.iter().flatten().filter(|(prefix, _)| covers(prefix, address)).map(|(_, end)| *end);
            let is_forbidden = self.forbidden.contains(address);
            let (mut must, mut may) = (false, false);
            for end in ends {
                must |= !is_forbidden && end.is_none_or(|end| end > self.now);
                may |= !is_forbidden && end.is_none_or(|end| end + Duration::from_secs(1) > self.now);
            }
            let does = self.sets.drops(address, self.now);
            assert!(if does { may } else { !must }, "{address}: {does}, must {must}, may {may}\n{:?}\n{:?}", self.lists, self.sets.0);
            assert_eq!(self.planner.is_blocked(address, self.now), does, "{address}");
        }
        for ((family, kind), expected) in self.planner.expected(self.now) {
            let there = self.sets.0.keys().filter(|(of, what, _)| (*of, *what) == (family, kind)).count();
            assert!(there >= expected as usize, "{family:?} {kind:?}: {there} of {expected}");
        }
    }

    fn entries(&self, chosen: &[(usize, Option<u8>)]) -> Vec<Entry> {
        let all = prefixes();
        let left = |quarters: &Option<u8>| quarters.map(|quarters| Duration::from_millis(250 * u64::from(quarters)));
        chosen.iter().map(|(index, quarters)| Entry { prefix: all[*index], left: left(quarters) }).collect()
    }

    /// A prefix as it is kept: without host bits.
    fn clean(prefix: Prefix) -> Prefix {
        let network = match prefix.network {
            IpAddr::V4(network) => IpAddr::V4((network.to_bits() & !u32::MAX.checked_shr(prefix.length.into()).unwrap_or(0)).into()),
            IpAddr::V6(network) => IpAddr::V6((network.to_bits() & !u128::MAX.checked_shr(prefix.length.into()).unwrap_or(0)).into()),
        };
        Prefix { network, ..prefix }
    }

    fn handle(&mut self, event: &Event) {
        self.revision += 1;
        let revision = self.revision;
        match event {
            Event::Change { list, added, removed } => {
                let added = self.entries(added);
                let removed: Vec<Prefix> = removed.iter().map(|index| prefixes()[*index]).collect();
                for prefix in &removed {
                    self.lists[*list].remove(&Self::clean(*prefix));
                }
                for Entry { prefix, left } in &added {
                    self.lists[*list].insert(Self::clean(*prefix), left.map(|left| self.now + left));
                }
                self.open.push(revision);
                self.planner.change(NAMES[*list], revision, added, removed, self.now).expect("few lists");
            }
            Event::Replace { list, entries } => {
                let entries = self.entries(entries);
                let end = |entry: &Entry| (Self::clean(entry.prefix), entry.left.map(|left| self.now + left));
                self.lists[*list] = entries.iter().map(end).collect();
                self.open.push(revision);
                let mut snapshot = self.planner.snapshot();
                self.planner.receive(&mut snapshot, entries, self.now);
                self.planner.replace(NAMES[*list], revision, snapshot).expect("few lists");
            }
            Event::Forget { list } => {
                self.lists[*list].clear();
                // An unknown list has nothing to be enforced.
                let before = self.planner.waiting();
                self.planner.change(NAMES[*list], revision, [], [], self.now).expect("few lists");
                assert_eq!(self.planner.waiting(), before);
                self.planner.forget(NAMES[*list], revision + 1_000_000);
                self.open.extend([revision, revision + 1_000_000]);
            }
            Event::Bounds { forbidden: index } => {
                self.forbidden = forbidden()[*index].clone();
                self.planner.set_bounds(Bounds { forbidden: self.forbidden.clone(), shortest4: 8, shortest6: 20 });
            }
            Event::Steps { count, most, fails } => {
                for number in 0..*count {
                    self.step((*most).into(), *fails && number % 3 == 0);
                }
            }
            Event::Wait { quarters } => self.now += Duration::from_millis(250 * u64::from(*quarters)),
            Event::Sweep { some } => self.planner.sweep((*some).into(), self.now),
            Event::Rebuild { flush } => self.planner.rebuild(*flush),
            Event::Foreign { which } => {
                self.sets.0.retain(|(family, kind, _), _| *which != 6 && *family as u8 * 3 + *kind as u8 != *which);
                self.harmed = true;
            }
        }
        if std::mem::take(&mut self.harmed) {
            self.planner.rebuild(false);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn the_kernel_drops_whom_any_list_blocks(events in events()) {
        let mut run = Run::new();
        for event in &events {
            run.handle(event);
        }
        run.agrees();
        run.now += Duration::from_secs(3);
        run.agrees();
        // Everything that ends has ended, and leaves nothing behind.
        run.now += Duration::from_secs(100);
        for _ in 0..100 {
            run.planner.sweep(50, run.now);
        }
        run.agrees();
        for name in NAMES {
            run.revision += 1;
            run.open.push(run.revision);
            run.planner.change(name, run.revision, [], [], run.now).expect("few lists");
            run.planner.forget(name, run.revision + 1_000_000);
            run.open.push(run.revision + 1_000_000);
        }
        run.lists = Default::default();
        run.agrees();
        let now = run.now;
        let left: Vec<_> = run.sets.0.iter().filter(|(_, end)| end.is_none_or(|end| end > now)).collect();
        prop_assert!(left.is_empty(), "{left:?}");
        prop_assert!(run.planner.is_empty());
    }
}

fn entry(text: &str) -> Entry {
    let (network, length) = text.split_once('/').expect("a prefix");
    Entry { prefix: Prefix { network: network.parse().expect("an address"), length: length.parse().expect("a length") }, left: None }
}

#[test]
fn what_must_not_be_blocked_is_named() {
    let mut planner = Planner::new(Bounds { forbidden: forbidden()[1].clone(), ..Bounds::default() });
    let entries = ["0.0.0.0/0", "::/0", "10.0.0.0/7", "198.51.100.3/32", "198.51.100.0/24", "192.0.2.0/24", "192.0.2.0/33"];
    let taken = planner.change("blocks", 1, entries.map(entry), [], Duration::ZERO).expect("few lists");
    let named: Vec<_> = taken.named.iter().map(|(prefix, why)| (prefix.network.to_string(), prefix.length, *why)).collect();
    let of = |network: &str, length, why| (network.to_owned(), length, why);
    assert_eq!(named, [
        of("0.0.0.0", 0, Bounded::Length), of("::", 0, Bounded::Length), of("10.0.0.0", 7, Bounded::Length),
        of("198.51.100.3", 32, Bounded::Forbidden), of("198.51.100.0", 24, Bounded::Forbidden), of("192.0.2.0", 33, Bounded::Length),
    ]);
    assert_eq!(taken.bounded, 6);
    for (address, is_blocked) in [("198.51.100.1", true), ("198.51.100.3", false), ("198.51.100.77", true), ("10.1.1.1", false), ("192.0.2.7", true)] {
        assert_eq!(planner.is_blocked(address.parse().expect("an address"), Duration::ZERO), is_blocked, "{address}");
    }
    let many = (0..1000u32).map(|number| Entry { prefix: Prefix { network: Ipv4Addr::from(number).into(), length: 1 }, left: None });
    let taken = planner.change("blocks", 2, many, [], Duration::ZERO).expect("few lists");
    assert_eq!((taken.bounded, taken.named.len()), (1000, 100));
}

#[test]
fn an_urgent_update_goes_between_two_parts_of_a_long_one() {
    let mut planner = Planner::default();
    let mut snapshot = planner.snapshot();
    let many = (0..10_000u32).map(|number| Entry { prefix: IpAddr::V4((0xc633_0000 + number).into()).into(), left: None });
    planner.receive(&mut snapshot, many, Duration::ZERO);
    planner.replace("imported", 1, snapshot).expect("few lists");
    let first = planner.next(500, Duration::ZERO).expect("a chunk");
    assert_eq!(first.operations.len(), 500);
    assert!(planner.done(first).is_empty());
    planner.change("blocks", 7, [entry("203.0.113.7/32")], [], Duration::ZERO).expect("few lists");
    let urgent = planner.next(500, Duration::ZERO).expect("a chunk");
    assert_eq!(urgent.operations.len(), 1);
    let enforced = planner.done(urgent);
    assert_eq!((enforced[0].list.as_str(), enforced[0].revision), ("blocks", 7));
    let mut rest = 0;
    loop {
        let chunk = planner.next(500, Duration::ZERO).expect("a chunk");
        rest += chunk.operations.len();
        let enforced = planner.done(chunk);
        if let [enforced] = &enforced[..] {
            assert_eq!((enforced.list.as_str(), enforced.revision), ("imported", 1));
            break;
        }
    }
    assert_eq!(rest, 9_500);
    assert!(planner.is_settled());
}
