//! The controller as agents meet it: real TLS on loopback, the real store, a policy compiled and proved.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use ringwall_controller::audit::{Actor, Audited};
use ringwall_controller::change::{Change, Write, Written};
use ringwall_controller::core::Waves;
use ringwall_controller::fleet::Fleet;
use ringwall_controller::id::{AgentId, Epoch, FleetId, NodeName, RevisionNumber, TokenId};
use ringwall_controller::identity::{self, Authority, Secret};
use ringwall_controller::revision::{Content, NewRevision, Source};
use ringwall_controller::rollout::State;
use ringwall_controller::server::{self, Agents, Control, ControlError};
use ringwall_controller::store::{Keep, Read as _, Sqlite, Store as _};
use ringwall_controller::system::{fill, now, random};
use ringwall_controller::token::{Terms, Token};
use ringwall_protocol::wire::enrolment_client::EnrolmentClient;
use ringwall_protocol::wire::fleet_client::FleetClient;
use ringwall_protocol::{Ack, Confirm, Enrol, Enrolled, Facts, Hello, Place, Reply, Stage, ToAgent, ToController, wire};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status, Streaming};

const POLICY: &str = "\
groups:
  web: { labels: { role: web } }
rules:
  - { allow: any -> web, services: [https] }
";

struct Rig {
    folder: PathBuf,
    store: Arc<Sqlite>,
    authority: Arc<Authority>,
    control: Control<Sqlite>,
    port: u16,
    server: tokio::task::JoinHandle<std::io::Error>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.server.abort();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What an agent has once it is enrolled.
struct Agent {
    key: rcgen::KeyPair,
    chain: Vec<CertificateDer<'static>>,
}

/// A stream that is open.
struct Session {
    say: mpsc::Sender<wire::ToController>,
    hear: Streaming<wire::ToAgent>,
}

impl Session {
    async fn say(&self, message: ToController) {
        self.say.send(message.into()).await.expect("the stream is open");
    }

    /// The next message that is no heartbeat.
    async fn hear(&mut self) -> Option<ToAgent> {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(20), self.hear.next()).await.expect("something is said")?;
            match ToAgent::try_from(message.expect("the stream goes on")).expect("what an agent takes") {
                ToAgent::Heartbeat(_) => {}
                message => return Some(message),
            }
        }
    }

    async fn assignment(&mut self) -> ringwall_protocol::Assignment {
        match self.hear().await {
            Some(ToAgent::Assignment(assignment)) => assignment,
            other => panic!("an assignment, not {other:?}"),
        }
    }

    async fn progress(&self, place: Place, stage: Stage) {
        self.say(ToController::Ack(Ack::Assignment { place, stage, generation: 1 })).await;
    }
}

fn hello(taken: Option<Place>) -> Hello {
    Hello {
        versions: ringwall_protocol::VERSIONS,
        features: Vec::new(),
        agent: "0.1.0".into(),
        boot: [0; 16],
        taken,
        confirmed: taken,
        generation: 0,
        lists: Vec::new(),
        facts: facts("web-1"),
    }
}

fn facts(node: &str) -> Facts {
    let last = node.bytes().last().expect("a name");
    Facts { addresses: vec![std::net::Ipv4Addr::new(192, 0, 2, last).into()], ..Facts::default() }
}

