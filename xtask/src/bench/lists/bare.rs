//! Netlink messages that change set elements, made beforehand, with nothing around them.
//!
//! In: elements. Out: datagrams for the kernel, and how long it takes for them. Never: anything of `node`'s: this is what it
//! is compared with. Layouts are those of linux/netlink.h, nfnetlink.h and nf_tables.h.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt, socket, sockopt,
};

use super::Result;

/// An element: its key, and its timeout in milliseconds, if any.
pub struct Element {
    pub set: &'static str,
    pub key: Vec<u8>,
    pub timeout: Option<u64>,
}

fn attribute(into: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).expect("a short attribute");
    into.extend(length.to_ne_bytes());
    into.extend(kind.to_ne_bytes());
    into.extend(value);
    into.resize(into.len().next_multiple_of(4), 0);
}

fn message(into: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, family: u8, resource: u16, attributes: &[u8]) {
    let length = u32::try_from(attributes.len() + 20).expect("a short message");
    into.extend(length.to_ne_bytes());
    into.extend(kind.to_ne_bytes());
    into.extend((flags | 1).to_ne_bytes()); // NLM_F_REQUEST
    into.extend(sequence.to_ne_bytes());
    into.extend(0u32.to_ne_bytes());
    into.extend([family, 0]);
    into.extend(resource.to_be_bytes());
    into.extend(attributes);
}

/// One transaction that adds elements; neighbours of one set share a message.
pub fn transaction(elements: &[Element]) -> Vec<u8> {
    const NESTED: u16 = 0x8000;
    const SUBSYSTEM: u16 = 10; // NFNL_SUBSYS_NFTABLES
    let mut bytes = Vec::new();
    message(&mut bytes, 0x10, 0, 1, 0, SUBSYSTEM, &[]); // NFNL_MSG_BATCH_BEGIN
    let groups: Vec<&[Element]> = elements.chunk_by(|a, b| a.set == b.set).flat_map(|same| same.chunks(400)).collect();
    for (index, group) in groups.iter().enumerate() {
        let mut list = Vec::new();
        for element in *group {
            let (mut data, mut item) = (Vec::new(), Vec::new());
            attribute(&mut data, 1, &element.key);
            attribute(&mut item, 1 | NESTED, &data);
            if let Some(timeout) = element.timeout {
                attribute(&mut item, 4, &timeout.to_be_bytes());
            }
            attribute(&mut list, 1 | NESTED, &item);
        }
        let mut attributes = Vec::new();
        attribute(&mut attributes, 1, b"ringwall_blocks\0");
        attribute(&mut attributes, 2, format!("{}\0", group[0].set).as_bytes());
        attribute(&mut attributes, 3 | NESTED, &list);
        // NLM_F_CREATE, and of the last one an answer.
        let flags = 0x400 | if index + 1 == groups.len() { 4 } else { 0 };
        message(&mut bytes, SUBSYSTEM << 8 | 12, flags, 2, 1, 0, &attributes); // NFT_MSG_NEWSETELEM, NFPROTO_INET
    }
    message(&mut bytes, 0x11, 0, 3, 0, SUBSYSTEM, &[]); // NFNL_MSG_BATCH_END
    bytes
}

pub struct Bare {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Bare {
    pub fn open() -> Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&socket, sockopt::SndBufForce, &(8 << 20))?;
        Ok(Self { socket, buffer: vec![0; 64 << 10] })
    }

    /// Sends a transaction and waits for the kernel's word.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        sendto(self.socket.as_raw_fd(), bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
        let errno = self.buffer.get(16..20).filter(|_| length >= 20).ok_or("no answer")?;
        match i32::from_ne_bytes(errno.try_into()?) {
            0 => Ok(()),
            errno => Err(std::io::Error::from_raw_os_error(-errno).into()),
        }
    }
}
