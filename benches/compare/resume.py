#!/usr/bin/env python3
"""New TLS 1.3 connections, one after the other: resume.py PORT PATH SECONDS full|resumed. Prints what it counted, as JSON.

With `resumed`, each goes on with the session before; with `full`, none does. All else is the same, so that the one can be compared with the other.
"""

import json
import socket
import ssl
import sys
import time


def main(port, path, seconds, how):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    asked = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    session, requests, resumed, received = None, 0, 0, 0
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            # As browsers do: else the request waits until the end of the handshake is acknowledged, which not every server does at once.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(plain, server_hostname="localhost", session=session) as connection:
                connection.sendall(asked)
                answer = b""
                while part := connection.recv(65536):
                    answer += part
                if not answer.startswith(b"HTTP/1.1 200"):
                    raise SystemExit(f"{answer[:40]!r}")
                requests, resumed, received = requests + 1, resumed + connection.session_reused, received + len(answer)
                if how == "resumed":
                    # The ticket came with the answer.
                    session = connection.session
    took = time.monotonic() - begun
    if resumed != (requests - 1 if how == "resumed" else 0):
        raise SystemExit(f"{resumed} of {requests} sessions were resumed")
    print(json.dumps({"requests": requests, "bytes": received, "seconds": took, "bad": 0, "broken": 0}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
