//! Single stories, step by step: what the histories do not look at.

use std::sync::Arc;

use ringwall_node::reconciler::{
    Action, Answer, Assignment, Begun, Disk, DriftOutcome, Event, Happening, Kernel, Moment, OnDrift, OnTighten, Order, Place,
    Process, Reason, Reconciler, Say, Stage,
};
use ringwall_ruleset::nftables::Generation;

const G1: Generation = Generation(1);
const DAY: u64 = 86_400_000;

fn place(number: u64) -> Place {
    Place { epoch: 1, number }
}

fn assignment(number: u64) -> Assignment {
    Assignment {
        place: place(number),
        revision: "r1".into(),
        digest: [1; 32],
        ruleset: [].into(),
        window: 60,
        on_drift: OnDrift::Heal,
        on_tighten: OnTighten::Cut,
        names: ["ntp.example.net".to_owned()].into(),
    }
}

fn begun(generation: Generation, number: u64) -> Begun {
    let Assignment { place, digest, on_drift, names, .. } = assignment(number);
    Begun { generation, place: Some(place), digest, on_drift, names }
}

fn kernel(current: Option<Generation>) -> Kernel {
    Kernel { current, trial: None, is_intact: true }
}

struct Story(Reconciler);

impl Story {
    /// An agent that enforces assignment 1 as g1 and has a connection at time 0.
    fn enforcing(on_drift: OnDrift) -> Self {
        let confirmed = Begun { on_drift, names: [].into(), ..begun(G1, 1) };
        let disk = Disk { taken: Some(assignment(1)), confirmed: Some(confirmed), begun: Vec::new() };
        let mut story = Self(Reconciler::default());
        story.at(0, Event::Started { disk, kernel: kernel(Some(G1)) });
        story.at(0, Event::KernelRead(kernel(Some(G1))));
        assert_eq!(story.at(0, Event::Enrolled { valid: DAY }), [Action::Connect]);
        story.at(0, Event::Connected);
        story
    }

    fn at(&mut self, now: u64, event: Event) -> Vec<Action> {
        self.0.step(Moment { now, random: 0 }, event)
    }

    /// Assignment 2, on trial as g2.
    fn load(&mut self) {
        assert_eq!(self.at(10, Event::Received(assignment(2))), [Action::Persist(assignment(2))]);
        let actions = self.at(20, Event::Persisted(place(2)));
        assert_eq!(actions, [ack(2, Stage::Received, 0), Action::Load(assignment(2))]);
        let actions = self.at(30, Event::Loaded { place: place(2), generation: Generation(2) });
        let ask = Action::ConnectFreshAndConfirm { attempt: 1, place: place(2), digest: [1; 32] };
        assert_eq!(actions, [ack(2, Stage::Trial, 2), ask, Action::Resolve("ntp.example.net".into())]);
    }
}

fn ack(number: u64, stage: Stage, generation: u32) -> Action {
    Action::Say(Say::Ack { place: place(number), stage, generation })
}

fn drift(outcome: DriftOutcome) -> Action {
    let process = Some(process());
    Action::Say(Say::Happened { age: 0, happening: Happening::Drift { process, outcome } })
}

fn process() -> Process {
    Process { name: "nft".into(), id: 4711 }
}

#[test]
fn an_assignment_is_confirmed_over_another_connection() {
    let mut story = Story::enforcing(OnDrift::Heal);
    story.load();
    // Of no connection that this trial asked for.
    assert_eq!(story.at(40, Event::Answered { attempt: 0, answer: Answer::Yes }), []);
    assert_eq!(story.at(50, Event::Answered { attempt: 1, answer: Answer::Yes }), [Action::ConfirmInKernel(Generation(2))]);
    let actions = story.at(60, Event::Settled(Generation(2)));
    assert_eq!(actions, [ack(2, Stage::Confirmed, 2), Action::ReadKernel]);
    assert_eq!(story.0.confirmed(), Some(&begun(Generation(2), 2)));
}

