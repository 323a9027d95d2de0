//! One way through the host: all chains that packets meet on it, in order, as if they were one.
//!
//! In: the chains of a [`Filter`]. Out: the fate of packets with what decided it: one chain that drops
//! them, or each that let them pass. Never: translation; a chain sees the header that the question has.

use std::collections::HashMap;

use ringwall_packet::{
    Address, AddressSet, Budget, Conditions, Exhausted, Family, IntervalSet, Matches, Packets, Row, Table, UpperSet, Variable, Witness,
    interface, of_many, parts, truth,
};

use crate::filter::{BaseChain, Decision, Filter, FilterVerdict, Hook};
use crate::meaning::{Path, Verdict};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    Decided(Verdict),
    /// It goes where the text does not follow it: an index into [`Filter::unknown`].
    Elsewhere(usize),
}

impl Fate {
    pub fn accepts(self) -> bool {
        self == Self::Decided(Verdict::Accept)
    }

    pub fn refuses(self) -> bool {
        matches!(self, Self::Decided(Verdict::Drop | Verdict::Reject))
    }
}

/// What one chain decided it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct By {
    /// Index into [`Filter::chains`].
    pub chain: usize,
    /// Index into [`Filter::rules`]; `None` for the chain's policy.
    pub rule: Option<usize>,
}

/// A fate, and what decided it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outcome {
    pub fate: Fate,
    /// What refused it, or all that accepted it on the way; empty when the packet meets no chain.
    pub by: Vec<By>,
}

impl Outcome {
    fn untouched() -> Self {
        Self { fate: Fate::Decided(Verdict::Accept), by: Vec::new() }
    }

    /// With what the next chain decides of a packet that came through so far.
    fn then(&self, chain: usize, decision: Decision) -> Self {
        let by = By { chain, rule: decision.rule };
        match decision.verdict {
            FilterVerdict::Elsewhere(what) => Self { fate: Fate::Elsewhere(what), by: vec![by] },
            FilterVerdict::Decided(Verdict::Accept) => {
                Self { fate: self.fate, by: self.by.iter().copied().chain([by]).collect() }
            }
            FilterVerdict::Decided(verdict) => Self { fate: Fate::Decided(verdict), by: vec![by] },
        }
    }

    /// The rules of it; without any, the policies.
    pub fn told(&self) -> Vec<By> {
        let rules: Vec<By> = self.by.iter().copied().filter(|by| by.rule.is_some()).collect();
        if rules.is_empty() { self.by.clone() } else { rules }
    }
}

/// The hooks of a way, in the order in which packets meet them (netfilter's).
fn hooks(path: Path) -> &'static [Hook] {
    match path {
        Path::Input => &[Hook::Ingress, Hook::Prerouting, Hook::Input],
        Path::Forward => &[Hook::Ingress, Hook::Prerouting, Hook::Forward, Hook::Postrouting, Hook::Egress],
        Path::Output => &[Hook::Output, Hook::Postrouting, Hook::Egress],
    }
}

/// The chains of a way, by their place in [`Filter::chains`], those first that packets meet first.
pub fn chains(filter: &Filter, path: Path) -> Vec<usize> {
    let of = |hook: &Hook| {
        let hook = *hook;
        filter.chains.iter().enumerate().filter(move |(_, chain)| chain.hook == hook).map(|(at, _)| at)
    };
    hooks(path).iter().flat_map(of).collect()
}

/// The ways on which something but a policy to accept is met.
pub fn filtered(filter: &Filter) -> Vec<Path> {
    let is_filtered = |path: &Path| chains(filter, *path).iter().any(|at| !is_open(&filter.chains[*at]));
    Path::ALL.into_iter().filter(is_filtered).collect()
}

