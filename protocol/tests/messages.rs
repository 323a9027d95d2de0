//! Messages: the samples of each version that was ever released are still read, and what is wrong is named.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::num::NonZeroU32;

use bytes::Bytes;
use prost::Message;
use ringwall_protocol::*;

/// `name hex`, one line for each message that version 1 has.
const V1: &str = include_str!("v1.txt");

fn place(number: u64) -> Place {
    Place { epoch: 3, number }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn facts() -> Facts {
    Facts {
        addresses: vec!["192.0.2.10".parse().unwrap(), "2001:db8::10".parse().unwrap()],
        kernel: "6.12.0".into(),
        nft: "1.1.3".into(),
        system: "Debian GNU/Linux 13 (trixie)".into(),
    }
}

fn hello() -> Hello {
    Hello {
        versions: VERSIONS,
        features: vec!["lists".into()],
        agent: "0.1.0".into(),
        boot: [7; 16],
        taken: Some(place(42)),
        confirmed: Some(place(41)),
        generation: 12,
        lists: vec![revision()],
        facts: facts(),
    }
}

fn revision() -> ListRevision {
    ListRevision { list: "blocks".into(), life: 0, revision: 9 }
}

fn assignment() -> Assignment {
    use sha2::Digest as _;
    let ruleset = bytes("not looked into");
    Assignment {
        place: place(42),
        revision: "r7".into(),
        digest: sha2::Sha256::digest(&ruleset).into(),
        ruleset,
        window: 60,
        on_drift: OnDrift::Heal,
        on_tighten: OnTighten::Cut,
    }
}

fn list(change: Change) -> ToAgent {
    ToAgent::List(List { list: "blocks".into(), life: 0, change }.encode())
}

fn element(network: &str, length: u8, seconds: u32) -> Element {
    Element { network: network.parse().unwrap(), length, seconds: NonZeroU32::new(seconds) }
}

fn to_agent() -> Vec<(&'static str, ToAgent)> {
    let elements = vec![element("203.0.113.0", 24, 0), element("203.0.113.9", 32, 14_400), element("2001:db8:9::", 48, 60)];
    let order = |order| ToAgent::Order(5, order);
    vec![
        ("welcome", ToAgent::Welcome(Welcome { version: 1, epoch: 3, session: [9; 16], time: 1_800_000_000, heartbeat: 10 })),
        ("assignment", ToAgent::Assignment(assignment())),
        ("snapshot", list(Change::Snapshot { revision: 9, part: 1, last: true, elements: elements.clone() })),
        ("delta", list(Change::Delta { from: 9, to: 11, added: elements, removed: vec![element("203.0.113.7", 32, 0)] })),
        ("heartbeat_to_agent", ToAgent::Heartbeat(8)),
        ("rollback", order(Order::Rollback(place(42)))),
        ("release", order(Order::Release { remove: true })),
        ("revoked", order(Order::Revoked("by hand".into()))),
        ("move", order(Order::Move(30))),
        ("resync", order(Order::Resync)),
        ("lists", ToAgent::Lists(vec![ListRevision { life: 5, ..revision() }])),
        ("probes", ToAgent::Probes { id: 6, role: Role::Source, plan: bytes("{}") }),
        ("probes_to_watch", ToAgent::Probes { id: 7, role: Role::Destination, plan: bytes("{}") }),
        ("end_probes", ToAgent::EndProbes(7)),
    ]
}

fn to_controller() -> Vec<(&'static str, ToController)> {
    let ack = |stage, generation| ToController::Ack(Ack::Assignment { place: place(42), stage, generation });
    let refusal = |what, reason| ToController::Refusal(Refusal { what, reason, detail: "why".into() });
    let event = |happened| ToController::Event(Event { age: 2, happened });
    let process = Some(("nft".to_owned(), 4711));
    vec![
        ("hello", ToController::Hello(hello())),
        ("received", ack(Stage::Received, 0)),
        ("trial", ack(Stage::Trial, 13)),
        ("confirmed", ack(Stage::Confirmed, 13)),
        ("fell", ack(Stage::Fell, 13)),
        ("list_ack", ToController::Ack(Ack::List(revision()))),
        ("stale", refusal(Refused::Assignment(place(42)), Reason::Stale)),
        ("gap", refusal(Refused::List(revision()), Reason::Gap)),
        ("forbidden", refusal(Refused::Order(5), Reason::Forbidden)),
        ("full", refusal(Refused::Probes(6), Reason::Full)),
        ("heartbeat_to_controller", ToController::Heartbeat(8)),
        ("drift", event(Happened::Drift { process, outcome: DriftOutcome::Healed })),
        ("names", event(Happened::Names { name: "ntp.example.net".into(), addresses: facts().addresses })),
        ("trouble", event(Happened::Trouble { kind: "disk".into(), detail: "no space left".into() })),
        ("lost", event(Happened::Lost(3))),
        ("observations", ToController::Observations { id: 6, observations: bytes("{}") }),
    ]
}

struct Goldens {
    left: BTreeMap<&'static str, Vec<u8>>,
    made: String,
}

impl Goldens {
    fn check<T, W>(&mut self, name: &'static str, sample: T)
    where
        T: Clone + PartialEq + Debug + TryFrom<W, Error = Invalid>,
        W: Message + Default + From<T>,
    {
        let made = W::from(sample.clone()).encode_to_vec();
        let hex: String = made.iter().map(|byte| format!("{byte:02x}")).collect();
        self.made += &format!("{name} {hex}\n");
        let Some(golden) = self.left.remove(name) else { return };
        let read = T::try_from(W::decode(&*golden).unwrap());
        assert_eq!(read, Ok(sample), "{name} as it was sent by version 1");
        assert_eq!(made, golden, "{name} as version 1 reads it");
    }
}

#[test]
fn samples_of_version_1_are_read_and_written() {
    let line = |line: &'static str| {
        let (name, hex) = line.split_once(' ').unwrap();
        let bytes = (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap());
        (name, bytes.collect())
    };
    let mut goldens = Goldens { left: V1.lines().map(line).collect(), made: String::new() };
    for (name, sample) in to_agent() {
        goldens.check::<ToAgent, wire::ToAgent>(name, sample);
    }
    for (name, sample) in to_controller() {
        goldens.check::<ToController, wire::ToController>(name, sample);
    }
    let der = bytes("der");
    let enrol = Enrol { versions: VERSIONS, token: [5; 32], csr: der.clone(), node: "vault-1".into(), facts: facts() };
    goldens.check::<Enrol, wire::EnrolRequest>("enrol", enrol);
    let renew = Renew { certificate: der.clone(), csr: der.clone(), signature: der.clone() };
    goldens.check::<Renew, wire::RenewRequest>("renew", renew);
    let identity = Enrolled::Identity { certificates: vec![der.clone(), der], valid: 86_400 };
    goldens.check::<Reply, wire::EnrolReply>("identity", Reply { outcome: identity, time: 1_800_000_000 });
    goldens.check::<Reply, wire::EnrolReply>("pending", Reply { outcome: Enrolled::Pending { retry: 30 }, time: 1_800_000_000 });
    let confirm = Confirm { session: Some([9; 16]), place: place(42), digest: assignment().digest };
    goldens.check::<Confirm, wire::ConfirmRequest>("confirm", confirm);
    assert!(goldens.left.is_empty(), "samples that nothing reads: {:?}", goldens.left.keys());
    assert!(V1 == goldens.made, "samples that are not kept in protocol/tests/v1.txt:\n{}", goldens.made);
}

#[test]
fn lists_come_back() {
    for (name, message) in to_agent() {
        if let ToAgent::List(bytes) = message {
            let list = List::decode(bytes.clone()).unwrap();
            assert_eq!(list.encode(), bytes, "{name}");
        }
    }
}

fn refused_hello(change: impl FnOnce(&mut wire::Hello)) -> &'static str {
    let mut message = wire::Hello::from(hello());
    change(&mut message);
    Hello::try_from(message).unwrap_err().field
}