impl Rig {
    async fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ringwall-server-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let store = Arc::new(Sqlite::open(&folder.join("store.db"), Keep::default()).await.expect("a store"));
        let authority = Arc::new(identity::open(&folder, None, FleetId::new(random()), now()).expect("a CA"));
        let fleet = Fleet { id: authority.fleet(), epoch: Epoch(1), ca: authority.fingerprint(), created: now() };
        let rig_change = Write::Change(Audited { who: Actor::Local("root".into()), at: now(), change: Change::Found(fleet) });
        store.write(vec![rig_change]).await.expect("a fleet");
        let control = server::drive(store.clone(), now, vec!["192.0.2.250:7443".parse().expect("an address")]).await.expect("the core");
        let own = authority.own(&"controller".parse().expect("a name"), &["localhost".to_owned()], now(), random()).expect("a certificate");
        let acceptor = server::acceptor(&authority, &own).expect("TLS");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let agents = Agents::new(store.clone(), authority.clone(), control.clone(), now, fill);
        let server = tokio::spawn(server::serve(listener, agents, move || acceptor.clone()));
        Self { folder, store, authority, control, port, server }
    }

    async fn change(&self, change: Change) -> Written {
        let part = Write::Change(Audited { who: Actor::Local("root".into()), at: now(), change });
        self.store.write(vec![part]).await.expect("it is kept").remove(0)
    }

    async fn token(&self, uses: u32, needs_approval: bool) -> Secret {
        let secret = Secret::new(random());
        let terms = Terms {
            uses: NonZeroU32::new(uses).expect("not 0"),
            expires: now().after(Duration::from_secs(600)),
            node: None,
            site: None,
            labels: [("role".parse().expect("a name"), "web".to_owned())].into(),
            location: None,
            prefixes: vec!["192.0.2.0/24".parse().expect("a prefix")],
            needs_approval,
        };
        let token = Token {
            id: TokenId::new(random()),
            secret: ringwall_controller::id::Digest(secret.digest()),
            terms,
            created: now(),
            used: 0,
            revoked: None,
        };
        self.change(Change::CreateToken(token)).await;
        secret
    }

    /// A new connection, with the agent's certificate or with none.
    async fn dial(&self, agent: Option<&Agent>) -> Channel {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.authority.certificate().to_vec())).expect("the CA");
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("TLS").with_root_certificates(roots);
        let mut config = match agent {
            None => config.with_no_client_auth(),
            Some(agent) => {
                let key = PrivateKeyDer::try_from(agent.key.serialize_der()).expect("a key");
                config.with_client_auth_cert(agent.chain.clone(), key).expect("a certificate")
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
        let mut stream = Some(stream);
        let connector = tower::service_fn(move |_: Uri| {
            let stream = stream.take().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected));
            std::future::ready(stream.map(TokioIo::new))
        });
        Endpoint::from_static("http://controller").connect_with_connector(connector).await.expect("HTTP/2")
    }

    async fn enrol(&self, secret: &Secret, node: &str, key: rcgen::KeyPair) -> Result<Agent, (Status, rcgen::KeyPair)> {
        let csr = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
        let request = Enrol {
            versions: ringwall_protocol::VERSIONS,
            token: *secret.bytes(),
            csr: csr.der().to_vec().into(),
            node: node.to_owned(),
            // Each node has an address of its own: the last digit of its name tells it.
            facts: facts(node),
        };
        let reply = EnrolmentClient::new(self.dial(None).await).enrol(wire::EnrolRequest::from(request)).await;
        let reply = match reply {
            Ok(reply) => Reply::try_from(reply.into_inner()).expect("an answer"),
            Err(status) => return Err((status, key)),
        };
        match reply.outcome {
            Enrolled::Identity { certificates, .. } => {
                let chain = certificates.into_iter().take(1).map(|der| CertificateDer::from(der.to_vec())).collect();
                Ok(Agent { key, chain })
            }
            Enrolled::Pending { .. } => Err((Status::ok("pending"), key)),
        }
    }

    async fn member(&self, node: &str) -> Agent {
        let secret = self.token(1, false).await;
        let key = rcgen::KeyPair::generate().expect("a key");
        self.enrol(&secret, node, key).await.unwrap_or_else(|(status, _)| panic!("{node} is not let in: {status}"))
    }

    async fn open(&self, agent: &Agent, hello: Hello) -> Result<Session, Status> {
        let (say, messages) = mpsc::channel(16);
        say.send(ToController::Hello(hello).into()).await.expect("room");
        let mut client = FleetClient::new(self.dial(Some(agent)).await);
        let hear = client.session(ReceiverStream::new(messages)).await?.into_inner();
        Ok(Session { say, hear })
    }

    async fn session(&self, agent: &Agent, taken: Option<Place>) -> Session {
        let mut session = self.open(agent, hello(taken)).await.expect("a session");
        assert!(matches!(session.hear().await, Some(ToAgent::Welcome(_))));
        session
    }

    async fn confirm(&self, agent: &Agent, assignment: &ringwall_protocol::Assignment) -> Result<(), Status> {
        let confirm = Confirm { session: None, place: assignment.place, digest: assignment.digest };
        FleetClient::new(self.dial(Some(agent)).await).confirm(wire::ConfirmRequest::from(confirm)).await.map(|_| ())
    }

    async fn commit(&self, policy: &str) -> RevisionNumber {
        let files: BTreeMap<String, String> = [("policy.yaml".to_owned(), policy.to_owned())].into();
        let content = Content { files, ..Content::default() };
        let new = NewRevision { content, author: "a test".into(), message: "a change".into(), source: Source::Cli };
        match self.change(Change::Commit(new)).await {
            Written::Revision(number) => number,
            other => panic!("a revision, not {other:?}"),
        }
    }

    /// Waits for something that the store says.
    async fn until<T>(&self, what: impl AsyncFn(&Sqlite) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = what(&self.store).await {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found).await.expect("the store says so in time")
    }

    async fn agent_of(&self, node: &str) -> AgentId {
        let name: NodeName = node.parse().expect("a name");
        self.store.read().await.expect("a snapshot").agent_of(&name).await.expect("an answer").expect("an agent").id
    }
}

