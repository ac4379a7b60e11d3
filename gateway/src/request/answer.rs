//! The gateway's own error answers: `application/problem+json` (RFC 9457), or a page for browsers, with the request id.

use std::time::Duration;

use probegate_policies::limit::{Decision, headers};
use probegate_policies::reason::Reason;

use super::judge::Refused;
use super::page::Told;
use super::quota::Texts;
use super::repeat::{Key, Repeats};
use crate::plan::{self, Deny, Limit, Page};
use crate::spool::{Budget, Held};
use crate::state::Active;
use crate::wire::{Answer, COPIED, Responder};

/// Whether every refusal says this field itself.
pub fn says(name: &str) -> bool {
    Form::Document.fields().as_slice().iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
}

/// After how long a client may come back that found no place at the app.
pub const LATER: Duration = Duration::from_secs(5);

/// Bytes of a page that are part of what any request holds.
const SMALL: u64 = 16 * 1024;

/// In which form a client is told of an error.
#[derive(Clone, Copy, Debug)]
pub enum Form<'a> {
    /// A problem document.
    Document,
    /// A page: this one, or the one that is built in.
    Page(Option<&'a Page>),
}

impl Form<'_> {
    /// Writes it.
    pub fn write(self, told: &Told<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Document => told.document(out),
            Self::Page(page) => told.page(page, out),
        }
    }

    /// The form that there is memory for, which is held as long as the second part of this is. Each answer is a copy of its page, and waits for its client: where
    /// large ones hold all that bodies may have together, the rest get documents.
    pub fn within(self, active: &Active, budget: &Budget) -> (Self, Option<Held>) {
        let Self::Page(Some(page)) = self else { return (self, None) };
        let length = page.length();
        if length <= SMALL {
            return (self, None);
        }
        match budget.hold(&active.plan.buffers, length) {
            Some(held) => (self, Some(held)),
            None => (Self::Document, None),
        }
    }

    /// Whether it is longer than what is sent in one piece with its head.
    fn is_large(self) -> bool {
        matches!(self, Self::Page(Some(page)) if page.length() > COPIED as u64)
    }

    /// The fields that every error has. Some of their statuses may be cached unless told otherwise (RFC 9110 §15.1), and what one client may not see another
    /// may. The form depends on what the client takes.
    pub fn fields<'f>(self) -> Fields<'f> {
        let mut fields = Fields::default();
        fields.push(
            "Content-Type",
            match self {
                Self::Document => b"application/problem+json",
                Self::Page(_) => b"text/html; charset=utf-8",
            },
        );
        fields.push("Cache-Control", b"no-store");
        fields.push("Vary", b"Accept");
        fields
    }
}

/// The fields of an error. Not a vector: floods of refused requests must not allocate more than they have to.
#[derive(Debug, Default)]
pub struct Fields<'a> {
    list: [(&'a str, &'a [u8]); 10],
    len: usize,
}

impl<'a> Fields<'a> {
    /// Adds one. There is room for all that an error can have.
    pub fn push(&mut self, name: &'a str, value: &'a [u8]) {
        debug_assert!(self.len < self.list.len());
        if let Some(place) = self.list.get_mut(self.len) {
            *place = (name, value);
            self.len += 1;
        }
    }

    /// All of them.
    pub fn as_slice(&self) -> &[(&'a str, &'a [u8])] {
        self.list.get(..self.len).unwrap_or_default()
    }
}

/// What is told of a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Telling<'a> {
    /// Why, and how much of it the client sees.
    pub refused: Refused,
    /// In which form.
    pub form: Form<'a>,
    /// Answers that were given lately; `None`: this one is none that is given often.
    pub repeats: Option<&'a Repeats>,
    /// The request's id.
    pub id: &'a [u8; 32],
    /// The limit that refused it.
    pub limited: Option<(&'a Limit, Decision)>,
    /// The methods that would be allowed.
    pub allow: &'a str,
    /// After how long it may come back.
    pub back: Option<Duration>,
    /// The reason stands in a field, too.
    pub header: bool,
}

impl<'a> Telling<'a> {
    /// Seconds until the client may come back.
    fn retry_after(&self) -> Option<u64> {
        match self.limited {
            Some((_, decision)) => Some(headers::retry_after_seconds(&decision)),
            // RFC 9110 §10.2.3: whole seconds.
            None => self.back.map(|back| back.as_secs().max(1)),
        }
    }

