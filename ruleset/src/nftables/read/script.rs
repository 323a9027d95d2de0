//! A text as commands, in the order in which the kernel would get them.
//!
//! In: text. Out: commands with their places; rules and elements are still tokens. Never: an opinion on
//! whether the kernel would take them.
//!
//! The blocks of a table are taken apart as nft does it: chains and objects first, then elements, then
//! rules, so that a rule may name a chain that stands after it.

use std::ops::Range;

use ringwall_diagnostic::{Diagnostic, SourceId, Span};

use super::token::{Kind, Token, tokens};
use super::values::expand;

/// A text that tokens point into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'t>(pub &'t str);

impl<'t> Text<'t> {
    pub fn of(self, token: &Token) -> &'t str {
        &self.0[token.start as usize..token.end as usize]
    }

    /// Without the quotes of a quoted text, `@` of a set and `$` of a value.
    pub fn name(self, token: &Token) -> &'t str {
        let text = self.of(token);
        match token.kind {
            Kind::Quoted => text.trim_matches('"'),
            Kind::Reference | Kind::Value => &text[1..],
            _ => text,
        }
    }
}

/// The commands of one text.
#[derive(Debug)]
pub struct Script<'t> {
    pub(super) text: Text<'t>,
    pub(super) source: SourceId,
    pub(super) tokens: Vec<Token>,
    lines: Vec<u32>,
    pub(super) commands: Vec<Command<'t>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    /// Like add, but it must not be there yet.
    Create,
    Insert,
    Replace,
    Delete,
    /// Like delete, but it need not be there.
    Destroy,
    Flush,
    Rename,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName<'t> {
    /// `ip`, `ip6`, `inet`, `arp`, `bridge` or `netdev`.
    pub family: &'t str,
    pub name: &'t str,
}

#[derive(Debug)]
pub(super) struct Command<'t> {
    pub verb: Verb,
    pub table: TableName<'t>,
    pub object: Object<'t>,
    /// The token that it begins with, or that names it.
    pub place: u32,
}

#[derive(Debug)]
pub(super) enum Object<'t> {
    /// Of the family, or of all when that is empty.
    Ruleset,
    Table { is_dormant: bool },
    Chain { name: &'t str, base: Option<Base<'t>>, policy: Option<&'t str> },
    /// For rename: the new name.
    ChainName { name: &'t str, new: &'t str },
    Rule { chain: &'t str, at: Place, body: Range<u32> },
    Set(Box<SetDeclaration<'t>>),
    Elements { set: &'t str, body: Range<u32> },
    /// A counter, quota, limit, `ct timeout` and so on: its kind, name, and what stands in braces.
    Named { kind: &'static str, name: &'t str, body: Range<u32> },
}

/// Where a rule goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    End,
    Start,
    /// After the rule of this number, from 0.
    After(usize),
    Before(usize),
    /// By a number that only the kernel knows.
    Handle,
}

#[derive(Clone, Debug)]
pub(super) struct Base<'t> {
    pub kind: &'t str,
    pub hook: &'t str,
    pub priority: i32,
    /// Interfaces that it is for; none: all.
    pub devices: Vec<&'t str>,
    /// All but the policy, as canonical text.
    pub text: String,
}

#[derive(Clone, Debug, Default)]
pub(super) struct SetDeclaration<'t> {
    pub name: &'t str,
    pub is_map: bool,
    /// Whether `key` and `data` are expressions instead of types.
    pub is_typeof: bool,
    pub key: Range<u32>,
    /// What a map's values are.
    pub data: Range<u32>,
    pub flags: Vec<&'t str>,
    pub auto_merge: bool,
    /// Size, timeout and so on, each as it stands, in the text's order.
    pub others: Vec<Range<u32>>,
}

/// Diagnostics of one text; what follows the first hundred is more of the same.
const MOST_DIAGNOSTICS: usize = 100;

