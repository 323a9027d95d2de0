//! Answers to DNS names in the state folder, so that they are there before any resolver is.
//!
//! In: answers. Out: the same; text that fills the sets of a generation with them. Never: an element without an end for an
//! answer that has one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ringwall_packet::Family;
use ringwall_ruleset::nftables::{Generation, TABLE, name_set};
use serde::{Deserialize, Serialize};

use super::damage;
use super::state::{Answer, StateError, json, write};

const FILE: &str = "names.json";
const SCHEMA: &str = "ringwall.names/1";

#[derive(Serialize, Deserialize)]
struct Kept {
    schema: String,
    answers: BTreeMap<String, Answer>,
}

/// The newest answers, and no others.
pub fn keep_answers(folder: &Path, answers: &BTreeMap<String, Answer>) -> Result<(), StateError> {
    write(&folder.join(FILE), &json(&Kept { schema: SCHEMA.into(), answers: answers.clone() }))
}

/// What [`keep_answers`] left.
pub fn kept_answers(folder: &Path) -> Result<BTreeMap<String, Answer>, StateError> {
    Ok(damage::read(folder.join(FILE), SCHEMA)?.map_or_else(BTreeMap::new, |kept: Kept| kept.answers))
}

/// Fills the sets of DNS names.
pub(super) fn name_elements(generation: Generation, answers: &BTreeMap<String, Answer>) -> String {
    let mut text = String::new();
    for (name, answer) in answers {
        let end = answer.seconds.map_or_else(String::new, |seconds| format!(" timeout {seconds}s"));
        for family in Family::ALL {
            let of_family = |address: &&IpAddr| Family::of(**address) == family;
            let keys: Vec<String> = answer.addresses.iter().filter(of_family).map(|address| format!("{address}{end}")).collect();
            if !keys.is_empty() {
                let set = name_set(generation, name, family);
                text.push_str(&format!("add element inet {TABLE} {set} {{ {} }}\n", keys.join(", ")));
            }
        }
    }
    text
}

/// What was answered since a text for boot was written, for those names that it has sets for.
pub(super) fn newer(folder: &Path, generation: Generation, boot: &str) -> String {
    let mut answers = kept_answers(folder).unwrap_or_default();
    answers.retain(|name, answer| answer.seconds.is_some() && boot.contains(&format!("\tset {} {{", name_set(generation, name, Family::V4))));
    name_elements(generation, &answers)
}
