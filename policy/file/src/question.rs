//! Questions as operators write them: `users -> primary tcp/443`, or one end of it alone.
//!
//! In: the question, and the policy's files, whose names it may use. Out: the question resolved like
//! a rule's line, or every mistake in it at its place. Never: an answer.

use ringwall_diagnostic::{Diagnostic, Sources};
use ringwall_packet::AddressSet;
use ringwall_policy::{Action, End, Question};

use crate::Input;
use crate::address::{self, Item};
use crate::document::Document;
use crate::form::Word;
use crate::members::{Members, Resolver};
use crate::places::Places;
use crate::report::Report;
use crate::resolve::{EndUse, NamesAre};
use crate::rule::{Arrow, arrow, has_both_ends, split_end};
use crate::service::Services;
use crate::values::Values;
use crate::yaml;

/// What of a question is written; the other end is `any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `A -> B SERVICES`
    Flow,
    /// `B SERVICES`: who reaches it.
    Destination,
    /// `A SERVICES`: what it reaches.
    Source,
}

/// What a question comes to.
#[derive(Debug)]
pub struct Asked {
    /// The policy's files and the question itself.
    pub sources: Sources,
    /// `None` when any diagnostic is an error.
    pub question: Option<Question>,
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a question about the policy of these files, which has no errors; no files are a policy that
/// names nothing.
///
/// Ends are names with commas between them as in a rule, and also addresses, prefixes and ranges.
/// Services follow the last end after a blank, with commas or blanks between them; none are all.
/// `via NAME` at the end asks about one interface.
pub fn ask(text: &str, form: Form, inputs: &[Input], values: &Values) -> Asked {
    let mut sources = Sources::new();
    let ids: Vec<_> = inputs.iter().map(|input| sources.add(&input.name, &input.text)).collect();
    let source = sources.add("question", text);
    let mut report = Report::default();
    let mut document = Document::default();
    for (input, id) in inputs.iter().zip(ids) {
        if let Some(root) = yaml::read(&input.text, id, &mut report) {
            document.read(&root, &mut report);
        }
    }
    let services = Services::new(&document.services, &mut report);
    let span = ringwall_diagnostic::Span { source, start: 0, end: text.len() };
    let word = Word { text: text.to_owned(), span };
    let mut resolver = Resolver::new(&document, values, Places::new(&sources), &mut report);
    // What is wrong with the policy itself is told elsewhere.
    *resolver.report = Report::default();
    let question = resolver.question(&word, form, services);
    resolver.empty.clear();
    resolver.report_needs();
    let question = question.filter(|_| !report.has_errors());
    Asked { question, diagnostics: report.sorted(), sources }
}

/// The words of a question.
struct Said {
    sources: Vec<Word>,
    destinations: Vec<Word>,
    both_ways: bool,
    services: Vec<Word>,
    via: Option<Word>,
}

fn said(word: &Word, form: Form, report: &mut Report) -> Option<Said> {
    let length = word.text.len();
    if form == Form::Flow {
        let Arrow { at, after, both_ways } = arrow(word, report)?;
        let end = after + ends_length(&word.text[after..]);
        let (sources, destinations) = (split_end(word, 0, at, report), split_end(word, after, end, report));
        has_both_ends(word, &sources, &destinations, report)?;
        let (services, via) = tail(word, end, length, report);
        return Some(Said { sources, destinations, both_ways, services, via });
    }
    if let Some(at) = word.text.find("->") {
        let message = "one end is wanted here, without an arrow";
        let diagnostic = Diagnostic::error("RW0108", message).at(word.part(at, at + 2), "");
        report.push(diagnostic.help("`ringwall can` asks about two ends"));
        return None;
    }
    let end = ends_length(&word.text);
    let own = split_end(word, 0, end, report);
    if own.is_empty() {
        report.push(Diagnostic::error("RW0108", "the question names nobody").at(word.span, ""));
        return None;
    }
    let (services, via) = tail(word, end, length, report);
    let any = vec![Word { text: "any".to_owned(), span: word.span }];
    let (sources, destinations) = if form == Form::Destination { (any, own) } else { (own, any) };
    Some(Said { sources, destinations, both_ways: false, services, via })
}

/// How much of the text is an end: pieces that blanks separate, as long as commas join them.
fn ends_length(text: &str) -> usize {
    let mut end = 0;
    for piece in pieces(text) {
        let is_joined = text[..end].trim_end().ends_with(',') || piece.text.starts_with(',');
        if end > 0 && !is_joined {
            break;
        }
        end = piece.at + piece.text.len();
    }
    end
}

struct Piece<'a> {
    at: usize,
    text: &'a str,
}

