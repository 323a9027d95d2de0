//! What is counted, logged, marked and timed on the way to each outcome.
//!
//! In: an outcome. Out: the verdict, and nftables' statements in order, as canonical text. Never: a guess
//! at a statement's meaning: they must be there word for word.

use ringwall_policy::{Action, Rule, Stage};
use ringwall_ruleset::nftables::{Generation, LOG_GROUP, MARK_MASK};
use ringwall_ruleset::{Path, Verdict};

use super::meaning::{Meaning, Outcome};

/// Of one path.
pub struct Expected {
    generation: Generation,
    pub path: Path,
    is_audited_node: bool,
    /// What every packet that gets as far as the rules has met.
    judged: Vec<String>,
}

/// Beyond this rate logged packets are counted only.
const LOG_LIMIT: &str = "limit rate 100/second burst 200 packets ";

impl Expected {
    pub fn new(meaning: &Meaning<'_>, path: Path) -> Self {
        let generation = meaning.generation;
        let name = format!("{generation}_{}", path.short());
        let mut judged = Vec::new();
        if !meaning.is_for_containers(path) {
            judged.push(format!("ct state untracked counter name \"{name}_untracked\""));
            if path != Path::Output {
                judged.extend(["ip", "ip6"].map(|ip| {
                    let digit = if ip == "ip" { '4' } else { '6' };
                    format!("{ip} saddr . {ip} daddr . meta l4proto . th sport . th dport @probe_watch{digit} meta nftrace set 1")
                }));
            }
        }
        Self { generation, path, is_audited_node: meaning.node.stage == Stage::Audit, judged }
    }

    pub fn verdict(&self, outcome: &Outcome<'_>) -> Verdict {
        match outcome {
            Outcome::Loopback | Outcome::Unmanaged | Outcome::Established | Outcome::Answer | Outcome::Floor => Verdict::Accept,
            Outcome::Untracked | Outcome::Probe | Outcome::Management(_) => Verdict::Accept,
            // What an audited rule would decide is told by its chain alone.
            Outcome::Rule(rule, _) if rule.stage == Stage::Audit => Verdict::Drop,
            Outcome::Rule(rule, _) if rule.action == Action::Allow => Verdict::Accept,
            Outcome::Invalid | Outcome::Default(_) | Outcome::Rule(..) if self.is_audited_node => Verdict::Accept,
            Outcome::Invalid => Verdict::Drop,
            // A local program learns at once; a stranger learns nothing, unless the rule says so.
            Outcome::Default(Path::Output) | Outcome::Rule(_, Path::Output) => Verdict::Reject,
            Outcome::Rule(rule, _) if rule.reject => Verdict::Reject,
            Outcome::Rule(..) | Outcome::Default(_) => Verdict::Drop,
        }
    }

    fn comment(&self, outcome: &Outcome<'_>) -> Option<String> {
        let is_watched = matches!(outcome, Outcome::Rule(rule, _) if rule.stage == Stage::Audit);
        outcome.id().filter(|_| !is_watched).map(|id| format!("comment \"{id}\""))
    }

    /// The statements that a packet meets, jumps to chains that decide left aside.
    pub fn effects(&self, outcome: &Outcome<'_>, is_tcp: bool) -> Vec<String> {
        let generation = self.generation;
        let own = format!("{generation}_{}", self.path.short());
        let mut all = Vec::new();
        let is_judged = match outcome {
            Outcome::Loopback | Outcome::Unmanaged | Outcome::Answer | Outcome::Floor => return all,
            Outcome::Invalid => {
                all.push(format!("counter name \"{own}_invalid\""));
                return all;
            }
            Outcome::Established => {
                all.push(format!("counter name \"{generation}_established\""));
                return all;
            }
            Outcome::Untracked => {
                all.push(format!("counter name \"{own}_untracked\""));
                return all;
            }
            Outcome::Probe | Outcome::Rule(..) | Outcome::Management(_) | Outcome::Default(_) => true,
        };
        if is_judged {
            all.extend(self.judged.iter().cloned());
        }
        let verdict = self.verdict(outcome);
        match outcome {
            Outcome::Rule(rule, path) if rule.stage == Stage::Audit => {
                all.push(format!("counter name \"{generation}_{}_r_{}_audit\"", path.short(), rule.id));
            }
            Outcome::Rule(rule, path) => self.rule(&mut all, rule, *path, verdict),
            Outcome::Management(path) => {
                self.mark(&mut all);
                all.push(format!("counter name \"{generation}_{}_r_management\"", path.short()));
            }
            Outcome::Default(path) => {
                let word = if self.is_audited_node { "audit" } else { word(verdict) };
                all.push(format!("{LOG_LIMIT}{}", self.log(*path, word, "default")));
                all.push(format!("counter name \"{generation}_{}_default\"", path.short()));
                if verdict == Verdict::Accept {
                    self.mark(&mut all);
                }
            }
            _ => {}
        }
        if verdict == Verdict::Reject {
            let kind = if is_tcp { "reject with tcp reset" } else { "reject with icmpx type admin-prohibited" };
            all.push(kind.into());
        }
        all.extend(self.comment(outcome));
        all
    }

