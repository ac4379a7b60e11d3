//! A new process takes the listening sockets over from an old one, and no client notices.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{
    Client, Config, Folder, Gate, Gateway, Upstream, accepts, eventually, exchange, free_address, get, is_waited_on,
    listening_on, ok, wait_ready,
};

/// Asks once, or a few times at once.
pub(crate) type Ask = Box<dyn FnMut() -> std::io::Result<()> + Send>;

/// Clients that ask all the time.
pub(crate) struct Load {
    answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// On new connections, and on connections that they keep.
    fn start(to: SocketAddr) -> Self {
        let clients = [false, false, true, true].map(|keeps| -> (String, Ask) {
            let mut kept = None;
            let connect = move || {
                let stream = TcpStream::connect(to)?;
                stream.set_read_timeout(Some(crate::harness::PATIENCE))?;
                Ok(stream)
            };
            (format!("keeps {keeps}"), Box::new(move || ask(connect, keeps, &mut kept)))
        });
        Self::of(clients)
    }

    /// Of these clients, each with its name.
    pub(crate) fn of(clients: impl IntoIterator<Item = (String, Ask)>) -> Self {
        let mut load = Self { answered: Arc::default(), stop: Arc::default(), threads: Vec::new() };
        for (name, mut ask) in clients {
            let (count, end) = (Arc::clone(&load.answered), Arc::clone(&load.stop));
            load.threads.push(std::thread::spawn(move || {
                let mut failures = Vec::new();
                while !end.load(Ordering::SeqCst) {
                    if let Err(failure) = ask() {
                        failures.push(format!("{name}: {failure}"));
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(1));
                }
                failures
            }));
        }
        load
    }

    /// Waits for so many more answers.
    pub(crate) fn wait_for(&self, more: usize) {
        let from = self.answered.load(Ordering::SeqCst);
        eventually("more answers", || (self.answered.load(Ordering::SeqCst) >= from + more).then_some(()));
    }

