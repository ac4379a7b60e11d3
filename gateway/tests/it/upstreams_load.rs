//! Real gunicorns that are killed, hung, restarted and slowed while clients go on asking.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Client, Config, End, Folder, Gateway, Program, eventually, free_address, metrics, venv};

/// Says who answers; slow while a file is there.
const APP: &str = "
import os, time
NAME = os.environ['NAME']

def application(environ, start_response):
    if os.path.exists(os.path.join(os.environ['FOLDER'], 'slow-' + NAME)):
        time.sleep(0.3)
    environ['wsgi.input'].read()
    body = (NAME + ' ' + str(os.getpid())).encode()
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', str(len(body)))])
    return [body]
";

/// A gunicorn with one worker that serves a few requests at a time, and keeps unused connections for gunicorn's two seconds.
struct Gunicorn {
    program: Option<Program>,
    name: &'static str,
    address: SocketAddr,
}

impl Gunicorn {
    fn start(folder: &Folder, name: &'static str, address: SocketAddr) -> Self {
        let venv = venv("PROBEGATE_TEST_VENV", "django", "examples/django/requirements.txt");
        let mut command = Command::new(venv.join("bin/gunicorn"));
        command.current_dir(folder.path()).env("NAME", name).env("FOLDER", folder.path());
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.args(["--workers", "1", "--threads", "8", "--log-level", "warning", "--bind", &address.to_string()]);
        let program = Some(Program::start(command.arg("app:application")));
        let gunicorn = Self { program, name, address };
        gunicorn.worker();
        gunicorn
    }

    /// The process that answers.
    fn worker(&self) -> String {
        eventually("gunicorn answers", || {
            // A connection may be refused while it starts.
            let mut stream = std::net::TcpStream::connect(self.address).ok()?;
            std::io::Write::write_all(&mut stream, b"GET / HTTP/1.0\r\n\r\n").ok()?;
            let mut text = String::new();
            std::io::Read::read_to_string(&mut stream, &mut text).ok()?;
            let (name, pid) = text.rsplit_once("\r\n\r\n")?.1.split_once(' ')?;
            (name == self.name).then(|| pid.to_owned())
        })
    }

    /// As a power cut would.
    fn kill(&mut self) {
        let worker = self.worker();
        let program = self.program.take().unwrap();
        program.signal("STOP");
        signal("KILL", &worker);
        program.signal("KILL");
        program.wait();
    }
}

impl Drop for Gunicorn {
    fn drop(&mut self) {
        if let Some(program) = self.program.take() {
            program.end("QUIT");
        }
    }
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(pid).status().unwrap().success());
}

/// May be sent again, and may not.
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

/// What clients saw: how often each server answered, and everything else, by what happened to the servers.
#[derive(Default)]
struct Seen {
    answers: Mutex<BTreeMap<String, usize>>,
    happens: Mutex<&'static str>,
    failures: Mutex<BTreeMap<(&'static str, &'static str, String), usize>>,
    count: AtomicUsize,
}

