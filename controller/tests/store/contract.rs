//! The promises, each a function over any store.

use std::collections::BTreeSet;
use std::sync::Arc;

use ringwall_controller::agent::{Place, Standing};
use ringwall_controller::assignment::{NewAssignment, State};
use ringwall_controller::audit::Actor;
use ringwall_controller::change::{Change, Observed, Renew, Written};
use ringwall_controller::id::{AssignmentNumber, AuditNumber, Digest, EventNumber, RevisionNumber, RolloutNumber};
use ringwall_controller::rollout;
use ringwall_controller::store::{Error, Read as _, Store};
use ringwall_controller::token::Refusal;
use serde_json::json;

use crate::store::parts::{
    access, agent_id, apply, at, by, changed, commit, enrol, event, fleet, key, node, refused, secret, seen, token, write,
};

pub async fn a_fleet_is_founded_once<S: Store>(store: S) {
    assert_eq!(store.read().await.expect("rows").fleet().await.expect("no fleet"), None);
    apply(&store, Change::Found(fleet())).await;
    assert!(refused(&store, Change::Found(fleet())).await.contains("there is a fleet"));
    assert_eq!(store.read().await.expect("rows").fleet().await.expect("a fleet"), Some(fleet()));
}

pub async fn a_token_is_used_as_often_as_it_says<S: Store>(store: S) {
    apply(&store, Change::CreateToken(token(1))).await;
    assert!(refused(&store, Change::CreateToken(token(1))).await.contains("already"));
    apply(&store, enrol(1, 1)).await;
    apply(&store, enrol(1, 2)).await;
    let error = write(&store, changed(enrol(1, 3))).await.expect_err("used up");
    assert!(matches!(error, Error::Token(Refusal::UsedUp { uses: 2, used: 2, .. })), "{error}");
    assert!(matches!(write(&store, changed(enrol(7, 3))).await, Err(Error::Token(Refusal::Unknown))));
    apply(&store, Change::CreateToken(token(2))).await;
    apply(&store, Change::RevokeToken(token(2).id)).await;
    assert!(matches!(write(&store, changed(enrol(2, 3))).await, Err(Error::Token(Refusal::Revoked { .. }))));
    apply(&store, Change::CreateToken(token(3))).await;
    let late = write(&store, by(Actor::Enrolling, 1000, enrol(3, 3))).await;
    assert!(matches!(late, Err(Error::Token(Refusal::Expired { .. }))), "{late:?}");
    let mut rows = store.read().await.expect("rows");
    assert_eq!(rows.agents().await.expect("agents").len(), 2);
    let used: Vec<_> = rows.tokens().await.expect("tokens").iter().map(|token| (token.used, token.revoked)).collect();
    assert_eq!(used, [(2, None), (0, Some(at(100))), (0, None)]);
    assert_eq!(rows.token_of(secret(3)).await.expect("a token"), Some(token(3)));
}

pub async fn who_enrols_is_what_the_token_says<S: Store>(store: S) {
    apply(&store, Change::CreateToken(token(9))).await;
    assert_eq!(apply(&store, enrol(9, 1)).await, Written::Pending(agent_id(1)));
    assert_eq!(apply(&store, enrol(9, 1)).await, Written::Pending(agent_id(1)), "it waits");
    let agent = store.read().await.expect("rows").agent(agent_id(1)).await.expect("rows").expect("an agent");
    let terms = token(9).terms;
    assert_eq!((&agent.place.site, &agent.place.labels), (&terms.site, &terms.labels));
    assert_eq!((&agent.place.location, &agent.place.prefixes), (&terms.location, &terms.prefixes));
    assert_eq!(agent.standing, Standing::Pending);
    assert_eq!(agent.addresses(), ["192.0.2.1".parse().expect("an address")].into());
    assert_eq!((agent.reported.len(), agent.enrolled, agent.certificate_expires), (2, at(100), at(90_000)));
    apply(&store, Change::Approve(agent_id(1))).await;
    apply(&store, Change::Approve(agent_id(1))).await;
    let mut rows = store.read().await.expect("rows");
    let agent = rows.agent_of(&node("node-1")).await.expect("rows").expect("an agent");
    assert_eq!(agent.standing, Standing::Approved);
    assert_eq!(rows.audit(AuditNumber(0), 10).await.expect("entries").len(), 4, "nothing changed the second time");
    drop(rows);
    // It asks again, as it was told; that the token ended while it waited is not its fault.
    let Change::Enrol(mut again) = enrol(9, 1) else { unreachable!("an enrolment") };
    again.claim.clock = None;
    let again = write(&store, by(Actor::Enrolling, 5000, Change::Enrol(again))).await;
    assert_eq!(again.expect("an agent"), Written::Agent(agent_id(1)));
    // A name that the token is bound to overrules what is claimed.
    let mut bound = token(4);
    bound.terms.node = Some(node("db-1"));
    apply(&store, Change::CreateToken(bound)).await;
    apply(&store, enrol(4, 4)).await;
    let agent = store.read().await.expect("rows").agent(agent_id(4)).await.expect("rows").expect("an agent");
    assert_eq!(agent.node, node("db-1"));
}

