//! Disks that are full, that the system bounds, and that do not answer: errors for those whose bodies need them, and for nobody else.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{
    Client, Config, Folder, Gateway, Response, Upstream, eventually, exchange, get, metrics, ok, wait_for_metric,
};

/// Stands between the gateway and the kernel: what a disk does is what the file that `DISK` names says.
const DISK: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static char says(void) {
    char word = 0;
    int file = open(getenv("DISK"), O_RDONLY);
    if (file >= 0) {
        if (read(file, &word, 1) < 1) word = 0;
        close(file);
    }
    return word;
}

static int fails(void) {
    while (says() == 'h') usleep(5000);
    if (says() != 'f') return 0;
    errno = ENOSPC;
    return 1;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t at) {
    return fails() ? -1 : syscall(SYS_pwrite64, fd, bytes, count, at);
}

ssize_t pread64(int fd, void *bytes, size_t count, off_t at) {
    while (says() == 'h') usleep(5000);
    return syscall(SYS_pread64, fd, bytes, count, at);
}
"#;

/// A disk that does what it is told.
struct Disk {
    folder: Folder,
}

impl Disk {
    fn new() -> Self {
        let folder = Folder::new();
        let source = folder.write("disk.c", DISK);
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(folder.path().join("disk.so")).arg(source);
        assert!(cc.status().unwrap().success());
        let disk = Self { folder };
        disk.says("works");
        disk
    }

    fn says(&self, word: &str) {
        // At once: nobody must see an empty file.
        let written = self.folder.write("next", word);
        std::fs::rename(written, self.state()).unwrap();
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn start(&self, config: impl ToString) -> Gateway {
        let library = self.folder.path().join("disk.so");
        Gateway::with(config).env("LD_PRELOAD", library).env("DISK", self.state()).start()
    }
}

const LARGE: usize = 600_000;

fn app() -> Upstream {
    Upstream::answering(|request| match request.target().as_str() {
        "/large" => ok(&"x".repeat(16 << 20)),
        _ => ok(&request.body.len().to_string()),
    })
}

fn post(gateway: &Gateway) -> Response {
    let mut client = Client::connect(gateway.address());
    client.send(format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n"));
    client.try_send(vec![b'x'; LARGE]);
    client.response()
}

fn slow(gateway: &Gateway) -> Client {
    let mut client = Client::connect_narrow(gateway.address());
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    client
}

fn held(gateway: &Gateway, place: &str) -> f64 {
    metrics(gateway)[&format!("probegate_buffered_bytes{{place=\"{place}\"}}")]
}

/// Uploads that need the disk fail, small ones and answers do not.
fn refuses_what_needs_a_disk(gateway: &Gateway) {
    for _ in 0..3 {
        let response = post(gateway);
        assert_eq!((response.status, response.closes()), (507, true), "{response:?}");
    }
    gateway.wait_for_log(|line| line["target"] == "/upload" && line["reason"] == "buffer_failed");
    let small = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    assert_eq!(exchange(gateway.address(), small).text(), "1");
    // The app waits instead.
    assert_eq!(slow(gateway).exactly(16 << 20).len(), 16 << 20);
    wait_for_metric(gateway, "probegate_buffered_bytes{place=\"disk\"}", 0.0);
    wait_for_metric(gateway, "probegate_buffered_bytes{place=\"memory\"}", 0.0);
}

#[test]
fn a_disk_that_is_full_gives_errors_until_there_is_room_again() {
    let (disk, app) = (Disk::new(), app());
    let gateway = disk.start(Config::before(&app));
    assert_eq!(post(&gateway).text(), LARGE.to_string());
    disk.says("full");
    refuses_what_needs_a_disk(&gateway);
    disk.says("works");
    assert_eq!(post(&gateway).text(), LARGE.to_string());
}

/// A folder that is a disk of 256 KiB to the gateway alone, where the system lets us have one; elsewhere, the tests above and below stand for it.
#[test]
fn a_small_disk_of_its_own_is_full_when_it_is() {
    let folder = Folder::new();
    let mount = format!("mount -t tmpfs -o size=256k none '{}'", folder.path().display());
    let namespace = |script: &str| ["unshare", "-rm", "sh", "-c", script].map(OsString::from).to_vec();
    let inside = namespace(&format!("{mount} && exec \"$@\""));
    let mut tried = Command::new("unshare");
    if !tried.args(&namespace(&mount)[1..]).output().is_ok_and(|tried| tried.status.success()) {
        println!("no namespaces here");
        return;
    }
    let app = app();
    let config = Config::before(&app).top(&format!("buffers: {{directory: \"{}\"}}", folder.path().display()));
    let gateway = Gateway::with(config).inside(inside.into_iter().chain(["sh".into()])).start();
    refuses_what_needs_a_disk(&gateway);
}

#[test]
fn a_bound_of_the_system_for_files_is_an_error_and_not_the_end() {
    let app = app();
    // 64 KiB.
    let inside = ["sh", "-c", "ulimit -f 128 && exec \"$@\"", "sh"];
    let gateway = Gateway::with(Config::before(&app)).inside(inside).start();
    refuses_what_needs_a_disk(&gateway);
}

#[test]
fn a_disk_that_does_not_answer_holds_nobody_for_ever() {
    let (disk, app) = (Disk::new(), app());
    let gateway = disk.start(Config::before(&app).top("buffers: {timeout: 1s, total_memory: 1MiB}"));
    // An answer that lies there already, and one that is to be written there.
    let mut reads = slow(&gateway);
    eventually("it is kept", || (held(&gateway, "disk") > 1e6).then_some(()));
    disk.says("hangs");
    let begun = Instant::now();
    assert_eq!(post(&gateway).status, 507);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert!(reads.rest().0.len() < 16 << 20);
    let mut writes = slow(&gateway);
    assert!(writes.rest().0.len() < 16 << 20);
    // Others are served, and what hangs is counted.
    assert_eq!(get(gateway.address(), "/").text(), "0");
    assert!(held(&gateway, "memory") > 0.0);
    eventually("there is no room for more that hangs", || (post(&gateway).status == 503).then_some(()));
    assert_eq!(get(gateway.address(), "/").text(), "0");
    disk.says("works");
    wait_for_metric(&gateway, "probegate_buffered_bytes{place=\"memory\"}", 0.0);
    wait_for_metric(&gateway, "probegate_buffered_bytes{place=\"disk\"}", 0.0);
    assert_eq!(post(&gateway).text(), LARGE.to_string());
    assert_eq!(get(gateway.address(), "/large").body.len(), 16 << 20);
}
