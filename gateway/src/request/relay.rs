//! The way of the app's answer: its interim responses, and the head that is the answer.

use std::time::{Duration, Instant};

use probegate_policies::reason::Reason;

use super::again::Asked;
use super::deliver::{self, Delivered, Progress, watched};
use super::exchange::{Errand, Exchanged};
use super::files::{self, Pointer};
use super::intercept::{self, Taken};
use crate::wire::head::{FieldView, Name};
use crate::wire::{ClientFraming, Framing, Responder, ResponseSource};

/// Interim responses that are passed on before the app is taken for broken.
const MAX_INTERIM: usize = 16;

/// How an answer ended.
#[derive(Debug, Default)]
pub struct Relayed {
    /// What the client got.
    pub delivered: Delivered,
    /// The connection stands at the next request.
    pub reusable: bool,
    /// The server switched protocols.
    pub switched: bool,
    /// Why the body of an answer that nobody gets did not become whole. The client gets something else, and sees nothing of it.
    pub broken: Option<Reason>,
    /// The app was given no reason to break it off: it did not wait for the client, neither for the request nor with the answer.
    pub unprovoked: bool,
}

/// Receives one answer and passes it on. An error means that nothing but interim responses was passed on.
pub(super) async fn run<S: ResponseSource, R: Responder>(
    asked: &Asked<'_>,
    source: &mut S,
    reply: &mut R,
    progress: &Progress,
    done: &mut Exchanged,
) -> Result<Relayed, Reason> {
    let errand = asked.errand;
    for _ in 0..MAX_INTERIM {
        watched(source.head(), reply, progress).await?;
        let (head, bytes) = source.view();
        done.answered = Some(Instant::now());
        done.status = Some(head.status);
        if head.status >= 200 {
            asked.answered(head.status);
        }
        if (head.status == 101 || head.status >= 200) && !reply.accepts(head, bytes) {
            return Err(Reason::UpstreamInvalid);
        }
        match head.status {
            101 => {
                let switched = switch(errand, source, reply).await?;
                asked.answered(101);
                return Ok(switched);
            }
            100 if !errand.expects => {}
            100..=199 => reply.interim(head, bytes).await.map_err(Reason::from)?,
            status if asked.declines(status) => return Err(Reason::UpstreamDeclined),
            _ => return pass(errand, source, reply, progress, done).await,
        }
    }
    Err(Reason::UpstreamInvalid)
}

/// `101 Switching Protocols`, to what the client asked for and to nothing else.
async fn switch<S: ResponseSource, R: Responder>(
    errand: &Errand<'_>,
    source: &mut S,
    reply: &mut R,
) -> Result<Relayed, Reason> {
    let (head, bytes) = source.view();
    let view = FieldView { bytes, fields: &head.fields };
    let agreed = {
        let mut protocols = view.of(Name::Upgrade);
        matches!((errand.upgrade, protocols.next(), protocols.next()),
            (Some(asked), Some(given), None) if asked.eq_ignore_ascii_case(given))
    };
    if !agreed {
        return Err(Reason::UpstreamInvalid);
    }
    reply.start(head, bytes, ClientFraming::None);
    let failed = reply.write(&[], None).await.err().map(Reason::from);
    let delivered = Delivered { failed, rest: None };
    Ok(Relayed { delivered, switched: failed.is_none(), ..Relayed::default() })
}

/// The final answer.
async fn pass<S: ResponseSource, R: Responder>(
    errand: &Errand<'_>,
    source: &mut S,
    reply: &mut R,
    progress: &Progress,
    done: &mut Exchanged,
) -> Result<Relayed, Reason> {
    if errand.refuse_redirects && (300..400).contains(&source.view().0.status) {
        return Err(Reason::ProbeRedirected);
    }
    if let Some(errors) = errand.errors
        && errors.intercepts(source.view().0.status)
        // Who asked for another protocol has to read the answer that it is not switched to.
        && errand.upgrade.is_none()
        && let (head, bytes) = source.view()
        && intercept::may_replace(head, bytes)
    {
        done.taken = Some(Box::new(Taken::of(head, bytes, errand.drops)));
        // In a box: most answers are passed on as they are.
        return Box::pin(skip(errand, source, reply, progress)).await;
    }
    if errand.may_point
        && let (head, bytes) = source.view()
        && files::points(head, bytes)
    {
        // In a box: most answers point nowhere.
        done.pointer = Pointer::of(head, bytes).map(Box::new);
        return Box::pin(skip(errand, source, reply, progress)).await;
    }
    let delivered = deliver::deliver(&errand.delivery, source, reply, progress).await?;
    let reusable = delivered.failed.is_none() && progress.whole.get() && source.is_reusable();
    Ok(Relayed { delivered, reusable, ..Relayed::default() })
}

/// Bytes of a body that nobody gets which are read, so that the connection may be used again.
const IGNORED: usize = 64 * 1024;

/// How long such a body may take. Beyond it, another connection is cheaper.
const UNTIL: Duration = Duration::from_secs(1);

/// An answer whose body nobody gets: what matters of its head is kept.
async fn skip<S: ResponseSource, R: Responder>(
    errand: &Errand<'_>,
    source: &mut S,
    reply: &mut R,
    progress: &Progress,
) -> Result<Relayed, Reason> {
    let framing = source.framing(errand.delivery.asks_head)?;
    source.begin(framing);
    if !progress.whole.get() {
        reply.close();
    }
    let (mut read, mut over, mut broken) = (0, framing == Framing::None, None);
    let end = tokio::time::Instant::now() + UNTIL;
    while !over && read < IGNORED && !matches!(framing, Framing::UntilClose) {
        let part = match tokio::time::timeout_at(end, watched(source.part(), reply, progress)).await {
            Ok(Ok(part)) => part,
            Ok(Err(Reason::ClientClosed)) => return Err(Reason::ClientClosed),
            // What is sent in its place is known, and nobody wants what breaks off: that it did so counts against the server all the same.
            Ok(Err(reason)) => {
                broken = Some(reason);
                break;
            }
            // Another connection is cheaper, and that is all.
            Err(_) => break,
        };
        read += part.data.len();
        over = part.end.is_some();
    }
    let reusable = over && progress.whole.get() && source.is_reusable();
    Ok(Relayed { reusable, broken, ..Relayed::default() })
}