#[test]
fn a_trial_that_nobody_confirms_is_reported_when_the_kernel_let_it_fall() {
    let mut story = Story::enforcing(OnDrift::Heal);
    story.load();
    assert_eq!(story.at(1_000, Event::Answered { attempt: 1, answer: Answer::Unreachable }), []);
    // The session may live on by the old rules: it counts for nothing.
    let again = story.at(2_000, Event::Tick);
    assert!(matches!(again[..], [Action::ConnectFreshAndConfirm { attempt: 2, .. }]), "{again:?}");
    story.at(3_000, Event::NotResolved { name: "ntp.example.net".into() });
    assert_eq!(story.at(62_000, Event::Tick)[0], Action::ReadKernel);
    let fallen = Kernel { trial: Some((Generation(2), None)), ..kernel(Some(G1)) };
    let actions = story.at(62_010, Event::KernelRead(fallen));
    assert_eq!(actions[..2], [ack(2, Stage::Fell, 2), Action::Rollback(Generation(2))]);
    // Late: it changes nothing.
    assert_eq!(story.at(62_020, Event::Answered { attempt: 2, answer: Answer::Yes }), []);
}

#[test]
fn a_newer_assignment_waits_for_the_end_of_the_trial() {
    let mut story = Story::enforcing(OnDrift::Heal);
    story.load();
    story.at(40, Event::Received(assignment(3)));
    assert_eq!(story.at(50, Event::Persisted(place(3))), [ack(3, Stage::Received, 0)]);
    story.at(60, Event::Answered { attempt: 1, answer: Answer::No });
    assert_eq!(story.at(70, Event::RolledBack(Generation(2))), [Action::ReadKernel]);
    let actions = story.at(80, Event::KernelRead(kernel(Some(G1))));
    assert_eq!(actions, [Action::Load(assignment(3))]);
}

#[test]
fn a_controller_that_will_not_wait_orders_the_trial_back() {
    let mut story = Story::enforcing(OnDrift::Heal);
    story.load();
    let refused = Action::Say(Say::OrderRefused { id: 7, detail: "that assignment is not on trial here".into() });
    assert_eq!(story.at(40, Event::Ordered { id: 7, order: Order::Rollback(place(1)) }), [refused]);
    let actions = story.at(50, Event::Ordered { id: 8, order: Order::Rollback(place(2)) });
    assert_eq!(actions, [Action::Rollback(Generation(2))]);
    assert_eq!(story.at(60, Event::RolledBack(Generation(2)))[0], ack(2, Stage::Fell, 2));
}

#[test]
fn older_ones_are_refused_whatever_they_say() {
    let mut story = Story::enforcing(OnDrift::Heal);
    story.load();
    let mut refused = |assignment: Assignment, as_what: Reason| {
        let place = assignment.place;
        let actions = story.at(50, Event::Received(assignment));
        let [Action::Say(Say::Refused { place: found, reason, .. })] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!((*found, *reason), (place, as_what));
    };
    refused(assignment(1), Reason::Stale);
    refused(Assignment { digest: [2; 32], ..assignment(2) }, Reason::Stale);
    refused(Assignment { place: Place { epoch: 0, number: 99 }, ..assignment(1) }, Reason::Epoch);
    assert_eq!(story.at(60, Event::Received(assignment(2))), [ack(2, Stage::Trial, 2)]);
}

#[test]
fn what_was_flushed_is_healed_and_told_with_the_process() {
    let mut story = Story::enforcing(OnDrift::Heal);
    assert_eq!(story.at(1_000, Event::ForeignChange(Some(process()))), [Action::ReadKernel]);
    assert_eq!(story.at(1_010, Event::KernelRead(kernel(None))), [Action::Heal(G1)]);
    assert_eq!(story.at(1_020, Event::Healed), [drift(DriftOutcome::Healed)]);
}

#[test]
fn a_change_during_a_read_is_read_again() {
    let mut story = Story::enforcing(OnDrift::Heal);
    assert_eq!(story.at(1_000, Event::ForeignChange(None)), [Action::ReadKernel]);
    assert_eq!(story.at(1_001, Event::ForeignChange(Some(process()))), []);
    assert_eq!(story.at(1_010, Event::KernelRead(kernel(Some(G1)))), []);
    let next = story.0.wake_at().unwrap();
    assert!(next < 2_000, "{next}");
    assert_eq!(story.at(next, Event::Tick), [Action::ReadKernel]);
    // And who made it is known then.
    assert_eq!(story.at(next + 1, Event::KernelRead(kernel(None))), [Action::Heal(G1)]);
    assert_eq!(story.at(next + 2, Event::Healed), [drift(DriftOutcome::Healed)]);
}

