//! A fleet of real agents in a laboratory, for the tests to work with.
//!
//! The controller's ports are sockets of its own host; everything else of it is this process. Root, nft.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ringwall_controller::audit::{Actor, Audited};
use ringwall_controller::change::{Change, Write, Written};
use ringwall_controller::core::Waves;
use ringwall_controller::fleet::Fleet;
use ringwall_controller::id::{Digest, Epoch, FleetId, NodeName, RevisionNumber, TokenId};
use ringwall_controller::identity::{self, Authority, Invitation, Secret};
use ringwall_controller::revision::{Content, NewRevision, Source};
use ringwall_controller::rollout::State;
use ringwall_controller::server::{self, Agents, Control};
use ringwall_controller::store::{Keep, Read as _, Sqlite, Store as _};
use ringwall_controller::system::{fill, now, random};
use ringwall_controller::token::{Terms, Token};
use ringwall_lab::{Lab, Topology};

pub const AGENT: &str = env!("CARGO_BIN_EXE_ringwall-agent");
pub const CONTROLLER: &str = "192.0.2.1:7443";
pub fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A child that ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The controller while it runs.
pub struct Serving {
    pub control: Control<Sqlite>,
    task: tokio::task::JoinHandle<std::io::Error>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub struct Rig {
    pub lab: Lab,
    pub addresses: BTreeMap<&'static str, IpAddr>,
    pub store: Arc<Sqlite>,
    pub authority: Arc<Authority>,
    _folder: Folder,
}

impl Rig {
    /// Two nodes, web-1 and web-2, and a user.
    pub async fn new(name: &str) -> Self {
        Self::with(name, &[("web-1", "192.0.2.11"), ("web-2", "192.0.2.12"), ("user", "198.51.100.9")]).await
    }

