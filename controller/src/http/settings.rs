//! Settings of nodes.
//!
//! In: a node, a name, JSON. Out: rows; what is rolled out is compiled anew. Never: a setting that means nothing, or
//! with which what is rolled out would not compile.

use axum::extract::State;
use axum::http::StatusCode;
use ringwall_api as api;
use serde_json::Value;

use super::key::{Reader, Writer};
use super::part::{Json, Path};
use super::refused::Refused;
use super::{Api, Inner, to_the_end};
use crate::access::Access;
use crate::change::Change;
use crate::id::{NodeName, SettingName};
use crate::rulesets::Inventory;
use crate::setting::{Meaning, Setting};
use crate::store::{Read as _, Store as _};

/// Settings of one node.
const SETTINGS_MAX: usize = 256;

/// All settings.
#[utoipa::path(get, path = "/api/v1/settings", responses((status = 200, body = api::Settings)), security(("key" = ["read"])))]
pub async fn list(Reader(_): Reader, State(inner): Api) -> Result<Json<api::Settings>, Refused> {
    let settings = inner.state.store.read().await?.settings().await?;
    Ok(Json(api::Settings { settings: settings.iter().map(shape).collect() }))
}

/// The settings of one node.
#[utoipa::path(
    get, path = "/api/v1/nodes/{node}/settings", params(("node" = String, Path)),
    responses((status = 200, body = api::Settings)), security(("key" = ["read"])),
)]
pub async fn of_node(Reader(_): Reader, State(inner): Api, Path(node): Path<String>) -> Result<Json<api::Settings>, Refused> {
    let node: NodeName = node.parse()?;
    let settings = inner.state.store.read().await?.settings().await?;
    Ok(Json(api::Settings { settings: settings.iter().filter(|setting| setting.node == node).map(shape).collect() }))
}

/// Make or change a setting.
#[utoipa::path(
    put, path = "/api/v1/nodes/{node}/settings/{name}", params(("node" = String, Path), ("name" = String, Path)),
    request_body = api::SetSetting, responses((status = 200, body = api::Setting)), security(("key" = ["write"])),
)]
pub async fn set(
    Writer(key): Writer,
    State(inner): Api,
    Path((node, name)): Path<(String, String)>,
    Json(api::SetSetting { value }): Json<api::SetSetting>,
) -> Result<Json<api::Setting>, Refused> {
    let (node, name): (NodeName, SettingName) = (node.parse()?, name.parse()?);
    if value.is_null() {
        return Err(Refused::malformed("a setting's value is not `null`; DELETE takes the setting away"));
    }
    let (others, is_known) = {
        let mut read = inner.state.store.read().await?;
        let others = read.settings().await?.iter().filter(|setting| setting.node == node && setting.name != name).count();
        (others, read.agent_of(&node).await?.is_some())
    };
    // What nobody has can't pile up; a node that is gone may still be tidied.
    if !is_known {
        return Err(Refused::missing("node", node));
    }
    if others >= SETTINGS_MAX {
        return Err(Refused::malformed(format!("a node has at most {SETTINGS_MAX} settings")));
    }
    Meaning::of(&name, &value).map_err(|why| Refused::malformed(why.to_string()))?;
    let wanted = Setting { node: node.clone(), name: name.clone(), value: value.clone(), revision: 0 };
    let put = |inventory: &mut Inventory| {
        inventory.settings.retain(|setting| (&setting.node, &setting.name) != (&wanted.node, &wanted.name));
        inventory.settings.push(wanted);
    };
    inner.state.control.try_change(put).await?;
    let setting = changed(inner, key, node, name, Some(value)).await?;
    setting.map(Json).ok_or_else(|| Refused::missing("setting", "that was set"))
}

/// Take a setting away.
#[utoipa::path(
    delete, path = "/api/v1/nodes/{node}/settings/{name}", params(("node" = String, Path), ("name" = String, Path)),
    responses((status = 204)), security(("key" = ["write"])),
)]
pub async fn unset(
    Writer(key): Writer,
    State(inner): Api,
    Path((node, name)): Path<(String, String)>,
) -> Result<StatusCode, Refused> {
    let (node, name): (NodeName, SettingName) = (node.parse()?, name.parse()?);
    if inner.state.store.read().await?.setting(&node, &name).await?.is_none() {
        return Err(Refused::missing("setting", name));
    }
    changed(inner, key, node, name, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn changed(inner: Inner, key: Access, node: NodeName, name: SettingName, value: Option<Value>) -> Result<Option<api::Setting>, Refused> {
    to_the_end(async move {
        let change = Change::Set { node: node.clone(), name: name.clone(), value };
        inner.change(&key, change).await?;
        inner.state.control.refresh();
        Ok(inner.state.store.read().await?.setting(&node, &name).await?.as_ref().map(shape))
    })
    .await
}

fn shape(setting: &Setting) -> api::Setting {
    api::Setting { node: setting.node.to_string(), name: setting.name.to_string(), value: setting.value.clone(), revision: setting.revision }
}
