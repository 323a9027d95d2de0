//! Whom a sentence or heading names as ends.
//!
//! In: text without markup. Out: [`Ends`]. Never: an end that is not a short noun phrase of the text.

use crate::cell;
use crate::document::one_line;
use crate::guide::Direction;
use crate::words;

/// Who talks to whom, as far as a text says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub sources: Vec<String>,
    pub destinations: Vec<String>,
    /// `None`: the source opens the connection.
    pub direction: Option<Direction>,
}

impl Ends {
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.destinations.is_empty()
    }

    /// Without what is neither machine nor person.
    pub fn of_machines(mut self) -> Self {
        self.sources.retain(|name| is_actor(name) || names_machine(name));
        self.destinations.retain(|name| is_actor(name) || names_machine(name));
        self
    }

    fn is_between_machines(&self) -> bool {
        let are = |names: &[String]| !names.is_empty() && names.iter().all(|name| is_actor(name));
        are(&self.sources) && are(&self.destinations)
    }
}

const MODALS: [&str; 14] = [
    "will",
    "must",
    "should",
    "need",
    "needs",
    "require",
    "requires",
    "has",
    "have",
    "can",
    "may",
    "connect",
    "connects",
    "communicate",
];
const STOPS: [&str; 34] = [
    "on", "over", "via", "using", "through", "for", "in", "at", "by", "with", "so", "when", "if", "must", "should",
    "is", "are", "has", "have", "from", "need", "needs", "may", "can", "will", "to", "and", "or", "which", "that",
    "as", "before", "during", "within",
];
const VERBS: [&str; 14] = [
    "connect to",
    "connects to",
    "connect with",
    "access to",
    "reach",
    "reaches",
    "communicate with",
    "communicates with",
    "talk to",
    "talks to",
    "access",
    "accesses",
    "connection to",
    "connections to",
];

/// The ends that a sentence names.
pub(crate) fn ends(sentence: &str) -> Ends {
    let sentence = one_line(sentence);
    let stated = stated_ends(&sentence);
    if !stated.is_empty() {
        return stated;
    }
    for verb in VERBS {
        let Some((before, after)) = split_word(&sentence, verb) else {
            continue;
        };
        let Some(destination) = object(after) else {
            continue;
        };
        // "ports must be open for X to connect to Y"
        let actor = before.strip_suffix(" to").and_then(|before| rsplit_word(before, "for")).map(|(_, actor)| actor);
        let subject = before.split_whitespace().take_while(|word| !MODALS.contains(&word.to_lowercase().as_str()));
        let subject = subject.collect::<Vec<_>>().join(" ");
        let subject = actor.unwrap_or(if subject.len() < before.trim().len() || before.trim() == subject {
            &subject
        } else {
            ""
        });
        let sources = phrase(subject, true).map(|subject| list(&subject)).unwrap_or_default();
        return Ends { sources, destinations: vec![destination], direction: None };
    }
    let between = between(&sentence);
    if between.is_empty() { listening(&sentence) } else { between }
}

/// What a remark of a row says: "from X to Y", "used by X to connect to Y", "X connects to Y", "between X".
/// Remarks speak of many things, so both ends must be machines or people.
pub(crate) fn remarked_ends(remark: &str) -> Ends {
    if remark.len() > REMARK {
        return Ends::default();
    }
    let says = |sentence: &str| {
        let connects = || Some(ends(sentence)).filter(|ends| ends.direction.is_none() && ends.is_between_machines());
        [stated_ends(sentence), by_actor(sentence), between(sentence)]
            .into_iter()
            .find(|ends| !ends.is_empty())
            .or_else(connects)
    };
    crate::prose::sentences(remark).iter().find_map(|sentence| says(sentence)).unwrap_or_default()
}

/// Bytes of a remark that may name both ends.
const REMARK: usize = 600;

