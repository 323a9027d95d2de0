//! The fleet's CA, and what it issues.
//!
//! In: a key to certify, whose it is, the time. Out: certificates. Never: anything that the request
//! says but its key.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509CertificationRequest};

use super::{Error, Name, Refusal};
use crate::id::{AgentId, Digest, FleetId, NodeName};
use crate::time::Time;

const DAY: Duration = Duration::from_secs(86_400);

/// Of an agent's certificate; it is renewed at half of it.
pub const AGENT_LIFE: Duration = DAY;

/// An agent's certificate begins this much before now, for clocks that are behind.
pub const BACKDATE: Duration = crate::token::MOST_SKEW;

/// Of the controller's own certificate; made anew at half of it, and at each start.
pub const CONTROLLER_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// What the controller shows must be valid on a clock that is wrong by a day, or a node could never
/// be told that its clock is: TLS would end first. Half of [`CONTROLLER_LIFE`] covers the other side.
const FAR_BACKDATE: Duration = Duration::from_secs(2 * 86_400);

/// Of the CA: 10 years.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3652 * 86_400);

/// A key or a request longer than this is not looked at; real ones have some hundred bytes.
const MOST_BYTES: usize = 16 * 1024;

/// A public key (ECDSA on P-256) whose owner proved to have the private one.
pub struct PublicKey {
    info: SubjectPublicKeyInfo,
    digest: Digest,
}

impl PublicKey {
    /// Of a certification request (PKCS #10, RFC 2986): its signature is checked, its key is taken,
    /// and its name, extensions and attributes are not looked at.
    pub fn of_request(der: &[u8]) -> Result<Self, Refusal> {
        let unreadable = |reason: &dyn ToString| Refusal::Request(reason.to_string());
        if der.len() > MOST_BYTES {
            return Err(unreadable(&"it is too long"));
        }
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|error| unreadable(&error))?;
        if !rest.is_empty() {
            return Err(unreadable(&"there is something after its end"));
        }
        request.verify_signature().map_err(|_| Refusal::RequestSignature)?;
        let key = &request.certification_request_info.subject_pki;
        let info = SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| Refusal::Key)?;
        if rcgen::PublicKeyData::algorithm(&info) != &PKCS_ECDSA_P256_SHA256 {
            return Err(Refusal::Key);
        }
        Ok(Self { digest: Digest::of(key.raw), info })
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// A certificate that the CA made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    pub der: Vec<u8>,
    pub expires: Time,
}

/// The controller's own key and certificate. They are in memory only: each start makes them anew.
pub struct Own {
    pub certificate: Issued,
    /// PKCS #8 (RFC 5958), DER.
    pub key: Vec<u8>,
    made: Time,
}

impl Own {
    /// Half of its life is over, or the clock was set back to before it was made.
    pub fn is_due(&self, now: Time) -> bool {
        now.since(self.made) >= CONTROLLER_LIFE / 2 || now < self.made
    }
}

pub struct Authority {
    fleet: FleetId,
    key: KeyPair,
    certificate: Vec<u8>,
}

/// Without the key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({}, {})", self.fleet, self.fingerprint())
    }
}

impl Authority {
    pub fn new(fleet: FleetId, now: Time) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(Name::Fleet(fleet), now.before(FAR_BACKDATE), now.after(AUTHORITY_LIFE))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.use_authority_key_identifier_extension = false;
        let certificate = params.self_signed(&key)?.der().to_vec();
        Ok(Self { fleet, key, certificate })
    }

    /// Key and certificate as they were kept; `Err` says what is wrong with them.
    pub(super) fn from_parts(key: &[u8], certificate: Vec<u8>) -> Result<Self, String> {
        let key = KeyPair::try_from(key).map_err(|error| error.to_string())?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|error| error.to_string())?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err("the key is not the certificate's".to_owned());
        }
        if !parsed.is_ca() {
            return Err("the certificate is not a CA's".to_owned());
        }
        let fleet = match super::presented::name(&parsed) {
            Ok(Name::Fleet(fleet)) => fleet,
            _ => return Err("the certificate names no fleet".to_owned()),
        };
        Ok(Self { fleet, key, certificate })
    }

    pub(super) fn key(&self) -> &[u8] {
        self.key.serialized_der()
    }

    pub fn fleet(&self) -> FleetId {
        self.fleet
    }

    /// DER: what agents trust, and what TLS verifies clients by.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// SHA-256 of the certificate: in each token, and in the store.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// For TLS clients only, 24 hours, with the agent's name and nothing else.
    pub(super) fn issue(&self, agent: AgentId, key: &PublicKey, now: Time, serial: [u8; 16]) -> Result<Issued, Error> {
        let expires = now.after(AGENT_LIFE);
        let mut params = params(Name::Agent(self.fleet, agent), now.before(BACKDATE), expires)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, &key.info, serial, expires)
    }

    /// The controller's own key and certificate, for TLS servers only. `hosts` are the DNS names and
    /// addresses under which it is reached; what is neither is an error.
    pub fn own(&self, name: &NodeName, hosts: &[String], now: Time, serial: [u8; 16]) -> Result<Own, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let expires = now.after(CONTROLLER_LIFE);
        let mut params = params(Name::Controller(self.fleet, name.clone()), now.before(FAR_BACKDATE), expires)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for host in hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.as_str().try_into()?),
            });
        }
        let certificate = self.sign(params, &key, serial, expires)?;
        Ok(Own { certificate, key: key.serialized_der().to_vec(), made: now })
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl rcgen::PublicKeyData,
        mut serial: [u8; 16],
        expires: Time,
    ) -> Result<Issued, Error> {
        // RFC 5280, 4.1.2.2: positive, at most 20 octets, and never 0.
        serial[0] = serial[0] & 0x7f | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let issuer = Issuer::from_ca_cert_der(&self.certificate.as_slice().into(), &self.key)?;
        // A certificate's times are whole seconds.
        let expires = Time::from_millisecond(expires.as_second() * 1000);
        Ok(Issued { der: params.signed_by(key, &issuer)?.der().to_vec(), expires })
    }
}

fn params(name: Name, from: Time, until: Time) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    // For people who look at one; programs read the URI.
    subject.push(DnType::CommonName, match &name {
        Name::Fleet(fleet) => format!("Ringwall CA {fleet}"),
        Name::Agent(_, agent) => format!("Ringwall agent {agent}"),
        Name::Controller(_, name) => format!("Ringwall controller {name}"),
    });
    params.distinguished_name = subject;
    params.subject_alt_names = vec![SanType::URI(name.to_string().try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let moment = |time: Time| OffsetDateTime::from_unix_timestamp(time.as_second()).map_err(|_| rcgen::Error::Time);
    (params.not_before, params.not_after) = (moment(from)?, moment(until)?);
    Ok(params)
}
