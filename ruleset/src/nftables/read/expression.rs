//! Expressions: what stands on the left of a match.
//!
//! In: a cursor. Out: the field that the words name, and the cursor behind them. Never: a value.

use ringwall_packet::{Family, Protocol, UpperCube, Variable};

use super::cursor::Cursor;
use super::datatype::{Datatype, number};
use super::field::{BARE_META, Coordinate, Field, Writes, conntrack, meta, payload, variable};
use super::term::Term;
use super::token::Kind;

const HEADERS: [&str; 22] = [
    "ip", "ip6", "tcp", "udp", "th", "icmp", "icmpv6", "igmp", "sctp", "dccp", "udplite", "ah", "esp", "comp", "ether", "vlan",
    "arp", "frag", "hbh", "dst", "mh", "gre",
];

/// Why the result of an expression is not known from the packet alone.
const ROUTES: &str = "it depends on the host's routes and addresses";
const SOCKET: &str = "it depends on the host's sockets";
const CHANCE: &str = "it differs from packet to packet";
pub(super) const HISTORY: &str = "it depends on the packets before";
pub(super) const NOT_READ: &str = "is not read";

/// One field, with a mask if there is one. `None`: these words are no expression that is known here; the
/// cursor is then where it was.
pub(super) fn expression(cursor: &mut Cursor) -> Option<Field> {
    let start = *cursor;
    let found = field(cursor, false).and_then(|field| masked(cursor, field));
    if found.is_none() {
        *cursor = start;
    }
    found
}

/// `is_inner`: it is part of another, which has no parts of parts.
fn field(cursor: &mut Cursor, is_inner: bool) -> Option<Field> {
    if cursor.kind() == Some(Kind::Reference) {
        return raw(cursor);
    }
    let word = cursor.word()?;
    cursor.advance();
    match word {
        "meta" => meta(cursor.name()?),
        "ct" => connection(cursor),
        "tcp" | "ip" | "dccp" | "sctp" if matches!(cursor.word(), Some("option" | "chunk")) => option(cursor, word),
        "rt" => {
            if matches!(cursor.word(), Some("ip" | "ip6")) {
                cursor.advance();
            }
            cursor.name()?;
            Some(Field::opaque(ROUTES))
        }
        "fib" => {
            // `saddr . iif oif`, or `saddr, iif oif`
            cursor.name()?;
            while cursor.take(Kind::Dot) || cursor.take(Kind::Comma) {
                cursor.name()?;
            }
            cursor.name()?;
            Some(Field::opaque(ROUTES))
        }
        "socket" => {
            cursor.name()?;
            if cursor.take_word("level") {
                cursor.name()?;
            }
            Some(Field::opaque(SOCKET))
        }
        "osf" => {
            if cursor.take_word("ttl") {
                cursor.name()?;
            }
            cursor.name()?;
            Some(Field::opaque(NOT_READ))
        }
        "numgen" | "symhash" | "jhash" if !is_inner => {
            let is_chance = word == "numgen";
            if is_chance {
                cursor.name()?;
            } else if word == "jhash" {
                field(cursor, true)?;
                while cursor.take(Kind::Dot) {
                    field(cursor, true)?;
                }
            }
            while matches!(cursor.word(), Some("mod" | "seed" | "offset")) {
                cursor.advance();
                cursor.name()?;
            }
            Some(Field::opaque(if is_chance { CHANCE } else { NOT_READ }))
        }
        "ipsec" => {
            cursor.name()?;
            if cursor.take_word("spnum") {
                cursor.name()?;
            }
            if matches!(cursor.word(), Some("ip" | "ip6")) {
                cursor.advance();
            }
            cursor.name()?;
            Some(Field::opaque(NOT_READ))
        }
        "exthdr" => {
            cursor.name()?;
            Some(Field::opaque("it is about an extension header").with_need(Term::Family(Family::V6)))
        }
        "vxlan" | "geneve" | "gretap" | "gre" if !is_inner => {
            match cursor.word()? {
                header if HEADERS.contains(&header) => field(cursor, true).map(drop)?,
                _ => cursor.advance(),
            }
            Some(Field::opaque("it is about a packet in a packet"))
        }
        _ if BARE_META.contains(&word) => meta(word),
        _ if HEADERS.contains(&word) => payload(word, cursor.name()?),
        _ => None,
    }
}

