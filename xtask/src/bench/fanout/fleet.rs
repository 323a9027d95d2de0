//! A fleet for the benchmark: a store with all agents enrolled, and their identities in a file.
//!
//! In: how many. Out: what the controller needs, and what the agents need. Never: left behind.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringwall_controller::audit::{Actor, Audited};
use ringwall_controller::change::{Change, Write};
use ringwall_controller::fleet::Fleet as Founded;
use ringwall_controller::id::{Digest, Epoch, FleetId, TokenId};
use ringwall_controller::identity::{self, Authority, PublicKey, Secret};
use ringwall_controller::server;
use ringwall_controller::store::{Keep, Sqlite, Store as _};
use ringwall_controller::system::{now, random};
use ringwall_controller::token::{Claim, Terms, Token};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsAcceptor;

use super::Result;

pub struct Fleet {
    pub folder: PathBuf,
    pub store: Arc<Sqlite>,
    pub authority: Arc<Authority>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Fleet {
    pub async fn new(count: usize) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("ringwall-fanout-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let store = Arc::new(Sqlite::open(&folder.join("store.db"), Keep::default()).await?);
        let authority = Arc::new(identity::open(&folder, None, FleetId::new(random()), now())?);
        let fleet = Self { folder, store, authority };
        let founded = Founded { id: fleet.authority.fleet(), epoch: Epoch(1), ca: fleet.authority.fingerprint(), created: now() };
        let secret = Secret::new(random());
        let terms = Terms {
            uses: NonZeroU32::new(u32::try_from(count)?).ok_or("no agents")?,
            expires: now().after(Duration::from_secs(600)),
            node: None,
            site: None,
            labels: Default::default(),
            location: None,
            prefixes: vec!["10.0.0.0/8".parse()?],
            needs_approval: false,
        };
        let token = Token { id: TokenId::new(random()), secret: Digest(secret.digest()), terms, created: now(), used: 0, revoked: None };
        fleet.write(vec![Change::Found(founded), Change::CreateToken(token)]).await?;
        let (mut changes, mut held, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..count {
            let key = rcgen::KeyPair::generate()?;
            let request = rcgen::CertificateParams::default().serialize_request(&key)?;
            let public = PublicKey::of_request(request.der()).map_err(|error| error.to_string())?;
            let claim = Claim { node: format!("node-{at}").parse()?, addresses: [IpAddr::from(address(at))].into(), clock: None };
            let (change, issued) = identity::enrol(&fleet.authority, &secret, claim, &public, now(), random())?;
            changes.push(change);
            held.push(issued);
            keys.push(key.serialize_der());
        }
        let written = fleet.write(changes).await?;
        let mut file = Vec::new();
        let mut put = |bytes: &[u8]| {
            file.extend(u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
            file.extend(bytes);
        };
        put(fleet.authority.certificate());
        for ((held, written), key) in held.into_iter().zip(&written).zip(keys) {
            put(&held.release(written).ok_or("an agent was not let in")?.der);
            put(&key);
        }
        fs::write(identities(&fleet.folder), file)?;
        Ok(fleet)
    }

    async fn write(&self, changes: Vec<Change>) -> Result<Vec<ringwall_controller::change::Written>> {
        let part = |change| Write::Change(Audited { who: Actor::Local("bench".into()), at: now(), change });
        Ok(self.store.write(changes.into_iter().map(part).collect()).await?)
    }

    pub fn acceptor(&self) -> Result<TlsAcceptor> {
        let own = self.authority.own(&"controller".parse()?, &["localhost".to_owned()], now(), random())?;
        Ok(server::acceptor(&self.authority, &own)?)
    }
}

/// Each agent's own.
pub fn address(at: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0001 + u32::try_from(at).unwrap_or(0))
}

fn identities(folder: &Path) -> PathBuf {
    folder.join("identities")
}

/// What each agent shows of itself when it connects.
pub fn clients(folder: &Path) -> Result<Vec<Arc<ClientConfig>>> {
    let file = fs::read(identities(folder))?;
    let mut rest = &file[..];
    let mut next = || -> Option<Vec<u8>> {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (bytes, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        rest = after;
        Some(bytes.to_vec())
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(next().ok_or("the CA")?))?;
    let (roots, provider) = (Arc::new(roots), Arc::new(rustls::crypto::ring::default_provider()));
    let mut all = Vec::new();
    while let (Some(certificate), Some(key)) = (next(), next()) {
        let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
        let mut config = config.with_root_certificates(roots.clone()).with_client_auth_cert(vec![certificate.into()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        all.push(Arc::new(config));
    }
    Ok(all)
}
