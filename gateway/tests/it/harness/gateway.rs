//! The gateway as a process.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::Value;

use super::{Folder, PATIENCE, eventually};

/// A gateway that is going to be started.
#[derive(Debug)]
pub(crate) struct Builder {
    folder: Folder,
    config: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    /// A program that becomes the gateway, and its arguments.
    inside: Vec<OsString>,
    may_panic: bool,
}

impl Builder {
    /// Started by this program, which has to become it with `exec "$@"`, or the like.
    pub(crate) fn inside(mut self, program: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.inside = program.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an argument behind `run --config FILE`.
    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Puts a file beside the configuration.
    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.folder.write(name, content);
        self
    }

    /// A test makes it panic. Without this, a panic in the gateway fails the test.
    pub(crate) fn may_panic(mut self) -> Self {
        self.may_panic = true;
        self
    }

    /// Starts it and waits until it listens. The level of the diagnostics log must be `info` or finer.
    pub(crate) fn start(self) -> Gateway {
        self.spawn().opened()
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(self) -> Gateway {
        let mut words = self.inside.into_iter().chain([env!("CARGO_BIN_EXE_probegate").into()]);
        let mut child = Command::new(words.next().unwrap())
            .args(words)
            .arg("run")
            .arg("--config")
            .arg(&self.config)
            .args(&self.arguments)
            // Bans and switches of others, and of whoever uses this machine, are none of this gateway's.
            .env("STATE_DIRECTORY", self.folder.path())
            .envs(self.environment)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let reader = log.read(child.stderr.take().unwrap());
        Gateway {
            child,
            _folder: self.folder,
            config: self.config,
            log,
            reader: Some(reader),
            addresses: Vec::new(),
            may_panic: self.may_panic,
        }
    }
}

/// A gateway that runs. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    _folder: Folder,
    config: PathBuf,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    may_panic: bool,
}

impl Gateway {
    /// One with this configuration, not yet started.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "texts and configurations, borrowed or not, all read the same at the call"
    )]
    pub(crate) fn with(config: impl ToString) -> Builder {
        let folder = Folder::new();
        let config = folder.write("probegate.yaml", config.to_string());
        Builder { folder, config, arguments: Vec::new(), environment: Vec::new(), inside: Vec::new(), may_panic: false }
    }

    /// Starts one with this configuration.
    pub(crate) fn start(config: impl ToString) -> Self {
        Self::with(config).start()
    }

    /// Waits until it listens, where it was only spawned.
    pub(crate) fn opened(mut self) -> Self {
        // Said behind the addresses of all listeners.
        self.wait_for_log(|line| line["message"] == "upstream");
        self.addresses = self.logged("listening");
        self
    }

    /// Where its first listener is.
    pub(crate) fn address(&self) -> SocketAddr {
        *self.addresses.first().expect("a gateway that was started with `start`")
    }

    /// Where its listeners are, in the order of its configuration.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where its admin listener is.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.wait_for_log(|line| line["message"] == "admin listener");
        self.logged("admin listener")[0]
    }

    /// Its configuration file.
    pub(crate) fn config_path(&self) -> &Path {
        &self.config
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written to standard error so far, line by line.
    pub(crate) fn log_lines(&self) -> Vec<String> {
        self.log.lock().0.clone()
    }

    /// The lines of the access log so far.
    pub(crate) fn access_log(&self) -> Vec<Value> {
        self.log_lines().iter().filter_map(|line| parse(line)).filter(|line| line["request_id"].is_string()).collect()
    }

    /// Waits for a log line (diagnostics or access log, as JSON) that `is_it` accepts.
    pub(crate) fn wait_for_log(&self, is_it: impl Fn(&Value) -> bool) -> Value {
        self.log.wait_for(|line| parse(line).filter(|line| is_it(line)))
    }

    /// Waits for the access-log line of a request with this target, as it is logged.
    pub(crate) fn access(&self, target: &str) -> Value {
        self.wait_for_log(|line| line["request_id"].is_string() && line["target"] == target)
    }

    /// Sends it a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end; everything it wrote is in the log then.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let status = eventually("the gateway ends", || self.child.try_wait().unwrap());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn logged(&self, message: &str) -> Vec<SocketAddr> {
        let lines = self.log_lines();
        let lines = lines.iter().filter_map(|line| parse(line)).filter(|line| line["message"] == message);
        lines.map(|line| line["address"].as_str().unwrap().parse().unwrap()).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
        let lines = self.log_lines();
        if std::thread::panicking() {
            let last = lines.len().saturating_sub(50);
            println!("--- the end of the gateway's log\n{}", lines[last..].join("\n"));
        } else if !self.may_panic {
            let panicked: Vec<_> = lines.iter().filter(|line| line.contains("panicked at")).collect();
            assert!(panicked.is_empty(), "the gateway panicked: {lines:#?}");
        }
    }
}

/// What it writes to standard error, and whether that has ended.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Log {
    /// The log of a gateway is wanted most when a test has panicked while it looked at it.
    fn lock(&self) -> MutexGuard<'_, (Vec<String>, bool)> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(self: &Arc<Self>, from: ChildStderr) -> JoinHandle<()> {
        let log = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n') {
                let Ok(line) = line else { break };
                log.lines.lock().unwrap().0.push(String::from_utf8_lossy(&line).into_owned());
                log.more.notify_all();
            }
            log.lock().1 = true;
            log.more.notify_all();
        })
    }

    fn wait_for<T>(&self, find: impl Fn(&str) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut lines = self.lock();
        let mut looked = 0;
        loop {
            if let Some(found) = lines.0[looked..].iter().find_map(|line| find(line)) {
                return found;
            }
            looked = lines.0.len();
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !lines.1, "no such line in the log:\n{}", lines.0.join("\n"));
            lines = self.more.wait_timeout(lines, left).unwrap().0;
        }
    }
}

fn parse(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}
