//! The stream with the controller, and the question over another connection.

use std::time::Duration;

use ringwall_node::reconciler::{self, Answer, Event, Place};
use ringwall_protocol::{Confirm, Hello, Invalid, List, Order, Reason, Refusal, Refused, ToAgent, ToController, VERSIONS, wire};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, interval, timeout, timeout_at};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

use crate::connection::Controller;
use crate::edge;
use crate::lists::{Lists, Told};
use crate::probes::Probes;

/// Messages to the controller that wait for the network. When it is full, the session ends: the next one begins
/// with all that counts.
pub const QUEUE: usize = 256;
/// Lines of probes that are told together.
const LINES: usize = 512;
/// For the controller's first message.
const WELCOME: Duration = Duration::from_secs(10);
/// For the answer to the question.
const ANSWER: Duration = Duration::from_secs(10);

/// Why a session ended; for the log.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error(transparent)]
    Connect(#[from] crate::ConnectError),
    #[error("the controller ended the stream")]
    Status(#[from] Status),
    #[error("the controller sent what it must not")]
    Invalid(#[from] Invalid),
    #[error("the first message was no Welcome")]
    NoWelcome,
    #[error("the controller speaks version {0} of the protocol, which this agent does not")]
    Version(u32),
    #[error("the controller went silent")]
    Silent,
    #[error("the controller closed the stream")]
    Closed,
}

/// Runs until the session ends.
pub async fn run(
    controller: Controller,
    hello: Hello,
    mut outgoing: Receiver<ToController>,
    events: Sender<Event>,
    lists: Lists,
) -> Ended {
    match hold(controller, hello, &mut outgoing, &events, &lists).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

async fn hold(
    controller: Controller,
    hello: Hello,
    outgoing: &mut Receiver<ToController>,
    events: &Sender<Event>,
    lists: &Lists,
) -> Result<std::convert::Infallible, Ended> {
    let mut client = controller.connect().await?;
    let (messages, stream) = channel::<wire::ToController>(QUEUE);
    let send = async |message: ToController| messages.send(message.into()).await.map_err(|_| Ended::Closed);
    send(ToController::Hello(hello)).await?;
    let opened = client.session(tokio_stream::wrappers::ReceiverStream::new(stream));
    let mut incoming = timeout(WELCOME, opened).await.map_err(|_| Ended::Silent)??.into_inner();
    let first = timeout(WELCOME, incoming.next()).await.map_err(|_| Ended::Silent)?.ok_or(Ended::Closed)??;
    let ToAgent::Welcome(welcome) = ToAgent::try_from(first)? else { return Err(Ended::NoWelcome) };
    if !(VERSIONS.oldest..=VERSIONS.newest).contains(&welcome.version) {
        return Err(Ended::Version(welcome.version));
    }
    let tell = async |event: Event| events.send(event).await.map_err(|_| Ended::Closed);
    tell(Event::Connected).await?;

    let beat = Duration::from_secs(welcome.heartbeat.into());
    let (mut beats, mut number, mut heard) = (interval(beat), 0, Instant::now());
    let (mut probes, mut probed) = Probes::new();
    let mut lines = Vec::new();
    loop {
        tokio::select! {
            _ = beats.tick() => {
                number += 1;
                probes.expire();
                send(ToController::Heartbeat(number)).await?;
            }
            message = outgoing.recv() => send(message.ok_or(Ended::Closed)?).await?,
            _ = probed.recv_many(&mut lines, LINES) => {
                for message in probes.messages(&mut lines) {
                    send(message).await?;
                }
            }
            message = timeout_at(heard + 3 * beat, incoming.next()) => {
                let message = message.map_err(|_| Ended::Silent)?.ok_or(Ended::Closed)??;
                heard = Instant::now();
                let place = place_of(&message);
                match (ToAgent::try_from(message), place) {
                    (Ok(ToAgent::Probes { id, role, plan }), _) => {
                        if let Err(refusal) = probes.begin(id, role, &plan) {
                            send(ToController::Refusal(refusal)).await?;
                        }
                    }
                    (Ok(ToAgent::EndProbes(id)), _) => probes.end(id),
                    (Ok(ToAgent::Lists(named)), _) => lists.tell(Told::Named(named)).await,
                    (Ok(ToAgent::List(list)), _) => lists.tell(Told::List(List::decode(list)?)).await,
                    (Ok(message), _) => match understood(message) {
                        Ok(Some(event)) => tell(event).await?,
                        Ok(None) => {}
                        Err(refusal) => send(ToController::Refusal(refusal)).await?,
                    },
                    // Refused by its place, so that the controller knows which one.
                    (Err(invalid), Some(place)) => {
                        let what = Refused::Assignment(place);
                        let detail = invalid.to_string();
                        send(ToController::Refusal(Refusal { what, reason: Reason::Malformed, detail })).await?;
                    }
                    (Err(invalid), None) => return Err(invalid.into()),
                }
            }
        }
    }
}

fn place_of(message: &wire::ToAgent) -> Option<ringwall_protocol::Place> {
    match &message.message {
        Some(wire::to_agent::Message::Assignment(assignment)) => {
            let place = assignment.place.as_ref().filter(|place| place.epoch > 0 && place.number > 0)?;
            Some(ringwall_protocol::Place { epoch: place.epoch, number: place.number })
        }
        _ => None,
    }
}

/// An event for the reconciler, or what is said at once.
fn understood(message: ToAgent) -> Result<Option<Event>, Refusal> {
    Ok(match message {
        ToAgent::Assignment(assignment) => Some(Event::Received(edge::assignment(assignment)?)),
        ToAgent::Order(id, order) => Some(match order {
            Order::Rollback(place) => Event::Ordered { id, order: reconciler::Order::Rollback(edge::place(place)) },
            Order::Release { remove } => Event::Ordered { id, order: reconciler::Order::Release { remove } },
            Order::Move(seconds) => Event::Ordered { id, order: reconciler::Order::Move(u64::from(seconds) * 1000) },
            Order::Resync => Event::Ordered { id, order: reconciler::Order::Move(0) },
            Order::Revoked(detail) => Event::Revoked { detail },
        }),
        // Not among the features that Hello named.
        ToAgent::List(_) | ToAgent::Lists(_) | ToAgent::Probes { .. } | ToAgent::EndProbes(_) | ToAgent::Welcome(_) | ToAgent::Heartbeat(_) => None,
    })
}

/// Asks over a connection that is opened now.
pub async fn confirm(controller: Controller, place: Place, digest: [u8; 32]) -> Answer {
    let asked = async {
        let mut client = controller.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let request = Confirm { session: None, place: edge::wire_place(place), digest };
        client.confirm(wire::ConfirmRequest::from(request)).await
    };
    match timeout(ANSWER, asked).await {
        Ok(Ok(reply)) if reply.get_ref().place == Some(edge::wire_place(place).into()) => Answer::Yes,
        // The controller was reached, knows the trial, and wants it gone (`google.rpc.Code`).
        Ok(Err(status)) if status.code() == Code::FailedPrecondition => Answer::No,
        _ => Answer::Unreachable,
    }
}