fn refused_assignment(change: impl FnOnce(&mut wire::Assignment)) -> &'static str {
    let mut message = wire::Assignment::from(assignment());
    change(&mut message);
    Assignment::try_from(message).unwrap_err().field
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(refused_hello(|hello| hello.boot = bytes("short")), "Hello.boot");
    assert_eq!(refused_hello(|hello| hello.versions = None), "Hello.versions");
    assert_eq!(refused_hello(|hello| hello.versions = Some(wire::VersionRange { oldest: 2, newest: 1 })), "VersionRange.oldest");
    assert_eq!(refused_hello(|hello| hello.taken = Some(wire::Place { epoch: 0, number: 1 })), "Hello.taken");
    assert_eq!(refused_hello(|hello| hello.features = vec!["x".into(); FEATURES_MAX + 1]), "Hello.features");
    assert_eq!(refused_hello(|hello| hello.agent = "a\x1b[31m".into()), "Hello.agent");
    assert_eq!(refused_hello(|hello| hello.facts.as_mut().unwrap().kernel = "\x1b[31m".into()), "Facts.kernel");
    assert_eq!(refused_hello(|hello| hello.facts.as_mut().unwrap().addresses = vec![bytes("five5")]), "Facts.addresses");
    let many = vec![Bytes::from_static(&[192, 0, 2, 1]); ADDRESSES_MAX + 1];
    assert_eq!(refused_hello(|hello| hello.facts.as_mut().unwrap().addresses = many), "Facts.addresses");
    assert_eq!(refused_assignment(|assignment| assignment.ruleset = bytes("another")), "Assignment.digest");
    assert_eq!(refused_assignment(|assignment| assignment.window = 0), "Assignment.window");
    assert_eq!(refused_assignment(|assignment| assignment.window = u32::MAX), "Assignment.window");
    assert_eq!(refused_assignment(|assignment| assignment.on_drift = 0), "Assignment.on_drift");
    assert_eq!(refused_assignment(|assignment| assignment.on_tighten = 9), "Assignment.on_tighten");
    assert_eq!(refused_assignment(|assignment| assignment.place = None), "Assignment.place");
    assert_eq!(ToAgent::try_from(wire::ToAgent::default()).unwrap_err().field, "ToAgent.message");
    assert_eq!(ToController::try_from(wire::ToController::default()).unwrap_err().field, "ToController.message");
}

