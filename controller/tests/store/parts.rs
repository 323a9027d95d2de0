//! Rows and changes for the tests, each valid.

use std::num::NonZeroU32;

use ipnet::IpNet;
use ringwall_controller::access::{Access, Scope};
use ringwall_controller::audit::{Actor, Audited};
use ringwall_controller::change::{Change, Enrol, Observed, Write, Written};
use ringwall_controller::event::NewEvent;
use ringwall_controller::fleet::Fleet;
use ringwall_controller::id::{AccessId, AgentId, Digest, Epoch, FleetId, NodeName, TokenId};
use ringwall_controller::revision::{Content, NewRevision, Source};
use ringwall_controller::store::{Error, Keep, Result, Store};
use ringwall_controller::time::Time;
use ringwall_controller::token::{Claim, Terms, Token};
use serde_json::json;

pub const KEEP: Keep = Keep { events: 5, assignments: 3 };

pub fn at(second: i64) -> Time {
    Time::from_millisecond(second * 1000)
}

pub fn by(who: Actor, second: i64, change: Change) -> Write {
    Write::Change(Audited { who, at: at(second), change })
}

pub fn changed(change: Change) -> Write {
    by(Actor::Controller, 100, change)
}

pub fn seen(second: i64, what: Observed) -> Write {
    Write::Observed { at: at(second), what }
}

pub async fn write<S: Store>(store: &S, part: Write) -> Result<Written> {
    store.write(vec![part]).await.map(|written| written.into_iter().next().expect("one for one"))
}

pub async fn apply<S: Store>(store: &S, change: Change) -> Written {
    write(store, changed(change)).await.expect("a change")
}

pub async fn refused<S: Store>(store: &S, change: Change) -> String {
    let error: Error = write(store, changed(change)).await.expect_err("a refusal");
    error.to_string()
}

pub fn node(name: &str) -> NodeName {
    name.parse().expect("a name")
}

pub fn fleet() -> Fleet {
    Fleet { id: FleetId::new([1; 16]), epoch: Epoch(1), ca: Digest::of(b"ca"), created: at(1) }
}

pub fn secret(number: u8) -> Digest {
    Digest::of(&[number; 32])
}

/// For two uses, until second 1000.
pub fn token(number: u8) -> Token {
    let prefix = |text: &str| text.parse::<IpNet>().expect("a prefix");
    let terms = Terms {
        uses: NonZeroU32::new(2).expect("two"),
        expires: at(1000),
        node: None,
        site: Some("hel".parse().expect("a site")),
        labels: [("role".parse().expect("a label"), "edge, \"north\"".to_owned())].into(),
        location: Some("rack 4".to_owned()),
        prefixes: vec![prefix("192.0.2.0/24"), prefix("2001:db8::/48")],
        needs_approval: number == 9,
    };
    Token { id: TokenId::new([number; 16]), secret: secret(number), terms, created: at(2), used: 0, revoked: None }
}

pub fn agent_id(number: u8) -> AgentId {
    AgentId::new([number; 16])
}

pub fn key(number: u8) -> Digest {
    Digest::of(&[number, 0])
}

/// Agent N is `node-N` with the address 192.0.2.N and the key N.
pub fn enrol(token: u8, agent: u8) -> Change {
    let addresses = [format!("192.0.2.{agent}"), "127.0.0.1".to_owned()].map(|text| text.parse().expect("an address"));
    let claim = Claim { node: node(&format!("node-{agent}")), addresses: addresses.into(), clock: Some(at(100)) };
    Change::Enrol(Enrol { secret: secret(token), claim, agent: agent_id(agent), key: key(agent), certificate_expires: at(90_000) })
}

pub fn commit(text: &str) -> Change {
    let content = Content {
        files: [("policy.yaml".to_owned(), text.to_owned())].into(),
        values: [("PARTNERS".to_owned(), "203.0.113.0/24".to_owned())].into(),
    };
    let (author, message) = ("ann".to_owned(), "say why".to_owned());
    Change::Commit(NewRevision { content, author, message, source: Source::Git("0a1b".to_owned()) })
}

pub fn event(kind: &str) -> Observed {
    Observed::Event(NewEvent { kind: kind.to_owned(), node: Some(node("node-1")), body: json!({ "count": 1.5, "text": "ä" }) })
}

pub fn access(number: u8) -> Access {
    Access {
        id: AccessId::new([number; 16]),
        name: "ci".to_owned(),
        secret: secret(number),
        scopes: [Scope::Read, Scope::Write].into(),
        created: at(3),
        expires: at(500),
        last_used: None,
        revoked: None,
    }
}
