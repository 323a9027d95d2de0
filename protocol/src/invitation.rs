//! The words that are printed once: tokens for enrolment, and keys to the API.
//!
//! In: 256 random bits, the CA's fingerprint, addresses. Out: one word to copy, and back. Never: a
//! mistyped word that is taken for a refused one.
//!
//! `rwt1_` and base64url without padding (RFC 4648, 5) of: the secret (32 bytes), the CA's SHA-256
//! fingerprint (32), the number of addresses (1), each address with its length before it (1), and the
//! first 4 bytes of the SHA-256 of `rwt1_` and all that. A key to the API is `rwa1_` and the same of a
//! secret alone.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// 256 random bits. They are shown once and kept nowhere; the store has their digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The bytes must come from the system's random source.
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// What is kept: of so many random bits a plain SHA-256 can't be turned back.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A token for enrolment, as it is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    pub secret: Secret,
    /// SHA-256 of the CA's certificate: whoever answers must have one of this CA.
    pub ca: [u8; 32],
    /// Where the controller is reached, as `host:port`, in order of preference.
    controllers: Vec<String>,
}

/// Why a word is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistyped {
    #[error("a token begins with `{0}`")]
    Beginning(&'static str),
    #[error("this token is of a newer version than this program knows")]
    Version,
    #[error("a token has no characters but letters, digits, `-` and `_`")]
    Characters,
    #[error("the token was not copied whole, or was mistyped: its checksum does not fit")]
    Checksum,
    #[error("a token has 1 to {MOST_ADDRESSES} addresses of 1 to {MOST_BYTES} bytes")]
    Addresses,
}

const TOKEN: &str = "rwt1_";
const ACCESS: &str = "rwa1_";
const CHECKSUM: usize = 4;
const MOST_ADDRESSES: usize = 16;
/// A DNS name (RFC 1035, 2.3.4) or address, with a port.
const MOST_BYTES: usize = 255;
/// Nothing longer is looked at.
const MOST_CHARACTERS: usize = 8192;

fn word(prefix: &'static str, body: &[u8]) -> String {
    let mut bytes = body.to_vec();
    bytes.extend(&checksum(prefix, body));
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

fn checksum(prefix: &str, body: &[u8]) -> [u8; CHECKSUM] {
    let digest = Sha256::digest([prefix.as_bytes(), body].concat());
    [digest[0], digest[1], digest[2], digest[3]]
}

fn body(prefix: &'static str, text: &str) -> Result<Vec<u8>, Mistyped> {
    let text = text.trim();
    let Some(coded) = text.strip_prefix(prefix) else {
        let is_newer = text.strip_prefix(&prefix[..3]).and_then(|rest| rest.split_once('_'));
        let is_newer = is_newer.is_some_and(|(version, _)| version.len() < 5 && version.bytes().all(|byte| byte.is_ascii_digit()));
        return Err(if is_newer { Mistyped::Version } else { Mistyped::Beginning(prefix) });
    };
    if !coded.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Err(Mistyped::Characters);
    }
    if coded.len() > MOST_CHARACTERS {
        return Err(Mistyped::Checksum);
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(coded).map_err(|_| Mistyped::Checksum)?;
    let at = bytes.len().checked_sub(CHECKSUM).ok_or(Mistyped::Checksum)?;
    let sum = bytes.split_off(at);
    if sum == checksum(prefix, &bytes) { Ok(bytes) } else { Err(Mistyped::Checksum) }
}

impl Invitation {
    pub fn new(secret: Secret, ca: [u8; 32], controllers: Vec<String>) -> Result<Self, Mistyped> {
        let fits = (1..=MOST_ADDRESSES).contains(&controllers.len());
        let each_fits = controllers.iter().all(|address| (1..=MOST_BYTES).contains(&address.len()));
        if fits && each_fits { Ok(Self { secret, ca, controllers }) } else { Err(Mistyped::Addresses) }
    }

    pub fn controllers(&self) -> &[String] {
        &self.controllers
    }
}

/// The word itself: print it once.
impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut body = [self.secret.0, self.ca].concat();
        // `new` bounds both numbers.
        body.push(self.controllers.len() as u8);
        for address in &self.controllers {
            body.push(address.len() as u8);
            body.extend(address.as_bytes());
        }
        f.write_str(&word(TOKEN, &body))
    }
}

