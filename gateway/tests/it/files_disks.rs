//! Files on disks that hang, that others write to and that somebody turns upside down meanwhile; and what files cost in descriptors and memory.

use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, CWD, RenameFlags, fadvise, renameat_with};
use rustix::io::{ReadWriteFlags, preadv2};

use crate::harness::{Client, Config, Folder, Gateway, Upstream, eventually, get, ok, run, wait_for_metric};
use crate::http2;

fn before(app: &Upstream, folder: &Folder, keys: &str) -> Config {
    let root = folder.path().display();
    Config::before(app)
        .workers(1)
        .service(&format!("routes:\n  - path: /static/\n    files: {{root: \"{root}\"{keys}}}"))
}

/// A disk that answers, or does not.
struct Disk(Folder);

impl Disk {
    fn new() -> Self {
        let disk = Self(Folder::new());
        disk.says("works");
        disk
    }

    fn says(&self, word: &str) {
        // At once: nobody must see an empty file.
        let written = self.0.write("next", word);
        std::fs::rename(written, self.0.path().join("state")).unwrap();
    }

    fn start(&self, config: impl ToString) -> Gateway {
        Gateway::with(config).env("DISK", self.0.path().join("state")).start()
    }
}

fn asks(gateway: &Gateway, target: &str) -> Client {
    let mut client = Client::connect(gateway.address());
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

/// An upload that waits in a temporary file.
fn upload(gateway: &Gateway) -> String {
    let mut client = Client::connect(gateway.address());
    client.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n");
    client.send(vec![b'x'; 600_000]);
    client.response().text()
}

#[test]
fn a_file_system_that_hangs_holds_up_nobody_else_and_nobody_for_ever() {
    let (disk, folder) = (Disk::new(), Folder::new());
    folder.write("app.css", "body{}");
    let app = Upstream::answering(|request| ok(&request.body.len().to_string()));
    let config = before(&app, &folder, "");
    let mut gateway = disk.start(config.clone().top("shutdown: {drain: 300ms}"));
    assert_eq!(get(gateway.address(), "/static/app.css").text(), "body{}");
    disk.says("hangs");
    // More than there are threads.
    let mut hung: Vec<_> = (0..12).map(|number| asks(&gateway, &format!("/static/missing-{number}"))).collect();
    // Others are served, also those who need a disk.
    for _ in 0..3 {
        assert_eq!(upload(&gateway), "600000");
    }
    // Whoever goes is seen.
    hung.pop().unwrap().reset();
    assert_eq!(gateway.access("/static/missing-11")["reason"], "client_closed");
    // The end of the process does not wait for the disk.
    gateway.signal("TERM");
    assert_eq!(gateway.access("/static/missing-0")["reason"], "shutting_down");
    gateway.wait_exit();

    let gateway = disk.start(config.top("buffers: {timeout: 300ms}"));
    let begun = Instant::now();
    let mut hung: Vec<_> = (0..6).map(|number| asks(&gateway, &format!("/static/app.css?{number}"))).collect();
    for client in &mut hung {
        assert_eq!(client.response().status, 500);
    }
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
    let line = gateway.access("/static/app.css?0");
    assert_eq!((&line["reason"], &line["status"]), (&"file_failed".into(), &500.into()));
    disk.says("works");
    eventually("it is served again", || (get(gateway.address(), "/static/app.css").text() == "body{}").then_some(()));
}

#[test]
fn a_file_that_can_not_be_read_in_time_is_an_error_where_nothing_was_sent() {
    let (disk, folder) = (Disk::new(), Folder::new());
    let path = folder.write("large.bin", vec![b'x'; 1 << 20]);
    let app = Upstream::answering(|_| ok(""));
    let config = before(&app, &folder, "").top("buffers: {timeout: 2s}");
    let gateway = disk.start(http2::with_http2(&config));
    let head = |target: &str| {
        let mut client = Client::connect(gateway.address());
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.response_to_head().status
    };
    // On the disk and nowhere else. A file system without pages to be asked for (tmpfs) is never waited for.
    let cool = |path: &Path| {
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        file
    };
    let probe = cool(&folder.write("probe.bin", vec![b'x'; 1 << 20]));
    if preadv2(&probe, &mut [IoSliceMut::new(&mut [0])], 0, ReadWriteFlags::NOWAIT) != Err(rustix::io::Errno::AGAIN) {
        return;
    }
    assert_eq!(head("/static/large.bin"), 200);
    disk.says("hangs");
    cool(&path);
    let mut client = asks(&gateway, "/static/large.bin");
    assert!(client.head().starts_with(b"HTTP/1.1 500 "));
    // Over HTTP/2 as well: the head waits for the first bytes.
    cool(&path);
    let url = format!("http://{}/static/large.bin", gateway.address());
    let ended = run(Command::new("curl").args([
        "-sS",
        "--http2-prior-knowledge",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &url,
    ]));
    assert_eq!(ended.out, "500", "{}", ended.err);
    let line = gateway.wait_for_log(|line| line["target"] == "/static/large.bin" && line["method"] == "GET");
    assert_eq!((&line["reason"], &line["status"]), (&"file_failed".into(), &500.into()));
    disk.says("works");
    assert_eq!(get(gateway.address(), "/static/large.bin").body.len(), 1 << 20);
}

#[test]
fn a_file_that_is_written_into_is_served_as_it_is_now() {
    let folder = Folder::new();
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(before(&app, &folder, ", precompressed: true"));
    for round in 1..30 {
        // In place: the same file, of another length.
        let text = "text ".repeat(if round % 2 == 0 { 10 } else { round * 10 });
        folder.write("app.css", &text);
        let response = get(gateway.address(), "/static/app.css");
        assert_eq!((response.status, response.text()), (200, text), "{round}");
    }
}

#[test]
fn nothing_from_outside_is_served_while_links_and_folders_change_places() {
    const NAMES: usize = 400;
    let (folder, outside) = (Folder::new(), Folder::new());
    std::fs::create_dir(folder.path().join("place")).unwrap();
    for number in 0..NAMES {
        folder.write(&format!("place/{number}"), "inside");
        outside.write(&number.to_string(), "outside");
        // Files and links that change places as well.
        folder.write(&format!("file-{number}"), "inside");
    }
    outside.write("told", "outside");
    symlink(outside.path(), folder.path().join("other")).unwrap();
    symlink(outside.path().join("told"), folder.path().join("link")).unwrap();
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(before(&app, &folder, ", listing: true").workers(2));
    let (over, inside, nothing) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let exchange = |one: &str, other: &str| {
        let path = |name: &str| folder.path().join(name);
        renameat_with(CWD, path(one), CWD, path(other), RenameFlags::EXCHANGE).unwrap();
    };
    let asking = |offset: usize| {
        let mut client = Client::connect(gateway.address());
        for step in 0..3000 {
            let number = (step * 7 + offset) % NAMES;
            let target = match step % 4 {
                0 => format!("/static/file-{number}"),
                1 if number.is_multiple_of(10) => "/static/place/".to_owned(),
                _ => format!("/static/place/{number}"),
            };
            client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let response = client.response();
            let text = response.text();
            assert!(!text.contains("outside") && !text.contains("told"), "{target}: {text}");
            match response.status {
                200 => inside.fetch_add(1, Ordering::Relaxed),
                404 => nothing.fetch_add(1, Ordering::Relaxed),
                status => panic!("{target}: {status} {text}"),
            };
        }
    };
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let mut round = 0;
            while !over.load(Ordering::Relaxed) {
                exchange("place", "other");
                exchange(&format!("file-{}", round % NAMES), "link");
                round += 1;
            }
            round
        });
        let asking = &asking;
        let clients: Vec<_> = (0..4).map(|offset| scope.spawn(move || asking(offset * 50))).collect();
        let ended: Vec<_> = clients.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
        assert!(swapping.join().unwrap() > 100);
    });
    let (inside, nothing) = (inside.into_inner(), nothing.into_inner());
    assert!(inside > 100 && nothing > 100, "{inside} {nothing}: there was no race");
}