    /// Hosts with their addresses, beside the controller's; those in 192.0.2.0/24 may become nodes.
    pub async fn with(name: &str, hosts: &[(&'static str, &str)]) -> Self {
        let hosts = [("controller", "192.0.2.1")].iter().chain(hosts);
        let addresses: BTreeMap<_, _> = hosts.map(|(host, at)| (*host, address(at))).collect();
        let nodes: Vec<_> = addresses.iter().map(|(host, at)| (*host, vec![*at])).collect();
        let lab = Lab::start(&Topology::star("router", [address("192.0.2.254")], nodes)).expect("a laboratory");
        let path = std::env::temp_dir().join(format!("ringwall-fleet-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        let store = Arc::new(Sqlite::open(&path.join("store.db"), Keep::default()).await.expect("a store"));
        let authority = Arc::new(identity::open(&path, None, FleetId::new(random()), now()).expect("a CA"));
        let rig = Self { lab, addresses, store, authority, _folder: Folder(path) };
        let fleet = Fleet { id: rig.authority.fleet(), epoch: Epoch(1), ca: rig.authority.fingerprint(), created: now() };
        rig.change(Change::Found(fleet)).await;
        rig
    }

    pub async fn change(&self, change: Change) -> Written {
        let part = Write::Change(Audited { who: Actor::Local("root".into()), at: now(), change });
        self.store.write(vec![part]).await.expect("it is kept").remove(0)
    }

    pub async fn controller(&self) -> Serving {
        let control = server::drive(self.store.clone(), now, vec![CONTROLLER.parse().expect("an address")]).await.expect("the core");
        let name = "controller".parse().expect("a name");
        let own = self.authority.own(&name, &["192.0.2.1".to_owned()], now(), random()).expect("a certificate");
        let acceptor = server::acceptor(&self.authority, &own).expect("TLS");
        let listener = self.lab.host("controller").expect("a host").run(|| TcpListener::bind(CONTROLLER)).expect("a host");
        let listener = listener.expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        let agents = Agents::new(self.store.clone(), self.authority.clone(), control.clone(), now, fill);
        let task = tokio::spawn(server::serve(listener, agents, move || acceptor.clone()));
        Serving { control, task }
    }

    pub async fn token(&self, uses: u32) -> String {
        self.token_of("web", uses).await
    }

    pub async fn token_of(&self, role: &str, uses: u32) -> String {
        let secret = Secret::new(random());
        let terms = Terms {
            uses: NonZeroU32::new(uses).expect("not 0"),
            expires: now().after(Duration::from_secs(600)),
            node: None,
            site: None,
            labels: [("role".parse().expect("a name"), role.to_owned())].into(),
            location: None,
            prefixes: vec!["192.0.2.0/24".parse().expect("a prefix")],
            needs_approval: false,
        };
        let digest = Digest(secret.digest());
        let token = Token { id: TokenId::new(random()), secret: digest, terms, created: now(), used: 0, revoked: None };
        self.change(Change::CreateToken(token)).await;
        Invitation::new(secret, self.authority.fingerprint().0, vec![CONTROLLER.into()]).expect("a word").to_string()
    }

    /// Runs in a thread of its own, since it waits for a server that is in this process.
    pub async fn enrol(&self, node: &str, token: &str) {
        let mut command = self.lab.host(node).expect("a host").command(AGENT);
        command.args(["enrol", token, "--node", node]).stdout(Stdio::null());
        let status = tokio::task::spawn_blocking(move || command.status()).await.expect("a thread").expect("the agent runs");
        assert!(status.success(), "{node}: {status}");
    }

    pub fn start(&self, node: &str) -> Running {
        let mut command = self.lab.host(node).expect("a host").command(AGENT);
        Running(command.arg("run").stderr(Stdio::null()).spawn().expect("the agent runs"))
    }

    pub async fn commit(&self, policy: &str) -> RevisionNumber {
        let content = Content { files: [("policy.yaml".to_owned(), policy.to_owned())].into(), ..Content::default() };
        let new = NewRevision { content, author: "a test".into(), message: "a change".into(), source: Source::Cli };
        match self.change(Change::Commit(new)).await {
            Written::Revision(number) => number,
            other => panic!("a revision, not {other:?}"),
        }
    }

    pub async fn until(&self, what: &str, found: impl AsyncFn(&Sqlite) -> Option<()>) {
        let looking = async {
            while found(&self.store).await.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), looking).await.is_err() {
            let mut read = self.store.read().await.expect("a snapshot");
            let (rollouts, assignments) = (read.rollouts(None, 2).await, read.assignments().await);
            panic!("not in time: {what}: {rollouts:#?} {assignments:#?}");
        }
    }

    pub async fn roll(&self, running: &Serving, revision: RevisionNumber) {
        running.control.start_rollout(Actor::Local("root".into()), revision, Waves::default()).await.expect("a rollout");
        self.until("the rollout is done", async |store| {
            let rollouts = store.read().await.ok()?.rollouts(None, 1).await.ok()?;
            assert!(!matches!(rollouts[0].state, State::Stopped { .. } | State::RollingBack { .. }), "{:#?}", rollouts[0]);
            (rollouts[0].revision == revision && rollouts[0].state == State::Done).then_some(())
        })
        .await;
    }

    pub async fn all_are_connected(&self, running: &Serving) {
        let all = ["web-1", "web-2"].map(|name| name.parse::<NodeName>().expect("a name")).into();
        self.until("all agents are connected", async |_| (running.control.connected().await.expect("an answer") == all).then_some(())).await;
    }

    /// Whether the user gets a connection to the node's port.
    pub async fn is_open(&self, node: &'static str, port: u16) -> bool {
        let to = SocketAddr::new(address(if node == "web-1" { "192.0.2.11" } else { "192.0.2.12" }), port);
        let listener = self.lab.host(node).expect("a host").run(|| TcpListener::bind(to)).expect("a host").expect("a port");
        let connected = self.lab.host("user").expect("a host").run(|| TcpStream::connect_timeout(&to, Duration::from_millis(300)).is_ok());
        drop(listener);
        connected.expect("a host")
    }

    pub async fn is_as_declared(&self, opened: &[u16]) {
        for node in ["web-1", "web-2"] {
            for port in [80, 81] {
                assert_eq!(self.is_open(node, port).await, opened.contains(&port), "{node}: {port}");
            }
        }
    }

    /// The newest rollout's state, once it is over.
    pub async fn over(&self) -> State {
        let mut state = None;
        let found = async {
            while state.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let rollouts = self.store.read().await.expect("a snapshot").rollouts(None, 1).await.expect("rows");
                state = rollouts.into_iter().map(|rollout| rollout.state).find(State::is_final);
            }
        };
        tokio::time::timeout(Duration::from_secs(60), found).await.expect("it is over in time");
        state.expect("it is over")
    }

    /// The number of the revision that a node's newest confirmed assignment is of.
    pub async fn enforces(&self, node: &str) -> Option<RevisionNumber> {
        let name: NodeName = node.parse().expect("a name");
        let newest = self.store.read().await.ok()?.assignments().await.ok()?.into_iter().rfind(|newest| newest.node == name)?;
        (newest.state == ringwall_controller::assignment::State::Confirmed).then_some(newest.revision)
    }

    pub fn nft(&self, node: &str, command: &[&str]) -> String {
        self.lab.host(node).expect("a host").output("nft", command, "").expect("nft runs")
    }
}
