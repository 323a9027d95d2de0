//! TLS of the agents' port.
//!
//! In: the CA, the controller's own certificate. Out: what takes connections. Never: TLS before 1.2, a cipher
//! without forward secrecy, a client certificate of another CA. None at all is let in to enrol.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::identity::{Authority, Own};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the CA's certificate can't be used")]
    Authority(#[source] rustls::Error),
    #[error("clients' certificates can't be verified")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("the controller's own certificate can't be used")]
    Own(#[source] rustls::Error),
}

pub fn acceptor(authority: &Authority, own: &Own) -> Result<TlsAcceptor, TlsError> {
    let provider = provider();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.certificate().to_vec())).map_err(TlsError::Authority)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).allow_unauthenticated().build()?;
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12]);
    let (chain, key) = shown(authority, own);
    let config = config.map_err(TlsError::Own)?.with_client_cert_verifier(verifier).with_single_cert(chain, key);
    let mut config = config.map_err(TlsError::Own)?;
    // RFC 9113 §3.3; gRPC needs HTTP/2.
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Each connection shows its certificate anew: one that was revoked is not taken up again by a ticket.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Of the operators' port: they are known by keys, not by certificates.
pub fn api_acceptor(authority: &Authority, own: &Own) -> Result<TlsAcceptor, TlsError> {
    let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12]);
    let (chain, key) = shown(authority, own);
    let config = config.map_err(TlsError::Own)?.with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(TlsError::Own)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The controller's chain, with the CA in it: who enrols knows that by its fingerprint alone.
fn shown(authority: &Authority, own: &Own) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = vec![own.certificate.der.clone().into(), authority.certificate().to_vec().into()];
    (chain, PrivatePkcs8KeyDer::from(own.key.clone()).into())
}
