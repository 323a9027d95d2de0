//! All agents, in one process and on one thread: each a connection and a stream.
//!
//! In: their identities, the controller's port. Out: when all are connected, and when each change came to the first and the
//! last of them. Never: a kernel.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use ringwall_protocol::wire::fleet_client::FleetClient;
use ringwall_protocol::{Ack, Change, Facts, Hello, LISTS, List, ListRevision, ToAgent, ToController, wire};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc::channel;
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::fleet::{address, clients};
use super::{Result, monotonic};

#[derive(Default)]
pub struct Seen {
    pub agents: usize,
    connected: AtomicUsize,
    received: AtomicUsize,
    first: AtomicU64,
}

impl Seen {
    pub fn of(agents: usize) -> Arc<Self> {
        Arc::new(Self { agents, ..Self::default() })
    }

    pub fn connected(&self) {
        if self.connected.fetch_add(1, Ordering::Relaxed) + 1 == self.agents {
            println!("all {}", monotonic());
        }
    }

    fn gone(&self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn received(&self) {
        match self.received.fetch_add(1, Ordering::Relaxed) + 1 {
            1 => self.first.store(monotonic(), Ordering::Relaxed),
            count if count == self.agents => {
                self.received.store(0, Ordering::Relaxed);
                println!("round {} {}", self.first.load(Ordering::Relaxed), monotonic());
            }
            _ => {}
        }
    }
}

pub fn run(folder: &Path, port: u16) -> Result<()> {
    let clients = clients(folder)?;
    let seen = Seen::of(clients.len());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for (at, client) in clients.into_iter().enumerate() {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut has = None;
                loop {
                    // Who is not let in says so, and tries again.
                    if let Err(error) = session(at, client.clone(), port, &seen, &mut has).await {
                        eprintln!("agent {at}: {error}");
                    }
                    tokio::time::sleep(Duration::from_millis(50 + at as u64 % 100)).await;
                }
            });
        }
        std::future::pending::<Result<()>>().await
    })
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

pub async fn dial(client: Arc<ClientConfig>, port: u16) -> std::result::Result<tokio_rustls::client::TlsStream<TcpStream>, Failed> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    Ok(TlsConnector::from(client).connect(ServerName::try_from("localhost")?, stream).await?)
}

/// Until the stream ends.
async fn session(at: usize, client: Arc<ClientConfig>, port: u16, seen: &Seen, has: &mut Option<ListRevision>) -> std::result::Result<(), Failed> {
    let stream = dial(client, port).await?;
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let service = tower::service_fn(move |request| sender.clone().send_request(request));
    let mut fleet = FleetClient::with_origin(service, http_origin());
    let (say, messages) = channel::<wire::ToController>(8);
    say.send(ToController::Hello(hello(at, has.clone())).into()).await?;
    let mut incoming = fleet.session(ReceiverStream::new(messages)).await?.into_inner();
    let mut beats = tokio::time::interval(Duration::from_secs(10));
    let mut is_connected = false;
    loop {
        tokio::select! {
            _ = beats.tick() => say.send(ToController::Heartbeat(1).into()).await?,
            message = incoming.next() => {
                let Some(Ok(message)) = message else { break };
                match ToAgent::try_from(message)? {
                    ToAgent::Welcome(_) => {
                        is_connected = true;
                        seen.connected();
                    }
                    ToAgent::List(bytes) => {
                        let List { list, life, change } = List::decode(bytes)?;
                        let (Change::Snapshot { revision, .. } | Change::Delta { to: revision, .. }) = change;
                        seen.received();
                        let revision = ListRevision { list, life, revision };
                        *has = Some(revision.clone());
                        say.send(ToController::Ack(Ack::List(revision)).into()).await?;
                    }
                    _ => {}
                }
            }
        }
    }
    connection.abort();
    if is_connected {
        seen.gone();
    }
    Ok(())
}

fn http_origin() -> tonic::transport::Uri {
    tonic::transport::Uri::from_static("http://controller")
}

fn hello(at: usize, has: Option<ListRevision>) -> Hello {
    Hello {
        versions: ringwall_protocol::VERSIONS,
        features: vec![LISTS.into()],
        agent: "0.1.0".into(),
        boot: [0; 16],
        taken: None,
        confirmed: None,
        generation: 0,
        lists: has.into_iter().collect(),
        facts: Facts { addresses: vec![address(at).into()], kernel: "6.12.0".into(), nft: "1.1.3".into(), system: "Debian GNU/Linux 13".into() },
    }
}
