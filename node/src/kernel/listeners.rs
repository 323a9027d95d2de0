//! Who waits for packets: listening TCP sockets and unconnected UDP sockets, with their processes.
//!
//! In: proc(5) of the calling thread's network namespace. Out: address, port and process of each. Never: a connection; a
//! socket of another namespace; sockets without end.
//!
//! A process whose descriptors may not be read has no name here: root reads them all.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringwall_packet::PortProtocol;

/// More listen nowhere.
const LISTENERS_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    pub protocol: PortProtocol,
    pub port: u16,
    /// As it is bound: unspecified is every address of its family, and `::` mostly of both.
    pub address: IpAddr,
    /// Name (`comm`) and id; several may share a socket, and one is told.
    pub process: Option<(String, u32)>,
}

/// In order of protocol, port and address, each once.
pub fn listeners() -> io::Result<Vec<Listener>> {
    let mut sockets = Vec::new();
    for (file, protocol) in [("tcp", PortProtocol::TCP), ("tcp6", PortProtocol::TCP), ("udp", PortProtocol::UDP), ("udp6", PortProtocol::UDP)] {
        match File::open(format!("/proc/thread-self/net/{file}")) {
            Ok(file) => {
                for line in BufReader::new(file).lines().skip(1) {
                    let socket = socket(&line?, protocol);
                    sockets.extend(socket.filter(|_| sockets.len() < LISTENERS_MAX));
                }
            }
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.ends_with('6') => {}
            Err(error) => return Err(error),
        }
    }
    let processes = if sockets.is_empty() { HashMap::new() } else { processes(&sockets) };
    let with_process = |(listener, inode): (Listener, u64)| Listener { process: processes.get(&inode).cloned(), ..listener };
    let mut all: Vec<Listener> = sockets.into_iter().map(with_process).collect();
    all.sort();
    // Workers that share a port have a socket each (SO_REUSEPORT, socket(7)).
    all.dedup_by(|a, b| (a.protocol, a.port, a.address) == (b.protocol, b.port, b.address));
    Ok(all)
}

/// The ports that sockets get which asked for none (`ip_local_port_range`): a UDP socket with one of them is mostly a client's.
pub fn ephemeral_ports() -> std::ops::RangeInclusive<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        // The kernel's own default.
        _ => 32768..=60999,
    }
}

/// `0: 0100007F:1F90 00000000:0000 0A …`, where the tenth field is the inode.
fn socket(line: &str, protocol: PortProtocol) -> Option<(Listener, u64)> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
    // TCP_LISTEN and TCP_CLOSE (net/tcp_states.h); a UDP socket is closed until it is connected.
    let waits = if protocol == PortProtocol::TCP { "0A" } else { "07" };
    let (_, remote_port) = end(remote)?;
    if state != waits || remote_port != 0 {
        return None;
    }
    let (address, port) = end(local)?;
    let inode = fields.nth(5)?.parse().ok()?;
    (port != 0).then_some((Listener { protocol, port, address, process: None }, inode))
}

/// Words of 32 bits in the machine's order, then the port.
fn end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(8 * at..8 * at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

/// Who holds these sockets, by inode.
fn processes(sockets: &[(Listener, u64)]) -> HashMap<u64, (String, u32)> {
    let mut found: HashMap<u64, (String, u32)> = HashMap::new();
    for (id, path) in numbered("/proc") {
        let held = fs::read_dir(path.join("fd")).into_iter().flatten().flatten().filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
        });
        let held: Vec<u64> = held.filter(|inode| sockets.iter().any(|(_, known)| known == inode)).collect();
        if !held.is_empty() {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default().trim_end().to_owned();
            // The first of a family of processes, which is the one that people know.
            for inode in held {
                found.entry(inode).or_insert_with(|| (name.clone(), id));
            }
        }
    }
    found
}

/// Smallest number first.
fn numbered(folder: &str) -> Vec<(u32, std::path::PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_are_read() {
        let tcp = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0";
        let of = |line: &str, protocol| socket(line, protocol).map(|(found, inode)| (found.address.to_string(), found.port, inode));
        assert_eq!(of(tcp, PortProtocol::TCP), Some(("127.0.0.1".into(), 8080, 4711)));
        assert_eq!(of(&tcp.replace(" 0A ", " 01 "), PortProtocol::TCP), None, "a connection");
        let six = "  1: B80D0120000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 7 1";
        assert_eq!(of(six, PortProtocol::TCP), Some(("2001:db8::1".into(), 443, 7)));
        let udp = "  9: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 12 2 0";
        assert_eq!(of(udp, PortProtocol::UDP), Some(("0.0.0.0".into(), 53, 12)));
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in "[ 0-9A-F:]{0,120}", free in ".{0,60}") {
            let _ = socket(&line, PortProtocol::TCP);
            let _ = socket(&free, PortProtocol::UDP);
        }
    }
}
