//! Who this node is to its fleet: a key that was made here, and a certificate for it.
//!
//! In: a token, the controller's answers, the state folder. Out: files, and TLS with them. Never: a key that leaves the
//! machine, a controller that the token does not name, half a change on disk.
//!
//! ```text
//! identity/key.pem            the key, its owner's alone
//! identity/certificate.pem    the certificate that was made for it
//! identity/ca.pem             what signs the controller's certificate, and ours
//! identity/controllers        where the controller is, a line each
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair, SigningKey as _};
use ringwall_protocol::wire::enrolment_client::EnrolmentClient;
use ringwall_protocol::{Enrol, Enrolled, Facts, Invitation, Renew, Reply, VERSIONS, signed_by_renewal, wire};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};
use x509_parser::extensions::GeneralName;

use crate::connection::{ConnectError, Controller};

const FOLDER: &str = "identity";
const CERTIFICATE: &str = "certificate.pem";

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("can't use {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("this node is not enrolled: make a token with `ringwall token create`, then run `ringwall-agent enrol TOKEN`")]
    None,
    #[error("this node is enrolled already: `ringwall-agent forget` gives that up")]
    Already,
    #[error("`{0}` is no address of a controller")]
    Address(String),
    #[error("the key could not be made or used")]
    Key(#[from] rcgen::Error),
    #[error("TLS can't be used with this identity")]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// What the controller says of it; it has the reason in its log.
    #[error("the controller did not let this node in: {}", .0.message())]
    Refused(Status),
    #[error("the controller can't answer now: {}", .0.message())]
    Unavailable(Status),
    #[error("the controller's answer is not as it must be")]
    Answer(#[from] ringwall_protocol::Invalid),
    #[error("this machine's clock and the controller's are {seconds} s apart: set the clock first")]
    Clock { seconds: u64 },
}

/// The clocks may differ by so much: what a fresh certificate is backdated by.
const SKEW_MAX: u64 = 300;

/// What is on disk.
#[derive(Debug)]
pub struct Identity {
    folder: PathBuf,
    key: KeyPair,
    certificate: CertificateDer<'static>,
    ca: CertificateDer<'static>,
    controllers: Vec<String>,
}

/// How an enrolment goes.
pub enum Progress {
    Done(Identity),
    /// An operator must approve it; to be asked again after so many seconds.
    Pending { retry: u32 },
}

/// What a first connection is made with.
pub struct Enrolment {
    folder: PathBuf,
    key: KeyPair,
    invitation: Invitation,
}

fn folder(state: &Path) -> PathBuf {
    state.join(FOLDER)
}

impl Enrolment {
    /// The key is made at the first time, and used again when an answer was lost.
    pub fn new(state: &Path, invitation: Invitation) -> Result<Self, IdentityError> {
        let folder = folder(state);
        if folder.join("certificate.pem").exists() {
            return Err(IdentityError::Already);
        }
        let failed = |source| IdentityError::File { path: folder.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        let path = folder.join("key.pem");
        let key = match fs::read_to_string(&path) {
            Ok(text) => KeyPair::from_pem(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate()?;
                write(&path, key.serialize_pem().as_bytes())?;
                key
            }
            Err(source) => return Err(IdentityError::File { path, source }),
        };
        Ok(Self { folder, key, invitation })
    }

    /// Asks once. `node` is the name that the node would like.
    pub async fn ask(&self, node: &str, facts: Facts) -> Result<Progress, IdentityError> {
        let pin = Arc::new(Pinned { fingerprint: self.invitation.ca, provider: provider() });
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let mut tls = config.dangerous().with_custom_certificate_verifier(pin).with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tls = Arc::new(tls);
        let csr = CertificateParams::default().serialize_request(&self.key)?;
        let request = Enrol {
            versions: VERSIONS,
            token: *self.invitation.secret.bytes(),
            csr: csr.der().to_vec().into(),
            node: node.to_owned(),
            facts,
        };
        let controller = controller(self.invitation.controllers(), tls)?;
        let channel = controller.channel().await?;
        let reply = EnrolmentClient::new(channel).enrol(wire::EnrolRequest::from(request)).await.map_err(refused)?;
        let Reply { outcome, time } = Reply::try_from(reply.into_inner())?;
        let skew = seconds().abs_diff(time);
        if skew > SKEW_MAX {
            return Err(IdentityError::Clock { seconds: skew });
        }
        let certificates = match outcome {
            Enrolled::Pending { retry } => return Ok(Progress::Pending { retry }),
            Enrolled::Identity { certificates, .. } => certificates,
        };
        // The one that the token names is among them, or it is another's answer.
        let ca = certificates.iter().find(|der| Sha256::digest(der)[..] == self.invitation.ca);
        let (Some(certificate), Some(ca)) = (certificates.first(), ca) else {
            let why = "the CA of the token is not in the controller's answer".to_owned();
            return Err(IdentityError::Damaged { path: self.folder.clone(), why });
        };
        write(&self.folder.join("ca.pem"), pem("CERTIFICATE", ca).as_bytes())?;
        write(&self.folder.join("controllers"), (self.invitation.controllers().join("\n") + "\n").as_bytes())?;
        // The last one: with it the node is enrolled.
        write(&self.folder.join("certificate.pem"), pem("CERTIFICATE", certificate).as_bytes())?;
        Ok(Progress::Done(Identity::read_folder(self.folder.clone())?))
    }
}

impl Identity {
    pub fn read(state: &Path) -> Result<Self, IdentityError> {
        Self::read_folder(folder(state))
    }

    fn read_folder(folder: PathBuf) -> Result<Self, IdentityError> {
        let text = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|source| match source.kind() {
                // It is written last: without it there was no enrolment; without another one, something was lost.
                io::ErrorKind::NotFound if name == CERTIFICATE => IdentityError::None,
                _ => IdentityError::File { path, source },
            })
        };
        let certificate = |name: &str| {
            let damaged = |why: String| IdentityError::Damaged { path: folder.join(name), why };
            CertificateDer::from_pem_slice(text(name)?.as_bytes()).map_err(|error| damaged(error.to_string()))
        };
        let (own, ca) = (certificate(CERTIFICATE)?, certificate("ca.pem")?);
        let key = KeyPair::from_pem(&text("key.pem")?)?;
        let controllers = text("controllers")?.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect();
        Ok(Self { folder, key, certificate: own, ca, controllers })
    }

    /// Gives it up: who wants back enrols anew.
    pub fn forget(state: &Path) -> Result<(), IdentityError> {
        let folder = folder(state);
        for name in ["certificate.pem", "key.pem", "ca.pem", "controllers"] {
            let path = folder.join(name);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(IdentityError::File { path, source }),
                _ => {}
            }
        }
        Ok(())
    }

    /// The fleet's name and the agent's, as the certificate has them (`spiffe://FLEET/agent/UUID`).
    pub fn names(&self) -> Option<(String, String)> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.certificate).ok()?;
        let names = parsed.subject_alternative_name().ok()??.value.general_names.iter();
        names.filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("spiffe://")?.split_once("/agent/"),
            _ => None,
        }).map(|(fleet, agent)| (fleet.to_owned(), agent.to_owned())).next()
    }

    /// Where the controller is, as the token said.
    pub fn controllers(&self) -> &[String] {
        &self.controllers
    }

    /// How long the certificate is still good; nothing once it has ended.
    pub fn valid(&self) -> Duration {
        let end = x509_parser::parse_x509_certificate(&self.certificate).ok().map(|(_, parsed)| parsed.validity().not_after.timestamp());
        let end = end.and_then(|end| u64::try_from(end).ok()).unwrap_or(0);
        Duration::from_secs(end.saturating_sub(seconds()))
    }

    /// The way to the controller, as this node.
    pub fn controller(&self) -> Result<Controller, IdentityError> {
        let config = self.config()?;
        // Once it has ended it is no use in a handshake: a renewal proves the key by itself.
        let mut tls = if self.valid().is_zero() {
            config.with_no_client_auth()
        } else {
            let key = PrivateKeyDer::try_from(self.key.serialize_der()).map_err(|why| IdentityError::Damaged { path: self.folder.join("key.pem"), why: why.into() })?;
            config.with_client_auth_cert(vec![self.certificate.clone()], key)?
        };
        tls.alpn_protocols = vec![b"h2".to_vec()];
        controller(&self.controllers, Arc::new(tls))
    }

    fn config(&self) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, IdentityError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone())?;
        Ok(ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?.with_root_certificates(roots))
    }

    /// Gets the next certificate, for a new key, and writes both down.
    pub async fn renew(&self) -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let csr = CertificateParams::default().serialize_request(&key)?.der().to_vec();
        let signature = self.key.sign(&signed_by_renewal(&csr))?;
        let request = Renew { certificate: self.certificate.to_vec().into(), csr: csr.into(), signature: signature.into() };
        let channel = self.controller()?.channel().await?;
        let reply = EnrolmentClient::new(channel).renew(wire::RenewRequest::from(request)).await.map_err(refused)?;
        let Reply { outcome: Enrolled::Identity { certificates, .. }, .. } = Reply::try_from(reply.into_inner())? else {
            return Err(IdentityError::Refused(Status::permission_denied("an operator must approve it anew")));
        };
        let certificate = CertificateDer::from(certificates[0].to_vec());
        // Key and certificate change at once: a file that holds both, then one name for it. Until then the old ones count.
        write(&self.folder.join("next.pem"), (key.serialize_pem() + &pem("CERTIFICATE", &certificate)).as_bytes())?;
        self.take_next()?;
        Self::read_folder(self.folder.clone())
    }

    /// Finishes a renewal that was cut short.
    fn take_next(&self) -> Result<(), IdentityError> {
        let path = self.folder.join("next.pem");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(IdentityError::File { path, source }),
        };
        let damaged = |why: String| IdentityError::Damaged { path: path.clone(), why };
        let key = KeyPair::from_pem(&text)?;
        let certificate = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| damaged(error.to_string()))?;
        write(&self.folder.join("key.pem"), key.serialize_pem().as_bytes())?;
        write(&self.folder.join("certificate.pem"), pem("CERTIFICATE", &certificate).as_bytes())?;
        fs::remove_file(&path).map_err(|source| IdentityError::File { path, source })
    }

    /// What a machine that was stopped in a renewal left is made whole.
    pub fn open(state: &Path) -> Result<Self, IdentityError> {
        let identity = Self::read(state)?;
        identity.take_next()?;
        Self::read(state)
    }
}

