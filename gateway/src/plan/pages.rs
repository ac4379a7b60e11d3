//! Pages that people see in place of errors, and services in maintenance.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use probegate_policies::access::{Origin, Rule};

/// What becomes of the errors of a service, or of a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// Pages by status, no two for the same; `None`: the small one that is built in.
    pub pages: Box<[(Statuses, Option<Arc<Page>>)]>,
    /// Answers of the app's whose body is replaced.
    pub intercept: Box<[Statuses]>,
}

impl Errors {
    /// The page for a status: its own, else that of its class, else the one for all. `None`: the one that is built in.
    pub fn page(&self, status: u16) -> Option<&Page> {
        let all = [Statuses::One(status), Statuses::Class(status / 100), Statuses::All];
        let of = |wanted| self.pages.iter().find(|(statuses, _)| *statuses == wanted);
        all.into_iter().find_map(of).and_then(|(_, page)| page.as_deref())
    }

    /// Whether the body of an answer of the app's with this status is replaced.
    pub fn intercepts(&self, status: u16) -> bool {
        status >= 400 && self.intercept.iter().any(|statuses| statuses.hold(status))
    }
}

/// Statuses of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statuses {
    /// This one.
    One(u16),
    /// All that begin with this digit, 4 or 5.
    Class(u16),
    /// All.
    All,
}

impl Statuses {
    /// Whether this status is one of them.
    pub fn hold(self, status: u16) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Class(class) => class == status / 100,
            Self::All => true,
        }
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(status) => write!(f, "{status}"),
            Self::Class(class) => write!(f, "{class}xx"),
            Self::All => f.write_str("default"),
        }
    }
}

/// A page, taken apart when the configuration is read.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// Its file, as it is written.
    pub name: Box<str>,
    /// Its parts in order.
    pub parts: Box<[PagePart]>,
}

impl Page {
    /// Bytes of memory that an answer with it takes, within a few for what its variables say.
    pub fn length(&self) -> u64 {
        self.parts.iter().fold(0, |length, part| {
            length
                + match part {
                    PagePart::Text(text) => text.len() as u64,
                    PagePart::Variable(_) => 64,
                }
        })
    }
}

/// A part of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PagePart {
    /// These characters, HTML.
    Text(Box<str>),
    /// What is known about the error.
    Variable(PageVariable),
}

/// What a page can say about an error. None of it comes from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageVariable {
    /// Why, as a sentence; empty where clients are not told.
    Detail,
    /// The name of the request in all logs.
    RequestId,
    /// Seconds until the client may come back; empty where nobody knows.
    RetryAfter,
    /// The status.
    Status,
    /// What the status is called.
    Title,
}

impl PageVariable {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Detail, Self::RequestId, Self::RetryAfter, Self::Status, Self::Title];

    /// As it is written between `${` and `}`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detail => "detail",
            Self::RequestId => "request_id",
            Self::RetryAfter => "retry_after",
            Self::Status => "status",
            Self::Title => "title",
        }
    }
}

/// What happens while a service is in maintenance, and whether the configuration says that it is.
#[derive(Debug, Default)]
pub struct Maintenance {
    /// It is, unless somebody has switched it off.
    pub enabled: bool,
    /// When clients may come back, from each answer on, in whole seconds; the switch may say otherwise. `None`: nobody knows.
    pub retry_after: Option<Duration>,
    /// Who is served all the same; `None`: nobody.
    pub allow: Option<Rule>,
    /// The page for people; `None`: as for other errors.
    pub page: Option<Arc<Page>>,
    /// Where it is said; `None`: nowhere.
    pub origin: Option<Origin>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_page_is_the_one() {
        let page = |name: &str| Some(Arc::new(Page { name: name.into(), parts: [].into() }));
        let errors = Errors {
            pages: [
                (Statuses::All, page("all")),
                (Statuses::Class(5), page("5xx")),
                (Statuses::One(503), page("503")),
                (Statuses::One(429), None),
            ]
            .into(),
            intercept: [Statuses::One(404), Statuses::Class(5)].into(),
        };
        for (status, name) in [(503, Some("503")), (502, Some("5xx")), (404, Some("all")), (429, None)] {
            assert_eq!(errors.page(status).map(|page| &*page.name), name, "{status}");
        }
        assert_eq!(Errors::default().page(502), None);
        for (status, taken) in [(404, true), (403, false), (500, true), (599, true), (200, false), (101, false)] {
            assert_eq!(errors.intercepts(status), taken, "{status}");
        }
    }
}