#[test]
fn pipes_in_the_place_of_files_keep_nobody_waiting() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("docs")).unwrap();
    folder.write("app.css", "body{}");
    for name in ["pipe", "docs/index.html", "app.css.br"] {
        assert_eq!(run(Command::new("mkfifo").arg(folder.path().join(name))).code, Some(0));
    }
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(before(&app, &folder, ", precompressed: true"));
    assert_eq!(get(gateway.address(), "/static/pipe").status, 404);
    assert_eq!(get(gateway.address(), "/static/docs/").status, 404);
    let mut client = Client::connect(gateway.address());
    client.send("GET /static/app.css HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n");
    assert_eq!(client.response().text(), "body{}");
}

#[test]
fn what_is_kept_open_leaves_descriptors_for_others() {
    let folder = Folder::new();
    for number in 0..200 {
        for ending in ["", ".br", ".gz", ".zst"] {
            folder.write(&format!("{number}{ending}"), "text");
        }
    }
    let app = Upstream::answering(|_| ok(""));
    let config = before(&app, &folder, ", precompressed: true");
    let gateway = Gateway::with(config).inside(["sh", "-c", "ulimit -n 256; exec \"$@\"", "sh"]).start();
    let mut client = Client::connect(gateway.address());
    for number in 0..200 {
        client.send(format!("GET /static/{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.response().text(), "text");
        let open = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count();
        assert!(open < 100, "{open} after {number}");
    }
}

#[test]
fn a_root_that_is_not_there_is_told_now_and_then() {
    let (folder, app) = (Folder::new(), Upstream::answering(|_| ok("")));
    std::fs::create_dir(folder.path().join("root")).unwrap();
    let root = folder.path().join("root");
    let config = Config::before(&app)
        .workers(1)
        .service(&format!("routes: [{{path: /static/, files: {{root: \"{}\"}}}}]", root.display()));
    let gateway = Gateway::start(config);
    std::fs::remove_dir(&root).unwrap();
    let begun = Instant::now();
    for _ in 0..50 {
        assert_eq!(get(gateway.address(), "/static/x").status, 404);
    }
    let most = usize::try_from(begun.elapsed().as_secs()).unwrap() + 2;
    gateway.wait_for_log(|line| line.to_string().contains("is not there"));
    let told = gateway.log_lines().iter().filter(|line| line.contains("is not there")).count();
    assert!((1..=most).contains(&told), "{told}");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("x"), "text").unwrap();
    eventually("it is back", || (get(gateway.address(), "/static/x").text() == "text").then_some(()));
}

#[test]
fn the_page_of_a_large_folder_has_an_end_and_is_counted() {
    let folder = Folder::new();
    let long = "n".repeat(200);
    for number in 0..4000 {
        folder.write(&format!("{number:04}{long}"), "");
    }
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(before(&app, &folder, ", listing: true"));
    let rated = before(&app, &folder, ", listing: true")
        .to_string()
        .replace("/static/\n", "/static/\n        bandwidth: {rate: 64KiB/s}\n");
    let slowly = Gateway::start(rated);
    let page = get(gateway.address(), "/static/").text();
    assert!(page.len() < 1_100_000 && page.contains("There are more") && page.ends_with("more.\n"), "{}", page.len());
    let mut slow = asks(&slowly, "/static/");
    slow.head();
    wait_for_metric(
        &slowly,
        "probegate_buffered_bytes{place=\"memory\"}",
        f64::from(u32::try_from(page.len()).unwrap()),
    );
    drop(slow);
    wait_for_metric(&slowly, "probegate_buffered_bytes{place=\"memory\"}", 0.0);
}
