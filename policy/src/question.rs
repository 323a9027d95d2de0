//! What somebody asks about: flows between two ends.

use ringwall_packet::{AddressSet, Conditions, Table, UpperSet, truth};

use crate::model::{End, Name, ServiceUse};
use crate::table::{is_answer, merged, uses_interface};

/// The flows of certain services from one end to the other, resolved like a rule's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Has no DNS names.
    pub source: End,
    pub destination: End,
    /// The flows from `destination` to `source` as well; then neither has DNS names.
    pub both_ways: bool,
    /// Empty means every service.
    pub services: Vec<ServiceUse>,
    /// The policy's name of the interface that the flow uses; else it may be any.
    pub via: Option<Name>,
}

impl Question {
    pub fn upper(&self) -> UpperSet {
        match self.services[..] {
            [] => UpperSet::any(),
            _ => merged(&self.services.iter().flat_map(|service| service.upper.cubes()).cloned().collect()),
        }
    }

    /// Its packets, as rows that may overlap. No rows: no packet can go from one end to the other.
    pub fn packets(&self) -> Table<()> {
        let mut table = Table::default();
        let upper = self.upper();
        let uses = |via: &Name| Conditions::default().and(uses_interface(via.as_str()), &truth(true));
        let conditions = self.via.as_ref().and_then(uses).unwrap_or_default();
        table.push(&self.source.addresses, &self.destination.addresses, &upper, &conditions, ());
        if self.both_ways && self.source.addresses != self.destination.addresses {
            table.push(&self.destination.addresses, &self.source.addresses, &upper, &conditions, ());
        }
        for name in &self.destination.names {
            let asked = conditions.and(is_answer(name), &truth(true)).expect("two variables");
            table.push(&self.source.addresses, &AddressSet::full(), &upper, &asked, ());
        }
        table
    }
}
