//! Policy and node -> ruleset, and the proof that it is the policy.
//!
//! In: a resolved policy and the name of one of its nodes. Out: that node's rules, clipped to it and
//! in order of precedence, and what the operator should know about them. Never: a ruleset that is not
//! proved, node state, a clock; the same policy gives the same ruleset.

mod proof;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringwall_diagnostic::Diagnostic;
use ringwall_packet::{AddressSet, Family, UpperSet};
use ringwall_policy::{Action, End, Name, Node, Policy, Rule, Stage, receivable};
use ringwall_ruleset::nftables::{Confirm, Generation, Installed, Loading, transaction};
use ringwall_ruleset::{Effect, Entry, Floor, Forward, Path, Ruleset};

pub use proof::{Unproved, prove};

/// The id of the floor's management entry.
pub const MANAGEMENT: &str = "management";

/// What was proved to do what the policy says; only [`compile`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// It may be changed then, and is no longer proved.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A node's ruleset, and what the operator should know about it.
pub type Compiled = (Verified<Ruleset>, Vec<Diagnostic>);

/// The rules of one node, and the proof that their text does what the policy says. The error is a
/// node that the policy does not have, or a fault of ours.
///
/// What is proved is the text of a trial over an older generation: the switch armed and expired. Who loads a
/// text for a node as it is proves that one too, with [`prove`].
pub fn compile(policy: &Policy, node: &str) -> Result<Compiled, Unproved> {
    let (ruleset, warnings) = clip(policy, node).ok_or_else(|| Unproved::NoNode(node.to_owned()))?;
    let (generation, confirm) = (Generation(2), Confirm::Within(60));
    let chains = ["g1_in", "g1_out", "g1_fwd"].map(String::from).to_vec();
    let installed = Installed { current: Some(Generation(1)), chains, ..Installed::default() };
    let text = transaction(&ruleset, generation, &installed, confirm);
    prove(policy, node, &Loading { text: &text, generation, installed: &installed, confirm })?;
    Ok((Verified(ruleset), warnings))
}

/// The same for many nodes of a policy, on all cores.
pub fn compile_all<'a>(policy: &Policy, nodes: impl IntoIterator<Item = &'a Name>) -> BTreeMap<&'a Name, Result<Compiled, Unproved>> {
    let names: Vec<&Name> = nodes.into_iter().collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((*name, compile(policy, name.as_str())));
        }
        done
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(names.len());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    })
}

fn clip(policy: &Policy, node: &str) -> Option<(Ruleset, Vec<Diagnostic>)> {
    let node = policy.nodes.get(node)?;
    let local = node.local();
    let received = local.union(&receivable(policy.internal.as_ref()));
    let near = received.union(&node.routes);
    let is_near = |end: &End| !end.addresses.is_disjoint(&near);
    let mut rules: Vec<&Rule> =
        policy.rules.iter().filter(|rule| is_near(&rule.source) || is_near(&rule.destination)).collect();
    rules.sort_by(|a, b| (a.action == Action::Allow, &a.id).cmp(&(b.action == Action::Allow, &b.id)));
    let compiler = Compiler { policy, node, local, received, rules };
    let forward = if node.routes.is_empty() {
        let uplinks = node.interfaces.values().filter(|name| !node.unmanaged.contains(*name)).cloned().collect();
        Forward::Containers { unmanaged: node.unmanaged.clone(), uplinks }
    } else {
        Forward::Routed(compiler.entries(Path::Forward))
    };
    let ruleset = Ruleset {
        node: node.name.to_string(),
        audit: node.stage == Stage::Audit,
        local: compiler.local.clone(),
        protected: policy.protected.clone(),
        floor: Floor {
            dhcp: !policy.floor.without_dhcp,
            neighbour_discovery: !policy.floor.without_neighbour_discovery,
            multicast_listener: !policy.floor.without_multicast_listener,
        },
        input: compiler.entries(Path::Input),
        output: compiler.entries(Path::Output),
        forward,
    };
    Some((ruleset, compiler.warnings()))
}

struct Compiler<'a> {
    policy: &'a Policy,
    node: &'a Node,
    local: AddressSet,
    /// What the node may receive on.
    received: AddressSet,
    /// Those that name what the node sends, receives or routes; deny before allow, each by id.
    rules: Vec<&'a Rule>,
}

