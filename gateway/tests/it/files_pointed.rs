//! Files that the app points to: `X-Accel-Redirect` and `X-Sendfile`.

use std::sync::{Arc, Mutex};

use crate::harness::{Client, Config, Folder, Gateway, Response, Upstream, exchange, get, ok, wait_for_metric};

/// An app whose answer to `/SOMETHING` carries these fields, before a folder with protected files.
fn pointing(fields: impl Fn(&str, &Folder) -> String + Send + Sync + 'static) -> (Upstream, Gateway, Folder) {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("media")).unwrap();
    folder.write("media/a.txt", "protected");
    folder.write("media/a b ü.txt", "named oddly");
    folder.write("secret", "not below the root");
    let root = folder.path().display().to_string();
    let shared = Folder::new();
    let media = folder.path().join("media").display().to_string();
    let app = Upstream::answering(move |request| {
        let fields = fields(&request.target(), &shared).replace("MEDIA", &media);
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 7\r\n\r\nthe app")
    });
    let config = Config::before(&app).service(&format!(
        "routes:\n  - {{path: /protected/, files: {{root: \"{root}/media\", internal: true, x_sendfile: true}}}}\n  \
         - {{path: /public/, files: {{root: \"{root}\"}}}}"
    ));
    let gateway = Gateway::start(config);
    (app, gateway, folder)
}

fn redirect(to: &str) -> String {
    format!("X-Accel-Redirect: {to}\r\n")
}

fn no_trace(response: &Response) {
    let head = format!("{response:?}").to_lowercase();
    assert!(!head.contains("x-accel") && !head.contains("x-sendfile"), "{head}");
}

#[test]
fn the_app_points_and_the_file_is_sent() {
    let (app, gateway, _folder) = pointing(|target, _| match target {
        "/a" => redirect("/protected/a.txt"),
        "/odd" => redirect("/protected/a%20b%20%C3%BC.txt"),
        "/raw" => redirect("/protected/a b ü.txt"),
        "/sendfile" => "X-Sendfile: MEDIA/a.txt\r\n".into(),
        _ => "Content-Type: text/plain\r\n".into(),
    });
    for (target, body) in [
        ("/a", "protected"),
        ("/odd", "named oddly"),
        ("/raw", "named oddly"),
        ("/sendfile", "protected"),
        ("/", "the app"),
    ] {
        let response = get(gateway.address(), target);
        assert_eq!((response.status, response.text()), (200, body.to_owned()), "{target}");
        no_trace(&response);
    }
    // For clients, nothing is there.
    let response = get(gateway.address(), "/protected/a.txt");
    assert_eq!(response.status, 404);
    assert_eq!(app.targets().len(), 5);
    let line = gateway.access("/a");
    assert_eq!(
        (&line["decision"], &line["status"], &line["upstream_status"]),
        (&"file".into(), &200.into(), &200.into())
    );
    // One connection to the app: what the app sent beside is nobody's, and does not get in the way.
    assert_eq!(app.connections(), 1);
}