fn by_hand() -> Actor {
    Actor::Local("root".into())
}

#[tokio::test]
async fn a_revision_reaches_a_node_and_is_confirmed_over_a_connection_of_its_own() {
    let rig = Rig::new("rollout").await;
    let web = rig.member("web-1").await;
    let mut session = rig.session(&web, None).await;
    let revision = rig.commit(POLICY).await;
    rig.control.start_rollout(by_hand(), revision, Waves::default()).await.expect("a rollout");
    let first = session.assignment().await;
    let ruleset = ringwall_protocol::decode_ruleset(&first.ruleset).expect("a ruleset");
    assert_eq!(ruleset.node, "web-1");
    assert_eq!(ruleset.input.len(), 1, "{ruleset:#?}");
    // It may reach its controller, or it could confirm nothing.
    assert!(ruleset.output.iter().any(|entry| entry.id == "controller"), "{ruleset:#?}");
    session.progress(first.place, Stage::Trial).await;
    // Another ruleset than the one that was assigned is not confirmed.
    let other = ringwall_protocol::Assignment { digest: [7; 32], ..first.clone() };
    assert_eq!(rig.confirm(&web, &other).await.expect_err("it is not").code(), Code::FailedPrecondition);
    rig.confirm(&web, &first).await.expect("it is confirmed");
    session.progress(first.place, Stage::Confirmed).await;
    rig.until(async |store| {
        let rollouts = store.read().await.ok()?.rollouts(None, 1).await.ok()?;
        (rollouts[0].state == State::Done).then_some(())
    })
    .await;
    assert!(matches!(rig.control.start_rollout(by_hand(), revision, Waves::default()).await, Err(ControlError::Nothing)));
    // Who comes back has it already; who comes later gets it at once.
    drop(session);
    let _session = rig.session(&web, Some(first.place)).await;
    let second = rig.member("web-2").await;
    let mut late = rig.open(&second, Hello { facts: facts("web-2"), ..hello(None) }).await.expect("a session");
    assert!(matches!(late.hear().await, Some(ToAgent::Welcome(_))));
    assert_eq!(late.assignment().await.place.number, 1);
    // A policy that is wrong reaches nobody, and all that is wrong is said.
    let wrong = rig.commit("rules:\n  - { allow: nobody -> web, services: [htps] }\n").await;
    let error = rig.control.start_rollout(by_hand(), wrong, Waves::default()).await.expect_err("it is wrong").to_string();
    assert!(error.contains("nobody") && error.contains("htps"), "{error}");
}

#[tokio::test]
async fn who_is_not_known_learns_nothing() {
    let rig = Rig::new("strangers").await;
    let web = rig.member("web-1").await;
    // No certificate, and one of another CA.
    let confirm = Confirm { session: None, place: Place { epoch: 1, number: 1 }, digest: [0; 32] };
    let refused = FleetClient::new(rig.dial(None).await).confirm(wire::ConfirmRequest::from(confirm)).await.expect_err("it is refused");
    assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, ringwall_controller::token::NOT_ACCEPTED));
    // A token is used once, and no reason is given; the operator has it.
    let secret = rig.token(1, false).await;
    let key = rcgen::KeyPair::generate().expect("a key");
    assert!(rig.enrol(&secret, "web-2", key).await.is_ok());
    let key = rcgen::KeyPair::generate().expect("a key");
    let Err((refused, key)) = rig.enrol(&secret, "web-3", key).await else { panic!("a token was used twice") };
    assert_eq!(refused.code(), Code::PermissionDenied);
    let Err((unknown, _)) = rig.enrol(&Secret::new([9; 32]), "web-3", key).await else { panic!("a token that nobody made") };
    assert_eq!(refused.message(), unknown.message());
    rig.until(async |store| {
        let events = store.read().await.ok()?.events(Default::default(), 10).await.ok()?.events;
        (events.iter().filter(|event| event.kind == "refused").count() == 2).then_some(())
    })
    .await;
    // Revoked: its stream ends with the word, and no other begins.
    let mut session = rig.session(&web, None).await;
    let id = rig.agent_of("web-1").await;
    rig.change(Change::Revoke { agent: id, reason: "stolen".into() }).await;
    rig.control.agent_changed(id).await.expect("the core is told");
    assert!(matches!(session.hear().await, Some(ToAgent::Order(_, ringwall_protocol::Order::Revoked(reason))) if reason == "stolen"));
    assert!(session.hear().await.is_none());
    assert_eq!(rig.open(&web, hello(None)).await.err().map(|status| status.code()), Some(Code::PermissionDenied));
}

