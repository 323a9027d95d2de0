//! The two services that agents call.
//!
//! In: requests over a connection, whose certificate TLS has verified. Out: certificates, streams, answers. Never: a
//! reason to a stranger, a session of somebody who is not known.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use ringwall_protocol::wire::enrolment_server::{Enrolment, EnrolmentServer};
use ringwall_protocol::wire::fleet_server::{Fleet, FleetServer};
use ringwall_protocol::{Confirm, Enrol, Enrolled, Hello, MESSAGE_MAX, Renew, Reply, ToController, wire};
use serde_json::json;
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};
use tower::Service as _;

use super::driver::{Control, Told};
use super::stream::{self, Frames};
use crate::audit::{Actor, Audited};
use crate::change::{Change, Observed, Write, Written};
use crate::core::{Event, SessionId};
use crate::event::NewEvent;
use crate::id::AgentId;
use crate::identity::{self, Authority, Held, Issued, Presented, Proof, PublicKey, Secret, admit};
use crate::store::{Read as _, Sqlite, Store as _};
use crate::time::Time;
use crate::token::{Claim, NOT_ACCEPTED};

/// For the first message of a stream.
const HELLO: Duration = Duration::from_secs(10);
/// Seconds until a node that waits for an operator asks again.
const RETRY: u32 = 30;

/// What all connections share.
#[derive(Clone)]
pub struct Agents {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Sqlite>,
    authority: Arc<Authority>,
    control: Control<Sqlite>,
    clock: fn() -> Time,
    random: fn(&mut [u8]),
    sessions: AtomicU64,
}

/// One connection, and who is at its other end.
#[derive(Clone)]
struct Connection {
    inner: Arc<Inner>,
    peer: SocketAddr,
    certificate: Option<Arc<[u8]>>,
}

impl Agents {
    /// `random` fills from the system's source.
    pub fn new(store: Arc<Sqlite>, authority: Arc<Authority>, control: Control<Sqlite>, clock: fn() -> Time, random: fn(&mut [u8])) -> Self {
        Self { inner: Arc::new(Inner { store, authority, control, clock, random, sessions: AtomicU64::new(0) }) }
    }

    pub(super) fn for_connection(&self, peer: SocketAddr, certificate: Option<Vec<u8>>) -> Service {
        let connection = Connection { inner: self.inner.clone(), peer, certificate: certificate.map(Into::into) };
        Service {
            enrolment: EnrolmentServer::new(connection.clone()).max_decoding_message_size(64 << 10),
            fleet: FleetServer::new(connection).max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX),
        }
    }
}

/// Both services of a connection, by path.
pub(super) struct Service {
    enrolment: EnrolmentServer<Connection>,
    fleet: FleetServer<Connection>,
}

impl hyper::service::Service<http::Request<Incoming>> for Service {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        if request.uri().path().starts_with("/ringwall.v1.Enrolment/") {
            let mut service = self.enrolment.clone();
            Box::pin(async move { service.call(request).await })
        } else {
            // What is of neither is answered so: UNIMPLEMENTED.
            let mut service = self.fleet.clone();
            Box::pin(async move { service.call(request).await })
        }
    }
}

