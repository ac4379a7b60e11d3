#!/usr/bin/env python3
"""Messages through a tunnel: the app that sends back what it gets, and clients that wait for it. Frames are bytes to a proxy, so they are to these two.

    websocket.py app PORT
    websocket.py clients PORT SECONDS CONNECTIONS      prints what it counted, as JSON
"""

import json
import select
import socket
import sys
import time

# A client's text frame of 125 bytes, masked with nothing (RFC 6455 §5.2).
MESSAGE = b"\x81\xfd\0\0\0\0" + b"x" * 125
ASKED = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
ASKED += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
SWITCHED += b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"


def app(port):
    """Switches every connection, then sends everything back."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    poll, connections = select.epoll(), {}
    poll.register(listener.fileno(), select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                connection = listener.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = [connection, b""]
                poll.register(connection.fileno(), select.EPOLLIN)
                continue
            state = connections[descriptor]
            connection, head = state
            try:
                received = connection.recv(65536)
                if received and head is not None:
                    head += received
                    done = b"\r\n\r\n" in head
                    state[1] = None if done else head
                    received = SWITCHED if done else b" "
                    if not done:
                        continue
                if received:
                    connection.sendall(received)
            except OSError:
                received = b""
            if not received:
                del connections[descriptor]
                connection.close()


def clients(port, seconds, count):
    """Each sends a message when the one before has come back."""
    poll, connections = select.epoll(), {}
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), 10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(ASKED)
        head = b""
        while b"\r\n\r\n" not in head:
            received = connection.recv(4096)
            if not received:
                raise SystemExit(f"no tunnel: {head!r}")
            head += received
        if not head.startswith(b"HTTP/1.1 101"):
            raise SystemExit(f"no tunnel: {head!r}")
        connections[connection.fileno()] = [connection, 0]
        poll.register(connection.fileno(), select.EPOLLIN)
    messages, begun = 0, time.monotonic()
    for connection, _ in connections.values():
        connection.sendall(MESSAGE)
    while time.monotonic() - begun < seconds:
        for descriptor, _ in poll.poll(1):
            state = connections[descriptor]
            received = state[0].recv(65536)
            if not received:
                raise SystemExit("a tunnel ended")
            state[1] += len(received)
            if state[1] >= len(MESSAGE):
                state[1] -= len(MESSAGE)
                messages += 1
                state[0].sendall(MESSAGE)
    took = time.monotonic() - begun
    print(json.dumps({"requests": messages, "bytes": messages * len(MESSAGE), "seconds": took, "bad": 0, "broken": 0}))


if __name__ == "__main__":
    if sys.argv[1] == "app":
        app(int(sys.argv[2]))
    else:
        clients(*map(int, sys.argv[2:5]))
