//! The life of a request that a file answers: name → file → conditions and ranges → head and bytes.

mod answer;
mod date;
pub mod pointed;

use std::rc::Rc;

use probegate_policies::access::Permit;
use probegate_policies::files::{self, name};
use probegate_policies::reason::Reason;

use self::answer::{Asked, send};
pub use self::pointed::{Pointer, points};
use super::deliver::{Progress, watched};
use super::exchange::{Exchanged, Tools};
use super::prepare::Case;
use crate::files::{Disk, Found, Segment, Variants};
use crate::plan::{Files, Missing};
use crate::wire::compose::Composer;
use crate::wire::head::Name;
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
    if case.received.demands_upgrade {
        // RFC 8441 §5: a success would say that a tunnel is open.
        return refused(Reason::MethodNotAllowed);
    }
    let method = case.received.head.method.of(case.received.bytes);
    let reads = matches!(method, b"GET" | b"HEAD");
    let disk = worker.files.disk(tools.deadline, case.active.plan.buffers.timeout);
    let found = if files.internal {
        Ok(Lookup::Missing)
    } else {
        watched(look_up(worker, case, files, reads, disk), reply, &Progress::over()).await
    };
    let found = match found {
        Ok(Lookup::Missing) if files.missing == Missing::App && !files.internal => return Filed::Ask(permit),
        Ok(found) => found,
        Err(reason) => return refused(reason),
    };
    if !body.discard() {
        reply.close();
    }
    let asked = Asked::of(case, disk);
    match found {
        Lookup::Missing => refused(Reason::FileMissing),
        _ if !reads => refused(Reason::MethodNotAllowed),
        Lookup::Slash => {
            redirect(case, bytes, tools);
            send(301, asked, bytes, tools, None, Vec::new(), reply).await
        }
        Lookup::Listing(page) => {
            // It is there for as long as its client takes.
            let Some(_held) = case.budget.hold(case.spools().buffers, page.len() as u64) else {
                return refused(Reason::BuffersFull);
            };
            let mut head = Composer::new(tools.response, bytes, 200);
            head.field(b"Content-Type", Name::ContentType, b"text/html; charset=utf-8");
            head.number(b"Content-Length", Name::ContentLength, page.len() as u64);
            head.field(b"Content-Security-Policy", Name::Other, b"default-src 'none'");
            head.field(b"X-Content-Type-Options", Name::Other, b"nosniff");
            head.finish();
            let page = Some(Segment::Text(page, 0)).filter(|_| !asked.to_head);
            send(200, asked, bytes, tools, page, Vec::new(), reply).await
        }
        Lookup::File(found) => answer::file(files, &found, None, asked, bytes, tools, reply).await,
    }
}

enum Lookup {
    File(Rc<Variants>),
    /// The page of a folder that shows what is in it.
    Listing(Vec<u8>),
    /// A folder was asked for without its slash.
    Slash,
    Missing,
}

async fn look_up(
    worker: &Worker,
    case: &Case<'_>,
    files: &Files,
    reads: bool,
    disk: Disk<'_>,
) -> Result<Lookup, Reason> {
    let (Some(path), Some(route)) =
        (&case.judgement.path, case.judgement.part.route().and_then(|index| case.service.routes.get(index)))
    else {
        return Ok(Lookup::Missing);
    };
    let Some(name) = name::of(path.path, &route.path, files.dotfiles) else { return Ok(Lookup::Missing) };
    let now = worker.deadlines.now();
    match worker.files.find(files, name, now, disk).await.map_err(failed)? {
        Found::File(found) => return Ok(Lookup::File(found)),
        Found::Folder if !name.folder => return Ok(Lookup::Slash),
        Found::Folder if files.listing => {
            let page = worker.files.list(files, name.relative, path.path, now, disk).await.map_err(failed)?;
            if let Some(page) = page {
                return Ok(Lookup::Listing(page));
            }
        }
        Found::Folder | Found::Missing => {}
    }
    let Some(fallback) = files.fallback.as_deref().filter(|_| reads && name::may_stand_in(path.path, name)) else {
        return Ok(Lookup::Missing);
    };
    let fallback = files::Name { relative: fallback.as_bytes(), folder: false };
    Ok(match worker.files.find(files, fallback, now, disk).await.map_err(failed)? {
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

/// A look-up that failed.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn failed(error: std::io::Error) -> Reason {
    tracing::warn!(%error, "a file can not be opened");
    Reason::FileFailed
}

fn refused(reason: Reason) -> Filed {
    Filed::Over(Exchanged { failed: Some(reason), ..Exchanged::default() })
}
