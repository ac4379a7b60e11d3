"""Whole requests: the instructions of the thread that serves them, by callgrind on the real program with an app behind it.

Counted is the difference between many requests and few, so that the start is in neither; and one thread's alone, so that what the others do meanwhile is in neither, too. The worker's
own ticks are: some thousandths.
"""

import contextlib
import pathlib
import random
import re
import socket
import subprocess
import tempfile
import threading
import time

FEW, MANY = 100, 700

CONFIGURATION = """
listeners: [{{address: "{host}:{port}"}}]
workers: 1
client_ip: {{trusted_proxies: [127.0.0.0/8], header: X-Forwarded-For, missing: peer}}
networks: {{internal: [10.0.0.0/8], local: [127.0.0.0/8]}}
limits:
  every: {{key: client_ip, rate: 1000000/s, burst: 1000000}}
  second: {{key: client_ip, rate: 1000000/s, burst: 1000000}}
  third: {{key: client_ip, rate: 1000000/s, burst: 1000000}}
  strict: {{key: client_ip, rate: 1/h, burst: 1}}
services:
  app:
    upstream: {{servers: ["127.0.0.1:{app}"]}}
    probes:
      version: {{path: /version, serve: answer, allow: {{network: local}}}}
    limits: [every]
    routes:
      - {{path: /deny, allow: {{network: internal}}}}
      - {{path: /limited, limits: [strict]}}
      - {{path: /three, limits: [second, third]}}
bounds: {{requests_per_connection: 1000000000}}
admin: {{address: "{admin[0]}:{admin[1]}"}}
log: {{access: {{format: off}}}}
"""

# Name to path and status.
CASES = {
    "whole/plain": ("/1k", 200),
    "whole/three limits": ("/three", 200),
    "whole/denied": ("/deny", 403),
    "whole/limited": ("/limited", 429),
    "whole/probe": ("/version", 200),
}


def app(listener):
    """Answers whatever comes with 1 KiB."""
    answer = b"HTTP/1.1 200 OK\r\nServer: app\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024

    def serve(connection):
        with contextlib.suppress(OSError), connection:
            head = b""
            while received := connection.recv(65536):
                head += received
                while b"\r\n\r\n" in head:
                    head = head.partition(b"\r\n\r\n")[2]
                    connection.sendall(answer)

    with contextlib.suppress(OSError):
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def free_address():
    """Of this machine's own, and of no program that takes a free port meanwhile: the gateway binds it seconds later."""
    host = f"127.{random.randrange(100, 250)}.{random.randrange(250)}.{random.randrange(1, 250)}"
    with socket.socket() as one:
        one.bind((host, 0))
        return one.getsockname()


def connect(address, program):
    """A connection, once the gateway takes one: under callgrind that takes seconds."""
    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError):
            return socket.create_connection(address, 60)
        if program.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the gateway does not start under callgrind")
        time.sleep(0.1)


def ask(connection, path):
    """One request on a connection that is kept; the status of its answer."""
    connection.sendall(b"GET %s HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: counts\r\nAccept: */*\r\n\r\n" % path.encode())
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            raise SystemExit(f"{path}: the connection ended")
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)\ncontent-length: (\d+)", head)[1])
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1])


def threads(program, path, status, times):
    """The instructions of each thread over a whole run with so many requests."""
    with tempfile.TemporaryDirectory(prefix="probegate-counts-") as name, socket.create_server(("127.0.0.1", 0)) as listener:
        folder, address, admin = pathlib.Path(name), free_address(), free_address()
        threading.Thread(target=app, args=(listener,), daemon=True).start()
        (folder / "probegate.yaml").write_text(CONFIGURATION.format(host=address[0], port=address[1], app=listener.getsockname()[1], admin=admin))
        command = ["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={folder}/out", program]
        with (folder / "log").open("wb") as log:
            running = subprocess.Popen([*command, "run", "-c", folder / "probegate.yaml"], cwd=folder, stdout=log, stderr=log)
            try:
                with connect(address, running) as connection:
                    seen = [ask(connection, path) for _ in range(times)]
            finally:
                running.terminate()
                running.wait(60)
        # The first two are below the limit of those that are limited.
        if set(seen[2:]) != {status}:
            raise SystemExit(f"{path}: {set(seen)} instead of {status}")
        totals = {}
        for file in folder.glob("out-*"):
            found = re.search(r"^(?:totals|summary): (\d+)", file.read_text(errors="replace"), re.MULTILINE)
            totals[file.name] = int(found[1]) if found else 0
        return totals


def count(program, name):
    """Instructions of one request: of the thread in which the requests show."""
    path, status = CASES[name]
    few, many = (threads(program, path, status, times) for times in (FEW, MANY))
    most = max(many[thread] - few.get(thread, 0) for thread in many if int(thread.split("-")[-1]) > 1)
    return round(most / (MANY - FEW))
