//! Checks of single fields. Each refusal names the field.

use std::net::IpAddr;

use bytes::Bytes;

use crate::Place;
use crate::generated as wire;

/// A message that must not be acted on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` {why}")]
pub struct Invalid {
    /// Message and field: `Hello.boot`.
    pub field: &'static str,
    pub why: String,
}

pub(crate) fn invalid(field: &'static str, why: impl Into<String>) -> Invalid {
    Invalid { field, why: why.into() }
}

/// What must be there.
pub(crate) fn there<T>(field: &'static str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or_else(|| invalid(field, "is missing"))
}

pub(crate) fn most(field: &'static str, found: usize, most: usize) -> Result<(), Invalid> {
    if found <= most { Ok(()) } else { Err(invalid(field, format!("has {found}, and at most {most} are taken"))) }
}

pub(crate) fn non_zero(field: &'static str, value: u64) -> Result<u64, Invalid> {
    if value == 0 { Err(invalid(field, "is 0")) } else { Ok(value) }
}

/// Text for people: bounded, and nothing in it that a terminal would act on.
pub(crate) fn text(field: &'static str, text: String) -> Result<String, Invalid> {
    most(field, text.len(), crate::TEXT_MAX)?;
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(invalid(field, "holds a control character"));
    }
    Ok(text)
}

/// A name of ours: it may become part of an object's name in the kernel and of a path.
pub(crate) fn name(field: &'static str, name: String) -> Result<String, Invalid> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if name.len() > crate::NAME_MAX || !begins || !name.chars().all(plain) {
        return Err(invalid(field, format!("is not a name: letters, digits, `.`, `_` and `-`, at most {}", crate::NAME_MAX)));
    }
    Ok(name)
}

/// The kernel's name of an interface: dev_valid_name() in net/core/dev.c, without what nft's text would need quoted.
pub(crate) fn interface(field: &'static str, name: String) -> Result<String, Invalid> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '"' | '\\' | '*');
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || !name.chars().all(plain) {
        return Err(invalid(field, "is not the name of an interface"));
    }
    Ok(name)
}

/// A DNS name in lower case without a final dot (RFC 1035 §2.3.1, and `_`).
pub(crate) fn dns_name(field: &'static str, name: String) -> Result<String, Invalid> {
    let is_label = |label: &str| {
        let plain = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        !label.is_empty() && label.len() <= 63 && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(invalid(field, "is not a DNS name"));
    }
    Ok(name)
}

pub(crate) fn array<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], Invalid> {
    bytes.try_into().map_err(|_| invalid(field, format!("has {} bytes, not {N}", bytes.len())))
}

pub(crate) fn der(field: &'static str, der: Bytes) -> Result<Bytes, Invalid> {
    most(field, der.len(), crate::DER_MAX)?;
    if der.is_empty() { Err(invalid(field, "is empty")) } else { Ok(der) }
}

pub(crate) fn addresses(field: &'static str, addresses: &[Bytes]) -> Result<Vec<IpAddr>, Invalid> {
    most(field, addresses.len(), crate::ADDRESSES_MAX)?;
    let address = |bytes: &Bytes| match bytes.len() {
        4 => array::<4>(field, bytes).map(IpAddr::from),
        16 => array::<16>(field, bytes).map(IpAddr::from),
        other => Err(invalid(field, format!("has an address of {other} bytes"))),
    };
    addresses.iter().map(address).collect()
}

pub(crate) fn octets(address: &IpAddr) -> Bytes {
    match address {
        IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
        IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
    }
}

pub(crate) fn place(field: &'static str, place: wire::Place) -> Result<Place, Invalid> {
    Ok(Place { epoch: non_zero(field, place.epoch)?, number: non_zero(field, place.number)? })
}

impl From<Place> for wire::Place {
    fn from(Place { epoch, number }: Place) -> Self {
        Self { epoch, number }
    }
}
