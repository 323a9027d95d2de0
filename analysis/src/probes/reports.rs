//! What all machines said, and what follows for a case.

use std::collections::BTreeMap;

use ringwall_probe::{DestinationReport, Evidence, Finding, Outcome, Probe, SourceReport, Try, evidence, judge};

use super::Case;

/// What all machines said, by their index.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    /// What a source said before it failed counts.
    pub sources: BTreeMap<usize, (SourceReport, Result<(), String>)>,
    /// A destination that failed has said nothing: what it did not see would prove nothing.
    pub destinations: BTreeMap<usize, Result<DestinationReport, String>>,
}

impl Reports {
    pub fn evidence(&self, case: &Case) -> Evidence {
        let sources: Vec<_> = case.sources.iter().filter_map(|machine| self.sources.get(machine)).collect();
        let said: Vec<_> = sources.iter().map(|(report, _)| report).collect();
        let destinations: Vec<_> = case.destinations.iter().filter_map(|machine| self.destinations.get(machine)).collect();
        let seen: Vec<_> = destinations.iter().map(|report| report.as_ref().map_err(String::as_str)).collect();
        let mut evidence = evidence(&case.probe, &said, &seen);
        let failure = sources.iter().find_map(|(_, ended)| ended.as_ref().err().cloned());
        evidence.outcomes.entry(Try::Plain).or_insert_with(|| Outcome::Failed {
            reason: failure.unwrap_or_else(|| "no vantage: the source cannot be probed from".into()),
        });
        evidence
    }

    pub fn judge(&self, case: &Case) -> Finding {
        judge(&case.probe, &case.expectation, &self.evidence(case))
    }
}

/// The probes of each machine at one side.
pub fn by_machine<'a>(cases: impl IntoIterator<Item = &'a Case>, side: impl Fn(&Case) -> &[usize]) -> BTreeMap<usize, Vec<Probe>> {
    let mut probes = BTreeMap::<usize, Vec<Probe>>::new();
    for case in cases {
        for machine in side(case) {
            probes.entry(*machine).or_default().push(case.probe);
        }
    }
    probes
}
