//! Which TLS version a server agrees to.
//!
//! In: a connected socket. Out: a [`Tls`]. Never: trust: certificates are not looked at, nothing is
//! sent after the handshake, and whatever the server says ends here.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

use ringwall_probe::{Tls, TlsVersion};

/// A handshake under way, for a socket that does not block.
pub struct Greeting {
    connection: ClientConnection,
}

/// One configuration for all handshakes.
pub fn configuration() -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl Greeting {
    pub fn new(config: Arc<ClientConfig>, server: IpAddr) -> Result<Self, Error> {
        ClientConnection::new(config, ServerName::IpAddress(server.into())).map(|connection| Self { connection })
    }

    /// Goes on as far as the socket lets it; `None` when it must wait for the server.
    pub fn advance(&mut self, mut socket: impl Read + Write) -> Option<Tls> {
        loop {
            let result = if self.connection.wants_write() {
                self.connection.write_tls(&mut socket)
            } else {
                self.connection.read_tls(&mut socket)
            };
            match result {
                Ok(0) => return Some(Tls::None("the server closed the connection".into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Some(Tls::None("the connection broke".into())),
            }
            let processed = self.connection.process_new_packets();
            match self.connection.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => return Some(Tls::Version(TlsVersion::V1_2)),
                Some(rustls::ProtocolVersion::TLSv1_3) => return Some(Tls::Version(TlsVersion::V1_3)),
                _ => {}
            }
            match processed {
                Ok(_) => {}
                // An alert (RFC 5246 §7.2.2), or a greeting in an older version.
                Err(Error::AlertReceived(AlertDescription::ProtocolVersion) | Error::PeerIncompatible(_)) => {
                    return Some(Tls::TooOld);
                }
                Err(Error::AlertReceived(alert)) => {
                    return Some(Tls::None(format!("the server refused the handshake ({alert:?})")));
                }
                Err(_) => return Some(Tls::None("the server does not speak TLS".into())),
            }
        }
    }
}

/// Accepts every certificate. The only question is the version, which the server names before any
/// secret passes; to ask more would report a private CA as an old version.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