pub async fn who_asks_again_is_the_same<S: Store>(store: S) {
    apply(&store, Change::CreateToken(token(1))).await;
    apply(&store, enrol(1, 1)).await;
    let Change::Enrol(mut again) = enrol(1, 1) else { unreachable!("an enrolment") };
    again.certificate_expires = at(95_000);
    assert_eq!(apply(&store, Change::Enrol(again.clone())).await, Written::Agent(agent_id(1)));
    apply(&store, enrol(1, 2)).await;
    apply(&store, Change::Enrol(again.clone())).await;
    let mut rows = store.read().await.expect("rows");
    assert_eq!(rows.tokens().await.expect("tokens")[0].used, 2, "each agent once");
    assert_eq!(rows.agent(agent_id(1)).await.expect("rows").expect("an agent").certificate_expires, at(95_000));
    drop(rows);
    let with = |change: fn(&mut ringwall_controller::change::Enrol)| {
        let mut other = again.clone();
        change(&mut other);
        Change::Enrol(other)
    };
    assert!(refused(&store, with(|other| other.claim.node = node("node-3"))).await.contains("already"));
    assert!(refused(&store, with(|other| other.key = key(3))).await.contains("already"));
    let skewed = write(&store, by(Actor::Enrolling, 1000, Change::Enrol(again.clone()))).await;
    assert!(matches!(skewed, Err(Error::Token(Refusal::Skew { seconds: 900, .. }))), "{skewed:?}");
    // Once it came with its certificate, it renews that.
    write(&store, seen(101, Observed::Seen { agent: agent_id(1), facts: None })).await.expect("a sight");
    assert!(refused(&store, Change::Enrol(again.clone())).await.contains("already"));
    let Change::Enrol(second) = enrol(1, 2) else { unreachable!("an enrolment") };
    apply(&store, Change::Revoke { agent: agent_id(2), reason: "stolen".to_owned() }).await;
    assert!(refused(&store, Change::Enrol(second)).await.contains("already"));
}

pub async fn a_refused_part_takes_all_others_with_it<S: Store>(store: S) {
    let Change::Enrol(mut other) = enrol(1, 2) else { unreachable!("an enrolment") };
    other.claim.node = node("node-1");
    let parts = vec![
        changed(Change::CreateToken(token(1))),
        changed(enrol(1, 1)),
        seen(100, event("joined")),
        changed(Change::Enrol(other)),
    ];
    store.write(parts).await.expect_err("the node has an agent");
    let mut rows = store.read().await.expect("rows");
    assert!(rows.tokens().await.expect("tokens").is_empty());
    assert!(rows.agents().await.expect("agents").is_empty());
    assert!(rows.events(EventNumber(0), 10).await.expect("events").events.is_empty());
    assert!(rows.audit(AuditNumber(0), 10).await.expect("entries").is_empty());
}

