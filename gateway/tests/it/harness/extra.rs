//! Other programs beside the gateway: its own other commands, `curl`, and whatever an example runs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Gateway, PATIENCE, Response, eventually, get_admin};

/// A token of 128 bits and more, for configurations that take theirs from the environment.
pub(crate) const TOKEN: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

/// Another one: what the gateway shows to the app.
pub(crate) const APP_TOKEN: &str = "feedbeef01feedbeef02feedbeef03feedbeef04feedbeef";

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// An address of loopback that nothing listens on, with a port that stays the same over restarts. Each has an IP of its own, so that
/// no other test, nor any outgoing connection, can take the port meanwhile.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let ip = [127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed)];
    TcpListener::bind((std::net::Ipv4Addr::from(ip), 0)).unwrap().local_addr().unwrap()
}

/// A port that nobody has on any address of this machine, for listeners of every interface. It lies below those that the kernel chooses, so that
/// neither another test nor an outgoing connection can take it meanwhile.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 20_000).unwrap();
    eventually("a port that is free", || {
        let port = 10_000 + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).ok().map(|_| port)
    })
}

/// Whether a process listens on the Unix socket at this path. A connection would be taken for what it waits for; and one that has bound its socket
/// may not listen yet.
pub(crate) fn is_waited_on(path: &Path) -> bool {
    // Of its columns, the fourth are flags, in which `__SO_ACCEPTCON` says so.
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    let path = path.display().to_string();
    table.lines().any(|line| line.split_ascii_whitespace().nth(3) == Some("00010000") && line.ends_with(&path))
}

/// A configuration that listens on `listeners` instead of a port that the kernel chooses.
pub(crate) fn listening_on(config: &impl ToString, listeners: &[impl Display]) -> String {
    let lines: Vec<_> = listeners.iter().map(|address| format!("  - address: \"{address}\"\n")).collect();
    let text = config.to_string();
    let changed = text.replacen("  - address: \"127.0.0.1:0\"\n", &lines.concat(), 1);
    assert_ne!(text, changed, "there is no such listener");
    changed
}

/// Whether something accepts connections there.
pub(crate) fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// A command of the program, run in the repository.
pub(crate) fn probegate(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_probegate"));
    command
        .args(arguments)
        .current_dir(root())
        .env("PROBE_TOKEN", TOKEN)
        .env("APP_PROBE_TOKEN", APP_TOKEN)
        .env("REDIS_PASSWORD", TOKEN);
    command
}

/// How a program ended, and what it wrote.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; `None`: a signal ended it.
    pub(crate) code: Option<i32>,
    /// Its standard output.
    pub(crate) out: String,
    /// Its standard error.
    pub(crate) err: String,
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    Program::start(command).wait()
}

/// A program that runs. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    out: Pipe,
    err: Pipe,
}

/// What comes out of a pipe.
#[derive(Debug)]
struct Pipe {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Pipe {
    fn read(mut from: impl Read + Send + 'static) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let theirs = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut part) {
                theirs.lock().unwrap().extend_from_slice(&part[..count]);
            }
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }
}

impl Program {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (out, err) = (Pipe::read(child.stdout.take().unwrap()), Pipe::read(child.stderr.take().unwrap()));
        Self { child, out, err }
    }

    /// Everything it has written so far, standard output first.
    pub(crate) fn text(&self) -> String {
        self.out.text() + &self.err.text()
    }

    /// Waits until it has written something that `find` finds.
    pub(crate) fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        eventually(what, || find(&self.text()))
    }

    /// Sends it a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Asks it to end with a signal, and waits a while. For programs with children, which a kill would leave behind.
    pub(crate) fn end(mut self, signal: &str) {
        self.signal(signal);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(self) -> Ended {
        self.wait_longer(1)
    }

    /// Waits for its end, so many times as long as for anything else: it has a lot to compute.
    pub(crate) fn wait_longer(mut self, times: u32) -> Ended {
        let deadline = Instant::now() + PATIENCE * (times - 1);
        while Instant::now() < deadline && self.child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(3));
        }
        let status = eventually("the program ends", || self.child.try_wait().unwrap());
        // Something that it has left running may hold the pipes; what the program itself wrote is in them already.
        eventually("everything was read", || {
            (self.out.reader.is_finished() && self.err.reader.is_finished()).then_some(())
        });
        Ended { code: status.code(), out: self.out.text(), err: self.err.text() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            println!("--- what process {} wrote\n{}", self.child.id(), self.text());
        }
    }
}

/// Asks with the real `curl`. The answer's body is empty when the arguments make it a HEAD request.
pub(crate) fn curl(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Response {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--noproxy", "*", "--max-time", "40"]).args(arguments);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    let mut rest = &output.stdout[..];
    loop {
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let (head, body) = rest.split_at(end);
        // HTTP/2 has no reason phrase.
        let head = match head.strip_prefix(b"HTTP/2 ") {
            Some(rest) => [b"HTTP/1.1 ", rest].concat(),
            None => head.to_vec(),
        };
        let mut response = Response::of(&head);
        if !(100..200).contains(&response.status) {
            response.body = body.to_vec();
            return response;
        }
        rest = body;
    }
}

/// All series that a gateway shows, by name with labels. The text has to follow the format.
pub(crate) fn metrics(gateway: &Gateway) -> BTreeMap<String, f64> {
    let response = get_admin(gateway.admin(), "/metrics");
    assert_eq!(response.status, 200);
    let mut series = BTreeMap::new();
    for line in response.text().lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no series: {line:?}"));
        assert!(series.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line:?}");
    }
    series
}

/// Waits until a series has this value: a request is counted a moment after its answer.
pub(crate) fn wait_for_metric(gateway: &Gateway, name: &str, value: f64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = metric(gateway, name);
        if (found - value).abs() < 0.1 {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is {found} and not {value}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Waits until the gateway says that it is ready, a moment after it has said where it listens.
pub(crate) fn wait_ready(gateway: &Gateway) {
    eventually("it is ready", || (get_admin(gateway.admin(), "/readyz").status == 200).then_some(()));
}

/// One series that a gateway shows; one that is not there counts as 0.
pub(crate) fn metric(gateway: &Gateway, name: &str) -> f64 {
    metrics(gateway).get(name).copied().unwrap_or(0.0)
}
