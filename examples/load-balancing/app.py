"""An app that says which of its servers has answered."""

import os


def application(environ, start_response):
    text = f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}, process {os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text]
