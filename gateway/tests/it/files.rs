//! Routes that files answer.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::harness::{Client, Config, End, Folder, Gateway, Response, Upstream, eventually, exchange, get, ok, run};
use crate::http2;

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

#[test]
fn several_ranges_come_in_parts() {
    let (_folder, gateway, _app) = serving("");
    let response = ask(&gateway, "/static/app.css", "Range: bytes=0-1,-2\r\n");
    assert_eq!(response.status, 206);
    let kind = response.field("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let part = |range: &str, body: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: text/css; charset=utf-8\r\nContent-Range: bytes {range}/6\r\n\r\n{body}"
        )
    };
    let expected = format!("{}{}\r\n--{boundary}--\r\n", part("0-1", "bo"), part("4-5", "{}"));
    assert_eq!(response.text(), expected);
    // More than there is: all of it, once.
    assert_eq!(ask(&gateway, "/static/app.css", "Range: bytes=0-5,0-5\r\n").text(), "body{}");
}

#[test]
fn a_precompressed_file_is_served_to_those_who_take_it() {
    let (folder, gateway, _app) = serving(", precompressed: true");
    folder.write("app.css.br", "BROTLI");
    folder.write("app.css.gz", "GZIPPED");
    let plain = ask(&gateway, "/static/app.css", "");
    assert_eq!((plain.text(), plain.field("vary")), ("body{}".into(), Some("Accept-Encoding".into())));
    for (accept, coding, body) in
        [("gzip, deflate, br, zstd", "br", "BROTLI"), ("gzip", "gzip", "GZIPPED"), ("br;q=0, gzip", "gzip", "GZIPPED")]
    {
        let fields = format!("Accept-Encoding: {accept}\r\n");
        let response = ask(&gateway, "/static/app.css", &fields);
        assert_eq!((response.field("content-encoding").as_deref(), &*response.text()), (Some(coding), body));
        assert_eq!(response.field("content-type").as_deref(), Some("text/css; charset=utf-8"));
        assert_eq!(response.field("vary").as_deref(), Some("Accept-Encoding"));
        let tag = response.field("etag").unwrap();
        assert_ne!(Some(&tag), plain.field("etag").as_ref());
        // Its own tag is the one that counts, and a range is a range of it.
        let again = ask(&gateway, "/static/app.css", &format!("{fields}If-None-Match: {tag}\r\n"));
        assert_eq!(again.status, 304);
        let part = ask(&gateway, "/static/app.css", &format!("{fields}Range: bytes=0-1\r\nIf-Range: {tag}\r\n"));
        assert_eq!(
            (part.status, &*part.text(), part.field("content-encoding").as_deref()),
            (206, &body[..2], Some(coding))
        );
    }
    assert_eq!(ask(&gateway, "/static/page.html", "Accept-Encoding: br\r\n").field("content-encoding"), None);
}

#[test]
fn a_page_stands_in_for_paths_but_for_no_file_and_no_probe() {
    let folder = Folder::new();
    folder.write("index.html", "the page");
    let app = Upstream::answering(|_| ok("the app"));
    let config = |probes: &str| {
        Config::before(&app).service(&format!(
            "{probes}\nroutes:\n  - {{path: /api/}}\n  - path: /\n    files: {{root: \"{}\", try: index.html}}",
            folder.path().display()
        ))
    };
    let gateway = Gateway::start(config(""));
    for target in ["/", "/users/7", "/users/7/", "/deep/er?x"] {
        assert_eq!(get(gateway.address(), target).text(), "the page", "{target}");
    }
    assert_eq!(get(gateway.address(), "/app.js").status, 404);
    assert_eq!(get(gateway.address(), "/api/x").text(), "the app");
    // Mapped: the app is asked.
    assert_eq!(get(gateway.address(), "/healthz").text(), "the app");
    // Not mapped: whoever asks must not take a page for an answer.
    let gateway = Gateway::start(config("probes: {healthz: off, readyz: off, startupz: off, version: off}"));
    for target in ["/healthz", "/readyz", "/startupz", "/version", "/livez", "/HEALTHZ"] {
        assert_eq!(get(gateway.address(), target).status, 404, "{target}");
    }
    let slash = get(gateway.address(), "/readyz/");
    assert_ne!(slash.text(), "the page");
    // Nor below a prefix.
    let config = Config::before(&app).service(&format!(
        "routes: [{{path: /shop/, files: {{root: \"{}\", try: index.html}}}}]",
        folder.path().display()
    ));
    let gateway = Gateway::start(config);
    assert_eq!(get(gateway.address(), "/shop/chairs/7").text(), "the page");
    for target in ["/shop/healthz", "/shop/readyz", "/shop/a/livez", "/shop/Health", "/shop/ping/"] {
        assert_eq!(get(gateway.address(), target).status, 404, "{target}");
    }
}

