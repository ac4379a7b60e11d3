//! Sockets from a supervisor (`sd_listen_fds(3)`), what it is told (`sd_notify(3)`), and ports below 1024 without root.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::harness::{
    Client, Config, Folder, Gateway, PATIENCE, Program, Upstream, eventually, exchange, free_address, free_port, get,
    is_waited_on, listening_on, ok,
};

/// Opens sockets as systemd does, and becomes the program behind them.
const SUPERVISOR: &str = r#"
import os, socket, sys
specs, command = sys.argv[1].split(), sys.argv[2:]
opened = []
for spec in specs:
    kind, _, address = spec.partition("=")
    host, _, port = address.rpartition(":")
    if kind == "udp":
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((host, int(port)))
    elif kind == "every":
        s = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
    elif kind == "unix":
        s = socket.socket(socket.AF_UNIX)
        s.bind(address)
        s.listen()
    else:
        s = socket.create_server((host, int(port)))
    opened.append(os.dup2(s.fileno(), 100 + len(opened)))
for index, fd in enumerate(opened):
    os.dup2(fd, 3 + index)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(opened)), LISTEN_FDNAMES=":".join(f"front{i}" for i in range(len(opened))))
if len(sys.argv) > 2 and os.environ.get("NOBODY"):
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
os.execv(command[0], command)
"#;

/// The program with these sockets opened for it.
fn activated(sockets: &str, folder: &Folder, config: &str) -> Program {
    let file = folder.write("probegate.yaml", config);
    let mut command = Command::new("python3");
    command.args(["-c", SUPERVISOR, sockets, env!("CARGO_BIN_EXE_probegate"), "run", "-c"]).arg(file);
    Program::start(&mut command)
}

fn listens(program: &Program) {
    program.wait_for("it listens", |text| text.contains("\"admin listener\"").then_some(()));
}

fn at(app: &Upstream, workers: usize, listeners: &[SocketAddr]) -> String {
    listening_on(&Config::before(app).workers(workers), listeners)
}

#[test]
fn sockets_of_a_supervisor_are_listened_on_by_all_workers() {
    let app = Upstream::answering(|_| ok("here"));
    let folder = Folder::new();
    let [first, second, own, admin] = [free_address(), free_address(), free_address(), free_address()];
    let config = at(&app, 2, &[second, own, first])
        .replace("admin: {address: \"127.0.0.1:0\"}", &format!("admin: {{address: \"{admin}\"}}"));
    let program = activated(&format!("tcp={first} tcp={second} tcp={admin}"), &folder, &config);
    listens(&program);
    for address in [first, second, own] {
        for _ in 0..10 {
            assert_eq!(get(address, "/").text(), "here");
        }
    }
    eventually("it is ready", || (get(admin, "/readyz").status == 200).then_some(()));
    // Its own children would not believe the variables, and sockets of the supervisor are closed on exec.
    program.signal("HUP");
    program.wait_for("the reload", |text| text.contains("configuration reloaded").then_some(()));
    assert_eq!(get(first, "/").status, 200);
    program.signal("TERM");
    assert_eq!(program.wait().code, Some(0));
}

#[test]
fn a_socket_for_every_interface_belongs_to_the_listener_for_every_interface() {
    let app = Upstream::answering(|request| ok(&request.field("x-forwarded-for").unwrap_or_default()));
    let folder = Folder::new();
    let port = free_port();
    let config = at(&app, 1, &[SocketAddr::from(([0, 0, 0, 0], port))]);
    let program = activated(&format!("every=:{port}"), &folder, &config);
    listens(&program);
    assert_eq!(get(SocketAddr::from(([127, 0, 0, 1], port)), "/").text(), "127.0.0.1");
}

#[test]
fn what_no_listener_is_for_is_an_error() {
    let app = Upstream::answering(|_| ok(""));
    let folder = Folder::new();
    let [known, stranger] = [free_address(), free_address()];
    let path = folder.path().join("app.sock").display().to_string();
    for (sockets, message) in [
        (
            format!("tcp={known} tcp={stranger}"),
            format!("no listener is configured for `front1`, which listens on {stranger}"),
        ),
        (format!("udp={known}"), "`front0` is not a listening TCP socket".to_owned()),
        (format!("unix={path}"), "`front0` is not a listening TCP socket".to_owned()),
    ] {
        let ended = activated(&sockets, &folder, &at(&app, 1, &[known])).wait();
        assert_eq!(ended.code, Some(1), "{}", ended.err);
        assert!(ended.err.contains(&message), "{message:?} is not in {}", ended.err);
    }
}

