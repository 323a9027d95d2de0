//! Events, by the page and as they happen.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream};
use axum::http::{Request, Response, StatusCode};
use ringwall_controller::access::Scope;
use ringwall_controller::store::Keep;
use serde_json::{Value, json};
use tokio_stream::StreamExt as _;

use super::{Fixture, key, with_fixture};

#[test]
fn pages_follow_each_other() {
    with_fixture(|fixture| async move {
        assert_eq!(fixture.get("/api/v1/events").await, json!({ "events": [], "next": 0, "has_gap": false }));
        for number in 0..37 {
            fixture.happen(&format!("kind-{number}")).await;
        }
        let (mut after, mut numbers) = (0, Vec::new());
        loop {
            let page = fixture.get(&format!("/api/v1/events?after={after}&limit=10")).await;
            let events = page["events"].as_array().expect("events").clone();
            if events.is_empty() {
                break;
            }
            numbers.extend(events.iter().map(|event| event["number"].as_u64().expect("a number")));
            after = page["next"].as_u64().expect("a number");
        }
        assert_eq!(numbers, (1..=37).collect::<Vec<_>>());
        // Without a number it is the newest, whatever their number.
        for limit in [1, 2, 36, 37, 38, 1000] {
            let page = fixture.get(&format!("/api/v1/events?limit={limit}")).await;
            let first = page["events"][0]["number"].as_u64().expect("a number");
            assert_eq!((first, &page["next"]), (37 - limit.min(37) + 1, &json!(37)));
        }
        let entries = fixture.get("/api/v1/audit?limit=3").await;
        let all = fixture.get("/api/v1/audit?after=0&limit=1000").await;
        let all = all["entries"].as_array().expect("entries");
        assert_eq!(entries["entries"].as_array().expect("entries")[..], all[all.len() - 3..]);
    });
}

struct Stream {
    body: BodyDataStream,
    text: String,
}

/// A block of a stream: its fields by name, a comment by the empty name.
type Block = Vec<(String, String)>;

impl Stream {
    async fn open(fixture: &Fixture, key: &str, after: Option<u64>) -> Self {
        let answer = Self::ask(fixture, key, after).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { body: answer.into_body().into_data_stream(), text: String::new() }
    }

    async fn ask(fixture: &Fixture, key: &str, after: Option<u64>) -> Response<Body> {
        let request = Request::builder().uri("/api/v1/events").header("accept", "text/event-stream").header("authorization", format!("Bearer {key}"));
        let request = after.iter().fold(request, |request, after| request.header("last-event-id", after.to_string()));
        fixture.answer(request.body(Body::empty()).expect("a request")).await
    }

    /// `None`: it ended.
    async fn block(&mut self) -> Option<Block> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let fields = block.lines().map(|line| line.split_once(':').expect("a field"));
                let fields = fields.map(|(name, value)| (name.to_owned(), value.trim_start().to_owned())).collect();
                self.text = rest.to_owned();
                return Some(fields);
            }
            let part = self.body.next().await?.expect("a part of the body");
            self.text += std::str::from_utf8(&part).expect("UTF-8");
        }
    }

    async fn event(&mut self) -> (u64, Value) {
        let block = self.block().await.expect("an event");
        let [(id, number), (data, text)] = &block[..] else { panic!("{block:?}") };
        assert_eq!((id.as_str(), data.as_str()), ("id", "data"));
        (number.parse().expect("a number"), serde_json::from_str(text).expect("JSON"))
    }
}

#[test]
fn a_stream_goes_on_where_it_was_cut() {
    with_fixture(|fixture| async move {
        for number in 0..200 {
            fixture.happen(&format!("kind-{number}")).await;
        }
        let mut stream = Stream::open(&fixture, &fixture.reader, Some(0)).await;
        for expected in 1..=150 {
            let (number, event) = stream.event().await;
            assert_eq!((number, &event["number"]), (expected, &json!(expected)));
            assert_eq!(event["body"]["text"], "two\nlines\r\n\r\ndata: 1", "no event can pretend to be two");
        }
        drop(stream);
        let mut stream = Stream::open(&fixture, &fixture.reader, Some(150)).await;
        for expected in 151..=200 {
            assert_eq!(stream.event().await.0, expected);
        }
        // And what happens from now on.
        fixture.happen("late").await;
        assert_eq!(stream.event().await.1["kind"], "late");
        let mut new = Stream::open(&fixture, &fixture.reader, None).await;
        fixture.happen("later").await;
        assert_eq!(new.event().await.1["kind"], "later");
        let answer = Fixture::answer(
            &fixture,
            Request::builder().uri("/api/v1/events").header("accept", "text/event-stream").header("last-event-id", "x")
                .header("authorization", format!("Bearer {}", fixture.reader)).body(Body::empty()).expect("a request"),
        ).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    });
}

#[test]
fn a_stream_says_what_is_gone() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let fixture = Arc::new(Fixture::new(Keep { events: 5, ..Keep::default() }).await);
        for number in 0..12 {
            fixture.happen(&format!("kind-{number}")).await;
        }
        // Long ago, and of a time before a restore.
        for known in [2, 400] {
            let mut stream = Stream::open(&fixture, &fixture.reader, Some(known)).await;
            let gap = stream.block().await.expect("a gap");
            assert_eq!(gap[0], ("event".to_owned(), "gap".to_owned()));
            assert_eq!(serde_json::from_str::<Value>(&gap[1].1).expect("JSON"), json!({ "after": known, "first": 8 }));
            assert_eq!(stream.event().await.0, 8);
            let page = fixture.get(&format!("/api/v1/events?after={known}")).await;
            assert_eq!(page["has_gap"], true);
        }
    });
}

#[test]
fn a_stream_ends_with_its_key_and_streams_are_bounded() {
    with_fixture(|fixture| async move {
        let word = key(&fixture.store, "wall screen", [Scope::Read], 3600).await;
        let mut stream = Stream::open(&fixture, &word, None).await;
        let keys = fixture.get("/api/v1/access-keys").await;
        let id = keys["keys"].as_array().expect("keys").iter().find(|key| key["name"] == "wall screen").expect("a key")["id"].clone();
        fixture.ask(&fixture.admin, "POST", &format!("/api/v1/access-keys/{}/revoke", id.as_str().expect("an id")), None).await;
        assert_eq!(stream.block().await, None, "a revoked key sees nothing more");
        let mut streams = Vec::new();
        let refused = loop {
            let answer = Stream::ask(&fixture, &fixture.reader, None).await;
            if answer.status() != StatusCode::OK {
                break answer;
            }
            streams.push(answer);
            assert!(streams.len() < 1_000, "there is a bound");
        };
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key("retry-after"));
        drop(streams);
        while Stream::ask(&fixture, &fixture.reader, None).await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    });
}
