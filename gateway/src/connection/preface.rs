//! HTTP/1 or HTTP/2? On a connection without TLS the first bytes tell (RFC 9113 §3.3): HTTP/2 begins with a text that is no request of HTTP/1.

use std::io;
use std::rc::Rc;

use probegate_policies::reason::Reason;

use super::{Facts, Next, Waits, h2, http1, last_words, wait};
use crate::wire::h1::io::{linger, read};
use crate::wire::h2::io::PREFACE;
use crate::wire::transport::Transport;
use crate::worker::Worker;

/// Serves a connection that may turn out to be either.
pub(super) async fn serve<T: Transport + 'static>(worker: &Rc<Worker>, transport: T, facts: Facts) {
    let waits = Waits::new(worker);
    if !wait(worker, &transport, &waits.client, true).await {
        return;
    }
    let mut workspace = worker.workspaces.take();
    waits.client.arm(worker.active().plan.timeouts.head);
    loop {
        let (seen, _) = workspace.head.filled().split_at(workspace.head.len().min(PREFACE.len()));
        if seen.len() == PREFACE.len() && seen == PREFACE {
            let early = workspace.head.filled().to_vec();
            worker.workspaces.put(workspace);
            drop(waits);
            return Box::pin(h2::serve(worker, transport, early, facts)).await;
        }
        if !PREFACE.starts_with(seen) {
            return http1(worker, transport, facts, waits, Some(workspace)).await;
        }
        match read(&transport, &mut workspace.head, &waits.client).await {
            Ok(n) if n > 0 => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut && !workspace.head.is_empty() => {
                let reason = Reason::HeadTimeout;
                if let Next::Linger =
                    last_words(worker, &transport, &facts, &waits, &mut workspace, reason, false).await
                {
                    workspace.furnish();
                    linger(&transport, &mut workspace.answer, &waits.client).await;
                }
                return worker.workspaces.put(workspace);
            }
            // It ended, and HTTP/1 knows what to say about that.
            _ if !workspace.head.is_empty() => {
                return http1(worker, transport, facts, waits, Some(workspace)).await;
            }
            _ => return worker.workspaces.put(workspace),
        }
    }
}
