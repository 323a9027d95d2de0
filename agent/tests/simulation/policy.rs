//! Revisions of a policy, as small as they can be, and what each node gets of them.
//!
//! In: the text of a revision, who is in the fleet. Out: encoded rulesets; what one of them means for the way to the
//! controller. Never: the policy's own language: what it costs to compile is no matter here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ringwall_controller::agent::{Agent, Standing};
use ringwall_controller::id::NodeName;
use ringwall_controller::revision::Content;
use ringwall_packet::{AddressSet, Flow, Upper, UpperSet};
use ringwall_protocol::{decode_ruleset, encode_ruleset};
use ringwall_ruleset::{Effect, Entry, Floor, Forward, Path, Ruleset, Verdict};

const FILE: &str = "policy.yaml";
const CONTROLLER: &str = "192.0.2.254";

/// What a revision is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Who may reach the nodes: equal numbers, equal rulesets.
    pub users: u8,
    /// Nodes may reach each other: whoever joins changes all rulesets.
    pub is_mesh: bool,
    /// It leaves out the way to the controller.
    pub cuts_off: bool,
    /// Kernels that don't take it.
    pub refused_by: BTreeSet<String>,
}

impl Policy {
    pub fn content(&self) -> Content {
        let refused = self.refused_by.iter().cloned().collect::<Vec<_>>().join(",");
        let text = format!("{} {} {} {refused}", self.users, u8::from(self.is_mesh), u8::from(self.cuts_off));
        Content { files: [(FILE.to_owned(), text)].into(), ..Content::default() }
    }

    pub fn of(content: &Content) -> Self {
        let mut words = content.files[FILE].split(' ');
        let mut next = || words.next().expect("a word");
        Self {
            users: next().parse().expect("a number"),
            is_mesh: next() == "1",
            cuts_off: next() == "1",
            refused_by: next().split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        }
    }

    pub fn rulesets(&self, agents: &[Agent]) -> BTreeMap<NodeName, Arc<[u8]>> {
        let members: Vec<&Agent> = agents.iter().filter(|agent| agent.standing == Standing::Approved).collect();
        let all: AddressSet = members.iter().flat_map(|agent| agent.reported.iter().copied()).collect();
        members.iter().map(|agent| (agent.node.clone(), self.ruleset(agent, &all))).collect()
    }

    fn ruleset(&self, agent: &Agent, members: &AddressSet) -> Arc<[u8]> {
        let users = AddressSet::from_iter([IpAddr::from([203, 0, 113, self.users])]);
        let own: AddressSet = agent.reported.iter().copied().collect();
        let mut input = vec![entry("users", users, AddressSet::full())];
        if self.is_mesh {
            input.push(entry("mesh", members.clone(), own.clone()));
        }
        let controller = AddressSet::from_iter([controller()]);
        let output = if self.cuts_off { vec![] } else { vec![entry("controller", own.clone(), controller)] };
        let ruleset = Ruleset {
            node: agent.node.to_string(),
            audit: false,
            local: own,
            protected: AddressSet::default(),
            floor: Floor { dhcp: false, neighbour_discovery: true, multicast_listener: false },
            input,
            output,
            forward: Forward::Containers { unmanaged: [].into(), uplinks: [].into() },
        };
        encode_ruleset(&ruleset).0.to_vec().into()
    }
}

fn controller() -> IpAddr {
    CONTROLLER.parse().expect("an address")
}

fn entry(id: &str, source: AddressSet, destination: AddressSet) -> Entry {
    Entry {
        id: id.to_owned(),
        effect: Effect::Accept { session_timeout: None },
        source,
        destination,
        names: [].into(),
        upper: UpperSet::any(),
        interface: None,
        expires: None,
        audit: false,
        log: false,
    }
}

/// Whether a node of this address gets a new connection to the controller.
pub fn reaches_controller(ruleset: &[u8], from: IpAddr) -> bool {
    let ruleset = decode_ruleset(&ruleset.to_vec().into()).expect("it was decoded before");
    let flow = Flow::new(from, controller(), Upper::tcp(40_000, 7443)).expect("one family");
    ruleset.judge(Path::Output, &flow, |_| true, 0, |_, _| false).0 == Verdict::Accept
}
