//! The answer that a file gives: which of its codings, which part of it, and what is said about it.

use probegate_policies::encoding::{Coding, Verdict, negotiate};
use probegate_policies::files::{self, Decision, Tag, Window, types};
use probegate_policies::reason::Reason;

use super::pointed::Kept;
use super::{Filed, date, refused};
use crate::files::{Disk, FileSource, Open, Segment, Variants};
use crate::plan::Files;
use crate::request::deliver::{self, Delivery, Progress};
use crate::request::encode::Compressing;
use crate::request::exchange::{Exchanged, Tools};
use crate::request::prepare::Case;
use crate::request::throttle::Throttling;
use crate::wire::Responder;
use crate::wire::compose::Composer;
use crate::wire::head::{FieldView, Name};
use crate::wire::text::push_number;

/// What is asked of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The request's fields.
    pub(super) fields: FieldView<'a>,
    /// Only the head is wanted.
    pub(super) to_head: bool,
    /// Conditions and ranges count: the method is GET or HEAD.
    pub(super) reads: bool,
    /// The request's id: what separates parts of a file, since no file holds it.
    pub(super) id: &'a [u8; 32],
    /// How it waits for disks.
    pub(super) disk: Disk<'a>,
    /// How fast the client may get it.
    pub(super) throttling: Throttling<'a>,
    /// Whether the answer may be compressed on its way.
    pub(super) compressing: Option<Compressing<'a>>,
}

impl<'a> Asked<'a> {
    /// What this request asks.
    pub(super) fn of(case: &Case<'a>, disk: Disk<'a>) -> Self {
        let method = case.received.head.method.of(case.received.bytes);
        Self {
            fields: case.received.fields(),
            to_head: method == b"HEAD",
            reads: matches!(method, b"GET" | b"HEAD"),
            id: case.id,
            disk,
            throttling: case.throttling(),
            compressing: case.compressing(),
        }
    }
}

/// One of the codings of a file, and what is said about it whatever part is sent.
#[derive(Clone, Copy)]
struct About<'a> {
    files: &'a Files,
    found: &'a Variants,
    open: &'a Open,
    tag: &'a Tag,
    coding: Option<Coding>,
    /// Other clients get other bytes.
    varies: bool,
    /// This client would get other bytes of the whole file.
    weak: bool,
    /// What the app said, where it pointed here.
    kept: Option<&'a Kept>,
}

impl About<'_> {
    /// Appends the media type.
    fn kind(&self, out: &mut Vec<u8>) {
        if let Some(kind) = self.kept.and_then(|kept| kept.kind.as_deref()) {
            out.extend_from_slice(kind);
            return;
        }
        let kind = self.files.types.of(&self.found.name);
        out.extend_from_slice(kind.as_bytes());
        match self.kept.and_then(|kept| kept.charset.as_deref()) {
            Some(charset) if !kind.contains(';') => {
                out.extend_from_slice(b"; charset=");
                out.extend_from_slice(charset);
            }
            _ if types::lacks_charset(kind) => out.extend_from_slice(b"; charset=utf-8"),
            _ => {}
        }
    }

    /// What describes a body that follows.
    fn describe(&self, head: &mut Composer<'_>) {
        if let Some(coding) = self.coding {
            head.field(b"Content-Encoding", Name::Other, coding.as_str().as_bytes());
        }
        head.field(b"Accept-Ranges", Name::Other, b"bytes");
        if !self.says(b"x-content-type-options") {
            head.field(b"X-Content-Type-Options", Name::Other, b"nosniff");
        }
    }

    /// What tells one state of the file from another, and for how long it may be kept.
    fn identify(&self, head: &mut Composer<'_>) {
        head.with(b"Last-Modified", Name::Other, |out| date::write(self.open.meta.modified, out));
        head.with(b"ETag", Name::Other, |out| {
            out.extend_from_slice(if self.weak { b"W/" } else { b"" });
            out.extend_from_slice(self.tag.as_bytes());
        });
        if let Some(control) = files::caching::control(&self.files.cache, &self.found.name)
            && !self.says(b"cache-control")
        {
            head.field(b"Cache-Control", Name::Other, control.as_bytes());
        }
        if self.varies {
            head.field(b"Vary", Name::Other, b"Accept-Encoding");
        }
        self.keep(head);
    }

    /// What the app said that is not about its own body.
    fn keep(&self, head: &mut Composer<'_>) {
        for (name, known, value) in self.kept.map_or(&[][..], |kept| &kept.fields) {
            head.field(name, *known, value);
        }
    }

    /// The head of the whole file, or of one part of it.
    fn head(&self, head: &mut Composer<'_>, part: Option<Window>) {
        head.with(b"Content-Type", Name::ContentType, |out| self.kind(out));
        let length = part.map_or(self.open.meta.length, Window::length);
        head.number(b"Content-Length", Name::ContentLength, length);
        if part.is_some() {
            head.with(b"Content-Range", Name::Other, |out| content_range(out, part, self.open.meta.length));
        }
        self.describe(head);
        self.identify(head);
    }

    fn says(&self, name: &[u8]) -> bool {
        self.kept.is_some_and(|kept| kept.fields.iter().any(|(said, _, _)| said.eq_ignore_ascii_case(name)))
    }
}

