//! Flows → a policy file.
use crate::guide::Guide;
use ringwall_diagnostic::Sources;
/// When and by what the file was written.
pub struct Stamp;
/// todo
pub fn to_policy(_guides: &[Guide], _sources: &Sources, _stamp: &Stamp) -> String { String::new() }
