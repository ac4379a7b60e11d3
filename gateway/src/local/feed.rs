//! Answers that go on: one text after the other, told to all who listen.
//!
//! Only the latest is kept. Whoever is too slow for one misses it and gets the next; whoever does not take one within its time is let go. So a listener
//! costs one text, however slow it is, and there is room for few.

use std::future::poll_fn;
use std::io::IoSlice;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;

use crate::state::unix_time;
use crate::wire::deadline::Deadline;
use crate::wire::h1::io::{Closed, poll_closed, write_all};
use crate::wire::text::{push_number, reason_phrase};
use crate::wire::transport::Transport;

/// How many may listen.
pub const MOST: usize = 16;

/// What is told, and to whom.
#[derive(Debug)]
pub struct Feed(watch::Sender<Told>);

#[derive(Clone, Debug, Default)]
struct Told {
    /// Grows when everybody is let go.
    turn: u64,
    text: Arc<[u8]>,
}

impl Default for Feed {
    fn default() -> Self {
        Self(watch::Sender::new(Told::default()))
    }
}

impl Feed {
    /// Somebody listens from now on; `None`: too many do.
    pub fn listen(&self) -> Option<Listener> {
        (self.0.receiver_count() < MOST).then(|| {
            let told = self.0.subscribe();
            let turn = told.borrow().turn;
            Listener { told, turn, until: None }
        })
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Tells everybody this text.
    pub fn tell(&self, text: Vec<u8>) {
        self.0.send_modify(|told| told.text = text.into());
    }

    /// Lets everybody go who listens now.
    pub fn end(&self) {
        self.0.send_modify(|told| told.turn += 1);
    }
}

/// Somebody who listens, until this is dropped.
#[derive(Debug)]
pub struct Listener {
    told: watch::Receiver<Told>,
    turn: u64,
    until: Option<u64>,
}

impl Listener {
    /// Lets this one go at the first text from then on, in seconds since the epoch; `None`: not before all are.
    pub fn until(&mut self, end: Option<u64>) {
        self.until = end;
    }

    /// Waits for the next text; `None`: it is over.
    async fn next(&mut self) -> Option<Arc<[u8]>> {
        self.told.changed().await.ok()?;
        let told = self.told.borrow_and_update();
        let goes_on = told.turn == self.turn && self.until.is_none_or(|end| unix_time() < end);
        goes_on.then(|| Arc::clone(&told.text))
    }
}

/// The head of such an answer. It has no length: the connection ends with it (RFC 9112 §6.3).
pub(super) fn head(status: u16, date: &[u8], fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(&mut out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    for (name, value) in [("Date", date), ("Connection", b"close")].iter().chain(fields) {
        for part in [b"\r\n", name.as_bytes(), b": ", *value] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n\r\n");
    out
}

/// Sends `first`, and then what is told, until it is over, the client has gone, or it takes longer than `patience` to take one of them.
pub(super) async fn follow(
    stream: &impl Transport,
    deadline: &Deadline,
    patience: Duration,
    first: &[u8],
    mut listener: Listener,
) {
    let send = async |text: &[u8]| {
        let mut parts = [IoSlice::new(text)];
        let sent = write_all(stream, &mut parts, deadline, patience);
        // As a whole: whoever takes a byte now and then is let go as well.
        matches!(tokio::time::timeout(patience, sent).await, Ok(Ok(())))
    };
    let mut going = send(first).await;
    while going {
        let text = tokio::select! {
            text = listener.next() => text,
            () = gone(stream) => None,
        };
        going = match text {
            Some(text) => send(&text).await,
            None => false,
        };
    }
    // What the kernel still has for somebody who does not take it is dropped with the connection.
    stream.reset_on_close();
}

/// Waits until the client has gone. One that sends something more is not watched: a write will tell.
async fn gone(stream: &impl Transport) {
    poll_fn(|cx| match poll_closed(stream, cx) {
        Poll::Ready(Closed::Yes) => Poll::Ready(()),
        Poll::Ready(Closed::Unknown) | Poll::Pending => Poll::Pending,
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::wire::deadline::Deadlines;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    #[test]
    fn listeners_hear_the_latest_and_there_is_room_for_few() {
        run(async {
            let feed = Feed::default();
            assert!(!feed.is_heard());
            let mut all: Vec<_> = (0..MOST).map(|_| feed.listen().unwrap()).collect();
            assert!(feed.listen().is_none(), "one more than there is room for");
            feed.tell(b"one".to_vec());
            feed.tell(b"two".to_vec());
            assert_eq!(all[0].next().await.as_deref(), Some(&b"two"[..]), "the first was missed");
            all.pop();
            assert!(feed.listen().is_some(), "somebody has gone");
        });
    }

    #[test]
    fn who_listens_when_it_ends_is_let_go_and_who_comes_later_is_not() {
        run(async {
            let feed = Feed::default();
            let mut early = feed.listen().unwrap();
            feed.end();
            let mut late = feed.listen().unwrap();
            feed.tell(b"on".to_vec());
            assert_eq!(early.next().await, None);
            assert_eq!(late.next().await.as_deref(), Some(&b"on"[..]));
        });
    }

    #[test]
    fn who_may_listen_for_a_while_is_let_go_then() {
        run(async {
            let feed = Feed::default();
            let (mut over, mut not_yet) = (feed.listen().unwrap(), feed.listen().unwrap());
            over.until(Some(unix_time()));
            not_yet.until(Some(unix_time() + 3600));
            feed.tell(b"on".to_vec());
            assert_eq!(over.next().await, None);
            assert_eq!(not_yet.next().await.as_deref(), Some(&b"on"[..]));
        });
    }

    #[test]
    fn who_takes_nothing_is_let_go() {
        run(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let (feed, deadlines) = (Feed::default(), Deadlines::new(Instant::now()));
            // More than any kernel keeps for somebody.
            let much = vec![b'x'; 64 << 20];
            let listening = feed.listen().unwrap();
            follow(&stream, &deadlines.slot(), Duration::from_millis(100), &much, listening).await;
            assert!(!feed.is_heard());
            drop(client);
        });
    }
}
