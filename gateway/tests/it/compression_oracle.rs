//! nginx as the oracle for compression: the same requests for the same answers and files to both, gzip alone, and the same decisions, but for the
//! differences that are listed here with what speaks for them. A difference that explains nothing any more has to go.

use std::fs::File;
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use crate::compression::decoded;
use crate::files_oracle::nginx;
use crate::harness::{Client, Config, Folder, Gateway, Request, Response, Upstream};

/// What of an answer differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aspect {
    Status,
    /// Whether it is compressed.
    Coding,
    /// Whether caches are told that it depends on `Accept-Encoding`.
    Vary,
    /// Its tag.
    Tag,
    Length,
    Ranges,
    /// What is left when the coding is undone.
    Body,
}
use Aspect::{Coding, Length, Ranges, Tag, Vary};

/// A difference: what differs, in which cases (a word of the request), and why.
struct Difference {
    aspects: &'static [Aspect],
    within: &'static [&'static str],
    #[expect(dead_code, reason = "for readers")]
    because: &'static str,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        aspects: &[Coding, Vary],
        within: &[" /no-transform "],
        because: "RFC 9111 §5.2.2.6: the app forbids it; nginx does not look",
    },
    Difference {
        aspects: &[Coding, Vary],
        within: &[" /digest "],
        because: "RFC 9530 §3.1: the digest is one of the bytes that the app sent",
    },
    Difference {
        aspects: &[Coding, Vary],
        within: &[" /vary-cookie ", " /cookie ", " /private ", " /no-store "],
        because: "BREACH: what is for one person is not compressed unless told",
    },
    Difference {
        aspects: &[Coding, Vary],
        within: &[" /events "],
        because: "events are small and told as they happen, whatever the list of types says",
    },
    Difference {
        aspects: &[Coding, Vary],
        within: &[" /created ", " /moved ", " /invalid ", " /broken "],
        because: "a body shrinks under any status; nginx knows 200, 403 and 404",
    },
    Difference {
        aspects: &[Tag, Ranges],
        within: &[" /static/both.html "],
        because: "as for files without compression: a variant has a tag of its own, and ranges",
    },
    Difference {
        aspects: &[Coding, Tag, Ranges, Aspect::Body],
        within: &[" 1.0 "],
        because: "who says that it reads gzip does, and the connection's end ends the body; nginx has gzip_http_version",
    },
    Difference {
        aspects: &[Coding, Tag, Ranges, Aspect::Body],
        within: &["Accept-Encoding: *\\r\\n"],
        because: "RFC 9110 §12.5.3: the star stands for every coding; nginx looks for the word",
    },
    Difference { aspects: &[Coding], within: &["x-gzip"], because: "RFC 9110 §8.4.1.3: another name of gzip" },
    Difference {
        aspects: &[Coding],
        within: &["gzip;level=9"],
        because: "a parameter that nobody knows is no weight; nginx takes what it can not read for zero",
    },
    Difference {
        aspects: &[Coding],
        within: &["identity, gzip;q=0.5"],
        because: "RFC 9110 §12.5.3: the client likes the plain answer better",
    },
    Difference {
        aspects: &[Coding],
        within: &["br\\r\\nAccept-Encoding: gzip"],
        because: "RFC 9110 §5.3: two lines are one list",
    },
    Difference {
        aspects: &[Vary, Tag],
        within: &["If-None-Match", "If-Modified-Since"],
        because: "RFC 9110 §15.4.5: a 304 says what the 200 would have said",
    },
    Difference {
        aspects: &[Aspect::Status],
        within: &["gzip\\r\\nRange: "],
        because: "RFC 9110 §14.2: a range is one of the file as it lies there; nginx sends all of it, compressed",
    },
    Difference {
        aspects: &[Ranges],
        within: &["Range: "],
        because: "ranges are taken all the same; nginx leaves the field out of 206",
    },
];

