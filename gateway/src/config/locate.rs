//! Where the values of a configuration stand in its text.
//!
//! Positions are gathered once, while the text is read (see [`super::yaml`]); afterwards every question is one look-up.

use std::collections::HashMap;

use probegate_policies::access::Origin;

use super::ConfigPath;
use super::problem::Span;

/// Places of keys and values, by path.
#[derive(Debug, Default)]
pub(super) struct Locations {
    places: HashMap<ConfigPath, Place>,
}

/// What to point at for one path.
#[derive(Debug, Default)]
struct Place {
    key: Option<Span>,
    scalar: Option<Span>,
    /// The first thing inside a mapping or list.
    first: Option<Span>,
}

impl Locations {
    /// Remembers where the key of `path` stands.
    pub(super) fn set_key(&mut self, path: ConfigPath, span: Span) {
        self.set_first_of_parent(&path, &span);
        self.places.entry(path).or_default().key = Some(span);
    }

    /// Remembers where a scalar stands.
    pub(super) fn set_scalar(&mut self, path: ConfigPath, span: Span) {
        self.set_first_of_parent(&path, &span);
        self.places.entry(path).or_default().scalar = Some(span);
    }

    fn set_first_of_parent(&mut self, path: &ConfigPath, span: &Span) {
        let mut path = path.parent();
        while let Some(parent) = path {
            let place = self.places.entry(parent.clone()).or_default();
            if place.first.is_some() {
                return;
            }
            place.first = Some(span.clone());
            // Only a list hands the place of its first element on: a mapping already has a key to point at.
            path = if place.key.is_none() { parent.parent() } else { None };
        }
    }

    /// What to point at for a problem with the value at `path`: the value when it is a scalar, else the key it belongs to.
    pub(super) fn value(&self, path: &ConfigPath) -> Option<Span> {
        self.find(path, |place| place.scalar.as_ref().or(place.key.as_ref()).or(place.first.as_ref()))
    }

    /// What to point at for a problem with the key that `path` ends with.
    pub(super) fn key(&self, path: &ConfigPath) -> Option<Span> {
        self.find(path, |place| place.key.as_ref().or(place.scalar.as_ref()).or(place.first.as_ref()))
    }

    /// The line on which `path` begins; 0 when it is not written anywhere.
    pub(super) fn origin(&self, path: &ConfigPath) -> Origin {
        let place = self.places.get(path);
        let span = place.and_then(|place| place.key.as_ref().or(place.scalar.as_ref()).or(place.first.as_ref()));
        Origin { line: span.map_or(0, |span| span.line) }
    }

    /// The chosen span of `path`, or of the nearest thing around it that has one.
    fn find<'a>(&'a self, path: &ConfigPath, choose: impl Fn(&'a Place) -> Option<&'a Span>) -> Option<Span> {
        let mut path = Some(path.clone());
        // The first line of a file is no better a place than none.
        while let Some(here) = path.filter(|path| !path.is_root()) {
            if let Some(span) = self.places.get(&here).and_then(&choose) {
                return Some(span.clone());
            }
            path = here.parent();
        }
        None
    }
}

/// Byte offsets of line starts: turns the line and column of the YAML parser into a [`Span`].
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect();
        Self { text, starts }
    }

    /// The scalar or key that begins at a line and column (both from 1, columns in characters). `content` is its text as
    /// far as it is known; without it the end is where a plain scalar would end.
    pub(super) fn scalar(&self, line: usize, column: usize, content: Option<&str>) -> Option<Span> {
        let mut start = self.offset(line, column)?;
        let mut column = column;
        // The place of a scalar begins with its anchor and its tag. People mean what follows.
        while let Some(word) = self.text.get(start..).filter(|rest| rest.starts_with(['&', '!'])) {
            let blank = word.find(char::is_whitespace)?;
            let skip = blank + word.get(blank..)?.find(|letter: char| letter != ' ')?;
            column += word.get(..skip)?.chars().count();
            start += skip;
        }
        let end = start + extent(self.text.get(start..)?, content);
        Some(Span { line: u32::try_from(line).ok()?, column: u32::try_from(column).ok()?, bytes: start..end })
    }

    fn offset(&self, line: usize, column: usize) -> Option<usize> {
        let start = *self.starts.get(line.checked_sub(1)?)?;
        let rest = self.text.get(start..)?;
        let within = rest.char_indices().map(|(offset, _)| offset).nth(column.checked_sub(1)?);
        Some(start + within.unwrap_or(rest.len()))
    }
}

/// How many bytes of `rest` the scalar takes that begins it; at most to the end of its line.
pub(super) fn extent(rest: &str, content: Option<&str>) -> usize {
    let line = rest.lines().next().unwrap_or("");
    if let Some(quote) = line.chars().next().filter(|letter| matches!(letter, '"' | '\'')) {
        let inside = line.get(1..).unwrap_or("");
        // An escaped quote would end the underline early. That costs nothing but a shorter underline.
        return inside.find(quote).map_or(line.len(), |end| end + 2);
    }
    if let Some(content) = content
        && !content.is_empty()
        && let Some(rest) = line.strip_prefix(content)
        // `1.10` is the number 1.1, and goes on.
        && !rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '.')
    {
        return content.len();
    }
    line.find([',', ']', '}', '#']).map_or(line, |end| line.get(..end).unwrap_or(line)).trim_end().len()
}
