//! The driver with a store and streams that nobody reads.

use std::num::NonZeroU32;

use ringwall_protocol::{Facts, Hello, ToAgent};
use tokio_stream::StreamExt as _;

use super::super::stream::{self, Frames, QUEUE};
use super::*;
use crate::change::Enrol;
use crate::fleet::Fleet;
use crate::id::{Digest, Epoch, FleetId, TokenId};
use crate::store::{Keep, Memory};
use crate::token::{Claim, Terms, Token};

fn at() -> Time {
    Time::from_millisecond(1_800_000_000_000)
}

async fn change(store: &Memory, change: Change) -> Written {
    let part = Write::Change(Audited { who: Actor::Local("root".into()), at: at(), change });
    store.write(vec![part]).await.expect("it is kept").remove(0)
}

/// A fleet of one agent.
async fn fleet() -> (Arc<Memory>, AgentId) {
    let (store, digest) = (Memory::new(Keep::default()), Digest([1; 32]));
    change(&store, Change::Found(Fleet { id: FleetId::new([1; 16]), epoch: Epoch(1), ca: digest, created: at() })).await;
    let terms = Terms {
        uses: NonZeroU32::new(1).expect("not 0"),
        expires: at().after(Duration::from_secs(60)),
        node: None,
        site: None,
        labels: BTreeMap::new(),
        location: None,
        prefixes: vec!["192.0.2.0/24".parse().expect("a prefix")],
        needs_approval: false,
    };
    change(&store, Change::CreateToken(Token { id: TokenId::new([1; 16]), secret: digest, terms, created: at(), used: 0, revoked: None })).await;
    let claim = Claim { node: "node-1".parse().expect("a name"), addresses: ["192.0.2.1".parse().expect("an address")].into(), clock: None };
    let agent = AgentId::new([1; 16]);
    change(&store, Change::Enrol(Enrol { secret: digest, claim, agent, key: digest, certificate_expires: at() })).await;
    (Arc::new(store), agent)
}

async fn open(control: &Control<Memory>, agent: AgentId, session: u64) -> Frames {
    let (outgoing, frames) = stream::open();
    let hello = Hello {
        versions: ringwall_protocol::VERSIONS,
        features: vec![ringwall_protocol::LISTS.into()],
        agent: "0.1.0".into(),
        boot: [0; 16],
        taken: None,
        confirmed: None,
        generation: 0,
        lists: Vec::new(),
        facts: Facts { addresses: vec!["192.0.2.1".parse().expect("an address")], ..Facts::default() },
    };
    let event = Event::Connected { id: SessionId(session), agent, session: [0; 16], hello: Box::new(hello) };
    control.told(Told::Opened { id: SessionId(session), outgoing, event }).await.expect("the core lives");
    frames
}

async fn block(control: &Control<Memory>, last: u8) -> u64 {
    let net = IpNet::from(std::net::IpAddr::from([203, 0, 113, last]));
    control.change_list("blocks".parse().expect("a name"), vec![(net, None)], Vec::new()).await.expect("it is taken").revision
}

#[tokio::test]
async fn who_does_not_take_what_it_is_told_is_let_go_and_begins_anew() {
    let (store, agent) = fleet().await;
    let control = drive(store.clone(), at, Vec::new()).await.expect("the core");
    let mut unread = open(&control, agent, 1).await;
    assert_eq!(control.connected().await.expect("the core").len(), 1);
    let most = u8::try_from(QUEUE).expect("a short queue");
    for last in 0..=most {
        block(&control, last).await;
    }
    // It is not connected any more, and the store was told when it was last seen.
    assert!(control.connected().await.expect("the core").is_empty());
    while store.read().await.expect("a snapshot").sighting(agent).await.expect("a row").is_none() {
        tokio::task::yield_now().await;
    }
    // What was in the queue is still there, and then the stream ends.
    let mut messages = 0;
    while unread.next().await.is_some() {
        messages += 1;
    }
    assert_eq!(messages, QUEUE);

    // The next stream begins with all that counts: who speaks, which lists there are, what is in them.
    let mut frames = open(&control, agent, 2).await;
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(ToAgent::try_from(frames.next().await.expect("a message").expect("no end")).expect("a message"));
    }
    let [ToAgent::Welcome(_), ToAgent::Lists(lists), ToAgent::List(list)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(lists[0].revision, u64::from(most) + 1);
    let ringwall_protocol::Change::Snapshot { last: true, elements, .. } = ringwall_protocol::List::decode(list.clone()).expect("a list").change else {
        panic!("all of it in one part")
    };
    assert_eq!(elements.len(), QUEUE + 1);
    let coverage = control.coverage("blocks".parse().expect("a name"), 1).await.expect("the core").expect("a list");
    assert_eq!((coverage.on, coverage.of), (0, 1));
}