    fn rule(&self, all: &mut Vec<String>, rule: &Rule, path: Path, verdict: Verdict) {
        let (generation, id) = (self.generation, &rule.id);
        if let Some(seconds) = rule.session_timeout.filter(|_| rule.action == Action::Allow) {
            all.extend([('4', "ipv4"), ('6', "ipv6")].map(|(digit, nfproto)| {
                format!("meta nfproto {nfproto} meta l4proto tcp ct timeout set \"tcp{digit}_{seconds}\"")
            }));
        }
        if rule.log || rule.action == Action::Deny {
            let limit = if rule.log { "" } else { LOG_LIMIT };
            all.push(format!("{limit}{}", self.log(path, word(verdict), id.as_str())));
        }
        if verdict == Verdict::Accept {
            self.mark(all);
        }
        all.push(format!("counter name \"{generation}_{}_r_{id}\"", path.short()));
    }

    /// What an audited rule's chain says, line by line.
    pub fn watching(&self, rule: &Rule) -> [String; 2] {
        let name = format!("{}_{}_r_{}_audit", self.generation, self.path.short(), rule.id);
        let limit = if rule.log { "" } else { LOG_LIMIT };
        [
            format!("{limit}{}", self.log(self.path, "audit", rule.id.as_str())),
            format!("counter name \"{name}\" return comment \"{}\"", rule.id),
        ]
    }

    fn mark(&self, all: &mut Vec<String>) {
        let (keep, mark) = (!MARK_MASK, self.generation.mark());
        all.push(format!("ct mark set ct mark and {keep:#010x} or {mark:#010x}"));
    }

    fn log(&self, path: Path, verdict: &str, id: &str) -> String {
        format!("log prefix \"ringwall {} {} {verdict} {id}\" group {LOG_GROUP}", self.generation, path.short())
    }

    pub fn describe(&self, outcome: &Outcome<'_>, is_tcp: bool) -> String {
        let verdict = format!("{:?}", self.verdict(outcome)).to_lowercase();
        let by = match outcome {
            Outcome::Rule(rule, _) => format!("rule `{}` ({})", rule.id, rule.origin.place),
            other => format!("{other:?}").to_lowercase(),
        };
        format!("{verdict} by {by} after {:?}", self.effects(outcome, is_tcp))
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accept => "accept",
        Verdict::Drop => "drop",
        Verdict::Reject => "reject",
    }
}

/// A statement without the jump that follows what it does: whatever decides there is compared as such.
pub fn without_jump(text: &str) -> &str {
    match text.split_once(" jump ") {
        Some((acts, chain)) if !chain.contains(' ') => acts,
        _ => text,
    }
}

/// Whether the statement only sends packets on: nothing is done to those that come back.
pub fn is_plain_jump(text: &str) -> bool {
    const ACTS: &[&str] = &["counter", "log", "limit", "quota", "nftrace", "mark", "timeout", "notrack", "queue", "dup", "fwd"];
    let mut words = text.split(' ');
    let is_jump = words.clone().any(|word| matches!(word, "jump" | "vmap" | "goto"));
    is_jump && !words.any(|word| ACTS.contains(&word) || word == "set")
}