/// What the app answers: its path, status, and fields.
const ANSWERS: &[(&str, &str, &str)] = &[
    ("/html", "200 OK", "Content-Type: text/html\r\n"),
    ("/html-utf8", "200 OK", "Content-Type: Text/HTML; charset=utf-8\r\n"),
    ("/json", "200 OK", "Content-Type: application/json\r\n"),
    ("/svg", "200 OK", "Content-Type: image/svg+xml\r\n"),
    ("/png", "200 OK", "Content-Type: image/png\r\n"),
    ("/csv", "200 OK", "Content-Type: text/csv\r\n"),
    ("/untyped", "200 OK", ""),
    ("/short", "200 OK", "Content-Type: text/html\r\n"),
    ("/just", "200 OK", "Content-Type: text/html\r\n"),
    ("/chunked", "200 OK", "Content-Type: text/html\r\nTransfer-Encoding: chunked\r\n"),
    ("/chunked-short", "200 OK", "Content-Type: text/html\r\nTransfer-Encoding: chunked\r\n"),
    ("/encoded", "200 OK", "Content-Type: text/html\r\nContent-Encoding: br\r\n"),
    ("/identity", "200 OK", "Content-Type: text/html\r\nContent-Encoding: identity\r\n"),
    ("/no-transform", "200 OK", "Content-Type: text/html\r\nCache-Control: public, no-transform\r\n"),
    ("/digest", "200 OK", "Content-Type: text/html\r\nRepr-Digest: sha-256=:abc:\r\n"),
    ("/tag", "200 OK", "Content-Type: text/html\r\nETag: \"a\"\r\n"),
    ("/weak", "200 OK", "Content-Type: text/html\r\nETag: W/\"a\"\r\n"),
    ("/ranges", "200 OK", "Content-Type: text/html\r\nAccept-Ranges: bytes\r\n"),
    ("/vary", "200 OK", "Content-Type: text/html\r\nVary: Accept\r\n"),
    ("/vary-too", "200 OK", "Content-Type: text/html\r\nVary: Accept-Encoding\r\n"),
    ("/vary-cookie", "200 OK", "Content-Type: text/html\r\nVary: Cookie\r\n"),
    ("/cookie", "200 OK", "Content-Type: text/html\r\nSet-Cookie: a=b\r\n"),
    ("/private", "200 OK", "Content-Type: text/html\r\nCache-Control: private\r\n"),
    ("/no-store", "200 OK", "Content-Type: text/html\r\nCache-Control: no-store\r\n"),
    ("/public", "200 OK", "Content-Type: text/html\r\nCache-Control: max-age=60\r\n"),
    ("/events", "200 OK", "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"),
    ("/created", "201 Created", "Content-Type: application/json\r\n"),
    ("/nothing", "204 No Content", ""),
    ("/part", "206 Partial Content", "Content-Type: text/html\r\nContent-Range: bytes 0-1999/9999\r\n"),
    ("/moved", "301 Moved Permanently", "Content-Type: text/html\r\nLocation: /html\r\n"),
    ("/same", "304 Not Modified", "ETag: \"a\"\r\n"),
    ("/forbidden", "403 Forbidden", "Content-Type: text/html\r\n"),
    ("/missing", "404 Not Found", "Content-Type: text/html\r\n"),
    ("/invalid", "422 Unprocessable Content", "Content-Type: application/json\r\n"),
    ("/broken", "500 Internal Server Error", "Content-Type: text/html\r\n"),
];

/// What clients say they accept.
const ACCEPTS: &[&str] = &[
    "",
    "Accept-Encoding:",
    "Accept-Encoding: gzip",
    "Accept-Encoding: GZip",
    "Accept-Encoding: x-gzip",
    "Accept-Encoding: gzipped",
    "Accept-Encoding: br",
    "Accept-Encoding: br, gzip",
    "Accept-Encoding: br,gzip",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Encoding: gzip;q=1",
    "Accept-Encoding: gzip;q=1.000",
    "Accept-Encoding: gzip;q=0.001",
    "Accept-Encoding: gzip;q=0",
    "Accept-Encoding: gzip;q=0.000",
    "Accept-Encoding: gzip; q=0",
    "Accept-Encoding: gzip ; q=0.5",
    "Accept-Encoding: gzip;Q=0.5",
    "Accept-Encoding: gzip;q=2",
    "Accept-Encoding: gzip;q=0.0001",
    "Accept-Encoding: gzip;q=.5",
    "Accept-Encoding: gzip;q=",
    "Accept-Encoding: gzip;level=9",
    "Accept-Encoding: *",
    "Accept-Encoding: *;q=0",
    "Accept-Encoding: *;q=0.5, gzip;q=0",
    "Accept-Encoding: gzip, *;q=0",
    "Accept-Encoding: identity",
    "Accept-Encoding: identity, gzip",
    "Accept-Encoding: identity;q=0",
    "Accept-Encoding: gzip, identity;q=0",
    "Accept-Encoding: identity, gzip;q=0.5",
    "Accept-Encoding: gzip, identity;q=0.5",
    "Accept-Encoding: , gzip",
    "Accept-Encoding: deflate",
    "Accept-Encoding: br\r\nAccept-Encoding: gzip",
    "Accept-Encoding: gzip\r\nVia: 1.1 proxy",
];