impl FromStr for Invitation {
    type Err = Mistyped;

    fn from_str(text: &str) -> Result<Self, Mistyped> {
        let body = body(TOKEN, text)?;
        let (secret, rest) = body.split_first_chunk::<32>().ok_or(Mistyped::Checksum)?;
        let (ca, rest) = rest.split_first_chunk::<32>().ok_or(Mistyped::Checksum)?;
        let (count, mut rest) = rest.split_first().ok_or(Mistyped::Addresses)?;
        let mut controllers = Vec::new();
        for _ in 0..*count {
            let (length, after) = rest.split_first().ok_or(Mistyped::Addresses)?;
            let (address, after) = after.split_at_checked(usize::from(*length)).ok_or(Mistyped::Addresses)?;
            controllers.push(String::from_utf8(address.to_vec()).map_err(|_| Mistyped::Addresses)?);
            rest = after;
        }
        if rest.is_empty() { Self::new(Secret(*secret), *ca, controllers) } else { Err(Mistyped::Addresses) }
    }
}

impl Secret {
    /// As a key to the API: print it once.
    pub fn to_access(&self) -> String {
        word(ACCESS, &self.0)
    }

    pub fn from_access(text: &str) -> Result<Self, Mistyped> {
        body(ACCESS, text)?.try_into().map(Self).map_err(|_| Mistyped::Checksum)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn invitation() -> Invitation {
        let controllers = vec!["ringwall.example.net:8443".to_owned(), "[2001:db8::1]:8443".to_owned()];
        Invitation::new(Secret::new([7; 32]), [8; 32], controllers).expect("an invitation")
    }

    #[test]
    fn each_wrong_character_is_noticed() {
        let good = invitation().to_string();
        assert_eq!(good.parse(), Ok(invitation()));
        assert_eq!(format!(" {good}\n").parse(), Ok(invitation()));
        assert!(!good.contains(char::is_whitespace) && good.len() < 240, "{good}");
        for index in 0..good.len() {
            for other in [b'A', b'_', b'~', b' '] {
                let mut wrong = good.clone().into_bytes();
                if wrong[index] == other {
                    continue;
                }
                wrong[index] = other;
                let wrong = String::from_utf8(wrong).expect("ASCII");
                if wrong.trim() != good {
                    wrong.parse::<Invitation>().expect_err(&wrong);
                }
            }
            good[..index].parse::<Invitation>().expect_err("cut short");
        }
        assert_eq!("rwt2_abc".parse::<Invitation>(), Err(Mistyped::Version));
        assert_eq!("hello".parse::<Invitation>(), Err(Mistyped::Beginning("rwt1_")));
        assert_eq!(invitation().secret.to_access().parse::<Invitation>(), Err(Mistyped::Beginning("rwt1_")));
        assert_eq!(Invitation::new(Secret::new([7; 32]), [8; 32], Vec::new()), Err(Mistyped::Addresses));
    }

    #[test]
    fn access_is_read_as_it_is_written() {
        let secret = Secret::new([9; 32]);
        assert_eq!(Secret::from_access(&secret.to_access()), Ok(secret.clone()));
        assert_eq!(Secret::from_access(&invitation().to_string()), Err(Mistyped::Beginning("rwa1_")));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    proptest! {
        #[test]
        fn any_invitation_is_read_as_it_is_written(
            secret: [u8; 32], ca: [u8; 32], controllers in prop::collection::vec(".{1,60}", 1..16),
        ) {
            let invitation = Invitation::new(Secret::new(secret), ca, controllers).expect("an invitation");
            prop_assert_eq!(invitation.to_string().parse(), Ok(invitation));
        }

        #[test]
        fn no_text_panics(text in "(rwt1_|rwa1_)?[A-Za-z0-9_é-]{0,200}", body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = text.parse::<Invitation>();
            let _ = Secret::from_access(&text);
            // With a checksum that fits.
            let _ = word(TOKEN, &body).parse::<Invitation>();
        }
    }
}
