//! Names in certificates: URIs after SPIFFE (SPIFFE-ID standard, section 2), with the fleet as trust domain.
//!
//! In: the URI of a certificate. Out: whom it names. Never: a name in another spelling.

use std::fmt;
use std::str::FromStr;

use crate::id::{AgentId, FleetId, Malformed, NodeName};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// `spiffe://FLEET`: the CA itself.
    Fleet(FleetId),
    /// `spiffe://FLEET/agent/UUID`
    Agent(FleetId, AgentId),
    /// `spiffe://FLEET/controller/NAME`
    Controller(FleetId, NodeName),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Fleet(fleet) => write!(f, "spiffe://{fleet}"),
            Name::Agent(fleet, agent) => write!(f, "spiffe://{fleet}/agent/{agent}"),
            Name::Controller(fleet, name) => write!(f, "spiffe://{fleet}/controller/{name}"),
        }
    }
}

impl FromStr for Name {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed::new("a name of this program's certificates", text);
        let path = text.strip_prefix("spiffe://").ok_or_else(malformed)?;
        let parts: Vec<_> = path.splitn(4, '/').collect();
        let fleet = |fleet: &str| fleet.parse().map_err(|_| malformed());
        match parts[..] {
            [of] => Ok(Name::Fleet(fleet(of)?)),
            [of, "agent", agent] => Ok(Name::Agent(fleet(of)?, agent.parse().map_err(|_| malformed())?)),
            [of, "controller", name] => Ok(Name::Controller(fleet(of)?, name.parse().map_err(|_| malformed())?)),
            _ => Err(malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        let fleet = FleetId::new([1; 16]);
        for name in [
            Name::Fleet(fleet),
            Name::Agent(fleet, AgentId::new([0xab; 16])),
            Name::Controller(fleet, "main".parse().expect("a name")),
        ] {
            assert_eq!(name.to_string().parse(), Ok(name.clone()));
            for wrong in [format!("{name}/"), format!("{name}?a"), format!("{name}#a"), name.to_string().replace("spiffe", "SPIFFE")] {
                assert!(wrong.parse::<Name>().is_err(), "{wrong}");
            }
        }
        assert!(format!("spiffe://{fleet}/agent/../x").parse::<Name>().is_err());
    }
}