/// Files: one without and one with a variant beside it among them.
const FILES: &[&str] =
    &["/static/page.html", "/static/short.html", "/static/image.png", "/static/both.html", "/static/app.js"];

const CONDITIONS: &[&str] = &[
    "If-None-Match: TAG",
    "If-None-Match: W/TAG",
    "If-None-Match: \"other\"",
    "If-Modified-Since: DATE",
    "If-Match: TAG",
    "If-Match: W/TAG",
    "Range: bytes=0-9",
    "Range: bytes=9999999-",
    "Range: bytes=0-9\r\nIf-Range: TAG",
    "Range: bytes=0-9\r\nIf-Range: W/TAG",
    "Range: bytes=0-9\r\nIf-Range: DATE",
];

const GZIP: &str = "Accept-Encoding: gzip";

/// Method, version, target and fields.
fn cases() -> Vec<(&'static str, &'static str, &'static str, String)> {
    let mut cases = Vec::new();
    for (target, ..) in ANSWERS {
        for accept in ["", GZIP] {
            cases.push(("GET", "1.1", *target, accept.to_owned()));
        }
        cases.push(("HEAD", "1.1", *target, GZIP.to_owned()));
        cases.push(("GET", "1.0", *target, GZIP.to_owned()));
    }
    cases.extend(ACCEPTS.iter().map(|accept| ("GET", "1.1", "/html", (*accept).to_owned())));
    cases.push(("POST", "1.1", "/html", format!("{GZIP}\r\nContent-Length: 0")));
    cases.push(("GET", "1.1", "/html", format!("{GZIP}\r\nRange: bytes=0-9")));
    for target in FILES {
        for accept in ["", GZIP, "Accept-Encoding: gzip;q=0", "Accept-Encoding: *"] {
            cases.push(("GET", "1.1", *target, accept.to_owned()));
        }
        cases.push(("HEAD", "1.1", *target, GZIP.to_owned()));
        cases.push(("GET", "1.0", *target, GZIP.to_owned()));
        for condition in CONDITIONS {
            for accept in ["", GZIP] {
                cases.push(("GET", "1.1", *target, format!("{accept}\r\n{condition}").trim_start().to_owned()));
            }
        }
    }
    cases
}

fn page(bytes: usize) -> String {
    "<p>words and words</p>\n".chars().cycle().take(bytes).collect()
}

fn answer(request: &Request) -> String {
    let target = request.target();
    let Some((_, status, fields)) = ANSWERS.iter().find(|(path, ..)| *path == target) else {
        return "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned();
    };
    let body = match &*target {
        "/short" | "/chunked-short" => page(255),
        "/just" => page(256),
        _ => page(2000),
    };
    let head = request.line().starts_with("HEAD ");
    if fields.contains("chunked") {
        let body = if head { String::new() } else { format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()) };
        return format!("HTTP/1.1 {status}\r\n{fields}\r\n{body}");
    }
    if matches!(&*target, "/nothing" | "/same") {
        return format!("HTTP/1.1 {status}\r\n{fields}\r\n");
    }
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{}", body.len(), if head { "" } else { &body })
}

fn ask(to: SocketAddr, method: &str, version: &str, target: &str, fields: &str) -> Response {
    let mut client = Client::connect(to);
    let fields = if fields.is_empty() { String::new() } else { format!("{fields}\r\n") };
    client.send(format!("{method} {target} HTTP/{version}\r\nHost: localhost\r\n{fields}\r\n"));
    match (method, version) {
        ("HEAD", _) => client.response_to_head(),
        (_, "1.0") => client.response_and_end().0,
        _ => client.response(),
    }
}

