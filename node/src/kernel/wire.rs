//! Netlink messages and attributes as bytes.
//!
//! In: values to send, bytes that were received. Out: requests ready to be sent, messages and
//! attributes as slices. Never: a socket, or a panic on bytes of whatever kind; what does not have
//! the shape that it claims is `Malformed`.

use nix::errno::Errno;

/// `struct nlmsghdr` (linux/netlink.h): length, type, flags, sequence, port.
const HEADER: usize = 16;
/// `struct nfgenmsg` (linux/netfilter/nfnetlink.h): family, version, resource.
const NETFILTER_HEADER: usize = 4;
/// `struct nlattr` (linux/netlink.h): length, type.
const ATTRIBUTE_HEADER: usize = 4;

// linux/netlink.h
pub const NLM_F_REQUEST: u16 = 0x1;
pub const NLM_F_ACK: u16 = 0x4;
pub const NLM_F_DUMP_INTR: u16 = 0x10;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLMSG_NOOP: u16 = 1;
pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;
pub const NLMSG_OVERRUN: u16 = 4;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Bytes from the kernel that are not what they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unreadable netlink {0}")]
pub struct Malformed(pub &'static str);

/// A request in the making: one netlink message with netfilter's header, then attributes.
#[derive(Clone, Debug)]
pub struct Request {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Request {
    /// `subsystem` and `operation` make netfilter's message type; `family` is an NFPROTO number.
    pub fn new(subsystem: u8, operation: u8, flags: u16, family: u8) -> Self {
        let kind = u16::from_be_bytes([subsystem, operation]);
        Self::with_resource(kind, flags, family, 0)
    }

    /// `resource` is the group of NFLOG, the subsystem of a batch.
    pub fn with_resource(kind: u16, flags: u16, family: u8, resource: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend([family, 0]); // NFNETLINK_V0
        bytes.extend(resource.to_be_bytes());
        Self { bytes, too_long: false }
    }

    pub fn flags(mut self, flags: u16) -> Self {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | flags;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self
    }

    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.open(kind);
        let start = self.bytes.len() - ATTRIBUTE_HEADER;
        self.bytes.extend(value);
        self.close(start);
        self
    }

    pub fn u8(self, kind: u16, value: u8) -> Self {
        self.bytes(kind, &[value])
    }

    pub fn u16(self, kind: u16, value: u16) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn u64(self, kind: u16, value: u64) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn string(mut self, kind: u16, value: &str) -> Self {
        self.open(kind);
        let start = self.bytes.len() - ATTRIBUTE_HEADER;
        self.bytes.extend(value.bytes());
        self.bytes.push(0);
        self.close(start);
        self
    }

    pub fn nested(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        self.open(kind | NLA_F_NESTED);
        let start = self.bytes.len() - ATTRIBUTE_HEADER;
        let mut filled = fill(self);
        filled.close(start);
        filled
    }

    fn open(&mut self, kind: u16) {
        self.bytes.extend([0, 0]);
        self.bytes.extend(kind.to_ne_bytes());
    }

    fn close(&mut self, start: usize) {
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Where the next attribute will begin.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The message under its sequence number; `None` when an attribute is longer than 65,535 bytes.
    pub fn finish(mut self, sequence: u32) -> Option<Vec<u8>> {
        let length = u32::try_from(self.bytes.len()).ok().filter(|_| !self.too_long)?;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        Some(self.bytes)
    }
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    payload: &'a [u8],
}

/// What an acknowledgement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// `None` when the request was done.
    pub errno: Option<Errno>,
    /// The kernel's own words, where it has some.
    pub explanation: Option<String>,
    /// Where in the request the refused attribute begins.
    pub offset: Option<usize>,
}

impl<'a> Message<'a> {
    /// What follows netfilter's header, with the header's family.
    pub fn netfilter(&self) -> Result<Reply<'a>, Malformed> {
        let (header, attributes) =
            self.payload.split_at_checked(NETFILTER_HEADER).ok_or(Malformed("netfilter header"))?;
        Ok(Reply { family: header[0], attributes: Attributes(attributes) })
    }

    /// The content of an NLMSG_ERROR or NLMSG_DONE: a code and, in the first, (a part of) the request;
    /// then attributes where the flags say so.
    pub fn acknowledgement(&self) -> Result<Acknowledgement, Malformed> {
        const ERROR: Malformed = Malformed("acknowledgement");
        let (code, echo) = self.payload.split_first_chunk().ok_or(ERROR)?;
        let code = i32::from_ne_bytes(*code);
        let errno = (code != 0).then(|| Errno::from_raw(code.saturating_neg()));
        let mut answer = Acknowledgement { errno, explanation: None, offset: None };
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return Ok(answer);
        }
        // A capped acknowledgement repeats the request's header alone.
        let repeated = match self.flags & NLM_F_CAPPED {
            _ if self.kind == NLMSG_DONE => 0,
            0 => u32::from_ne_bytes(*echo.first_chunk().ok_or(ERROR)?) as usize,
            _ => HEADER,
        };
        let rest = repeated.checked_next_multiple_of(4).and_then(|length| echo.get(length..)).ok_or(ERROR)?;
        for attribute in Attributes(rest) {
            let (kind, value) = attribute?;
            match kind {
                NLMSGERR_ATTR_MSG => answer.explanation = Some(text(value)),
                NLMSGERR_ATTR_OFFS => {
                    let offset = value.try_into().map_err(|_| ERROR)?;
                    answer.offset = Some(u32::from_ne_bytes(offset) as usize);
                }
                _ => {}
            }
        }
        Ok(answer)
    }
}

