//! The agent's loop with real nftables, real TLS and a small controller in the same namespace.
//! They need root (CAP_NET_ADMIN) and nft; without them they fail.

#[path = "../../node/tests/namespace.rs"]
#[allow(dead_code, reason = "it is shared with the kernel's tests")]
pub mod namespace;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use namespace::{in_namespace, load, netfilter, nft};
use ringwall_agent::{Controller, Settings, Shell, edge, proof};
use ringwall_node::apply::Hands;
use ringwall_node::reconciler::{Action, Event, Kernel};
use ringwall_packet::AddressSet;
use ringwall_protocol::wire::fleet_server::{Fleet, FleetServer};
use ringwall_protocol::{
    Ack, Assignment, Confirm, DriftOutcome, Facts, Happened, OnDrift, OnTighten, Place, Reason, Refusal, Refused, Stage, ToAgent, ToController,
    Welcome, encode_ruleset, wire,
};
use ringwall_ruleset::nftables::Generation;
use ringwall_ruleset::{Floor, Forward, Ruleset};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Nothing but the floor: loopback among it.
pub fn ruleset() -> Ruleset {
    Ruleset {
        node: "vault-1".into(),
        audit: false,
        local: AddressSet::default(),
        protected: AddressSet::default(),
        floor: Floor { dhcp: true, neighbour_discovery: true, multicast_listener: true },
        input: vec![],
        output: vec![],
        forward: Forward::Containers { unmanaged: [].into(), uplinks: [].into() },
    }
}

pub fn assignment(number: u64) -> Assignment {
    let (ruleset, digest) = encode_ruleset(&ruleset());
    Assignment {
        place: Place { epoch: 1, number },
        revision: "r1".into(),
        digest,
        ruleset,
        window: 60,
        on_drift: OnDrift::Heal,
        on_tighten: OnTighten::Cut,
    }
}

/// What the controller of these tests sends on each session, and what it heard.
#[derive(Clone)]
pub struct Told {
    sends: Vec<wire::ToAgent>,
    /// With the number of the connection.
    pub heard: Arc<Mutex<Vec<(u32, ToController)>>>,
    confirmed: Arc<Mutex<Vec<(u32, Confirm)>>>,
    connection: u32,
}

#[tonic::async_trait]
impl Fleet for Told {
    type SessionStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<wire::ToAgent, Status>> + Send>>;

    async fn session(&self, request: Request<Streaming<wire::ToController>>) -> Result<Response<Self::SessionStream>, Status> {
        let (sender, messages): (Sender<Result<wire::ToAgent, Status>>, _) = channel(16);
        let (told, mut incoming) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let welcome = ToAgent::Welcome(Welcome { version: 1, epoch: 1, session: [7; 16], time: 1_800_000_000, heartbeat: 1 });
            let _ = sender.send(Ok(welcome.into())).await;
            for message in told.sends.clone() {
                let _ = sender.send(Ok(message)).await;
            }
            while let Some(Ok(message)) = incoming.next().await {
                let message = ToController::try_from(message).expect("a message that a controller takes");
                if let ToController::Heartbeat(number) = message {
                    let _ = sender.send(Ok(ToAgent::Heartbeat(number).into())).await;
                }
                told.heard.lock().unwrap().push((told.connection, message));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn confirm(&self, request: Request<wire::ConfirmRequest>) -> Result<Response<wire::ConfirmReply>, Status> {
        let confirm = Confirm::try_from(request.into_inner()).expect("a question that a controller takes");
        let place = confirm.place;
        self.confirmed.lock().unwrap().push((self.connection, confirm));
        Ok(Response::new(wire::ConfirmReply { place: Some(place.into()) }))
    }
}

/// A controller on loopback until the set is dropped, and the way to it.
pub async fn controller(told: Told) -> (JoinSet<()>, Controller) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["controller".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut server = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    server.alpn_protocols = vec![b"h2".to_vec()];
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let mut client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];

    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let count = AtomicU32::new(0);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let told = Told { connection: count.fetch_add(1, Ordering::Relaxed), ..told.clone() };
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(FleetServer::new(told));
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    let addresses = vec![("127.0.0.1".to_owned(), port)];
    (tasks, Controller { addresses, name: ServerName::try_from("controller").unwrap(), tls: Arc::new(client) })
}

pub fn told(sends: Vec<wire::ToAgent>) -> Told {
    Told { sends, heard: Arc::default(), confirmed: Arc::default(), connection: 0 }
}

pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringwall-agent-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An agent whose identity is there already.
pub fn start(folder: &Folder) -> Shell {
    let (identity, mut asked) = channel::<Action>(4);
    let settings = Settings {
        folder: folder.0.clone(),
        nft: nft(),
        floor: ruleset(),
        ways_in: vec![],
        proof,
        boot: [1; 16],
        facts: Facts { addresses: vec![], kernel: "6.12".into(), nft: "1.1.3".into(), system: "a test".into() },
    };
    let shell = Shell::start(settings, identity).expect("a state folder and a kernel");
    let sender = shell.sender();
    tokio::spawn(async move {
        while asked.recv().await.is_some() {
            let _ = sender.send(Event::Enrolled { valid: 86_400_000 }).await;
        }
    });
    shell
}

pub async fn until(shell: &mut Shell, mut done: impl FnMut(&Shell) -> bool) {
    let turns = async {
        while !done(shell) {
            // What the controller hears is no event of the agent's.
            let _ = tokio::time::timeout(Duration::from_millis(20), shell.turn()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), turns).await.expect("it comes to that");
}

pub fn kernel(folder: &Folder) -> Kernel {
    let (nft, mut netfilter) = (nft(), netfilter());
    Hands { nft: &nft, netfilter: &mut netfilter, folder: &folder.0, read: edge::ruleset, now: 0 }.kernel().expect("the kernel")
}

pub fn run(test: impl AsyncFnOnce() + Send) {
    in_namespace(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test());
    });
}

