//! The life of a request that a file answers: name → file → conditions and ranges → head and bytes.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use probegate_policies::access::Permit;
use probegate_policies::files::{self, Accepted, Decision, Tag, Window, date, name, types};
use probegate_policies::reason::Reason;

use super::deliver::{self, Delivery, Progress};
use super::encode::Compressing;
use super::exchange::{Exchanged, Tools};
use super::prepare::Case;
use super::throttle::Throttling;
use crate::files::{FileSource, Found, Open, Segment, Variants};
use crate::plan::{Files, Missing};
use crate::wire::compose::Composer;
use crate::wire::head::Name;
use crate::wire::text::push_number;
use crate::wire::{RequestBody, Responder};
use crate::worker::Worker;

/// What became of it.
#[derive(Debug)]
pub enum Filed {
    /// It was answered, or has a reason why it was not.
    Over(Exchanged),
    /// There is no file, and the app is to be asked.
    Ask(Permit),
}

/// Answers with a file. `bytes` is memory for the head.
#[expect(
    clippy::too_many_arguments,
    reason = "one step of the straight line of a request; each argument is one thing it reads"
)]
pub async fn serve<B: RequestBody, R: Responder>(
    permit: Permit,
    worker: &Worker,
    case: &Case<'_>,
    files: &Files,
    bytes: &mut Vec<u8>,
    tools: &mut Tools<'_>,
    body: &mut B,
    reply: &mut R,
) -> Filed {
    let failed = |reason| Filed::Over(Exchanged { failed: Some(reason), ..Exchanged::default() });
    let method = case.received.head.method.of(case.received.bytes);
    let reads = matches!(method, b"GET" | b"HEAD");
    let found = if files.internal { Ok(Lookup::Missing) } else { look_up(worker, case, files, reads).await };
    let found = match found {
        Ok(Lookup::Missing) if files.missing == Missing::App && !files.internal => return Filed::Ask(permit),
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "a file can not be opened");
            return failed(Reason::FileFailed);
        }
    };
    if !body.discard() {
        reply.close();
    }
    let asked = Asked {
        to_head: method == b"HEAD",
        compressing: case.compressing(),
        throttling: case.throttling(),
        now: worker.state.now(case.received.started).unix,
    };
    match found {
        Lookup::Missing => failed(Reason::FileMissing),
        _ if !reads => failed(Reason::MethodNotAllowed),
        Lookup::Slash => {
            redirect(case, bytes, tools);
            send(301, asked, bytes, tools, None, Vec::new(), reply).await
        }
        Lookup::File(found) => file(case, files, &found, asked, bytes, tools, reply).await,
    }
}

/// What a request needs to know about its own head.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    to_head: bool,
    compressing: Option<Compressing<'a>>,
    throttling: Throttling<'a>,
    /// Seconds since the Unix epoch.
    now: u64,
}

enum Lookup {
    File(Rc<Variants>),
    /// A folder was asked for without its slash.
    Slash,
    Missing,
}

async fn look_up(worker: &Worker, case: &Case<'_>, files: &Files, reads: bool) -> io::Result<Lookup> {
    let (Some(path), Some(route)) =
        (&case.judgement.path, case.judgement.part.route().and_then(|index| case.service.routes.get(index)))
    else {
        return Ok(Lookup::Missing);
    };
    let Some(name) = name::of(path.path, &route.path, files.dotfiles) else { return Ok(Lookup::Missing) };
    let now = worker.deadlines.now();
    match worker.files.find(files, name, now).await? {
        Found::File(found) => return Ok(Lookup::File(found)),
        Found::Folder if !name.folder => return Ok(Lookup::Slash),
        Found::Folder | Found::Missing => {}
    }
    let Some(fallback) = files.fallback.as_deref().filter(|_| reads && name::may_stand_in(path.path, name)) else {
        return Ok(Lookup::Missing);
    };
    let fallback = files::Name { relative: fallback.as_bytes(), folder: false };
    Ok(match worker.files.find(files, fallback, now).await? {
        Found::File(found) => Lookup::File(found),
        Found::Folder | Found::Missing => Lookup::Missing,
    })
}

/// `301` to the same path with a slash behind it. The place is a path of this host: nothing in it can make it another one, because a path that begins
/// with two slashes is no file's.
fn redirect(case: &Case<'_>, bytes: &mut Vec<u8>, tools: &mut Tools<'_>) {
    let path = case.judgement.path.as_ref().and_then(|path| path.rewritten).unwrap_or(case.asked.path);
    let mut head = Composer::new(tools.response, bytes, 301);
    head.with(b"Location", Name::Other, |out| {
        for part in [path, b"/", case.asked.query] {
            out.extend_from_slice(part);
        }
    });
    head.number(b"Content-Length", Name::ContentLength, 0);
    head.finish();
}

