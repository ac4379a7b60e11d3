//! nginx as the oracle for files: the same requests for the same folder to both, and the same answers, but for the differences that are listed here with
//! what speaks for them. A difference that explains nothing any more has to go.

use std::fs::File;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use crate::harness::{
    Client, Config, Folder, Gateway, Program, Response, Upstream, accepts, eventually, free_address, ok,
};

/// What of an answer differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aspect {
    Status,
    Body,
    Field(&'static str),
}
use Aspect::{Field, Status};

/// Fields that are compared, where both answers have the same status.
const FIELDS: [&str; 9] = [
    "content-type",
    "content-length",
    "content-range",
    "content-encoding",
    "etag",
    "last-modified",
    "accept-ranges",
    "location",
    "vary",
];

/// A difference: what differs, in which cases (a word of the request, or of both answers as "OURS/THEIRS"), and why.
struct Difference {
    aspect: Aspect,
    within: &'static [&'static str],
    #[expect(dead_code, reason = "for readers")]
    because: &'static str,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        aspect: Field("content-type"),
        within: &[
            " /static/app.css",
            " /static/page.html",
            " /static/docs/ ",
            " /static/docs/index.html",
            " /static/%61pp.css",
            " /static/docs/../app.css",
            " /static/a%20b.txt",
        ],
        because: "text says that it is UTF-8: without a word, browsers guess",
    },
    Difference {
        aspect: Field("content-type"),
        within: &[" /static/app.js"],
        because: "RFC 9239: JavaScript is text/javascript",
    },
    Difference {
        aspect: Field("content-length"),
        within: &["-1,2-3", "-1,-2"],
        because: "parts name the type with its charset, and are separated by another text",
    },
    Difference {
        aspect: Field("etag"),
        within: &["Accept-Encoding: gzip"],
        because: "RFC 9110 §8.8.3.3: a variant has a tag of its own, whatever its size and time",
    },
    Difference {
        aspect: Status,
        within: &["If-Modified-Since: Sun, 06 Nov 2044"],
        because: "RFC 9110 §13.1.3: not modified since a later date is not modified; nginx compares for equality",
    },
    Difference {
        aspect: Status,
        within: &[
            "If-None-Match: \"other\"\\r\\nIf-Modified-Since",
            "If-None-Match: TAG\\r\\nIf-Modified-Since: Sun, 06 Nov 1994",
        ],
        because: "RFC 9110 §13.2.2: with If-None-Match, If-Modified-Since is ignored; nginx wants both to hold",
    },
    Difference {
        aspect: Status,
        within: &["HEAD /static/app.css Range"],
        because: "RFC 9110 §14.2: ranges are defined for GET alone",
    },
    Difference {
        aspect: Status,
        within: &[" /static//app.css", " /static/docs//index.html"],
        because: "an empty segment is part of a name, and no file's; nginx merges slashes",
    },
    Difference {
        aspect: Status,
        within: &["/static/.env", "/static/.git/config"],
        because: "what begins with a dot is not shown unless asked for; nginx shows it",
    },
    Difference {
        aspect: Status,
        within: &["/static/empty/", " /static/ "],
        because: "403 would tell that there is a folder",
    },
    Difference {
        aspect: Status,
        within: &["/static/link"],
        because: "a link that leads out of the root is not followed; nginx does without disable_symlinks",
    },
    Difference {
        aspect: Status,
        within: &["/static/..%2f", "/static/%252e%252e%252f", "/static/..%5c"],
        because: "another reading leads to another part of the service: refused before any file is looked for",
    },
    Difference {
        aspect: Status,
        within: &["Range: bytes=0-1,\\r\\n", "Range: bytes=,0-1"],
        because: "RFC 9110 §5.6.1: empty elements of a list are ignored",
    },
    Difference {
        aspect: Field("accept-ranges"),
        within: &["Range: ", "Accept-Encoding: gzip"],
        because: "ranges are taken all the same; nginx leaves the field out of 206 and of variants",
    },
    Difference {
        aspect: Status,
        within: &["Range: bytes=2-99999999999999999999"],
        because: "RFC 9110 §14.1.2: a last position behind the end is the end, however far behind",
    },
    Difference {
        aspect: Status,
        within: &["Range: bytes=\\r\\n"],
        because: "a list without a range can be read no better than others that can not; nginx ignores this one alone",
    },
    Difference {
        aspect: Status,
        within: &["Accept-Encoding: gzip\\r\\nRange"],
        because: "RFC 9110 §14.2: a range is one of the representation that was chosen; nginx sends all of a variant",
    },
    Difference {
        aspect: Status,
        within: &["/static/nothing.bin Range"],
        because: "RFC 9110 §15.5.17: nothing of an empty file lies in any range",
    },
    Difference {
        aspect: Status,
        within: &["Range: bytes=0-1\\r\\nRange"],
        because: "two lines: nobody knows which one is meant; nginx takes the first",
    },
];