pub async fn a_node_and_an_address_have_one_agent<S: Store>(store: S) {
    apply(&store, Change::CreateToken(token(1))).await;
    apply(&store, enrol(1, 1)).await;
    let Change::Enrol(mut other) = enrol(1, 2) else { unreachable!("an enrolment") };
    other.claim.node = node("node-1");
    let twice = refused(&store, Change::Enrol(other.clone())).await;
    assert!(twice.contains("`node-1` has an agent already"), "{twice}");
    other.claim.node = node("node-2");
    other.claim.addresses = ["192.0.2.1".parse().expect("an address")].into();
    let stolen = refused(&store, Change::Enrol(other)).await;
    assert_eq!(stolen, "the address 192.0.2.1 belongs to `node-1` of the same site");
    apply(&store, enrol(1, 2)).await;
    let report = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Change::Report { agent: agent_id(2), addresses }
    };
    assert!(refused(&store, report(&["192.0.2.2", "::ffff:192.0.2.1"])).await.contains("belongs to `node-1`"));
    apply(&store, report(&["192.0.2.22", "198.51.100.1"])).await;
    let mut rows = store.read().await.expect("rows");
    let site = "hel".parse().expect("a site");
    let address = |text: &str| text.parse().expect("an address");
    assert_eq!(rows.holder(Some(&site), address("192.0.2.22")).await.expect("rows"), Some(agent_id(2)));
    assert_eq!(rows.holder(Some(&site), address("192.0.2.2")).await.expect("rows"), None, "it is free again");
    assert_eq!(rows.holder(Some(&site), address("198.51.100.1")).await.expect("rows"), None, "outside of the prefixes");
    assert_eq!(rows.holder(None, address("192.0.2.1")).await.expect("rows"), None, "another site");
    drop(rows);
    // In another site the same address is another machine's.
    let place = Place { site: Some("oul".parse().expect("a site")), prefixes: token(1).terms.prefixes, ..Place::default() };
    apply(&store, Change::Place { agent: agent_id(2), place: place.clone() }).await;
    apply(&store, report(&["192.0.2.1"])).await;
    let back = Place { site: Some(site), ..place };
    assert!(refused(&store, Change::Place { agent: agent_id(2), place: back.clone() }).await.contains("belongs to"));
    // Whoever is revoked holds nothing.
    apply(&store, Change::Revoke { agent: agent_id(1), reason: "stolen".to_owned() }).await;
    apply(&store, Change::Place { agent: agent_id(2), place: back }).await;
}

pub async fn a_revoked_agent_stays_so<S: Store>(store: S) {
    apply(&store, Change::CreateToken(token(1))).await;
    apply(&store, enrol(1, 1)).await;
    apply(&store, Change::Revoke { agent: agent_id(1), reason: "stolen".to_owned() }).await;
    let renew = Renew { agent: agent_id(1), proved: key(1), key: key(1), certificate_expires: at(200) };
    for change in [
        Change::Approve(agent_id(1)),
        Change::Revoke { agent: agent_id(1), reason: "again".to_owned() },
        Change::Renew(renew),
        Change::Report { agent: agent_id(1), addresses: BTreeSet::new() },
        Change::Place { agent: agent_id(1), place: Place::default() },
    ] {
        assert!(matches!(write(&store, changed(change)).await, Err(Error::Revoked(agent)) if agent == agent_id(1)));
    }
    let mut rows = store.read().await.expect("rows");
    let agent = rows.agent(agent_id(1)).await.expect("rows").expect("an agent");
    assert_eq!(agent.standing, Standing::Revoked { at: at(100), reason: "stolen".to_owned() });
    assert_eq!(rows.agent_of(&node("node-1")).await.expect("rows"), None);
    drop(rows);
    // The node may come back as somebody new.
    let Change::Enrol(mut again) = enrol(1, 2) else { unreachable!("an enrolment") };
    again.claim.node = node("node-1");
    apply(&store, Change::Enrol(again)).await;
}

pub async fn only_known_keys_renew<S: Store>(store: S) {
    apply(&store, Change::CreateToken(token(1))).await;
    apply(&store, enrol(1, 1)).await;
    let renew = |proved: u8, new: u8, expires: i64| {
        Change::Renew(Renew { agent: agent_id(1), proved: key(proved), key: key(new), certificate_expires: at(expires) })
    };
    assert!(refused(&store, renew(2, 3, 200)).await.contains("has no key with the digest"));
    apply(&store, renew(1, 2, 200)).await;
    // The answer was lost: the old key asks again, and the key of the lost answer is worth nothing.
    apply(&store, renew(1, 3, 300)).await;
    assert!(refused(&store, renew(2, 4, 400)).await.contains("has no key"));
    apply(&store, renew(3, 3, 500)).await;
    assert!(refused(&store, renew(1, 4, 600)).await.contains("has no key"), "the newest is in use: the former is no more");
    let agent = store.read().await.expect("rows").agent(agent_id(1)).await.expect("rows").expect("an agent");
    assert_eq!((agent.keys.newest, agent.keys.previous, agent.certificate_expires), (key(3), None, at(500)));
}

