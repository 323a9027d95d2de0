//! The API over a real store and a real core, without a socket.
//!
//! In: requests as a client makes them. Out: one test for each promise. Never: a store or a core that only pretends.

mod bounds;
mod description;
mod events;
mod fleet;
mod policy;
mod scopes;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use ring::rand::SecureRandom as _;
use ringwall_controller::access::{Access, Scope};
use ringwall_controller::audit::{Actor, Audited};
use ringwall_controller::change::{Change, Enrol, Observed, Write, Written};
use ringwall_controller::event::NewEvent;
use ringwall_controller::fleet::Fleet;
use ringwall_controller::http::{State, router};
use ringwall_controller::id::{AccessId, AgentId, Digest, Epoch, FleetId};
use ringwall_controller::identity::{Authority, Invitation, Secret};
use ringwall_controller::server;
use ringwall_controller::store::{Keep, Sqlite, Store as _};
use ringwall_controller::time::Time;
use ringwall_controller::token::Claim;
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    Time::from_millisecond(i64::try_from(since.as_millis()).expect("a time"))
}

fn fill(bytes: &mut [u8]) {
    ring::rand::SystemRandom::new().fill(bytes).expect("random bytes");
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// A fleet with its API, in a folder that goes with it.
pub struct Fixture {
    pub store: Arc<Sqlite>,
    router: Router,
    /// Keys, each with one scope.
    pub reader: String,
    pub writer: String,
    pub admin: String,
    folder: PathBuf,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).expect("the folder goes");
    }
}

pub fn with_fixture<F: Future<Output = ()>>(test: impl FnOnce(Arc<Fixture>) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        test(Arc::new(Fixture::new(Keep::default()).await)).await;
    });
}

impl Fixture {
    pub async fn new(keep: Keep) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("ringwall-http-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).expect("a new folder");
        let store = Arc::new(Sqlite::open(&folder.join("store"), keep).await.expect("a store"));
        let authority = Arc::new(Authority::new(FleetId::new(random()), now()).expect("a CA"));
        let fleet = Fleet { id: authority.fleet(), epoch: Epoch(1), ca: authority.fingerprint(), created: now() };
        apply(&store, Change::Found(fleet)).await;
        let control = server::drive(store.clone(), now, Vec::new()).await.expect("a core");
        let controllers = vec!["ringwall.example.net:7443".to_owned()];
        let state = State { store: store.clone(), authority, controllers, control, clock: now, random: fill };
        let (reader, writer, admin) =
            (key(&store, "reader", [Scope::Read], 3600).await, key(&store, "writer", [Scope::Write], 3600).await, key(&store, "admin", [Scope::Admin], 3600).await);
        Self { store, router: router(state), reader, writer, admin, folder }
    }

    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.expect("an answer")
    }

    pub async fn ask(&self, key: &str, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {key}"));
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        read(self.answer(request.expect("a request")).await).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, value) = self.ask(&self.reader, "GET", path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {value}");
        value
    }

    /// What fails, with its code.
    pub async fn refused(&self, key: &str, method: &str, path: &str, body: Option<Value>) -> (String, String) {
        let (status, value) = self.ask(key, method, path, body).await;
        assert!(status.is_client_error(), "{method} {path}: {status} {value}");
        assert_eq!(value["status"], status.as_u16(), "{value}");
        (value["code"].as_str().expect("a code").to_owned(), value["detail"].as_str().expect("a detail").to_owned())
    }

    /// A node that enrolled, by a token of the API.
    pub async fn enrol(&self, node: &str, token: Value) -> AgentId {
        let (status, created) = self.ask(&self.admin, "POST", "/api/v1/tokens", Some(token)).await;
        assert_eq!(status, StatusCode::CREATED, "{created}");
        let word: Invitation = created["word"].as_str().expect("a word").parse().expect("a token");
        let (secret, key) = (Digest(word.secret.digest()), Digest(random()));
        let address = format!("192.0.2.{}", node.bytes().last().expect("a name"));
        let claim = Claim { node: node.parse().expect("a name"), addresses: [address.parse().expect("an address")].into(), clock: None };
        let agent = Enrol::agent_of(&secret, &key);
        let enrol = Enrol { secret, claim, agent, key, certificate_expires: now().after(Duration::from_secs(86_400)) };
        let change = Audited { who: Actor::Enrolling, at: now(), change: Change::Enrol(enrol) };
        self.store.write(vec![Write::Change(change)]).await.expect("an enrolment");
        agent
    }

    pub async fn happen(&self, kind: &str) {
        let event = NewEvent { kind: kind.to_owned(), node: None, body: json!({ "text": "two\nlines\r\n\r\ndata: 1" }) };
        let written = self.store.write(vec![Write::Observed { at: now(), what: Observed::Event(event) }]).await.expect("an event");
        assert!(matches!(written[..], [Written::Event(_)]));
    }
}

pub async fn read(answer: Response<Body>) -> (StatusCode, Value) {
    let status = answer.status();
    let kind = answer.headers().get("content-type").map(|kind| kind.to_str().expect("ASCII").to_owned()).unwrap_or_default();
    let body = to_bytes(answer.into_body(), 16 << 20).await.expect("a body");
    if !status.is_success() {
        assert_eq!(kind, "application/problem+json", "{status} {}", String::from_utf8_lossy(&body));
    }
    let value = if kind.contains("json") { serde_json::from_slice(&body).expect("JSON") } else { json!(String::from_utf8_lossy(&body)) };
    (status, value)
}

pub async fn apply(store: &Sqlite, change: Change) -> Written {
    let written = store.write(vec![Write::Change(Audited { who: Actor::Local("test".to_owned()), at: now(), change })]).await;
    written.expect("a change").into_iter().next().expect("one for one")
}

/// A key that is good for so many seconds; 0 is none.
pub async fn key(store: &Sqlite, name: &str, scopes: impl IntoIterator<Item = Scope>, seconds: u64) -> String {
    let secret = Secret::new(random());
    let access = Access {
        id: AccessId::new(random()),
        name: name.to_owned(),
        secret: Digest(secret.digest()),
        scopes: scopes.into_iter().collect(),
        created: now(),
        expires: now().after(Duration::from_secs(seconds)),
        last_used: None,
        revoked: None,
    };
    apply(store, Change::CreateAccess(access)).await;
    secret.to_access()
}
