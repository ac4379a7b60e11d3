//! `redirect`: a place that no request can turn into another host.

use crate::config::compile::Context;
use crate::config::value::{Flag, Leaf, RedirectStatus, TemplateText};
use crate::config::{ConfigPath, raw};
use crate::plan::{Redirect, Segment, Template, Variable};

/// Where clients are sent.
pub(super) fn redirect(raw: raw::Redirect, path: &ConfigPath, cx: &mut Context<'_>) -> Option<Redirect> {
    let raw::Redirect { to, status, keep_query } = raw;
    let Leaf(TemplateText(to)) = cx.required(to, path, "to", "to: \"https://www.example.com${path}\"")?;
    let at = path.key("to");
    let relative = match place(&to) {
        Ok(relative) => relative,
        Err((message, hint)) => {
            cx.error(&at, message, hint);
            return None;
        }
    };
    let text = |wanted: char| {
        to.segments().iter().any(|segment| matches!(segment, Segment::Text(text) if text.contains(wanted)))
    };
    let keeps = keep_query.is_none_or(|Leaf(Flag(keep))| keep);
    if keep_query.is_some() && keeps && to.names(Variable::Query) {
        let message = "`to` names `${query}`, which `keep_query` would add once more";
        cx.key_error(&path.key("keep_query"), message, "remove one of the two");
    }
    if keeps && !to.names(Variable::Query) && text('#') {
        cx.error(&at, "the query would follow the `#` and become a part of it", "write `keep_query: false`");
    }
    Some(Redirect {
        status: status.map_or(307, |Leaf(RedirectStatus(status))| status),
        keep_query: keeps && !to.names(Variable::Query),
        relative,
        origin: cx.origin(path),
        to,
    })
}

/// Whether the place is a path on the same host. An error: a request could decide about the host, or there is no place at all.
fn place(to: &Template) -> Result<bool, (String, &'static str)> {
    let strange =
        |text: &str| text.chars().find(|c| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'));
    for segment in to.segments() {
        if let Segment::Text(text) = segment
            && let Some(found) = strange(text)
        {
            return Err((format!("the place holds {found:?}, which no URL does"), "percent-encode it"));
        }
    }
    let mut segments = to.segments().iter();
    let no_place = || {
        (
            "the place is neither `https://…` nor a path".to_owned(),
            "write `https://www.example.com${path}` or `/new${rest}`",
        )
    };
    let authority = match segments.next() {
        Some(Segment::Variable(Variable::Path | Variable::Rest)) => return Ok(true),
        Some(Segment::Text(text)) if text.starts_with("//") => {
            return Err(("the place has a host and no scheme".to_owned(), "write `https://` in front of it"));
        }
        Some(Segment::Text(text)) if text.starts_with('/') => return Ok(true),
        Some(Segment::Text(text)) => {
            text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or_else(no_place)?
        }
        Some(Segment::Variable(Variable::Scheme)) => match segments.next() {
            Some(Segment::Text(text)) => text.strip_prefix("://").ok_or_else(no_place)?,
            _ => return Err(no_place()),
        },
        _ => return Err(no_place()),
    };
    // The host: what is written, and the one that was asked for. A path ends it.
    let mut empty = authority.is_empty();
    let mut text = Some(authority);
    loop {
        if let Some(text) = text {
            let end = text.find(['/', '?', '#']);
            let host = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
            empty &= host.is_empty();
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']');
            if let Some(found) = host.chars().find(|&c| !plain(c)) {
                return Err((format!("the host of the place holds {found:?}"), "write the name of a host"));
            }
            if end.is_some() {
                break;
            }
        }
        text = match segments.next() {
            None | Some(Segment::Variable(Variable::Path | Variable::Rest)) => break,
            Some(Segment::Text(text)) => Some(text),
            Some(Segment::Variable(Variable::Host)) => {
                empty = false;
                None
            }
            Some(Segment::Variable(Variable::Port)) => None,
            Some(Segment::Variable(variable)) => {
                return Err((
                    format!(
                        "`${{{}}}` stands in the host of the place: a client could write another host there",
                        variable.name()
                    ),
                    "end the host with `/`, or with `${path}` or `${rest}`, which begin with one",
                ));
            }
        };
    }
    if empty { Err(("the place has no host".to_owned(), "write `https://www.example.com${path}`")) } else { Ok(false) }
}
