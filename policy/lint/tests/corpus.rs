//! The linter over the ground truth of vendors' guides, where that lies beside the repository.

use crate::table;

use std::fs;
use std::path::PathBuf;

use ringwall_diagnostic::Sources;
use ringwall_lint::{Context, Role, Timeout, lint, paragraphs};

fn corpus() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    folder.join("corpus").is_dir().then_some(folder)
}

fn findings(name: &str, guide: Option<&str>, roles: Vec<Role>, whole_note: bool) -> Option<Vec<String>> {
    let folder = corpus()?;
    let text = fs::read_to_string(folder.join(format!("corpus/{name}.expected.csv"))).expect("the ground truth");
    let mut sources = Sources::new();
    let id = sources.add(name, text.clone());
    let rows = table::rows(id, &text, |cell| {
        let note = cell("note");
        let is_name = !note.is_empty() && (whole_note || !note.contains([' ', ';', ':']));
        is_name.then_some(note)
    });
    let mut context = Context { roles, ..Context::default() };
    if let Some(guide) = guide {
        let text = fs::read_to_string(folder.join("seeds").join(guide)).expect("the guide");
        let id = sources.add(guide, text.clone());
        context.prose = paragraphs(id, &text);
        for prose in context.prose.iter().filter(|prose| prose.text.contains("14.400 seconds")) {
            context.timeouts.push(Timeout { section: prose.section.clone(), seconds: 14_400, span: prose.span });
        }
    }
    Some(lint(&rows, &context).iter().map(|finding| table::line(&sources, id, finding)).collect())
}

fn role(name: &str, description: &str) -> Role {
    Role { name: name.to_owned(), description: Some(description.to_owned()), ..Role::default() }
}

/// What stands in a table of findings: place, severity and code.
fn brief(findings: &[String]) -> Vec<String> {
    let short = |line: &String| line.splitn(3, ": ").take(2).collect::<Vec<_>>().join(" ");
    findings.iter().map(short).collect()
}

/// Each of the guide's oddities by its number in the requirements, and nothing about the other rows.
fn assert_exactly(findings: Option<Vec<String>>, expected: &[(&str, &str)]) {
    let Some(findings) = findings else { return };
    let expected: Vec<_> = expected.iter().map(|(_, line)| (*line).to_owned()).collect();
    assert_eq!(brief(&findings), expected, "{findings:#?}");
}

#[test]
fn the_first_seed() {
    let found = findings("seed-001-cumulocity", Some("001_41d93fd846f21906.txt"), Vec::new(), false);
    assert_exactly(
        found,
        &[
            ("L-25", "row 1 warning RW2010"),
            ("R001-01", "row 1 info RW2042"),
            ("L-25", "row 3 warning RW2010"),
            ("L-28", "row 5 warning RW2050"),
            ("L-28", "row 7 info RW2030"),
            ("L-28", "row 10 info RW2030"),
            ("L-29", "row 11 warning RW2030"),
            ("L-31", "row 13 info RW2007"),
            ("L-31", "row 13 info RW2051"),
            ("L-32", "row 14 warning RW2010"),
            ("L-32", "row 16 warning RW2010"),
            ("L-26", "row 17 error RW2040"),
            ("L-27", "row 18 error RW2041"),
            ("L-34", "row 19 info RW2043"),
            ("L-33", "text warning RW2052"),
        ],
    );
}

#[test]
fn the_second_seed() {
    let roles = vec![
        role("PRD", "Primary application."),
        role("MBR", "secondary members of a cluster."),
        role("USERW", "user workstation."),
        role("DVC", "devices registered in senhasegura."),
    ];
    let found = findings("seed-002-senhasegura", Some("002_4cac2c08b1e8bd71.txt"), roles, false);
    assert_exactly(
        found,
        &[
            ("L-15", "row 2 warning RW2030"),
            ("L-01", "row 3 error RW2001"),
            ("L-20", "row 4 warning RW2010"),
            ("L-17", "row 6 info RW2030"),
            ("L-16", "row 8 info RW2004"),
            ("L-07", "row 9 warning RW2003"),
            ("L-06", "row 10 warning RW2003"),
            ("L-19", "row 12 info RW2030"),
            ("L-02", "row 13 error RW2001"),
            ("L-23", "row 14 info RW2025"),
            ("L-23", "row 15 info RW2025"),
            ("L-19", "row 15 info RW2030"),
            ("L-03", "row 16 error RW2020"),
            ("L-21", "row 18 info RW2011"),
            ("L-20", "row 22 warning RW2010"),
            ("L-04", "row 23 warning RW2001"),
            ("L-18", "row 28 warning RW2030"),
            ("L-05", "row 29 warning RW2002"),
            ("L-20", "row 31 warning RW2010"),
            ("L-12", "row 34 info RW2021"),
            ("L-11", "row 35 info RW2006"),
            ("L-09", "row 36 info RW2006"),
            ("L-10", "row 37 info RW2006"),
            ("L-08", "row 38 warning RW2005"),
            ("L-09", "row 39 info RW2006"),
            ("L-21", "row 40 info RW2011"),
            ("L-13", "row 42 error RW2022"),
            ("L-11", "row 44 info RW2006"),
            ("L-09", "row 45 info RW2006"),
            ("L-10", "row 46 info RW2006"),
            ("L-08", "row 47 warning RW2005"),
            ("L-09", "row 48 info RW2006"),
            ("L-21", "row 49 info RW2011"),
            ("L-14", "text error RW2024"),
        ],
    );
}

/// Guides that are mostly right: what is said about them is true.
#[test]
fn other_guides() {
    assert_exactly(findings("rke2-requirements", None, Vec::new(), true), &[]);
    assert_exactly(
        findings("k0s-networking", None, Vec::new(), true),
        &[("keepalived's VRRP is a protocol, not a port", "row 10 error RW2008")],
    );
    assert_exactly(
        findings("ms-scom-firewall", None, Vec::new(), true),
        &[
            ("RPC's dynamic ports stand in a footnote only", "row 3 warning RW2030"),
            ("17 rows without TCP or UDP", "row 4 warning RW2050"),
            ("browsers, 80 beside 443", "row 14 info RW2011"),
            ("a row without its second role", "row 22 info RW2051"),
            ("reports over HTTP", "row 32 warning RW2010"),
        ],
    );
}
