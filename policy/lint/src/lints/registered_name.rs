//! RW2006: the name was looked up in a port list, while another program is what runs there.

use ringwall_diagnostic::Diagnostic;
use ringwall_services::{canonical, known_uses_of, name_of, registered_names_of};

use crate::{Row, Transport, View};

pub(super) fn lint(view: &View) -> Vec<Diagnostic> {
    view.rows.iter().filter_map(|row| check(view, row)).collect()
}

fn check(view: &View, row: &Row) -> Option<Diagnostic> {
    let (label, Transport::Is(protocol), [port]) = (row.name()?, row.protocol, &row.single_ports()[..]) else {
        return None;
    };
    if canonical(label).is_some() {
        return None;
    }
    let lower = label.to_lowercase().replace(' ', "-");
    let is_it = |name: &&str| *name == lower || name.strip_prefix(&lower).is_some_and(|rest| rest.starts_with('-'));
    let registered = registered_names_of(protocol, *port).find(is_it)?;
    let used = known_uses_of(protocol, *port).next()?;
    // A use that is one of several must be told by the rows around it.
    let is_told = view.cluster_between(&row.source, &row.destination).is_some();
    (is_told || name_of(protocol, *port) == Some(used)).then(|| {
        Diagnostic::info(
            "RW2006",
            format!("`{label}` looks like a name from a port list: in use, {port}/{protocol} is `{used}`"),
        )
        .at(row.span, format!("registered for `{registered}`"))
        .help(format!("write `{used}` if that is what runs there"))
    })
}