/// "used by agents to connect to the server", "for devices to fetch updates from the console".
fn by_actor(sentence: &str) -> Ends {
    for word in ["by", "for"] {
        let Some((_, after)) = split_word(sentence, word) else {
            continue;
        };
        let Some((actor, action)) = split_word(after, "to") else {
            continue;
        };
        let (Some(actor), Some((verb, rest))) = (phrase(actor, false), action.trim().split_once(' ')) else {
            continue;
        };
        let objects =
            ["to", "with", "from"].into_iter().filter_map(|word| split_word(rest, word).map(|(_, after)| after));
        let direct = matches!(verb, "access" | "reach" | "contact" | "query" | "poll" | "manage").then_some(rest);
        let found = objects.chain(direct).filter_map(object).find(|name| names_machine(name));
        if let Some(destination) = found.filter(|_| is_actor(&actor)) {
            return Ends { sources: vec![actor], destinations: vec![destination], direction: None };
        }
    }
    Ends::default()
}

fn is_actor(name: &str) -> bool {
    ends_in_machine(name) || words::is_client(name) || words::is_person(name)
}

/// "between relay servers" is a mesh. "between X and Y" names both ends and not who opens the connection.
fn between(sentence: &str) -> Ends {
    let Some((_, after)) = split_word(sentence, "between") else {
        return Ends::default();
    };
    let (first, second) = match split_word(after, "and") {
        Some((first, second))
            if object(first).is_some_and(|name| {
                name.split(' ').count() >= first.split_whitespace().filter(|word| !is_article(word)).count()
            }) =>
        {
            (object(first), Some(second))
        }
        _ => (object(after), None),
    };
    let Some(first) = first.filter(|name| is_actor(name)) else {
        return Ends::default();
    };
    match second {
        None if first.to_lowercase().ends_with('s') => {
            Ends { sources: vec![first.clone()], destinations: vec![first], direction: Some(Direction::Both) }
        }
        None => Ends::default(),
        Some(second) => match object_with(second, &["or"]).filter(|name| is_actor(name)) {
            Some(second) => {
                Ends { sources: vec![first], destinations: vec![second], direction: Some(Direction::Unknown) }
            }
            None => Ends::default(),
        },
    }
}

/// "these ports must be open on the relay server", "to allow traffic to the relay server".
fn listening(sentence: &str) -> Ends {
    let lower = sentence.to_lowercase();
    // A sentence with numbers is about those, not about what follows it.
    if !lower.contains("port") || lower.contains(|c: char| c.is_ascii_digit()) {
        return Ends::default();
    }
    for verb in ["listens", "listen", "exposes", "expose", "accepts", "accept", "uses", "use"] {
        let subject = split_word(sentence, verb).and_then(|(before, _)| phrase(before, false));
        if let Some(subject) = subject.filter(|name| ends_in_machine(name) && !words::is_client(name)) {
            return Ends { destinations: vec![subject], ..Ends::default() };
        }
    }
    let places = ["on", "traffic to", "access to", "connections to", "inbound to"];
    let named = places.into_iter().flat_map(|place| positions(sentence, place).map(move |start| start + place.len()));
    let is_host = |name: &String| {
        let last = name.split_whitespace().next_back().unwrap_or("").to_lowercase();
        ends_in_machine(name)
            && !["firewall", "network", "router", "gateway", "interface"]
                .iter()
                .any(|word| last.trim_end_matches('s') == *word)
    };
    // "on servers and two on clients" is about more than servers.
    let is_whole = |rest: &str, name: &str| {
        rest.split_once(name).is_none_or(|(_, behind)| !behind.trim_start().starts_with("and "))
    };
    let found = named
        .filter_map(|start| object(&sentence[start..]).map(|name| (start, name)))
        .find(|(_, name)| is_host(name))
        .filter(|(start, name)| is_whole(&sentence[*start..], name))
        .map(|(_, name)| name);
    Ends { destinations: found.into_iter().collect(), ..Ends::default() }
}

/// "from X to Y", where one of them is a machine.
pub(crate) fn stated_ends(sentence: &str) -> Ends {
    if let Some((_, after)) = split_word(sentence, "from")
        && let Some((source, after)) = split_word(after, "to")
        && let (Some(source), Some(destination)) = (phrase(source, false), object(after))
        && (names_machine(&source) || names_machine(&destination))
    {
        return Ends { sources: list(&source), destinations: vec![destination], direction: None };
    }
    Ends::default()
}