impl Seen {
    fn client(&self, address: SocketAddr, request: &'static str, stop: &AtomicBool) {
        let mut client = Client::connect(address);
        while !stop.load(Ordering::SeqCst) {
            let happens = *self.happens.lock().unwrap();
            client.send(request);
            let (response, end) = client.response_and_end();
            let last = response.closes();
            if response.status == 200 && end == End::Whole {
                let name = response.text().split(' ').next().unwrap().to_owned();
                *self.answers.lock().unwrap().entry(name).or_default() += 1;
            } else {
                let what = match response.status {
                    200 => "an answer that breaks off".to_owned(),
                    status => status.to_string(),
                };
                let method = request.split(' ').next().unwrap();
                *self.failures.lock().unwrap().entry((happens, method, what)).or_default() += 1;
            }
            // After 10,000 requests, for one.
            if last || end != End::Whole {
                client = Client::connect(address);
            }
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// From now on.
    fn happens(&self, what: &'static str) {
        *self.happens.lock().unwrap() = what;
    }

    /// Goes on until so many more were answered; how many of them each server answered.
    fn more(&self, count: usize) -> BTreeMap<String, usize> {
        let before = self.answers.lock().unwrap().clone();
        let end = self.count.load(Ordering::SeqCst) + count;
        eventually("clients are answered", || (self.count.load(Ordering::SeqCst) >= end).then_some(()));
        let mut answers = self.answers.lock().unwrap().clone();
        for (name, count) in &mut answers {
            *count -= before.get(name).copied().unwrap_or(0);
        }
        answers
    }
}

fn wait_ejected(gateway: &Gateway, server: &Gunicorn, ejected: bool) {
    let label = format!("server=\"{}\"", server.address);
    eventually(&format!("{} is left out: {ejected}", server.name), || {
        let series = metrics(gateway);
        let found =
            series.iter().find(|(key, _)| key.starts_with("probegate_upstream_ejected{") && key.contains(&label));
        ((*found.unwrap().1 > 0.5) == ejected).then_some(())
    });
}

#[test]
fn servers_are_killed_hung_restarted_and_slowed_and_no_client_sees_it_where_a_retry_is_legal() {
    let folder = Folder::new();
    folder.write("app.py", APP);
    let mut servers = ["one", "two", "three"].map(|name| Gunicorn::start(&folder, name, free_address()));
    let listed = servers.iter().map(|server| server.address.to_string());
    let config = Config::servers(listed).workers(2).with_default_times().upstream(
        "response_timeout: 4s\nconnect_timeout: 2s\nfail_timeout: 1s\nslow_start: 1s\nretries: {budget: 50%, on: [timeout]}",
    );
    let gateway = Gateway::start(config);
    let (seen, stop) = (Seen::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        // However this ends, the clients do.
        let _ends = Ends(&stop);
        for _ in 0..8 {
            scope.spawn(|| seen.client(gateway.address(), GET, &stop));
        }
        for _ in 0..2 {
            scope.spawn(|| seen.client(gateway.address(), POST, &stop));
        }
        let answers = seen.more(500);
        assert_eq!(answers.len(), 3, "{answers:?}");

        // Killed, with what it was at.
        seen.happens("killed");
        servers[0].kill();
        wait_ejected(&gateway, &servers[0], true);
        let answers = seen.more(300);
        // Each client may have been about to count one answer more.
        assert!(answers["one"] <= 10, "{answers:?}");

        seen.happens("restarted");
        servers[0] = Gunicorn::start(&folder, "one", servers[0].address);
        wait_ejected(&gateway, &servers[0], false);
        eventually("it gets its share", || (seen.more(100)["one"] > 10).then_some(()));

        seen.happens("hung");
        // It takes connections and requests, and never answers.
        let worker = servers[1].worker();
        signal("STOP", &worker);
        wait_ejected(&gateway, &servers[1], true);
        seen.more(300);
        signal("CONT", &worker);
        wait_ejected(&gateway, &servers[1], false);

        seen.happens("slowed");
        // It gets less to do.
        eventually("all get something", || seen.more(300).values().all(|count| *count > 30).then_some(()));
        let slow = folder.write("slow-three", "");
        seen.more(100);
        let answers = seen.more(500);
        assert!(answers["three"] * 2 < answers["one"] && answers["three"] * 2 < answers["two"], "{answers:?}");
        std::fs::remove_file(slow).unwrap();
    });
    let failures = seen.failures.lock().unwrap();
    println!("{} requests, what each answered: {:?}", seen.count.load(Ordering::SeqCst), seen.answers.lock().unwrap());
    println!("and what else clients saw: {failures:#?}");
    for ((happens, method, what), count) in failures.iter() {
        // As the documentation says. What was sent before it happened may end after it.
        let told = match (*method, what.as_str()) {
            (_, "an answer that breaks off") | ("POST", "502") => *happens != "slowed" && *count <= 10,
            ("POST", "504") => ["hung", "restarted"].contains(happens),
            _ => false,
        };
        assert!(told, "{count} of {method} saw {what} when a server was {happens}: {failures:#?}");
    }
    // Whether a POST was at the server when it hung is luck, so that one saw 504 is not asked for.
}

/// Tells the clients to stop when a test is over.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn gunicorns_keep_alive_time_is_respected() {
    let folder = Folder::new();
    folder.write("app.py", APP);
    let server = Gunicorn::start(&folder, "one", free_address());
    let gateway = Gateway::start(Config::servers([server.address.to_string()]).with_default_times());
    // What is not idempotent is never sent again, so that a race for a connection that gunicorn closes would show. The pauses lie around
    // its two seconds and the gateway's one and a half.
    thread::scope(|scope| {
        for n in 0..8_u64 {
            let address = gateway.address();
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for round in 0..5 {
                    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
                    assert_eq!(client.response().status, 200);
                    thread::sleep(Duration::from_millis(1400 + 100 * ((n + round) % 8)));
                }
            });
        }
    });
    // Where the gateway keeps connections longer than the app, what may be sent twice is.
    let gateway = Gateway::start(Config::servers([server.address.to_string()]).upstream("idle_timeout: 60s"));
    thread::scope(|scope| {
        for n in 0..8_u64 {
            let address = gateway.address();
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for round in 0..3 {
                    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    assert_eq!(client.response().status, 200);
                    thread::sleep(Duration::from_millis(1900 + 50 * ((n + round) % 8)));
                }
            });
        }
    });
}
