//! The thread of a worker: its event loop, its listeners, its ticks.

#![expect(
    clippy::redundant_allocation,
    reason = "connections count their plan without touching the counter that all threads share"
)]

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};

use super::{Worker, greet};
use crate::state::{Active, State};
use crate::wire::deadline::TICK;

/// What a worker can be told.
#[derive(Debug)]
pub enum Command {
    /// Accept on this socket, which belongs to the listener configured as this address.
    Listen(SocketAddr, TcpListener),
    /// Accept no more on the listener.
    Close(SocketAddr),
    /// Accept no more at all.
    CloseAll,
}

/// The way to a running worker.
#[derive(Clone, Debug)]
pub struct Remote {
    commands: UnboundedSender<Command>,
}

impl Remote {
    /// Tells the worker something. A worker that is gone needs to be told nothing.
    pub fn tell(&self, command: Command) {
        self.commands.send(command).ok();
    }
}

/// Starts the thread of worker `id`.
///
/// # Errors
/// The system gives no thread or no event loop.
pub fn start(id: usize, state: Arc<State>) -> io::Result<(Remote, JoinHandle<()>)> {
    let (commands, inbox) = unbounded_channel();
    // Its helpers wait for disks and resolvers. A few: containers bound their threads, and a disk is not faster for more.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()?;
    let thread = std::thread::Builder::new().name(format!("worker-{id}")).spawn(move || {
        LocalSet::new().block_on(&runtime, run(Worker::new(id, state), inbox));
        // Not waiting for helpers that a disk does not answer.
        runtime.shutdown_background();
    })?;
    Ok((Remote { commands }, thread))
}

async fn run(worker: Rc<Worker>, mut inbox: UnboundedReceiver<Command>) {
    spawn_local(tick(Rc::clone(&worker)));
    worker.keep_link();
    let mut listeners: Vec<(SocketAddr, watch::Sender<bool>)> = Vec::new();
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Listen(address, socket) => match tokio::net::TcpListener::from_std(socket) {
                Ok(socket) => {
                    let (close, closed) = watch::channel(false);
                    listeners.push((address, close));
                    spawn_local(accept(Rc::clone(&worker), address, socket, closed));
                }
                Err(error) => tracing::error!(%address, %error, "cannot accept"),
            },
            Command::Close(address) => listeners.retain(|(listening, close)| {
                let keep = *listening != address;
                if !keep {
                    close.send(true).ok();
                }
                keep
            }),
            Command::CloseAll => {
                for (_, close) in listeners.drain(..) {
                    close.send(true).ok();
                }
            }
        }
    }
}

async fn tick(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(TICK).await;
        worker.tick(Instant::now());
    }
}

/// Accepts until the listener is closed; then takes what had already arrived in the kernel's queue, because closing would reset it.
async fn accept(
    worker: Rc<Worker>,
    configured: SocketAddr,
    listener: tokio::net::TcpListener,
    mut closed: watch::Receiver<bool>,
) {
    let _accepting = Accepting::new(&worker);
    let gate = closed.clone();
    // The last plan that had this listener: what still waits in the queue when a reload takes it away is served as it says.
    let mut known = worker.active();
    let Ok(local) = listener.local_addr() else { return };
    let configured = Rc::new(configured);
    loop {
        let bound = worker.active().plan.bounds.connections;
        let open = worker.state.metrics.connections.load(Ordering::Relaxed);
        if usize::try_from(open).is_ok_and(|open| open >= bound) && !*closed.borrow() {
            // The rest waits in the kernel's queue, where it costs little.
            tokio::time::sleep(TICK).await;
            continue;
        }
        let accepted = poll_fn(|cx| match listener.poll_accept(cx) {
            Poll::Pending if *gate.borrow() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
        });
        let accepted = tokio::select! {
            biased;
            accepted = accepted => accepted,
            _ = closed.changed() => continue,
        };
        match accepted {
            None => return,
            Some(Ok((stream, peer))) => {
                let active = worker.active();
                if greet::configured(&active, *configured).is_some() {
                    known = active;
                }
                begin(&worker, stream, peer, local, &configured, &known);
            }
            Some(Err(error)) => {
                worker.state.metrics.accept_failures.fetch_add(1, Ordering::Relaxed);
                // A client that left while it waited is nothing; no descriptors left is, and trying at once would spin.
                if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)) {
                    tracing::warn!(%error, "cannot accept a connection");
                    worker.files.clear();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

fn begin(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    listener: &Rc<SocketAddr>,
    active: &Rc<Arc<Active>>,
) {
    let open = Open::new(worker);
    let Some(known) = greet::configured(active, **listener) else { return };
    let is_plain = greet::is_plain(known);
    let (listener, active) = (Rc::clone(listener), Rc::clone(active));
    // The most common kind has a task of its own: an idle connection of plain HTTP/1 must not hold the room that others need.
    if is_plain {
        spawn_local(async move { greet::plain(&open.worker, stream, peer, local, listener, active).await });
    } else {
        spawn_local(async move { greet::greet(&open.worker, stream, peer, local, listener, active).await });
    }
}

/// Counts a listening socket while it is accepted on: the end of the process waits for that.
struct Accepting {
    worker: Rc<Worker>,
}

impl Accepting {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.state.metrics.accepting.fetch_add(1, Ordering::Relaxed);
        Self { worker: Rc::clone(worker) }
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        // After the connections that were accepted have been counted.
        self.worker.state.metrics.accepting.fetch_sub(1, Ordering::Release);
    }
}

/// Counts a connection as open while it exists.
struct Open {
    worker: Rc<Worker>,
}

impl Open {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.state.metrics.connections.fetch_add(1, Ordering::Relaxed);
        worker.state.metrics.accepted.fetch_add(1, Ordering::Relaxed);
        worker.open.set(worker.open.get() + 1);
        Self { worker: Rc::clone(worker) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.worker.state.is_draining()
            && let (Ok(mut lines), Ok(mut refusals)) =
                (self.worker.lines.try_borrow_mut(), self.worker.refusals.try_borrow_mut())
        {
            // The process ends when the last connection has; its line must not stay behind.
            lines.flush();
            refusals.flush();
        }
        self.worker.state.metrics.connections.fetch_sub(1, Ordering::Relaxed);
        self.worker.open.set(self.worker.open.get().saturating_sub(1));
    }
}