/// The messages of a datagram, in order.
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let Some(header) = self.0.first_chunk::<HEADER>() else {
            self.0 = &[];
            return Some(Err(Malformed("message header")));
        };
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let Some(payload) = self.0.get(HEADER..length) else {
            self.0 = &[];
            return Some(Err(Malformed("message length")));
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload,
        }))
    }
}

/// A message of a netfilter subsystem.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// An NFPROTO number (linux/netfilter.h).
    pub family: u8,
    pub attributes: Attributes<'a>,
}

/// Attributes in order: type without its flag bits, value without padding.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let Some(&[l0, l1, k0, k1]) = self.0.first_chunk::<ATTRIBUTE_HEADER>() else {
            self.0 = &[];
            return Some(Err(Malformed("attribute header")));
        };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = self.0.get(ATTRIBUTE_HEADER..length) else {
            self.0 = &[];
            return Some(Err(Malformed("attribute length")));
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok((u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK, value)))
    }
}

pub fn be16(value: &[u8]) -> Result<u16, Malformed> {
    value.try_into().map(u16::from_be_bytes).map_err(|_| Malformed("16-bit number"))
}

pub fn be32(value: &[u8]) -> Result<u32, Malformed> {
    value.try_into().map(u32::from_be_bytes).map_err(|_| Malformed("32-bit number"))
}

pub fn be64(value: &[u8]) -> Result<u64, Malformed> {
    value.try_into().map(u64::from_be_bytes).map_err(|_| Malformed("64-bit number"))
}

pub fn byte(value: &[u8]) -> Result<u8, Malformed> {
    value.first().copied().ok_or(Malformed("8-bit number"))
}

/// A string up to its NUL, if it has one.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// The comment in a rule's or an element's user data, which nft writes as type, length, value: type
/// 0 is the comment (NFTNL_UDATA_RULE_COMMENT in libnftnl/udata.h). Others' data are left alone.
pub fn comment(mut userdata: &[u8]) -> Option<String> {
    const COMMENT: u8 = 0;
    while let [kind, length, rest @ ..] = userdata {
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *kind == COMMENT {
            return Some(text(value));
        }
        userdata = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let request = Request::new(10, 6, NLM_F_ACK, 1)
            .string(1, "ringwall")
            .nested(4, |list| list.u32(1, 7).u64(2, 8).u16(3, 9).u8(4, 10))
            .bytes(7, &[1, 2, 3]);
        let bytes = request.finish(42).expect("short");
        let message = Messages(&bytes).next().expect("one").expect("whole");
        assert_eq!((message.kind, message.flags, message.sequence), (0x0a06, NLM_F_ACK | NLM_F_REQUEST, 42));
        let reply = message.netfilter().expect("a netfilter message");
        assert_eq!(reply.family, 1);
        let attributes: Vec<_> = reply.attributes.map(|attribute| attribute.expect("whole")).collect();
        assert_eq!(text(attributes[0].1), "ringwall");
        assert_eq!(attributes[2], (7, &[1, 2, 3][..]));
        let inner: Vec<_> = Attributes(attributes[1].1).map(|attribute| attribute.expect("whole")).collect();
        assert_eq!(be32(inner[0].1), Ok(7));
        assert_eq!(be64(inner[1].1), Ok(8));
        assert_eq!(be16(inner[2].1), Ok(9));
        assert_eq!(byte(inner[3].1), Ok(10));
    }

    #[test]
    fn an_attribute_that_is_too_long_is_not_sent() {
        assert_eq!(Request::new(10, 6, 0, 1).bytes(1, &[0; 70_000]).finish(1), None);
    }

    #[test]
    fn the_comment_is_found_among_other_data() {
        assert_eq!(comment(&[0, 4, b'g', b'4', b'3', 0]), Some("g43".to_owned()));
        assert_eq!(comment(&[1, 1, 9, 0, 2, b'a', 0]), Some("a".to_owned()));
        assert_eq!(comment(&[0, 9, b'g']), None);
        assert_eq!(comment(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in Messages(&bytes).flatten() {
                let _ = message.acknowledgement();
                if let Ok(reply) = message.netfilter() {
                    let _ = reply.attributes.count();
                }
            }
            let _ = Attributes(&bytes).count();
            let _ = comment(&bytes);
        }
    }
}
