//! Diagnostics as text for people, through annotate-snippets.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::{Diagnostic, Label, Severity, Sources};

/// Whether the text carries terminal colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Plain,
    Ansi,
}

/// The diagnostic with the lines it points at, ending in a newline.
pub fn render(diagnostic: &Diagnostic, sources: &Sources, colour: Colour) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Info => Level::INFO,
    };
    let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code.0);
    let mut group = Group::with_title(title);

    let mut labels: Vec<(AnnotationKind, &Label)> = Vec::new();
    labels.extend(diagnostic.primary.iter().map(|label| (AnnotationKind::Primary, label)));
    labels.extend(diagnostic.related.iter().map(|label| (AnnotationKind::Context, label)));
    let mut shown = Vec::new();
    for (_, label) in &labels {
        if !shown.contains(&label.span.source) {
            shown.push(label.span.source);
        }
    }
    for source in shown {
        let text = sources.text(source);
        let own = labels.iter().filter(|(_, label)| label.span.source == source).map(|(kind, label)| {
            let start = text.floor_char_boundary(label.span.start);
            (kind, label, start, text.ceil_char_boundary(label.span.end).max(start))
        });
        let first = own.clone().map(|(_, _, start, _)| start).min().unwrap_or_default();
        let last = own.clone().map(|(_, _, _, end)| end).max().unwrap_or_default();
        // The renderer goes through all of its text, so it gets no more than it shows.
        let (part, offset, line) = sources.around(source, first, last);
        let annotations = own.map(|(kind, label, start, end)| {
            kind.span(start - offset..end - offset).label((!label.text.is_empty()).then_some(label.text.as_str()))
        });
        group = group.element(Snippet::source(part).line_start(line).path(sources.name(source)).annotations(annotations));
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    if let Some(fix) = &diagnostic.fix {
        let (found, replacement) = (sources.snippet(fix.span), &fix.replacement);
        let text = match (found.is_empty(), replacement.is_empty()) {
            (true, _) => format!("add `{replacement}`"),
            (false, true) => format!("remove `{found}`"),
            (false, false) => format!("write `{replacement}` for `{found}`"),
        };
        group = group.element(Level::HELP.message(text));
    }
    let renderer = match colour {
        Colour::Plain => Renderer::plain(),
        Colour::Ansi => Renderer::styled(),
    };
    let mut text = renderer.decor_style(DecorStyle::Ascii).render(&[group]);
    text.push('\n');
    text
}
