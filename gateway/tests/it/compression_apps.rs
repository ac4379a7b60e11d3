//! Real apps whose answers are compressed: Django under gunicorn, and under uvicorn where it streams.

use std::process::Command;

use crate::compression::{ON, decoded, so_far};
use crate::harness::{
    self, Client, Config, Folder, Gateway, Program, Response, accepts, eventually, exchange, free_address,
};

/// A page with an `ETag` of Django's own, one that sets a cookie, and one in steps.
const DJANGO: &str = r#"
import os, time
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.urls import path

settings.configure(
    SECRET_KEY="only-for-this-test", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.http.ConditionalGetMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
)
PAGE = "<p>a page of Django's</p>\n" * 500

def form(request):
    return HttpResponse(PAGE + get_token(request))

def steps(request):
    def parts():
        yield "first\n"
        while not os.path.exists(os.environ["GO_ON"]):
            time.sleep(0.01)
        yield "second\n"
    return StreamingHttpResponse(parts(), content_type="text/plain")

urlpatterns = [path("page", lambda request: HttpResponse(PAGE)), path("form", form), path("steps", steps)]
application = get_wsgi_application()
"#;

#[test]
fn django_under_gunicorn_is_compressed_and_its_validators_still_hold() {
    let folder = Folder::new();
    folder.write("pages.py", DJANGO);
    let (address, go_on) = (free_address(), folder.path().join("go"));
    let venv = harness::venv("PROBEGATE_TEST_VENV", "django", "examples/django/requirements.txt");
    let mut gunicorn = Command::new(venv.join("bin/gunicorn"));
    gunicorn.current_dir(folder.path()).env("PYTHONDONTWRITEBYTECODE", "1").env("GO_ON", &go_on);
    gunicorn.args(["--workers", "1", "--bind", &address.to_string(), "pages:application"]);
    let _gunicorn = Program::start(&mut gunicorn);
    eventually("gunicorn listens", || accepts(address).then_some(()));
    let gateway = Gateway::start(Config::servers([address.to_string()]).service(ON));
    let get = |path: &str, fields: &str| {
        exchange(gateway.address(), format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n{fields}\r\n"))
    };
    let page = get("/page", "");
    let text = decoded("gzip", &page.body);
    assert!(text.len() > 10_000 && page.body.len() < 1000, "{page:?}");
    let etag = page.field("etag").unwrap();
    assert!(etag.starts_with("W/\""), "{etag}");
    // RFC 9110 §13.1.2: compared weakly, and Django does.
    assert_eq!(get("/page", &format!("If-None-Match: {etag}\r\n")).status, 304);
    assert_eq!(get("/page", "If-None-Match: W/\"other\"\r\n").status, 200);
    // A form with a token of the client's own.
    let form = get("/form", "");
    assert!(form.field("set-cookie").is_some() && form.field("content-encoding").is_none(), "{form:?}");
    // A page in steps.
    let mut client = Client::connect(gateway.address());
    client.send("GET /steps HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    client.head();
    let mut body = Vec::new();
    while so_far("gzip", &body) != b"first\n" {
        body.extend(client.exactly(1));
    }
    std::fs::write(&go_on, "").unwrap();
    body.extend(client.rest().0);
    assert_eq!(decoded("gzip", &body), "first\nsecond\n");
}

/// Django on ASGI: lines that are told as they happen, and an event stream.
const ASGI: &str = r#"
import asyncio, os
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import StreamingHttpResponse
from django.urls import path

settings.configure(SECRET_KEY="only-for-this-test", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)

async def parts():
    yield "first\n"
    while not os.path.exists(os.environ["GO_ON"]):
        await asyncio.sleep(0.01)
    yield "second\n"

def stream(kind):
    async def view(request):
        return StreamingHttpResponse(parts(), content_type=kind)
    return view

urlpatterns = [path("lines", stream("application/x-ndjson")), path("events", stream("text/event-stream"))]
application = get_asgi_application()
"#;

#[test]
fn django_under_uvicorn_streams_through_the_encoders() {
    let folder = Folder::new();
    folder.write("streams.py", ASGI);
    let (address, go_on) = (free_address(), folder.path().join("go"));
    let venv = harness::venv("PROBEGATE_TEST_UVICORN_VENV", "uvicorn", "gateway/tests/uvicorn.txt");
    let mut uvicorn = Command::new(venv.join("bin/uvicorn"));
    uvicorn.current_dir(folder.path()).env("PYTHONDONTWRITEBYTECODE", "1").env("GO_ON", &go_on);
    uvicorn.args(["--lifespan", "off", "--host", &address.ip().to_string(), "--port", &address.port().to_string()]);
    let _uvicorn = Program::start(uvicorn.arg("streams:application"));
    eventually("uvicorn listens", || accepts(address).then_some(()));
    let gateway = Gateway::start(Config::servers([address.to_string()]).service(ON));
    let mut streams: Vec<_> = [("/lines", "br"), ("/lines", "zstd"), ("/lines", "gzip"), ("/events", "gzip")]
        .map(|(path, coding)| {
            let mut client = Client::connect(gateway.address());
            client.send(format!("GET {path} HTTP/1.0\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n"));
            let coded = Response::of(&client.head()).field("content-encoding");
            assert_eq!(coded.as_deref(), (path == "/lines").then_some(coding));
            (client, coded, Vec::new())
        })
        .into();
    for (client, coded, body) in &mut streams {
        let read = |body: &[u8]| coded.as_deref().map_or_else(|| body.to_vec(), |coding| so_far(coding, body));
        while read(body) != b"first\n" {
            body.extend(client.exactly(1));
        }
    }
    std::fs::write(&go_on, "").unwrap();
    for (client, coded, body) in &mut streams {
        body.extend(client.rest().0);
        let read =
            coded.as_deref().map_or_else(|| String::from_utf8(body.clone()).unwrap(), |coding| decoded(coding, body));
        assert_eq!(read, "first\nsecond\n");
    }
}