pub async fn settings_have_rising_revisions<S: Store>(store: S) {
    let set = |name: &str, value| Change::Set { node: node("node-1"), name: name.parse().expect("a name"), value };
    apply(&store, set("api", Some(json!([443, 8443])))).await;
    apply(&store, set("vrrp", Some(json!(true)))).await;
    apply(&store, set("vrrp", Some(json!(true)))).await;
    apply(&store, set("vrrp", None)).await;
    apply(&store, set("vrrp", None)).await;
    apply(&store, set("api", Some(json!([443])))).await;
    let mut rows = store.read().await.expect("rows");
    let settings = rows.settings().await.expect("settings");
    let short: Vec<_> = settings.iter().map(|setting| (setting.name.as_str(), &setting.value, setting.revision)).collect();
    assert_eq!(short, [("api", &json!([443]), 4)]);
    assert_eq!(rows.audit(AuditNumber(0), 10).await.expect("entries").len(), 4);
}

pub async fn revisions_are_kept_for_ever_and_contents_once<S: Store>(store: S) {
    for (number, text) in [(1, "a"), (2, "b"), (3, "a")] {
        assert_eq!(apply(&store, commit(text)).await, Written::Revision(RevisionNumber(number)));
    }
    let mut rows = store.read().await.expect("rows");
    let revisions = rows.revisions(None, 2).await.expect("revisions");
    assert_eq!(revisions.iter().map(|revision| revision.number.0).collect::<Vec<_>>(), [3, 2], "the newest first");
    let first = rows.revisions(Some(RevisionNumber(2)), 9).await.expect("revisions").remove(0);
    assert_eq!(first.content, revisions[0].content);
    assert_ne!(first.content, revisions[1].content);
    let Change::Commit(new) = commit("a") else { unreachable!("a commit") };
    assert_eq!(rows.content(first.content).await.expect("content"), Some(new.content));
    assert_eq!((&first.author, &first.message, &first.source), (&new.author, &new.message, &new.source));
    assert_eq!(rows.revision(RevisionNumber(1)).await.expect("a revision"), Some(first));
    assert_eq!(rows.revision(RevisionNumber(4)).await.expect("none"), None);
}

fn assign(names: &[&str], ruleset: &[u8]) -> Change {
    assign_of(1, names, ruleset)
}

fn assign_of(revision: u64, names: &[&str], ruleset: &[u8]) -> Change {
    let revision = RevisionNumber(revision);
    let new = |name: &&str| NewAssignment { node: node(name), revision, ruleset: Arc::from(ruleset) };
    Change::Assign(names.iter().map(new).collect())
}

pub async fn what_a_node_would_go_back_to_is_kept<S: Store>(store: S) {
    for text in ["a", "b", "c"] {
        apply(&store, commit(text)).await;
    }
    // Number: revision, and whether it was confirmed.
    let steps = [(1, true), (2, true), (2, true), (3, false), (3, true), (3, true), (3, false), (3, false), (3, false)];
    for (number, (revision, is_confirmed)) in (1..).zip(steps) {
        apply(&store, assign_of(revision, &["node-1", "node-2"], b"1")).await;
        let state = if is_confirmed { State::Confirmed } else { State::Fell("late".to_owned()) };
        let report = Observed::Progress { node: node("node-1"), number: AssignmentNumber(number), state };
        assert_eq!(write(&store, seen(110, report)).await.expect("a report"), Written::Nothing);
    }
    let kept = store.read().await.expect("rows").assignments().await.expect("assignments");
    let of = |name: &str| kept.iter().filter(|kept| kept.node == node(name)).map(|kept| kept.number.0).collect::<Vec<_>>();
    assert_eq!(of("node-1"), [3, 6, 7, 8, 9], "the newest confirmed one, the one of a revision before, the newest three");
    assert_eq!(of("node-2"), [7, 8, 9]);
}

