"""Tries what WebSocket can do, and says what came of it. Usage: client.py ADDRESS HOST [CA-FILE]

With a CA file it speaks TLS (wss) and believes that authority only.
"""

import os
import socket
import ssl
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PATIENCE = 20
LARGE = 1 << 20


def connection():
    host, port = sys.argv[1].rsplit(":", 1)
    tcp = socket.create_connection((host, int(port)), PATIENCE)
    if len(sys.argv) > 3:
        tls = ssl.create_default_context(cafile=sys.argv[3])
        return connect(f"wss://{sys.argv[2]}/echo", sock=tcp, ssl=tls, proxy=None, max_size=2 * LARGE)
    return connect(f"ws://{sys.argv[2]}/echo", sock=tcp, proxy=None, max_size=2 * LARGE)


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: found {found!r}, expected {expected!r}")
    print(f"{what}: ok")


def closed_by_the_app(c):
    """The code and the reason that came from the app. 1006, which means that none came, has no reason."""
    try:
        c.recv(PATIENCE)
    except ConnectionClosed:
        return c.close_code, c.close_reason
    return "not closed"


def main():
    with connection() as c:
        # Offered by the client and agreed to by the server, both beside the gateway's own fields.
        extensions = c.response.headers.get("Sec-WebSocket-Extensions", "")
        expect("compression", extensions.split(";")[0], "permessage-deflate")

        def echo(message):
            c.send(message)
            return c.recv(PATIENCE)

        expect("text", echo("Grüße, 世界"), "Grüße, 世界")
        expect("no text", echo(""), "")
        every_byte = bytes(range(256))
        expect("binary", echo(every_byte), every_byte)
        # Nothing that compression makes small.
        large = os.urandom(LARGE)
        expect("large, binary", echo(large) == large, True)
        text = os.urandom(LARGE // 2).hex()
        expect("large, text", echo(text) == text, True)
        parts = [os.urandom(1000) for _ in range(500)]
        expect("in fragments", echo(parts) == b"".join(parts), True)
        messages = [f"message {number}" for number in range(500)]
        expect("one by one", [echo(message) for message in messages], messages)

        expect("ping from the client", c.ping("from the client").wait(PATIENCE), True)
        expect("ping from the app", echo("ping me"), "answered")

        c.close(4001, "enough")
        expect("closed by the client", (c.close_code, c.close_reason), (4001, "enough"))

    with connection() as c:
        c.close()
        expect("closed as usual", c.close_code, 1000)

    with connection() as c:
        c.send("close")
        expect("closed by the app", closed_by_the_app(c), (4002, "as asked"))

    with connection() as c:
        # More than the server takes. It is small on its way, so that all of it is sent before the answer comes.
        c.send(bytes(3 * LARGE))
        expect("refused by the app", closed_by_the_app(c)[0], 1009)

    print("all of it: ok")


if __name__ == "__main__":
    main()
