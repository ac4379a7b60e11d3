//! Problems as people read them.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::{Problem, Severity};
use crate::config::Source;
use crate::config::locate::extent;

/// Renders problems one below the other: file, line and column, the line itself, a caret, a hint. Ends with a line break
/// unless there are none.
pub fn render(problems: &[Problem], source: &Source, colour: bool) -> String {
    let source = &mask(source);
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for problem in problems {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&renderer.render(&[group(problem, source)]));
        out.push('\n');
    }
    out
}

fn group<'a>(problem: &'a Problem, source: &'a Source) -> Group<'a> {
    let title = match problem.severity {
        Severity::Error => Level::ERROR.primary_title(&problem.message),
        Severity::Lint => Level::WARNING.primary_title(&problem.message),
    };
    let group = match &problem.span {
        Some(span) => {
            let place = AnnotationKind::Primary
                .span(clamp(&source.text, span.bytes.start)..clamp(&source.text, span.bytes.end));
            title.element(Snippet::source(&source.text).path(&source.name).annotation(place.label(label(problem))))
        }
        None => title.element(Origin::path(&source.name)),
    };
    match &problem.hint {
        Some(hint) => group.element(Level::HELP.message(hint)),
        None => group,
    }
}

/// Where the value lies, in the configuration's own words. Left out where the line alone says it.
fn label(problem: &Problem) -> Option<String> {
    let parent = problem.path.parent()?;
    (!parent.is_root()).then(|| format!("in `{parent}`"))
}

/// The source with stars in place of what stands behind `value:` and `sha256:`, and between `://` and `@`. Problems are read in logs of CI systems, and the
/// line with the mistake may be the line with the token. Lengths do not change, so that spans stay what they are.
fn mask(source: &Source) -> Source {
    let mut text = source.text.clone();
    for key in ["value", "sha256"] {
        for (found, _) in source.text.match_indices(key) {
            let Some((before, rest)) = source.text.split_at_checked(found) else {
                continue;
            };
            if before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
                continue;
            }
            let after = rest.trim_start_matches(key).trim_start_matches(['"', '\'']).trim_start_matches(' ');
            let Some(secret) = after.strip_prefix(':').map(|secret| secret.trim_start_matches(' ')) else {
                continue;
            };
            let start = source.text.len() - secret.len();
            let end = start + extent(secret, None);
            text.replace_range(start..end, &"*".repeat(end - start));
        }
    }
    for (found, scheme) in source.text.match_indices("://") {
        let start = found + scheme.len();
        let rest = source.text.get(start..).unwrap_or_default();
        let ends = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | ',' | ']' | '}');
        let length = rest.get(..rest.find(ends).unwrap_or(rest.len())).and_then(|url| url.rfind('@')).unwrap_or(0);
        text.replace_range(start..start + length, &"*".repeat(length));
    }
    Source { name: source.name.clone(), text }
}

/// The nearest place at or before `offset` at which the text may be cut: a renderer must not fail over a position.
fn clamp(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
