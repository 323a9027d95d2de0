//! The stream between an agent and its controller: its first messages, and what may follow.

use std::net::IpAddr;

use bytes::Bytes;

use crate::Place;
use crate::assignment::{Ack, Assignment, Refusal};
use crate::event::Event;
use crate::field::{Invalid, addresses, array, invalid, most, name, non_zero, octets, place, text, there};
use crate::generated as wire;
use crate::list::ListRevision;

/// Versions of this protocol that a side speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Never 0, never after `newest`.
    pub oldest: u32,
    pub newest: u32,
}

impl Versions {
    /// The newest that both speak.
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// What an agent says of its machine. Nothing in it is believed without an operator's word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub addresses: Vec<IpAddr>,
    pub kernel: String,
    pub nft: String,
    pub system: String,
}

/// Where an agent stands: its first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub versions: Versions,
    /// Optional abilities. A controller sends nothing that needs one which is not named.
    pub features: Vec<String>,
    /// The agent's version.
    pub agent: String,
    /// The kernel's boot id: another one means that its state began anew.
    pub boot: [u8; 16],
    /// The newest assignment that the agent took over.
    pub taken: Option<Place>,
    /// The assignment that is confirmed.
    pub confirmed: Option<Place>,
    /// The kernel's generation; 0 when none is enforced.
    pub generation: u32,
    pub lists: Vec<ListRevision>,
    pub facts: Facts,
}

/// The controller's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub version: u32,
    pub epoch: u64,
    pub session: [u8; 16],
    /// The controller's clock, seconds since the epoch; for people.
    pub time: u64,
    /// Seconds between heartbeats, at least 1; after three in silence the other side counts as gone.
    pub heartbeat: u32,
}

/// What an operator wants of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ends the trial of this assignment now.
    Rollback(Place),
    /// Ends management; `remove` takes the rules out, too.
    Release { remove: bool },
    /// The certificate was revoked, with a text for people.
    Revoked(String),
    /// Connect again after so many seconds.
    Move(u32),
    /// End the stream and open another.
    Resync,
}

