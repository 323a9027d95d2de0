//! Who is let in, and who is not: with real certificates, real TLS and a real store.
//!
//! In: a fleet, nodes with keys of their own, clocks that are right or wrong. Out: one test for each
//! way to be refused. Never: a socket; TLS runs between two ends in memory.

mod folder;
mod tls;

use std::num::NonZeroU32;
use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use ringwall_controller::audit::{Actor, Audited};
use ringwall_controller::change::{Change, Enrol, Write, Written};
use ringwall_controller::id::{AgentId, Digest, FleetId, TokenId};
use ringwall_controller::identity::{
    self, AGENT_LIFE, Authority, GRACE, Issued, Presented, Proof, PublicKey, Refusal, Secret, admit,
};
use ringwall_controller::store::{Error, Keep, Memory, Read as _, Store as _};
use ringwall_controller::time::Time;
use ringwall_controller::token::{self, Claim, Terms, Token};
use ringwall_protocol::signed_by_renewal;

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> Time {
    // 2026-11-21T19:00:00Z
    Time::from_millisecond(1_795_287_600_000)
}

fn fleet() -> FleetId {
    FleetId::new([1; 16])
}

fn authority() -> Authority {
    Authority::new(fleet(), now()).expect("a CA")
}

/// A node by its own key.
struct Node(KeyPair);

impl Node {
    fn new() -> Self {
        Self(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key"))
    }

    /// With all that it would like to be.
    fn request_for(&self, uri: &str) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "root");
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("a URI")), SanType::DnsName("db-1".try_into().expect("a name"))];
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.serialize_request(&self.0).expect("a request").der().to_vec()
    }

    fn request(&self) -> Vec<u8> {
        CertificateParams::default().serialize_request(&self.0).expect("a request").der().to_vec()
    }

    fn public(&self) -> PublicKey {
        PublicKey::of_request(&self.request()).expect("a key")
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        use rcgen::SigningKey as _;
        self.0.sign(message).expect("a signature")
    }
}

fn secret() -> Secret {
    Secret::new([7; 32])
}

fn digest() -> Digest {
    Digest(secret().digest())
}

fn claim(clock: Time) -> Claim {
    Claim { node: "edge-1".parse().expect("a name"), addresses: ["192.0.2.1".parse().expect("an address")].into(), clock: Some(clock) }
}

fn token() -> Token {
    let terms = Terms {
        uses: NonZeroU32::MIN,
        expires: now().after(Duration::from_secs(900)),
        node: None,
        site: None,
        labels: Default::default(),
        location: None,
        prefixes: vec!["192.0.2.0/24".parse().expect("a prefix")],
        needs_approval: false,
    };
    Token { id: TokenId::new([2; 16]), secret: digest(), terms, created: now(), used: 0, revoked: None }
}

struct Fleet {
    authority: Authority,
    store: Memory,
}

impl Fleet {
    fn new() -> Self {
        let fleet = Self { authority: authority(), store: Memory::new(Keep::default()) };
        fleet.write(Change::CreateToken(token()), now()).expect("a token");
        fleet
    }

    fn write(&self, change: Change, at: Time) -> Result<Written, Error> {
        let part = Write::Change(Audited { who: Actor::Controller, at, change });
        block_on(self.store.write(vec![part])).map(|written| written.into_iter().next().expect("one for one"))
    }

    fn enrol(&self, node: &Node, claim: Claim) -> Result<Issued, Error> {
        let held = identity::enrol(&self.authority, &secret(), claim, &node.public(), now(), [3; 16]);
        let (change, held) = held.expect("a certificate");
        let written = self.write(change, now())?;
        Ok(held.release(&written).expect("its own certificate"))
    }

    fn renew(&self, presented: &Presented, node: &Node, at: Time) -> Result<Issued, Error> {
        let (change, held) = identity::renew(&self.authority, presented, &node.public(), at, [4; 16]).expect("a certificate");
        let written = self.write(change, at)?;
        Ok(held.release(&written).expect("its own certificate"))
    }

