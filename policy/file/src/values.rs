//! What `$NAME`s are bound to.

use std::collections::BTreeMap;

use ringwall_diagnostic::{Diagnostic, Sources};

use crate::form;
use crate::report::Report;
use crate::yaml;
use crate::Input;

/// A value and who gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Addresses, prefixes and ranges with commas or blanks between them.
    pub text: String,
    /// As the operator knows it, such as `--set PARTNER_IPS`.
    pub origin: String,
}

/// Bindings of `$NAME`s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<String, Value>);

impl Values {
    /// A later binding of the same name wins: call it for `--values`, the environment and `--set`,
    /// in this order.
    pub fn bind(&mut self, name: impl Into<String>, text: impl Into<String>, origin: impl Into<String>) {
        self.0.insert(name.into(), Value { text: text.into(), origin: origin.into() });
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Binds all of a file of values: YAML, one `NAME: address` or `NAME: [addresses]` a line.
    pub fn bind_file(&mut self, input: &Input) -> (Sources, Vec<Diagnostic>) {
        let (mut sources, mut report) = (Sources::new(), Report::default());
        let source = sources.add(&input.name, &input.text);
        if let Some(root) = yaml::read(&input.text, source, &mut report) {
            let mut first_places = BTreeMap::new();
            for (name, span, node) in form::named(&root, &mut report) {
                if let Some(first) = first_places.insert(name.clone(), span) {
                    report.push(form::doubled(&format!("the value `{name}`"), first, span));
                }
                let words: Vec<String> = form::words(node, &mut report).into_iter().map(|word| word.text).collect();
                self.bind(name.as_str(), words.join(" "), sources.place(span));
            }
        }
        (sources, report.sorted())
    }
}

/// Whether the text can name a value: capitals, digits and `_`, as in an environment.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}
