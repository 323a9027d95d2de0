//! Revisions and rollouts.

use axum::http::StatusCode;
use ringwall_controller::change::Change;
use ringwall_controller::id::{RevisionNumber, RolloutNumber};
use ringwall_controller::rollout::State;
use serde_json::{Value, json};

use super::{Fixture, apply, with_fixture};

const POLICY: &str = "management: { from: admins, services: [ssh] }\ngroups:\n  admins: { addresses: [192.0.2.200] }\nrules: []\n";

async fn commit(fixture: &Fixture, text: &str) -> Value {
    let body = json!({ "files": { "policy.yaml": text }, "message": "first", "source": { "git": "abc123" } });
    let (status, revision) = fixture.ask(&fixture.writer, "POST", "/api/v1/revisions", Some(body)).await;
    assert_eq!(status, StatusCode::CREATED, "{revision}");
    revision
}

#[test]
fn a_revision_is_kept_as_it_came() {
    with_fixture(|fixture| async move {
        let revision = commit(&fixture, POLICY).await;
        assert!(revision["number"] == 1 && revision["author"] == "writer" && revision["source"] == json!({ "git": "abc123" }), "{revision}");
        assert_eq!(fixture.get("/api/v1/revisions/1").await, revision);
        assert_eq!(fixture.get("/api/v1/revisions/1/content").await, json!({ "files": { "policy.yaml": POLICY }, "values": {} }));
        for _ in 0..4 {
            commit(&fixture, POLICY).await;
        }
        let page = fixture.get("/api/v1/revisions?limit=2").await;
        assert!(page["revisions"][0]["number"] == 5 && page["next"] == 4, "{page}");
        let page = fixture.get("/api/v1/revisions?limit=2&before=2").await;
        assert!(page["revisions"][0]["number"] == 1 && page["next"].is_null(), "{page}");
        for (body, part) in [
            (json!({ "files": {} }), "at least one file"),
            (json!({ "files": { "../x.yaml": "" } }), "stands in no folder"),
            (json!({ "files": { ".x.yaml": "" } }), "stands in no folder"),
            (json!({ "files": { "x.yml": "" } }), "ends in .yaml"),
            (json!({ "files": { "x.yaml": "" }, "values": { "$A": "" } }), "without `$`"),
            (json!({ "files": { "x.yaml": "" }, "author": "root" }), "unknown field `author`"),
            (json!({ "files": { "x.yaml": "" }, "message": "a\u{1b}[2J" }), "one line"),
        ] {
            let (code, detail) = fixture.refused(&fixture.writer, "POST", "/api/v1/revisions", Some(body)).await;
            assert!(code == "malformed" && detail.contains(part), "{part}: {detail}");
        }
        let (code, detail) = fixture.refused(&fixture.reader, "GET", "/api/v1/revisions/9", None).await;
        assert_eq!((code.as_str(), detail.as_str()), ("missing", "there is no revision `9`"));
    });
}

/// Until the rollout is in this state.
async fn until(fixture: &Fixture, state: &str) -> Value {
    let mut rollout = Value::Null;
    let come = async {
        while rollout["state"] != state {
            rollout = fixture.get("/api/v1/rollouts/1").await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), come).await.unwrap_or_else(|_| panic!("the rollout does not come to be {state}"));
    rollout
}