#[test]
fn lists_hold_prefixes_alone() {
    let refused = |v4: &[u8], v6: &[u8]| {
        let elements = Some(wire::Elements { v4: Bytes::copy_from_slice(v4), v6: Bytes::copy_from_slice(v6) });
        let snapshot = wire::Snapshot { revision: 1, part: 0, last: true, elements };
        let list = wire::List { list: "blocks".into(), change: Some(wire::list::Change::Snapshot(snapshot)), life: 0 };
        List::try_from(list).map_err(|refused| refused.field)
    };
    assert!(refused(&[203, 0, 113, 0, 24, 0, 0, 0, 0], &[]).is_ok());
    assert!(refused(&[0, 0, 0, 0, 0, 0, 0, 0, 0], &[]).is_ok(), "whether it may be so large is not a matter of form");
    assert_eq!(refused(&[203, 0, 113, 1, 24, 0, 0, 0, 0], &[]), Err("Snapshot.elements"));
    assert_eq!(refused(&[203, 0, 113, 0, 33, 0, 0, 0, 0], &[]), Err("Snapshot.elements"));
    assert_eq!(refused(&[203, 0, 113], &[]), Err("Snapshot.elements"));
    let mut mapped = [0; 21];
    mapped[10..17].copy_from_slice(&[0xff, 0xff, 203, 0, 113, 9, 128]);
    assert_eq!(refused(&[], &mapped), Err("Snapshot.elements"));
    let many = [203, 0, 113, 0, 24, 0, 0, 0, 0].repeat(ELEMENTS_MAX + 1);
    assert_eq!(refused(&many, &[]), Err("Snapshot.elements"));
}

#[test]
fn the_newest_common_version_is_spoken() {
    let versions = |oldest, newest| Versions { oldest, newest };
    assert_eq!(versions(1, 2).common(versions(1, 1)), Some(1));
    assert_eq!(versions(2, 3).common(versions(3, 4)), Some(3));
    assert_eq!(versions(1, 3).common(versions(2, 3)), Some(3));
    assert_eq!(versions(2, 3).common(versions(1, 1)), None);
    assert_eq!(VERSIONS.common(versions(1, 1)), Some(1), "an agent of version 1 is served");
}

#[test]
fn a_token_is_not_shown() {
    let enrol = Enrol { versions: VERSIONS, token: [171; 32], csr: bytes("der"), node: "a".into(), facts: facts() };
    assert!(!format!("{enrol:?}").contains("171"));
}
