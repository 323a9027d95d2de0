//! A node's identity against a real controller on loopback: enrolled, renewed, renewed after its end, cut short.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringwall_agent::identity::{Enrolment, Identity, IdentityError, Progress};
use ringwall_controller::audit::{Actor, Audited};
use ringwall_controller::change::{Change, Write, Written};
use ringwall_controller::fleet::Fleet;
use ringwall_controller::id::{Digest, Epoch, FleetId, TokenId};
use ringwall_controller::identity::{self, Authority, Invitation, PublicKey, Secret};
use ringwall_controller::server::{self, Agents};
use ringwall_controller::store::{Keep, Read as _, Sqlite, Store as _};
use ringwall_controller::system::{fill, now, random};
use ringwall_controller::token::{Terms, Token};
use ringwall_protocol::Facts;

struct Rig {
    folder: PathBuf,
    store: Arc<Sqlite>,
    authority: Arc<Authority>,
    port: u16,
    server: tokio::task::JoinHandle<std::io::Error>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.server.abort();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Rig {
    async fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ringwall-identity-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("node")).expect("a folder");
        let store = Arc::new(Sqlite::open(&folder.join("store.db"), Keep::default()).await.expect("a store"));
        let authority = Arc::new(identity::open(&folder, None, FleetId::new(random()), now()).expect("a CA"));
        let fleet = Fleet { id: authority.fleet(), epoch: Epoch(1), ca: authority.fingerprint(), created: now() };
        change(&store, Change::Found(fleet)).await;
        let control = server::drive(store.clone(), now, Vec::new()).await.expect("the core");
        let own = authority.own(&"controller".parse().expect("a name"), &["127.0.0.1".to_owned()], now(), random()).expect("a certificate");
        let acceptor = server::acceptor(&authority, &own).expect("TLS");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let agents = Agents::new(store.clone(), authority.clone(), control, now, fill);
        let server = tokio::spawn(server::serve(listener, agents, move || acceptor.clone()));
        Self { folder, store, authority, port, server }
    }

    async fn token(&self, ca: [u8; 32]) -> Invitation {
        let secret = Secret::new(random());
        let terms = Terms {
            uses: NonZeroU32::MIN,
            expires: now().after(Duration::from_secs(600)),
            node: None,
            site: None,
            labels: Default::default(),
            location: None,
            prefixes: Vec::new(),
            needs_approval: false,
        };
        let digest = Digest(secret.digest());
        let token = Token { id: TokenId::new(random()), secret: digest, terms, created: now(), used: 0, revoked: None };
        change(&self.store, Change::CreateToken(token)).await;
        Invitation::new(secret, ca, vec![format!("127.0.0.1:{}", self.port)]).expect("a word")
    }

    fn state(&self) -> PathBuf {
        self.folder.join("node")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.state().join("identity").join(name)
    }

    async fn member(&self) -> Identity {
        let enrolment = Enrolment::new(&self.state(), self.token(self.authority.fingerprint().0).await).expect("a key");
        match enrolment.ask("node-1", Facts::default()).await.expect("it is let in") {
            Progress::Done(identity) => identity,
            Progress::Pending { .. } => panic!("it need not be approved"),
        }
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).expect("a file")
    }
}

async fn change(store: &Sqlite, change: Change) -> Written {
    let part = Write::Change(Audited { who: Actor::Local("root".into()), at: now(), change });
    store.write(vec![part]).await.expect("it is kept").remove(0)
}

#[tokio::test]
async fn a_certificate_is_renewed_for_a_new_key_each_time() {
    let rig = Rig::new("renewed").await;
    let identity = rig.member().await;
    assert!(matches!(Enrolment::new(&rig.state(), rig.token([0; 32]).await), Err(IdentityError::Already)));
    let day = Duration::from_secs(86_400);
    assert!(identity.valid() <= day && identity.valid() > day / 2, "{:?}", identity.valid());
    let (key, certificate) = (rig.read("key.pem"), rig.read("certificate.pem"));
    let identity = identity.renew().await.expect("it is renewed");
    assert_ne!((rig.read("key.pem"), rig.read("certificate.pem")), (key.clone(), certificate.clone()));
    identity.renew().await.expect("it is renewed with what it got");

    // The machine stopped between two of a renewal's files: the new pair is beside the old one.
    let (newer_key, newer) = (rig.read("key.pem"), rig.read("certificate.pem"));
    std::fs::write(rig.file("next.pem"), format!("{newer_key}{newer}")).expect("a file");
    std::fs::write(rig.file("certificate.pem"), certificate).expect("a file");
    Identity::open(&rig.state()).expect("it is made whole");
    assert_eq!((rig.read("key.pem"), rig.read("certificate.pem")), (newer_key, newer));
    assert!(!rig.file("next.pem").exists());

    Identity::forget(&rig.state()).expect("it is given up");
    assert!(matches!(Identity::open(&rig.state()), Err(IdentityError::None)));
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_renewed_by_proof_of_its_key() {
    let rig = Rig::new("ended").await;
    rig.member().await;
    // What the same key had two days ago, when the machine was switched off.
    let key = rcgen::KeyPair::from_pem(&rig.read("key.pem")).expect("a key");
    let request = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
    let agent = rig.store.read().await.expect("a snapshot").agents().await.expect("rows").remove(0);
    let public = PublicKey::of_request(request.der()).expect("a key");
    let then = now().before(Duration::from_secs(2 * 86_400));
    let presented = identity::Presented { agent: agent.id, key: public.digest(), expires: then };
    let (_, held) = identity::renew(&rig.authority, &presented, &public, then, random()).expect("a certificate");
    let ended = held.release(&Written::Agent(agent.id)).expect("it is its own");
    std::fs::write(rig.file("certificate.pem"), pem::encode(&pem::Pem::new("CERTIFICATE", ended.der))).expect("a file");
    let identity = Identity::open(&rig.state()).expect("an identity");
    assert_eq!(identity.valid(), Duration::ZERO);
    let identity = identity.renew().await.expect("it is renewed");
    assert!(identity.valid() > Duration::from_secs(43_200));

    // Whose agent was revoked gets no more.
    change(&rig.store, Change::Revoke { agent: agent.id, reason: "stolen".into() }).await;
    assert!(matches!(identity.renew().await, Err(IdentityError::Refused(_))));
}

#[tokio::test]
async fn a_controller_that_the_token_does_not_name_gets_nothing() {
    let rig = Rig::new("other").await;
    let enrolment = Enrolment::new(&rig.state(), rig.token([7; 32]).await).expect("a key");
    assert!(matches!(enrolment.ask("node-1", Facts::default()).await, Err(IdentityError::Connect(_))));
    let tokens = rig.store.read().await.expect("a snapshot").tokens().await.expect("rows");
    assert!(tokens.iter().all(|token| token.used == 0), "the secret did not go out");
    assert!(matches!(Identity::open(&rig.state()), Err(IdentityError::None)));
}