impl Connection {
    fn now(&self) -> Time {
        (self.inner.clock)()
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.inner.random)(&mut bytes);
        bytes
    }

    /// The agent of the connection's certificate, as it is known now.
    async fn agent(&self) -> Result<AgentId, Status> {
        let refused = |error: &dyn std::fmt::Display| {
            tracing::info!(peer = %self.peer, %error, "refused");
            Status::unauthenticated(NOT_ACCEPTED)
        };
        let certificate = self.certificate.as_deref().ok_or_else(|| refused(&"no certificate"))?;
        let presented = self.inner.authority.check(&[certificate], self.now()).map_err(|error| refused(&error))?;
        let row = async { self.inner.store.read().await?.agent(presented.agent).await };
        let row = row.await.map_err(|error| unavailable(&error))?;
        let agent = match admit(&presented, row.as_ref()) {
            Ok(agent) => agent.id,
            // It may stop trying: a controller that knows it for certain says so.
            Err(error @ identity::Refusal::Revoked { .. }) => {
                tracing::info!(peer = %self.peer, %error, "refused");
                return Err(Status::permission_denied("this agent was revoked"));
            }
            Err(error) => return Err(refused(&error)),
        };
        Ok(agent)
    }

    /// Keeps the change and gives out the certificate that was made for it.
    async fn admit(&self, who: Actor, change: Change, held: Held) -> Result<Response<wire::EnrolReply>, Status> {
        let now = self.now();
        let written = self.inner.store.write(vec![Write::Change(Audited { who, at: now, change })]).await;
        let written = match written {
            Ok(written) => written,
            Err(error) if error.is_refusal() => {
                self.refused(&error.to_string()).await;
                return Err(Status::permission_denied(error.to_stranger()));
            }
            Err(error) => return Err(unavailable(&error)),
        };
        let first = written.first().unwrap_or(&Written::Nothing);
        let agent = match first {
            Written::Agent(agent) | Written::Pending(agent) => *agent,
            _ => return Err(Status::internal("")),
        };
        if let Err(error) = self.inner.control.agent_changed(agent).await {
            tracing::warn!(%error, "the core was not told of a new agent");
        }
        let outcome = match held.release(first) {
            Some(Issued { der, expires }) => {
                let valid = u32::try_from(expires.since(now).as_secs()).unwrap_or(u32::MAX);
                Enrolled::Identity { certificates: vec![der.into(), self.inner.authority.certificate().to_vec().into()], valid }
            }
            None => Enrolled::Pending { retry: RETRY },
        };
        let time = u64::try_from(now.as_second()).unwrap_or(0);
        Ok(Response::new(Reply { outcome, time }.into()))
    }

    /// What an operator should see: somebody tried, and why it was not let.
    async fn refused(&self, why: &str) {
        tracing::warn!(peer = %self.peer, why, "an enrolment was refused");
        let what = NewEvent { kind: "refused".into(), node: None, body: json!({ "peer": self.peer.ip().to_string(), "why": why }) };
        let part = Write::Observed { at: self.now(), what: Observed::Event(what) };
        if let Err(error) = self.inner.store.write(vec![part]).await {
            tracing::error!(%error, "an event was not kept");
        }
    }
}

fn unavailable(error: &dyn std::fmt::Display) -> Status {
    tracing::error!(%error, "the store does not answer");
    Status::unavailable("the controller can't answer now")
}

fn invalid(error: ringwall_protocol::Invalid) -> Status {
    Status::invalid_argument(error.to_string())
}

#[tonic::async_trait]
impl Enrolment for Connection {
    async fn enrol(&self, request: Request<wire::EnrolRequest>) -> Result<Response<wire::EnrolReply>, Status> {
        let Enrol { token, csr, node, facts, .. } = Enrol::try_from(request.into_inner()).map_err(invalid)?;
        let node = node.parse().map_err(|_| Status::invalid_argument("EnrolRequest.node is no name"))?;
        let claim = Claim { node, addresses: facts.addresses.into_iter().collect(), clock: None };
        let key = match PublicKey::of_request(&csr) {
            Ok(key) => key,
            Err(error) => {
                self.refused(&error.to_string()).await;
                return Err(Status::invalid_argument("EnrolRequest.csr is no request for a certificate"));
            }
        };
        let made = identity::enrol(&self.inner.authority, &Secret::new(token), claim, &key, self.now(), self.random());
        let (change, held) = made.map_err(|error| unavailable(&error))?;
        self.admit(Actor::Enrolling, change, held).await
    }