#[test]
fn where_drift_is_only_reported_it_is_reported_once() {
    let mut story = Story::enforcing(OnDrift::Report);
    let disturbed = Kernel { is_intact: false, ..kernel(Some(G1)) };
    story.at(1_000, Event::ForeignChange(Some(process())));
    assert_eq!(story.at(1_010, Event::KernelRead(disturbed.clone())), [drift(DriftOutcome::Reported)]);
    assert_eq!(story.at(20_000, Event::Tick), [Action::ReadKernel]);
    assert_eq!(story.at(20_010, Event::KernelRead(disturbed)), []);
}

/// A program that flushes our table each time it sees it, for an hour.
#[test]
fn who_changes_it_again_and_again_is_not_fought_for_ever() {
    let mut story = Story::enforcing(OnDrift::Heal);
    let (mut now, mut heals, mut told) = (1_000, Vec::new(), Vec::new());
    let mut event = Event::ForeignChange(Some(process()));
    while now < 3_600_000 {
        let mut next = None;
        for action in story.at(now, event) {
            next = match action {
                Action::ReadKernel => Some(Event::KernelRead(kernel(None))),
                Action::Heal(_) => {
                    heals.push(now);
                    Some(Event::Healed)
                }
                Action::Say(Say::Happened { happening: Happening::Drift { outcome, .. }, .. }) => {
                    told.push(outcome);
                    next
                }
                other => panic!("{other:?}"),
            };
        }
        event = next.unwrap_or(Event::Tick);
        now = if event == Event::Tick { story.0.wake_at().unwrap().max(now + 1) } else { now + 10 };
    }
    assert!((10..25).contains(&heals.len()), "{} heals: {heals:?}", heals.len());
    assert_eq!(told.iter().filter(|outcome| **outcome == DriftOutcome::Flapping).count(), 1);
    assert_eq!(told.len(), 6, "{told:?}");
}

#[test]
fn a_certificate_is_renewed_at_half_of_its_life() {
    let mut story = Story::enforcing(OnDrift::Heal);
    let read = |story: &mut Story, now| {
        let actions = story.at(now, Event::Tick);
        story.at(now, Event::KernelRead(kernel(Some(G1))));
        actions
    };
    assert_eq!(read(&mut story, DAY / 2 - 1), [Action::ReadKernel]);
    assert_eq!(story.at(DAY / 2, Event::Tick), [Action::Renew]);
    // It is asked for once at a time, and again when that did not work.
    assert_eq!(story.at(DAY / 2 + 5, Event::Tick), []);
    story.at(DAY / 2 + 10, Event::NotRenewed);
    assert!(read(&mut story, DAY / 2 + 70_000).contains(&Action::Renew));
    story.at(DAY / 2 + 70_010, Event::Enrolled { valid: DAY });
    assert!(!read(&mut story, DAY).contains(&Action::Renew));
}

#[test]
fn a_revoked_agent_keeps_enforcing_and_does_nothing_else() {
    let mut story = Story::enforcing(OnDrift::Heal);
    let actions = story.at(10, Event::Revoked { detail: "by an operator".into() });
    let told = |action: &Action| matches!(action, Action::Say(Say::Happened { happening: Happening::Trouble { kind: "identity", .. }, .. }));
    assert!(told(&actions[0]) && actions[1] == Action::Disconnect, "{actions:?}");
    assert_eq!(story.at(20, Event::Disconnected), []);
    assert_eq!(story.at(30, Event::Received(assignment(2))), []);
    assert_eq!(story.at(1_000, Event::ForeignChange(None)), [Action::ReadKernel]);
    assert_eq!(story.at(1_010, Event::KernelRead(kernel(None))), [Action::Heal(G1)]);
    story.at(1_020, Event::Healed);
    for hour in 1..48 {
        let actions = story.at(hour * 3_600_000, Event::Tick);
        assert!(actions.iter().all(|action| *action == Action::ReadKernel), "{actions:?}");
        story.at(hour * 3_600_000, Event::KernelRead(kernel(Some(G1))));
    }
}

