//! Content codings (RFC 9110 sections 8.4 and 12.5.3): which one a client takes, and which answers are worth one.
//!
//! Invariant: an answer whose bytes somebody vouched for or counted (a range, a digest, `no-transform`, a coding of its own) stays as it is.

use crate::Fields;
use crate::text::{elements, quality};

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Brotli,
    /// Gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// Its name in `Accept-Encoding` and `Content-Encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    fn is_named(self, name: &[u8]) -> bool {
        // RFC 9110 section 8.4.1.3: `x-gzip` is gzip.
        let name = if name.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { name };
        name.eq_ignore_ascii_case(self.as_str().as_bytes())
    }
}

/// A pattern of media types: `text/html`, `text/*`, or `application/*+json` for a structured syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaPattern {
    /// Lower-case, up to the star, or all of it.
    start: Box<str>,
    /// Lower-case, behind the star; `None`: there is no star.
    end: Option<Box<str>>,
}

impl std::str::FromStr for MediaPattern {
    type Err = InvalidMediaPattern;

    fn from_str(text: &str) -> Result<Self, InvalidMediaPattern> {
        let text = text.to_ascii_lowercase();
        let is_token =
            |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&byte));
        let (kind, subtype) = text.split_once('/').ok_or(InvalidMediaPattern)?;
        if kind.is_empty() || subtype.is_empty() || kind.contains('*') || !is_token(kind) || !is_token(subtype) {
            return Err(InvalidMediaPattern);
        }
        match text.split_once('*') {
            None => Ok(Self { start: text.into(), end: None }),
            Some((start, end))
                if start.ends_with('/') && (end.is_empty() || end.starts_with('+')) && !end.contains('*') =>
            {
                Ok(Self { start: start.into(), end: Some(end.into()) })
            }
            Some(_) => Err(InvalidMediaPattern),
        }
    }
}

impl std::fmt::Display for MediaPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.start)?;
        self.end.iter().try_for_each(|end| write!(f, "*{end}"))
    }
}

impl MediaPattern {
    /// Whether this media type, without its parameters, fits.
    pub fn fits(&self, kind: &[u8]) -> bool {
        let start = self.start.as_bytes();
        let Some(end) = &self.end else { return kind.eq_ignore_ascii_case(start) };
        kind.len() > start.len() + end.len()
            && kind.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start))
            && kind.get(kind.len() - end.len()..).is_some_and(|found| found.eq_ignore_ascii_case(end.as_bytes()))
    }
}

/// Not a media type, and no pattern of some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a media type such as `text/html`, `text/*` or `application/*+json`")]
pub struct InvalidMediaPattern;

/// Which answers are compressed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// In the order of preference, where the client has none.
    pub codings: Vec<Coding>,
    /// Types that shrink.
    pub types: Vec<MediaPattern>,
    /// Shorter answers are sent as they are.
    pub min_length: u64,
    /// Answers that look as if they were for one person are compressed as well. Their length can then tell a secret (BREACH).
    pub personal: bool,
}

/// An answer, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a, F: ?Sized> {
    /// Its status.
    pub status: u16,
    /// Its fields.
    pub fields: &'a F,
    /// Bytes of its body, where they are known.
    pub length: Option<u64>,
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out as it is, to everybody.
    AsIs(Why),
    /// It goes out as it is to this client; another one may get it compressed, so caches must be told (`Vary`).
    Declined,
    /// It is compressed.
    Encode(Coding),
}

/// Why an answer is never compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A status without a whole representation behind it.
    Status,
    /// Its type is not listed, or is one that must not wait.
    Type,
    /// It is too short.
    Short,
    /// It has a coding already, is a range, has a digest or a signature, or says `no-transform`.
    Fixed,
    /// It looks as if it were for one person.
    Personal,
}

/// Fields that speak of the very bytes of the body.
const FIXED: [&str; 8] = [
    "digest",
    "signature",
    "signature-input",
    "repr-digest",
    "content-md5",
    "content-range",
    "content-digest",
    "content-encoding",
];