/// Bytes of a heading that may name machines.
const HEADING: usize = 200;

/// The pair of a heading such as "From agents to the controller", "Agent → Controller", "Agent nodes to server".
pub(crate) fn heading_ends(title: &str) -> Ends {
    if title.len() > HEADING {
        return Ends::default();
    }
    let pair = |left: &str, right: &str| {
        let (Some(left), Some(right)) = (phrase(left, true), phrase(right, true)) else {
            return Ends::default();
        };
        Ends { sources: vec![left], destinations: vec![right], direction: None }
    };
    if let Some((left, arrow, right)) = cell::arrow(title) {
        return match arrow {
            cell::Arrow::Right => pair(left, right),
            cell::Arrow::Left => pair(right, left),
            cell::Arrow::Both => Ends { direction: Some(Direction::Both), ..pair(left, right) },
        };
    }
    let meshed = between(title);
    if !meshed.is_empty() {
        return meshed;
    }
    let stated = split_word(title, "from").map(|(_, after)| after);
    let about = stated.or_else(|| split_word(title, "for").map(|(_, after)| after));
    let Some((left, right)) = split_word(about.unwrap_or(title), "to") else {
        return Ends::default();
    };
    let left = trim_generic(left);
    let right = trim_generic(right);
    let both_are_machines = names_machine(&left) && names_machine(&right);
    if stated.is_some() || both_are_machines { pair(&left, &right) } else { Ends::default() }
}

/// What a direction says beside its word: the source in "Inbound from jump hosts", the destination in
/// "Outbound to the registry".
pub(crate) fn other_end(direction: &str) -> Ends {
    let end =
        |word: &str| split_word(direction, word).and_then(|(_, after)| phrase(after, true)).map(|name| list(&name));
    Ends { sources: end("from").unwrap_or_default(), destinations: end("to").unwrap_or_default(), direction: None }
}

/// The machine that a heading is about: "Control plane", "Inbound rules for worker nodes".
pub(crate) fn heading_node(title: &str) -> Option<String> {
    if title.len() > HEADING {
        return None;
    }
    let title = title.split(['{', '(']).next().filter(|_| !title.contains("(s)")).unwrap_or(title);
    let about =
        ["for", "on", "of", "by", "from", "to"].iter().find_map(|word| split_word(title, word).map(|(_, after)| after));
    let name = match about {
        Some(about) => trim_generic_end(about),
        None => trim_generic(title),
    };
    let name = match name.split_once(' ') {
        Some((first, rest)) if is_article(first) => rest,
        _ => &name,
    };
    let words: Vec<&str> = name.split_whitespace().collect();
    // "Sign-in service ports": what ports belong to listens.
    let last = words.last().map(|word| word.to_lowercase()).unwrap_or_default();
    let is_listener = matches!(&*last, "service" | "daemon" | "component") && title.to_lowercase().contains("port");
    ((1..=5).contains(&words.len())
        && split_word(name, "and").is_none()
        && split_word(name, "to").is_none()
        && (ends_in_machine(name) || is_listener))
        .then(|| name.to_owned())
}

const GENERIC: [&str; 50] = [
    "ports",
    "port",
    "requirements",
    "requirement",
    "rules",
    "rule",
    "firewall",
    "firewalls",
    "network",
    "networking",
    "inbound",
    "outbound",
    "incoming",
    "outgoing",
    "ingress",
    "egress",
    "required",
    "the",
    "settings",
    "setting",
    "configuration",
    "access",
    "communication",
    "communications",
    "traffic",
    "connections",
    "connection",
    "list",
    "table",
    "default",
    "needed",
    "used",
    "by",
    "open",
    "opened",
    "protocols",
    "protocol",
    "prerequisites",
    "tcp",
    "udp",
    "specific",
    "connectivity",
    "overview",
    "reference",
    "and",
    "a",
    "an",
    "all",
    "internal",
    "external",
];

fn is_generic(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    word.is_empty() || GENERIC.contains(&word.as_str()) || word.chars().all(|c| c.is_ascii_digit())
}