#[test]
fn sockets_that_are_for_another_process_are_left_alone() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::with(Config::before(&app))
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "3")
        .env("LISTEN_FDNAMES", "x")
        .start();
    assert_eq!(get(gateway.address(), "/").status, 200);
}

#[test]
fn a_supervisor_hears_when_it_is_ready_reloads_and_stops() {
    let app = Upstream::answering(|_| ok(""));
    let folder = Folder::new();
    let path = folder.path().join("notify");
    let inbox = UnixDatagram::bind(&path).unwrap();
    inbox.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut bytes = [0; 256];
        let count = inbox.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    let socket = folder.path().join("private/upgrade.sock");
    let address = free_address();
    let config = at(&app, 1, &[address]);
    let start = || Gateway::with(&config).env("NOTIFY_SOCKET", &path).arg("--upgrade-socket").arg(&socket);
    let mut old = start().start();
    assert_eq!(next(), "READY=1\n");
    assert_eq!(get(address, "/").status, 200);
    old.signal("HUP");
    let reloading = next();
    let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(since.trim().parse::<u64>().unwrap() > 0);
    assert_eq!(next(), "READY=1\n");
    // A file with a mistake ends the reload as well.
    std::fs::write(old.config_path(), "nonsense").unwrap();
    old.signal("HUP");
    assert!(next().starts_with("RELOADING=1\n"));
    assert_eq!(next(), "READY=1\n");

    let mut new = start().arg("--upgrade").spawn();
    eventually("the new process waits for the sockets", || is_waited_on(&socket).then_some(()));
    old.signal("QUIT");
    assert_eq!(next(), format!("MAINPID={}\nREADY=1\n", new.pid()));
    assert_eq!(old.wait_exit().code(), Some(0));
    new.signal("TERM");
    assert_eq!(next(), "STOPPING=1\n");
    assert_eq!(new.wait_exit().code(), Some(0));
}

/// A command that runs as somebody without rights, with these arguments of `setpriv`. Where the tests are nobody special already, it runs as it is.
fn unprivileged(arguments: &[&str]) -> Option<Command> {
    if crate::harness::run(Command::new("id").arg("-u")).out.trim() != "0" {
        return arguments.is_empty().then(|| Command::new(env!("CARGO_BIN_EXE_probegate")));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).args(arguments);
    command.arg(env!("CARGO_BIN_EXE_probegate"));
    Some(command)
}

#[test]
fn ports_below_1024_without_root() {
    let app = Upstream::answering(|_| ok("low"));
    let folder = Folder::new();
    let low = SocketAddr::new(free_address().ip(), 81);
    let file = folder.write("probegate.yaml", at(&app, 1, &[low]));
    let unbound: u16 =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap().trim().parse().unwrap();
    let run = |command: &mut Command| Program::start(command.args(["run", "-c"]).arg(&file));

    let mut plain = unprivileged(&[]).unwrap();
    if unbound > 81 {
        let ended = run(&mut plain).wait();
        assert_eq!(ended.code, Some(1), "{}", ended.err);
        for way in ["AmbientCapabilities=CAP_NET_BIND_SERVICE", "setcap", ".socket unit"] {
            assert!(ended.err.contains(way), "{way:?} is not in {}", ended.err);
        }
    } else {
        // This system lets everybody have every port.
        listens(&run(&mut plain));
    }
    if let Some(mut able) = unprivileged(&["--inh-caps", "+net_bind_service", "--ambient-caps", "+net_bind_service"]) {
        let program = run(&mut able);
        listens(&program);
        assert_eq!(get(low, "/").text(), "low");
        program.signal("TERM");
        assert_eq!(program.wait().code, Some(0));
        // Or a socket that was opened by somebody who may.
        let mut command = Command::new("python3");
        command.args(["-c", SUPERVISOR, &format!("tcp={low}"), env!("CARGO_BIN_EXE_probegate")]).env("NOBODY", "1");
        let program = run(&mut command);
        listens(&program);
        let mut client = Client::connect(low);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "low");
        assert_eq!(exchange(low, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    }
}
