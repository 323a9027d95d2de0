//! Settings of a node, made centrally: such as the services that it hosts.
//!
//! In: a node, a name, JSON. Out: what it means, or why it means nothing; who set it last is in the audit log.
//! Never: a setting that is kept and has no effect.

use ringwall_policy::Name;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{NodeName, SettingName};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    pub node: NodeName,
    pub name: SettingName,
    pub value: Value,
    /// Of all settings together: a change takes the next one, so that a reader knows the latest.
    pub revision: u64,
}

/// What a setting says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// `hosts`
    Hosts(Hosts),
}

/// The node hosts services, and these may reach them: one more rule of the policy, in force wherever the policy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hosts {
    /// As a rule of the policy names them: `https`, `tcp/8443`.
    pub services: Vec<String>,
    /// Groups and nodes of the policy, or `internet`, `internal`, `any`.
    pub from: Vec<String>,
}

/// Services, and groups, in one setting.
const NAMES_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Meaningless {
    #[error("there is no setting `{0}`; there is: hosts")]
    Unknown(SettingName),
    #[error("`hosts` is {{\"services\": [\"https\", \"tcp/8443\"], \"from\": [\"users\"]}}: {0}")]
    Hosts(String),
}

impl Meaning {
    pub fn of(name: &SettingName, value: &Value) -> Result<Self, Meaningless> {
        match name.as_str() {
            "hosts" => Hosts::of(value).map(Meaning::Hosts).map_err(Meaningless::Hosts),
            _ => Err(Meaningless::Unknown(name.clone())),
        }
    }
}

impl Hosts {
    /// Whether the services and groups exist is the policy's to say.
    fn of(value: &Value) -> Result<Self, String> {
        let hosts = Self::deserialize(value).map_err(|error| error.to_string())?;
        for (what, names) in [("services", &hosts.services), ("from", &hosts.from)] {
            if names.is_empty() || names.len() > NAMES_MAX {
                return Err(format!("`{what}` has 1 to {NAMES_MAX} names"));
            }
        }
        let is_service = |service: &&String| service.len() <= 100 && !service.is_empty() && !service.chars().any(char::is_control);
        if let Some(from) = hosts.from.iter().find(|from| Name::new(from).is_none()) {
            return Err(format!("`{}` is no name of a group", from.chars().take(80).collect::<String>()));
        }
        match hosts.services.iter().find(|service| !is_service(service)) {
            Some(service) => Err(format!("`{}` is no service", service.chars().filter(|c| !c.is_control()).take(80).collect::<String>())),
            None => Ok(hosts),
        }
    }
}
