//! Who may do what.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use ringwall_controller::access::Scope;
use ringwall_controller::http::description;
use serde_json::json;

use super::{key, read, with_fixture};

/// Every route, and the one scope that it asks for.
const ROUTES: &[(&str, &str, Option<Scope>)] = &[
    ("GET", "/healthz", None),
    ("GET", "/api/v1/openapi.json", None),
    ("GET", "/metrics", Some(Scope::Read)),
    ("GET", "/api/v1/fleet", Some(Scope::Read)),
    ("GET", "/api/v1/tokens", Some(Scope::Read)),
    ("POST", "/api/v1/tokens", Some(Scope::Admin)),
    ("GET", "/api/v1/tokens/{id}", Some(Scope::Read)),
    ("POST", "/api/v1/tokens/{id}/revoke", Some(Scope::Admin)),
    ("GET", "/api/v1/agents", Some(Scope::Read)),
    ("GET", "/api/v1/agents/{id}", Some(Scope::Read)),
    ("POST", "/api/v1/agents/{id}/approve", Some(Scope::Admin)),
    ("POST", "/api/v1/agents/{id}/revoke", Some(Scope::Admin)),
    ("PUT", "/api/v1/agents/{id}/place", Some(Scope::Admin)),
    ("GET", "/api/v1/nodes", Some(Scope::Read)),
    ("GET", "/api/v1/nodes/{node}", Some(Scope::Read)),
    ("GET", "/api/v1/nodes/{node}/settings", Some(Scope::Read)),
    ("PUT", "/api/v1/nodes/{node}/settings/{name}", Some(Scope::Write)),
    ("DELETE", "/api/v1/nodes/{node}/settings/{name}", Some(Scope::Write)),
    ("GET", "/api/v1/settings", Some(Scope::Read)),
    ("GET", "/api/v1/revisions", Some(Scope::Read)),
    ("POST", "/api/v1/revisions", Some(Scope::Write)),
    ("GET", "/api/v1/revisions/{number}", Some(Scope::Read)),
    ("GET", "/api/v1/revisions/{number}/content", Some(Scope::Read)),
    ("GET", "/api/v1/revisions/{number}/outdated", Some(Scope::Read)),
    ("GET", "/api/v1/rollouts", Some(Scope::Read)),
    ("POST", "/api/v1/rollouts", Some(Scope::Write)),
    ("GET", "/api/v1/rollouts/{number}", Some(Scope::Read)),
    ("POST", "/api/v1/rollouts/{number}/pause", Some(Scope::Write)),
    ("POST", "/api/v1/rollouts/{number}/resume", Some(Scope::Write)),
    ("POST", "/api/v1/rollouts/{number}/rollback", Some(Scope::Write)),
    ("GET", "/api/v1/paths", Some(Scope::Read)),
    ("POST", "/api/v1/paths/look", Some(Scope::Write)),
    ("GET", "/api/v1/events", Some(Scope::Read)),
    ("GET", "/api/v1/audit", Some(Scope::Read)),
    ("GET", "/api/v1/access-keys", Some(Scope::Read)),
    ("POST", "/api/v1/access-keys", Some(Scope::Admin)),
    ("POST", "/api/v1/access-keys/{id}/revoke", Some(Scope::Admin)),
];

#[test]
fn each_route_asks_for_its_scope_and_is_described() {
    with_fixture(|fixture| async move {
        let description = serde_json::to_value(description()).expect("JSON");
        let mut described = Vec::new();
        for (path, item) in description["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let scope = operation["security"][0]["key"][0].as_str().map(str::to_owned);
                described.push((method.to_uppercase(), path.clone(), scope));
            }
        }
        let mut table: Vec<_> = ROUTES.iter().map(|(method, path, scope)| {
            let scope = scope.map(|scope| serde_json::to_value(scope).expect("JSON").as_str().expect("a word").to_owned());
            ((*method).to_owned(), (*path).to_owned(), scope)
        }).collect();
        described.sort();
        table.sort();
        assert_eq!(described, table, "the description, and this table");

        let keys = [(Scope::Read, &fixture.reader), (Scope::Write, &fixture.writer), (Scope::Admin, &fixture.admin)];
        for (method, path, scope) in ROUTES {
            let path = path.replace("{id}", "abababab-abab-4bab-abab-abababababab").replace("{number}", "7").replace("{node}", "edge-1").replace("{name}", "x");
            let bare = || Request::builder().method(*method).uri(&path).body(Body::empty()).expect("a request");
            let (status, value) = read(fixture.answer(bare()).await).await;
            let Some(scope) = scope else {
                assert_eq!(status, StatusCode::OK, "{method} {path} {value}");
                continue;
            };
            assert_eq!((status, &value["code"]), (StatusCode::UNAUTHORIZED, &json!("no_key")), "{method} {path}");
            for (has, key) in keys {
                let (status, value) = fixture.ask(key, method, &path, None).await;
                if has == *scope {
                    assert!(status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN, "{method} {path}: {value}");
                    // It is there: what is missing is the thing that it names, or a body.
                    assert!(value["detail"] != json!("there is nothing at this address; /api/v1/openapi.json says what there is"), "{method} {path}");
                    assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
                    assert!(!status.is_server_error(), "{method} {path}: {value}");
                } else {
                    assert_eq!((status, &value["code"]), (StatusCode::FORBIDDEN, &json!("no_scope")), "{method} {path} {has:?}");
                }
            }
        }
    });
}

