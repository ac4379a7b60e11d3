"""Pages that show what reaches an app behind the gateway, and that behave in ways a gateway has to cope with."""

import hashlib
import time
from urllib.parse import quote

from django.http import HttpResponse, HttpResponseBadRequest, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST
from django_deploy_probes.conf import get_deploy_probes_settings
from django_deploy_probes.security import get_request_ip

HOME = """<!doctype html>
<html lang="en"><title>Shop</title>
<h1>Hello from Django</h1>
<p>Behind probegate. Try <a href="/whoami">/whoami</a>, <a href="/stream">/stream</a>, <a href="/slow?s=3">/slow?s=3</a>,
<a href="/healthz">/healthz</a>, <a href="/readyz">/readyz</a>, <a href="/admin/">/admin/</a>.</p>
</html>
"""


def home(request):
    return HttpResponse(HOME)


@csrf_exempt  # asked by programs, changes nothing
def whoami(request):
    """The request as Django sees it. Names of all fields, values of those that the gateway writes."""
    meta = request.META
    return JsonResponse(
        {
            "remote_addr": meta.get("REMOTE_ADDR"),
            "client_ip": get_request_ip(request, get_deploy_probes_settings()),
            "x_real_ip": request.headers.get("X-Real-IP"),
            "x_forwarded_for": request.headers.get("X-Forwarded-For"),
            "x_forwarded_proto": request.headers.get("X-Forwarded-Proto"),
            "x_forwarded_host": request.headers.get("X-Forwarded-Host"),
            "x_forwarded_port": request.headers.get("X-Forwarded-Port"),
            "forwarded": request.headers.get("Forwarded"),
            "request_id": request.headers.get("X-Request-ID"),
            "host": request.get_host(),
            "scheme": request.scheme,
            "is_secure": request.is_secure(),
            "method": request.method,
            "path": request.path,
            "query": meta.get("QUERY_STRING", ""),
            "content_type": request.content_type,
            "body_length": len(request.body),
            "body_sha256": hashlib.sha256(request.body).hexdigest(),
            "header_names": sorted(request.headers),
        },
        json_dumps_params={"indent": 2},
    )


@csrf_exempt  # asked by programs, changes nothing
@require_POST
def echo(request):
    # Never as the type that was sent: a page that returns what it is given must not be rendered.
    return HttpResponse(request.body, content_type="application/octet-stream")


def number(request, name, default, most):
    """A number from the query, between 0 and `most`."""
    value = float(request.GET.get(name, default))
    if not 0 <= value <= most:  # false for nan, too
        raise ValueError(name)
    return value


@require_GET
def slow(request):
    """Answers after ?s= seconds: a request that is in flight while the gateway reloads or stops."""
    try:
        seconds = number(request, "s", 1, 60)
    except ValueError:
        return HttpResponseBadRequest("s: seconds, 0 to 60\n", content_type="text/plain")
    time.sleep(seconds)
    return HttpResponse(f"slept {seconds:g} s\n", content_type="text/plain")


@require_GET
def stream(request):
    """Sends ?n= lines with ?ms= milliseconds between them: the first must reach the client before the last is made."""
    try:
        count, pause = int(number(request, "n", 5, 1000)), number(request, "ms", 200, 10_000) / 1000
    except ValueError:
        return HttpResponseBadRequest("n: 0 to 1000, ms: 0 to 10000\n", content_type="text/plain")

    def lines():
        for index in range(count):
            if index:
                time.sleep(pause)
            yield f"chunk {index + 1} of {count}\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


@require_GET
def sign_in(request):
    """Stands for a login: whoever comes here is customer 7."""
    response = HttpResponse("signed in\n", content_type="text/plain")
    response.set_signed_cookie("customer", "7", httponly=True, samesite="Lax")
    return response


@require_GET
def invoice(request, name):
    """Checks who asks, and leaves the sending to the gateway: the route /protected/ of probegate.yaml."""
    if request.get_signed_cookie("customer", default=None) is None:
        return HttpResponse("not yours\n", status=403, content_type="text/plain")
    response = HttpResponse(content_type="text/plain")
    response["X-Accel-Redirect"] = f"/protected/{quote(name)}"
    response["Content-Disposition"] = "attachment"
    return response
