#!/usr/bin/env python3
"""Thousands of slow clients at the gateway, and what somebody else notices of them.

slowhttptest holds connections in three ways: heads that never end (-H), bodies that dribble (-B), answers that are hardly read (-X).
Meanwhile a client of another address asks on kept and on new connections. The run passes when none of its requests failed and its
slowest percent is below a bound, while half of the slow connections or more were open at a time. A last run has the default bound on the connections of one client.

    benches/slow/run.py --probegate target/release/probegate
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

LARGE = b"x" * (256 << 10)
BYSTANDER = "127.0.0.2"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- the app --------------------------------------------------------------------------------------------------------------


def app(port):
    """Answers everything: `/large` with 256 KiB, the rest with two bytes. Bodies are read to their end."""

    async def serve(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                body = LARGE if head.split(b" ", 2)[1] == b"/large" else b"ok"
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=4096)
        await server.serve_forever()

    asyncio.run(run())


# --- the gateway ----------------------------------------------------------------------------------------------------------


class Gateway:
    """The gateway in front of the app, with these lines at the top of its configuration."""

    def __init__(self, program, app_port, workers, lines):
        self.port, self.admin = free_port(), free_port()
        self.folder = tempfile.TemporaryDirectory()
        path = os.path.join(self.folder.name, "probegate.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(
                f'listeners: [{{address: "127.0.0.1:{self.port}"}}]\nadmin: {{address: "127.0.0.1:{self.admin}"}}\n'
                f"workers: {workers}\nlog: {{level: warn, access: {{format: json, to: {self.folder.name}/access.log}}}}\n{lines}"
                f'services: {{app: {{upstream: {{servers: ["127.0.0.1:{app_port}"]}}}}}}\n'
            )
        self.process = subprocess.Popen([program, "run", "--config", path])
        while not self.ready():
            time.sleep(0.05)

    def ready(self):
        if self.process.poll() is not None:
            sys.exit("the gateway did not start")
        try:
            return self.get("/readyz").status == 200
        except OSError:
            return False

    def get(self, path):
        return urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=5)

    def metrics(self):
        lines = self.get("/metrics").read().decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}

    def end(self):
        """Ends it; the processor time it used, in seconds."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            user, system = file.read().rsplit(")", 1)[1].split()[11:13]
        seconds = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.folder.cleanup()
        return seconds


# --- the bystander --------------------------------------------------------------------------------------------------------


def ask(connection):
    """One request; the whole answer must come."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n")
    answer = b""
    while not answer.endswith(b"\r\n\r\nok"):
        part = connection.recv(4096)
        if not part:
            raise OSError(f"ended after {answer!r}")
        answer += part
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise OSError(f"answered {answer!r}")


def bystander(port, stop, results):
    """Asks until told to stop: ten requests on each connection, the first of which includes connecting."""
    took, failed = [], []
    while not stop.is_set():
        try:
            begun = time.perf_counter()
            with socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(BYSTANDER, 0)) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for _ in range(10):
                    ask(connection)
                    took.append(time.perf_counter() - begun)
                    time.sleep(0.005)
                    begun = time.perf_counter()
        except OSError as error:
            failed.append(str(error))
    results.put((took, failed))


# --- a run ----------------------------------------------------------------------------------------------------------------


def attack(mode, port, arguments):
    """The command of an attack."""
    path = "/large" if mode == "-X" else "/"
    slow = {"-H": ["-i", "2", "-x", "24"], "-B": ["-i", "2", "-s", "8192", "-x", "10"], "-X": ["-w", "256", "-y", "512", "-n", "2", "-z", "32"]}
    common = ["-c", str(arguments.connections), "-r", str(arguments.rate), "-l", str(arguments.seconds), "-p", "3"]
    return ["slowhttptest", mode, *slow[mode], *common, "-u", f"http://127.0.0.1:{port}{path}"]


def quantile(times, share):
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1000


def run(name, mode, lines, app_port, arguments):
    """One run; whether it passed."""
    gateway = Gateway(arguments.probegate, app_port, arguments.workers, lines)
    stop, results = multiprocessing.Event(), multiprocessing.Queue()
    client = multiprocessing.Process(target=bystander, args=(gateway.port, stop, results))
    attacker = None
    if mode:
        attacker = subprocess.Popen(attack(mode, gateway.port, arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client.start()
    begun, most = time.monotonic(), 0.0
    # slowhttptest leaves when all its connections are closed.
    while time.monotonic() - begun < arguments.seconds and (attacker is None or attacker.poll() is None):
        most = max(most, gateway.metrics().get("probegate_connections", 0.0))
        time.sleep(0.25)
    lasted = time.monotonic() - begun
    stop.set()
    took, failed = results.get()
    client.join()
    if attacker is not None:
        attacker.kill()
        attacker.wait()
    counted = gateway.metrics()
    refusals = {}
    for series, value in counted.items():
        if series.startswith("probegate_refusals_total") and (reason := re.search(r'reason="(\w+)"', series)):
            refusals[reason[1]] = refusals.get(reason[1], 0) + int(value)
    cpu = gateway.end()
    slowest = quantile(took, 0.99) if took else float("inf")
    # An attack that hardly came to be proves nothing.
    attacked = not mode or most >= arguments.connections / 2
    passed = bool(took) and not failed and slowest < arguments.bound and attacked
    print(
        f"{name:12} {len(took):6} requests, {len(failed)} failed  p50 {quantile(took, 0.5):7.2f} ms  p99 {slowest:7.2f} ms  "
        f"max {max(took) * 1000:7.2f} ms  connections {most:5.0f}  cpu {100 * cpu / lasted:4.1f} %  {json.dumps(refusals)}"
        if took
        else f"{name:12} no request was answered",
        "" if passed else "FAILED " + "; ".join([*failed[:3], *([] if attacked else [f"{most:.0f} of {arguments.connections} slow connections at the most"])]),
        flush=True,
    )
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probegate", default="target/release/probegate", help="the program")
    parser.add_argument("--connections", type=int, default=2000, help="slow connections (2000)")
    parser.add_argument("--rate", type=int, default=400, help="of them made each second (400)")
    parser.add_argument("--seconds", type=int, default=30, help="length of each run (30)")
    parser.add_argument("--workers", type=int, default=2, help="of the gateway (2)")
    parser.add_argument("--bound", type=float, default=100.0, help="for the slowest percent, in milliseconds (100)")
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    app_port = free_port()
    apps = multiprocessing.Process(target=app, args=(app_port,), daemon=True)
    apps.start()
    many = f"bounds: {{connections_per_client: {arguments.connections + 100}}}\n"
    runs = [
        ("nobody", None, many),
        ("heads", "-H", many),
        ("bodies", "-B", many),
        ("reading", "-X", many),
        ("by default", "-H", ""),
    ]
    passed = [run(name, mode, lines, app_port, arguments) for name, mode, lines in runs]
    apps.kill()
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