/// What all packets of a way have: an interface that they come in by, unless they are the host's own,
/// and one that they leave by, unless they are for it.
pub fn on_the_way(path: Path) -> Conditions {
    let none = IntervalSet::single(0);
    let (input, output) = match path {
        Path::Input => (none.complement(), none),
        Path::Forward => (none.complement(), none.complement()),
        Path::Output => (none.clone(), none.complement()),
    };
    let conditions = Conditions::default().and(Variable::InputInterface, &input);
    conditions.and_then(|conditions| conditions.and(Variable::OutputInterface, &output)).expect("two variables")
}

/// What else all packets have that come in for an address of the machine's own: the routes of a host
/// say so of its unicast addresses, whatever they are (RTN_LOCAL of linux/rtnetlink.h).
pub fn for_itself(filter: &Filter) -> Conditions {
    let rows = filter.chains.iter().flat_map(|chain| {
        let v4 = chain.decisions.v4.iter().map(|row| &row.matches.conditions);
        v4.chain(chain.decisions.v6.iter().map(|row| &row.matches.conditions))
    });
    let variables = rows.flat_map(Conditions::iter).map(|(variable, _)| variable);
    let facts = variables.filter_map(|variable| Some((variable, is_local(variable)?)));
    facts.fold(Conditions::default(), |all, (variable, values)| all.and(variable.clone(), &values).unwrap_or(all))
}

