//! Exact sets of flows.
//!
//! In: addresses, prefixes, protocols and ports as types. Out: sets of them with union, intersection,
//! difference, emptiness and a witness. Never: names, files, clocks, or an approximation: every
//! answer is exact, for both families.

mod address;
mod flow;
mod flow_set;
mod interval;
mod matches;
mod packets;
mod protocol;
mod table;

pub use address::{AddressSet, Family, is_documentation, not_global, of_many, of_no_one};
pub use flow::{Flow, Header, PortProtocol, State, Upper};
pub use flow_set::{Cube, FlowSet, Space, UpperCube, UpperSet};
pub use interval::{Interval, IntervalSet, Point};
pub use matches::{Address, Conditions, Matches, Variable, Witness, interface, interfaces_from, truth};
pub use packets::{Packets, disjoint, taken};
pub use protocol::Protocol;
pub use table::{canonical, cover, parts, Budget, Change, Cover, Dead, Difference, Exhausted, Part, Row, Table};
