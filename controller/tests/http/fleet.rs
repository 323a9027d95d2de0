//! Tokens, agents, nodes and their settings.

use axum::http::StatusCode;
use ringwall_controller::identity::Invitation;
use serde_json::json;

use super::with_fixture;

#[test]
fn a_token_is_a_word_once() {
    with_fixture(|fixture| async move {
        let asked = json!({
            "uses": 3, "for": "15m", "site": "hel", "labels": { "role": "primary" }, "location": "rack 4",
            "prefixes": ["192.0.2.0/24", "2001:DB8:0::/48"], "needs_approval": true,
        });
        let (status, created) = fixture.ask(&fixture.admin, "POST", "/api/v1/tokens", Some(asked)).await;
        assert_eq!(status, StatusCode::CREATED, "{created}");
        let word = created["word"].as_str().expect("a word");
        let invitation: Invitation = word.parse().expect("a token");
        assert_eq!(invitation.controllers(), ["ringwall.example.net:7443"]);
        let fleet = fixture.get("/api/v1/fleet").await;
        assert_eq!(fleet["ca"], ringwall_controller::id::Digest(invitation.ca).to_string());
        let token = &created["token"];
        assert_eq!(token["prefixes"], json!(["192.0.2.0/24", "2001:db8::/48"]), "addresses as RFC 5952 writes them");
        assert!(token["is_good"] == true && token["used"] == 0 && token["revoked"].is_null(), "{token}");
        let id = token["id"].as_str().expect("an id");
        assert_eq!(fixture.get(&format!("/api/v1/tokens/{id}")).await, *token);
        let list = fixture.get("/api/v1/tokens").await;
        assert_eq!(list["tokens"], json!([token]));
        assert!(!list.to_string().contains(word));
        for _ in 0..2 {
            let (status, _) = fixture.ask(&fixture.admin, "POST", &format!("/api/v1/tokens/{id}/revoke"), None).await;
            assert_eq!(status, StatusCode::NO_CONTENT, "once revoked is revoked");
        }
        let revoked = fixture.get(&format!("/api/v1/tokens/{id}")).await;
        assert!(revoked["is_good"] == false && revoked["revoked"].is_string(), "{revoked}");
        let audit = fixture.get("/api/v1/audit").await;
        let of_token: Vec<_> = audit["entries"].as_array().expect("entries").iter().filter(|entry| entry["kind"] == "token").collect();
        assert_eq!(of_token.len(), 2);
        assert!(of_token.iter().all(|entry| entry["who"]["access"].is_string() && entry["key"] == id), "{of_token:?}");
        assert!(!audit.to_string().contains(word));
    });
}

#[test]
fn a_token_that_can_t_be_meant_is_refused() {
    with_fixture(|fixture| async move {
        for (body, part) in [
            (json!({ "for": "31d" }), "30d"),
            (json!({ "for": "0s" }), "1s"),
            (json!({ "for": 15 }), "string"),
            (json!({}), "for"),
            (json!({ "for": "15m", "use": 2 }), "unknown field `use`"),
            (json!({ "for": "15m", "uses": 0 }), "at least one use"),
            (json!({ "for": "15m", "uses": -1 }), "uses"),
            (json!({ "for": "15m", "uses": 2, "node": "edge-1" }), "one use"),
            (json!({ "for": "15m", "node": "../x" }), "not a node's name"),
            (json!({ "for": "15m", "site": "" }), "not a site's name"),
            (json!({ "for": "15m", "labels": { "a b": "x" } }), "not a label's name"),
            (json!({ "for": "15m", "labels": { "a": "x\ny" } }), "one line"),
            (json!({ "for": "15m", "prefixes": ["192.0.2.1/24"] }), "host bits: the prefix is `192.0.2.0/24`, the address alone `192.0.2.1/32`"),
            (json!({ "for": "15m", "prefixes": ["192.0.2.0"] }), "not a prefix"),
        ] {
            let (code, detail) = fixture.refused(&fixture.admin, "POST", "/api/v1/tokens", Some(body)).await;
            assert!(code == "malformed" && detail.contains(part), "{part}: {detail}");
        }
        assert_eq!(fixture.get("/api/v1/tokens").await, json!({ "tokens": [] }));
    });
}

