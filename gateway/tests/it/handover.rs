//! A new process takes the listening sockets over from an old one, and no client notices.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{
    Client, Config, Folder, Gate, Gateway, Upstream, accepts, eventually, free_address, get, listening_on, ok,
    wait_ready,
};

/// Asks on one new connection after the other.
struct Stream {
    answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Stream {
    fn start(to: SocketAddr) -> Self {
        let (answered, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, end) = (Arc::clone(&answered), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !end.load(Ordering::SeqCst) {
                match ask(to) {
                    Ok(answer) if answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nquick") => {}
                    other => failures.push(format!("{other:?}")),
                }
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
            failures
        });
        Self { answered, stop, thread }
    }

    /// Waits for so many more answers.
    fn wait_for(&self, more: usize) {
        let from = self.answered.load(Ordering::SeqCst);
        eventually("more answers", || (self.answered.load(Ordering::SeqCst) >= from + more).then_some(()));
    }

    /// Ends it; what failed.
    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

fn ask(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(crate::harness::PATIENCE))?;
    stream.write_all(b"GET /quick HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Whether a process waits for sockets there. A connection would be taken for the hand-over.
fn is_waited_on(path: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    table.lines().any(|line| line.ends_with(&*path.display().to_string()))
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
    let socket = folder.path().join("upgrade.sock");
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

    let stream = Stream::start(kept);
    stream.wait_for(20);
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
    stream.wait_for(20);
    gate.open();
    assert_eq!(slow.response().text(), "quick", "the request that was in flight");
    assert_eq!(old.wait_exit().code(), Some(0));
    stream.wait_for(50);
    assert!(!accepts(dropped));
    assert_eq!(stream.end(), [""; 0]);
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
    let socket = folder.path().join("upgrade.sock");
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
    let socket = folder.path().join("upgrade.sock");
    let mut new = Gateway::with(config).arg("--upgrade").arg("--upgrade-socket").arg(socket).spawn();
    assert_eq!(new.wait_exit().code(), Some(1));
    assert!(!new.log_lines().iter().any(|line| line.contains("\"listening\"")));
}