/// The values of a variable that is about the destination's type, when that is local.
fn is_local(variable: &Variable) -> Option<IntervalSet<u128>> {
    const TYPES: [&str; 9] = ["unspec", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit"];
    const NAME: &str = "fib daddr type";
    match variable {
        Variable::Field(name) if &**name == NAME => Some(IntervalSet::single(2)),
        Variable::Holds(text) => {
            let asked = text.strip_prefix(NAME)?.trim();
            let (is_not, asked) = asked.strip_prefix("!=").map_or((false, asked), |rest| (true, rest.trim()));
            let asked = asked.strip_prefix('{').and_then(|list| list.strip_suffix('}')).unwrap_or(asked);
            let asked: Vec<&str> = asked.split(',').map(str::trim).collect();
            let is_read = asked.iter().all(|name| TYPES.contains(name));
            is_read.then(|| truth(asked.contains(&"local") != is_not))
        }
        _ => None,
    }
}

/// A family's rows of a chain.
pub trait Rows: Address {
    fn rows<D>(table: &Table<D>) -> &[Row<Self, D>];
    fn packets(packets: &Packets) -> &[Matches<Self>];
    fn packets_mut(packets: &mut Packets) -> &mut Vec<Matches<Self>>;
}

impl Rows for std::net::Ipv4Addr {
    fn rows<D>(table: &Table<D>) -> &[Row<Self, D>] {
        &table.v4
    }
    fn packets(packets: &Packets) -> &[Matches<Self>] {
        &packets.v4
    }
    fn packets_mut(packets: &mut Packets) -> &mut Vec<Matches<Self>> {
        &mut packets.v4
    }
}

impl Rows for std::net::Ipv6Addr {
    fn rows<D>(table: &Table<D>) -> &[Row<Self, D>] {
        &table.v6
    }
    fn packets(packets: &Packets) -> &[Matches<Self>] {
        &packets.v6
    }
    fn packets_mut(packets: &mut Packets) -> &mut Vec<Matches<Self>> {
        &mut packets.v6
    }
}

/// What becomes of these packets on a way, by outcome; together they are all of them, and disjoint when
/// the packets are. In the order of the chains and rules that decide.
pub fn pass(filter: &Filter, path: Path, packets: &Packets, budget: &mut Budget) -> Result<Vec<(Outcome, Packets)>, Exhausted> {
    let mut found = Found::default();
    of_family::<std::net::Ipv4Addr>(filter, path, packets, budget, &mut found)?;
    of_family::<std::net::Ipv6Addr>(filter, path, packets, budget, &mut found)?;
    let mut all = found.all;
    // Refused first, as packets would meet it.
    all.sort_by_cached_key(|(outcome, _)| {
        let place = |by: &By| (by.chain, by.rule.is_none(), by.rule);
        (outcome.told().first().map(place), outcome.fate, outcome.told().iter().map(place).collect::<Vec<_>>())
    });
    Ok(all)
}

#[derive(Default)]
struct Found {
    all: Vec<(Outcome, Packets)>,
    places: HashMap<Outcome, usize>,
}

impl Found {
    fn add<A: Rows>(&mut self, outcome: Outcome, packets: Vec<Matches<A>>) {
        let place = *self.places.entry(outcome.clone()).or_insert_with(|| {
            self.all.push((outcome, Packets::default()));
            self.all.len() - 1
        });
        A::packets_mut(&mut self.all[place].1).extend(packets);
    }
}

fn of_family<A: Rows>(filter: &Filter, path: Path, packets: &Packets, budget: &mut Budget, found: &mut Found) -> Result<(), Exhausted> {
    let mut here: Vec<(Outcome, Vec<Matches<A>>)> = vec![(Outcome::untouched(), A::packets(packets).to_vec())];
    for at in chains(filter, path) {
        let rows = A::rows(&filter.chains[at].decisions);
        let mut after: HashMap<Outcome, usize> = HashMap::new();
        let mut passed: Vec<(Outcome, Vec<Matches<A>>)> = Vec::new();
        for (outcome, packets) in here {
            for packets in packets {
                for part in parts(rows, &packets, budget)? {
                    let decision = rows[part.row.expect("the last row matches everything")].decision;
                    let next = outcome.then(at, decision);
                    if !next.fate.accepts() {
                        found.add(next, vec![part.matches]);
                        continue;
                    }
                    let place = *after.entry(next.clone()).or_insert_with(|| {
                        passed.push((next, Vec::new()));
                        passed.len() - 1
                    });
                    passed[place].1.push(part.matches);
                }
            }
        }
        here = passed;
    }
    for (outcome, packets) in here.into_iter().filter(|(_, packets)| !packets.is_empty()) {
        found.add(outcome, packets);
    }
    Ok(())
}

/// A way as one list of rows.
pub struct Way {
    pub outcomes: Vec<Outcome>,
    /// Decisions are indices into `outcomes`. Total.
    pub table: Table<usize>,
}

impl Way {
    /// All chains of a way put together. The work is that of every accepting row of one chain with
    /// every row of the next.
    pub fn new(filter: &Filter, path: Path, budget: &mut Budget) -> Result<Self, Exhausted> {
        let mut known = Known { outcomes: vec![Outcome::untouched()], places: HashMap::from([(Outcome::untouched(), 0)]) };
        let mut table: Table<usize> = Table::default();
        table.otherwise(0);
        let chains = chains(filter, path);
        // Whom it lets pass without a rule, it need not name.
        let is_idle = |at: &usize| is_open(&filter.chains[*at]);
        let busy: Vec<usize> = chains.iter().copied().filter(|at| !is_idle(at)).collect();
        for at in if busy.is_empty() { &chains } else { &busy } {
            let next = &filter.chains[*at].decisions;
            table = Table {
                v4: both(&table.v4, &next.v4, *at, &mut known, budget)?,
                v6: both(&table.v6, &next.v6, *at, &mut known, budget)?,
            };
        }
        Ok(Self { outcomes: known.outcomes, table })
    }

    pub fn outcome(&self, decision: usize) -> &Outcome {
        &self.outcomes[decision]
    }
}

/// Whether a chain is nothing but its policy, which is to accept.
fn is_open(chain: &BaseChain) -> bool {
    let accepts = |decision: &Decision| decision.rule.is_none() && decision.verdict == FilterVerdict::Decided(Verdict::Accept);
    chain.decisions.v4.iter().all(|row| accepts(&row.decision)) && chain.decisions.v6.iter().all(|row| accepts(&row.decision))
}

struct Known {
    outcomes: Vec<Outcome>,
    places: HashMap<Outcome, usize>,
}

impl Known {
    fn place(&mut self, outcome: Outcome) -> usize {
        *self.places.entry(outcome.clone()).or_insert_with(|| {
            self.outcomes.push(outcome);
            self.outcomes.len() - 1
        })
    }
}

/// Rows of a family, and behind those that accept, the rows of the next chain.
fn both<A: Address>(
    rows: &[Row<A, usize>],
    next: &[Row<A, Decision>],
    chain: usize,
    known: &mut Known,
    budget: &mut Budget,
) -> Result<Vec<Row<A, usize>>, Exhausted> {
    let mut all = Vec::new();
    for row in rows {
        let outcome = known.outcomes[row.decision].clone();
        if !outcome.fate.accepts() {
            budget.spend(1)?;
            all.push(row.clone());
            continue;
        }
        let mut decisions: HashMap<Decision, usize> = HashMap::new();
        for other in next {
            budget.spend(1)?;
            let Some(matches) = row.matches.intersection(&other.matches) else { continue };
            let decision = *decisions.entry(other.decision).or_insert_with(|| known.place(outcome.then(chain, other.decision)));
            let is_whole = row.matches.is_subset(&other.matches);
            all.push(Row { matches, decision });
            if is_whole {
                break;
            }
        }
    }
    Ok(all)
}

/// Packets with the same outcome.
pub struct Passed {
    pub outcome: Outcome,
    pub packets: Packets,
    /// The same, without what is known anyway.
    pub said: Packets,
    pub witness: Witness,
}

/// What becomes of packets of which some things are known.
pub fn passed(filter: &Filter, path: Path, packets: &Packets, given: &Conditions, budget: &mut Budget) -> Result<Vec<Passed>, Exhausted> {
    let many = of_many();
    let to = |destination: &AddressSet| {
        let mut rows = Table::default();
        rows.push(&AddressSet::full(), destination, &UpperSet::any(), &Conditions::default(), ());
        packets.within(&rows)
    };
    let at_home = for_itself(filter);
    let (own, others) = match path == Path::Input && !at_home.is_empty() {
        true => (to(&many.complement()), to(&many)),
        false => (Packets::default(), packets.clone()),
    };
    let at_home = given.intersection(&at_home).unwrap_or_else(|| given.clone());
    let mut all: Vec<Passed> = Vec::new();
    for (packets, given) in [(own, &at_home), (others, given)] {
        for (outcome, packets) in pass(filter, path, &packets.where_holds(given), budget)? {
            let Some(witness) = packets.witness().map(|witness| shown(witness, &packets, given)) else { continue };
            let said = packets.clone().beyond(given);
            match all.iter_mut().find(|known| known.outcome == outcome) {
                Some(known) => {
                    known.packets.extend(&packets);
                    known.said.extend(&said);
                }
                None => all.push(Passed { outcome, packets, said, witness }),
            }
        }
    }
    Ok(all)
}

/// Names that interfaces have.
const INTERFACES: [&str; 4] = ["eth0", "eth1", "eth2", "other0"];

/// A witness without what all packets have, and with an interface's name that people know.
pub fn shown(mut witness: Witness, packets: &Packets, known: &Conditions) -> Witness {
    let first = |family| match family {
        Family::V4 => packets.v4.first().map(|packets| &packets.conditions),
        Family::V6 => packets.v6.first().map(|packets| &packets.conditions),
    };
    let Some(conditions) = first(witness.flow.family()) else { return witness };
    witness.conditions.retain(|(variable, _)| conditions.values(variable) != known.values(variable));
    for (variable, value) in &mut witness.conditions {
        let (Variable::InputInterface | Variable::OutputInterface) = variable else { continue };
        let names = INTERFACES.iter().filter_map(|name| interface(name));
        let mut fitting = names.filter(|name| conditions.values(variable).is_some_and(|values| values.contains(*name)));
        *value = fitting.next().unwrap_or(*value);
    }
    witness
}