pub async fn assignments_have_rising_numbers_and_go_forward<S: Store>(store: S) {
    assert_eq!(refused(&store, assign(&["node-1"], b"1")).await, "there is no revision `1`");
    apply(&store, commit("a")).await;
    let numbers = |pairs: &[(&str, u64)]| Written::Assigned(pairs.iter().map(|(name, n)| (node(name), AssignmentNumber(*n))).collect());
    assert_eq!(apply(&store, assign(&["node-1", "node-2"], b"1")).await, numbers(&[("node-1", 1), ("node-2", 1)]));
    let report = |number: u64, state| Observed::Progress { node: node("node-1"), number: AssignmentNumber(number), state };
    for (second, number, state) in [
        (110, 1, State::Trial),
        (111, 1, State::Trial),
        (112, 1, State::Confirmed),
        (113, 1, State::Fell("late".to_owned())),
        (114, 1, State::Trial),
    ] {
        write(&store, seen(second, report(number, state))).await.expect("a report");
    }
    let first = store.read().await.expect("rows").assignment(&node("node-1"), AssignmentNumber(1)).await;
    let first = first.expect("rows").expect("an assignment");
    assert_eq!((&first.state, first.sent, first.tried, first.ended), (&State::Confirmed, at(100), Some(at(110)), Some(at(112))));
    assert_eq!(first.digest, Digest::of(b"1"));
    for number in 2..=6 {
        assert_eq!(apply(&store, assign(&["node-1"], &[number; 3])).await, numbers(&[("node-1", u64::from(number))]));
    }
    write(&store, seen(120, report(6, State::Refused("no ct timeout".to_owned())))).await.expect("a report");
    let mut rows = store.read().await.expect("rows");
    let kept = rows.assignments().await.expect("assignments");
    let kept: Vec<_> = kept.iter().map(|kept| (kept.node.as_str(), kept.number.0)).collect();
    assert_eq!(kept, [("node-1", 1), ("node-1", 4), ("node-1", 5), ("node-1", 6), ("node-2", 1)], "and the confirmed one");
    let ruleset = rows.ruleset(&node("node-1"), AssignmentNumber(6)).await.expect("rows").expect("bytes");
    assert_eq!(&*ruleset, [6; 3]);
    let sixth = rows.assignment(&node("node-1"), AssignmentNumber(6)).await.expect("rows").expect("an assignment");
    assert_eq!(sixth.state, State::Refused("no ct timeout".to_owned()));
    drop(rows);
    // A lie, or a late word: it does not take what others say with it.
    let parts = vec![seen(121, report(7, State::Trial)), seen(121, event("drift")), seen(121, report(2, State::Trial))];
    let written = store.write(parts).await.expect("observations");
    assert_eq!(written, [Written::Unknown, Written::Event(EventNumber(1)), Written::Unknown]);
}

pub async fn one_rollout_at_a_time<S: Store>(store: S) {
    let start = || {
        let waves = vec![[node("node-1")].into(), [node("node-2"), node("node-3")].into()];
        Change::StartRollout { revision: RevisionNumber(1), waves }
    };
    let step = |number: u64, state| Change::StepRollout { rollout: RolloutNumber(number), state, results: Vec::new() };
    assert_eq!(refused(&store, start()).await, "there is no revision `1`");
    apply(&store, commit("a")).await;
    let twice = vec![[node("node-1")].into(), [node("node-1")].into()];
    let twice = refused(&store, Change::StartRollout { revision: RevisionNumber(1), waves: twice }).await;
    assert_eq!(twice, "the node `node-1` is in two waves");
    assert_eq!(apply(&store, start()).await, Written::Rollout(RolloutNumber(1)));
    assert_eq!(refused(&store, start()).await, "the rollout 1 is not over");
    assert_eq!(refused(&store, step(1, rollout::State::Done)).await, "the rollout 1 is not in its last wave");
    apply(&store, step(1, rollout::State::Running { wave: 1 })).await;
    assert!(refused(&store, step(1, rollout::State::Running { wave: 0 })).await.contains("does not go back"));
    assert!(refused(&store, step(1, rollout::State::Running { wave: 2 })).await.contains("has no wave 2"));
    let outcome = rollout::Outcome { assignment: AssignmentNumber(1), result: Err("ssh is not open".to_owned()), at: at(101) };
    let (state, results) = (rollout::State::RollingBack { reason: "probes".to_owned() }, vec![[(node("node-1"), outcome)].into()]);
    apply(&store, Change::StepRollout { rollout: RolloutNumber(1), state: state.clone(), results: results.clone() }).await;
    assert!(refused(&store, step(1, rollout::State::Running { wave: 1 })).await.contains("goes back already"));
    let active = store.read().await.expect("rows").active_rollout().await.expect("rows").expect("a rollout");
    assert_eq!((active.state, active.results), (state, results));
    let stopped = rollout::State::Stopped { reason: "probes".to_owned(), rolled_back: true };
    apply(&store, step(1, stopped)).await;
    assert_eq!(refused(&store, step(1, rollout::State::Done)).await, "the rollout 1 is over");
    assert_eq!(apply(&store, start()).await, Written::Rollout(RolloutNumber(2)));
    let mut rows = store.read().await.expect("rows");
    let numbers: Vec<_> = rows.rollouts(None, 9).await.expect("rollouts").iter().map(|rollout| rollout.number.0).collect();
    assert_eq!(numbers, [2, 1]);
    assert_eq!(rows.active_rollout().await.expect("rows").map(|rollout| rollout.number), Some(RolloutNumber(2)));
}

