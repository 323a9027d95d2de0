//! Addresses, prefixes and ranges as operators write them.

use std::net::IpAddr;

use ipnet::IpNet;
use ringwall_diagnostic::Diagnostic;
use ringwall_packet::{AddressSet, Interval};

use crate::form::Word;
use crate::values;

/// One item of a list of addresses.
#[derive(Clone, Debug)]
pub enum Item {
    Addresses(AddressSet),
    /// The name of a value, without its `$`.
    Value(Word),
    /// Anything else: a name, where names may stand.
    Name(Word),
    /// Reported already; whatever uses it is incomplete.
    Bad,
}

/// Reads one item; what is wrong with it is the error.
pub fn item(word: &Word) -> Result<Item, Box<Diagnostic>> {
    let text = word.text.as_str();
    if let Some(name) = text.strip_prefix('$') {
        if values::is_name(name) {
            return Ok(Item::Value(Word { text: name.to_owned(), span: word.span }));
        }
        let message = format!("`{text}` can't be a value's name");
        let diagnostic = Diagnostic::error("RW0107", message).at(word.span, "");
        let upper = name.to_ascii_uppercase().replace('-', "_");
        return Err(Box::new(match values::is_name(&upper) {
            true => diagnostic.fix(word.span, format!("${upper}")),
            false => diagnostic.help("a value's name is made of capitals, digits and `_`, such as `$PARTNER_IPS`"),
        }));
    }
    if !looks_like_address(text) {
        return Ok(Item::Name(word.clone()));
    }
    if let Some((first, last)) = text.split_once('-') {
        return range(word, first.trim(), last.trim()).map(Item::Addresses);
    }
    if text.contains('/') {
        return prefix(word).map(Item::Addresses);
    }
    let address = text.parse::<IpAddr>().map_err(|_| bad(word))?;
    Ok(Item::Addresses(address.into()))
}

/// Whether it can only have been meant as an address: no name of a group looks like this.
pub fn looks_like_address(text: &str) -> bool {
    let plain = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '/' | '-' | ' '));
    let hexadecimal = text.contains(':') || text.contains('%');
    let slash = text.split_once('/').is_some_and(|(_, length)| length.starts_with(|c: char| c.is_ascii_digit()));
    (plain && text.contains(['.', '/'])) || hexadecimal || slash
}

fn bad(word: &Word) -> Box<Diagnostic> {
    let text = word.text.as_str();
    let diagnostic = Diagnostic::error("RW0205", format!("`{text}` is not an address")).at(word.span, "");
    let octets: Vec<&str> = text.split(['/', '-']).next().unwrap_or("").split('.').collect();
    let without_zeros = text.split('.').map(|octet| match octet.trim_start_matches('0') {
        "" => "0",
        octet => octet,
    });
    let without_zeros = without_zeros.collect::<Vec<_>>().join(".");
    Box::new(if text.contains('%') {
        diagnostic.help("an address of one link (`%`) means something else on each node, so it has no place here")
    } else if without_zeros != text && without_zeros.parse::<IpAddr>().is_ok() {
        diagnostic.note("a leading zero means octal in some programs").fix(word.span, without_zeros)
    } else if !text.contains(':') && octets.len() != 4 {
        diagnostic.help("an IPv4 address has four numbers, such as `192.0.2.10`")
    } else if !text.contains(':') {
        diagnostic.help("each number of an IPv4 address is at most 255, a prefix length at most 32")
    } else {
        diagnostic.help("an IPv6 address looks like `2001:db8::10`, a prefix like `2001:db8::/64`")
    })
}

fn prefix(word: &Word) -> Result<AddressSet, Box<Diagnostic>> {
    let text = word.text.as_str();
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    // A netmask in dotted form is a prefix length in older notation.
    if let (Ok(IpAddr::V4(address)), Ok(IpAddr::V4(mask))) = (address.parse::<IpAddr>(), length.parse::<IpAddr>()) {
        let prefix = ipnet::Ipv4Net::with_netmask(address, mask).map_err(|_| bad(word))?;
        let message = format!("`{text}` has a netmask where a prefix length is wanted");
        return Err(Box::new(
            Diagnostic::error("RW0205", message).at(word.span, "").fix(word.span, prefix.trunc().to_string()),
        ));
    }
    let prefix: IpNet = text.parse().map_err(|_| bad(word))?;
    if prefix.trunc() != prefix {
        let message = format!("`{text}` has bits beyond its prefix length");
        let one = IpNet::from(prefix.addr());
        return Err(Box::new(
            Diagnostic::error("RW0206", message)
                .at(word.span, format!("is it `{}`, or the one address `{}`?", prefix.trunc(), one.addr()))
                .fix(word.span, prefix.trunc().to_string()),
        ));
    }
    Ok(prefix.into())
}

fn range(word: &Word, first: &str, last: &str) -> Result<AddressSet, Box<Diagnostic>> {
    let ends = (first.parse::<IpAddr>().map(|address| address.to_canonical()), last.parse::<IpAddr>().map(|address| address.to_canonical()));
    let (Ok(from), Ok(to)) = ends else {
        return Err(bad(word));
    };
    let upside_down = || {
        let diagnostic = Diagnostic::error("RW0207", format!("the range `{}` is upside down", word.text));
        Box::new(diagnostic.at(word.span, "").fix(word.span, format!("{last}-{first}")))
    };
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let interval = Interval::new(from, to).ok_or_else(upside_down)?;
            Ok(AddressSet { v4: interval.into(), ..AddressSet::default() })
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let interval = Interval::new(from, to).ok_or_else(upside_down)?;
            Ok(AddressSet { v6: interval.into(), ..AddressSet::default() })
        }
        _ => {
            let message = format!("the range `{}` starts in one family and ends in the other", word.text);
            Err(Box::new(Diagnostic::error("RW0205", message).at(word.span, "")))
        }
    }
}