    /// What decides how it reads, and where such answers are kept. `None`: this one is not.
    fn key(&self, status: u16, retry_after: Option<u64>) -> Option<(Key, &'a Repeats)> {
        let key = Key::Refusal {
            status,
            reason: self.refused.reason,
            header: self.header,
            retry_after,
            limited: self.limited.map(|(limit, decision)| {
                (std::ptr::from_ref(limit).addr(), decision.remaining, headers::reset_seconds(&decision))
            }),
        };
        // A page has many forms, and `Allow` depends on what is asked.
        let repeats = self.repeats.filter(|_| matches!(self.form, Form::Document) && status != 405);
        repeats.map(|repeats| (key, repeats))
    }

    /// Prepares the answer, where the same was told lately.
    fn recall<R: Responder>(&self, reply: &mut R) -> bool {
        let key = self.key(status(self.refused), self.retry_after());
        key.is_some_and(|(key, repeats)| repeats.recall(key, self.id, reply))
    }
}

/// A refusal as it is told, and the texts that its fields point to.
struct Composed<'t, 'a> {
    telling: &'t Telling<'a>,
    status: u16,
    retry_after: Option<u64>,
    after: Option<String>,
    limit: Option<Texts>,
    body: &'t [u8],
}

impl<'t, 'a> Composed<'t, 'a> {
    /// `text` is memory for its body.
    fn new(text: &'t mut Vec<u8>, telling: &'t Telling<'a>) -> Self {
        let (status, retry_after) = (status(telling.refused), telling.retry_after());
        let limit = telling.limited.map(|(limit, _)| &*limit.name);
        let banned = status == 403 && telling.refused.reason == Reason::Banned;
        let detail = detail(status, telling.refused.reason);
        telling.form.write(&Told { status, detail, id: telling.id, retry_after, limit, banned }, text);
        let limited = telling.limited.filter(|(limit, _)| limit.tells.when != plan::Telling::Never);
        Self {
            telling,
            status,
            retry_after,
            after: retry_after.map(|seconds| seconds.to_string()),
            limit: limited.map(|(limit, decision)| Texts::new(limit, &decision)),
            body: text,
        }
    }

    /// Its fields.
    fn fields(&self) -> Fields<'_> {
        let mut fields = self.telling.form.fields();
        if let Some(after) = &self.after {
            fields.push("Retry-After", after.as_bytes());
        }
        if let Some(limit) = &self.limit {
            limit.push(&mut fields);
        }
        if self.status == 405 {
            // RFC 9110 §15.5.6: it must say what would be allowed.
            fields.push("Allow", self.telling.allow.as_bytes());
        }
        if self.telling.header {
            fields.push(ERROR_HEADER, code(self.status, self.telling.refused.reason).as_bytes());
        }
        fields
    }

    /// Prepares it, and keeps it where it is told for the second time within a short while: of many that differ, none would be told again.
    fn prepare<R: Responder>(&self, reply: &mut R) -> bool {
        let fields = self.fields();
        let prepared = reply.prepare(&Answer { status: self.status, fields: fields.as_slice(), body: self.body });
        if prepared
            && let Some((key, repeats)) = self.telling.key(self.status, self.retry_after)
            && repeats.is_repeated(key)
        {
            repeats.keep(key, Some(self.telling.id), reply);
        }
        prepared
    }
}

/// Prepares the answer to a refusal. `false`: it is large, or this client's protocol sends it in another way.
pub fn prepare<R: Responder>(text: &mut Vec<u8>, telling: &Telling<'_>, reply: &mut R) -> bool {
    // What is large would be written in vain.
    telling.recall(reply) || (!telling.form.is_large() && Composed::new(text, telling).prepare(reply))
}

/// Answers a refusal. A client that is gone has no use for the answer; the log line is written either way.
pub async fn refusal<R: Responder>(text: &mut Vec<u8>, telling: &Telling<'_>, reply: &mut R) {
    if !telling.recall(reply) {
        let composed = Composed::new(text, telling);
        if !composed.prepare(reply) {
            let fields = composed.fields();
            let answer = Answer { status: composed.status, fields: fields.as_slice(), body: composed.body };
            reply.answer(&answer).await.ok();
            return;
        }
    }
    reply.deliver().await.ok();
}

