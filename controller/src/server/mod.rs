//! The controller as a server: agents on one port, operators on another, both over TLS.
//!
//! In: connections. Out: what the core says to do, done: messages, transactions, answers. Never: a word to who is not
//! known, beyond the way to become known; more than a bounded queue for one agent.

mod agents;
mod driver;
mod stream;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use agents::Agents;
pub use driver::{Control, ControlError, drive, load};
pub use tls::{TlsError, acceptor, api_acceptor};

/// For TCP's first byte to TLS's last.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at a time: a fleet that comes back all at once waits its turn.
const HANDSHAKES_MAX: usize = 64;
/// Connections at a time, beyond any fleet that one controller has.
const CONNECTIONS_MAX: usize = 20_000;

/// Takes agents' connections until it is dropped. `acceptor` is asked for each, since the certificate changes.
pub async fn serve(listener: TcpListener, agents: Agents, acceptor: impl Fn() -> TlsAcceptor) -> io::Error {
    accept(listener, acceptor, move |stream, peer| connection(stream, peer, agents.clone())).await
}

/// The same for the public API.
pub async fn serve_api(listener: TcpListener, router: axum::Router, acceptor: impl Fn() -> TlsAcceptor) -> io::Error {
    accept(listener, acceptor, move |stream, peer| api_connection(stream, peer, router.clone())).await
}

async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    acceptor: impl Fn() -> TlsAcceptor,
    connected: impl Fn(TlsStream<TcpStream>, SocketAddr) -> F + Clone + Send + 'static,
) -> io::Error {
    let (handshakes, connections) = (Arc::new(Semaphore::new(HANDSHAKES_MAX)), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        // Neither is ever closed.
        let Ok(place) = connections.clone().acquire_owned().await else { return io::ErrorKind::Other.into() };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Out of descriptors, say: those that are open go on.
            Err(error) if is_passing(&error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            Err(error) => return error,
        };
        let (acceptor, handshakes, connected) = (acceptor(), handshakes.clone(), connected.clone());
        tasks.spawn(async move {
            let _place = place;
            let Ok(turn) = handshakes.acquire_owned().await else { return };
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    drop(turn);
                    connected(stream, peer).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
                Err(_) => tracing::info!(%peer, "TLS took too long"),
            }
        });
    }
}

async fn api_connection(stream: TlsStream<TcpStream>, peer: SocketAddr, router: axum::Router) {
    let mut http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
    http.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20)).max_concurrent_streams(64);
    let service = hyper_util::service::TowerToHyperService::new(router);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%peer, %error, "the connection ended");
    }
}

fn is_passing(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::ECONNABORTED | Errno::EINTR))
}

async fn connection(stream: TlsStream<TcpStream>, peer: SocketAddr, agents: Agents) {
    let _ = stream.get_ref().0.set_nodelay(true);
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|first| first.to_vec());
    let service = agents.for_connection(peer, certificate);
    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // A peer that is gone without a word is noticed, and one that opens streams without end is not let.
    http.timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20)).keep_alive_timeout(Duration::from_secs(20));
    http.max_concurrent_streams(16).max_header_list_size(16 << 10);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%peer, %error, "the connection ended");
    }
}
