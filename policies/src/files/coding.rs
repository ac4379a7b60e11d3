//! Which of the codings of a file a client gets (RFC 9110 §12.5.3).

use crate::text::trim_ows;

/// A coding in which a file may lie beside the plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Brotli, `.br`.
    Brotli,
    /// Zstandard, `.zst`.
    Zstd,
    /// gzip, `.gz`.
    Gzip,
}

impl Coding {
    /// All of them, the preferred first.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// As `Content-Encoding` and `Accept-Encoding` name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What the name of such a file ends with.
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// What a client thinks of each coding, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// In the order of [`Coding::ALL`].
    codings: [u16; 3],
    identity: u16,
}

impl Accepted {
    /// From all lines of `Accept-Encoding`. Without one, only the plain file is given: a client that says nothing may know no coding.
    pub fn of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut codings, mut identity, mut any) = ([None; 3], None, None);
        for element in values.flat_map(|value| value.split(|&byte| byte == b',')).map(trim_ows) {
            let mut parts = element.split(|&byte| byte == b';').map(trim_ows);
            let name = parts.next().unwrap_or_default();
            let weight = parts.next().map_or(1000, weight);
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            if is("*") {
                any = any.or(Some(weight));
            } else if is("identity") {
                identity = identity.or(Some(weight));
            } else if let Some(at) =
                Coding::ALL.iter().position(|coding| is(coding.name()) || (*coding == Coding::Gzip && is("x-gzip")))
                && let Some(known) = codings.get_mut(at)
            {
                *known = known.or(Some(weight));
            }
        }
        // `*` speaks for codings that are not named. Identity needs no naming, unless something forbids it.
        let identity = identity.or_else(|| any.filter(|&weight| weight == 0)).unwrap_or(1);
        Self { codings: codings.map(|known| known.or(any).unwrap_or(0)), identity }
    }

    /// The one of these codings that the client likes best, the server's preference deciding between equals. `None`: the plain file, also where the
    /// client refuses that one too (RFC 9110 §12.5.3 leaves it to the server; a body that can be read by anybody is better than none).
    pub fn choose(&self, available: impl IntoIterator<Item = Coding>) -> Option<Coding> {
        let mut best: Option<(u16, usize)> = None;
        for coding in available {
            let Some(at) = Coding::ALL.iter().position(|known| *known == coding) else { continue };
            let weight = self.codings.get(at).copied().unwrap_or(0);
            if weight > 0
                && weight >= self.identity
                && best.is_none_or(|(most, first)| weight > most || weight == most && at < first)
            {
                best = Some((weight, at));
            }
        }
        best.and_then(|(_, at)| Coding::ALL.get(at).copied())
    }
}

/// `q=0.8` in thousandths; what can not be read is no acceptance.
fn weight(parameter: &[u8]) -> u16 {
    let Some((b'q' | b'Q', rest)) = parameter.split_first() else { return 0 };
    let Some(text) = trim_ows(rest).strip_prefix(b"=").map(trim_ows) else { return 0 };
    match text {
        [b'1'] | [b'1', b'.', ..] if text.iter().skip(2).all(|&digit| digit == b'0') => 1000,
        [b'0', b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => {
            let padded = digits.iter().copied().chain([b'0'; 3]).take(3);
            padded.fold(0, |weight, digit| weight * 10 + u16::from(digit - b'0'))
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn choose(accept: &str, available: &[Coding]) -> Option<Coding> {
        Accepted::of([accept.as_bytes()].into_iter()).choose(available.iter().copied())
    }

    #[test]
    fn rfc_9110_12_5_3_the_best_that_is_accepted() {
        use Coding::{Brotli, Gzip, Zstd};
        for (accept, chosen) in [
            ("gzip, deflate, br, zstd", Some(Brotli)),
            ("gzip, deflate", Some(Gzip)),
            ("br;q=0.5, gzip;q=0.8", Some(Gzip)),
            ("br;q=0.5, gzip;q=0.8, zstd;q=0.8", Some(Zstd)),
            ("br;q=0, gzip", Some(Gzip)),
            ("br;q=0", None),
            ("*", Some(Brotli)),
            ("*;q=0.1, gzip;q=0.2", Some(Gzip)),
            ("br;q=0, *;q=0.5", Some(Zstd)),
            ("identity", None),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.8", Some(Gzip)),
            ("gzip;q=0.001", Some(Gzip)),
            ("GZIP;Q=1.000", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("gzip;q=x", None),
            ("gzip;q=2", None),
            ("gzip;q=0.0001", None),
            ("gzipped", None),
            ("", None),
            ("identity;q=0", None),
            ("*;q=0", None),
            ("gzip ; q = 0.5", Some(Gzip)),
        ] {
            assert_eq!(choose(accept, &Coding::ALL), chosen, "{accept}");
        }
        assert_eq!(choose("br, gzip", &[Gzip]), Some(Gzip));
        assert_eq!(choose("br", &[Gzip]), None);
        let lines = [&b"gzip;q=0.1"[..], b"br"];
        assert_eq!(Accepted::of(lines.into_iter()).choose(Coding::ALL), Some(Brotli));
        assert_eq!(Accepted::of(std::iter::empty()).choose(Coding::ALL), None);
    }

    proptest! {
        #[test]
        fn nothing_is_given_that_was_refused(accept in "((br|gzip|zstd|identity|\\*)(;q=(0|1|0\\.[0-9]))?, ?){0,6}") {
            if let Some(chosen) = choose(&accept, &Coding::ALL) {
                let refused = format!("{};q=0,", chosen.name());
                prop_assert!(!accept.replace(' ', "").starts_with(&refused), "{} {:?}", accept, chosen);
            }
        }
    }
}