pub async fn events_are_numbered_paged_and_bounded<S: Store>(store: S) {
    for number in 1..=3 {
        assert_eq!(write(&store, seen(number, event("drift"))).await.expect("an event"), Written::Event(EventNumber(number as u64)));
    }
    let page = store.read().await.expect("rows").events(EventNumber(1), 1).await.expect("a page");
    assert_eq!((page.events.len(), page.events[0].number.0, page.has_gap), (1, 2, false));
    assert_eq!((page.events[0].at, page.events[0].kind.as_str()), (at(2), "drift"));
    assert_eq!(page.events[0].body, json!({ "count": 1.5, "text": "ä" }));
    for second in 4..=8 {
        write(&store, seen(second, event("drift"))).await.expect("an event");
    }
    let mut rows = store.read().await.expect("rows");
    let page = rows.events(EventNumber(2), 100).await.expect("a page");
    assert_eq!(page.events.iter().map(|event| event.number.0).collect::<Vec<_>>(), [4, 5, 6, 7, 8]);
    assert!(page.has_gap, "the third is gone");
    assert!(!rows.events(EventNumber(3), 100).await.expect("a page").has_gap);
    let end = rows.events(EventNumber(8), 100).await.expect("a page");
    assert!(end.events.is_empty() && !end.has_gap);
    assert!(rows.events(EventNumber(9), 100).await.expect("a page").has_gap, "a number from another time");
}

pub async fn every_change_is_in_the_audit_log<S: Store>(store: S) {
    apply(&store, Change::Found(fleet())).await;
    apply(&store, Change::CreateToken(token(9))).await;
    let local = Actor::Local("ann".to_owned());
    write(&store, by(Actor::Enrolling, 100, enrol(9, 1))).await.expect("an agent");
    write(&store, by(local.clone(), 101, Change::Approve(agent_id(1)))).await.expect("a change");
    let set = Change::Set { node: node("node-1"), name: "api".parse().expect("a name"), value: Some(json!(443)) };
    write(&store, by(local.clone(), 102, set)).await.expect("a change");
    let unset = Change::Set { node: node("node-1"), name: "api".parse().expect("a name"), value: None };
    write(&store, by(local.clone(), 103, unset)).await.expect("a change");
    write(&store, seen(104, event("drift"))).await.expect("an event");
    let entries = store.read().await.expect("rows").audit(AuditNumber(0), 100).await.expect("entries");
    let short: Vec<_> = entries.iter().map(|entry| (entry.number.0, entry.change.as_str(), entry.kind.as_str())).collect();
    let expected = [
        (1, "found", "fleet"),
        (2, "create_token", "token"),
        (3, "enrol", "token"),
        (4, "enrol", "agent"),
        (5, "approve", "agent"),
        (6, "set", "setting"),
        (7, "set", "setting"),
    ];
    assert_eq!(short, expected, "what is only seen is not in it");
    assert_eq!((&entries[4].who, entries[4].at, &entries[4].key), (&local, at(101), &agent_id(1).to_string()));
    let standing = |value: &Option<serde_json::Value>| value.as_ref().expect("a row")["standing"].clone();
    assert_eq!((standing(&entries[4].before), standing(&entries[4].after)), (json!("pending"), json!("approved")));
    assert_eq!((&entries[5].before, &entries[6].after), (&None, &None));
    assert_eq!(entries[6].before, entries[5].after);
    let all = serde_json::to_string(&entries).expect("JSON");
    assert!(!all.contains(&secret(9).to_string()), "no digest of a secret is shown");
    let later = store.read().await.expect("rows").audit(AuditNumber(5), 1).await.expect("entries");
    assert_eq!(later, entries[5..6]);
}

