//! Settings of a node, made centrally: such as the ports on which it hosts an API.
//!
//! In: a node, a name, JSON. Out: the same, with who set it last in the audit log. Never: what a
//! setting means.

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
