//! A server of DNS that says what it is told to say.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What it says about every name.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// These addresses, good for so many seconds.
    Addresses(Vec<Ipv4Addr>, u32),
    /// There is no such name.
    NoSuchName,
    /// It has failed.
    Failure,
    /// Nothing at all.
    Nothing,
}

/// The server. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Dns {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    says: Mutex<Says>,
    names: Mutex<Vec<String>>,
    questions: AtomicUsize,
    ended: AtomicUsize,
}

impl Dns {
    /// One that says this.
    pub(crate) fn start(says: Says) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared {
            says: Mutex::new(says),
            names: Mutex::default(),
            questions: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || theirs.serve(&socket));
        Self { address, shared, thread: Some(thread) }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it says this.
    pub(crate) fn say(&self, says: Says) {
        *self.shared.says.lock().unwrap() = says;
    }

    /// How many questions it has got.
    pub(crate) fn questions(&self) -> usize {
        self.shared.questions.load(Ordering::SeqCst)
    }

    /// The names it was asked for.
    pub(crate) fn names(&self) -> Vec<String> {
        self.shared.names.lock().unwrap().clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.ended.store(1, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn serve(&self, socket: &UdpSocket) {
        let mut bytes = [0; 1500];
        while self.ended.load(Ordering::SeqCst) == 0 {
            let Ok((count, from)) = socket.recv_from(&mut bytes) else { continue };
            self.questions.fetch_add(1, Ordering::SeqCst);
            let says = self.says.lock().unwrap().clone();
            if let Some(answer) = self.answer(&bytes[..count], &says) {
                socket.send_to(&answer, from).ok();
            }
        }
    }

    /// RFC 1035 §4.1: a header of 12 bytes, the question, and records that point at its name.
    fn answer(&self, query: &[u8], says: &Says) -> Option<Vec<u8>> {
        let mut at = 12;
        let mut labels = Vec::new();
        while query[at] != 0 {
            let length = usize::from(query[at]);
            labels.push(String::from_utf8_lossy(&query[at + 1..=at + length]).to_lowercase());
            at += length + 1;
        }
        self.names.lock().unwrap().push(labels.join("."));
        let question = &query[12..at + 5];
        let asks_for_ipv4 = question[question.len() - 4..question.len() - 2] == [0, 1];
        let (code, addresses, life) = match says {
            Says::Nothing => return None,
            Says::NoSuchName => (3, &[][..], 0),
            Says::Failure => (2, &[][..], 0),
            // There is no address of the other kind.
            Says::Addresses(_, life) if !asks_for_ipv4 => (0, &[][..], *life),
            Says::Addresses(addresses, life) => (0, &addresses[..], *life),
        };
        let mut out = query[..2].to_vec();
        out.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
        out.extend(question);
        for address in addresses {
            out.extend([0xc0, 12, 0, 1, 0, 1]);
            out.extend(life.to_be_bytes());
            out.extend([0, 4]);
            out.extend(address.octets());
        }
        Some(out)
    }
}
