//! One stream to an agent: a queue, and long lists beside it.
//!
//! In: messages, lists in parts. Out: whatever is next when the network has room. Never: a message that waits for a
//! part of a list that is not under way yet; a queue without bound.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use ringwall_protocol::{ToAgent, wire};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

use crate::core::LISTS_MAX;

/// Messages to one agent that wait for the network; of more, the stream is ended, and the next begins with all that counts.
pub(super) const QUEUE: usize = 64;
/// Lists in parts that wait: each twice, since one may begin anew.
const LISTS: usize = 2 * LISTS_MAX;

type Message = Result<wire::ToAgent, Status>;

/// The end that the core holds; once it is gone, the stream ends after what is in the queue.
pub(super) struct Outgoing {
    queue: mpsc::Sender<Message>,
    lists: mpsc::Sender<Arc<[Bytes]>>,
}

impl Outgoing {
    /// `false` when the queue is full.
    pub fn send(&self, message: ToAgent) -> bool {
        self.queue.try_send(Ok(message.into())).is_ok()
    }

    /// All but the first. `false` when too many wait.
    pub fn send_parts(&self, parts: Arc<[Bytes]>) -> bool {
        self.lists.try_send(parts).is_ok()
    }

    pub fn downgrade(&self) -> mpsc::WeakSender<Message> {
        self.queue.downgrade()
    }
}

/// What goes over the network.
pub struct Frames {
    queue: mpsc::Receiver<Message>,
    lists: mpsc::Receiver<Arc<[Bytes]>>,
    /// The list under way, and its next part.
    list: Option<(Arc<[Bytes]>, usize)>,
}

pub(super) fn open() -> (Outgoing, Frames) {
    let (queue, messages) = mpsc::channel(QUEUE);
    let (lists, parts) = mpsc::channel(LISTS);
    (Outgoing { queue, lists }, Frames { queue: messages, lists: parts, list: None })
}

impl Stream for Frames {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        if let Poll::Ready(message) = self.queue.poll_recv(context) {
            return Poll::Ready(message);
        }
        loop {
            if let Some((parts, next)) = &mut self.list {
                if let Some(part) = parts.get(*next) {
                    *next += 1;
                    return Poll::Ready(Some(Ok(ToAgent::List(part.clone()).into())));
                }
                self.list = None;
            }
            match self.lists.poll_recv(context) {
                Poll::Ready(Some(parts)) => self.list = Some((parts, 1)),
                // The queue says when it is over.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    fn bytes(message: Option<Message>) -> Bytes {
        match message.map(|message| ToAgent::try_from(message.expect("no end")).expect("a message")) {
            Some(ToAgent::List(bytes)) => bytes,
            other => panic!("a list, not {other:?}"),
        }
    }

    #[tokio::test]
    async fn what_is_in_the_queue_overtakes_parts() {
        let (outgoing, mut frames) = open();
        let parts: Arc<[Bytes]> = ["0", "1", "2", "3"].map(Bytes::from).into();
        assert!(outgoing.send(ToAgent::List(parts[0].clone())) && outgoing.send_parts(parts));
        assert_eq!([bytes(frames.next().await), bytes(frames.next().await)], ["0", "1"]);
        assert!(outgoing.send(ToAgent::List("urgent".into())));
        assert_eq!([bytes(frames.next().await), bytes(frames.next().await), bytes(frames.next().await)], ["urgent", "2", "3"]);
        assert!(outgoing.send(ToAgent::List("last".into())) && outgoing.send_parts(["4", "5"].map(Bytes::from).into()));
        drop(outgoing);
        assert_eq!(bytes(frames.next().await), "last");
        assert!(frames.next().await.is_none());
    }

    #[test]
    fn a_queue_has_an_end() {
        let (outgoing, _frames) = open();
        assert_eq!((0..1_000).filter(|_| outgoing.send(ToAgent::Heartbeat(1))).count(), QUEUE);
        assert_eq!((0..1_000).filter(|_| outgoing.send_parts([].into())).count(), LISTS);
    }
}
