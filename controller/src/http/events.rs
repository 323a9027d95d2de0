//! Events: a page of them, or all as they happen.
//!
//! In: a number that the reader knows. Out: what came after it, and word of what is gone. Never: an event left out
//! without that word; a stream for a key that is good no longer.
//!
//! A stream is `text/event-stream` (WHATWG HTML, 9.2): each event's number is its `id`, so that a reader who was cut
//! off goes on where it was, by `Last-Event-ID`. An event of the kind `gap` says that some before it are not kept.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use ringwall_api as api;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::key::Reader;
use super::part::{self, After, Json, Query};
use super::refused::Refused;
use super::{Api, Inner};
use crate::access::Scope;
use crate::event::Event;
use crate::id::{AccessId, AuditNumber, EventNumber};
use crate::store::{self, Read, Store as _};

/// How often a stream looks whether its key is still good, while there is nothing new.
const LOOK: Duration = Duration::from_secs(1);
/// How often a silent stream says that it lives.
const ALIVE: Duration = Duration::from_secs(15);
/// Events that wait for one reader, and that are read at a time.
const QUEUE: u32 = 64;

/// Events, oldest first; with `Accept: text/event-stream`, those and all that come after, as they happen.
///
/// A stream goes on after the number in the header `Last-Event-ID`, else after `after`, else with what is new.
#[utoipa::path(
    get, path = "/api/v1/events", params(After, ("Last-Event-ID" = Option<u64>, Header, description = "The last number that a reader of the stream has")),
    responses((status = 200, content(
        (api::EventPage = "application/json"),
        (String = "text/event-stream"),
    ))), security(("key" = ["read"])),
)]
pub async fn events(Reader(key): Reader, State(inner): Api, Query(page): Query<After>, headers: HeaderMap) -> Result<Response, Refused> {
    let limit = part::limit(page.limit)?;
    if wants_stream(&headers) {
        let after = match headers.get("last-event-id") {
            Some(header) => Some(header.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(|| Refused::malformed("`Last-Event-ID` is a number"))?),
            None => page.after,
        };
        return stream(inner, key.id, after).await;
    }
    let mut read = inner.state.store.read().await?;
    let after = match page.after {
        Some(after) => after,
        None => newest(&mut read, Log::Events).await?.saturating_sub(u64::from(limit)),
    };
    let found = read.events(EventNumber(after), limit).await?;
    let next = found.events.last().map_or(after, |last| last.number.0);
    let has_gap = found.has_gap && page.after.is_some();
    Ok(Json(api::EventPage { events: found.events.into_iter().map(shape).collect(), next, has_gap }).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok()).flat_map(|accept| accept.split(','));
    accepted.filter_map(|media| media.split(';').next()).any(|media| media.trim().eq_ignore_ascii_case("text/event-stream"))
}

async fn stream(inner: Inner, key: AccessId, after: Option<u64>) -> Result<Response, Refused> {
    let place = inner.streams.clone().try_acquire_owned();
    let place = place.map_err(|_| Refused::new(api::Code::Busy, "too many read the stream of events already"))?;
    let after = match after {
        Some(after) => after,
        None => newest(&mut inner.state.store.read().await?, Log::Events).await?,
    };
    let (sender, receiver) = mpsc::channel(QUEUE as usize);
    tokio::spawn(feed(inner, key, after, sender, place));
    Ok(Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::new().interval(ALIVE)).into_response())
}

type Sender = mpsc::Sender<Result<sse::Event, Infallible>>;

/// Ends when the reader goes, when its key is good no longer, and when the store can't be read.
async fn feed(inner: Inner, key: AccessId, mut after: u64, sender: Sender, _place: OwnedSemaphorePermit) {
    let mut news = inner.state.store.news();
    loop {
        news.mark_unchanged();
        let page = match look(&inner, key, after).await {
            Ok(Some(page)) => page,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "a stream of events ended");
                return;
            }
        };
        let is_full = page.events.len() == QUEUE as usize;
        if page.has_gap {
            let first = page.events.first().map_or(0, |first| first.number.0);
            let gap = serde_json::json!({ "after": after, "first": first });
            if sender.send(Ok(sse::Event::default().event("gap").data(gap.to_string()))).await.is_err() {
                return;
            }
            // What the reader knows is of a time before a restore, or long ago: from here on it is told all.
            after = first.saturating_sub(1);
        }
        for event in page.events {
            after = event.number.0;
            // JSON on one line: an event's data can't be taken for another event.
            let data = serde_json::to_string(&shape(event)).unwrap_or_default();
            if sender.send(Ok(sse::Event::default().id(after.to_string()).data(data))).await.is_err() {
                return;
            }
        }
        if is_full {
            continue;
        }
        tokio::select! {
            _ = news.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
            () = sender.closed() => return,
        }
    }
}

/// `None`: the key is good no longer.
async fn look(inner: &Inner, key: AccessId, after: u64) -> store::Result<Option<crate::event::Page>> {
    let mut read = inner.state.store.read().await?;
    let key = read.access(key).await?;
    if key.is_none_or(|key| key.admits(Scope::Read, inner.now()).is_err()) {
        return Ok(None);
    }
    let mut page = read.events(EventNumber(after), QUEUE).await?;
    if page.has_gap && page.events.is_empty() {
        page = read.events(EventNumber(0), QUEUE).await?;
        page.has_gap = true;
    }
    Ok(Some(page))
}

/// What is numbered without a hole.
#[derive(Clone, Copy)]
pub enum Log {
    Events,
    Audit,
}

/// The number of the newest; 0 when there is none.
pub async fn newest(read: &mut impl Read, log: Log) -> store::Result<u64> {
    let Some(first) = next(read, log, 0).await? else { return Ok(0) };
    // Some is known to be there, and none after it is known: first how far, then where between.
    let (mut there, mut step) = (first, 1);
    while next(read, log, there + step - 1).await?.is_some() {
        there += step;
        step *= 2;
    }
    while step > 0 {
        if next(read, log, there + step - 1).await?.is_some() {
            there += step;
        }
        step /= 2;
    }
    Ok(there)
}

/// The first number after this one.
async fn next(read: &mut impl Read, log: Log, after: u64) -> store::Result<Option<u64>> {
    Ok(match log {
        Log::Events => read.events(EventNumber(after), 1).await?.events.first().map(|event| event.number.0),
        Log::Audit => read.audit(AuditNumber(after), 1).await?.first().map(|entry| entry.number.0),
    })
}

fn shape(event: Event) -> api::Event {
    let Event { number, at, kind, node, body } = event;
    api::Event { number: number.0, at: at.to_string(), kind, node: node.map(|node| node.to_string()), body }
}
