//! The way to the controller: TCP, TLS, HTTP/2, each time from the name on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use ringwall_protocol::MESSAGE_MAX;
use ringwall_protocol::wire::fleet_client::FleetClient;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

/// For TCP and TLS together.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the controller is, and how it and we are known.
#[derive(Clone)]
pub struct Controller {
    /// Tried in this order: host names or addresses, with ports.
    pub addresses: Vec<(String, u16)>,
    /// What its certificate must say.
    pub name: ServerName<'static>,
    /// With our certificate in it. ALPN must offer `h2` (RFC 9113 §3.3).
    pub tls: Arc<ClientConfig>,
}

/// No connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no controller can be reached")]
    Unreachable(#[source] io::Error),
    #[error("the controller does not speak HTTP/2")]
    Http(#[from] tonic::transport::Error),
}

impl Controller {
    /// A new connection, shared with nothing.
    pub async fn connect(&self) -> Result<FleetClient<Channel>, ConnectError> {
        let channel = self.channel().await?;
        Ok(FleetClient::new(channel).max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX))
    }

    pub(crate) async fn channel(&self) -> Result<Channel, ConnectError> {
        let mut stream = Some(self.dial().await.map_err(ConnectError::Unreachable)?);
        // The stream is there already: once it ends there is no other.
        let connector = tower::service_fn(move |_: Uri| {
            let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
            std::future::ready(stream.map(TokioIo::new))
        });
        let endpoint = Endpoint::from_static("http://controller").connect_timeout(TIMEOUT);
        Ok(endpoint.connect_with_connector(connector).await?)
    }

    async fn dial(&self) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for (host, port) in &self.addresses {
            let dialled = async {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                TlsConnector::from(self.tls.clone()).connect(self.name.clone(), stream).await
            };
            match tokio::time::timeout(TIMEOUT, dialled).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failed = error,
                Err(_) => failed = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(failed)
    }
}