#[test]
fn the_app_may_be_asked_where_there_is_no_file() {
    let (_folder, gateway, app) = serving(", missing: app");
    assert_eq!(get(gateway.address(), "/static/missing").text(), "the app");
    assert_eq!(get(gateway.address(), "/static/.env").text(), "the app");
    assert_eq!(get(gateway.address(), "/static/app.css").text(), "body{}");
    assert_eq!(app.targets(), ["/static/missing", "/static/.env"]);
}

#[test]
fn caches_are_told_by_name() {
    let (folder, gateway, _app) = serving(
        ", cache_control: [{match: hashed, set: immutable}, {match: \"*.html\", set: no-cache}, {match: \"docs/*\", set: max-age=5}]",
    );
    folder.write("app.55e7cbb9ba48.css", "hashed");
    for (target, control) in [
        ("/static/app.55e7cbb9ba48.css", Some("public, max-age=31536000, immutable")),
        ("/static/page.html", Some("no-cache")),
        ("/static/docs/", Some("no-cache")),
        ("/static/docs/deep/a%20b.txt", Some("max-age=5")),
        ("/static/app.css", None),
    ] {
        assert_eq!(get(gateway.address(), target).field("cache-control").as_deref(), control, "{target}");
    }
}

#[test]
fn a_folder_shows_what_is_in_it_only_where_that_is_said() {
    let (folder, gateway, _app) = serving(", listing: true");
    folder.write("docs/deep/<b>.txt", "");
    folder.write("docs/deep/.hidden", "");
    let page = get(gateway.address(), "/static/docs/deep/");
    assert_eq!((page.status, page.field("content-security-policy").as_deref()), (200, Some("default-src 'none'")));
    let text = page.text();
    assert!(text.contains("href=\"./a%20b.txt\"") && text.contains("&lt;b&gt;") && !text.contains("hidden"), "{text}");
    assert_eq!(get(gateway.address(), "/static/docs/").text(), "the docs");
}

#[test]
fn changes_show_within_moments() {
    let (folder, gateway, _app) = serving("");
    assert_eq!(get(gateway.address(), "/static/app.css").text(), "body{}");
    folder.write("app.css", "body{color:red}");
    eventually("the change shows", || {
        (get(gateway.address(), "/static/app.css").text() == "body{color:red}").then_some(())
    });
    std::fs::remove_file(folder.path().join("app.css")).unwrap();
    eventually("it is gone", || (get(gateway.address(), "/static/app.css").status == 404).then_some(()));
    // A deployment puts another folder in the place of the root.
    let (one, two, place) = (Folder::new(), Folder::new(), Folder::new());
    one.write("a", "one");
    two.write("a", "two");
    let link = place.path().join("current");
    symlink(one.path(), &link).unwrap();
    let app = Upstream::answering(|_| ok(""));
    let files = format!("routes:\n  - {{path: /static/, files: {{root: \"{}\"}}}}", link.display());
    let gateway = Gateway::start(Config::before(&app).service(&files));
    assert_eq!(get(gateway.address(), "/static/a").text(), "one");
    symlink(two.path(), place.path().join("next")).unwrap();
    std::fs::rename(place.path().join("next"), &link).unwrap();
    eventually("the new folder", || (get(gateway.address(), "/static/a").text() == "two").then_some(()));
}

#[test]
fn over_http2_and_with_compression() {
    let folder = Folder::new();
    let text = "words and words ".repeat(10_000);
    folder.write("large.txt", &text);
    folder.write("large.bin", &text);
    let app = Upstream::answering(|_| ok(""));
    let config = before(&app, &folder, "").service("compression: {}");
    let gateway = Gateway::start(http2::with_http2(&config));
    for name in ["large.txt", "large.bin"] {
        let url = format!("http://{}/static/{name}", gateway.address());
        for more in [
            &["--http2-prior-knowledge"][..],
            &["--http1.1", "--compressed"],
            &["--http2-prior-knowledge", "--compressed"],
        ] {
            let ended = run(Command::new("curl").args(["-sS"]).args(more).arg(&url));
            assert!(ended.out == text, "{name} {more:?}: {} {}", ended.out.len(), ended.err);
        }
        let ended = run(Command::new("curl").args(["-sS", "--http2-prior-knowledge", "-r", "6-8,-5"]).arg(&url));
        assert!(ended.out.contains("\r\n\r\nand\r\n--") && ended.out.contains("ords "), "{}", ended.out);
    }
}