impl Compiler<'_> {
    fn entries(&self, path: Path) -> Vec<Entry> {
        let mut entries = self.management(path);
        for rule in &self.rules {
            let Ok(interface) = self.interface(rule) else { continue };
            let effect = match (rule.action, path) {
                (Action::Allow, _) => Effect::Accept { session_timeout: rule.session_timeout },
                // A local program learns at once; a stranger learns nothing, unless the rule says so.
                (Action::Deny, Path::Output) => Effect::Reject,
                (Action::Deny, Path::Input | Path::Forward) if rule.reject => Effect::Reject,
                (Action::Deny, Path::Input | Path::Forward) => Effect::Drop,
            };
            let mut pairs = Vec::new();
            for (source, destination) in rule.directions() {
                pairs.extend(self.clip(path, &source.addresses, destination));
            }
            // Both directions of `A <-> A` are the same.
            pairs.sort();
            pairs.dedup();
            if pairs.is_empty() {
                continue;
            }
            let upper = rule.upper();
            entries.extend(pairs.into_iter().map(|(source, destination, names)| Entry {
                id: rule.id.to_string(),
                effect,
                source,
                destination,
                names,
                upper: upper.clone(),
                interface: interface.clone(),
                expires: rule.expires,
                audit: rule.stage == Stage::Audit,
                log: rule.log,
            }));
        }
        entries
    }

    fn management(&self, path: Path) -> Vec<Entry> {
        let Some(management) = self.policy.management.as_ref().filter(|_| !self.policy.floor.without_management) else {
            return Vec::new();
        };
        let upper: UpperSet = management.services.iter().flat_map(|service| service.upper.cubes()).cloned().collect();
        let nodes = End { text: String::new(), addresses: self.policy.node_addresses(), names: Default::default() };
        let pairs = self.clip(path, &management.from.addresses, &nodes);
        let entry = |(source, destination, names)| Entry {
            id: MANAGEMENT.into(),
            effect: Effect::Accept { session_timeout: None },
            source,
            destination,
            names,
            upper: upper.clone(),
            interface: None,
            expires: None,
            audit: false,
            log: false,
        };
        pairs.into_iter().map(entry).collect()
    }

    /// The parts of a pair of ends that go this way through the node, without those that can't
    /// match any packet.
    fn clip(
        &self,
        path: Path,
        source: &AddressSet,
        destination: &End,
    ) -> Vec<(AddressSet, AddressSet, std::collections::BTreeSet<String>)> {
        let (to, routes) = (&destination.addresses, &self.node.routes);
        let mut pairs = match path {
            Path::Input if !to.is_disjoint(&self.received) => vec![(source.clone(), to.intersection(&self.received))],
            Path::Output if !source.is_disjoint(&self.local) => vec![(source.intersection(&self.local), to.clone())],
            Path::Forward if !routes.is_empty() => {
                vec![(source.intersection(routes), to.clone()), (source.difference(routes), to.intersection(routes))]
            }
            Path::Input | Path::Output | Path::Forward => Vec::new(),
        };
        pairs.retain(|(source, to)| Family::ALL.iter().any(|family| source.has(*family) && to.has(*family)));
        let mut clipped: Vec<_> = pairs.into_iter().map(|(source, to)| (source, to, Default::default())).collect();
        if !destination.names.is_empty() {
            let from = match path {
                Path::Input => AddressSet::default(),
                Path::Output => source.intersection(&self.local),
                Path::Forward => source.intersection(routes),
            };
            if !from.is_empty() {
                clipped.push((from, AddressSet::full(), destination.names.clone()));
            }
        }
        clipped
    }

    /// The kernel's name of the interface that a rule asks for; the error is the policy's name of
    /// an interface that this node does not have.
    fn interface<'r>(&self, rule: &'r Rule) -> Result<Option<String>, &'r Name> {
        let Some(via) = &rule.via else { return Ok(None) };
        self.node.interfaces.get(via).map(|name| Some(name.clone())).ok_or(via)
    }

    fn warnings(&self) -> Vec<Diagnostic> {
        let mut warnings = Vec::new();
        for rule in &self.rules {
            let (missing, header) = (self.interface(rule).err(), extension_header(rule));
            if missing.is_none() && header.is_none() {
                continue;
            }
            let clips = |path| {
                rule.directions().flat_map(move |(source, destination)| self.clip(path, &source.addresses, destination))
            };
            let mut concerned = Path::ALL.into_iter().flat_map(clips).peekable();
            if concerned.peek().is_none() {
                continue;
            }
            if concerned.any(|(source, destination, _)| source.has(Family::V6) && destination.has(Family::V6)) {
                warnings.extend(header);
            }
            if let Some(via) = missing {
                let node = &self.node.name;
                let message = format!("node `{node}` has no interface `{via}`, so it does not open this rule");
                warnings.push(
                    Diagnostic::warning("RW3001", message)
                        .at(rule.origin.span, format!("asks for `{via}`"))
                        .help(format!("name it under the node: `interfaces: {{ {via}: KERNEL_NAME }}`")),
                );
            }
        }
        warnings
    }
}

/// The kernel judges an IPv6 packet by the first header that is none of these (RFC 8200 §4;
/// `ipv6_ext_hdr` and `nft_set_pktinfo_ipv6` in Linux, which stops at AH): hop-by-hop options,
/// routing, fragment, destination options.
const EXTENSION_HEADERS: [u8; 4] = [0, 43, 44, 60];

fn extension_header(rule: &Rule) -> Option<Diagnostic> {
    let named = rule.services.iter().find_map(|service| {
        let numbers = service.upper.cubes().iter().filter_map(|cube| cube.protocols().only());
        numbers.into_iter().find(|number| EXTENSION_HEADERS.contains(number)).map(|number| (service, number))
    });
    let (service, number) = named?;
    let message = format!("`{}` matches no IPv6 packet: protocol {number} is an extension header there", service.text);
    Some(
        Diagnostic::warning("RW3002", message)
            .at(rule.origin.span, "is meant for IPv6 too")
            .help("name the protocol that follows the extension header, such as `tcp/443`"),
    )
}