/// `@th,16,16`
fn raw(cursor: &mut Cursor) -> Option<Field> {
    let base = cursor.text.name(cursor.peek()?);
    cursor.advance();
    if !["ll", "nh", "th", "ih"].contains(&base) || !cursor.take(Kind::Comma) {
        return None;
    }
    let offset = number(cursor.name()?)?;
    if !cursor.take(Kind::Comma) {
        return None;
    }
    let length = number(cursor.name()?)?;
    let field = match (base, offset, length) {
        ("th", 0, 16) => Field::new(Coordinate::First16, Datatype::Integer(16)),
        ("th", 16, 16) => Field::new(Coordinate::Second16, Datatype::Integer(16)),
        // A packet may be too short for it.
        _ => Field::opaque("it is about bytes that are not looked at here"),
    };
    Some(field)
}

fn connection(cursor: &mut Cursor) -> Option<Field> {
    let direction = cursor.word().filter(|word| ["original", "reply"].contains(word));
    if direction.is_some() {
        cursor.advance();
    }
    let family = match cursor.word() {
        Some("ip") => Some(Family::V4),
        Some("ip6") => Some(Family::V6),
        _ => None,
    };
    if family.is_some() {
        cursor.advance();
    }
    conntrack(direction, family, cursor.name()?)
}

/// `tcp option maxseg size`, `ip option lsrr ptr`, `sctp chunk init num-inbound-streams`.
fn option(cursor: &mut Cursor, header: &str) -> Option<Field> {
    cursor.advance();
    if cursor.kind() == Some(Kind::Reference) {
        cursor.advance();
        for _ in 0..2 {
            if !cursor.take(Kind::Comma) {
                return None;
            }
            cursor.name()?;
        }
    } else {
        cursor.name()?;
        const FIELDS: [&str; 20] = [
            "size", "kind", "length", "left", "right", "count", "tsval", "tsecr", "subtype", "type", "ptr", "value", "flags",
            "init-tag", "a-rwnd", "num-outbound-streams", "num-inbound-streams", "initial-tsn", "cum-tsn-ack", "tsn",
        ];
        if cursor.word().is_some_and(|word| FIELDS.contains(&word)) {
            cursor.advance();
        }
    }
    let field = Field::opaque("it is about an option of a header");
    Some(match header {
        "ip" => field.with_need(Term::Family(Family::V4)),
        "tcp" => field.with_need(Term::Upper(UpperCube::protocol(Protocol::TCP))),
        "sctp" => field.with_need(Term::Upper(UpperCube::protocol(Protocol::SCTP))),
        _ => field,
    })
}