/// What differs between two answers.
fn compare(ours: &Response, theirs: &Response) -> Vec<(Aspect, String)> {
    if ours.status != theirs.status {
        return vec![(Aspect::Status, format!("{}/{}", ours.status, theirs.status))];
    }
    // Errors are everybody's own.
    if matches!(ours.status, 412 | 416) {
        return Vec::new();
    }
    let varies = |response: &Response| {
        let mut vary = response.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("vary"));
        vary.any(|(_, value)| value.to_ascii_lowercase().contains("accept-encoding"))
    };
    let field = |name: &str| (ours.field(name), theirs.field(name));
    let mut found = Vec::new();
    let mut differs = |aspect, one: String, other: String| {
        if one != other {
            found.push((aspect, format!("{one:.60}/{other:.60}")));
        }
    };
    let text = |(one, other): (Option<String>, Option<String>)| (format!("{one:?}"), format!("{other:?}"));
    let (one, other) = text(field("content-encoding"));
    let same_coding = one == other;
    differs(Coding, one, other);
    differs(Vary, varies(ours).to_string(), varies(theirs).to_string());
    let (one, other) = text(field("etag"));
    differs(Tag, one, other);
    let (one, other) = text(field("accept-ranges"));
    differs(Ranges, one, other);
    if same_coding && ours.status != 304 {
        let (one, other) = text(field("content-length"));
        differs(Length, one, other);
    }
    if ours.status == 200 {
        let plain = |response: &Response| match response.field("content-encoding").as_deref() {
            Some("gzip") if response.body.starts_with(&[0x1f, 0x8b]) => decoded("gzip", &response.body),
            _ => response.text(),
        };
        differs(Aspect::Body, plain(ours), plain(theirs));
    }
    found
}

#[test]
fn answers_are_compressed_as_nginx_compresses_them_but_for_what_is_listed() {
    let (folder, place) = (Folder::new(), Folder::new());
    let made = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for (name, content) in [
        ("page.html", page(2000)),
        ("short.html", page(255)),
        ("image.png", page(2000)),
        ("both.html", page(2000)),
        ("both.html.gz", "made before".to_owned()),
        ("app.js", page(2000)),
    ] {
        let path = folder.write(name, content);
        File::options().write(true).open(path).unwrap().set_modified(made).unwrap();
    }
    let app = Upstream::answering(answer);
    let root = folder.path().display();
    let types = "text/html application/json image/svg+xml text/event-stream text/javascript application/javascript";
    let directives = format!(
        "gzip on; gzip_static on; gzip_vary on; gzip_proxied any; gzip_min_length 256;\n\
         gzip_types {};\n",
        types.trim_start_matches("text/html ")
    );
    let locations = format!(
        "location /static/ {{ alias {root}/; }}\n\
         location / {{ proxy_pass http://{}; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}",
        app.server()
    );
    let (nginx, theirs) = nginx(&place, &directives, &locations);
    let config = Config::before(&app).service(&format!(
        "compression: {{encodings: [gzip], min_length: 256, types: [{}]}}\n\
         routes: [{{path: /static/, files: {{root: \"{root}\", precompressed: true}}}}]",
        types.replace(' ', ", ")
    ));
    let gateway = Gateway::start(config);
    let mut used = vec![false; DIFFERENCES.len()];
    let mut unexplained = Vec::new();
    for (method, version, target, fields) in cases() {
        let plain = ask(theirs, "HEAD", "1.1", target, "");
        let tag = plain.field("etag").unwrap_or_default();
        let real = fields.replace("TAG", &tag).replace("DATE", &plain.field("last-modified").unwrap_or_default());
        let one = ask(gateway.address(), method, version, target, &real);
        let other = ask(theirs, method, version, target, &real);
        let about = format!("{method} {target} {version} {}\\r\\n", fields.replace("\r\n", "\\r\\n"));
        for (aspect, values) in compare(&one, &other) {
            let is_it = |difference: &Difference| {
                difference.aspects.contains(&aspect) && difference.within.iter().any(|word| about.contains(word))
            };
            match DIFFERENCES.iter().position(is_it) {
                Some(at) => used[at] = true,
                None => unexplained.push(format!("{about}: {aspect:?} {values}")),
            }
        }
    }
    nginx.end("TERM");
    assert!(unexplained.is_empty(), "differences that nobody argues for:\n  {}", unexplained.join("\n  "));
    let idle = DIFFERENCES.iter().zip(used).filter(|(_, used)| !used);
    let idle: Vec<_> = idle.map(|(difference, _)| (difference.aspects, difference.within)).collect();
    assert!(idle.is_empty(), "these differences explain nothing: {idle:?}");
}