/// Reads a text that is one of a [`ringwall_diagnostic::Sources`].
pub fn script(text: &str, source: SourceId) -> (Script<'_>, Vec<Diagnostic>) {
    let empty = Script { text: Text(text), source, tokens: Vec::new(), lines: Vec::new(), commands: Vec::new() };
    if u32::try_from(text.len()).is_err() {
        let message = "the text has 4 GiB or more";
        return (empty, vec![Diagnostic::error("RW6009", message).help("split it")]);
    }
    let (tokens, lines) = tokens(text);
    let mut script = Script { tokens, lines, ..empty };
    let mut diagnostics = Vec::new();
    expand(&mut script, &mut diagnostics);
    let mut parser = Parser { script: &script, at: 0, commands: Vec::new(), diagnostics };
    parser.file();
    let Parser { commands, mut diagnostics, .. } = parser;
    script.commands = commands;
    diagnostics.truncate(MOST_DIAGNOSTICS);
    (script, diagnostics)
}

impl Script<'_> {
    /// The line of a byte, from 1.
    pub(super) fn line(&self, offset: u32) -> usize {
        self.lines.partition_point(|end| *end < offset) + 1
    }

    pub(super) fn span(&self, tokens: &Range<u32>) -> Span {
        let all = &self.tokens[tokens.start as usize..tokens.end as usize];
        let end = self.text.0.len();
        let start = all.iter().map(|token| token.start as usize).min().unwrap_or(end);
        let end = all.iter().map(|token| token.end as usize).max().unwrap_or(end);
        Span { source: self.source, start, end }
    }

    pub(super) fn slice(&self, tokens: &Range<u32>) -> &[Token] {
        &self.tokens[tokens.start as usize..tokens.end as usize]
    }
}

const FAMILIES: [&str; 6] = ["ip", "ip6", "inet", "arp", "bridge", "netdev"];
/// Objects of a table that rules refer to by name.
const OBJECTS: [&str; 5] = ["counter", "quota", "limit", "secmark", "synproxy"];
const CT_OBJECTS: [(&str, &str); 3] =
    [("timeout", "ct timeout"), ("helper", "ct helper"), ("expectation", "ct expectation")];

struct Parser<'s, 't> {
    script: &'s Script<'t>,
    at: usize,
    commands: Vec<Command<'t>>,
    diagnostics: Vec<Diagnostic>,
}

/// The command can't be read: why.
struct Unreadable(String);

type Parsed<T> = Result<T, Unreadable>;

/// What the blocks of a table are sorted into.
#[derive(Default)]
struct Block<'t> {
    declarations: Vec<Command<'t>>,
    elements: Vec<Command<'t>>,
    rules: Vec<Command<'t>>,
}

