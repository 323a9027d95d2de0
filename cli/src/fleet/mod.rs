//! The verbs that speak with a fleet's controller.
//!
//! In: flags, answers of the API. Out: requests, tables, JSON. Never: a decision that the controller has not made, a
//! key on the command line.

mod client;
mod key;
mod log;
mod node;
mod revision;
mod rollout;
mod token;

pub use client::{Client, ServerArgs};
pub use key::{KeyArgs, key};
pub use log::{AuditArgs, EventsArgs, audit, events};
pub use node::{NodeArgs, node, nodes};
pub use revision::{RevisionArgs, revision};
pub use rollout::{RolloutArgs, rollout};
pub use token::{TokenArgs, token};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::Failure;
use crate::terminal::{Exit, ListOutput, print, print_csv, print_json, print_ndjson, table};

/// A list in the form that was asked for.
fn show<T: Serialize>(output: ListOutput, name: &str, header: &[&str], list: &[T], row: impl Fn(&T) -> Vec<String>) -> Result<(), Failure> {
    let rows = || list.iter().map(&row).collect::<Vec<_>>();
    match output {
        ListOutput::Table => {
            let plain: Vec<Vec<String>> = rows().iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
            print(&table(header, &plain));
        }
        ListOutput::Csv => print_csv(&header.iter().map(|name| name.to_lowercase()).collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>(), &rows()),
        ListOutput::Json => {
            let mut document = Map::new();
            document.insert("schema".to_owned(), json!(format!("ringwall.{name}/1")));
            document.insert(name.to_owned(), value(&list)?);
            print_json(&Value::Object(document));
        }
        ListOutput::Ndjson => print_ndjson(&list.iter().map(|item| value(item)).collect::<Result<Vec<_>, _>>()?),
    }
    Ok(())
}

/// One thing, as a document of its own.
fn document<T: Serialize>(name: &str, thing: &T) -> Result<Value, Failure> {
    let mut document = json!({ "schema": format!("ringwall.{name}/1") });
    if let (Value::Object(document), Value::Object(fields)) = (&mut document, value(thing)?) {
        document.extend(fields);
    }
    Ok(document)
}

fn value<T: Serialize>(thing: &T) -> Result<Value, Failure> {
    serde_json::to_value(thing).map_err(|error| Failure::of(Exit::Failure, &error))
}

/// What nodes say may hold anything; a terminal gets no control characters of theirs.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A part of an address of the API.
fn segment<'a>(what: &str, text: &'a str) -> Result<&'a str, Failure> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if is_plain && !text.bytes().all(|byte| byte == b'.') {
        return Ok(text);
    }
    Err(Failure::new(Exit::Usage, format!("`{}` is not {what}", plain(text))))
}

/// `KEY=VALUE`.
fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `a=1 b=2`.
fn labels(labels: &std::collections::BTreeMap<String, String>) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}
