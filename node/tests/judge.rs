//! What follows from which evidence: a table, one line for each case.

use ringwall_node::probe::{
    Conclusion, Destination, Disposition, Evidence, Expectation, Listener, Outcome, Packet, Place, Probe, Refusal, Tls,
    TlsVersion, Trace, TraceVerdict, Try, Watching, judge,
};

use Conclusion::{AsDeclared, NotAsDeclared, Unknown};
use Disposition::{Dropped, Open, Rejected, Unreachable};

const BOTH: Expectation = Expectation {
    open: false,
    source_enforces: true,
    destination_enforces: true,
    between_enforces: false,
    min_tls: None,
};

fn tcp() -> Packet {
    Packet::Tcp { source_port: 61000, port: 80, past_source_port: Some(61001), tls: false }
}

fn udp() -> Packet {
    Packet::Udp { source_port: 61000, port: 80, past_source_port: Some(61001) }
}

/// What one try came to: its outcome, and what the destination saw of it.
#[derive(Clone)]
struct Tried(Outcome, Seen);

#[derive(Clone, Copy, PartialEq)]
enum Seen {
    Nothing,
    Received,
    Accepted,
    Dropped,
}

const ANSWERED: Outcome = Outcome::Answered { tls: None };
const RESET: Outcome = Outcome::Refused { by: None, how: Refusal::Reset };
const NO_WAY: Outcome = Outcome::Unreachable { by: None };

fn there(listener: Listener, watching: Watching) -> Destination {
    Destination::There { listener, watching, lost: false }
}

fn ours() -> Destination {
    there(Listener::Ours, Watching::Yes)
}

fn evidence(destination: Destination, plain: Tried, past: Option<Tried>) -> Evidence {
    let mut evidence = Evidence { destination, ..Evidence::default() };
    for (which, tried) in [(Try::Plain, Some(plain)), (Try::PastSource, past)] {
        let Some(Tried(outcome, seen)) = tried else { continue };
        evidence.outcomes.insert(which, outcome);
        let trace = |verdict| vec![Trace { table: "ringwall".into(), chain: "g1_in_default".into(), verdict }];
        match seen {
            Seen::Nothing => {}
            Seen::Received => {
                evidence.received.insert(which);
            }
            Seen::Accepted => {
                evidence.traced.insert(which, trace(TraceVerdict::Accept));
            }
            Seen::Dropped => {
                evidence.traced.insert(which, trace(TraceVerdict::Drop));
            }
        }
    }
    evidence
}

fn probe(packet: Packet) -> Probe {
    Probe {
        id: 0,
        source: "192.0.2.1".parse().expect("an address"),
        destination: "192.0.2.2".parse().expect("an address"),
        packet,
    }
}