#[test]
fn a_node_is_let_in_placed_and_put_out() {
    with_fixture(|fixture| async move {
        let token = json!({ "for": "15m", "site": "hel", "prefixes": ["192.0.2.0/24"], "needs_approval": true });
        let id = fixture.enrol("edge-1", token).await;
        let path = format!("/api/v1/agents/{id}");
        let agent = fixture.get(&path).await;
        assert!(agent["standing"] == "pending" && agent["addresses"] == json!(["192.0.2.49"]), "{agent}");
        assert_eq!(fixture.get("/api/v1/nodes").await["nodes"][0]["late"], json!(null), "who waits is not late");
        let (status, agent) = fixture.ask(&fixture.admin, "POST", &format!("{path}/approve"), None).await;
        assert_eq!((status, &agent["standing"]), (StatusCode::OK, &json!("approved")));
        let node = fixture.get("/api/v1/nodes/edge-1").await;
        assert_eq!(node["late"], "is not connected");
        assert_eq!(node["agent"], json!(id.to_string()));
        let metrics = fixture.get("/metrics").await;
        for line in [
            "ringwall_agents{state=\"disconnected\"} 1",
            "ringwall_applies_total{result=\"confirmed\"} 0",
            "ringwall_apply_duration_seconds_bucket{le=\"0.5\"} 0",
            "ringwall_apply_duration_seconds_count 0",
            "ringwall_paths{state=\"unknown\"} 0",
        ] {
            assert!(metrics.as_str().expect("text").contains(&format!("\n{line}\n")), "{line}: {metrics}");
        }

        let place = json!({ "site": "sto", "labels": { "role": "edge" }, "prefixes": [] });
        let (status, agent) = fixture.ask(&fixture.admin, "PUT", &format!("{path}/place"), Some(place)).await;
        assert_eq!((status, &agent["place"]["site"]), (StatusCode::OK, &json!("sto")));
        assert_eq!(agent["addresses"], json!([]), "no prefix, no address");
        assert_eq!(fixture.get("/api/v1/nodes?site=sto").await["nodes"].as_array().map(Vec::len), Some(1));
        assert_eq!(fixture.get("/api/v1/nodes?site=hel").await["nodes"], json!([]));
        assert_eq!(fixture.get("/api/v1/nodes?late=false").await["nodes"], json!([]));

        let (code, _) = fixture.refused(&fixture.admin, "POST", &format!("{path}/revoke"), Some(json!({ "reason": " " }))).await;
        assert_eq!(code, "malformed");
        let reason = json!({ "reason": "stolen" });
        let (status, agent) = fixture.ask(&fixture.admin, "POST", &format!("{path}/revoke"), Some(reason.clone())).await;
        assert!(status == StatusCode::OK && agent["standing"] == "revoked" && agent["reason"] == "stolen", "{agent}");
        let (code, detail) = fixture.refused(&fixture.admin, "POST", &format!("{path}/approve"), None).await;
        assert!(code == "state" && detail.contains("is revoked"), "{detail}");
        assert_eq!(fixture.get("/api/v1/nodes").await["nodes"], json!([]));
        let (code, _) = fixture.refused(&fixture.reader, "GET", "/api/v1/nodes/edge-1", None).await;
        assert_eq!(code, "missing");
    });
}

#[test]
fn settings_are_of_nodes_that_are_there() {
    with_fixture(|fixture| async move {
        let path = "/api/v1/nodes/edge-1/settings/hosts";
        let hosts = json!({ "services": ["https", "tcp/8443"], "from": ["users"] });
        let (code, _) = fixture.refused(&fixture.writer, "PUT", path, Some(json!({ "value": hosts }))).await;
        assert_eq!(code, "missing");
        fixture.enrol("edge-1", json!({ "for": "15m" })).await;
        let (status, setting) = fixture.ask(&fixture.writer, "PUT", path, Some(json!({ "value": hosts }))).await;
        assert_eq!(status, StatusCode::OK, "{setting}");
        assert_eq!(setting["value"], hosts);
        assert_eq!(fixture.get("/api/v1/settings").await["settings"], json!([setting]));
        assert_eq!(fixture.get("/api/v1/nodes/edge-1/settings").await["settings"], json!([setting]));
        assert_eq!(fixture.get("/api/v1/nodes/edge-2/settings").await["settings"], json!([]));
        let meaningless = [
            json!(null),
            json!([443]),
            json!({ "services": ["https"] }),
            json!({ "services": [], "from": ["users"] }),
            json!({ "services": ["https"], "from": ["users -> any"] }),
            json!({ "services": ["https"], "from": ["users"], "log": true }),
            json!({ "services": ["https\n"], "from": ["users"] }),
        ];
        for value in meaningless {
            let (code, _) = fixture.refused(&fixture.writer, "PUT", path, Some(json!({ "value": value }))).await;
            assert_eq!(code, "malformed", "{value}");
        }
        let unknown = "/api/v1/nodes/edge-1/settings/api_ports";
        let (code, detail) = fixture.refused(&fixture.writer, "PUT", unknown, Some(json!({ "value": hosts }))).await;
        assert_eq!((code.as_str(), detail.contains("hosts")), ("malformed", true), "{detail}");
        let (status, _) = fixture.ask(&fixture.writer, "DELETE", path, None).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        let (code, _) = fixture.refused(&fixture.writer, "DELETE", path, None).await;
        assert_eq!(code, "missing");
    });
}
