//! What `ringwall verify -o json` found, as counts and as a table.
//!
//! In: its JSON. Out: text. Never: a count that it did not give: what is not known counts as not as
//! declared.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Result;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Flows of the policies' rules that are as these say.
    pub as_declared: u64,
    /// Flows that are not, or of which nothing is known; of the sample, too.
    pub not: u64,
    /// The sample of what no rule allows, and those of it that are shut.
    pub undeclared: u64,
    pub shut: u64,
}

impl Tally {
    pub fn of(found: &Value) -> Result<Self> {
        let count = |which: &str, what: &str| {
            let count = found["summary"][which][what].as_u64();
            count.ok_or_else(|| format!("the summary has no {which}.{what}"))
        };
        let not = |which| Ok::<_, String>(count(which, "not_as_declared")? + count(which, "unknown")?);
        let shut = count("undeclared", "as_declared")?;
        Ok(Self {
            as_declared: count("declared", "as_declared")?,
            not: not("declared")? + not("undeclared")?,
            undeclared: shut + not("undeclared")?,
            shut,
        })
    }

    pub fn add(&mut self, other: Self) {
        self.as_declared += other.as_declared;
        self.not += other.not;
        self.undeclared += other.undeclared;
        self.shut += other.shut;
    }
}

/// One line for each pair of roles and service; then each flow that is not as declared.
pub fn table(found: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = BTreeMap::<[String; 3], BTreeMap<String, usize>>::new();
    let mut surprises = Vec::new();
    for flow in found["flows"].as_array().into_iter().flatten() {
        let line = match flow["declared"].as_bool() {
            Some(true) => [text(&flow["roles"]), text(&flow["service"]), text(&flow["expected"])],
            _ => ["~ other pairs".to_owned(), "other ports".to_owned(), text(&flow["expected"])],
        };
        *lines.entry(line).or_default().entry(text(&flow["found"])).or_default() += 1;
        if flow["conclusion"] != "as_declared" {
            let ends = format!("{} -> {}", text(&flow["source"]), text(&flow["destination"]));
            let (protocol, port) = (text(&flow["protocol"]), &flow["port"]);
            let (expected, seen, reason) = (text(&flow["expected"]), text(&flow["found"]), text(&flow["reason"]));
            surprises.push(format!("! {protocol} {port} {ends}: expected {expected}, found {seen}: {reason}"));
        }
    }
    for row in found["not_probed"].as_array().into_iter().flatten() {
        surprises.push(format!("! {} {}: not probed: {}", text(&row["roles"]), text(&row["service"]), text(&row["reason"])));
    }
    let found_words = |found: BTreeMap<String, usize>| {
        found.into_iter().map(|(disposition, count)| format!("{count} {disposition}")).collect::<Vec<_>>().join(", ")
    };
    let mut rows = vec![["FLOW", "SERVICE", "EXPECTED", "FOUND"].map(str::to_owned)];
    rows.extend(lines.into_iter().map(|([roles, service, expected], found)| [roles, service, expected, found_words(found)]));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let [roles, service, expected] = [width(0), width(1), width(2)];
    let mut table: Vec<String> = rows
        .iter()
        .map(|[a, b, c, d]| format!("{a:<roles$}  {b:<service$}  {c:<expected$}  {d}").trim_end().to_owned())
        .collect();
    table.extend(surprises);
    table.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_counts_as_not() {
        let summary = |declared: [u64; 3], undeclared: [u64; 3]| {
            let counts = |[as_declared, not_as_declared, unknown]: [u64; 3]| {
                serde_json::json!({ "as_declared": as_declared, "not_as_declared": not_as_declared, "unknown": unknown })
            };
            serde_json::json!({ "summary": { "declared": counts(declared), "undeclared": counts(undeclared) } })
        };
        let of = |declared, undeclared| Tally::of(&summary(declared, undeclared)).expect("a summary");
        assert_eq!(of([120, 0, 0], [40, 0, 0]), Tally { as_declared: 120, not: 0, undeclared: 40, shut: 40 });
        assert_eq!(of([120, 1, 2], [40, 3, 4]), Tally { as_declared: 120, not: 10, undeclared: 47, shut: 40 });
        assert!(Tally::of(&serde_json::json!({})).is_err());
    }
}