/// Answers with a file that is there.
async fn file<R: Responder>(
    case: &Case<'_>,
    files: &Files,
    found: &Variants,
    asked: Asked<'_>,
    bytes: &mut Vec<u8>,
    tools: &mut Tools<'_>,
    reply: &mut R,
) -> Filed {
    let fields = case.received.fields();
    let coding = if found.coded.is_empty() {
        None
    } else {
        Accepted::of(values(&fields, b"accept-encoding")).choose(found.coded.iter().map(|(coding, _)| *coding))
    };
    let open = found.coded.iter().find(|(known, _)| Some(*known) == coding).map_or(&found.plain, |(_, open)| open);
    let tag = Tag::of(&open.meta, coding.map_or("", files::Coding::name));
    let decision = files::judge(&fields, &open.meta, &tag, !asked.to_head, asked.now);
    let (status, window) = match decision {
        Decision::Whole | Decision::Parts(_) => (200, Some(Window { start: 0, end: open.meta.length })),
        Decision::Part(window) => (206, Some(window)),
        Decision::NotModified => (304, None),
        Decision::PreconditionFailed => return refused(Reason::PreconditionFailed),
        Decision::Unsatisfiable => (416, None),
    };
    let mut head = Composer::new(tools.response, bytes, status);
    if let Some(window) = window {
        let kind = files.types.of(&found.name);
        head.with(b"Content-Type", Name::ContentType, |out| {
            out.extend_from_slice(kind.as_bytes());
            if types::lacks_charset(kind) {
                out.extend_from_slice(b"; charset=utf-8");
            }
        });
        head.number(b"Content-Length", Name::ContentLength, window.length());
        if let Some(coding) = coding {
            head.field(b"Content-Encoding", Name::Other, coding.name().as_bytes());
        }
        head.field(b"Accept-Ranges", Name::Other, b"bytes");
        head.field(b"X-Content-Type-Options", Name::Other, b"nosniff");
    }
    if status == 206
        && let Some(window) = window
    {
        head.with(b"Content-Range", Name::Other, |out| content_range(out, Some(window), open.meta.length));
    }
    if status == 416 {
        head.with(b"Content-Range", Name::Other, |out| content_range(out, None, open.meta.length));
        head.number(b"Content-Length", Name::ContentLength, 0);
    } else {
        head.with(b"Last-Modified", Name::Other, |out| date::write(open.meta.modified, out));
        head.field(b"ETag", Name::Other, tag.as_bytes());
        if let Some(control) = files::caching::control(&files.cache, &found.name) {
            head.field(b"Cache-Control", Name::Other, control.as_bytes());
        }
        if !found.coded.is_empty() {
            head.field(b"Vary", Name::Other, b"Accept-Encoding");
        }
    }
    head.finish();
    let segment = window.filter(|_| !asked.to_head).map(|window| segment(open, window));
    send(status, asked, bytes, tools, segment, Vec::new(), reply).await
}

fn segment(open: &Open, window: Window) -> Segment {
    Segment::File(Arc::clone(&open.file), window)
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
async fn send<R: Responder>(
    status: u16,
    asked: Asked<'_>,
    bytes: &[u8],
    tools: &mut Tools<'_>,
    first: Option<Segment>,
    more: Vec<Segment>,
    reply: &mut R,
) -> Filed {
    let mut source = FileSource::new(tools.response, bytes, tools.buffer, first, more);
    let delivery = Delivery {
        to_head: asked.to_head,
        compressing: asked.compressing,
        throttling: Some(asked.throttling),
        ..Delivery::default()
    };
    let failed = match deliver::deliver(&delivery, &mut source, reply, &Progress::over()).await {
        Ok(delivered) => delivered.failed,
        Err(reason) => Some(reason),
    };
    Filed::Over(Exchanged { filed: Some(status), failed, ..Exchanged::default() })
}

fn refused(reason: Reason) -> Filed {
    Filed::Over(Exchanged { failed: Some(reason), ..Exchanged::default() })
}

fn values<'a>(fields: &crate::wire::head::FieldView<'a>, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    let bytes = fields.bytes;
    let named = fields.fields.iter().filter(move |field| field.name.of(bytes).eq_ignore_ascii_case(name));
    named.map(move |field| field.value.of(bytes))
}