    /// As the TLS layer and the session ask, one after the other.
    fn admits(&self, certificate: &[u8], at: Time) -> Result<Presented, Refusal> {
        let presented = self.authority.check(&[certificate], at)?;
        let row = block_on(async { self.store.read().await.expect("rows").agent(presented.agent).await.expect("rows") });
        admit(&presented, row.as_ref()).map(|_| presented)
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work)
}

/// Whom the token makes of a key.
fn agent(node: &Node) -> AgentId {
    Enrol::agent_of(&digest(), &node.public().digest())
}

#[test]
fn a_node_enrols_renews_and_is_revoked() {
    let (fleet, node) = (Fleet::new(), Node::new());
    let issued = fleet.enrol(&node, claim(now())).expect("a certificate");
    assert_eq!(issued.expires, now().after(AGENT_LIFE));
    let presented = fleet.admits(&issued.der, now()).expect("admitted");
    assert_eq!(presented, Presented { agent: agent(&node), key: node.public().digest(), expires: issued.expires });
    let half = now().after(AGENT_LIFE / 2);
    let (next, later) = (Node::new(), now().after(AGENT_LIFE + DAY / 4));
    let renewed = fleet.renew(&presented, &next, half).expect("a certificate");
    assert_eq!(fleet.admits(&renewed.der, later).expect("admitted").key, next.public().digest());
    assert!(fleet.admits(&issued.der, half).is_ok(), "the answer may have been lost");
    fleet.write(Change::Revoke { agent: agent(&node), reason: "stolen".to_owned() }, half).expect("revoked");
    let refused = Refusal::Revoked { agent: agent(&node), at: half, reason: "stolen".to_owned() };
    assert_eq!(fleet.admits(&renewed.der, half), Err(refused.clone()));
    assert_eq!(fleet.admits(&issued.der, half), Err(refused));
    assert!(matches!(fleet.renew(&presented, &next, half), Err(Error::Revoked(_))));
}

#[test]
fn a_request_gets_nothing_of_what_it_asks_for() {
    let (fleet, node) = (Fleet::new(), Node::new());
    let victim = format!("spiffe://{}/agent/{}", self::fleet(), AgentId::new([9; 16]));
    let key = PublicKey::of_request(&node.request_for(&victim)).expect("a key");
    assert_eq!(key.digest(), node.public().digest());
    let held = identity::enrol(&fleet.authority, &secret(), claim(now()), &key, now(), [3; 16]);
    let (change, held) = held.expect("a certificate");
    let issued = held.release(&fleet.write(change, now()).expect("an agent")).expect("a certificate");
    assert_eq!(fleet.admits(&issued.der, now()).expect("admitted").agent, agent(&node));
    use x509_parser::prelude::FromDer as _;
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&issued.der).expect("a certificate");
    assert!(!certificate.is_ca());
    assert_eq!(certificate.subject().to_string(), format!("CN=Ringwall agent {}", agent(&node)));
    let names = certificate.subject_alternative_name().expect("names").expect("names").value;
    assert_eq!(names.general_names.len(), 1);
    let usage = certificate.extended_key_usage().expect("usages").expect("usages").value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert_eq!(certificate.validity().not_after.timestamp() - certificate.validity().not_before.timestamp(), 86_400 + 300);
}

#[test]
fn a_request_must_be_signed_by_its_own_key_and_be_of_our_kind() {
    let node = Node::new();
    let mut changed = node.request();
    *changed.last_mut().expect("bytes") ^= 1;
    assert_eq!(PublicKey::of_request(&changed).err(), Some(Refusal::RequestSignature));
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    assert_eq!(PublicKey::of_request(&Node(ed25519).request()).err(), Some(Refusal::Key));
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
    assert_eq!(PublicKey::of_request(&Node(p384).request()).err(), Some(Refusal::Key));
    let longer = [node.request(), vec![0]].concat();
    for bad in [Vec::new(), vec![0; 100], vec![0x30; 100_000], longer, node.request()[..50].to_vec()] {
        assert!(matches!(PublicKey::of_request(&bad), Err(Refusal::Request(_))));
    }
}