/// The controller's chain is known by the CA's fingerprint alone, which the token carries.
#[derive(Debug)]
struct Pinned {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ca = intermediates.iter().find(|der| Sha256::digest(der)[..] == self.fingerprint);
        let ca = ca.ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone()).build();
        let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(&self, message: &[u8], certificate: &CertificateDer<'_>, signed: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(&self, message: &[u8], certificate: &CertificateDer<'_>, signed: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// `host:port` or `[address]:port`; the first one's host is the name that the certificate must have.
fn controller(addresses: &[String], tls: Arc<ClientConfig>) -> Result<Controller, IdentityError> {
    let wrong = |text: &str| IdentityError::Address(text.to_owned());
    let parsed: Vec<(String, u16)> = addresses.iter().map(|text| {
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong(text))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok::<_, IdentityError>((host.to_owned(), port.parse().map_err(|_| wrong(text))?))
    }).collect::<Result<_, _>>()?;
    let (host, _) = parsed.first().ok_or_else(|| wrong(""))?;
    let name = ServerName::try_from(host.clone()).map_err(|_| wrong(host))?;
    Ok(Controller { addresses: parsed, name, tls })
}

fn refused(status: Status) -> IdentityError {
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument | Code::FailedPrecondition => IdentityError::Refused(status),
        _ => IdentityError::Unavailable(status),
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(label, der))
}

/// Whole at any moment: beside it, flushed, then renamed.
fn write(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let failed = |source| IdentityError::File { path: path.to_owned(), source };
    let part = path.with_extension("part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&part, path).map_err(failed)?;
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