/// Whether a field speaks of the very bytes of a body, so that it must not stand behind others.
pub fn is_fixed(name: &[u8]) -> bool {
    FIXED.iter().any(|fixed| name.eq_ignore_ascii_case(fixed.as_bytes()))
}

/// What becomes of this answer for a client that sent these values of `Accept-Encoding`.
pub fn judge<'v, F: Fields + ?Sized>(
    terms: &Terms,
    answer: &Answer<'_, F>,
    accepted: &(impl Iterator<Item = &'v [u8]> + Clone),
) -> Verdict {
    if matches!(answer.status, ..200 | 204 | 205 | 206 | 304) {
        return Verdict::AsIs(Why::Status);
    }
    let (mut kind, mut personal) = (None, false);
    for (name, value) in answer.fields.lines() {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match name.len() {
            6 | 9 | 11 | 13 | 14 | 15 | 16 if is_fixed(name) => return Verdict::AsIs(Why::Fixed),
            // The same, told behind the body.
            7 if is("trailer") && elements(value).any(is_fixed) => return Verdict::AsIs(Why::Fixed),
            12 if is("content-type") && kind.replace(value).is_some() => return Verdict::AsIs(Why::Type),
            10 if is("set-cookie") => personal = true,
            4 if is("vary") => {
                personal |= elements(value).any(|field| {
                    [&b"*"[..], b"cookie", b"authorization"].iter().any(|secret| field.eq_ignore_ascii_case(secret))
                });
            }
            13 if is("cache-control") => {
                for directive in elements(value) {
                    let directive = directive.split(|&byte| byte == b'=').next().unwrap_or_default().trim_ascii();
                    if directive.eq_ignore_ascii_case(b"no-transform") {
                        return Verdict::AsIs(Why::Fixed);
                    }
                    personal |=
                        directive.eq_ignore_ascii_case(b"private") || directive.eq_ignore_ascii_case(b"no-store");
                }
            }
            _ => {}
        }
    }
    let kind = kind.unwrap_or_default().split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    // What is told as it happens: nobody may hold it back, and it consists of small parts that do not shrink.
    let told = kind.eq_ignore_ascii_case(b"text/event-stream")
        || kind.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"));
    if told || !terms.types.iter().any(|pattern| pattern.fits(kind)) {
        return Verdict::AsIs(Why::Type);
    }
    if answer.length.is_some_and(|length| length < terms.min_length) {
        return Verdict::AsIs(Why::Short);
    }
    if personal && !terms.personal {
        return Verdict::AsIs(Why::Personal);
    }
    negotiate(accepted, &terms.codings).map_or(Verdict::Declined, Verdict::Encode)
}

/// The coding for a client that sent these values of `Accept-Encoding`: the one it wants most, and of several the first that is offered. `None`: the
/// answer as it is, because the client wants that more, or takes nothing else.
pub fn negotiate<'v>(accepted: &(impl Iterator<Item = &'v [u8]> + Clone), offered: &[Coding]) -> Option<Coding> {
    // In thousandths; `None`: not mentioned.
    let weight = |named: &dyn Fn(&[u8]) -> bool| {
        let mut found = None;
        for element in accepted.clone().flat_map(elements) {
            let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            if named(name) {
                return Some(quality(parts));
            }
            if name == b"*" {
                found = Some(quality(parts));
            }
        }
        found
    };
    let identity = {
        // `*` does not make the plain answer more wanted than a coding.
        let mut all = accepted.clone().flat_map(elements);
        let named = all.any(|element| {
            element
                .split(|&byte| byte == b';')
                .next()
                .unwrap_or_default()
                .trim_ascii()
                .eq_ignore_ascii_case(b"identity")
        });
        if named { weight(&|name| name.eq_ignore_ascii_case(b"identity")).unwrap_or(0) } else { 0 }
    };
    let mut best = None;
    for &coding in offered {
        let wanted = weight(&|name| coding.is_named(name)).unwrap_or(0);
        if wanted > 0 && wanted >= identity && best.is_none_or(|(most, _)| wanted > most) {
            best = Some((wanted, coding));
        }
    }
    best.map(|(_, coding)| coding)
}

#[cfg(test)]
mod tests;