#[test]
fn a_certificate_is_held_until_the_store_has_its_change() {
    let (fleet, node) = (Fleet::new(), Node::new());
    let make = || identity::enrol(&fleet.authority, &secret(), claim(now()), &node.public(), now(), [3; 16]);
    let (_, held) = make().expect("a certificate");
    assert_eq!(held.release(&Written::Nothing), None);
    let (_, held) = make().expect("a certificate");
    assert_eq!(held.release(&Written::Agent(AgentId::new([9; 16]))), None, "that is another's");
}

#[test]
fn a_node_whose_answer_was_lost_asks_again() {
    let (fleet, node) = (Fleet::new(), Node::new());
    fleet.enrol(&node, claim(now())).expect("a certificate that never arrives");
    let issued = fleet.enrol(&node, claim(now())).expect("a certificate");
    assert_eq!(fleet.admits(&issued.der, now()).expect("admitted").agent, agent(&node));
    let error = fleet.enrol(&Node::new(), claim(now())).expect_err("who heard the token has another key");
    assert!(matches!(error, Error::Token(token::Refusal::UsedUp { .. })), "{error}");
}

#[test]
fn a_token_is_not_used_twice() {
    let fleet = Fleet::new();
    fleet.enrol(&Node::new(), claim(now())).expect("a certificate");
    let mut other = claim(now());
    other.node = "edge-2".parse().expect("a name");
    other.addresses = ["192.0.2.2".parse().expect("an address")].into();
    let again = fleet.enrol(&Node::new(), other).expect_err("used up");
    assert!(matches!(again, Error::Token(token::Refusal::UsedUp { .. })));
    assert!(again.is_refusal());
    assert_eq!(again.to_stranger(), token::NOT_ACCEPTED);
}

#[test]
fn a_clock_that_is_wrong_by_a_day_is_named() {
    let fleet = Fleet::new();
    for (clock, direction) in [(now().before(DAY), "behind"), (now().after(DAY), "ahead of")] {
        let error = fleet.enrol(&Node::new(), claim(clock)).expect_err("refused");
        let Error::Token(refusal) = error else { panic!("{error}") };
        let expected = format!("the clock of `edge-1` is 86400 s {direction} the controller's; at most 300 s are accepted");
        assert_eq!(refusal.to_stranger(), expected);
    }
    // What is accepted can be used at once, on the node's own clock, too.
    let slow = now().before(token::MOST_SKEW);
    let issued = fleet.enrol(&Node::new(), claim(slow)).expect("a certificate");
    fleet.authority.check(&[&issued.der], slow).expect("it has begun on that clock");
    // The controller's own clock, set back and forth.
    let back = fleet.admits(&issued.der, now().before(DAY)).expect_err("not yet");
    assert!(matches!(back, Refusal::NotYet { ahead, .. } if ahead == DAY - token::MOST_SKEW), "{back}");
    let forth = fleet.admits(&issued.der, now().after(DAY * 2)).expect_err("over");
    assert!(matches!(forth, Refusal::Expired { ago, .. } if ago == DAY), "{forth}");
    assert!(forth.to_string().contains("86400 s ago by the controller's clock"), "{forth}");
}

