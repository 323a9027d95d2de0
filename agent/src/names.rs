//! DNS names: addresses by the host's own resolver, and for how long they hold.
//!
//! In: names, one after the other. Out: events; the answers, in the state folder too. Never: an address of this machine's, or
//! one that is nobody's, as an answer; a wait of whoever changes rules.
//!
//! getaddrinfo(3) tells no TTL, so the resolver that resolv.conf(5) names is asked for it beside; where that does not answer,
//! the name is asked for again soon.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringwall_node::apply::{Answer, keep_answers, kept_answers};
use ringwall_node::reconciler::{Event, KEPT};
use ringwall_packet::{AddressSet, of_many};
use tokio::sync::mpsc::Sender;

use crate::shell::Settings;

/// Without a TTL: caches of resolvers keep answers for theirs.
const ASK_AGAIN: u32 = 60;
/// For the TTL, of which the answer is here already, mostly.
const PATIENCE: Duration = Duration::from_millis(500);
/// Of one name.
const ADDRESSES_MAX: usize = 256;
/// The same answer is written down again after so many seconds.
const WRITTEN_AGAIN: u64 = 600;

/// Nobody asks for a name any more whose answer is so many seconds old.
const FORGOTTEN: u64 = 7 * 86_400;

/// What is known of names.
pub struct Names {
    folder: PathBuf,
    /// No name may stand for these.
    own: AddressSet,
    answers: Mutex<BTreeMap<String, Answer>>,
}

impl Names {
    /// With what was known before.
    pub fn new(settings: &Settings) -> Self {
        let own = settings.facts.addresses.iter().copied().collect::<AddressSet>().union(&of_many());
        let answers = Mutex::new(kept_answers(&settings.folder).unwrap_or_default());
        Self { folder: settings.folder.clone(), own, answers }
    }

    pub fn answers(&self) -> BTreeMap<String, Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for names until nobody gives some.
    pub fn run(&self, names: &Receiver<String>, events: &Sender<Event>) {
        while let Ok(name) = names.recv() {
            let event = self.resolve(name);
            if events.blocking_send(event).is_err() {
                return;
            }
        }
    }

    fn resolve(&self, name: String) -> Event {
        let Ok(found) = (name.as_str(), 0).to_socket_addrs() else { return Event::NotResolved { name } };
        let found = found.map(|address| address.ip().to_canonical()).filter(|address| self.may_stand_for(*address));
        let addresses: BTreeSet<IpAddr> = found.take(ADDRESSES_MAX).collect();
        let ttl = nameservers().find_map(|server| ttl(server, &name)).unwrap_or(ASK_AGAIN);
        self.keep(&name, &addresses, ttl);
        Event::Resolved { name, addresses: addresses.into_iter().collect(), seconds: ttl }
    }

    /// Not this machine, not its link, not everybody.
    fn may_stand_for(&self, address: IpAddr) -> bool {
        let is_near = match address {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_unspecified() || v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local(),
        };
        !is_near && !self.own.contains(address)
    }

    fn keep(&self, name: &str, addresses: &BTreeSet<IpAddr>, ttl: u32) {
        let asked = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let answer = Answer { addresses: addresses.clone(), asked, seconds: Some(ttl.saturating_add(KEPT)) };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_written = answers.get(name).is_some_and(|known| known.addresses == *addresses && asked.abs_diff(known.asked) < WRITTEN_AGAIN);
        if is_written {
            return;
        }
        answers.insert(name.to_owned(), answer);
        answers.retain(|_, known| asked.saturating_sub(known.asked) < FORGOTTEN);
        if let Err(error) = keep_answers(&self.folder, &answers) {
            tracing::warn!(error = crate::because(&error), "the answers to names are not on disk");
        }
    }
}

/// Those of resolv.conf(5), or the one that it stands for when there is none.
fn nameservers() -> impl Iterator<Item = IpAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok());
    let named: Vec<IpAddr> = named.take(3).collect();
    if named.is_empty() { vec![IpAddr::from([127, 0, 0, 1])] } else { named }.into_iter()
}

/// The smallest TTL of the answers for both families; `None` without any.
fn ttl(server: IpAddr, name: &str) -> Option<u32> {
    let own: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(own).ok()?;
    socket.connect((server, 53)).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    let port = socket.local_addr().ok()?.port();
    let asked = [A, AAAA].into_iter().filter_map(|kind| {
        // A port that is ours alone, and an id that goes with it: what only sets a time needs no more.
        let id = port.rotate_left(5) ^ kind;
        socket.send(&query(id, name, kind)?).ok()?;
        let mut bytes = [0; 1232];
        let length = socket.recv(&mut bytes).ok()?;
        smallest_ttl(&bytes[..length], id)
    });
    asked.min()
}

/// TYPE values (RFC 1035 §3.2.2, RFC 3596 §2.1).
const A: u16 = 1;
const AAAA: u16 = 28;

/// RFC 1035 §4.1; `None` for what is no name.
fn query(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    // Recursion desired; one question.
    for word in [id, 0x0100, 1, 0, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        bytes.push(length);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    // Class IN.
    for word in [kind, 1] {
        bytes.extend(word.to_be_bytes());
    }
    Some(bytes)
}

/// Of an answer without an error; at most a day.
fn smallest_ttl(bytes: &[u8], id: u16) -> Option<u32> {
    let word = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let flags = word(2)?;
    // QR, and RCODE 0.
    if word(0)? != id || flags & 0x8000 == 0 || flags & 0xf != 0 {
        return None;
    }
    let mut at = 12;
    for _ in 0..word(4)? {
        at = after_name(bytes, at)? + 4;
    }
    let mut smallest = None;
    for _ in 0..word(6)? {
        at = after_name(bytes, at)?;
        let ttl = u32::from_be_bytes(bytes.get(at + 4..at + 8)?.try_into().ok()?);
        smallest = Some(smallest.unwrap_or(86_400).min(ttl));
        at += 10 + usize::from(word(at + 8)?);
    }
    smallest
}

/// Labels up to the empty one, or to a pointer (RFC 1035 §4.1.4).
fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            length @ 1..64 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttls_are_read_and_what_is_cut_short_is_none() {
        let mut answer = query(7, "ntp.example.net", A).expect("a name");
        (answer[2], answer[7]) = (0x81, 2);
        for (kind, ttl) in [(5u16, 300u32), (A, 60)] {
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1]);
            answer.extend(ttl.to_be_bytes());
            answer.extend([0, 4, 192, 0, 2, 1]);
        }
        assert_eq!(smallest_ttl(&answer, 7), Some(60));
        assert_eq!(smallest_ttl(&answer, 8), None, "another's");
        for end in 0..answer.len() - 4 {
            assert_eq!(smallest_ttl(&answer[..end], 7), None, "{end}");
        }
        // Any byte may be anything.
        for at in 0..answer.len() {
            for byte in [0, 1, 0x3f, 0x40, 0xc0, 0xff] {
                let mut broken = answer.clone();
                broken[at] = byte;
                let _ = smallest_ttl(&broken, 7);
            }
        }
        assert_eq!(query(1, &"a".repeat(64), A), None);
        assert_eq!(query(1, "a..b", A), None);
    }
}
