//! Fixes applied to a text, which keeps its comments and its order.

use ringwall_diagnostic::{Diagnostic, Fix, SourceId, Sources};

/// The text of one file with all fixes that the diagnostics carry for it. Of fixes that overlap,
/// the first in the text is applied; check again for the rest.
pub fn fixed(sources: &Sources, source: SourceId, diagnostics: &[Diagnostic]) -> String {
    let fixes = diagnostics.iter().filter_map(|diagnostic| diagnostic.fix.as_ref());
    let mut fixes: Vec<&Fix> = fixes.filter(|fix| fix.span.source == source).collect();
    fixes.sort_by_key(|fix| (fix.span.start, fix.span.end));
    let text = sources.text(source);
    let (mut result, mut at) = (String::with_capacity(text.len()), 0);
    for fix in fixes {
        let (Some(before), Some(_)) = (text.get(at..fix.span.start), text.get(fix.span.start..fix.span.end)) else {
            continue;
        };
        result.push_str(before);
        result.push_str(&fix.replacement);
        at = fix.span.end;
    }
    result.push_str(&text[at..]);
    result
}
