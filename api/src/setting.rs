//! Settings of nodes, made centrally.
//!
//! In and out: shapes alone. Never: what a setting means.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    pub node: String,
    pub name: String,
    pub value: serde_json::Value,
    /// Of all settings together: each change takes the next one.
    pub revision: u64,
}

/// All settings, by node and name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Settings {
    pub settings: Vec<Setting>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSetting {
    pub value: serde_json::Value,
}
