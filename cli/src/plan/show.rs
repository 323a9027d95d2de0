//! A plan for people: on the terminal, and as a comment on a change in review.

use ringwall_analysis::plan::{By, Floor, Flows, Plan};
use ringwall_node::apply::Cut;
use ringwall_ruleset::Decider;

use super::base::Base;
use crate::terminal::Terminal;

/// What is shown beside the differences.
pub struct Facts<'a> {
    pub base: &'a Base,
    /// The policy, as it was named.
    pub policy: String,
    pub node: Option<&'a str>,
    pub floor: &'a Floor,
    /// How many ports the internet reaches, before (unless nothing is enforced) and afterwards.
    pub exposure: (Option<usize>, usize),
    /// `None`: nobody knows.
    pub cuts: Option<&'a [Cut]>,
    pub notes: &'a [String],
}

/// So many words stand at each end of a line; JSON has all of them.
const WORDS: usize = 8;
const SERVICES: usize = 12;
const RULES: usize = 3;
const CUTS: usize = 20;
/// Of 65,536 that a comment may have on the usual sites, in characters.
const MARKDOWN_MAX: usize = 65_000;

impl Facts<'_> {
    fn heading(&self) -> String {
        let node = self.node.map(|node| format!(" on {node}")).unwrap_or_default();
        format!("{} -> {}{node}", self.base.name, self.policy)
    }

    /// All that is kept open, in one sentence.
    fn floor(&self) -> String {
        let mut text = format!("always open: {}", self.floor.items.join("; "));
        if !self.floor.without.is_empty() {
            text.push_str(&format!("; taken out: {}", self.floor.without.join(", ")));
        }
        text
    }

    fn unmanaged(&self) -> Option<String> {
        let bridges: Vec<_> = self.floor.unmanaged.iter().map(|(node, bridge)| format!("{bridge} of {node}")).collect();
        (!bridges.is_empty()).then(|| format!("not judged at all: what these bridges forward: {}", bridges.join(", ")))
    }

    fn exposure(&self) -> String {
        match self.exposure {
            (Some(before), after) if before == after => format!("exposure: {after} ports reached from the internet, as before"),
            (Some(before), after) => format!("exposure: {before} -> {after} ports reached from the internet"),
            (None, after) => format!("exposure: {after} ports reached from the internet"),
        }
    }

    /// What is said at the end, changed or not.
    fn closing(&self) -> Vec<String> {
        let lines = [Some(self.exposure()), Some(self.floor()), self.unmanaged()].into_iter().flatten();
        lines.chain(self.notes.iter().cloned()).collect()
    }

    /// The connections that confirming ends.
    fn cuts(&self) -> Vec<String> {
        let Some(cuts) = self.cuts else { return Vec::new() };
        let by = |cut: &Cut| match &cut.decider {
            Decider::Entry(id) => format!("rule {id} denies it"),
            Decider::Default => "no rule allows it".to_owned(),
        };
        let mut lines: Vec<_> = cuts.iter().take(CUTS).map(|cut| format!("{}: {}", cut.flow, by(cut))).collect();
        if let Some(more) = cuts.len().checked_sub(CUTS).filter(|more| *more > 0) {
            lines.push(format!("and {more} more"));
        }
        lines
    }
}

