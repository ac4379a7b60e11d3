//! Pages for errors, and maintenance. Files are read while the configuration is, so that none is missing when it is needed.

use std::path::Path;
use std::sync::Arc;

use super::{Context, Definitions, is_open, rule};
use crate::config::shape::{List, Preset, Toggle};
use crate::config::value::{FilePath, Flag, Leaf, PageWord, Seconds, StatusesWord, Word as _};
use crate::config::{ConfigPath, raw, suggest};
use crate::plan::{Errors, Maintenance, Page, PagePart, PageVariable, Service, Statuses};

/// Bytes of the largest page. Each answer copies it.
const LARGEST: usize = 128 << 10;

/// What becomes of errors, as it is written at `path`, and as `base` says of the rest.
pub(super) fn errors(
    pages: Option<raw::ErrorPages>,
    intercept: Option<List<Leaf<StatusesWord>>>,
    path: &ConfigPath,
    base: Option<&Arc<Errors>>,
    cx: &mut Context<'_>,
) -> Option<Arc<Errors>> {
    if pages.is_none() && intercept.is_none() {
        return base.cloned();
    }
    let (known, taken) = base.map_or((&[][..], &[][..]), |base| (&base.pages, &base.intercept));
    let pages = match pages {
        None => known.to_vec(),
        Some(Toggle::Off) => Vec::new(),
        Some(Toggle::On(written)) => {
            let path = path.key("error_pages");
            let mut pages: Vec<(Statuses, Option<Arc<Page>>)> = Vec::new();
            for (key, file) in written {
                let path = path.key(&key);
                let statuses = match &*key {
                    "default" => Ok(Statuses::All),
                    key => StatusesWord::from_text(key).map(|StatusesWord(statuses)| statuses),
                };
                let Ok(statuses) = statuses else {
                    let message = format!("`{key}` is not the status of an error");
                    cx.key_error(&path, message, "write a status such as `\"404\"`, or `4xx`, `5xx` or `default`");
                    continue;
                };
                let Some(Leaf(PageWord(file))) = file else { continue };
                pages.push((statuses, file.and_then(|file| page(&file, &path, cx))));
            }
            let above = known.iter().filter(|(statuses, _)| !pages.iter().any(|(own, _)| own == statuses)).cloned();
            let above: Vec<_> = above.collect();
            pages.extend(above);
            pages
        }
    };
    let intercept = match intercept {
        None => taken.into(),
        Some(written) => {
            let path = path.key("intercept");
            let mut intercept: Vec<Statuses> = Vec::new();
            for (index, Leaf(StatusesWord(statuses))) in written {
                if intercept.contains(&statuses) {
                    cx.error(&path.index(index), format!("`{statuses}` stands here twice"), "remove one of the two");
                }
                intercept.push(statuses);
            }
            intercept.into()
        }
    };
    Some(Arc::new(Errors { pages: pages.into(), intercept }))
}

/// Changes of the field that only the gateway may say.
pub(super) fn reserved(services: &[Service], cx: &mut Context<'_>) {
    let mut told = Vec::new();
    for service in services {
        let path = ConfigPath::root().key("services").key(&service.name);
        let routes = service.routes.iter().enumerate();
        let routes = routes.map(|(index, route)| (path.key("routes").index(index), &route.handling));
        for (path, handling) in std::iter::once((path.clone(), &service.handling)).chain(routes) {
            let fields = handling.edits.iter().flat_map(|edits| edits.answer.fields.iter());
            for field in fields.filter(|field| field.name.as_str() == "x-gateway-error") {
                // A route has what its service says.
                if !told.contains(&field.origin) {
                    told.push(field.origin);
                    let message = "`X-Gateway-Error` is the gateway's own word, as `error_header` says";
                    cx.key_error(&path.key("response_headers"), message, "remove it there, or remove `error_header`");
                }
            }
        }
    }
}

/// `intercept` where no app is asked.
pub(super) fn nothing_to_intercept(path: &ConfigPath, cx: &mut Context<'_>) {
    let message = "no app is asked here, so there is no answer of one to replace";
    cx.key_error(&path.key("intercept"), message, "remove it: `error_pages` is enough for the gateway's own errors");
}

/// Reads a page and takes it apart.
fn page(file: &Path, path: &ConfigPath, cx: &mut Context<'_>) -> Option<Arc<Page>> {
    let name = file.display().to_string();
    let (what, hint) = match cx.environment().read(file, LARGEST + 1) {
        Err(error) => (format!("cannot be read: {error}"), String::new()),
        Ok(content) if content.len() > LARGEST => (
            format!("is larger than {} KiB", LARGEST >> 10),
            "link to pictures, fonts and styles in place of embedding them".to_owned(),
        ),
        Ok(content) => match String::from_utf8(content) {
            Err(_) => ("is not UTF-8".to_owned(), "save it as UTF-8: that is what browsers are told".to_owned()),
            Ok(text) if text.trim().is_empty() => ("is empty".to_owned(), "write a page of HTML".to_owned()),
            Ok(text) => match parts(&text) {
                Ok(parts) => return Some(Arc::new(Page { name: name.into(), parts: parts.into() })),
                Err((line, message, hint)) => (format!("cannot be used: line {line}: {message}"), hint),
            },
        },
    };
    cx.error(path, format!("file `{name}` {what}"), hint);
    None
}

