//! What nobody should send.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use ringwall_api::{BODY_MAX, REVISION_MAX};
use serde_json::json;

use super::{Fixture, read, with_fixture};

#[test]
fn bodies_and_pages_have_bounds() {
    with_fixture(|fixture| async move {
        let large = json!({ "for": "15m", "location": "x".repeat(BODY_MAX) });
        let (code, _) = fixture.refused(&fixture.admin, "POST", "/api/v1/tokens", Some(large)).await;
        assert_eq!(code, "too_large");
        let of_size = |size: usize| json!({ "files": { "x.yaml": "x".repeat(size) } });
        let (status, _) = fixture.ask(&fixture.writer, "POST", "/api/v1/revisions", Some(of_size(REVISION_MAX - 100))).await;
        assert_eq!(status, StatusCode::CREATED);
        let (code, _) = fixture.refused(&fixture.writer, "POST", "/api/v1/revisions", Some(of_size(REVISION_MAX))).await;
        assert_eq!(code, "too_large");
        for path in ["events", "audit", "revisions", "rollouts"] {
            for query in ["limit=0", "limit=1001", "limit=-1", "limit=x", "after=x&before=x", "color=red", "limit=1&limit=2"] {
                let (code, _) = fixture.refused(&fixture.reader, "GET", &format!("/api/v1/{path}?{query}"), None).await;
                assert_eq!(code, "malformed", "{path}?{query}");
            }
        }
        for path in ["events?after=18446744073709551615", "audit?after=18446744073709551615", "revisions?before=18446744073709551615", "rollouts?before=0"] {
            fixture.get(&format!("/api/v1/{path}")).await;
        }
        for (method, path, code) in [
            ("GET", "/", "missing"), ("GET", "/api/v1/", "missing"), ("GET", "/api/v2/nodes", "missing"), ("PATCH", "/api/v1/nodes", "method"),
            ("DELETE", "/healthz", "method"), ("GET", "/api/v1/nodes/%2e%2e", "malformed"), ("GET", "/api/v1/nodes/%ff", "malformed"),
            ("GET", "/api/v1/agents/x", "malformed"), ("GET", "/api/v1/revisions/-1", "malformed"),
        ] {
            assert_eq!(fixture.refused(&fixture.reader, method, path, None).await.0, code, "{method} {path}");
        }
        let request = Request::post("/api/v1/tokens").header("authorization", format!("Bearer {}", fixture.admin)).body(Body::from("{}")).expect("a request");
        assert_eq!(read(fixture.answer(request).await).await.1["code"], "not_json");
    });
}

#[test]
fn who_never_ends_a_request_does_not_shut_others_out_for_ever() {
    with_fixture(|fixture| async move {
        let asks = |fixture: Arc<Fixture>| async move {
            // A body that never ends holds a place.
            let body = Body::from_stream(tokio_stream::pending::<Result<Vec<u8>, std::io::Error>>());
            let request = Request::post("/api/v1/tokens").header("content-type", "application/json");
            let request = request.header("authorization", format!("Bearer {}", fixture.admin)).body(body).expect("a request");
            fixture.answer(request).await
        };
        let mut slow = tokio::task::JoinSet::new();
        let mut refused = loop {
            slow.spawn(asks(fixture.clone()));
            assert!(slow.len() < 2_000, "there is a bound");
            let (status, answer) = fixture.ask("", "GET", "/healthz", None).await;
            if status != StatusCode::OK {
                break (status, answer);
            }
        };
        assert_eq!((refused.0, refused.1["code"].take()), (StatusCode::SERVICE_UNAVAILABLE, json!("busy")));
        slow.shutdown().await;
        assert_eq!(fixture.ask("", "GET", "/healthz", None).await.0, StatusCode::OK);
    });
}

#[test]
fn no_body_is_a_fault_of_ours() {
    with_fixture(|fixture| async move {
        let routes = [
            ("POST", "/api/v1/tokens"), ("POST", "/api/v1/revisions"), ("POST", "/api/v1/rollouts"), ("POST", "/api/v1/access-keys"),
            ("PUT", "/api/v1/agents/abababab-abab-4bab-abab-abababababab/place"), ("PUT", "/api/v1/nodes/edge-1/settings/x"),
            ("POST", "/api/v1/rollouts/1/pause"),
        ];
        let key = super::key(&fixture.store, "all", [ringwall_controller::access::Scope::Write, ringwall_controller::access::Scope::Admin], 3600).await;
        let word = prop_oneof![
            "[a-z]{0,8}", Just("for".to_owned()), Just("uses".to_owned()), Just("content".to_owned()), Just("files".to_owned()),
            Just("name".to_owned()), Just("scopes".to_owned()), Just("reason".to_owned()), Just("15m".to_owned()), Just("\u{0}".to_owned()),
        ];
        let leaf = prop_oneof![word.clone().prop_map(|word| json!(word)), any::<i64>().prop_map(|n| json!(n)), Just(json!(null)), any::<f64>().prop_map(|n| json!(n))];
        let value = leaf.prop_recursive(4, 16, 4, move |inner| prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|list| json!(list)),
            prop::collection::btree_map(word.clone(), inner, 0..4).prop_map(|map| json!(map)),
        ]);
        let bytes = prop_oneof![value.prop_map(|value| value.to_string().into_bytes()), prop::collection::vec(any::<u8>(), 0..200), Just(b"[".repeat(20_000))];
        let mut runner = TestRunner::default();
        for _ in 0..100 {
            let body = bytes.new_tree(&mut runner).expect("a body").current();
            for (method, path) in routes {
                let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
                let request = request.header("authorization", format!("Bearer {key}")).body(Body::from(body.clone())).expect("a request");
                let (status, answer) = read(fixture.answer(request).await).await;
                assert!(!status.is_server_error(), "{method} {path}: {answer} for {}", String::from_utf8_lossy(&body));
            }
        }
    });
}