/// Which end of probes an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It sends them.
    Source,
    /// It listens where nobody does, and watches.
    Destination,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToController {
    Hello(Hello),
    Ack(Ack),
    Refusal(Refusal),
    Heartbeat(u64),
    Event(Event),
    /// What became of [`ToAgent::Probes`], some JSON lines at a time: `ringwall.probe-observation/1` of a source,
    /// `ringwall.probe-evidence/1` of a destination.
    Observations { id: u64, observations: Bytes },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToAgent {
    Welcome(Welcome),
    Assignment(Assignment),
    /// What [`crate::List::encode`] made, once for all agents.
    List(Bytes),
    /// The lists that there are: the first word on lists in a stream. One that is not named stays as it is.
    Lists(Vec<ListRevision>),
    Heartbeat(u64),
    /// Answers name the id.
    Order(u64, Order),
    /// Flows to try, or to watch for: JSON lines, `ringwall.probe-plan/1`.
    Probes { id: u64, role: Role, plan: Bytes },
    /// The destination of these may stop watching.
    EndProbes(u64),
}

impl TryFrom<wire::VersionRange> for Versions {
    type Error = Invalid;

    fn try_from(wire::VersionRange { oldest, newest }: wire::VersionRange) -> Result<Self, Invalid> {
        if oldest == 0 || newest < oldest {
            return Err(invalid("VersionRange.oldest", format!("is {oldest}, with {newest} as the newest")));
        }
        Ok(Self { oldest, newest })
    }
}

impl From<Versions> for wire::VersionRange {
    fn from(Versions { oldest, newest }: Versions) -> Self {
        Self { oldest, newest }
    }
}

impl TryFrom<wire::Facts> for Facts {
    type Error = Invalid;

    fn try_from(from: wire::Facts) -> Result<Self, Invalid> {
        Ok(Self {
            addresses: addresses("Facts.addresses", &from.addresses)?,
            kernel: text("Facts.kernel", from.kernel)?,
            nft: text("Facts.nft", from.nft)?,
            system: text("Facts.system", from.system)?,
        })
    }
}

impl From<Facts> for wire::Facts {
    fn from(from: Facts) -> Self {
        let addresses = from.addresses.iter().map(octets).collect();
        Self { addresses, kernel: from.kernel, nft: from.nft, system: from.system }
    }
}

impl TryFrom<wire::Hello> for Hello {
    type Error = Invalid;

    fn try_from(from: wire::Hello) -> Result<Self, Invalid> {
        most("Hello.features", from.features.len(), crate::FEATURES_MAX)?;
        most("Hello.lists", from.lists.len(), crate::LISTS_MAX)?;
        let features = from.features.into_iter().map(|feature| name("Hello.features", feature));
        Ok(Self {
            versions: there("Hello.versions", from.versions)?.try_into()?,
            features: features.collect::<Result<_, _>>()?,
            agent: name("Hello.agent", from.agent)?,
            boot: array("Hello.boot", &from.boot)?,
            taken: from.taken.map(|taken| place("Hello.taken", taken)).transpose()?,
            confirmed: from.confirmed.map(|confirmed| place("Hello.confirmed", confirmed)).transpose()?,
            generation: from.generation,
            lists: from.lists.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            facts: there("Hello.facts", from.facts)?.try_into()?,
        })
    }
}

impl From<Hello> for wire::Hello {
    fn from(from: Hello) -> Self {
        Self {
            versions: Some(from.versions.into()),
            features: from.features,
            agent: from.agent,
            boot: Bytes::copy_from_slice(&from.boot),
            taken: from.taken.map(Into::into),
            confirmed: from.confirmed.map(Into::into),
            generation: from.generation,
            lists: from.lists.into_iter().map(Into::into).collect(),
            facts: Some(from.facts.into()),
        }
    }
}

impl TryFrom<wire::Welcome> for Welcome {
    type Error = Invalid;

    fn try_from(from: wire::Welcome) -> Result<Self, Invalid> {
        if from.version == 0 || from.epoch == 0 || from.heartbeat == 0 {
            return Err(invalid("Welcome", "has a version, epoch or heartbeat of 0"));
        }
        Ok(Self {
            version: from.version,
            epoch: from.epoch,
            session: array("Welcome.session", &from.session)?,
            time: from.time,
            heartbeat: from.heartbeat,
        })
    }
}

impl From<Welcome> for wire::Welcome {
    fn from(from: Welcome) -> Self {
        let Welcome { version, epoch, session, time, heartbeat } = from;
        Self { version, epoch, session: Bytes::copy_from_slice(&session), time, heartbeat }
    }
}

impl TryFrom<wire::Order> for (u64, Order) {
    type Error = Invalid;

    fn try_from(from: wire::Order) -> Result<Self, Invalid> {
        use wire::order::Order as Wire;
        let order = match there("Order.order", from.order)? {
            Wire::Rollback(found) => Order::Rollback(place("Order.rollback", found)?),
            Wire::Release(release) => Order::Release { remove: release.remove },
            Wire::Revoked(revoked) => Order::Revoked(text("Revoked.detail", revoked.detail)?),
            Wire::Move(seconds) => Order::Move(seconds),
            Wire::Resync(wire::Resync {}) => Order::Resync,
        };
        Ok((from.id, order))
    }
}

fn order(id: u64, order: Order) -> wire::Order {
    use wire::order::Order as Wire;
    let order = match order {
        Order::Rollback(place) => Wire::Rollback(place.into()),
        Order::Release { remove } => Wire::Release(wire::Release { remove }),
        Order::Revoked(detail) => Wire::Revoked(wire::Revoked { detail }),
        Order::Move(seconds) => Wire::Move(seconds),
        Order::Resync => Wire::Resync(wire::Resync {}),
    };
    wire::Order { id, order: Some(order) }
}

impl TryFrom<wire::ToController> for ToController {
    type Error = Invalid;

    fn try_from(from: wire::ToController) -> Result<Self, Invalid> {
        use wire::to_controller::Message as Wire;
        Ok(match there("ToController.message", from.message)? {
            Wire::Hello(hello) => Self::Hello(hello.try_into()?),
            Wire::Ack(ack) => Self::Ack(ack.try_into()?),
            Wire::Refusal(refusal) => Self::Refusal(refusal.try_into()?),
            Wire::Heartbeat(heartbeat) => Self::Heartbeat(heartbeat.number),
            Wire::Event(event) => Self::Event(event.try_into()?),
            Wire::Observations(wire::Observations { id, observations }) => {
                most("Observations.observations", observations.len(), crate::OBSERVATIONS_MAX)?;
                Self::Observations { id: non_zero("Observations.id", id)?, observations }
            }
        })
    }
}

impl From<ToController> for wire::ToController {
    fn from(from: ToController) -> Self {
        use wire::to_controller::Message as Wire;
        let message = match from {
            ToController::Hello(hello) => Wire::Hello(hello.into()),
            ToController::Ack(ack) => Wire::Ack(ack.into()),
            ToController::Refusal(refusal) => Wire::Refusal(refusal.into()),
            ToController::Heartbeat(number) => Wire::Heartbeat(wire::Heartbeat { number }),
            ToController::Event(event) => Wire::Event(event.into()),
            ToController::Observations { id, observations } => Wire::Observations(wire::Observations { id, observations }),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<wire::ToAgent> for ToAgent {
    type Error = Invalid;

    fn try_from(from: wire::ToAgent) -> Result<Self, Invalid> {
        use wire::to_agent::Message as Wire;
        Ok(match there("ToAgent.message", from.message)? {
            Wire::Welcome(welcome) => Self::Welcome(welcome.try_into()?),
            Wire::Assignment(assignment) => Self::Assignment(assignment.try_into()?),
            Wire::List(list) => Self::List(list),
            Wire::Lists(wire::Lists { lists }) => {
                most("Lists.lists", lists.len(), crate::LISTS_MAX)?;
                Self::Lists(lists.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?)
            }
            Wire::Heartbeat(heartbeat) => Self::Heartbeat(heartbeat.number),
            Wire::Order(order) => {
                let (id, order) = order.try_into()?;
                Self::Order(id, order)
            }
            Wire::Probes(wire::Probes { id, plan, role }) => {
                most("Probes.plan", plan.len(), crate::PLAN_MAX)?;
                let role = match wire::probes::Role::try_from(role) {
                    Ok(wire::probes::Role::Source) => Role::Source,
                    Ok(wire::probes::Role::Destination) => Role::Destination,
                    Ok(wire::probes::Role::Unspecified) | Err(_) => return Err(invalid("Probes.role", "is unknown")),
                };
                Self::Probes { id: non_zero("Probes.id", id)?, role, plan }
            }
            Wire::EndProbes(id) => Self::EndProbes(non_zero("ToAgent.end_probes", id)?),
        })
    }
}

impl From<ToAgent> for wire::ToAgent {
    fn from(from: ToAgent) -> Self {
        use wire::to_agent::Message as Wire;
        let message = match from {
            ToAgent::Welcome(welcome) => Wire::Welcome(welcome.into()),
            ToAgent::Assignment(assignment) => Wire::Assignment(assignment.into()),
            ToAgent::List(list) => Wire::List(list),
            ToAgent::Lists(lists) => Wire::Lists(wire::Lists { lists: lists.into_iter().map(Into::into).collect() }),
            ToAgent::Heartbeat(number) => Wire::Heartbeat(wire::Heartbeat { number }),
            ToAgent::Order(id, found) => Wire::Order(order(id, found)),
            ToAgent::Probes { id, role, plan } => {
                let role = match role {
                    Role::Source => wire::probes::Role::Source,
                    Role::Destination => wire::probes::Role::Destination,
                };
                Wire::Probes(wire::Probes { id, plan, role: role.into() })
            }
            ToAgent::EndProbes(id) => Wire::EndProbes(id),
        };
        Self { message: Some(message) }
    }
}