/// The parts of a page. An error: its line, and what to write there.
fn parts(text: &str) -> Result<Vec<PagePart>, (usize, String, String)> {
    let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some((before, behind)) = rest.split_once("${") {
        let line = || text.get(..text.len() - behind.len()).unwrap_or_default().split('\n').count();
        if let Some(before) = before.strip_suffix('$') {
            plain.push_str(before);
            plain.push_str("${");
            rest = behind;
            continue;
        }
        plain.push_str(before);
        let literal = "write `$${` for `${` itself";
        let Some((name, behind)) = behind.split_once('}') else {
            return Err((line(), "`${` has no `}`".to_owned(), literal.to_owned()));
        };
        let Some(variable) = PageVariable::ALL.into_iter().find(|variable| variable.name() == name) else {
            let shown: String = name.chars().take(40).collect();
            let names = PageVariable::ALL.map(PageVariable::name);
            let hint = match suggest::nearest(&shown, names) {
                Some(meant) => format!("did you mean `${{{meant}}}`?"),
                None => format!("the variables are {}; {literal}", suggest::list(names)),
            };
            return Err((line(), format!("`${{{shown}}}` is not a variable of pages"), hint));
        };
        if !plain.is_empty() {
            parts.push(PagePart::Text(std::mem::take(&mut plain).into()));
        }
        parts.push(PagePart::Variable(variable));
        rest = behind;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(PagePart::Text(plain.into()));
    }
    Ok(parts)
}

/// What happens while the service at `path` is in maintenance.
pub(super) fn maintenance(
    raw: Option<Preset<raw::Maintenance>>,
    path: &ConfigPath,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> Maintenance {
    let path = path.key("maintenance");
    let raw = match raw {
        None => return Maintenance::default(),
        Some(Preset::Off) => return Maintenance { origin: Some(cx.origin(&path)), ..Maintenance::default() },
        Some(Preset::On(raw)) => raw,
    };
    let raw::Maintenance { enabled, retry_after, allow, page: file } = raw;
    let retry_after = retry_after.map(|Leaf(Seconds(time))| time);
    if retry_after.is_some_and(|time| time.is_zero() || time.subsec_nanos() != 0) {
        let message =
            "`retry_after` is not a number of whole seconds above zero, which is all that clients can be told";
        cx.error(&path.key("retry_after"), message, "write `30s`, `10m` or `1h`");
    }
    let allow = allow.map(|allow| rule::rule(allow, &path.key("allow"), definitions, cx));
    if allow.as_ref().is_some_and(is_open) {
        let hint = "say who is served all the same, such as `{network: office}`, or write `maintenance: false`";
        cx.error(&path.key("allow"), "this lets everybody in: the maintenance would keep nobody out", hint);
    }
    Maintenance {
        enabled: enabled.is_some_and(|Leaf(Flag(enabled))| enabled),
        retry_after,
        allow,
        page: file.and_then(|Leaf(FilePath(file))| page(&file, &path.key("page"), cx)),
        origin: Some(cx.origin(&path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_taken_apart() {
        let (text, variable) = (|text: &str| PagePart::Text(text.into()), PagePart::Variable);
        assert_eq!(parts("<h1>ü $5 $</h1>"), Ok(vec![text("<h1>ü $5 $</h1>")]));
        assert_eq!(
            parts("<h1>${status} ${title}</h1>\n<a href=\"?id=${request_id}\">"),
            Ok(vec![
                text("<h1>"),
                variable(PageVariable::Status),
                text(" "),
                variable(PageVariable::Title),
                text("</h1>\n<a href=\"?id="),
                variable(PageVariable::RequestId),
                text("\">"),
            ])
        );
        assert_eq!(parts("`$${name} $$${status}`"), Ok(vec![text("`${name} $${status}`")]));
    }

    #[test]
    fn what_is_no_variable_is_told_with_its_line() {
        for (page, line, message, hint) in [
            ("a\nb ${requst_id}", 2, "`${requst_id}`", "did you mean `${request_id}`?"),
            ("${host}", 1, "`${host}`", "the variables are"),
            ("a\n\n${status", 3, "has no `}`", "write `$${`"),
            ("${}", 1, "`${}`", "write `$${`"),
        ] {
            let (found, what, how) = parts(page).unwrap_err();
            assert!(found == line && what.contains(message) && how.contains(hint), "{page}: {found} {what} {how}");
        }
    }
}
