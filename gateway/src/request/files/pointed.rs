//! Files that the app points to: its answer carries `X-Accel-Redirect` or `X-Sendfile`, and a file is sent in the place of its body.
//!
//! Invariants: the client never sees such a field; what is sent lies below a root that a route of the same service names for this.

use probegate_policies::files::{Name as FileName, name, pointer};
use probegate_policies::reason::Reason;

use super::answer::{self, Asked};
use super::{Filed, failed, refused};
use crate::files::Found;
use crate::plan::{Action, Files, Service};
use crate::request::deliver::{Progress, watched};
use crate::request::exchange::{Exchanged, Tools};
use crate::request::prepare::Case;
use crate::wire::Responder;
use crate::wire::head::{FieldView, Name, ResponseHead, elements};
use crate::worker::Worker;

/// What an app's answer says that points to a file.
#[derive(Debug)]
pub struct Pointer {
    to: To,
    kept: Kept,
}

#[derive(Debug)]
enum To {
    /// A URI of this service.
    Uri(Vec<u8>),
    /// A path of the file system.
    Path(Vec<u8>),
}

/// What the app says about a file that is sent in its place.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Its `Content-Type`.
    pub(super) kind: Option<Vec<u8>>,
    /// Its `X-Accel-Charset`.
    pub(super) charset: Option<Vec<u8>>,
    /// The rest: names, which they are, and values.
    pub(super) fields: Vec<(Vec<u8>, Name, Vec<u8>)>,
}

/// Fields that describe the body that the app did not send, or its connection. All others are about the answer, and stay.
const DROPPED: [&str; 15] = [
    "accept-ranges",
    "content-encoding",
    "content-length",
    "content-md5",
    "content-range",
    "digest",
    "content-digest",
    "repr-digest",
    "etag",
    "keep-alive",
    "last-modified",
    "location",
    "refresh",
    "signature",
    "signature-input",
];

/// Whether an answer points to a file.
pub fn points(head: &ResponseHead, bytes: &[u8]) -> bool {
    // Most answers have no such field: their kind of name was found out while the head was read.
    head.fields.of(Name::Accel).any(|field| is_pointer(field.name.of(bytes)))
}

fn is_pointer(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"x-accel-redirect") || name.eq_ignore_ascii_case(b"x-sendfile")
}

impl Pointer {
    /// What this answer says.
    pub fn of(head: &ResponseHead, bytes: &[u8]) -> Option<Self> {
        let (mut to, mut kept) = (None, Kept::default());
        let view = FieldView { bytes, fields: &head.fields };
        let nominated =
            |name: &[u8]| view.of(Name::Connection).flat_map(elements).any(|option| option.eq_ignore_ascii_case(name));
        for field in &head.fields {
            let (name, value) = (field.name.of(bytes), field.value.of(bytes));
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            match field.known {
                Name::Accel if is("x-accel-redirect") => to = Some(To::Uri(value.to_vec())),
                Name::Accel if is("x-sendfile") => to = to.or_else(|| Some(To::Path(value.to_vec()))),
                Name::Accel if is("x-accel-charset") => {
                    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-:.".contains(byte);
                    kept.charset = Some(value.to_vec()).filter(|text| !text.is_empty() && text.iter().all(token));
                }
                Name::ContentType => kept.kind = Some(value.to_vec()).filter(|kind| !kind.is_empty()),
                // What it asks of the gateway besides: at most this many bytes a second.
                Name::Accel if is("x-accel-limit-rate") => {
                    kept.fields.push((name.to_vec(), field.known, value.to_vec()));
                }
                Name::Accel
                | Name::Connection
                | Name::ContentLength
                | Name::Date
                | Name::HopByHop
                | Name::Trailer
                | Name::TransferEncoding
                | Name::Upgrade => {}
                _ if DROPPED.iter().any(|dropped| is(dropped)) => {}
                // RFC 9110 §7.6.1: what the app's `Connection` names is for this hop.
                _ if nominated(name) => {}
                known => kept.fields.push((name.to_vec(), known, value.to_vec())),
            }
        }
        Some(Self { to: to?, kept })
    }
}

/// Sends the file that the app points to. `bytes` is memory for the head.
pub async fn serve<R: Responder>(
    pointer: &Pointer,
    worker: &Worker,
    case: &Case<'_>,
    bytes: &mut Vec<u8>,
    tools: &mut Tools<'_>,
    reply: &mut R,
) -> Exchanged {
    if case.received.demands_upgrade {
        // RFC 8441 §5: a success would say that a tunnel is open.
        return over(refused(Reason::MethodNotAllowed));
    }
    let disk = worker.files.disk(tools.deadline, case.active.plan.buffers.timeout);
    let asked = Asked::of(case, disk);
    let mut path = Vec::new();
    let Some((files, name)) = locate(&pointer.to, case.service, &mut path) else {
        // What is written there is the app's, and no client's: it may be logged.
        tracing::warn!(service = %case.service.name, to = ?pointer.to, "the app points to a file that it may not have sent");
        return over(refused(Reason::FileRefused));
    };
    let find = async { worker.files.find(files, name, worker.deadlines.now(), disk).await.map_err(failed) };
    over(match watched(find, reply, &Progress::over()).await {
        Ok(Found::File(found)) => answer::file(files, &found, Some(&pointer.kept), asked, bytes, tools, reply).await,
        Ok(Found::Folder | Found::Missing) => refused(Reason::FileMissing),
        Err(reason) => refused(reason),
    })
}

fn over(filed: Filed) -> Exchanged {
    match filed {
        Filed::Over(exchanged) => exchanged,
        Filed::Ask(_) => Exchanged { failed: Some(Reason::FileMissing), ..Exchanged::default() },
    }
}

/// The root and the name below it that the app means. `None`: no route of the service is for that.
fn locate<'a>(to: &'a To, service: &'a Service, path: &'a mut Vec<u8>) -> Option<(&'a Files, FileName<'a>)> {
    match to {
        To::Uri(uri) => {
            let path = pointer::target(uri, path)?;
            let route = service.routes.get(service.route_table.find(path)?)?;
            let Action::Files(files) = &route.action else { return None };
            // Whether the app may show dotfiles is the app's business; below which root it may is not.
            let name = name::of(path, &route.path, true).filter(|_| files.internal)?;
            Some((files, name))
        }
        To::Path(value) => service.routes.iter().find_map(|route| match &route.action {
            Action::Files(files) => {
                let relative = pointer::below(value, files.sendfile.as_ref()?.as_os_str().as_encoded_bytes())?;
                Some((&**files, FileName { relative, folder: false }))
            }
            Action::Forward => None,
        }),
    }
}