/// What blanks separate, with its place in the text.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    text.split_whitespace().map(move |piece| Piece { at: piece.as_ptr() as usize - text.as_ptr() as usize, text: piece })
}

/// The services and the interface at the end of a question.
fn tail(word: &Word, from: usize, to: usize, report: &mut Report) -> (Vec<Word>, Option<Word>) {
    let part = |start: usize, text: &str| Word { text: text.to_owned(), span: word.part(start, start + text.len()) };
    let mut services: Vec<Word> = Vec::new();
    let mut via: Option<Word> = None;
    let mut all = pieces(&word.text[from..to]);
    while let Some(Piece { at, text }) = all.next() {
        if text == "via" {
            via = all.next().map(|name| part(from + name.at, name.text));
            let rest = all.next().map(|rest| part(from + rest.at, rest.text));
            let wrong = match (&via, rest) {
                (None, _) => Some((part(from + at, text), "`via` names no interface".to_owned())),
                (Some(_), Some(rest)) => Some((rest.clone(), format!("`{}` stands behind the interface", rest.text))),
                (Some(_), None) => None,
            };
            if let Some((place, message)) = wrong {
                let diagnostic = Diagnostic::error("RW0108", message).at(place.span, "");
                report.push(diagnostic.help("`via NAME` is the last of a question"));
            }
            break;
        }
        let mut start = from + at;
        for (index, piece) in text.split(',').enumerate() {
            // The ports of `tcp/80,443` belong together.
            let is_port = piece.starts_with(|c: char| c.is_ascii_digit()) && !piece.contains('/');
            match services.last_mut().filter(|last| index > 0 && is_port && last.text.contains('/')) {
                Some(last) => {
                    last.text = format!("{},{piece}", last.text);
                    last.span.end += 1 + piece.len();
                }
                None if piece.is_empty() => {}
                None => services.push(part(start, piece)),
            }
            start += piece.len() + 1;
        }
    }
    (services, via)
}

impl Resolver<'_, '_> {
    fn question(&mut self, word: &Word, form: Form, mut services: Services) -> Option<Question> {
        let Said { sources, destinations, both_ways, services: asked, via } = said(word, form, self.report)?;
        let names = if both_ways { NamesAre::Sources } else { NamesAre::Welcome };
        let source = self.asked_end(&sources, word, NamesAre::Sources);
        let destination = self.asked_end(&destinations, word, names);
        let count = asked.len();
        let services: Vec<_> = asked.iter().filter_map(|asked| services.resolve(asked, self.report)).collect();
        let interface = via.as_ref().and_then(|word| self.via(word));
        let is_whole = services.len() == count && interface.is_some() == via.is_some();
        let question = Question { source: source?, destination: destination?, both_ways, services, via: interface };
        is_whole.then_some(question)
    }

    /// One end; `None` when it can't be resolved, which is reported.
    fn asked_end(&mut self, words: &[Word], whole: &Word, names: NamesAre) -> Option<End> {
        let user = EndUse { span: whole.span, action: Action::Allow, is_on: true, names, inherits: false };
        let mut ends: Vec<Members> = Vec::new();
        for word in words {
            ends.push(match address::item(word) {
                Ok(Item::Name(_)) => {
                    let found = self.end(std::slice::from_ref(word), &user);
                    let broken = found.as_ref().is_none_or(|found| found.broken);
                    let end = found.map_or_else(|| End { text: String::new(), addresses: AddressSet::default(), names: Default::default() }, |found| found.end);
                    Members { addresses: end.addresses, names: end.names, broken, unbound: Vec::new() }
                }
                Ok(item) => {
                    let members = self.item(&(word.clone(), item));
                    self.need(&members, user.span);
                    Members { broken: members.broken || !members.unbound.is_empty(), ..members }
                }
                Err(diagnostic) => {
                    self.report.push(*diagnostic);
                    Members::broken()
                }
            });
        }
        let whole: Members = ends.into_iter().collect();
        let text = words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(", ");
        (!whole.broken).then_some(End { text, addresses: whole.addresses, names: whole.names })
    }
}