type Case = (&'static str, Packet, Expectation, Evidence, Conclusion, Disposition, Option<Place>);

fn assert_all(cases: Vec<Case>) {
    for (name, packet, expectation, evidence, conclusion, disposition, place) in cases {
        let finding = judge(&probe(packet), &expectation, &evidence);
        assert_eq!((finding.conclusion, finding.disposition, finding.closed_at), (conclusion, disposition, place), "{name}: {finding:?}");
        if conclusion != AsDeclared {
            assert_ne!(finding.reason, "", "{name}: a surprise has a reason");
        }
    }
}

#[test]
fn what_should_be_open() {
    use Seen::{Accepted, Dropped as Stopped, Nothing, Received};
    let open = Expectation { open: true, ..BOTH };
    let silent = |seen| Tried(Outcome::Silent, seen);
    let blocked = Tried(Outcome::Blocked, Nothing);
    let nobody = || Destination::Nobody { reason: "no vantage".into() };
    let unwatched = |listener| there(listener, Watching::NoRuleset);
    let port_unreachable = Outcome::Refused { by: None, how: Refusal::PortUnreachable };
    assert_all(vec![
        ("answered", tcp(), open, evidence(ours(), Tried(ANSWERED, Nothing), None), AsDeclared, Open, None),
        ("answered by a stranger", tcp(), open, evidence(nobody(), Tried(ANSWERED, Nothing), None), AsDeclared, Open, None),
        ("a stranger is silent", tcp(), open, evidence(nobody(), silent(Nothing), None), Unknown, Disposition::Unknown, None),
        ("a stranger refuses", tcp(), open, evidence(nobody(), Tried(RESET, Nothing), None), Unknown, Disposition::Unknown, None),
        ("the destination drops it", tcp(), open, evidence(ours(), silent(Stopped), Some(silent(Stopped))), NotAsDeclared, Dropped, Some(Place::Destination)),
        ("the destination rejects it", tcp(), open, evidence(ours(), Tried(RESET, Stopped), Some(Tried(RESET, Stopped))), NotAsDeclared, Rejected, Some(Place::Destination)),
        ("only the source closes it", udp(), open, evidence(ours(), blocked.clone(), Some(Tried(ANSWERED, Received))), NotAsDeclared, Rejected, Some(Place::Source)),
        ("both ends close it", udp(), open, evidence(ours(), blocked, Some(silent(Stopped))), NotAsDeclared, Rejected, Some(Place::Source)),
        ("lost on the way", tcp(), open, evidence(ours(), silent(Nothing), Some(silent(Nothing))), NotAsDeclared, Dropped, Some(Place::BeforeDestination)),
        ("no way", tcp(), open, evidence(ours(), Tried(NO_WAY, Nothing), None), NotAsDeclared, Unreachable, None),
        ("the answer is lost", udp(), open, evidence(ours(), silent(Received), None), NotAsDeclared, Dropped, Some(Place::Somewhere)),
        ("a program has the datagram", udp(), open, evidence(there(Listener::Theirs, Watching::Yes), silent(Accepted), None), AsDeclared, Open, None),
        ("let in, and nobody listens", tcp(), open, evidence(there(Listener::Nobody("no socket".into()), Watching::Yes), Tried(RESET, Accepted), None), AsDeclared, Open, None),
        ("a program may have it, unwatched", udp(), open, evidence(unwatched(Listener::Theirs), silent(Nothing), None), Unknown, Disposition::Unknown, None),
        ("our listener refuses nobody", udp(), open, evidence(unwatched(Listener::Ours), Tried(port_unreachable, Nothing), None), NotAsDeclared, Rejected, Some(Place::Somewhere)),
        ("the address is elsewhere", tcp(), open, evidence(unwatched(Listener::Elsewhere), silent(Nothing), None), Unknown, Disposition::Unknown, None),
        ("protocols without answers", Packet::Other { number: 47 }, open, evidence(ours(), silent(Received), None), AsDeclared, Open, None),
        ("never sent", tcp(), open, evidence(ours(), Tried(Outcome::Failed { reason: "in use".into() }, Nothing), None), Unknown, Disposition::Unknown, None),
        ("nothing was reported", tcp(), open, Evidence { destination: ours(), ..Evidence::default() }, Unknown, Disposition::Unknown, None),
    ]);
}

#[test]
fn what_should_be_closed() {
    use Seen::{Accepted, Dropped as Stopped, Nothing, Received};
    let from_outside = Expectation { source_enforces: false, ..BOTH };
    let to_outside = Expectation { destination_enforces: false, ..BOTH };
    let routed = Expectation { between_enforces: true, ..BOTH };
    let nowhere = Expectation { source_enforces: false, destination_enforces: false, ..BOTH };
    let silent = |seen| Tried(Outcome::Silent, seen);
    let blocked = || Tried(Outcome::Blocked, Nothing);
    let reset = || Tried(RESET, Nothing);
    let lost = Destination::There { listener: Listener::Ours, watching: Watching::Yes, lost: true };
    let unwatched = || there(Listener::Ours, Watching::NoRuleset);
    let no_set = Tried(Outcome::Failed { reason: "there is no ruleset on the source's machine".into() }, Nothing);
    let at_source = Some(Place::Source);
    let before = Some(Place::BeforeDestination);
    let at_destination = Some(Place::Destination);
    assert_all(vec![
        ("both ends close it", udp(), BOTH, evidence(ours(), blocked(), Some(silent(Stopped))), AsDeclared, Rejected, at_source),
        ("both ends close it, TCP", tcp(), BOTH, evidence(ours(), reset(), Some(silent(Stopped))), AsDeclared, Rejected, before),
        ("open", tcp(), BOTH, evidence(ours(), Tried(ANSWERED, Received), None), NotAsDeclared, Open, None),
        ("the answer alone is lost", tcp(), BOTH, evidence(ours(), silent(Accepted), Some(silent(Accepted))), NotAsDeclared, Open, None),
        ("an open destination behind a closed source", tcp(), BOTH, evidence(ours(), reset(), Some(Tried(ANSWERED, Received))), NotAsDeclared, Rejected, before),
        ("the same, without a listener's answer", udp(), BOTH, evidence(there(Listener::Theirs, Watching::Yes), blocked(), Some(silent(Accepted))), NotAsDeclared, Rejected, at_source),
        ("an open source before a closed destination", tcp(), BOTH, evidence(ours(), silent(Stopped), Some(silent(Stopped))), NotAsDeclared, Dropped, at_destination),
        ("no second try", udp(), BOTH, evidence(ours(), blocked(), None), Unknown, Rejected, at_source),
        ("the second try was impossible", tcp(), BOTH, evidence(ours(), reset(), Some(no_set)), Unknown, Rejected, before),
        ("the second try vanished", tcp(), BOTH, evidence(ours(), reset(), Some(silent(Nothing))), Unknown, Rejected, before),
        ("a router on the way closes it", tcp(), routed, evidence(ours(), reset(), Some(silent(Nothing))), AsDeclared, Rejected, before),
        ("reports were lost", tcp(), BOTH, evidence(lost, silent(Nothing), Some(silent(Nothing))), Unknown, Disposition::Unknown, None),
        ("from outside, dropped", tcp(), from_outside, evidence(ours(), silent(Stopped), None), AsDeclared, Dropped, at_destination),
        ("from outside, rejected", tcp(), from_outside, evidence(ours(), Tried(RESET, Stopped), None), AsDeclared, Rejected, at_destination),
        ("from outside, open", udp(), from_outside, evidence(ours(), Tried(ANSWERED, Received), None), NotAsDeclared, Open, None),
        ("from outside, never there", tcp(), from_outside, evidence(ours(), silent(Nothing), None), Unknown, Dropped, before),
        ("from outside, by a router", tcp(), Expectation { between_enforces: true, ..from_outside }, evidence(ours(), silent(Nothing), None), AsDeclared, Dropped, before),
        ("to outside", tcp(), to_outside, evidence(unwatched(), reset(), Some(Tried(ANSWERED, Received))), AsDeclared, Rejected, Some(Place::Somewhere)),
        ("to outside, open", tcp(), to_outside, evidence(unwatched(), Tried(ANSWERED, Received), None), NotAsDeclared, Open, None),
        ("no way", tcp(), from_outside, evidence(ours(), Tried(NO_WAY, Nothing), None), Unknown, Unreachable, None),
        ("no way, but past the source there is", tcp(), BOTH, evidence(ours(), Tried(NO_WAY, Nothing), Some(Tried(ANSWERED, Received))), NotAsDeclared, Unreachable, None),
        ("nobody enforces", tcp(), nowhere, evidence(unwatched(), silent(Nothing), None), Unknown, Dropped, Some(Place::Somewhere)),
        ("an echo that nobody answers", Packet::Echo { identifier: 1 }, from_outside, evidence(ours(), silent(Nothing), None), AsDeclared, Dropped, Some(Place::Somewhere)),
    ]);
}

#[test]
fn another_tables_drop_is_final() {
    let mut evidence = evidence(ours(), Tried(Outcome::Silent, Seen::Accepted), None);
    let foreign = Trace { table: "filter".into(), chain: "FORWARD".into(), verdict: TraceVerdict::Drop };
    evidence.traced.entry(Try::Plain).or_default().push(foreign.clone());
    let finding = judge(&probe(tcp()), &Expectation { open: true, ..BOTH }, &evidence);
    assert_eq!((finding.conclusion, finding.decided_by), (NotAsDeclared, Some(foreign)));
}

#[test]
fn tls_below_the_policys_version_is_not_as_declared() {
    let packet = Packet::Tcp { source_port: 61000, port: 443, past_source_port: None, tls: true };
    let least = |version| Expectation { open: true, min_tls: Some(version), ..BOTH };
    let said = |tls: Tls, listener| evidence(there(listener, Watching::Yes), Tried(Outcome::Answered { tls: Some(tls) }, Seen::Nothing), None);
    let theirs = |tls| said(tls, Listener::Theirs);
    use TlsVersion::{V1_2, V1_3};
    assert_all(vec![
        ("1.2 is enough", packet, least(V1_2), theirs(Tls::Version(V1_2)), AsDeclared, Open, None),
        ("1.3 is more", packet, least(V1_2), theirs(Tls::Version(V1_3)), AsDeclared, Open, None),
        ("1.2 is too little", packet, least(V1_3), theirs(Tls::Version(V1_2)), NotAsDeclared, Open, None),
        ("1.1 at most", packet, least(V1_2), theirs(Tls::TooOld), NotAsDeclared, Open, None),
        ("no TLS", packet, least(V1_2), theirs(Tls::None("it speaks something else".into())), NotAsDeclared, Open, None),
        ("nobody listens", packet, least(V1_2), said(Tls::None("closed".into()), Listener::Ours), AsDeclared, Open, None),
    ]);
}