#[test]
fn conditions_ranges_and_methods_are_those_of_the_request() {
    let (_app, gateway, _folder) = pointing(|_, _| redirect("/protected/a.txt") + "ETag: \"app\"\r\n");
    let ask = |fields: &str| exchange(gateway.address(), format!("GET /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    let plain = ask("");
    let tag = plain.field("etag").unwrap();
    assert_ne!(tag, "\"app\"");
    assert_eq!(ask(&format!("If-None-Match: {tag}\r\n")).status, 304);
    let part = ask("Range: bytes=0-2\r\n");
    assert_eq!((part.status, part.text()), (206, "pro".to_owned()));
    assert_eq!(ask("Range: bytes=100-\r\n").status, 416);
    let mut client = Client::connect(gateway.address());
    client.send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to_head().field("content-length").as_deref(), Some("9"));
    // A form that answers with a file gets all of it.
    client.send(format!(
        "POST /x HTTP/1.1\r\nHost: a\r\nIf-None-Match: {tag}\r\nRange: bytes=0-1\r\nContent-Length: 2\r\n\r\nhi"
    ));
    let response = client.response();
    assert_eq!((response.status, response.text()), (200, "protected".to_owned()));
}

#[test]
fn what_the_app_says_about_the_answer_stays_and_what_it_says_about_its_body_does_not() {
    let (_app, gateway, _folder) = pointing(|_, _| {
        redirect("/protected/a.txt")
            + "Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\nSet-Cookie: a=1\r\n\
               Set-Cookie: b=2\r\nCache-Control: private\r\nExpires: 0\r\nX-Frame-Options: DENY\r\nAccess-Control-Allow-Origin: *\r\n\
               Content-Encoding: gzip\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Accel-Expires: 10\r\nX-Accel-Limit-Rate: 1000000\r\n\
               X-Accel-Buffering: yes\r\n"
    });
    let response = get(gateway.address(), "/x");
    assert_eq!(response.text(), "protected");
    for (name, value) in [
        ("content-type", Some("application/pdf")),
        ("content-disposition", Some("attachment; filename=a.pdf")),
        ("cache-control", Some("private")),
        ("expires", Some("0")),
        ("x-frame-options", Some("DENY")),
        ("access-control-allow-origin", Some("*")),
        ("content-encoding", None),
        ("content-length", Some("9")),
    ] {
        assert_eq!(response.field(name).as_deref(), value, "{name}");
    }
    assert_ne!(response.field("last-modified").as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(format!("{response:?}").to_lowercase().matches("set-cookie").count(), 2);
    no_trace(&response);

    let (_app, gateway, _folder) = pointing(|_, _| redirect("/protected/a.txt") + "X-Accel-Charset: koi8-r\r\n");
    assert_eq!(get(gateway.address(), "/x").field("content-type").as_deref(), Some("text/plain; charset=koi8-r"));
}

#[test]
fn what_the_app_may_not_have_sent_is_not() {
    let values = [
        ("X-Accel-Redirect: /protected/../secret", 502),
        ("X-Accel-Redirect: /protected/%2e%2e/secret", 502),
        ("X-Accel-Redirect: /protected/..%2fsecret", 502),
        ("X-Accel-Redirect: /public/secret", 502),
        ("X-Accel-Redirect: /elsewhere", 502),
        ("X-Accel-Redirect: @named", 502),
        ("X-Accel-Redirect:", 502),
        ("X-Sendfile: MEDIA/../secret", 502),
        ("X-Sendfile: /etc/passwd", 502),
        ("X-Sendfile: a.txt", 502),
        ("X-Accel-Redirect: /protected/missing", 404),
        ("X-Accel-Redirect: /protected/", 404),
        ("X-Accel-Redirect: /protected", 404),
    ];
    let (_app, gateway, _folder) = pointing(move |target, _| {
        let at: usize = target[1..].parse().unwrap();
        format!("{}\r\n", values[at].0)
    });
    for (at, (value, status)) in values.iter().enumerate() {
        let response = get(gateway.address(), &format!("/{at}"));
        assert!(matches!(response.status, 404 | 502) && response.status == *status, "{value}: {}", response.status);
        assert!(!response.text().contains("not below"), "{value}");
        no_trace(&response);
    }
    assert_eq!(gateway.access("/8")["reason"], "file_refused");
}

#[test]
fn without_a_route_for_it_the_answer_passes_as_it_is_and_the_field_does_not() {
    let app = Upstream::answering(|_| {
        "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /protected/a\r\nX-Sendfile: /etc/passwd\r\nContent-Length: 7\r\n\r\nthe app".to_owned()
    });
    let gateway = Gateway::start(Config::before(&app));
    let response = get(gateway.address(), "/");
    assert_eq!(response.text(), "the app");
    no_trace(&response);
}

#[test]
fn clients_can_not_tell_the_app_how_files_are_sent() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    exchange(
        gateway.address(),
        "GET / HTTP/1.1\r\nHost: a\r\nX-Sendfile-Type: X-Accel-Redirect\r\nX-Accel-Mapping: /=/etc/\r\nX-Accelerate: 1\r\n\r\n",
    );
    let request = app.request();
    assert_eq!((request.field("x-sendfile-type"), request.field("x-accel-mapping")), (None, None));
    assert_eq!(request.field("x-accelerate").as_deref(), Some("1"));
}

#[test]
fn rfc_9110_7_6_1_fields_for_this_hop_and_words_about_the_body_do_not_reach_the_client() {
    let (_app, gateway, _folder) = pointing(|_, _| {
        redirect("/protected/a.txt")
            + "Connection: X-Hop, keep-alive\r\nX-Hop: for the gateway\r\nX-End: for all\r\n\
               Content-MD5: abc\r\nSignature: sig1=:abc:\r\nSignature-Input: sig1=()\r\n"
    });
    let response = get(gateway.address(), "/x");
    assert_eq!((response.text().as_str(), response.field("x-end").as_deref()), ("protected", Some("for all")));
    for name in ["x-hop", "content-md5", "signature", "signature-input"] {
        assert_eq!(response.field(name), None, "{name}");
    }
}

#[test]
fn a_range_that_is_not_there_keeps_what_the_app_says() {
    let (_app, gateway, _folder) =
        pointing(|_, _| redirect("/protected/a.txt") + "Set-Cookie: a=b\r\nAccess-Control-Allow-Origin: *\r\n");
    let response = exchange(gateway.address(), "GET /x HTTP/1.1\r\nHost: a\r\nRange: bytes=100-\r\n\r\n");
    assert_eq!((response.status, response.field("content-range").as_deref()), (416, Some("bytes */9")));
    assert_eq!(response.field("set-cookie").as_deref(), Some("a=b"));
    assert_eq!(response.field("access-control-allow-origin").as_deref(), Some("*"));
}

#[test]
fn x_sendfile_knows_a_root_by_its_whole_path_however_it_is_written() {
    let said = Arc::new(Mutex::new(String::new()));
    let says = Arc::clone(&said);
    let app = Upstream::answering(move |_| {
        format!("HTTP/1.1 200 OK\r\nX-Sendfile: {}\r\nContent-Length: 0\r\n\r\n", says.lock().unwrap())
    });
    let place = Folder::new();
    std::fs::create_dir_all(place.path().join("etc")).unwrap();
    std::fs::create_dir_all(place.path().join("media")).unwrap();
    place.write("media/a.txt", "protected");
    let path = place.path().join("media/a.txt").display().to_string();
    for root in [
        format!("{}/etc/../media", place.path().display()),
        format!("{}/./media/", place.path().display()),
        // From the folder of the configuration, which lies beside this one.
        format!("../{}/media", place.path().file_name().unwrap().display()),
    ] {
        let config = Config::before(&app).service(&format!(
            "routes: [{{path: /protected/, files: {{root: \"{root}\", internal: true, x_sendfile: true}}}}]"
        ));
        let gateway = Gateway::start(config);
        said.lock().unwrap().clone_from(&path);
        assert_eq!(get(gateway.address(), "/x").text(), "protected", "{root}");
        *said.lock().unwrap() = format!("{}/media/../etc/x", place.path().display());
        assert_eq!(get(gateway.address(), "/x").status, 502, "{root}");
    }
}

#[test]
fn an_upload_is_forgotten_while_a_file_answers_it() {
    let (_app, gateway, folder) = pointing(|_, _| redirect("/protected/large.bin"));
    folder.write("media/large.bin", vec![b'x'; 16 << 20]);
    let mut slow = Client::connect_narrow(gateway.address());
    slow.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n");
    slow.send(vec![b'x'; 600_000]);
    slow.head();
    for place in ["memory", "disk"] {
        wait_for_metric(&gateway, &format!("probegate_buffered_bytes{{place=\"{place}\"}}"), 0.0);
    }
    assert_eq!(slow.exactly(16 << 20).len(), 16 << 20);
}
