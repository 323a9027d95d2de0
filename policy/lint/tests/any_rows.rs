//! Whatever the rows are, the linter answers, and its answers keep their promises.

use proptest::prelude::*;
use ringwall_diagnostic::{Severity, SourceId, Sources, Span};
use ringwall_lint::{Context, Direction, Inferred, Ports, Prose, Role, Row, Transport, lint};
use ringwall_packet::{Interval, Protocol};

const ENDS: &[&str] = &["", "any", "internet", "PRD", "prd", "MBR", "opcua", "DNS SERVER", "0.0.0.0/0", "ünïcode"];
const LABELS: &[&str] =
    &["SMTP", "SMB", "http", "HTTPS", "RM", "METASPLOIT", "TRAM", "SYSLOG", "(", "", "galera", "ß€", "112 vrrp"];
const PORTS: &[u16] =
    &[0, 22, 25, 53, 80, 112, 135, 389, 420, 443, 445, 514, 3306, 4444, 4567, 4568, 5445, 6514, 65535];

fn row(source: SourceId) -> impl Strategy<Value = Row> {
    let port = prop_oneof![prop::sample::select(PORTS), any::<u16>()];
    let ports = prop_oneof![
        Just(Ports::Unstated),
        Just(Ports::Any),
        prop::collection::vec((port, 0u16..20), 0..4).prop_map(|list| {
            let interval =
                |(first, more): (u16, u16)| Interval::new(first, first.saturating_add(more)).expect("a range");
            Ports::Are(list.into_iter().map(interval).collect())
        }),
    ];
    let protocol = prop_oneof![
        Just(Transport::Unstated),
        Just(Transport::Any),
        prop::sample::select(&[Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::SCTP, Protocol(250)][..])
            .prop_map(Transport::Is),
    ];
    let direction =
        prop::sample::select(&[Direction::OneWay, Direction::Both, Direction::Local, Direction::Unknown][..]);
    let label = prop::option::of(prop_oneof![prop::sample::select(LABELS).prop_map(str::to_owned), ".{0,20}"]);
    let ends = (prop::sample::select(ENDS), prop::sample::select(ENDS));
    (ends, protocol, ports, label, direction, any::<[bool; 3]>()).prop_map(
        move |((from, to), protocol, ports, label, direction, inferred)| Row {
            section: String::new(),
            source: from.to_owned(),
            destination: to.to_owned(),
            protocol,
            ports,
            label,
            direction,
            inferred: Inferred { source: inferred[0], destination: inferred[1], protocol: inferred[2] },
            span: Span { source, start: 0, end: 0 },
            port_span: None,
        },
    )
}

/// Rows that stand one below the other, and a note about the roles.
fn case() -> impl Strategy<Value = (Sources, Vec<Row>, Context)> {
    let mut sources = Sources::new();
    let id = sources.add("table", "x".repeat(1000));
    (prop::collection::vec(row(id), 0..40), "[a-z ]{0,20}").prop_map(move |(mut rows, words)| {
        for (index, row) in rows.iter_mut().enumerate() {
            row.span = Span { source: id, start: index, end: index + 1 };
        }
        let text = format!("rules for {words} PRD on the MBR");
        let role =
            |name: &str| Role { name: name.to_owned(), description: Some("members".to_owned()), ..Role::default() };
        let prose = Prose { section: String::new(), text, span: Span { source: id, start: 900, end: 910 } };
        let context = Context { roles: vec![role("PRD"), role("MBR")], prose: vec![prose], ..Context::default() };
        (sources.clone(), rows, context)
    })
}

proptest! {
    #[test]
    fn findings_are_whole_and_in_order((sources, rows, context) in case()) {
        let findings = lint(&rows, &context);
        let mut last = 0;
        for finding in &findings {
            let place = finding.primary.as_ref().expect("a place").span;
            prop_assert!(place.start >= last);
            last = place.start;
            prop_assert!(!finding.help.is_empty(), "{}", finding.message);
            prop_assert!(!finding.message.ends_with('.'));
            ringwall_diagnostic::render(finding, &sources, ringwall_diagnostic::Colour::Plain);
        }
        prop_assert_eq!(lint(&rows, &context), findings);
    }

    /// Under `min_tls` nothing becomes milder.
    #[test]
    fn min_tls_only_adds((_, rows, context) in case()) {
        let errors = |context: &Context| lint(&rows, context).iter().filter(|finding| finding.severity == Severity::Error).count();
        let strict = Context { min_tls: Some("1.2".to_owned()), ..context.clone() };
        prop_assert!(errors(&strict) >= errors(&context));
    }

    #[test]
    fn case_makes_no_difference((_, rows, context) in case()) {
        let codes = |rows: &[Row]| lint(rows, &context).iter().map(|finding| (finding.code, finding.severity)).collect::<Vec<_>>();
        let lower: Vec<_> = rows
            .iter()
            .map(|row| Row { source: row.source.to_lowercase(), destination: row.destination.to_lowercase(), ..row.clone() })
            .collect();
        prop_assert_eq!(codes(&rows), codes(&lower));
    }
}
