//! Texts with variables.

use super::{Invalid, Word};
use crate::config::suggest;
use crate::plan::{Segment, Template, Variable};

/// Longer values are a mistake, and heads have their bounds.
const LONGEST: usize = 2048;

/// nginx's names for what has another one here.
const NGINX: [(&str, &str); 10] = [
    ("remote_addr", "${client_ip}"),
    ("realip_remote_addr", "${client_ip}"),
    ("request_method", "${method}"),
    ("uri", "${path}"),
    ("document_uri", "${path}"),
    ("request_uri", "${path}?${query}"),
    ("args", "${query}"),
    ("query_string", "${query}"),
    ("server_port", "${port}"),
    ("ssl_client_s_dn", "${client_certificate}"),
];

/// A text with variables such as `${client_ip}`; `$${` stands for `${`. Printable ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateText(pub(crate) Template);

impl Word for TemplateText {
    const EXPECTED: &'static str = "a text, which may name variables such as `${client_ip}`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::expected::<Self>("an empty text"));
        }
        if text.len() > LONGEST {
            return Err(Invalid::new(format!("the text is longer than {LONGEST} bytes")));
        }
        if text.trim() != text {
            return Err(Invalid::new("the text begins or ends with a blank, which no field can"));
        }
        if let Some(found) = text.chars().find(|&c| !matches!(c, ' '..='~')) {
            return Err(Invalid::new(format!("the text holds {found:?}")).hint("use printable ASCII, in one line"));
        }
        parse(text).map(Self)
    }
}

/// Takes a text apart.
fn parse(text: &str) -> Result<Template, Invalid> {
    let mut segments = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        plain.push_str(before);
        if let Some(literal) = behind.strip_prefix("${") {
            plain.push_str("${");
            rest = literal;
            continue;
        }
        let Some(named) = behind.strip_prefix('{') else {
            let word: String = behind.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if let Some(meant) = known(&word) {
                return Err(Invalid::new(format!("`${word}` is not a variable")).hint(format!("write `{meant}`")));
            }
            plain.push('$');
            rest = behind;
            continue;
        };
        let Some((name, behind)) = named.split_once('}') else {
            return Err(Invalid::new("`${` has no `}`").hint("write `$${` for `${` itself"));
        };
        let variable = Variable::ALL.into_iter().find(|variable| variable.name() == name).ok_or_else(|| {
            let invalid = Invalid::new(format!("`${{{name}}}` is not a variable"));
            let names = Variable::ALL.map(Variable::name);
            match known(name).map(|meant| format!("write `{meant}`")) {
                Some(hint) => invalid.hint(hint),
                None => match suggest::hint(name, names, "the variables are") {
                    Some(hint) => invalid.hint(hint),
                    None => invalid,
                },
            }
        })?;
        if !plain.is_empty() {
            segments.push(Segment::Text(std::mem::take(&mut plain).into()));
        }
        segments.push(Segment::Variable(variable));
        rest = behind;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        segments.push(Segment::Text(plain.into()));
    }
    Ok(Template::new(segments))
}

/// What to write for a name without braces, or for one of nginx's.
fn known(word: &str) -> Option<String> {
    let ours = Variable::ALL.iter().any(|variable| variable.name() == word).then(|| format!("${{{word}}}"));
    ours.or_else(|| NGINX.iter().find(|(theirs, _)| *theirs == word).map(|(_, ours)| (*ours).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Segment>, String> {
        TemplateText::from_text(text).map(|template| template.0.segments().to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_text_is_taken_apart() {
        let (text, variable) = (|text: &str| Segment::Text(text.into()), Segment::Variable);
        assert_eq!(of("prod"), Ok(vec![text("prod")]));
        assert_eq!(
            of("a ${client_ip}:${port}"),
            Ok(vec![text("a "), variable(Variable::ClientIp), text(":"), variable(Variable::Port)])
        );
        assert_eq!(of("$5, $${host} and $"), Ok(vec![text("$5, ${host} and $")]));
        assert_eq!(of("$x{host}"), Ok(vec![text("$x{host}")]));
    }

    #[test]
    fn what_is_no_template_is_told_with_what_to_write() {
        for (given, told) in [
            ("", "empty"),
            (" a", "blank"),
            ("a\r\nX: y", "'\\r'"),
            ("ü", "'ü'"),
            ("${clint_ip}", "`client_ip`"),
            ("${remote_addr}", "${client_ip}"),
            ("$host", "${host}"),
            ("$request_uri", "${path}?${query}"),
            ("${host", "has no `}`"),
            ("${}", "the variables are"),
        ] {
            let error = of(given).unwrap_err();
            assert!(error.contains(told), "{given:?}: {error}");
        }
    }
}