/// `2 opened, 1 closed`; empty when nothing differs.
pub fn count(plan: &Plan) -> String {
    let altered: usize = plan.altered.iter().map(|altered| altered.flows.len()).sum();
    let parts = [
        (plan.opened.len(), "opened"),
        (plan.closed.len(), "closed"),
        (altered, "treated otherwise"),
        (plan.others.len(), "other changes"),
    ];
    let parts = parts.iter().filter(|(number, _)| *number > 0).map(|(number, word)| match (number, *word) {
        (1, "other changes") => "1 other change".to_owned(),
        (number, word) => format!("{number} {word}"),
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// Columns: ends, what is asked, who decides.
fn cells(flows: &Flows) -> [String; 3] {
    let ends = format!("{} -> {}", flows.line.source.short(WORDS), flows.line.destination.short(WORDS));
    [ends, flows.line.asks_short(SERVICES), deciders(flows)]
}

fn deciders(flows: &Flows) -> String {
    let list = |all: &[By]| {
        let mut texts: Vec<String> = all.iter().take(RULES).map(By::to_string).collect();
        if let Some(more) = all.len().checked_sub(RULES).filter(|more| *more > 0) {
            texts.push(format!("{more} more"));
        }
        texts.join(", ")
    };
    match (&flows.before[..], &flows.after[..]) {
        ([By::Default], after) => list(after),
        (before, [By::Default]) => format!("was {}", list(before)),
        (before, after) if before == after => list(after),
        (before, after) => format!("{}; was {}", list(after), list(before)),
    }
}

/// For the terminal: opened first.
pub fn table(plan: &Plan, facts: &Facts<'_>, terminal: &Terminal) -> String {
    let mut text = format!("{}\n", facts.heading());
    let mut block = |title: &str, sign: char, style: &str, flows: &[Flows]| {
        if flows.is_empty() {
            return;
        }
        text.push_str(&format!("\n{title}\n"));
        let rows: Vec<_> = flows.iter().map(cells).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).min(60);
        let (ends, asks) = (width(0), width(1));
        for [from, what, by] in &rows {
            let line = format!("  {sign} {from:<ends$}  {what:<asks$}  {by}");
            text.push_str(&format!("{}\n", terminal.paint_data(style, line.trim_end())));
        }
    };
    let from_nothing = facts.base.policy.is_none();
    block(if from_nothing { "accepted from then on, and nothing else" } else { "opened" }, '+', "32", &plan.opened);
    block("closed", '-', "31", &plan.closed);
    for altered in &plan.altered {
        block(&altered.how.join(", "), '~', "33", &altered.flows);
    }
    let mut list = |title: &str, lines: &[String]| {
        if !lines.is_empty() {
            text.push_str(&format!("\n{title}\n"));
            lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
    };
    list("other changes", &plan.others.iter().map(ToString::to_string).collect::<Vec<_>>());
    list("live connections that it cuts", &facts.cuts());
    text.push('\n');
    for line in facts.closing() {
        text.push_str(&format!("{line}\n"));
    }
    text
}

/// For a comment in a review: opened first; what does not fit is counted.
pub fn markdown(plan: &Plan, facts: &Facts<'_>) -> String {
    let mut lines: Vec<String> = Vec::new();
    let summary = match count(plan) {
        none if none.is_empty() => "No difference.".to_owned(),
        some => format!("{some}."),
    };
    lines.push(format!("### ringwall plan: {}\n\n{summary}\n", escape(&facts.heading())));
    let mut block = |title: String, flows: &[Flows]| {
        if flows.is_empty() {
            return;
        }
        lines.push(format!("\n**{}**\n\n| from | to | services | by |\n|---|---|---|---|\n", escape(&title)));
        for flows in flows {
            let (from, to) = (flows.line.source.short(WORDS), flows.line.destination.short(WORDS));
            let cells = [from, to, flows.line.asks_short(SERVICES), deciders(flows)].map(|cell| escape(&cell));
            lines.push(format!("| {} |\n", cells.join(" | ")));
        }
    };
    let from_nothing = facts.base.policy.is_none();
    block(if from_nothing { "Accepted from then on, and nothing else" } else { "Opened" }.into(), &plan.opened);
    block("Closed".into(), &plan.closed);
    for altered in &plan.altered {
        block(altered.how.join(", "), &altered.flows);
    }
    let mut list = |title: &str, items: Vec<String>| {
        if !items.is_empty() {
            lines.push(format!("\n**{title}**\n\n"));
            lines.extend(items.iter().map(|item| format!("- {}\n", escape(item))));
        }
    };
    list("Other changes", plan.others.iter().map(ToString::to_string).collect());
    list("Live connections that it cuts", facts.cuts());
    list("On the whole", facts.closing());
    fit(&lines)
}

/// As many of the lines as a comment takes, and how many there are more.
fn fit(lines: &[String]) -> String {
    const CLOSING: usize = 100;
    let whole: usize = lines.iter().map(|line| line.chars().count()).sum();
    if whole <= MARKDOWN_MAX {
        return lines.concat();
    }
    let mut text = String::new();
    let mut length = 0;
    for (at, line) in lines.iter().enumerate() {
        length += line.chars().count();
        if length > MARKDOWN_MAX - CLOSING {
            text.push_str(&format!("\n{} lines were left out: `ringwall plan -o table` shows all.\n", lines.len() - at));
            break;
        }
        text.push_str(line);
    }
    text
}

/// What Markdown would read as its own, or as HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' => escaped.extend(['\\', c]),
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::{MARKDOWN_MAX, escape, fit};

    #[test]
    fn a_comment_says_how_much_it_leaves_out() {
        let short: Vec<String> = (0..10).map(|n| format!("| {n} |\n")).collect();
        assert_eq!(fit(&short), short.concat());
        // Letters of more bytes than one: the limit is in characters.
        let long: Vec<String> = (0..10_000).map(|n| format!("| ü {n:05} |\n")).collect();
        let text = fit(&long);
        assert!(text.chars().count() <= MARKDOWN_MAX, "{}", text.chars().count());
        let shown = text.lines().filter(|line| line.starts_with('|')).count();
        assert!(text.ends_with(&format!("\n{} lines were left out: `ringwall plan -o table` shows all.\n", 10_000 - shown)));
        assert!(shown > 5_000, "{shown}");
    }

    #[test]
    fn names_are_no_markup() {
        assert_eq!(escape("a|b_c <x> `y`\n"), "a\\|b\\_c &lt;x> \\`y\\` ");
    }
}