impl<'t> Parser<'_, 't> {
    fn file(&mut self) {
        loop {
            self.skip_separators();
            if self.peek().is_none() {
                break;
            }
            let start = self.at;
            let read = self.command();
            let read = read.and_then(|()| self.end_of_command());
            if let Err(Unreadable(why)) = read {
                let last = || self.script.tokens.iter().rfind(|token| token.kind != Kind::Newline);
                let found = self.script.tokens.get(self.at).filter(|token| token.kind != Kind::Newline).or_else(last);
                let at = found.map_or(self.script.text.0.len(), |token| token.start as usize);
                let end = found.map_or(at, |token| token.end as usize);
                let span = Span { source: self.script.source, start: at, end };
                self.diagnostics.push(Diagnostic::error("RW6001", why).at(span, "is not understood here"));
                if self.diagnostics.len() >= MOST_DIAGNOSTICS {
                    break;
                }
                // What is wrong inside a block makes its rest unreadable.
                self.at = start;
                self.skip_command();
            }
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.script.tokens.get(self.at)
    }

    fn kind(&self) -> Option<Kind> {
        self.peek().map(|token| token.kind)
    }

    fn word(&self) -> Option<&'t str> {
        self.peek().filter(|token| token.kind == Kind::Word).map(|token| self.script.text.of(token))
    }

    fn is_word(&self, word: &str) -> bool {
        self.word() == Some(word)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn take(&mut self, kind: Kind) -> bool {
        let found = self.kind() == Some(kind);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, kind: Kind, what: &str) -> Parsed<()> {
        if self.take(kind) { Ok(()) } else { Err(Unreadable(format!("{what} is missing"))) }
    }

    fn name(&mut self, what: &str) -> Parsed<&'t str> {
        match self.peek() {
            Some(token) if matches!(token.kind, Kind::Word | Kind::Quoted) => {
                let name = self.script.text.name(token);
                self.at += 1;
                Ok(name)
            }
            _ => Err(Unreadable(format!("the name of a {what} is missing"))),
        }
    }

    fn skip_separators(&mut self) {
        while matches!(self.kind(), Some(Kind::Newline | Kind::Semicolon)) {
            self.at += 1;
        }
    }

    fn skip_newlines(&mut self) {
        while self.kind() == Some(Kind::Newline) {
            self.at += 1;
        }
    }

    fn end_of_command(&mut self) -> Parsed<()> {
        match self.kind() {
            None | Some(Kind::Newline | Kind::Semicolon) => Ok(()),
            Some(_) => Err(Unreadable("the command goes on after its end".into())),
        }
    }

    /// To the end of the line, whole blocks included.
    fn skip_command(&mut self) {
        let mut depth = 0_usize;
        while let Some(kind) = self.kind() {
            match kind {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.saturating_sub(1),
                Kind::Newline | Kind::Semicolon if depth == 0 => break,
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Tokens up to where a statement ends; newlines in braces are not its end.
    fn statement(&mut self) -> Range<u32> {
        let start = self.at;
        let mut depth = 0_usize;
        for token in &self.script.tokens[start..] {
            match token.kind {
                Kind::Open | Kind::LeftParenthesis => depth += 1,
                Kind::Close | Kind::RightParenthesis if depth > 0 => depth -= 1,
                Kind::Close => break,
                Kind::Newline | Kind::Semicolon if depth == 0 => break,
                _ => {}
            }
            self.at += 1;
        }
        start as u32..self.at as u32
    }

    /// What stands in braces, without them.
    fn braces(&mut self) -> Parsed<Range<u32>> {
        self.expect(Kind::Open, "`{`")?;
        let start = self.at;
        let mut depth = 0_usize;
        for token in &self.script.tokens[start..] {
            match token.kind {
                Kind::Open => depth += 1,
                Kind::Close if depth == 0 => {
                    let end = self.at;
                    self.at += 1;
                    return Ok(start as u32..end as u32);
                }
                Kind::Close => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
        Err(Unreadable("`}` is missing: the text ends too early".into()))
    }

    fn command(&mut self) -> Parsed<()> {
        let Some(word) = self.word() else { return Err(Unreadable("a command is missing".into())) };
        let verb = match word {
            "add" => Verb::Add,
            "create" => Verb::Create,
            "insert" => Verb::Insert,
            "replace" => Verb::Replace,
            "delete" => Verb::Delete,
            "destroy" => Verb::Destroy,
            "flush" => Verb::Flush,
            "rename" => Verb::Rename,
            // They show something and change no rule.
            "list" | "reset" | "monitor" | "describe" => {
                self.skip_command();
                return Ok(());
            }
            "include" => {
                let start = self.at as u32;
                self.skip_command();
                let span = self.script.span(&(start..self.at as u32));
                self.diagnostics.push(
                    Diagnostic::error("RW6002", "another file is included")
                        .at(span, "what it says is not known here")
                        .help("give the whole ruleset in one text: `nft list ruleset` writes it"),
                );
                return Ok(());
            }
            _ => {
                return self.object(Verb::Add);
            }
        };
        self.at += 1;
        self.object(verb)
    }

    fn table_name(&mut self) -> Parsed<TableName<'t>> {
        let family = FAMILIES.into_iter().find(|family| self.is_word(family));
        self.at += usize::from(family.is_some());
        Ok(TableName { family: family.unwrap_or("ip"), name: self.name("table")? })
    }

    fn push(&mut self, verb: Verb, table: TableName<'t>, object: Object<'t>, place: usize) {
        self.commands.push(Command { verb, table, object, place: place as u32 });
    }

    fn object(&mut self, verb: Verb) -> Parsed<()> {
        let place = self.at;
        let Some(word) = self.word() else { return Err(Unreadable("the kind of object is missing".into())) };
        let is_declared = matches!(verb, Verb::Add | Verb::Create);
        if let Some(kind) = self.object_kind() {
            let table = self.table_name()?;
            let name = self.name(kind)?;
            let start = self.at;
            let body = match (is_declared, self.kind()) {
                (true, Some(Kind::Open)) => self.braces()?,
                // `add counter ip t c packets 0 bytes 0`
                _ => {
                    self.statement();
                    start as u32..self.at as u32
                }
            };
            self.push(verb, table, Object::Named { kind, name, body }, place);
            return Ok(());
        }
        match word {
            "ruleset" if verb == Verb::Flush => {
                self.at += 1;
                let family = FAMILIES.into_iter().find(|family| self.is_word(family));
                self.at += usize::from(family.is_some());
                let table = TableName { family: family.unwrap_or(""), name: "" };
                self.push(verb, table, Object::Ruleset, place);
            }
            "table" => {
                self.at += 1;
                let table = self.table_name()?;
                if is_declared && self.kind() == Some(Kind::Open) {
                    return self.table_block(verb, table, place);
                }
                self.push(verb, table, Object::Table { is_dormant: false }, place);
            }
            "chain" => {
                self.at += 1;
                let table = self.table_name()?;
                let name = self.name("chain")?;
                if verb == Verb::Rename {
                    let new = self.name("chain")?;
                    self.push(verb, table, Object::ChainName { name, new }, place);
                    return Ok(());
                }
                let mut block = Block::default();
                self.chain_block(verb, table, name, place, &mut block)?;
                self.commands.extend(block.declarations);
                self.commands.extend(block.rules);
            }
            "set" | "map" | "meter" => {
                self.at += 1;
                let table = self.table_name()?;
                let name = self.name("set")?;
                let mut block = Block::default();
                self.set_block(verb, table, name, word == "map", place, &mut block)?;
                self.commands.extend(block.declarations);
                self.commands.extend(block.elements);
            }
            "element" => {
                self.at += 1;
                let table = self.table_name()?;
                let set = self.name("set")?;
                let body = self.braces()?;
                self.push(verb, table, Object::Elements { set, body }, place);
            }
            _ => {
                self.take_word("rule");
                let table = self.table_name()?;
                let chain = self.name("chain")?;
                let at = self.place(verb)?;
                let body = self.statement();
                self.push(verb, table, Object::Rule { chain, at, body }, place);
            }
        }
        Ok(())
    }

    /// `counter`, `ct timeout`, `flowtable` …, and goes past it.
    fn object_kind(&mut self) -> Option<&'static str> {
        let word = self.word()?;
        if word == "ct" {
            let next = self.script.tokens.get(self.at + 1)?;
            let next = self.script.text.of(next);
            let (_, kind) = CT_OBJECTS.into_iter().find(|(word, _)| *word == next)?;
            self.at += 2;
            return Some(kind);
        }
        let kind = OBJECTS.into_iter().chain(["flowtable"]).find(|kind| *kind == word)?;
        self.at += 1;
        Some(kind)
    }

    fn place(&mut self, verb: Verb) -> Parsed<Place> {
        let default = if verb == Verb::Insert { Place::Start } else { Place::End };
        let Some(word) = self.word().filter(|word| ["handle", "index", "position"].contains(word)) else {
            return Ok(default);
        };
        self.at += 1;
        let number = self.name("place")?;
        let number: usize = number.parse().map_err(|_| Unreadable(format!("`{number}` is no number")))?;
        Ok(match (word, verb) {
            ("index", Verb::Insert) => Place::Before(number),
            ("index", _) => Place::After(number),
            _ => Place::Handle,
        })
    }

    fn table_block(&mut self, verb: Verb, table: TableName<'t>, place: usize) -> Parsed<()> {
        self.at += 1;
        let mut block = Block::default();
        let mut is_dormant = false;
        loop {
            self.skip_separators();
            let start = self.at;
            if self.take(Kind::Close) {
                break;
            }
            let Some(word) = self.word() else {
                return Err(Unreadable(match self.peek() {
                    None => "`}` is missing: the text ends too early".into(),
                    Some(_) => "a chain, set or other object is missing".into(),
                }));
            };
            match word {
                "flags" => {
                    let flags = self.statement();
                    let tokens = self.script.slice(&flags);
                    is_dormant = tokens.iter().any(|token| self.script.text.of(token) == "dormant");
                }
                "comment" => {
                    self.statement();
                }
                "chain" => {
                    self.at += 1;
                    let name = self.name("chain")?;
                    self.chain_block(Verb::Add, table, name, start, &mut block)?;
                }
                "set" | "map" | "meter" => {
                    self.at += 1;
                    let name = self.name("set")?;
                    self.set_block(Verb::Add, table, name, word == "map", start, &mut block)?;
                }
                _ => {
                    let Some(kind) = self.object_kind() else {
                        return Err(Unreadable(format!("`{word}` is no object of a table")));
                    };
                    let name = self.name(kind)?;
                    let body = self.braces()?;
                    let object = Object::Named { kind, name, body };
                    block.declarations.push(Command { verb: Verb::Add, table, object, place: start as u32 });
                }
            }
        }
        self.push(verb, table, Object::Table { is_dormant }, place);
        self.commands.extend(block.declarations);
        self.commands.extend(block.elements);
        self.commands.extend(block.rules);
        Ok(())
    }

    fn chain_block(&mut self, verb: Verb, table: TableName<'t>, name: &'t str, place: usize, block: &mut Block<'t>) -> Parsed<()> {
        let (mut base, mut policy) = (None, None);
        let declared = block.declarations.len();
        if matches!(verb, Verb::Add | Verb::Create) && self.take(Kind::Open) {
            loop {
                self.skip_separators();
                if self.take(Kind::Close) {
                    break;
                }
                let start = self.at;
                match (self.peek(), self.word()) {
                    (None, _) => return Err(Unreadable("`}` is missing: the text ends too early".into())),
                    (_, Some("type")) => base = Some(self.base(table.family)?),
                    (_, Some("policy")) => {
                        self.at += 1;
                        let word = self.name("policy")?;
                        if !["accept", "drop"].contains(&word) {
                            return Err(Unreadable(format!("`{word}` is no policy")));
                        }
                        policy = Some(word);
                    }
                    (_, Some("comment" | "flags" | "devices")) => {
                        self.statement();
                    }
                    _ => {
                        let body = self.statement();
                        if body.is_empty() {
                            return Err(Unreadable("a rule is missing".into()));
                        }
                        let object = Object::Rule { chain: name, at: Place::End, body };
                        block.rules.push(Command { verb: Verb::Add, table, object, place: start as u32 });
                    }
                }
                if !matches!(self.kind(), Some(Kind::Newline | Kind::Semicolon | Kind::Close)) {
                    return Err(Unreadable("the end of the line is missing".into()));
                }
            }
        }
        let object = Object::Chain { name, base, policy };
        block.declarations.insert(declared, Command { verb, table, object, place: place as u32 });
        Ok(())
    }

    /// `type filter hook input priority filter - 10`
    fn base(&mut self, family: &str) -> Parsed<Base<'t>> {
        let start = self.at;
        self.at += 1;
        let kind = self.name("type")?;
        if !["filter", "nat", "route"].contains(&kind) {
            return Err(Unreadable(format!("`{kind}` is no type of a chain")));
        }
        if !self.take_word("hook") {
            return Err(Unreadable("`hook` is missing".into()));
        }
        let hook = self.name("hook")?;
        let mut devices = Vec::new();
        if self.take_word("device") {
            devices.push(self.name("device")?);
        } else if self.take_word("devices") {
            self.expect(Kind::Assign, "`=`")?;
            let names = self.braces()?;
            let names = self.script.slice(&names).iter().filter(|token| matches!(token.kind, Kind::Word | Kind::Quoted));
            devices = names.map(|token| self.script.text.name(token)).collect();
        }
        if !self.take_word("priority") {
            return Err(Unreadable("`priority` is missing".into()));
        }
        let tokens = self.statement();
        let words: String = self.script.slice(&tokens).iter().map(|token| self.script.text.of(token)).collect();
        let Some(priority) = priority(&words, family) else {
            self.at = tokens.start as usize;
            return Err(Unreadable(format!("`{words}` is no priority")));
        };
        let text = super::token::canonical(self.script.text, self.script.slice(&(start as u32..self.at as u32)));
        Ok(Base { kind, hook, priority, devices, text })
    }

    fn set_block(
        &mut self,
        verb: Verb,
        table: TableName<'t>,
        name: &'t str,
        is_map: bool,
        place: usize,
        block: &mut Block<'t>,
    ) -> Parsed<()> {
        let mut set = SetDeclaration { name, is_map, ..SetDeclaration::default() };
        let mut elements = None;
        if matches!(verb, Verb::Add | Verb::Create) {
            self.expect(Kind::Open, "`{`")?;
            loop {
                self.skip_separators();
                if self.take(Kind::Close) {
                    break;
                }
                match self.word() {
                    None => return Err(Unreadable("a property of the set is missing".into())),
                    Some(word @ ("type" | "typeof")) => {
                        self.at += 1;
                        set.is_typeof = word == "typeof";
                        let all = self.statement();
                        let colon = self.script.slice(&all).iter().position(|token| token.kind == Kind::Colon);
                        let end = colon.map_or(all.end, |at| all.start + at as u32);
                        set.key = all.start..end;
                        set.data = (end + 1).min(all.end)..all.end;
                    }
                    Some("flags") => {
                        self.at += 1;
                        let flags = self.statement();
                        let words = self.script.slice(&flags).iter().filter(|token| token.kind == Kind::Word);
                        set.flags = words.map(|token| self.script.text.of(token)).collect();
                    }
                    Some("auto-merge") => {
                        self.at += 1;
                        set.auto_merge = true;
                    }
                    Some("elements") => {
                        self.at += 1;
                        self.expect(Kind::Assign, "`=`")?;
                        self.skip_newlines();
                        elements = Some(self.braces()?);
                    }
                    Some("comment") => {
                        self.statement();
                    }
                    Some(_) => set.others.push(self.statement()),
                }
                if !matches!(self.kind(), Some(Kind::Newline | Kind::Semicolon | Kind::Close)) {
                    return Err(Unreadable("the end of the line is missing".into()));
                }
            }
            if set.key.is_empty() {
                return Err(Unreadable(format!("set `{name}` has no type")));
            }
        }
        block.declarations.push(Command { verb, table, object: Object::Set(Box::new(set)), place: place as u32 });
        if let Some(body) = elements {
            let object = Object::Elements { set: name, body };
            block.elements.push(Command { verb: Verb::Add, table, object, place: place as u32 });
        }
        Ok(())
    }
}

/// `filter`, `-150`, `filter-10`, `srcnat+1`, by nft(8); names mean other numbers in bridges.
fn priority(words: &str, family: &str) -> Option<i32> {
    let is_bridge = family == "bridge";
    let names = [
        ("raw", -300),
        ("mangle", -150),
        ("dstnat", if is_bridge { -300 } else { -100 }),
        ("filter", if is_bridge { -200 } else { 0 }),
        ("security", 50),
        ("srcnat", if is_bridge { 300 } else { 100 }),
        ("out", 100),
    ];
    let found = names.iter().find_map(|(name, number)| Some((words.strip_prefix(name)?, *number)));
    let (rest, number) = found.unwrap_or((words, 0));
    match rest {
        "" if found.is_some() => Some(number),
        _ => number.checked_add(rest.strip_prefix('+').unwrap_or(rest).parse().ok()?),
    }
}