/// Answers what never became a request, of which nobody knows what it takes.
pub async fn unread<R: Responder>(text: &mut Vec<u8>, reason: Reason, id: &[u8; 32], header: bool, reply: &mut R) {
    let refused = Refused::from(reason);
    let telling =
        Telling { refused, form: Form::Document, repeats: None, id, limited: None, allow: "", back: None, header };
    refusal(text, &telling, reply).await;
}

/// The field that says that an error is the gateway's own, and why.
pub const ERROR_HEADER: &str = "X-Gateway-Error";

/// What [`ERROR_HEADER`] says. Strangers are not told why they may not enter, nor whether something is there: the reason is in the log under the
/// request id.
fn code(status: u16, reason: Reason) -> &'static str {
    match status {
        403 => "forbidden",
        404 => "not_found",
        _ => reason.label(),
    }
}

/// The sentence that clients get.
fn detail(status: u16, reason: Reason) -> &'static str {
    if matches!(status, 403 | 404) { "" } else { reason.text() }
}

/// The status the client sees.
pub fn status(refused: Refused) -> u16 {
    match refused.deny {
        // What is hidden is not given away by the spelling of its path either, nor by a limit of its own.
        Deny::Hidden
            if refused.reason.status() == 403
                || matches!(
                    refused.reason,
                    Reason::PathAmbiguous
                        | Reason::LimitExceeded
                        | Reason::LimitUnavailable
                        | Reason::InFlightExceeded
                        | Reason::CapacityExceeded
                ) =>
        {
            404
        }
        Deny::Hidden | Deny::Forbidden | Deny::Close => refused.reason.status(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::deadline::Deadlines;
    use crate::wire::h1::reply::{Client, Reply};
    use crate::wire::head::Version;
    use crate::wire::pace::Pace;
    use crate::wire::transport::Socket;
    use crate::worker::date::Date;

    #[test]
    fn a_stranger_is_not_told_why() {
        for deny in [Deny::Forbidden, Deny::Hidden] {
            for &reason in Reason::ALL {
                let status = status(Refused { reason, deny });
                if matches!(status, 403 | 404) {
                    assert_eq!(detail(status, reason), "");
                    assert!(["forbidden", "not_found"].contains(&code(status, reason)), "{reason:?}");
                } else {
                    assert_eq!((detail(status, reason), code(status, reason)), (reason.text(), reason.label()));
                }
            }
        }
        for reason in [Reason::PathAmbiguous, Reason::LimitExceeded, Reason::LimitUnavailable] {
            assert_eq!(status(Refused { reason, deny: Deny::Hidden }), 404);
        }
    }

    #[tokio::test]
    async fn a_refusal_is_kept_when_it_was_told_twice_and_then_told_again_under_another_id() {
        let (ours, _theirs) = tokio::net::UnixStream::pair().unwrap();
        let (socket, deadlines) = (Socket::Unix(ours), Deadlines::new(std::time::Instant::now()));
        let (deadline, date) = (deadlines.slot(), Date::default().get());
        let repeats = Repeats::new(date);
        let told = |id: &[u8; 32], to_head: bool| {
            let (refused, form) = (Reason::OutsideNetwork.into(), Form::Document);
            let repeats = Some(&repeats);
            let telling = Telling { refused, form, repeats, id, limited: None, allow: "", back: None, header: true };
            let (mut text, mut out) = (Vec::new(), Vec::new());
            let client = Client { version: Version::Http11, to_head, persists: true };
            let pace = Pace::patient(Duration::from_secs(1));
            let mut reply = Reply::new(&socket, &deadline, pace, &mut out, date, client);
            let recalled = telling.recall(&mut reply);
            assert!(recalled || prepare(&mut text, &telling, &mut reply));
            let sent = reply.sent();
            (recalled, sent, String::from_utf8(out).unwrap())
        };
        let (first, again) = (told(&[b'1'; 32], false), told(&[b'2'; 32], false));
        let kept = told(&[b'3'; 32], false);
        assert_eq!([first.0, again.0, kept.0], [false, false, true]);
        assert_eq!((kept.1, &kept.2), (first.1, &first.2.replace(&"1".repeat(32), &"3".repeat(32))));
        assert!(!told(&[b'4'; 32], true).0, "HEAD is answered without a body");
    }
}
