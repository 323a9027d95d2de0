//! What a guide says, as values.
//!
//! In: nothing; these are the importer's results. Out: flows with the names that the guide uses and
//! the place of each. Never: a meaning (groups, services and rules come later), or a guess that is
//! not listed in [`Flow::inferred`].

use ringwall_diagnostic::{SourceId, Span};
use ringwall_packet::{Interval, IntervalSet, Protocol};
use std::fmt;
use std::sync::Arc;

/// One document.
#[derive(Clone, Debug)]
pub struct Guide {
    pub source: SourceId,
    /// From the front matter or the first heading; empty when there is neither.
    pub title: String,
    /// The headings in order, and the tabs under them.
    pub sections: Vec<Section>,
    pub flows: Vec<Flow>,
    pub legend: Vec<Abbreviation>,
    pub notes: Vec<Note>,
    pub timeouts: Vec<Timeout>,
    pub undecided: Vec<Undecided>,
}

impl Guide {
    /// The heading above a flow as a person would quote it: a tab is written behind its heading.
    pub fn section_title(&self, section: Option<usize>) -> String {
        let Some(section) = section.and_then(|index| self.sections.get(index)) else {
            return String::new();
        };
        match section.parent.and_then(|parent| self.sections.get(parent)) {
            Some(parent) if section.is_tab => format!("{}: {}", parent.title, section.title),
            _ => section.title.clone(),
        }
    }

    /// What the guide writes out for an abbreviation, such as `main node` for `MN`.
    pub fn meaning(&self, name: &str) -> Option<&str> {
        let found = self.legend.iter().find(|entry| entry.short.eq_ignore_ascii_case(name));
        found.map(|entry| entry.meaning.as_str())
    }
}

/// A heading, or a tab that divides what is under one.
#[derive(Clone, Debug)]
pub struct Section {
    pub title: String,
    /// 1 to 6 as in Markdown; a tab is one deeper than its heading.
    pub level: u8,
    pub is_tab: bool,
    /// Index of the enclosing section.
    pub parent: Option<usize>,
    /// When the section applies, in the guide's words: `if applicable`, `If X is used`.
    pub condition: Option<String>,
    pub span: Span,
}

/// Traffic that the guide asks for: one source, one destination, one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Index into [`Guide::sections`]; `None` above the first heading.
    pub section: Option<usize>,
    pub action: Action,
    /// As the guide writes it, without markup; empty when the guide does not say.
    pub source: Arc<str>,
    pub source_port: Ports,
    /// As the guide writes it, without markup; empty when the guide does not say.
    pub destination: Arc<str>,
    pub protocol: Transport,
    pub port: Ports,
    /// The service as the guide names it: `SMTP` for `420/SMTP`; empty when it gives no name.
    pub label: Arc<str>,
    /// Description and remarks.
    pub note: Arc<str>,
    /// When the row applies, in the guide's words: `optional`.
    pub condition: Option<Arc<str>>,
    pub direction: Direction,
    /// Which fields are not in the row itself but come from a heading, a sentence or another row.
    pub inferred: Vec<Field>,
    /// The row, item or sentence.
    pub span: Span,
    /// Row of the table from 1, without the header; 0 outside tables.
    pub row: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Allow,
    Deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// The guide does not say.
    Unstated,
    /// The guide says that all protocols are meant.
    Any,
    Is(Protocol),
}

impl Transport {
    pub fn protocol(self) -> Option<Protocol> {
        match self {
            Self::Is(protocol) => Some(protocol),
            Self::Unstated | Self::Any => None,
        }
    }
}

/// Lower case; empty when the guide does not say.
impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unstated => Ok(()),
            Self::Any => f.write_str("any"),
            Self::Is(protocol) => match crate::words::protocol_name(*protocol) {
                Some(name) => f.write_str(name),
                None => write!(f, "{protocol}"),
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// The guide does not say, or the protocol has none.
    Unstated,
    Any,
    /// In the order of the guide; adjacent ports are not merged.
    List(Arc<[Interval<u16>]>),
    /// ICMP types.
    Types(Arc<[u8]>),
}

impl Ports {
    /// As a set; empty unless ports are stated.
    pub fn set(&self) -> IntervalSet<u16> {
        match self {
            Self::Any => IntervalSet::full(),
            Self::List(list) => list.iter().copied().collect(),
            Self::Unstated | Self::Types(_) => IntervalSet::default(),
        }
    }
}

/// `443`, `5723,5724`, `30000-32767`, `any`, `type 0,8`; empty when unstated.
impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unstated => Ok(()),
            Self::Any => f.write_str("any"),
            Self::List(list) => {
                for (index, interval) in list.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    match interval.is_single() {
                        true => write!(f, "{comma}{}", interval.first())?,
                        false => write!(f, "{comma}{}-{}", interval.first(), interval.last())?,
                    }
                }
                Ok(())
            }
            Self::Types(types) => {
                f.write_str("type ")?;
                for (index, kind) in types.iter().enumerate() {
                    write!(f, "{}{kind}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The source opens the connection.
    OneWay,
    /// Either end opens connections to the port at the other.
    Both,
    /// On one host.
    Local,
    /// The guide does not say who opens the connection.
    Unknown,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneWay => "oneway",
            Self::Both => "both",
            Self::Local => "local",
            Self::Unknown => "unknown",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    Source,
    Destination,
    Protocol,
    Direction,
}

/// `MN`: `main node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abbreviation {
    pub short: String,
    pub meaning: String,
    pub span: Span,
}

/// An admonition such as "Important".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Lower case: `important`, `info`, `note`, `warning`, `tip`, `caution`, `danger`.
    pub kind: String,
    pub text: String,
    pub span: Span,
}

/// "a timeout of 14.400 seconds" is 14400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    pub section: Option<usize>,
    pub seconds: u64,
    pub span: Span,
}

/// A row that gives no flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    pub section: Option<usize>,
    /// The row as it stands in the guide, on one line.
    pub text: String,
    pub reason: String,
    pub span: Span,
}