#[test]
fn a_release_leaves_the_rules_where_they_are() {
    let mut story = Story::enforcing(OnDrift::Heal);
    let actions = story.at(10, Event::Ordered { id: 1, order: Order::Release { remove: false } });
    assert_eq!(actions, [Action::ForgetIdentity, Action::Disconnect]);
    let mut story = Story::enforcing(OnDrift::Heal);
    assert_eq!(story.at(10, Event::Ordered { id: 1, order: Order::Release { remove: true } }), [Action::Remove]);
    assert_eq!(story.at(20, Event::Removed)[..2], [Action::ForgetIdentity, Action::Disconnect]);
}

/// Of some hundred agents that lost their controller at one moment, few come back at one moment, and none later than a minute and a half.
#[test]
fn agents_come_back_one_after_the_other() {
    let mut waits: Vec<u64> = (0..300u64).map(|number| {
        let mut story = Story::enforcing(OnDrift::Heal);
        let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut at = 0;
        for _ in 0..6 {
            story.0.step(Moment { now: at, random }, Event::Disconnected);
            loop {
                let next = story.0.wake_at().unwrap();
                let actions = story.0.step(Moment { now: next, random }, Event::Tick);
                if actions.contains(&Action::ReadKernel) {
                    story.0.step(Moment { now: next, random }, Event::KernelRead(kernel(Some(G1))));
                }
                if actions.contains(&Action::Connect) {
                    assert!(next - at <= 90_000, "{}", next - at);
                    at = next;
                    break;
                }
            }
        }
        at
    }).collect();
    waits.sort_unstable();
    let busiest = waits.iter().map(|wait| waits.iter().filter(|other| (*wait..wait + 1_000).contains(*other)).count()).max();
    assert!(busiest < Some(30), "{busiest:?} in one second");
}

#[test]
fn what_happened_meanwhile_is_told_with_its_age() {
    let mut story = Story::enforcing(OnDrift::Heal);
    story.at(0, Event::Disconnected);
    story.at(5_000, Event::ForeignChange(Some(process())));
    story.at(5_000, Event::KernelRead(kernel(None)));
    story.at(5_000, Event::Healed);
    let actions = story.at(65_000, Event::Connected);
    let happening = Happening::Drift { process: Some(process()), outcome: DriftOutcome::Healed };
    assert_eq!(actions[..2], [ack(1, Stage::Confirmed, 1), Action::Say(Say::Happened { age: 60, happening })]);
}

#[test]
fn names_are_asked_for_again_when_their_time_is_over() {
    let mut story = Story::enforcing(OnDrift::Heal);
    story.load();
    let addresses: Arc<[_]> = ["192.0.2.7".parse().unwrap()].into();
    let resolved = Event::Resolved { name: "ntp.example.net".into(), addresses: addresses.clone(), seconds: 300 };
    let refresh = |generations, addresses| Action::Refresh {
        generations, name: "ntp.example.net".into(), addresses, seconds: 300 + 3600,
    };
    assert_eq!(story.at(100, resolved.clone()), [refresh(vec![Generation(2)], addresses.clone())]);
    story.at(200, Event::Answered { attempt: 1, answer: Answer::Yes });
    story.at(300, Event::Settled(Generation(2)));
    story.at(310, Event::KernelRead(kernel(Some(Generation(2)))));
    let actions = story.at(300_100, Event::Tick);
    assert!(actions.contains(&Action::Resolve("ntp.example.net".into())), "{actions:?}");
    let other: Arc<[_]> = ["192.0.2.8".parse().unwrap()].into();
    let actions = story.at(300_200, Event::Resolved { name: "ntp.example.net".into(), addresses: other.clone(), seconds: 300 });
    let happening = Happening::Names { name: "ntp.example.net".into(), addresses: other.clone() };
    assert_eq!(actions, [Action::Say(Say::Happened { age: 0, happening }), refresh(vec![Generation(2)], other)]);
}