pub async fn access_is_kept<S: Store>(store: S) {
    apply(&store, Change::CreateAccess(access(1))).await;
    apply(&store, Change::CreateAccess(access(2))).await;
    assert!(refused(&store, Change::CreateAccess(access(1))).await.contains("already"));
    for second in [200, 150] {
        write(&store, seen(second, Observed::AccessUsed(access(1).id))).await.expect("a use");
    }
    apply(&store, Change::RevokeAccess(access(2).id)).await;
    let mut rows = store.read().await.expect("rows");
    let used = rows.access_of(secret(1)).await.expect("rows").expect("access");
    assert_eq!(used, ringwall_controller::access::Access { last_used: Some(at(200)), ..access(1) });
    assert_eq!(rows.access(access(2).id).await.expect("rows").and_then(|access| access.revoked), Some(at(100)));
    assert_eq!(rows.accesses().await.expect("rows").len(), 2);
}

pub async fn what_is_seen_is_kept<S: Store>(store: S) {
    apply(&store, Change::CreateToken(token(1))).await;
    apply(&store, enrol(1, 1)).await;
    let facts = json!({ "kernel": "6.18", "tables": ["inet docker"] });
    write(&store, seen(110, Observed::Seen { agent: agent_id(1), facts: Some(facts.clone()) })).await.expect("a sight");
    write(&store, seen(120, Observed::Seen { agent: agent_id(1), facts: None })).await.expect("a sight");
    let sightings = store.read().await.expect("rows").sightings().await.expect("sightings");
    assert_eq!((sightings.len(), sightings[0].at, &sightings[0].facts), (1, at(120), &facts));
    let stranger = write(&store, seen(130, Observed::Seen { agent: agent_id(2), facts: None })).await;
    assert_eq!(stranger.expect("an observation"), Written::Unknown);
}

pub async fn a_snapshot_is_of_one_moment<S: Store>(store: S) {
    apply(&store, Change::CreateToken(token(1))).await;
    let mut before = store.read().await.expect("rows");
    assert!(before.agents().await.expect("agents").is_empty());
    apply(&store, enrol(1, 1)).await;
    assert!(before.agents().await.expect("agents").is_empty(), "the reader sees what was");
    assert_eq!(before.tokens().await.expect("tokens")[0].used, 0);
    drop(before);
    assert_eq!(store.read().await.expect("rows").agents().await.expect("agents").len(), 1);
}

pub async fn writers_at_once_lose_nothing<S: Store>(store: S) {
    const WRITERS: u8 = 8;
    const EACH: u64 = 25;
    apply(&store, commit("a")).await;
    let store = Arc::new(store);
    let write_all = |writer: u8| {
        let store = store.clone();
        async move {
            let mut numbers = Vec::new();
            for _ in 0..EACH {
                let Written::Assigned(assigned) = apply(&*store, assign(&["node-1"], &[writer])).await else { unreachable!() };
                let ruleset = store.read().await.expect("rows").ruleset(&node("node-1"), assigned[0].1).await.expect("rows");
                // Others may have gone on, so that it is no longer kept.
                assert!(ruleset.is_none_or(|ruleset| *ruleset == [writer]));
                numbers.push(assigned[0].1.0);
            }
            numbers
        }
    };
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write_all(writer))).collect();
    let mut all = BTreeSet::new();
    for writer in writers {
        let numbers = writer.await.expect("a writer");
        assert!(numbers.is_sorted());
        all.extend(numbers);
    }
    assert_eq!(all, (1..=u64::from(WRITERS) * EACH).collect(), "each number once");
}
