//! Matches and verdict maps of a rule.
//!
//! In: a cursor on an expression and what it is compared with. Out: terms, or why it can't be read. Never:
//! a value taken for another.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ringwall_packet::{Family, Interval, IntervalSet, State, Variable, truth};

use super::cursor::Cursor;
use super::datatype::{Datatype, NO_VALUE, STATUS, number};
use super::elements::{Elements, value};
use super::expression::{NOT_READ, expression, masked_variable, skip_value, writes_of};
use super::field::{Coordinate, Field};
use super::rule::{Reader, Refusal, Step, Trouble, Use};
use super::term::Term;
use super::token::{Kind, Token};

impl<'t> Reader<'_, 't> {
    /// A match, a verdict map, or a field that is set.
    pub fn matching(&mut self) -> Result<(), Trouble> {
        let start = self.cursor.at;
        let mut fields = vec![expression(&mut self.cursor).ok_or(NOT_READ)?];
        while self.cursor.take(Kind::Dot) {
            fields.push(expression(&mut self.cursor).ok_or(NOT_READ)?);
        }
        for field in &fields {
            self.body.reads = self.body.reads.and(field.reads);
        }
        if self.cursor.word() == Some("set") {
            self.cursor.advance();
            skip_value(&mut self.cursor).ok_or(NOT_READ)?;
            self.act(start, writes_of(&fields[0]));
            return Ok(());
        }
        let left = canonical_left(&self.cursor, start, &fields);
        if self.cursor.take_word("vmap") {
            return self.verdict_map(&left, fields);
        }
        if fields.iter().any(Field::is_opaque) {
            self.skip_right_side().ok_or(NOT_READ)?;
            let why = fields.iter().find_map(|field| match field.coordinate {
                Coordinate::Opaque(why) => Some(why),
                _ => None,
            });
            let needs: Vec<Term> = fields.iter().flat_map(|field| field.needs.clone()).collect();
            self.test(needs);
            let why = why.unwrap_or(NOT_READ);
            if fields.iter().any(Field::is_chance) { self.free_here(start, why) } else { self.free(self.cursor.since(start), why) }
            return Ok(());
        }
        if let [field] = &fields[..]
            && let Some(lookup) = self.masked_lookup(field)?
        {
            self.push(lookup);
            return Ok(());
        }
        let mask = self.mask()?;
        let operator = operator(&mut self.cursor);
        let terms = match (self.cursor.peek().copied(), mask, &fields[..]) {
            (None, ..) => return Err(NOT_READ.into()),
            (Some(token), None, _) if token.kind == Kind::Reference => {
                let is_negated = operator.is_negated().ok_or(NO_VALUE)?;
                self.cursor.advance();
                let set = self.cursor.text.name(&token);
                self.check_set(token, &fields, false)?;
                let text = format!("{left} @{set}");
                self.push(Step::Lookup { fields, set, is_negated, text });
                return Ok(());
            }
            (Some(token), None, _) if token.kind == Kind::Open && !matches!(fields[0].coordinate, Coordinate::Status) => {
                let is_negated = operator.is_negated().ok_or(NO_VALUE)?;
                let elements = self.elements(&fields, false)?;
                elements.terms(&fields, is_negated)
            }
            (_, mask, [field]) => self.one_field(field, mask, operator)?,
            (_, None, _) => {
                let is_negated = operator.is_negated().ok_or(NO_VALUE)?;
                let mut elements = Elements { fields: fields.len(), ..Elements::default() };
                for (index, field) in fields.iter().enumerate() {
                    if index > 0 && !self.cursor.take(Kind::Dot) {
                        return Err(NO_VALUE.into());
                    }
                    elements.keys.push(value(&mut self.cursor, field.values)?);
                }
                elements.places.push((0, 0));
                elements.terms(&fields, is_negated)
            }
            _ => return Err(NOT_READ.into()),
        };
        self.test(terms);
        Ok(())
    }

    /// `ip saddr & 255.255.255.0 @set`, or `ip saddr & 255.255.255.0 | 0.0.0.128 @set`: an address of which some
    /// bits are cleared and some set. What that is, is a variable of its own, apart from the address.
    fn masked_lookup(&mut self, field: &Field) -> Result<Option<Step<'t>>, Trouble> {
        let (family, what) = match field.coordinate {
            Coordinate::Source(family) => (family, "saddr"),
            Coordinate::Destination(family) => (family, "daddr"),
            _ => return Ok(None),
        };
        let before = self.cursor;
        if !(self.cursor.take(Kind::And) || self.cursor.take_word("and")) {
            return Ok(None);
        }
        let Ok(mask) = value(&mut self.cursor, field.values) else {
            self.cursor = before;
            return Ok(None);
        };
        let set_bits = match self.cursor.take(Kind::Or) || self.cursor.take_word("or") {
            true => value(&mut self.cursor, field.values)?.first(),
            false => 0,
        };
        // As nft lists it: bits that are set are not cleared before.
        let mask = mask.first() | set_bits;
        let address = |bits: u128| match family {
            Family::V4 => Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).to_string(),
            Family::V6 => Ipv6Addr::from_bits(bits).to_string(),
        };
        let ip = if family == Family::V4 { "ip" } else { "ip6" };
        let left = match set_bits {
            0 => format!("{ip} {what} & {}", address(mask)),
            _ => format!("{ip} {what} & {} | {}", address(mask), address(set_bits)),
        };
        let operator = operator(&mut self.cursor);
        let Some(token) = self.cursor.peek().copied().filter(|token| token.kind == Kind::Reference) else {
            self.cursor = before;
            return Ok(None);
        };
        let is_negated = operator.is_negated().ok_or(NO_VALUE)?;
        self.cursor.advance();
        let set = self.cursor.text.name(&token);
        let needs = field.terms(&IntervalSet::full(), false);
        let changed = Field { coordinate: Coordinate::Variable(Variable::Field(Arc::from(left.as_str()))), needs, ..field.clone() };
        let fields = vec![changed];
        self.check_set(token, &fields, false)?;
        let text = format!("{left} @{set}");
        Ok(Some(Step::Lookup { fields, set, is_negated, text }))
    }

    fn elements(&mut self, fields: &[Field], has_outcomes: bool) -> Result<Elements<'t>, Trouble> {
        let tokens = self.cursor.braces().ok_or(NOT_READ)?;
        let types: Vec<Datatype> = fields.iter().map(|field| field.values).collect();
        let elements = Elements::read(self.cursor.text, tokens, &types, has_outcomes)?;
        // nft merges overlapping keys of a set that is written in a rule, but not of a map.
        if has_outcomes && let Some((one, other)) = elements.overlap() {
            let token = |index: usize| tokens[elements.places[index].0 as usize];
            return Err(Refusal::Overlap(token(one), token(other)).into());
        }
        Ok(elements)
    }

    fn check_set(&mut self, token: Token, fields: &[Field], has_outcomes: bool) -> Result<(), Trouble> {
        let name = self.cursor.text.name(&token);
        let Some(set) = self.names.set(name) else { return Err(Refusal::NoSet(token).into()) };
        self.body.uses.push(Use::Set(name));
        let types: Vec<Datatype> = fields.iter().map(|field| field.values).collect();
        let fits = |(own, set): (&Datatype, &Datatype)| {
            own == set
                || matches!((own, set), (Datatype::Opaque, _) | (_, Datatype::Opaque))
                || matches!((own, set), (Datatype::Integer(_) | Datatype::Mark, Datatype::Integer(_) | Datatype::Mark))
        };
        if !set.key.is_empty() && (set.key.len() != types.len() || !types.iter().zip(set.key).all(fits)) {
            return Err(Refusal::Type(token, format!("keys of `{name}` are of another type")).into());
        }
        if has_outcomes != set.has_outcomes && !set.key.is_empty() {
            let what = if has_outcomes { "is no map to verdicts" } else { "is a map" };
            return Err(Refusal::Type(token, format!("`{name}` {what}")).into());
        }
        Ok(())
    }

    /// Each key of a field that is not read is a variable.
    fn free_map(&mut self, left: &str, fields: &[Field]) -> Result<(), Trouble> {
        let tokens = self.cursor.braces().ok_or(NOT_READ)?;
        let place = if fields.iter().any(Field::is_chance) { format!(" (line {})", self.line) } else { String::new() };
        let needs: Vec<Term> = fields.iter().flat_map(|field| field.needs.clone()).collect();
        let mut before = needs.clone();
        let mut arms = Vec::new();
        for (key, outcome) in Elements::texts(self.cursor.text, tokens).ok_or(NOT_READ)? {
            let text = format!("{left} {key}{place}");
            self.body.unknown.push((text.clone(), "which key it has is not known"));
            let variable = Variable::Holds(Arc::from(text));
            let mut terms = before.clone();
            terms.push(Term::Is(variable.clone(), truth(true)));
            before.push(Term::Is(variable, truth(false)));
            arms.push((terms, outcome));
        }
        self.body.uses.extend(arms.iter().filter_map(|(_, outcome)| outcome.target()).map(Use::Chain));
        let all = vec![Term::AnyOf(arms.iter().map(|(terms, _)| terms.clone()).collect())];
        self.push(Step::Map { arms, all });
        Ok(())
    }

    fn verdict_map(&mut self, left: &str, fields: Vec<Field>) -> Result<(), Trouble> {
        let is_readable = |field: &Field| !matches!(field.coordinate, Coordinate::Opaque(_) | Coordinate::Status);
        if let Some(token) = self.cursor.peek().filter(|token| token.kind == Kind::Reference) {
            let map = self.cursor.text.name(token);
            self.check_set(*token, &fields, true)?;
            self.cursor.advance();
            if !fields.iter().all(is_readable) {
                return Err(NOT_READ.into());
            }
            self.push(Step::NamedMap { fields, map });
            return Ok(());
        }
        if !fields.iter().all(is_readable) {
            return self.free_map(left, &fields);
        }
        let elements = self.elements(&fields, true)?;
        let arms = elements.arms(&fields);
        let targets = arms.iter().filter_map(|(_, outcome)| outcome.target());
        self.body.uses.extend(targets.map(Use::Chain));
        let all = elements.terms(&fields, false);
        self.push(Step::Map { arms, all });
        Ok(())
    }

    /// `& VALUE` after flags and coordinates; other masks are part of the expression.
    fn mask(&mut self) -> Result<Option<u128>, Trouble> {
        if self.cursor.kind() != Some(Kind::And) && self.cursor.word() != Some("and") {
            return Ok(None);
        }
        self.cursor.advance();
        Ok(Some(u128::MAX))
    }

    fn one_field(&mut self, field: &Field, mask: Option<u128>, operator: Operator) -> Result<Vec<Term>, Trouble> {
        let (mask, operator) = match mask {
            None => (None, operator),
            // The operator stands behind the mask.
            Some(_) => {
                let mask = self.bits(field.values)?;
                (Some(mask), self::operator(&mut self.cursor))
            }
        };
        let is_flags = matches!(field.values, Datatype::TcpFlags | Datatype::Status) || (field.values == Datatype::State && mask.is_some());
        if is_flags {
            return self.flags(field, mask, operator);
        }
        if let Some(mask) = mask {
            return self.masked(field, mask, operator);
        }
        if field.values == Datatype::State {
            return self.states(field, operator);
        }
        if let Some(terms) = self.prefix(field, operator) {
            return Ok(terms);
        }
        let range = value(&mut self.cursor, field.values)?;
        // Several with commas between them are bits, which this field does not have.
        if matches!(self.cursor.kind(), Some(Kind::Comma | Kind::Or | Kind::Slash)) {
            return Err(NO_VALUE.into());
        }
        let (first, last) = (range.first(), range.last());
        let interval = |first, last| Interval::new(first, last).map(IntervalSet::from).unwrap_or_default();
        // The kernel's clock counts nanoseconds: of the second that is named, only the first is not after it.
        let is_clock = field.values == Datatype::Time;
        let (set, is_negated) = match operator {
            Operator::None | Operator::Equal | Operator::NotEqual | Operator::Not if is_clock && first < last => {
                (interval(first, last - 1), operator == Operator::NotEqual)
            }
            Operator::None | Operator::Equal => (interval(first, last), false),
            Operator::NotEqual | Operator::Not => (interval(first, last), true),
            _ if first != last => return Err(NO_VALUE.into()),
            Operator::Less => (first.checked_sub(1).map(|last| interval(0, last)).unwrap_or_default(), false),
            Operator::LessOrEqual if is_clock => (first.checked_sub(1).map(|last| interval(0, last)).unwrap_or_default(), false),
            Operator::Greater if is_clock => (interval(first, field.last), false),
            Operator::LessOrEqual => (interval(0, first), false),
            Operator::Greater => (first.checked_add(1).map(|first| interval(first, field.last)).unwrap_or_default(), false),
            Operator::GreaterOrEqual => (interval(first, field.last), false),
        };
        Ok(field.terms(&set, is_negated))
    }

    /// `ct mark 0x02000000/8`, as nft lists what is masked by the first bits.
    fn prefix(&mut self, field: &Field, operator: Operator) -> Option<Vec<Term>> {
        let Coordinate::Variable(Variable::Field(name)) = &field.coordinate else { return None };
        let (bits, is_mark) = match field.values {
            Datatype::Mark => (32, true),
            Datatype::Integer(bits) => (u32::from(bits), false),
            _ => return None,
        };
        let (value, length) = self.cursor.word()?.split_once('/')?;
        let (value, length) = (number(value)?, length.parse::<u32>().ok().filter(|length| (1..=bits).contains(length))?);
        let mask = field.last & !((1_u128 << (bits - length)) - 1);
        let is_negated = operator.is_negated()?;
        self.cursor.advance();
        let masked = Field { coordinate: Coordinate::Variable(masked_variable(name, mask, is_mark)), last: mask, ..field.clone() };
        Some(masked.terms(&IntervalSet::single(value & mask), is_negated))
    }

    /// `established,related`: any of them.
    fn states(&mut self, field: &Field, operator: Operator) -> Result<Vec<Term>, Trouble> {
        let mut values = Vec::new();
        loop {
            values.push(value(&mut self.cursor, Datatype::State)?);
            if !self.cursor.take(Kind::Comma) {
                break;
            }
        }
        if self.cursor.kind() == Some(Kind::Or) {
            return Err("no packet has two states".into());
        }
        // nft compares with all of the bits at once.
        if operator == Operator::NotEqual && values.len() > 1 {
            return Err("versions of nft differ in what it means".into());
        }
        let is_negated = operator.is_negated().ok_or(NO_VALUE)?;
        Ok(field.terms(&values.into_iter().collect(), is_negated))
    }

    /// Bits of flags: `syn,ack`, `(syn | ack)`, `0x12`.
    fn bits(&mut self, kind: Datatype) -> Result<u128, Trouble> {
        let is_closed = self.cursor.take(Kind::LeftParenthesis);
        let mut bits = 0;
        loop {
            let token = self.cursor.peek().filter(|token| token.kind == Kind::Word).ok_or(NO_VALUE)?;
            let word = self.cursor.text.of(token);
            bits |= match (number(word), kind) {
                (Some(number), Datatype::State) if number != 0 => return Err(NO_VALUE.into()),
                (Some(number), _) => number,
                (None, Datatype::State) => {
                    let state = State::ALL.iter().position(|state| state.word() == word).ok_or(NO_VALUE)?;
                    1 << state
                }
                (None, _) => kind.values(word, false)?.first(),
            };
            self.cursor.advance();
            if !self.cursor.take(Kind::Comma) && !self.cursor.take(Kind::Or) {
                break;
            }
        }
        if is_closed && !self.cursor.take(Kind::RightParenthesis) {
            return Err(NO_VALUE.into());
        }
        Ok(bits)
    }

    fn flags(&mut self, field: &Field, mask: Option<u128>, operator: Operator) -> Result<Vec<Term>, Trouble> {
        let bits = self.bits(field.values)?;
        let (mask, wanted, is_negated) = match (mask, operator) {
            // `tcp flags syn / syn,ack`
            (None, Operator::None | Operator::Equal | Operator::NotEqual) if self.cursor.take(Kind::Slash) => {
                let mask = self.bits(field.values)?;
                (mask, Some(bits), operator == Operator::NotEqual)
            }
            (None, Operator::None) => (bits, None, false),
            (None, Operator::Not) => (bits, None, true),
            (None, Operator::Equal) => (u128::MAX, Some(bits), false),
            (None, Operator::NotEqual) => (u128::MAX, Some(bits), true),
            (Some(mask), Operator::None | Operator::Equal) => (mask, Some(bits), false),
            (Some(mask), Operator::NotEqual) => (mask, Some(bits), true),
            _ => return Err(NO_VALUE.into()),
        };
        // `wanted`: these bits of the mask and no others; otherwise any of the mask's.
        let meets = |value: u128| match wanted {
            Some(wanted) => (value & mask == wanted) != is_negated,
            None => (value & mask != 0) != is_negated,
        };
        Ok(match field.values {
            Datatype::Status => {
                // All other bits are free, which a comparison of all of them would have to know.
                if mask == u128::MAX {
                    return Err(NOT_READ.into());
                }
                let names: Vec<_> = STATUS.iter().filter(|(_, bit)| mask & bit != 0).collect();
                let choices = (0..1_u32 << names.len()).map(|choice| {
                    let is_set = |index: usize| choice >> index & 1 == 1;
                    let value = names.iter().enumerate().filter(|(index, _)| is_set(*index)).map(|(_, (_, bit))| bit).sum();
                    let terms = names.iter().enumerate().map(|(index, (name, _))| {
                        Term::Is(Variable::Holds(Arc::from(format!("ct status {name}"))), truth(is_set(index)))
                    });
                    (value, terms.collect::<Vec<Term>>())
                });
                let alternatives: Vec<_> = choices.filter(|(value, _)| meets(*value)).map(|(_, terms)| terms).collect();
                let mut terms = field.needs.clone();
                match &alternatives[..] {
                    [only] => terms.extend(only.iter().cloned()),
                    _ => terms.push(Term::AnyOf(alternatives)),
                }
                terms
            }
            Datatype::State => {
                let states = State::ALL.into_iter().enumerate().filter(|(bit, _)| meets(1 << bit));
                field.terms(&states.map(|(_, state)| state.values()).collect(), false)
            }
            _ => {
                let set: IntervalSet<u128> = (0..=field.last).filter(|value| meets(*value)).collect();
                field.terms(&set, false)
            }
        })
    }

    /// `ip saddr & 255.255.0.255 == 10.0.0.5`: the ranges, where they are few.
    fn masked(&mut self, field: &Field, mask: u128, operator: Operator) -> Result<Vec<Term>, Trouble> {
        const MOST_FREE_BITS: u32 = 12;
        let wanted = value(&mut self.cursor, field.values)?;
        let is_negated = operator.is_negated().ok_or(NO_VALUE)?;
        let mask = mask & field.last;
        let low = mask.trailing_zeros();
        let free = field.last & !mask;
        let above: Vec<u32> = (low..128).filter(|bit| free >> bit & 1 == 1).collect();
        if wanted.first() != wanted.last() || above.len() > MOST_FREE_BITS as usize {
            return Err("its ranges are too many".into());
        }
        let host = 1_u128.checked_shl(low).map_or(u128::MAX, |above| above - 1);
        let set: IntervalSet<u128> = if wanted.first() & !mask != 0 {
            IntervalSet::default()
        } else {
            let base = |choice: u32| above.iter().enumerate().filter(|(at, _)| choice >> at & 1 == 1).map(|(_, bit)| 1_u128 << bit).sum::<u128>();
            let ranges = (0..1_u32 << above.len()).filter_map(|choice| {
                let first = wanted.first() | base(choice);
                Interval::new(first, first | (host & field.last))
            });
            ranges.collect()
        };
        Ok(field.terms(&set, is_negated))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// None is written: equal, or any of the bits.
    None,
    Equal,
    NotEqual,
    /// `!`: none of the bits.
    Not,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    /// `None` for those that compare sizes.
    fn is_negated(self) -> Option<bool> {
        match self {
            Self::None | Self::Equal => Some(false),
            Self::NotEqual | Self::Not => Some(true),
            _ => None,
        }
    }
}

pub(super) fn operator(cursor: &mut Cursor) -> Operator {
    let operator = match (cursor.kind(), cursor.word()) {
        (Some(Kind::Equal), _) | (_, Some("eq")) => Operator::Equal,
        (Some(Kind::NotEqual), _) | (_, Some("ne")) => Operator::NotEqual,
        (Some(Kind::Not), _) => Operator::Not,
        (Some(Kind::Less), _) | (_, Some("lt")) => Operator::Less,
        (Some(Kind::LessOrEqual), _) | (_, Some("le")) => Operator::LessOrEqual,
        (Some(Kind::Greater), _) | (_, Some("gt")) => Operator::Greater,
        (Some(Kind::GreaterOrEqual), _) | (_, Some("ge")) => Operator::GreaterOrEqual,
        _ => return Operator::None,
    };
    cursor.advance();
    operator
}

/// The text of what stands on the left, the same however it is written.
fn canonical_left(cursor: &Cursor, start: usize, fields: &[Field]) -> String {
    match fields {
        [Field { coordinate: Coordinate::Variable(Variable::Field(name)), .. }] => name.to_string(),
        _ => cursor.since(start),
    }
}
