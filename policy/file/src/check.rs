//! What a policy means, where its author would want to know.

use crate::document::Document;
use crate::form::Report;
use crate::resolve::Resolved;

pub fn check(_document: &Document, _resolved: &Resolved<'_>, _now: u64, _report: &mut Report) {}
