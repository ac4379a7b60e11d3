"""A release of an app: `RELEASE=2.0.0 python3 app.py 8002`. With BROKEN=1 its pages fail, and its probes do not."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RELEASE = os.environ.get("RELEASE", "1.0.0")
BROKEN = os.environ.get("BROKEN") == "1"


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/version":
            self.answer(200, json.dumps({"service": "shop", "version": RELEASE}))
        elif self.path in {"/healthz", "/readyz", "/startupz"}:
            self.answer(200, "{}")
        elif BROKEN:
            self.answer(500, "broken\n")
        else:
            self.answer(200, f"release {RELEASE}\n")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), App).serve_forever()
