//! Routes that files answer.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::harness::{Client, Config, End, Folder, Gateway, Response, Upstream, exchange, get, ok, run};

/// A folder with files, and a gateway that serves it below `/static/`, with these keys besides the root.
fn serving(keys: &str) -> (Folder, Gateway, Upstream) {
    let folder = Folder::new();
    folder.write("app.css", "body{}");
    folder.write("page.html", "<p>");
    std::fs::create_dir_all(folder.path().join("docs/deep")).unwrap();
    folder.write("docs/index.html", "the docs");
    folder.write("docs/deep/a b.txt", "spaces");
    folder.write(".env", "SECRET=1");
    let app = Upstream::answering(|_| ok("the app"));
    let gateway = Gateway::start(before(&app, &folder, keys));
    (folder, gateway, app)
}

fn before(app: &Upstream, folder: &Folder, keys: &str) -> Config {
    let root = folder.path().display();
    Config::before(app).service(&format!("routes:\n  - path: /static/\n    files: {{root: \"{root}\"{keys}}}"))
}

fn ask(gateway: &Gateway, target: &str, fields: &str) -> Response {
    exchange(gateway.address(), format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

#[test]
fn a_file_is_served_in_the_place_of_the_app() {
    let (_folder, gateway, app) = serving("");
    let response = get(gateway.address(), "/static/app.css");
    assert_eq!((response.status, response.text()), (200, "body{}".to_owned()));
    for (name, value) in [
        ("content-type", "text/css; charset=utf-8"),
        ("content-length", "6"),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(response.field(name).as_deref(), Some(value), "{name}");
    }
    assert!(response.field("etag").is_some() && response.field("last-modified").is_some());
    assert_eq!(get(gateway.address(), "/static/docs/deep/a%20b.txt?x").text(), "spaces");
    assert_eq!(get(gateway.address(), "/static/docs/").text(), "the docs");
    assert_eq!(get(gateway.address(), "/other").text(), "the app");
    assert_eq!(app.targets(), ["/other"]);
    let line = gateway.access("/static/app.css");
    assert_eq!((&line["status"], &line["decision"], &line["sent"]), (&200.into(), &"file".into(), &6.into()));
    assert_eq!(line["upstream"], serde_json::Value::Null);

    // The same connection goes on, and HEAD tells what GET would.
    let mut client = Client::connect(gateway.address());
    client.send("HEAD /static/app.css HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.response_to_head();
    assert_eq!(
        (head.status, head.field("content-length"), head.field("etag")),
        (200, Some("6".into()), response.field("etag"))
    );
    client.send("GET /static/page.html HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "<p>");
}

#[test]
fn nothing_leads_out_of_the_root_and_nothing_else_than_files_is_served() {
    let (folder, gateway, app) = serving("");
    let outside = Folder::new();
    let secret = outside.write("secret", "outside");
    symlink(&secret, folder.path().join("link")).unwrap();
    symlink(outside.path(), folder.path().join("folder")).unwrap();
    symlink("app.css", folder.path().join("inside")).unwrap();
    symlink("/proc/self/environ", folder.path().join("magic")).unwrap();
    symlink("loop", folder.path().join("loop")).unwrap();
    let made = run(Command::new("mkfifo").arg(folder.path().join("pipe")));
    assert!(made.code == Some(0), "{made:?}");
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    for target in [
        "/static/missing",
        "/static/link",
        "/static/folder/secret",
        "/static/magic",
        "/static/loop",
        "/static/pipe",
        "/static/socket",
        "/static/.env",
        "/static/docs/deep/",
        "/static/app.css/",
        "/static/app.css/x",
        "/static//app.css",
        "/static/docs//index.html",
        "/static/docs%2f%2findex.html",
        "/static/%2e%2e%2fapp.css",
        "/static/..%2f..%2fetc%2fpasswd",
        "/static/..%5c..%5cetc%5cpasswd",
        "/static/%252e%252e/app.css",
        "/static/a%c0%ae%c0%ae/x",
    ] {
        let response = get(gateway.address(), target);
        assert!(matches!(response.status, 404 | 400), "{target}: {}", response.status);
        assert!(!response.text().contains("outside"), "{target}");
    }
    let long = "x".repeat(300);
    assert_eq!(get(gateway.address(), &format!("/static/{long}")).status, 404);
    assert_eq!(get(gateway.address(), "/static/a%00.css").status, 400);
    // Links that stay below the root are followed, unless the route says that none is.
    assert_eq!(get(gateway.address(), "/static/inside").text(), "body{}");
    assert_eq!(app.targets(), [""; 0]);
    let gateway = Gateway::start(before(&app, &folder, ", symlinks: false"));
    assert_eq!(get(gateway.address(), "/static/inside").status, 404);
    assert_eq!(get(gateway.address(), "/static/app.css").text(), "body{}");
}

#[test]
fn a_folder_without_its_slash_is_sent_there_with_its_query() {
    let (_folder, gateway, _app) = serving("");
    let response = ask(&gateway, "/static/docs?a=b", "");
    assert_eq!((response.status, response.field("location")), (301, Some("/static/docs/?a=b".into())));
    let response = ask(&gateway, "/static", "");
    assert_eq!((response.status, response.field("location")), (301, Some("/static/".into())));
}

#[test]
fn other_methods_are_told_which_ones_there_are() {
    let (_folder, gateway, app) = serving("");
    let mut client = Client::connect(gateway.address());
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        client.send(format!("{method} /static/app.css HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"));
        let response = client.response();
        assert_eq!((response.status, response.field("allow")), (405, Some("GET, HEAD".into())), "{method}");
    }
    assert_eq!(app.targets(), [""; 0]);
}

#[test]
fn conditions_and_ranges() {
    let (_folder, gateway, _app) = serving("");
    let plain = ask(&gateway, "/static/app.css", "");
    let (tag, date) = (plain.field("etag").unwrap(), plain.field("last-modified").unwrap());
    for (fields, status, body) in [
        (format!("If-None-Match: {tag}\r\n"), 304, ""),
        (format!("If-Modified-Since: {date}\r\n"), 304, ""),
        (format!("If-Match: {tag}\r\nRange: bytes=1-2\r\n"), 206, "od"),
        ("Range: bytes=-2\r\n".into(), 206, "{}"),
        (format!("Range: bytes=0-0\r\nIf-Range: {date}\r\n"), 206, "b"),
        ("Range: bytes=0-0\r\nIf-Range: \"other\"\r\n".into(), 200, "body{}"),
        ("Range: bytes=6-\r\n".into(), 416, ""),
        ("Range: lines=1-\r\n".into(), 200, "body{}"),
    ] {
        let response = ask(&gateway, "/static/app.css", &fields);
        assert_eq!((response.status, response.text()), (status, body.to_owned()), "{fields}");
        let range = response.field("content-range");
        match status {
            206 => assert!(range.unwrap().ends_with("/6"), "{fields}"),
            416 => assert_eq!(range.as_deref(), Some("bytes */6")),
            _ => assert_eq!(range, None, "{fields}"),
        }
        if matches!(status, 200 | 206 | 304) {
            assert_eq!(response.field("etag").as_deref(), Some(&*tag), "{fields}");
        }
    }
    let response = ask(&gateway, "/static/app.css", "If-Match: \"other\"\r\n");
    assert_eq!(response.status, 412);
}

#[test]
fn a_large_file_arrives_whole_and_one_that_shrinks_is_cut_off_visibly() {
    let (folder, gateway, _app) = serving("");
    let body: Vec<u8> =
        (0..8_000_000_u32).map(|at| u8::try_from(at.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect();
    let path = folder.write("large.bin", &body);
    assert!(get(gateway.address(), "/static/large.bin").body == body);
    let mut client = Client::connect_narrow(gateway.address());
    client.send("GET /static/large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    client.exactly(1000);
    std::fs::File::options().write(true).open(path).unwrap().set_len(1_000_000).unwrap();
    let (rest, end) = client.rest();
    assert!(rest.len() < body.len() - 1000 && matches!(end, End::Closed | End::Reset), "{} {end:?}", rest.len());
}