#[test]
fn after_days_offline_the_key_is_proof() {
    let (fleet, node, next) = (Fleet::new(), Node::new(), Node::new());
    let issued = fleet.enrol(&node, claim(now())).expect("a certificate");
    let request = next.request();
    let message = signed_by_renewal(&request);
    let signature = node.signature(&message);
    let proof = Proof { certificate: &issued.der, request: &request, signature: &signature };
    let at = issued.expires.after(GRACE);
    let (presented, key) = identity::renew_by_proof(&fleet.authority, proof, at).expect("proved");
    assert_eq!((presented.agent, key.digest()), (agent(&node), next.public().digest()));
    let renewed = fleet.renew(&presented, &next, at).expect("a certificate");
    fleet.admits(&renewed.der, at).expect("admitted");

    let refused = |proof: Proof<'_>, at| identity::renew_by_proof(&fleet.authority, proof, at).err().expect("a refusal");
    let late = refused(proof, at.after(Duration::from_secs(1)));
    assert!(matches!(late, Refusal::Expired { .. }), "{late}");
    let by_another = next.signature(&message);
    assert_eq!(refused(Proof { signature: &by_another, ..proof }, at), Refusal::Proof(agent(&node)));
    let for_another = Node::new().request();
    assert_eq!(refused(Proof { request: &for_another, ..proof }, at), Refusal::Proof(agent(&node)));
    let bare = node.signature(&request);
    assert_eq!(refused(Proof { signature: &bare, ..proof }, at), Refusal::Proof(agent(&node)));
    assert_eq!(refused(Proof { signature: &[], ..proof }, at), Refusal::Proof(agent(&node)));
    // Whoever is revoked is not renewed, whatever is proved.
    fleet.write(Change::Revoke { agent: agent(&node), reason: "gone".to_owned() }, at).expect("revoked");
    assert!(matches!(fleet.renew(&presented, &next, at), Err(Error::Revoked(_))));
}

#[test]
fn certificates_of_others_are_refused() {
    let (fleet, node) = (Fleet::new(), Node::new());
    let issued = fleet.enrol(&node, claim(now())).expect("a certificate");
    // Another CA, even of the same name.
    let others = Fleet { authority: authority(), store: Memory::new(Keep::default()) };
    others.write(Change::CreateToken(token()), now()).expect("a token");
    let theirs = others.enrol(&node, claim(now())).expect("a certificate");
    assert_eq!(fleet.admits(&theirs.der, now()), Err(Refusal::Foreign));
    let own = fleet.authority.own(&"main".parse().expect("a name"), &[], now(), [1; 16]).expect("a certificate");
    assert!(matches!(fleet.admits(&own.certificate.der, now()), Err(Refusal::NotAgent(name)) if name.ends_with("/controller/main")));
    assert!(matches!(fleet.admits(fleet.authority.certificate(), now()), Err(Refusal::NotAgent(_))));
    assert_eq!(fleet.authority.check(&[], now()), Err(Refusal::Nothing));
    let mut changed = issued.der.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    fleet.admits(&changed, now()).expect_err("changed");
    let longer = [issued.der.clone(), vec![0]].concat();
    for bad in [Vec::new(), vec![0x30; 5000], longer, issued.der[..100].to_vec()] {
        assert!(matches!(fleet.admits(&bad, now()), Err(Refusal::Certificate(_))));
    }
    // Ours, and not in the store: an agent that enrolled after the backup that was restored.
    let empty = Fleet { authority: fleet.authority, store: Memory::new(Keep::default()) };
    assert_eq!(empty.admits(&issued.der, now()), Err(Refusal::Unknown(agent(&node))));
}

#[test]
fn no_changed_byte_changes_who_it_is() {
    let (fleet, node) = (Fleet::new(), Node::new());
    let issued = fleet.enrol(&node, claim(now())).expect("a certificate");
    let expected = fleet.admits(&issued.der, now()).expect("admitted");
    for original in [issued.der.clone(), node.request()] {
        for index in 0..original.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = original.clone();
                bytes[index] ^= flip;
                // What is around the signed part may be written in more than one way.
                if let Ok(presented) = fleet.authority.check(&[&bytes], now()) {
                    assert_eq!(presented, expected, "byte {index} of {}", original.len());
                }
                if let Ok(key) = PublicKey::of_request(&bytes) {
                    assert_eq!(key.digest(), expected.key, "byte {index} of {}", original.len());
                }
            }
        }
    }
}
