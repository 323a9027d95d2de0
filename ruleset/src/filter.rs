//! What a text of firewall rules does, whatever format it has and whoever wrote it: the common
//! result of the readers.
//!
//! In: what a reader read. Out: at each hook, in the order in which packets meet them, ordered
//! tables of what decides. Never: a match left out. One that a reader does not understand is a
//! variable of the packet ([`ringwall_packet::Variable::Holds`]), and [`Filter::unknown`] names it.

use ringwall_diagnostic::{Diagnostic, Span};
use ringwall_packet::Table;

use crate::meaning::Verdict;

/// Where packets meet a chain: netfilter's hooks, in nftables' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    Ingress,
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    Egress,
}

/// All that a text does.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// By hook, then in the order in which packets meet them.
    pub chains: Vec<BaseChain>,
    /// The rules of the text, in its order; decisions refer to them.
    pub rules: Vec<RuleText>,
    /// What happens on the way to a decision; decisions refer to it.
    pub effects: Vec<Effects>,
    /// Matches and statements that are free variables, or whose effect on later packets or on the
    /// packet's header is not followed (translation, `notrack`, marks).
    pub unknown: Vec<Unknown>,
    /// Rules without a row that no packet gets to, as far as reading shows it; in their order.
    pub idle: Vec<Idle>,
}

/// A rule that no packet gets to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// Index into [`Filter::rules`].
    pub rule: usize,
    pub why: NotMet,
}

/// Where both are true of different ways to a rule, the later is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotMet {
    /// It asks what no packet is that gets to it.
    Never,
    /// This rule of the same chain, an index into [`Filter::rules`], takes every packet before it.
    After(usize),
}

/// A chain that packets meet at a hook. One that accepts hands them to the next chain of the hook; one that
/// drops or rejects has the last word.
#[derive(Clone, Debug)]
pub struct BaseChain {
    pub hook: Hook,
    /// Where it stands, such as `inet filter` or `filter`.
    pub table: String,
    pub name: String,
    pub priority: i32,
    /// Total: the last rows are the chain's policy.
    pub decisions: Table<Decision>,
}

/// What decides, and what happens on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    pub verdict: FilterVerdict,
    /// Index into [`Filter::rules`]; `None` for a chain's policy.
    pub rule: Option<usize>,
    /// Index into [`Filter::effects`].
    pub effects: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterVerdict {
    Decided(Verdict),
    /// It goes to a program or to a chain that the text does not have: what comes of it is not known.
    /// An index into [`Filter::unknown`].
    Elsewhere(usize),
}

/// Statements that a packet meets before it is decided, without those that only pass it on: each in
/// the format's own words with one space between tokens, its condition included, such as
/// `meta l4proto tcp ct timeout set "tcp4_60"`.
pub type Effects = Vec<String>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleText {
    /// `inet filter input`, or `FORWARD`.
    pub chain: String,
    pub span: Span,
    /// From 1.
    pub line: usize,
    /// As it stands in the text.
    pub text: String,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// As it stands in the text; for a match, the text of its variable.
    pub text: String,
    pub line: usize,
    pub why: &'static str,
}

/// A text read: all that it does, or all that is wrong with it. Warnings may stand beside a filter.
#[derive(Debug, Default)]
pub struct Reading {
    /// `None` when it can't be read as a whole.
    pub filter: Option<Filter>,
    pub diagnostics: Vec<Diagnostic>,
}
