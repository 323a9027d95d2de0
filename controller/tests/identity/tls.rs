//! The certificates in TLS, as rustls sees them.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use ringwall_controller::identity::{Authority, Issued, Own};
use ringwall_controller::time::Time;

use crate::identity::{DAY, Fleet, Node, agent, authority, claim, now};

#[derive(Debug)]
struct Clock(Time);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(self.0.as_second()).ok()?)))
    }
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().to_vec().into()).expect("a root");
    roots.into()
}

fn own(authority: &Authority, at: Time) -> Own {
    authority.own(&"main".parse().expect("a name"), &["controller.example.net".to_owned(), "192.0.2.9".to_owned()], at, [1; 16]).expect("ours")
}

fn key(der: &[u8]) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(der.to_vec().into())
}

/// What the server knows of the client at the end, or the first error of either end.
fn handshake(
    authority: &Authority,
    own: &Own,
    client: Option<(&Issued, &Node)>,
    host: &'static str,
    server_clock: Time,
    client_clock: Time,
) -> Result<Option<Vec<u8>>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(authority), provider.clone()).allow_unauthenticated();
    let server = ServerConfig::builder_with_details(provider.clone(), Arc::new(Clock(server_clock)))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(vec![CertificateDer::from(own.certificate.der.clone())], key(&own.key))?;
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Clock(client_clock)))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(authority));
    let config = match client {
        Some((issued, node)) => {
            builder.with_client_auth_cert(vec![CertificateDer::from(issued.der.clone())], key(node.0.serialized_der()))?
        }
        None => builder.with_no_client_auth(),
    };
    let mut client = ClientConnection::new(config.into(), ServerName::try_from(host).expect("a host"))?;
    let mut server = ServerConnection::new(server.into())?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("memory");
        server.read_tls(&mut bytes.as_slice()).expect("memory");
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).expect("memory");
        client.read_tls(&mut bytes.as_slice()).expect("memory");
        client.process_new_packets()?;
    }
    Ok(server.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec()))
}

#[test]
fn both_ends_accept_what_the_fleet_s_authority_made() {
    let (fleet, node) = (Fleet::new(), Node::new());
    let issued = fleet.enrol(&node, claim(now())).expect("a certificate");
    let own = own(&fleet.authority, now());
    for host in ["controller.example.net", "192.0.2.9"] {
        let leaf = handshake(&fleet.authority, &own, Some((&issued, &node)), host, now(), now()).expect("a handshake");
        let leaf = leaf.expect("a certificate");
        assert_eq!(fleet.admits(&leaf, now()).expect("admitted").agent, agent(&node));
    }
    // Before enrolment there is none, and methods that need one see that.
    assert_eq!(handshake(&fleet.authority, &own, None, "192.0.2.9", now(), now()).expect("a handshake"), None);
    handshake(&fleet.authority, &own, None, "192.0.2.8", now(), now()).expect_err("another host");
}

#[test]
fn foreign_and_expired_certificates_end_the_handshake() {
    let (fleet, node) = (Fleet::new(), Node::new());
    let issued = fleet.enrol(&node, claim(now())).expect("a certificate");
    let own = own(&fleet.authority, now());
    let try_with = |client, server_clock| handshake(&fleet.authority, &own, client, "192.0.2.9", server_clock, now());
    try_with(Some((&issued, &node)), now().after(DAY * 2)).expect_err("expired");
    let other = Node::new();
    try_with(Some((&issued, &other)), now()).expect_err("another's key");
    let others = Fleet { authority: authority(), ..Fleet::new() };
    let theirs = others.enrol(&node, claim(now())).expect("a certificate");
    try_with(Some((&theirs, &node)), now()).expect_err("foreign");
    // An agent's certificate is not a server's.
    let mut as_server = self::own(&fleet.authority, now());
    (as_server.certificate, as_server.key) = (issued.clone(), node.0.serialized_der().to_vec());
    handshake(&fleet.authority, &as_server, None, "192.0.2.9", now(), now()).expect_err("for clients only");
}

#[test]
fn a_node_whose_clock_is_wrong_by_a_day_still_hears_why() {
    let authority = authority();
    let own = own(&authority, now());
    let last = now().after(ringwall_controller::identity::CONTROLLER_LIFE / 2);
    assert!(!own.is_due(last.before(Duration::from_secs(1))) && own.is_due(last) && own.is_due(now().before(DAY)));
    for (at, clock) in [(now(), now().before(DAY)), (now(), now().after(DAY)), (last, last.after(DAY)), (last, last.before(DAY))] {
        handshake(&authority, &own, None, "192.0.2.9", at, clock).expect("a handshake");
    }
}