/// `& 0xff000000`: a field of its own, apart from the one without. Masks of flags, and of what is a
/// coordinate, stay with who reads the values.
fn masked(cursor: &mut Cursor, field: Field) -> Option<Field> {
    let is_mask = cursor.kind() == Some(Kind::And) || cursor.word() == Some("and");
    let is_other = matches!(cursor.kind(), Some(Kind::Or | Kind::Xor | Kind::ShiftLeft | Kind::ShiftRight))
        || matches!(cursor.word(), Some("or" | "xor" | "lshift" | "rshift"));
    if is_other {
        skip_operations(cursor)?;
        return Some(Field { coordinate: Coordinate::Opaque(NOT_READ), values: Datatype::Opaque, ..field });
    }
    let is_plain = matches!(&field.coordinate, Coordinate::Variable(Variable::Field(_)))
        && !field.values.is_bits()
        && matches!(field.values, Datatype::Mark | Datatype::Integer(_) | Datatype::Dscp | Datatype::Ecn);
    if !is_mask || !is_plain {
        return Some(field);
    }
    let name = match &field.coordinate {
        Coordinate::Variable(Variable::Field(name)) => name.clone(),
        _ => return Some(field),
    };
    let before = *cursor;
    cursor.advance();
    let mask = cursor.word().and_then(number).filter(|mask| *mask != 0 && *mask <= field.last);
    match mask {
        Some(mask) => {
            cursor.advance();
            if matches!(cursor.kind(), Some(Kind::Or | Kind::Xor)) || matches!(cursor.word(), Some("or" | "xor")) {
                skip_operations(cursor)?;
                return Some(Field { coordinate: Coordinate::Opaque(NOT_READ), values: Datatype::Opaque, ..field });
            }
            let variable = masked_variable(&name, mask, field.values == Datatype::Mark);
            Some(Field { coordinate: Coordinate::Variable(variable), last: mask, ..field })
        }
        None => {
            *cursor = before;
            skip_operations(cursor)?;
            Some(Field { coordinate: Coordinate::Opaque(NOT_READ), values: Datatype::Opaque, ..field })
        }
    }
}

pub(super) fn masked_variable(name: &str, mask: u128, is_mark: bool) -> Variable {
    let digits = if is_mark { 10 } else { 4 };
    variable(&format!("{name} & {mask:#0digits$x}"))
}

/// Binary operations and their right sides.
pub(super) fn skip_operations(cursor: &mut Cursor) -> Option<()> {
    loop {
        let is_operator = matches!(cursor.kind(), Some(Kind::And | Kind::Or | Kind::Xor | Kind::ShiftLeft | Kind::ShiftRight))
            || matches!(cursor.word(), Some("and" | "or" | "xor" | "lshift" | "rshift"));
        if !is_operator {
            return Some(());
        }
        cursor.advance();
        operand(cursor)?;
    }
}

fn operand(cursor: &mut Cursor) -> Option<()> {
    if cursor.kind() == Some(Kind::LeftParenthesis) {
        return parentheses(cursor);
    }
    let start = *cursor;
    if field(cursor, false).is_none() {
        *cursor = start;
        if !matches!(cursor.kind(), Some(Kind::Word | Kind::Quoted | Kind::Reference)) {
            return None;
        }
        cursor.advance();
    }
    Some(())
}

fn parentheses(cursor: &mut Cursor) -> Option<()> {
    let mut depth = 0_usize;
    loop {
        match cursor.kind()? {
            Kind::LeftParenthesis => depth += 1,
            Kind::RightParenthesis => depth -= 1,
            _ => {}
        }
        cursor.advance();
        if depth == 0 {
            return Some(());
        }
    }
}

/// Goes past a value that a statement has: `ct mark and 0x00ffffff or 0x02000000`, `ip saddr map { … }`.
pub(super) fn skip_value(cursor: &mut Cursor) -> Option<()> {
    loop {
        if cursor.kind() == Some(Kind::Open) {
            cursor.braces()?;
        } else {
            operand(cursor)?;
            skip_operations(cursor)?;
        }
        if cursor.take_word("map") {
            if cursor.kind() == Some(Kind::Open) {
                cursor.braces()?;
            } else if !cursor.take(Kind::Reference) {
                return None;
            }
        }
        let goes_on = [Kind::Dot, Kind::Comma, Kind::Dash].into_iter().any(|kind| cursor.take(kind));
        if !goes_on {
            return Some(());
        }
    }
}

impl Field {
    fn with_need(mut self, term: Term) -> Self {
        self.needs.push(term);
        self
    }

    pub fn is_opaque(&self) -> bool {
        matches!(self.coordinate, Coordinate::Opaque(_))
    }

    pub fn is_chance(&self) -> bool {
        matches!(self.coordinate, Coordinate::Opaque(CHANCE))
    }
}

pub(super) fn writes_of(field: &Field) -> Writes {
    match &field.coordinate {
        Coordinate::Variable(_) if field.reads != Writes::default() => field.reads,
        _ => Writes::HEADER,
    }
}