#[test]
fn a_key_that_is_not_accepted_learns_nothing() {
    with_fixture(|fixture| async move {
        let all = [Scope::Read, Scope::Write, Scope::Admin];
        let expired = key(&fixture.store, "expired", all, 0).await;
        let unknown = ringwall_controller::identity::Secret::new([7; 32]).to_access();
        let revoked = key(&fixture.store, "revoked", all, 3600).await;
        let keys = fixture.get("/api/v1/access-keys").await;
        let id = keys["keys"].as_array().expect("keys").iter().find(|key| key["name"] == "revoked").expect("a key")["id"].clone();
        let path = format!("/api/v1/access-keys/{}/revoke", id.as_str().expect("an id"));
        let (status, _) = fixture.ask(&fixture.admin, "POST", &path, None).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        let mut answers = Vec::new();
        for word in [expired.as_str(), &unknown, &revoked, "rwa1_x", "", "a b c", "rwt1_AAAA"] {
            answers.push(fixture.ask(word, "GET", "/api/v1/nodes", None).await);
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_eq!(answers[0].0, StatusCode::UNAUTHORIZED);
        assert_eq!(answers[0].1["detail"], "not accepted; the controller's log says why");
        for scheme in ["Basic", "bearer", "BEARER"] {
            let header = format!("{scheme} {}", fixture.reader);
            let request = Request::builder().uri("/api/v1/nodes").header("authorization", header).body(Body::empty()).expect("a request");
            let (status, _) = read(fixture.answer(request).await).await;
            assert_eq!(status.is_success(), scheme != "Basic", "{scheme}");
        }
    });
}

#[test]
fn keys_are_shown_once_and_their_use_is_known() {
    with_fixture(|fixture| async move {
        let asked = json!({ "name": "ci", "scopes": ["read", "write"], "for": "90d" });
        let (status, created) = fixture.ask(&fixture.admin, "POST", "/api/v1/access-keys", Some(asked)).await;
        assert_eq!(status, StatusCode::CREATED, "{created}");
        let word = created["word"].as_str().expect("a word");
        let (status, _) = fixture.ask(word, "GET", "/api/v1/fleet", None).await;
        assert_eq!(status, StatusCode::OK);
        let keys = fixture.get("/api/v1/access-keys").await;
        let ci = keys["keys"].as_array().expect("keys").iter().find(|key| key["name"] == "ci").expect("the key").clone();
        assert_eq!(ci["scopes"], json!(["read", "write"]));
        assert!(ci["last_used"].is_string() && ci["is_good"] == true, "{ci}");
        let everything = format!("{keys}{}", fixture.get("/api/v1/audit?after=0&limit=1000").await);
        assert!(!everything.contains(word) && !everything.contains("secret"), "no secret is shown again");
        for (body, part) in [
            (json!({ "name": "", "scopes": ["read"], "for": "1d" }), "1 to 200 characters"),
            (json!({ "name": "a\nb", "scopes": ["read"], "for": "1d" }), "one line"),
            (json!({ "name": "a", "scopes": [], "for": "1d" }), "at least one scope"),
            (json!({ "name": "a", "scopes": ["root"], "for": "1d" }), "root"),
            (json!({ "name": "a", "scopes": ["read"], "for": "4000d" }), "3650d"),
            (json!({ "name": "a", "scopes": ["read"], "for": "0s" }), "1s"),
            (json!({ "name": "a", "scopes": ["read"], "for": "1 day" }), "not a duration"),
            (json!({ "name": "a", "scopes": ["read"] }), "for"),
        ] {
            let (code, detail) = fixture.refused(&fixture.admin, "POST", "/api/v1/access-keys", Some(body)).await;
            assert!(code == "malformed" && detail.contains(part), "{detail}");
        }
    });
}