    /// Ends it; what failed.
    pub(crate) fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

/// Asks once. A connection that was kept may have been closed before the request reached anybody (RFC 9112 §9.3.1): then a new one is used, as every
/// client does. Anything else is a failure.
pub(crate) fn ask<S: Read + Write>(
    connect: impl Fn() -> std::io::Result<S>,
    keeps: bool,
    kept: &mut Option<S>,
) -> std::io::Result<()> {
    if let Some(mut stream) = kept.take() {
        match one(&mut stream, false) {
            Ok(Some(true)) => {
                *kept = Some(stream);
                return Ok(());
            }
            Ok(Some(false)) => return Ok(()),
            Ok(None) => {}
            Err(error) => return Err(error),
        }
    }
    let mut stream = connect()?;
    match one(&mut stream, !keeps)? {
        Some(true) if keeps => *kept = Some(stream),
        Some(_) => {}
        None => return Err(std::io::Error::other("closed without an answer")),
    }
    Ok(())
}

/// One request and its answer: whether the connection goes on; `None`: it was closed before a byte of an answer.
fn one<S: Read + Write>(stream: &mut S, close: bool) -> std::io::Result<Option<bool>> {
    let last = if close { "Connection: close\r\n" } else { "" };
    let sent = stream.write_all(format!("GET /quick HTTP/1.1\r\nHost: a.example\r\n{last}\r\n").as_bytes());
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    while !answer.ends_with(b"\r\n\r\nquick") {
        match sent.as_ref().map_or(Ok(0), |()| stream.read(&mut part)) {
            Ok(0) if answer.is_empty() => return Ok(None),
            Err(error) if answer.is_empty() && error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
            Ok(0) => return Err(std::io::Error::other(format!("cut off: {:?}", String::from_utf8_lossy(&answer)))),
            Ok(count) => answer.extend_from_slice(&part[..count]),
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    if !text.starts_with("HTTP/1.1 200 ") {
        return Err(std::io::Error::other(format!("{text:?}")));
    }
    Ok(Some(!close && !text.contains("\r\nConnection: close\r\n")))
}

#[test]
fn sigquit_hands_the_sockets_to_a_new_process_and_no_request_fails() {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::answering(move |request| {
        if request.target() == "/slow" {
            theirs.wait();
        }
        ok("quick")
    });
    let folder = Folder::new();
    let socket = folder.path().join("private/upgrade.sock");
    let [kept, dropped, admin] = [free_address(), free_address(), free_address()];
    let config = Config::before(&app).workers(2).to_string();
    let config = config.replace("admin: {address: \"127.0.0.1:0\"}", &format!("admin: {{address: \"{admin}\"}}"));
    let on = |listeners: &[SocketAddr]| listening_on(&config, listeners);
    let mut old = Gateway::with(on(&[dropped])).arg("--upgrade-socket").arg(&socket).start();
    // The listener that is handed over was bound by a reload, and one from the start was closed by it.
    std::fs::write(old.config_path(), on(&[kept])).unwrap();
    old.signal("HUP");
    old.wait_for_log(|line| line["message"] == "configuration reloaded");
    eventually("the old listener is closed", || (!accepts(dropped)).then_some(()));

    let load = Load::start(kept);
    load.wait_for(20);
    let mut slow = Client::connect(kept);
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the app has it", || app.targets().contains(&"/slow".to_owned()).then_some(()));

    let mut new = Gateway::with(on(&[kept])).arg("--upgrade").arg("--upgrade-socket").arg(&socket).spawn();
    eventually("the new process waits for the sockets", || is_waited_on(&socket).then_some(()));
    old.signal("QUIT");
    new.wait_for_log(|line| line["message"] == "listening" && line["address"] == kept.to_string());
    old.wait_for_log(|line| line["message"] == "draining");
    eventually("the new process is ready and asked for it", || {
        let ready = TcpStream::connect(admin).is_ok_and(|_| get(admin, "/readyz").status == 200);
        ready.then_some(())
    });
    assert!(old.is_running(), "a request is in flight");
    load.wait_for(20);
    gate.open();
    assert_eq!(slow.response().text(), "quick", "the request that was in flight");
    assert_eq!(old.wait_exit().code(), Some(0));
    load.wait_for(50);
    assert!(!accepts(dropped));
    assert_eq!(load.end(), [""; 0]);
    assert!(!new.access_log().is_empty(), "the new process has answered");
    assert_eq!(get(admin, "/readyz").status, 200);
    new.signal("TERM");
    assert_eq!(new.wait_exit().code(), Some(0));
    assert!(!accepts(kept), "no socket was left open without anybody to accept");
}

#[test]
fn sigquit_without_a_new_process_is_ignored_and_says_so() {
    let app = Upstream::answering(|_| ok(""));
    let folder = Folder::new();
    let socket = folder.path().join("private/upgrade.sock");
    let cases = [
        (None, "SIGQUIT ignored: started without --upgrade-socket"),
        (Some(&socket), "SIGQUIT ignored: no new process waits for the sockets"),
    ];
    for (path, message) in cases {
        let builder = Gateway::with(Config::before(&app));
        let mut gateway = match path {
            Some(path) => builder.arg("--upgrade-socket").arg(path),
            None => builder,
        }
        .start();
        gateway.signal("QUIT");
        gateway.wait_for_log(|line| line["level"] == "ERROR" && line["message"] == message);
        assert_eq!(get(gateway.address(), "/").status, 200);
        wait_ready(&gateway);
        assert!(gateway.is_running());
        gateway.signal("TERM");
        assert_eq!(gateway.wait_exit().code(), Some(0));
    }
}

#[test]
fn a_new_process_that_nobody_hands_anything_to_gives_up_and_the_old_one_goes_on() {
    let app = Upstream::answering(|_| ok(""));
    let taken = TcpListener::bind(free_address()).unwrap();
    let folder = Folder::new();
    let config = listening_on(&Config::before(&app), &[taken.local_addr().unwrap()]);
    let socket = folder.path().join("private/upgrade.sock");
    let mut new = Gateway::with(config).arg("--upgrade").arg("--upgrade-socket").arg(socket).spawn();
    assert_eq!(new.wait_exit().code(), Some(1));
    assert!(!new.log_lines().iter().any(|line| line.contains("\"listening\"")));
}

/// A configuration with its listeners and admin listener at known addresses.
pub(crate) fn fixed(app: &Upstream, workers: usize, listeners: &[SocketAddr], admin: SocketAddr) -> String {
    let config = listening_on(&Config::before(app).workers(workers).service("upgrades: [websocket]"), listeners);
    config.replace("admin: {address: \"127.0.0.1:0\"}", &format!("admin: {{address: \"{admin}\"}}"))
}

/// Starts a process that takes over from `old`, and tells `old`.
pub(crate) fn begin(old: &Gateway, config: &str, socket: &Path) -> Gateway {
    let new = Gateway::with(config).arg("--upgrade").arg("--upgrade-socket").arg(socket).spawn();
    eventually("the new process waits for the sockets", || is_waited_on(socket).then_some(()));
    old.signal("QUIT");
    new
}

#[test]
fn a_new_process_that_cannot_start_leaves_the_old_one_in_charge() {
    let app = Upstream::answering(|_| ok("quick"));
    let folder = Folder::new();
    let socket = folder.path().join("private/upgrade.sock");
    let [kept, extra, admin] = [free_address(), free_address(), free_address()];
    let mut old = Gateway::with(fixed(&app, 2, &[kept], admin)).arg("--upgrade-socket").arg(&socket).start();
    let load = Load::start(kept);
    load.wait_for(50);

    // A listener that only the new configuration has, and that somebody else has already.
    let taken = TcpListener::bind(extra).unwrap();
    let mut new = begin(&old, &fixed(&app, 2, &[kept, extra], admin), &socket);
    assert_eq!(new.wait_exit().code(), Some(1));
    assert!(new.log_lines().concat().contains(&format!("cannot listen on {extra}")), "{:?}", new.log_lines());
    old.wait_for_log(|line| line["message"] == "the hand-over failed, this process stays in charge");
    load.wait_for(50);

    // A file with a mistake never gets as far as the sockets.
    let mut new = Gateway::with("services: {}").arg("--upgrade").arg("--upgrade-socket").arg(&socket).spawn();
    assert_eq!(new.wait_exit().code(), Some(64));
    // One that dies with the sockets in its hands, before it accepts.
    let before = old.log_lines().len();
    let mut new = Gateway::with(fixed(&app, 2, &[kept, extra], admin))
        .arg("--upgrade")
        .arg("--upgrade-socket")
        .arg(&socket)
        .spawn();
    eventually("the new process waits for the sockets", || is_waited_on(&socket).then_some(()));
    new.signal("STOP");
    old.signal("QUIT");
    load.wait_for(50);
    new.signal("KILL");
    new.wait_exit();
    eventually("the old process says so", || {
        old.log_lines()[before..].iter().any(|line| line.contains("stays in charge")).then_some(())
    });
    assert!(old.is_running());
    assert_eq!(get(admin, "/readyz").status, 200);

    // And then it works.
    drop(taken);
    let new = begin(&old, &fixed(&app, 2, &[kept, extra], admin), &socket);
    assert_eq!(old.wait_exit().code(), Some(0));
    old.wait_for_log(|line| line["message"] == "a new process has taken over");
    load.wait_for(50);
    assert_eq!(load.end(), [""; 0]);
    assert_eq!(get(extra, "/").status, 200);
    drop(new);
}

#[test]
fn upgrades_and_reloads_under_load_fail_no_request_and_end_none_that_runs() {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::scripted(move |connection| {
        while let Some(request) = connection.request() {
            if request.field("upgrade").is_some() {
                connection
                    .write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
                while let Some(bytes) = connection.some() {
                    connection.write(bytes);
                }
                return;
            }
            if request.target() == "/slow" {
                theirs.wait();
            }
            connection.write(ok("quick"));
        }
    });
    let folder = Folder::new();
    let socket = folder.path().join("private/upgrade.sock");
    let [kept, admin] = [free_address(), free_address()];
    let config = |workers| fixed(&app, workers, &[kept], admin);
    let mut old = Gateway::with(config(2)).arg("--upgrade-socket").arg(&socket).start();
    let load = Load::start(kept);
    load.wait_for(50);

    let mut slow = Client::connect(kept);
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the app has it", || app.targets().contains(&"/slow".to_owned()).then_some(()));
    let mut socket_client = Client::connect(kept);
    socket_client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(crate::harness::Response::of(&socket_client.head()).status, 101);

    let mut first = old;
    old = begin(&first, &config(1), &socket);
    first.wait_for_log(|line| line["message"] == "draining");
    // Fewer workers, more of them, and as many as there are sockets.
    for workers in [3, 1, 2] {
        load.wait_for(50);
        old.wait_for_log(|line| line["message"] == "admin listener");
        old.signal("HUP");
        old.wait_for_log(|line| line["message"] == "configuration reloaded");
        let new = begin(&old, &config(workers), &socket);
        assert_eq!(old.wait_exit().code(), Some(0));
        old = new;
    }
    assert!(first.is_running(), "what ran there still runs");
    socket_client.send("echo");
    assert_eq!(socket_client.exactly(4), b"echo");
    gate.open();
    assert_eq!(slow.response().text(), "quick");
    drop(socket_client);
    assert_eq!(first.wait_exit().code(), Some(0));
    load.wait_for(100);
    assert_eq!(load.end(), [""; 0]);
    assert_eq!(get(admin, "/readyz").status, 200);
}

#[test]
fn a_folder_that_others_may_enter_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let app = Upstream::answering(|_| ok(""));
    let folder = Folder::new();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for upgrade in [false, true] {
        let mut builder = Gateway::with(Config::before(&app));
        if upgrade {
            builder = builder.arg("--upgrade");
        }
        let mut gateway = builder.arg("--upgrade-socket").arg(folder.path().join("upgrade.sock")).spawn();
        assert_eq!(gateway.wait_exit().code(), Some(1));
        assert!(gateway.log_lines().concat().contains("must belong to this user alone (mode 0700)"));
    }
}

/// An old process that serves, and a new one that has its sockets and sleeps.
pub(crate) fn halfway(config: &str, socket: &Path) -> (Gateway, Gateway) {
    let old = Gateway::with(config).arg("--upgrade-socket").arg(socket).start();
    let new = Gateway::with(config).arg("--upgrade").arg("--upgrade-socket").arg(socket).spawn();
    eventually("the new process waits for the sockets", || is_waited_on(socket).then_some(()));
    new.signal("STOP");
    old.signal("QUIT");
    old.wait_for_log(|line| line["message"] == "the sockets are sent, and the new process has to say that it accepts");
    (old, new)
}

#[test]
fn a_new_process_that_comes_too_late_ends_and_the_old_one_goes_on_alone() {
    let app = Upstream::answering(|_| ok("quick"));
    let folder = Folder::new();
    let socket = folder.path().join("private/upgrade.sock");
    let [kept, admin] = [free_address(), free_address()];
    let (mut old, mut new) = halfway(&fixed(&app, 2, &[kept], admin), &socket);
    // The new process reads the switches when it has taken over: none is turned behind its back.
    let switch = "PUT /services/app/maintenance HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Probegate-Control: 1\r\n\r\n";
    let refused = exchange(admin, switch);
    assert!(refused.status == 503 && refused.text().contains("handing_over"), "{refused:?}");
    old.wait_for_log(|line| line["message"] == "the hand-over failed, this process stays in charge");
    assert_eq!(exchange(admin, switch.replace("app", "unknown")).status, 404);
    new.signal("CONT");
    assert_eq!(new.wait_exit().code(), Some(1));
    assert!(new.log_lines().concat().contains("came too late"), "{:?}", new.log_lines());
    assert!(old.is_running());
    assert_eq!(get(kept, "/").status, 200);
}

#[test]
fn more_sockets_than_can_change_hands_are_an_error_and_nothing_is_lost() {
    let app = Upstream::answering(|_| ok("quick"));
    let folder = Folder::new();
    let socket = folder.path().join("private/upgrade.sock");
    let [one, other, third, admin] = [free_address(), free_address(), free_address(), free_address()];
    let config = |listeners: &[SocketAddr]| fixed(&app, 16, listeners, admin);
    let mut old = Gateway::with(config(&[one, other])).arg("--upgrade-socket").arg(&socket).start();
    std::fs::write(old.config_path(), config(&[one, other, third])).unwrap();
    old.signal("HUP");
    old.wait_for_log(|line| line["message"] == "configuration reloaded");
    let _new = begin(&old, &config(&[one, other, third]), &socket);
    let line = old.wait_for_log(|line| line["message"] == "the hand-over failed, this process stays in charge");
    assert!(line["error"].as_str().unwrap().starts_with("33 listening sockets are open, and at most 32"), "{line}");
    assert!(old.is_running());
    for address in [one, other, third] {
        assert_eq!(get(address, "/").status, 200);
    }
}
