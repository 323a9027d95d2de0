//! The stores side by side: the same changes in any order, and the same answers.

use std::sync::Arc;

use proptest::prelude::*;
use ringwall_controller::agent::Place;
use ringwall_controller::assignment::{NewAssignment, State};
use ringwall_controller::change::{Change, Observed, Renew, Write};
use ringwall_controller::id::{AssignmentNumber, AuditNumber, EventNumber, RevisionNumber, RolloutNumber};
use ringwall_controller::rollout;
use ringwall_controller::store::{Memory, Read, Store};
use serde_json::json;

use crate::store::parts::{KEEP, access, agent_id, changed, commit, enrol, event, fleet, key, node, seen, token};
use crate::store::{Folder, block_on, open};

fn change() -> impl Strategy<Value = Change> {
    let small = || 1..4_u8;
    let name = || small().prop_map(|number| node(&format!("node-{number}")));
    let assign = (name(), 1..4_u64, any::<u8>());
    let states = prop_oneof![
        (0..3_usize).prop_map(|wave| rollout::State::Running { wave }),
        (0..3_usize).prop_map(|wave| rollout::State::Paused { wave, reason: "asked".to_owned() }),
        Just(rollout::State::RollingBack { reason: "probes".to_owned() }),
        Just(rollout::State::Done),
    ];
    prop_oneof![
        Just(Change::Found(fleet())),
        small().prop_map(|number| Change::CreateToken(token(number))),
        small().prop_map(|number| Change::RevokeToken(token(number).id)),
        (small(), 1..6_u8).prop_map(|(token, agent)| enrol(token, agent)),
        (small(), 1..6_u8).prop_map(|(token, agent)| enrol(token, agent)),
        small().prop_map(|number| Change::Approve(agent_id(number))),
        small().prop_map(|number| Change::Revoke { agent: agent_id(number), reason: "any".to_owned() }),
        (small(), small(), small()).prop_map(|(agent, proved, new)| {
            let certificate_expires = crate::store::parts::at(i64::from(new));
            Change::Renew(Renew { agent: agent_id(agent), proved: key(proved), key: key(new), certificate_expires })
        }),
        (small(), small()).prop_map(|(agent, last)| {
            let address = format!("192.0.2.{last}").parse().expect("an address");
            Change::Report { agent: agent_id(agent), addresses: [address].into() }
        }),
        (small(), any::<bool>()).prop_map(|(agent, is_in_site)| {
            let site = is_in_site.then(|| "hel".parse().expect("a site"));
            let prefixes = token(1).terms.prefixes;
            Change::Place { agent: agent_id(agent), place: Place { site, prefixes, ..Place::default() } }
        }),
        (name(), any::<Option<u8>>()).prop_map(|(node, value)| {
            Change::Set { node, name: "api".parse().expect("a name"), value: value.map(|value| json!({ "port": value })) }
        }),
        "[ab]".prop_map(|text| commit(&text)),
        assign.prop_map(|(node, revision, byte)| {
            let revision = RevisionNumber(revision);
            Change::Assign(vec![NewAssignment { node, revision, ruleset: Arc::from([byte]) }])
        }),
        (1..3_u64, name()).prop_map(|(revision, node)| Change::StartRollout {
            revision: RevisionNumber(revision),
            waves: vec![[node].into(), Default::default()],
        }),
        (1..3_u64, states).prop_map(|(number, state)| Change::StepRollout {
            rollout: RolloutNumber(number),
            state,
            results: Vec::new(),
        }),
        small().prop_map(|number| Change::CreateAccess(access(number))),
        small().prop_map(|number| Change::RevokeAccess(access(number).id)),
    ]
}

fn part() -> impl Strategy<Value = Write> {
    let states = prop_oneof![Just(State::Trial), Just(State::Confirmed), "[a-z]{1,3}".prop_map(State::Fell)];
    prop_oneof![
        5 => change().prop_map(changed),
        1 => Just(seen(7, event("drift"))),
        1 => (1..4_u8).prop_map(|number| seen(8, Observed::Seen { agent: agent_id(number), facts: Some(json!([number])) })),
        1 => (1..4_u64, states).prop_map(|(number, state)| {
            seen(9, Observed::Progress { node: node("node-1"), number: AssignmentNumber(number), state })
        }),
        1 => (1..4_u8, any::<u8>()).prop_map(|(number, second)| {
            seen(i64::from(second), Observed::AccessUsed(access(number).id))
        }),
    ]
}

/// All that can be asked.
async fn everything(store: &impl Store) -> String {
    let mut rows = store.read().await.expect("rows");
    let mut all = vec![
        format!("{:?}", rows.fleet().await.expect("rows")),
        format!("{:?}", rows.tokens().await.expect("rows")),
        format!("{:?}", rows.agents().await.expect("rows")),
        format!("{:?}", rows.sightings().await.expect("rows")),
        format!("{:?}", rows.settings().await.expect("rows")),
        format!("{:?}", rows.revisions(Some(RevisionNumber(5)), 3).await.expect("rows")),
        format!("{:?}", rows.rollouts(None, 9).await.expect("rows")),
        format!("{:?}", rows.active_rollout().await.expect("rows")),
        format!("{:?}", rows.events(EventNumber(2), 3).await.expect("rows")),
        format!("{:?}", rows.audit(AuditNumber(0), 1000).await.expect("rows")),
        format!("{:?}", rows.accesses().await.expect("rows")),
    ];
    for assignment in rows.assignments().await.expect("rows") {
        let ruleset = rows.ruleset(&assignment.node, assignment.number).await.expect("rows");
        all.push(format!("{assignment:?} {ruleset:?}"));
    }
    for last in 1..6 {
        let address = format!("192.0.2.{last}").parse().expect("an address");
        for site in [None, Some("hel".parse().expect("a site"))] {
            all.push(format!("{:?}", rows.holder(site.as_ref(), address).await.expect("rows")));
        }
        all.push(format!("{:?}", rows.agent_of(&node(&format!("node-{last}"))).await.expect("rows")));
    }
    all.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn stores_agree(transactions in prop::collection::vec(prop::collection::vec(part(), 1..4), 1..60)) {
        let folder = Folder::new();
        let (of_memory, of_file) = block_on(async {
            let (memory, file) = (Memory::new(KEEP), open(&folder.path("store"), KEEP).await);
            let (mut of_memory, mut of_file) = (Vec::new(), Vec::new());
            for parts in transactions {
                of_memory.push(memory.write(parts.clone()).await.map_err(|error| error.to_string()));
                of_file.push(file.write(parts).await.map_err(|error| error.to_string()));
            }
            ((of_memory, everything(&memory).await), (of_file, everything(&file).await))
        });
        prop_assert_eq!(of_memory, of_file);
    }
}