#[tokio::test]
async fn who_waits_for_approval_gets_nothing_before() {
    let rig = Rig::new("approval").await;
    let secret = rig.token(1, true).await;
    let key = rcgen::KeyPair::generate().expect("a key");
    let Err((status, key)) = rig.enrol(&secret, "web-1", key).await else { panic!("it is let in at once") };
    assert_eq!(status.code(), Code::Ok);
    let id = rig.agent_of("web-1").await;
    rig.change(Change::Approve(id)).await;
    rig.control.agent_changed(id).await.expect("the core is told");
    let web = rig.enrol(&secret, "web-1", key).await.unwrap_or_else(|(status, _)| panic!("it is approved: {status}"));
    rig.session(&web, None).await;
}

#[tokio::test]
async fn the_newer_stream_of_a_node_is_the_one() {
    let rig = Rig::new("twice").await;
    let web = rig.member("web-1").await;
    let mut first = rig.session(&web, None).await;
    let _second = rig.session(&web, None).await;
    assert!(first.hear().await.is_none(), "the older one ends");
    assert_eq!(rig.control.connected().await.expect("an answer"), BTreeSet::from(["web-1".parse().expect("a name")]));
}

#[tokio::test]
async fn what_is_no_message_harms_nobody() {
    let rig = Rig::new("garbage").await;
    let web = rig.member("web-1").await;
    // Bytes that are no TLS, and a connection of which nothing comes.
    let mut stream = TcpStream::connect(("127.0.0.1", rig.port)).await.expect("a connection");
    stream.write_all(&[0x41; 4096]).await.expect("bytes go out");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    let _silent = TcpStream::connect(("127.0.0.1", rig.port)).await.expect("a connection");
    // A first message that is no Hello, one of the wrong version, and one that is too long.
    let (say, messages) = mpsc::channel(1);
    say.send(ToController::Heartbeat(1).into()).await.expect("room");
    let status = FleetClient::new(rig.dial(Some(&web)).await).session(ReceiverStream::new(messages)).await.expect_err("it is no Hello");
    assert_eq!(status.code(), Code::FailedPrecondition);
    let future = Hello { versions: ringwall_protocol::Versions { oldest: 900, newest: 901 }, ..hello(None) };
    let status = rig.open(&web, future).await.err().expect("no version is common");
    assert!(status.code() == Code::FailedPrecondition && status.message().contains("900 to 901"), "{status}");
    let huge = Hello { features: vec!["f".repeat(1 << 20); 16], ..hello(None) };
    assert!(rig.open(&web, huge).await.is_err());
    // The others are served as before.
    rig.session(&web, None).await;
}

/// What an agent says of itself counts only as far as an operator allowed it; who says more is told of.
#[tokio::test]
async fn an_agent_that_claims_another_s_address_or_a_later_place_changes_nothing() {
    let rig = Rig::new("claims").await;
    let (web, other) = (rig.member("web-1").await, rig.member("web-2").await);
    let told = async |kind: &str| {
        rig.until(async |store| {
            let events = store.read().await.ok()?.events(Default::default(), 100).await.ok()?.events;
            events.into_iter().find(|event| event.kind == kind)
        })
        .await
    };
    let agents = async || rig.store.read().await.expect("a snapshot").agents().await.expect("rows");
    let before = agents().await;
    let mut claim = hello(None);
    claim.facts.addresses.extend(facts("web-2").addresses);
    let _session = rig.open(&web, claim).await.expect("a session");
    let event = told("report_refused").await;
    assert!(event.body["why"].as_str().is_some_and(|why| why.contains("192.0.2.50") && why.contains("web-2")), "{}", event.body);
    assert_eq!(event.node.as_ref().map(NodeName::as_str), Some("web-1"));
    assert_eq!(agents().await, before);

    // An address that no operator gave it is kept as what it says, and is not the node's.
    let mut claim = hello(None);
    claim.facts.addresses.push("203.0.113.7".parse().expect("an address"));
    let _session = rig.open(&web, claim).await.expect("a session");
    let reported = rig.until(async |store| {
        let agents = store.read().await.ok()?.agents().await.ok()?;
        agents.into_iter().find(|agent| agent.reported.len() == 2)
    });
    assert_eq!(reported.await.addresses(), facts("web-1").addresses.into_iter().collect());

    let mut ahead = rig.open(&other, Hello { facts: facts("web-2"), ..hello(Some(Place { epoch: 1, number: 99 })) }).await.expect("a session");
    assert!(matches!(ahead.hear().await, Some(ToAgent::Welcome(_))));
    let event = told("ahead").await;
    assert_eq!((event.node.as_ref().map(NodeName::as_str), &event.body["taken"]), (Some("web-2"), &serde_json::json!([1, 99])));
}