/// Answers with a file that is there.
pub(super) async fn file<R: Responder>(
    files: &Files,
    found: &Variants,
    kept: Option<&Kept>,
    asked: Asked<'_>,
    bytes: &mut Vec<u8>,
    tools: &mut Tools<'_>,
    reply: &mut R,
) -> Filed {
    let fields = asked.fields;
    let coding = if found.coded.is_empty() {
        None
    } else {
        // Only routes with such files pay for the list.
        let offered: Vec<Coding> = found.coded.iter().map(|(coding, _)| *coding).collect();
        negotiate(&values(fields, b"accept-encoding"), &offered)
    };
    let open = found.coded.iter().find(|(known, _)| Some(*known) == coding).map_or(&found.plain, |(_, open)| open);
    let tag = Tag::of(&open.meta, coding.map_or("", Coding::as_str));
    let varies = !found.coded.is_empty();
    let mut about = About { files, found, open, tag: &tag, coding, varies, weak: false, kept };
    let decision =
        if asked.reads { files::judge(&fields, &open.meta, &tag, !asked.to_head, date::read) } else { Decision::Whole };
    if decision != Decision::Whole
        && let Some(compressing) = asked.compressing
    {
        // What is said of a part, or of nothing, has to be what would be said of the whole, which may be compressed on its way.
        let mut head = Composer::new(tools.response, bytes, 200);
        about.head(&mut head, None);
        head.finish();
        let verdict = compressing.verdict(tools.response, bytes, Some(open.meta.length));
        about.varies |= matches!(verdict, Verdict::Encode(_) | Verdict::Declined);
        about.weak = decision == Decision::NotModified && matches!(verdict, Verdict::Encode(_));
    }
    let (status, window) = match decision {
        Decision::Whole => (200, Window { start: 0, end: open.meta.length }),
        Decision::Part(window) => (206, window),
        Decision::Parts(windows) => return parts(&about, &windows, asked, bytes, tools, reply).await,
        Decision::PreconditionFailed => return refused(Reason::PreconditionFailed),
        Decision::NotModified => {
            let mut head = Composer::new(tools.response, bytes, 304);
            about.identify(&mut head);
            head.finish();
            return send(304, asked, bytes, tools, None, Vec::new(), reply).await;
        }
        Decision::Unsatisfiable => {
            let mut head = Composer::new(tools.response, bytes, 416);
            head.with(b"Content-Range", Name::Other, |out| content_range(out, None, open.meta.length));
            head.number(b"Content-Length", Name::ContentLength, 0);
            about.keep(&mut head);
            head.finish();
            return send(416, asked, bytes, tools, None, Vec::new(), reply).await;
        }
    };
    let mut head = Composer::new(tools.response, bytes, status);
    about.head(&mut head, Some(window).filter(|_| status == 206));
    head.finish();
    let body = Some(segment(open, window)).filter(|_| !asked.to_head);
    send(status, asked, bytes, tools, body, Vec::new(), reply).await
}

/// Answers with several parts of a file (RFC 9110 §14.6).
async fn parts<R: Responder>(
    about: &About<'_>,
    windows: &[Window],
    asked: Asked<'_>,
    bytes: &mut Vec<u8>,
    tools: &mut Tools<'_>,
    reply: &mut R,
) -> Filed {
    let mut body = Vec::with_capacity(windows.len() * 2 + 1);
    let mut length = 0;
    for window in windows {
        let mut text = [&b"\r\n--"[..], asked.id, b"\r\nContent-Type: "].concat();
        about.kind(&mut text);
        text.extend_from_slice(b"\r\nContent-Range: ");
        content_range(&mut text, Some(*window), about.open.meta.length);
        text.extend_from_slice(b"\r\n\r\n");
        length += text.len() as u64 + window.length();
        body.push(Segment::Text(text, 0));
        body.push(segment(about.open, *window));
    }
    let end = [&b"\r\n--"[..], asked.id, b"--\r\n"].concat();
    length += end.len() as u64;
    body.push(Segment::Text(end, 0));
    let mut head = Composer::new(tools.response, bytes, 206);
    head.with(b"Content-Type", Name::ContentType, |out| {
        out.extend_from_slice(b"multipart/byteranges; boundary=");
        out.extend_from_slice(asked.id);
    });
    head.number(b"Content-Length", Name::ContentLength, length);
    about.describe(&mut head);
    about.identify(&mut head);
    head.finish();
    let mut body = body.into_iter();
    let first = body.next();
    send(206, asked, bytes, tools, first, body.collect(), reply).await
}

fn segment(open: &Open, window: Window) -> Segment {
    Segment::File(open.clone(), window)
}

/// `bytes 0-9/100`, or `bytes */100`.
fn content_range(out: &mut Vec<u8>, window: Option<Window>, length: u64) {
    out.extend_from_slice(b"bytes ");
    match window {
        Some(window) => {
            push_number(out, window.start);
            out.push(b'-');
            push_number(out, window.end.saturating_sub(1));
        }
        None => out.push(b'*'),
    }
    out.push(b'/');
    push_number(out, length);
}

/// Sends the head that was composed, and what belongs behind it.
pub(super) async fn send<R: Responder>(
    status: u16,
    asked: Asked<'_>,
    bytes: &[u8],
    tools: &mut Tools<'_>,
    first: Option<Segment>,
    more: Vec<Segment>,
    reply: &mut R,
) -> Filed {
    let mut source = FileSource::new(asked.disk, tools.response, bytes, tools.buffer, first, more);
    let delivery = Delivery {
        to_head: asked.to_head,
        compressing: asked.compressing,
        throttling: Some(asked.throttling),
        ..Delivery::default()
    };
    match deliver::deliver(&delivery, &mut source, reply, &Progress::over()).await {
        Ok(delivered) => {
            Filed::Over(Exchanged { filed: Some(status), failed: delivered.failed, ..Exchanged::default() })
        }
        Err(reason) => refused(reason),
    }
}

fn values<'a>(fields: FieldView<'a>, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> + Clone {
    let named = fields.fields.iter().filter(move |field| field.name.of(fields.bytes).eq_ignore_ascii_case(name));
    named.map(move |field| field.value.of(fields.bytes))
}