/// The requests: method and target, fields.
const TARGETS: &[&str] = &[
    "/static/app.css",
    "/static/app.js",
    "/static/page.html",
    "/static/image.png",
    "/static/unknown.xyz",
    "/static/README",
    "/static/nothing.bin",
    "/static/a%20b.txt",
    "/static/%61pp.css",
    "/static/docs/../app.css",
    "/static/docs/",
    "/static/docs",
    "/static/docs?x=y",
    "/static/docs/index.html",
    "/static/empty/",
    "/static/empty",
    "/static/",
    "/static/missing",
    "/static/missing/",
    "/static/app.css/",
    "/static/app.css/x",
    "/static/app.css?query",
    "/static//app.css",
    "/static/docs//index.html",
    "/static/.env",
    "/static/.git/config",
    "/static/..%2f..%2fetc%2fpasswd",
    "/static/../../etc/passwd",
    "/static/%2e%2e/%2e%2e/etc/passwd",
    "/static/%252e%252e%252fapp.css",
    "/static/..%5capp.css",
    "/static/a%00.css",
    "/static/%zz",
    "/static/link",
    "/static/inside",
    "/static/pipe%20that%20is%20not%20there",
];

const FIELD_SETS: &[&str] = &[
    "If-None-Match: TAG",
    "If-None-Match: W/TAG",
    "If-None-Match: *",
    "If-None-Match: \"other\"",
    "If-None-Match: \"other\", TAG",
    "If-None-Match: TAG\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
    "If-None-Match: \"other\"\r\nIf-Modified-Since: DATE",
    "If-Modified-Since: DATE",
    "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
    "If-Modified-Since: Sun, 06 Nov 2044 08:49:37 GMT",
    "If-Modified-Since: yesterday",
    "If-Unmodified-Since: DATE",
    "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
    "If-Unmodified-Since: Sun, 06 Nov 2044 08:49:37 GMT",
    "If-Match: TAG",
    "If-Match: *",
    "If-Match: \"other\"",
    "If-Match: W/TAG",
    "If-Match: \"other\"\r\nIf-None-Match: TAG",
    "Range: bytes=0-0",
    "Range: bytes=0-",
    "Range: bytes=-3",
    "Range: bytes=-99999",
    "Range: bytes=-0",
    "Range: bytes=2-99999999999999999999",
    "Range: bytes=99999999999999999999-",
    "Range: bytes=1000-",
    "Range: bytes=5-3",
    "Range: bytes=5-3,0-1",
    "Range: bytes=0-1,2-3",
    "Range: bytes=0-1,-2",
    "Range: bytes=0-1,900-901",
    "Range: bytes=0-,0-",
    "Range: bytes=0-1,",
    "Range: bytes=,0-1",
    "Range: bytes=",
    "Range: bytes=-",
    "Range: bytes=a-b",
    "Range: bytes=0-5x",
    "Range: bytes = 0-1",
    "Range: BYTES=0-1",
    "Range: lines=0-1",
    "Range: bytes=0-1\r\nRange: bytes=2-3",
    "Range: bytes=0-1\r\nIf-Range: TAG",
    "Range: bytes=0-1\r\nIf-Range: W/TAG",
    "Range: bytes=0-1\r\nIf-Range: \"other\"",
    "Range: bytes=0-1\r\nIf-Range: DATE",
    "Range: bytes=0-1\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT",
    "Range: bytes=0-1\r\nIf-None-Match: TAG",
    "Range: bytes=1000-\r\nIf-None-Match: \"other\"",
    "Accept-Encoding: gzip",
    "Accept-Encoding: gzip;q=0",
    "Accept-Encoding: gzip;q=0.001",
    "Accept-Encoding: identity",
    "Accept-Encoding: gzip\r\nRange: bytes=0-1",
];

fn cases() -> Vec<(&'static str, &'static str, &'static str)> {
    let plain = TARGETS.iter().flat_map(|target| [("GET", *target, ""), ("HEAD", *target, "")]);
    let with_fields = FIELD_SETS.iter().map(|fields| ("GET", "/static/app.css", *fields));
    let heads = ["If-None-Match: TAG", "Range: bytes=0-0", "Accept-Encoding: gzip"];
    let heads = heads.into_iter().map(|fields| ("HEAD", "/static/app.css", fields));
    let empty =
        ["Range: bytes=0-0", "Range: bytes=-1"].into_iter().map(|fields| ("GET", "/static/nothing.bin", fields));
    let methods =
        ["POST", "PUT", "DELETE", "PATCH"].into_iter().map(|method| (method, "/static/app.css", "Content-Length: 0"));
    plain.chain(with_fields).chain(heads).chain(empty).chain(methods).collect()
}