fn trim_generic_end(title: &str) -> String {
    let mut words: Vec<&str> = title.split_whitespace().collect();
    while words.last().is_some_and(|word| is_generic(word)) {
        words.pop();
    }
    words.join(" ")
}

fn trim_generic(title: &str) -> String {
    let title = trim_generic_end(title);
    let mut words: Vec<&str> = title.split_whitespace().collect();
    // "All nodes" and "External network" keep their first word when a noun follows it.
    let keeps = |word: &str| matches!(word.to_lowercase().as_str(), "all" | "internal" | "external");
    while words.first().is_some_and(|word| is_generic(word) && !keeps(word)) {
        words.remove(0);
    }
    words.join(" ")
}

fn is_article(word: &str) -> bool {
    matches!(word.to_lowercase().as_str(), "the" | "a" | "an" | "your")
}

fn ends_in_machine(name: &str) -> bool {
    name.split_whitespace().next_back().is_some_and(words::is_machine)
}

fn names_machine(name: &str) -> bool {
    name.split_whitespace().any(words::is_machine) || name.to_lowercase().contains("internet")
}

/// A noun phrase of a few words, without its article.
fn phrase(text: &str, allows_list: bool) -> Option<String> {
    let text = text.trim().trim_matches([',', ';', '.', ':', '"']);
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = if words.first().is_some_and(|word| is_article(word)) { &words[1..] } else { &words[..] };
    // "the console's web interface" is at the console.
    let owner = words.iter().position(|word| word.ends_with("'s") || word.ends_with("’s"));
    let owned: String = owner.map_or_else(String::new, |at| words[..=at].join(" "));
    let owned = owned.trim_end_matches("'s").trim_end_matches("’s");
    let owned: Vec<&str> = owned.split_whitespace().collect();
    let words = if owned.is_empty() { words } else { &owned[..] };
    const NO_NAMES: [&str; 25] = [
        "it",
        "they",
        "you",
        "we",
        "this",
        "that",
        "these",
        "those",
        "following",
        "port",
        "ports",
        "there",
        "which",
        "if",
        "when",
        "depending",
        "allow",
        "note",
        "to",
        "for",
        "be",
        "able",
        "make",
        "ensure",
        "table",
    ];
    let is_name = |word: &&str| !NO_NAMES.contains(&word.to_lowercase().as_str()) && !word.contains(['{', '%', '<']);
    let limit = if allows_list { 10 } else { 5 };
    ((1..=limit).contains(&words.len()) && words.iter().all(is_name)).then(|| words.join(" "))
}

/// What follows a verb or preposition, up to the next one.
pub(crate) fn object(after: &str) -> Option<String> {
    object_with(after, &[])
}

/// As [`object`], with words that don't end it.
fn object_with(after: &str, kept: &[&str]) -> Option<String> {
    let mut words = Vec::new();
    for word in after.split_whitespace() {
        let bare = word.trim_end_matches([',', ';', '.', ':', ')']);
        let lower = bare.to_lowercase();
        if STOPS.contains(&lower.as_str()) && !kept.contains(&lower.as_str()) || bare.starts_with('(') {
            break;
        }
        words.push(bare);
        if bare.len() < word.len() {
            break;
        }
    }
    phrase(&words.join(" "), false)
}

fn list(text: &str) -> Vec<String> {
    let parts = text
        .split(',')
        .flat_map(|part| part.split(" and "))
        .map(|part| part.trim().trim_start_matches("and ").trim_start_matches("the "));
    parts.filter(|part| !part.is_empty() && part.split_whitespace().count() <= 4).map(str::to_owned).collect()
}

fn split_word<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    positions(text, word).next().map(|start| (&text[..start], &text[start + word.len()..]))
}

pub(crate) fn rsplit_word<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    positions(text, word).last().map(|start| (&text[..start], &text[start + word.len()..]))
}

/// Where a word or phrase stands, upper or lower case.
pub(crate) fn positions<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let starts = text.char_indices().map(|(index, _)| index).filter(move |start| {
        text.get(*start..start + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word))
    });
    starts.filter(move |start| {
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '-');
        !is_part(text[..*start].chars().next_back()) && !is_part(text[start + word.len()..].chars().next())
    })
}
