//! Groups and services that are defined, and that nothing in the files names.
//!
//! In: the document. Out: its definitions without a user. Never: the options; what is switched off
//! counts as a user, since somebody means to switch it on.

use std::collections::BTreeSet;

use ringwall_policy::{Definition, Name, Unused};

use crate::address::Item;
use crate::document::Document;
use crate::form::Word;
use crate::places::Places;

pub fn unused(document: &Document, places: &Places<'_>) -> Vec<Unused> {
    let lines = || document.rules.iter().chain(&document.expectations);
    let management = || document.management.iter().filter_map(|(_, management)| management.as_ref());
    let mut words: Vec<&Word> = Vec::new();
    words.extend(lines().flat_map(|rule| rule.line.sources.iter().chain(&rule.line.destinations)));
    words.extend(document.floating.iter().flat_map(|floating| &floating.on));
    words.extend(document.groups.iter().flat_map(|group| group.groups.iter().chain(&group.includes_rules_of)));
    words.extend(management().flat_map(|management| &management.from));
    let excepted = document.groups.iter().flat_map(|group| &group.except);
    let protected = document.protected.iter().flat_map(|(_, items)| items);
    words.extend(excepted.chain(protected).filter_map(|(_, item)| match item {
        Item::Name(word) => Some(word),
        Item::Addresses(_) | Item::Value(_) | Item::Bad => None,
    }));
    let names: BTreeSet<&str> = words.into_iter().map(|word| word.text.as_str()).collect();

    let of_lines = lines().filter_map(|rule| rule.services.as_ref()).flat_map(|(_, words)| words);
    let of_management = management().flat_map(|management| &management.services);
    let services: BTreeSet<&str> = of_lines.chain(of_management).map(|word| word.text.trim()).collect();

    // A stage, and rules that are taken over, do something by themselves.
    let does_something = |group: &crate::document::GroupDef| group.stage.is_some() || !group.includes_rules_of.is_empty();
    let groups = document.groups.iter().filter(|group| !names.contains(group.name.as_str()) && !does_something(group));
    let groups = groups.map(|group| (Definition::Group, group.name.clone(), group.span));
    let own = document.services.iter().filter(|(word, _)| !services.contains(word.text.as_str()));
    let own = own.filter_map(|(word, _)| Some((Definition::Service, Name::new(&word.text)?, word.span)));
    let mut all: Vec<_> = groups.chain(own).collect();
    all.sort_by_key(|(.., span)| *span);
    all.into_iter().map(|(what, name, span)| Unused { what, name, origin: places.origin(span, None) }).collect()
}