fn folder() -> Folder {
    let folder = Folder::new();
    let made = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for name in ["docs", "empty", ".git"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    for (name, content) in [
        ("app.css", "body { color: red }"),
        ("app.css.gz", "not really gzip"),
        ("app.js", "let a = 1"),
        ("page.html", "<p>page"),
        ("image.png", "PNG"),
        ("unknown.xyz", "what"),
        ("README", "read me"),
        ("nothing.bin", ""),
        ("a b.txt", "a space"),
        ("docs/index.html", "<p>docs"),
        (".env", "SECRET=1"),
        (".git/config", "[core]"),
    ] {
        let path = folder.write(name, content);
        File::options().write(true).open(path).unwrap().set_modified(made).unwrap();
    }
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link")).unwrap();
    std::os::unix::fs::symlink("app.js", folder.path().join("inside")).unwrap();
    folder
}

/// nginx with these directives and locations, in front of everything else.
pub(crate) fn nginx(place: &Folder, directives: &str, locations: &str) -> (Program, SocketAddr) {
    let (address, place_path) = (free_address(), place.path().display());
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|name| format!("{name}_temp_path {place_path}/{name};\n")).concat();
    let config = place.write(
        "nginx.conf",
        format!(
            "daemon off; master_process off; pid {place_path}/nginx.pid; error_log stderr;\nevents {{}}\nhttp {{\n\
             include /etc/nginx/mime.types; default_type application/octet-stream; access_log off;\n{temporary}\
             {directives}\nserver {{ listen {address};\n{locations} }}\n}}\n"
        ),
    );
    let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
    let nginx = Program::start(Command::new("nginx").env("PATH", path).arg("-c").arg(config).args(["-e", "stderr"]));
    eventually("nginx listens", || accepts(address).then_some(()));
    (nginx, address)
}

fn ask(to: SocketAddr, method: &str, target: &str, fields: &str) -> Response {
    let mut client = Client::connect(to);
    let fields = if fields.is_empty() { String::new() } else { format!("{fields}\r\n") };
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
    if method == "HEAD" { client.response_to_head() } else { client.response() }
}

/// What differs between two answers.
fn compare(ours: &Response, theirs: &Response) -> Vec<(Aspect, String)> {
    if ours.status != theirs.status {
        return vec![(Status, format!("{}/{}", ours.status, theirs.status))];
    }
    let mut found = Vec::new();
    // Errors have texts of their own; of 416 the length counts.
    let fields = match ours.status {
        400..416 | 417.. => &[][..],
        416 => &["content-range"],
        _ => &FIELDS,
    };
    for name in fields {
        let (mut one, mut other) = (ours.field(name), theirs.field(name));
        if *name == "content-type" {
            // The boundary is everybody's own.
            let cut = |value: Option<String>| value.map(|value| value.split("; boundary=").next().unwrap().to_owned());
            (one, other) = (cut(one), cut(other));
        }
        if ours.status == 301 && matches!(*name, "content-length" | "content-type") {
            continue;
        }
        if one != other {
            found.push((Field(name), format!("{one:?}/{other:?}")));
        }
    }
    let multipart = ours.field("content-type").is_some_and(|kind| kind.starts_with("multipart/"));
    if matches!(ours.status, 200 | 206) && !multipart && ours.body != theirs.body {
        found.push((Aspect::Body, format!("{:?}/{:?}", ours.body, theirs.body)));
    }
    found
}

#[test]
fn files_are_served_as_nginx_serves_them_but_for_what_is_listed() {
    let (folder, place) = (folder(), Folder::new());
    let root = folder.path().display();
    let locations = format!("location /static/ {{ alias {root}/; }} location / {{ return 204; }}");
    let (nginx, theirs) = nginx(&place, "gzip_static on; gzip_vary on; absolute_redirect off;", &locations);
    let app = Upstream::answering(|_| ok(""));
    let config = Config::before(&app)
        .service(&format!("routes:\n  - path: /static/\n    files: {{root: \"{root}\", precompressed: true}}"));
    let gateway = Gateway::start(config);
    let plain = ask(theirs, "GET", "/static/app.css", "");
    let (tag, date) = (plain.field("etag").unwrap(), plain.field("last-modified").unwrap());
    let mut used = vec![false; DIFFERENCES.len()];
    let mut unexplained = Vec::new();
    for (method, target, fields) in cases() {
        let real = fields.replace("TAG", &tag).replace("DATE", &date);
        let (one, other) = (ask(gateway.address(), method, target, &real), ask(theirs, method, target, &real));
        let about = format!("{method} {target} {}\\r\\n", fields.replace("\r\n", "\\r\\n"));
        for (aspect, values) in compare(&one, &other) {
            let is_it = |difference: &Difference| {
                difference.aspect == aspect && difference.within.iter().any(|word| about.contains(word))
            };
            match DIFFERENCES.iter().position(is_it) {
                Some(at) => used[at] = true,
                None => unexplained.push(format!("{about}: {aspect:?} {values}")),
            }
        }
    }
    nginx.end("TERM");
    assert!(unexplained.is_empty(), "differences that nobody argues for:\n  {}", unexplained.join("\n  "));
    let idle: Vec<_> = DIFFERENCES
        .iter()
        .zip(used)
        .filter(|(_, used)| !used)
        .map(|(difference, _)| (difference.aspect, difference.within))
        .collect();
    assert!(idle.is_empty(), "these differences explain nothing: {idle:?}");
}