    async fn renew(&self, request: Request<wire::RenewRequest>) -> Result<Response<wire::EnrolReply>, Status> {
        let Renew { certificate, csr, signature } = Renew::try_from(request.into_inner()).map_err(invalid)?;
        let proved: Result<(Presented, PublicKey), _> = {
            let live = self.certificate.as_deref().map(|certificate| self.inner.authority.check(&[certificate], self.now()));
            match live {
                Some(Ok(presented)) => PublicKey::of_request(&csr).map(|key| (presented, key)),
                _ => identity::renew_by_proof(
                    &self.inner.authority,
                    Proof { certificate: &certificate, request: &csr, signature: &signature },
                    self.now(),
                ),
            }
        };
        let (presented, key) = match proved {
            Ok(proved) => proved,
            Err(error) => {
                self.refused(&error.to_string()).await;
                return Err(Status::permission_denied(NOT_ACCEPTED));
            }
        };
        let made = identity::renew(&self.inner.authority, &presented, &key, self.now(), self.random());
        let (change, held) = made.map_err(|error| unavailable(&error))?;
        self.admit(Actor::Agent(presented.agent), change, held).await
    }
}

#[tonic::async_trait]
impl Fleet for Connection {
    type SessionStream = Frames;

    async fn session(&self, request: Request<Streaming<wire::ToController>>) -> Result<Response<Self::SessionStream>, Status> {
        let agent = self.agent().await?;
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(HELLO, incoming.next()).await.map_err(|_| Status::deadline_exceeded("no Hello"))?;
        let first = first.ok_or_else(|| Status::cancelled("no Hello"))??;
        let ToController::Hello(hello) = ToController::try_from(first).map_err(invalid)? else {
            return Err(Status::failed_precondition("the first message is Hello"));
        };
        check_versions(&hello)?;
        let id = SessionId(self.inner.sessions.fetch_add(1, Ordering::Relaxed) + 1);
        let (outgoing, frames) = stream::open();
        let event = Event::Connected { id, agent, session: self.random(), hello: Box::new(hello) };
        let ending = |_| Status::unavailable("the controller is ending");
        // The core alone holds the stream open: what it ends is over.
        let open = outgoing.downgrade();
        self.inner.control.told(Told::Opened { id, outgoing, event }).await.map_err(ending)?;
        let (control, peer) = (self.inner.control.clone(), self.peer);
        tokio::spawn(async move {
            while let Some(Ok(message)) = incoming.next().await {
                let Some(stream) = open.upgrade() else { break };
                match ToController::try_from(message) {
                    Ok(message) => {
                        if control.told(Told::Event(Event::Said { id, message })).await.is_err() {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%peer, %error, "an agent sent what it must not");
                        let _ = stream.try_send(Err(invalid(error)));
                        break;
                    }
                }
            }
            let _ = control.told(Told::Event(Event::Gone { id })).await;
        });
        Ok(Response::new(frames))
    }

    async fn confirm(&self, request: Request<wire::ConfirmRequest>) -> Result<Response<wire::ConfirmReply>, Status> {
        let agent = self.agent().await?;
        let confirm = Confirm::try_from(request.into_inner()).map_err(invalid)?;
        let answer = self.inner.control.may_confirm(agent, confirm).await.map_err(|_| Status::unavailable("the controller is ending"))?;
        match answer {
            Ok(place) => Ok(Response::new(wire::ConfirmReply { place: Some(place.into()) })),
            Err(denied) => Err(Status::failed_precondition(denied.to_string())),
        }
    }
}

fn check_versions(hello: &Hello) -> Result<(), Status> {
    let ours = ringwall_protocol::VERSIONS;
    match ours.common(hello.versions) {
        Some(_) => Ok(()),
        None => Err(Status::failed_precondition(format!(
            "the controller speaks versions {} to {} of the protocol, the agent {} to {}",
            ours.oldest, ours.newest, hello.versions.oldest, hello.versions.newest
        ))),
    }
}
