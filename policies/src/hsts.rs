//! `Strict-Transport-Security` (RFC 6797), with a ramp: a promise reaches no further into the future than the set-up has proved itself in
//! the past.
//!
//! Browsers keep the promise even where the site cannot: a year's worth of it, given on the first day, is a year without a way back.

/// The shortest promise in seconds, for the day a ramp begins.
const SHORTEST: u64 = 300;

/// What is promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hsts {
    /// How long, in seconds, once the ramp is over.
    pub max_age: u64,
    /// When the ramp began, in seconds since the Unix epoch; `None`: there is none.
    pub since: Option<u64>,
    /// The promise holds for subdomains, too.
    pub include_subdomains: bool,
    /// Browsers may ship it.
    pub preload: bool,
}

impl Hsts {
    /// How long the promise reaches at the time `unix`. With a ramp: as long as it has been given already, but at least five minutes and at
    /// most `max_age`.
    pub fn max_age(&self, unix: u64) -> u64 {
        match self.since {
            // Zero takes the promise back, which needs no proof.
            Some(since) => unix.saturating_sub(since).max(SHORTEST).min(self.max_age),
            None => self.max_age,
        }
    }

    /// Writes the value of the field at the time `unix`.
    pub fn write(&self, unix: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"max-age=");
        out.extend_from_slice(self.max_age(unix).to_string().as_bytes());
        if self.include_subdomains {
            out.extend_from_slice(b"; includeSubDomains");
        }
        if self.preload {
            out.extend_from_slice(b"; preload");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: u64 = 365 * 86_400;

    fn ramp(since: u64) -> Hsts {
        Hsts { max_age: YEAR, since: Some(since), include_subdomains: false, preload: false }
    }

    #[test]
    fn a_promise_reaches_as_far_as_it_has_been_kept() {
        let hsts = ramp(1_000_000);
        assert_eq!(hsts.max_age(0), SHORTEST, "before it begins");
        assert_eq!(hsts.max_age(1_000_000), SHORTEST);
        assert_eq!(hsts.max_age(1_000_000 + 7 * 86_400), 7 * 86_400);
        assert_eq!(hsts.max_age(1_000_000 + 2 * YEAR), YEAR);
    }

    #[test]
    fn rfc_6797_6_1_the_field() {
        let text = |hsts: &Hsts, unix| {
            let mut out = Vec::new();
            hsts.write(unix, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(&ramp(0), 86_400), "max-age=86400");
        let all = Hsts { max_age: YEAR, since: None, include_subdomains: true, preload: true };
        assert_eq!(text(&all, 0), "max-age=31536000; includeSubDomains; preload");
        assert_eq!(text(&Hsts { max_age: 0, ..ramp(0) }, 0), "max-age=0", "the way back");
    }
}
