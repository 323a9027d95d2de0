//! Which format a text of rules has, and what it does, whatever that is.
//!
//! In: the texts of one machine's rules, as their programs print them. Out: one filter, or all that is
//! wrong. Never: a guess where the text does not tell; nor texts of two machines taken for one.

use ringwall_diagnostic::{Diagnostic, SourceId, Sources, Span};
use ringwall_packet::Family;

use crate::filter::{Decision, Filter, FilterVerdict, Idle, NotMet, Reading};
use crate::{iptables, nftables};

/// What printed a text, or can load it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `iptables-save`, `ip6tables-save`, or both; the family as the text says.
    Iptables(Option<Family>),
    /// `ipset save`: sets that the rules of iptables name.
    Ipset,
    /// `nft list ruleset`, or what `nft -f` takes.
    Nftables,
}

/// One text of a ruleset.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    pub source: SourceId,
    /// `None`: by what stands in it.
    pub format: Option<Format>,
}

impl Format {
    pub fn of(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        if iptables::is_iptables(text) {
            return Some(Self::Iptables(None));
        }
        let words = lines.next()?.split_whitespace();
        match words.take(3).collect::<Vec<_>>()[..] {
            ["create" | "-N", _, kind] if kind.contains(':') => Some(Self::Ipset),
            ["table" | "add" | "create" | "insert" | "delete" | "destroy" | "flush" | "define" | "include", ..] => Some(Self::Nftables),
            _ => None,
        }
    }
}

/// Reads one machine's rules.
pub fn read(sources: &Sources, texts: &[Text]) -> Reading {
    with(sources, texts, nftables::read::read)
}

/// The same for texts that programs printed of this machine, by their names: the error is the first thing that is wrong.
pub fn filter_of(texts: &[(&str, &str)]) -> Result<Filter, String> {
    let mut sources = Sources::new();
    let texts: Vec<Text> = texts.iter().map(|(name, text)| Text { source: sources.add(*name, *text), format: None }).collect();
    let Reading { filter, diagnostics } = read(&sources, &texts);
    let wrong = || diagnostics.iter().find(|diagnostic| diagnostic.is_error()).map_or_else(|| "it can't be read".to_owned(), |first| first.message.clone());
    filter.ok_or_else(wrong)
}

/// The same for whoever looks for rules that do nothing: with rows for those, too, and whatever
/// named sets hold.
pub fn read_every_rule(sources: &Sources, texts: &[Text]) -> Reading {
    with(sources, texts, nftables::read::read_every_rule)
}

fn with(sources: &Sources, texts: &[Text], nftables: impl Fn(&Sources, SourceId) -> Reading) -> Reading {
    let (mut rules, mut sets, mut scripts) = (Vec::new(), Vec::new(), Vec::new());
    let mut diagnostics = Vec::new();
    for text in texts {
        let place = Span { source: text.source, start: 0, end: 0 };
        match text.format.or_else(|| Format::of(sources.text(text.source))) {
            Some(Format::Iptables(family)) => rules.push(iptables::Text { source: text.source, family }),
            Some(Format::Ipset) => sets.push(text.source),
            Some(Format::Nftables) => scripts.push(text.source),
            None => {
                let is_empty = sources.text(text.source).trim().is_empty();
                let message = if is_empty { "there are no rules here" } else { "the format of these rules is not known" };
                let help = "give the output of `nft list ruleset`, or of `iptables-save`, `ip6tables-save` and `ipset save`";
                diagnostics.push(Diagnostic::error("RW6201", message).at(place, "").help(help));
            }
        }
    }
    if let Some(second) = sets.get(1) {
        let place = Span { source: *second, start: 0, end: 0 };
        let problem = Diagnostic::error("RW6202", "the sets of two machines can't be read together").at(place, "the second text of `ipset save`");
        diagnostics.push(problem);
    }
    if let Some(second) = scripts.get(1) {
        let place = Span { source: *second, start: 0, end: 0 };
        let problem = Diagnostic::error("RW6202", "two rulesets of nftables can't be read together").at(place, "the second one");
        diagnostics.push(problem.help("one listing has all of a machine's tables; texts that are loaded one after the other are one text"));
    }
    if !diagnostics.is_empty() {
        return Reading { filter: None, diagnostics };
    }
    let mut readings = Vec::new();
    if !rules.is_empty() || scripts.is_empty() {
        readings.push(iptables::read(sources, &rules, sets.first().copied()));
    }
    readings.extend(scripts.first().map(|script| nftables(sources, *script)));
    let mut whole = Reading { filter: Some(Filter::default()), diagnostics };
    for reading in readings {
        whole.diagnostics.extend(reading.diagnostics);
        whole.filter = whole.filter.zip(reading.filter).map(|(known, filter)| together(known, filter));
    }
    whole
}

/// Two programs' rules on one machine: packets meet the chains of both, by priority.
fn together(mut known: Filter, filter: Filter) -> Filter {
    let (rules, effects, unknown) = (known.rules.len(), known.effects.len(), known.unknown.len());
    let moved = |mut decision: Decision| {
        decision.rule = decision.rule.map(|rule| rule + rules);
        decision.effects += effects;
        if let FilterVerdict::Elsewhere(what) = &mut decision.verdict {
            *what += unknown;
        }
        decision
    };
    known.chains.extend(filter.chains.into_iter().map(|mut chain| {
        chain.decisions.v4.iter_mut().for_each(|row| row.decision = moved(row.decision));
        chain.decisions.v6.iter_mut().for_each(|row| row.decision = moved(row.decision));
        chain
    }));
    known.chains.sort_by_key(|chain| (chain.hook, chain.priority));
    known.idle.extend(filter.idle.into_iter().map(|idle| {
        let why = match idle.why {
            NotMet::After(by) => NotMet::After(by + rules),
            NotMet::Never => NotMet::Never,
        };
        Idle { rule: idle.rule + rules, why }
    }));
    known.rules.extend(filter.rules);
    known.effects.extend(filter.effects);
    known.unknown.extend(filter.unknown);
    known
}