#[test]
fn a_rollout_starts_pauses_goes_on_and_goes_back() {
    with_fixture(|fixture| async move {
        for node in ["edge-1", "edge-2", "edge-3"] {
            fixture.enrol(node, json!({ "for": "15m", "site": "hel", "prefixes": ["192.0.2.0/24"] })).await;
        }
        let refused = async |body: Value| fixture.refused(&fixture.writer, "POST", "/api/v1/rollouts", Some(body)).await;
        let (code, _) = refused(json!({ "revision": 1 })).await;
        assert_eq!(code, "missing");
        commit(&fixture, "rules:\n  - allow: nobody -> nowhere\n").await;
        let (code, detail) = refused(json!({ "revision": 1 })).await;
        assert!(code == "policy" && detail.contains("policy.yaml:2"), "{code}: {detail}");
        let (code, _) = fixture.refused(&fixture.reader, "GET", "/api/v1/revisions/1/outdated", None).await;
        assert_eq!(code, "policy");
        // However many mistakes there are, the answer has a bound.
        commit(&fixture, &format!("rules:\n{}", "  - allow: nobody -> nowhere\n".repeat(5_000))).await;
        let (code, detail) = fixture.refused(&fixture.reader, "GET", "/api/v1/revisions/2/outdated", None).await;
        assert!(code == "policy" && detail.ends_with("… and more") && detail.len() < 1_000_000, "{}", detail.len());
        commit(&fixture, POLICY).await;
        assert_eq!(fixture.get("/api/v1/revisions/3/outdated").await["nodes"], json!(["edge-1", "edge-2", "edge-3"]));
        for (body, part) in [
            (json!({ "revision": 3, "canary": ["edge-9"] }), "no node `edge-9`"),
            (json!({ "revision": 3, "percents": [0] }), "from 1 to 100"),
            (json!({ "revision": 3, "percents": [101] }), "from 1 to 100"),
            (json!({ "revision": 3, "waves": 2 }), "unknown field `waves`"),
        ] {
            let (_, detail) = refused(body).await;
            assert!(detail.contains(part), "{part}: {detail}");
        }
        let asked = json!({ "revision": 3, "canary": ["edge-2"], "percents": [1] });
        let (status, rollout) = fixture.ask(&fixture.writer, "POST", "/api/v1/rollouts", Some(asked)).await;
        assert_eq!(status, StatusCode::CREATED, "{rollout}");
        let waves: Vec<_> = rollout["waves"].as_array().expect("waves").iter().map(|wave| wave["nodes"].clone()).collect();
        assert_eq!(waves, [json!(["edge-2"]), json!(["edge-1"]), json!(["edge-3"])]);
        let (code, _) = refused(json!({ "revision": 3 })).await;
        assert_eq!(code, "rollout_active");
        let command = async |verb: &str, body: Option<Value>| fixture.ask(&fixture.writer, "POST", &format!("/api/v1/rollouts/1/{verb}"), body).await.0;
        assert_eq!(command("resume", None).await, StatusCode::CONFLICT);
        assert_eq!(command("pause", Some(json!({ "reason": "lunch" }))).await, StatusCode::ACCEPTED);
        let paused = until(&fixture, "paused").await;
        assert_eq!((&paused["reason"], &paused["wave"]), (&json!("lunch"), &json!(0)));
        assert_eq!(command("pause", Some(json!({ "reason": "lunch" }))).await, StatusCode::CONFLICT);
        assert_eq!(command("resume", None).await, StatusCode::ACCEPTED);
        until(&fixture, "running").await;
        assert_eq!(command("rollback", Some(json!({ "reason": "no" }))).await, StatusCode::ACCEPTED);
        let audit = fixture.get("/api/v1/audit?after=0&limit=1000").await;
        let steps = audit["entries"].as_array().expect("entries").iter().filter(|entry| entry["change"] == "step_rollout");
        assert!(steps.clone().count() >= 2 && steps.clone().any(|step| step["who"]["access"].is_string()), "{audit}");
    });
}

#[test]
fn r000_20_what_the_internet_would_reach_more_is_confirmed_by_word() {
    with_fixture(|fixture| async move {
        fixture.enrol("edge-1", json!({ "for": "15m", "site": "hel", "labels": { "role": "edge" }, "prefixes": ["192.0.2.0/24"] })).await;
        let policy = |services: &str| {
            format!("internal: [192.0.2.0/24]\ngroups:\n  edge: {{ labels: {{ role: edge }} }}\nrules:\n  - {{ allow: internet -> edge, services: [{services}] }}\n")
        };
        let start = async |number: &Value, accept: bool| {
            let body = json!({ "revision": number, "accept_exposure": accept });
            fixture.ask(&fixture.writer, "POST", "/api/v1/rollouts", Some(body)).await
        };
        commit(&fixture, &policy("https")).await;
        let waves = vec![["edge-1".parse().expect("a name")].into()];
        apply(&fixture.store, Change::StartRollout { revision: RevisionNumber(1), waves }).await;
        apply(&fixture.store, Change::StepRollout { rollout: RolloutNumber(1), state: State::Done, results: Vec::new() }).await;
        // What is rolled out reaches who comes later by itself.
        assert_eq!(start(&json!(1), false).await.1["code"], "nothing");
        for (services, ports) in [("https, ssh", "edge-1: 1 -> 2 ports"), ("any", "edge-1: 1 -> ")] {
            let number = commit(&fixture, &policy(services)).await["number"].clone();
            let (status, problem) = start(&number, false).await;
            let detail = problem["detail"].as_str().expect("a detail");
            assert!(status == StatusCode::CONFLICT && problem["code"] == "exposes" && detail.contains(ports), "{problem}");
        }
        // Another port is not one more.
        let other = commit(&fixture, &policy("ssh")).await["number"].clone();
        let (status, rollout) = start(&other, false).await;
        assert_eq!(status, StatusCode::CREATED, "{rollout}");
        apply(&fixture.store, Change::StepRollout { rollout: RolloutNumber(2), state: State::Done, results: Vec::new() }).await;
        assert_eq!(start(&json!(2), false).await.1["code"], "exposes");
        assert_ne!(start(&json!(2), true).await.1["code"], "exposes");
    });
}