#[test]
fn an_assignment_is_confirmed_over_a_second_connection_and_outlives_the_controller() {
    run(async || {
        let folder = Folder::new("confirmed");
        let told = told(vec![ToAgent::Assignment(assignment(1)).into()]);
        let (server, way) = controller(told.clone()).await;
        let mut shell = start(&folder);
        shell.use_controller(way);
        let stage = |wanted| {
            let told = told.clone();
            move |_: &Shell| {
                let heard = told.heard.lock().unwrap();
                heard.iter().any(|(_, message)| matches!(message, ToController::Ack(Ack::Assignment { stage, .. }) if *stage == wanted))
            }
        };
        until(&mut shell, stage(Stage::Confirmed)).await;
        let heard = told.heard.lock().unwrap().clone();
        let (session, ToController::Hello(hello)) = &heard[0] else { panic!("{heard:?}") };
        assert_eq!((hello.taken, hello.confirmed, hello.generation), (None, None, 0));
        let confirmed = told.confirmed.lock().unwrap().clone();
        let [(connection, confirm)] = &confirmed[..] else { panic!("{confirmed:?}") };
        assert_ne!(connection, session, "the answer came over a connection that was opened after the load");
        assert_eq!((confirm.place, confirm.digest), (assignment(1).place, assignment(1).digest));
        let enforced = Kernel { current: Some(Generation(1)), trial: None, is_intact: true };
        assert_eq!(kernel(&folder), enforced);

        // The controller is gone; somebody flushes our table.
        drop(server);
        until(&mut shell, |shell| !shell.reconciler().is_connected()).await;
        load("delete table inet ringwall\n");
        until(&mut shell, |_| kernel(&folder) == enforced).await;

        // It comes back elsewhere, and is told what happened.
        let (_server, way) = controller(told.clone()).await;
        shell.use_controller(way);
        until(&mut shell, |_| {
            let heard = told.heard.lock().unwrap();
            heard.iter().any(|(_, message)| matches!(message, ToController::Event(event) if is_healed(&event.happened)))
        })
        .await;
        let heard = told.heard.lock().unwrap().clone();
        let hellos = heard.iter().filter_map(|(_, message)| if let ToController::Hello(hello) = message { Some(hello) } else { None });
        let last = hellos.last().unwrap();
        assert_eq!((last.confirmed, last.generation), (Some(assignment(1).place), 1));
        assert_eq!(told.confirmed.lock().unwrap().len(), 1, "what is confirmed is not tried again");
    });
}

#[test]
fn what_is_not_understood_is_refused_by_its_place() {
    run(async || {
        let folder = Folder::new("refused");
        let broken = wire::Assignment { digest: vec![0; 32].into(), ..assignment(1).into() };
        let unknown = assignment(2);
        let mut bytes = unknown.ruleset.to_vec();
        bytes.extend([0xa0, 0x01, 1]);
        let unknown = wire::Assignment { ruleset: bytes.into(), ..unknown.into() };
        let unknown = wire::Assignment { digest: sha256(&unknown.ruleset), ..unknown };
        let to_agent = |assignment| wire::ToAgent { message: Some(wire::to_agent::Message::Assignment(assignment)) };
        let told = told(vec![to_agent(broken), to_agent(unknown)]);
        let (_server, way) = controller(told.clone()).await;
        let mut shell = start(&folder);
        shell.use_controller(way);
        let refusals = || -> Vec<Refusal> {
            let heard = told.heard.lock().unwrap();
            heard.iter().filter_map(|(_, message)| if let ToController::Refusal(refusal) = message { Some(refusal.clone()) } else { None }).collect()
        };
        until(&mut shell, |_| refusals().len() == 2).await;
        for (number, refusal) in (1..).zip(refusals()) {
            assert_eq!((refusal.what, refusal.reason), (Refused::Assignment(Place { epoch: 1, number }), Reason::Malformed));
        }
        assert_eq!(kernel(&folder).current, None);
    });
}

/// With the name of the process, as the kernel told it.
fn is_healed(happened: &Happened) -> bool {
    matches!(happened, Happened::Drift { process: Some((name, _)), outcome: DriftOutcome::Healed } if name == "nft")
}

fn sha256(bytes: &[u8]) -> bytes::Bytes {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).to_vec().into()
}
