#!/usr/bin/env python3
"""One synchronous gunicorn worker, 200 clients that upload slowly and 200 that download slowly, and what somebody else notices of them.

An upload is 64 KiB at 2 KiB/s, a download 8 MiB at 2 KiB/s. In front of the app: the gateway, nginx with its defaults, and the gateway
with `buffering: off`. The run passes when no request of the bystander failed behind the gateway and nginx, its slowest percent took at most twice as long behind the gateway as
without slow clients, and all slow clients were still at it. The last front shows what buffering is for: alone, the bystander is answered, and beside them it gets no answer, without
which they would not have been slow enough to prove anything.

    benches/shield/run.py --probegate target/release/probegate --gunicorn target/django/venv/bin/gunicorn
"""

import argparse
import asyncio
import multiprocessing
import os
import pathlib
import resource
import socket
import subprocess
import sys
import tempfile
import time

APP = """
LARGE = b'x' * (8 << 20)

def app(environ, start_response):
    body = environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0))
    answer = LARGE if environ['PATH_INFO'] == '/download' else b'ok'
    start_response('200 OK', [('Content-Length', str(len(answer)))])
    return [answer]
"""
STEP = 512
PAUSE = STEP / 2048


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process):
    """Returns when somebody listens."""
    while True:
        if process.poll() is not None:
            sys.exit("a server did not start")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)


# --- what stands in front of the app --------------------------------------------------------------------------------------


def probegate(program, folder, port, app, lines=""):
    path = folder / f"probegate-{port}.yaml"
    path.write_text(
        f'listeners: [{{address: "127.0.0.1:{port}"}}]\nadmin: {{address: "127.0.0.1:{free_port()}"}}\nworkers: 1\nlog: {{level: warn, access: {{format: off}}}}\n'
        f'services:\n  app:\n    upstream: {{servers: ["127.0.0.1:{app}"]}}\n{lines}'
    )
    return subprocess.Popen([program, "run", "--config", str(path)])


def nginx(folder, port, app):
    path = folder / "nginx.conf"
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
    path.write_text(
        f"daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;\n"
        "events { worker_connections 2048; }\n"
        f"http {{ access_log off; {temporary}\n"
        f"  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{app}; }} }}\n}}\n"
    )
    return subprocess.Popen(["nginx", "-p", str(folder), "-c", str(path)])


# --- clients --------------------------------------------------------------------------------------------------------------


async def upload(port):
    """64 KiB at 2 KiB/s, again and again."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 65536\r\n\r\n")
        for _ in range(65536 // STEP):
            writer.write(b"x" * STEP)
            await writer.drain()
            await asyncio.sleep(PAUSE)
        if not (await reader.read()).startswith(b"HTTP/1.1 200 "):
            raise ConnectionError("an upload was not answered")
        writer.close()


async def download(port):
    """8 MiB at 2 KiB/s, with a small window."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, b"GET /download HTTP/1.1\r\nHost: a\r\n\r\n")
    while await loop.sock_recv(sock, STEP):
        await asyncio.sleep(PAUSE)
    raise ConnectionError("a download ended")


async def bystander(port, seconds, patience):
    """Asks on new connections, one after the other."""
    took, failed, end = [], 0, time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(patience):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                answer = await reader.read()
                writer.close()
            if not (answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"ok")):
                failed += 1
            took.append(time.perf_counter() - begun)
        except (OSError, TimeoutError):
            failed += 1
        await asyncio.sleep(0.01)
    return took, failed


def crowd(port, slow):
    """So many slow clients of either kind, in a process of their own: what they cost here must not be taken for what they cost the gateway."""

    async def run():
        await asyncio.gather(*(kind(port) for kind in (upload, download) for _ in range(slow)))

    asyncio.run(run())


def measure(port, slow, seconds, patience):
    """The bystander's times beside so many slow clients of either kind, how many requests failed, and whether those clients stayed. The first seconds, in which they all come, do not count."""
    process = multiprocessing.Process(target=crowd, args=(port, slow))
    if slow:
        process.start()
        time.sleep(5)
    found = asyncio.run(bystander(port, seconds, patience))
    stayed = not slow or process.is_alive()
    if slow:
        process.kill()
        process.join()
    return *found, stayed


def quantile(times, share):
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1000 if times else float("inf")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probegate", default="target/release/probegate", help="the program")
    parser.add_argument("--gunicorn", default="target/django/venv/bin/gunicorn", help="gunicorn")
    parser.add_argument("--clients", type=int, default=200, help="slow clients of either kind")
    parser.add_argument("--seconds", type=float, default=20, help="for each measurement")
    arguments = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    passed, processes = True, []
    with tempfile.TemporaryDirectory() as name:
        folder, app = pathlib.Path(name), free_port()
        (folder / "shielded.py").write_text(APP)
        gunicorn = [os.path.abspath(arguments.gunicorn), "--workers", "1", "--worker-class", "sync", "--timeout", "600"]
        command = [*gunicorn, "--log-level", "error", "--bind", f"127.0.0.1:{app}", "shielded:app"]
        processes.append(subprocess.Popen(command, cwd=name))
        wait_for(app, processes[-1])
        program = os.path.abspath(arguments.probegate)
        fronts = [
            ("probegate", lambda port: probegate(program, folder, port, app), 5),
            ("nginx", lambda port: nginx(folder, port, app), 5),
            ("probegate, buffering: off", lambda port: probegate(program, folder, port, app, "    buffering: off\n"), 2),
        ]
        try:
            for front, start, patience in fronts:
                port = free_port()
                processes.append(start(port))
                wait_for(port, processes[-1])
                alone, failed, _ = measure(port, 0, arguments.seconds / 2, patience)
                beside, lost, stayed = measure(port, arguments.clients, arguments.seconds, patience)
                ratio = quantile(beside, 0.99) / quantile(alone, 0.99)
                print(
                    f"{front:26} alone p50 {quantile(alone, 0.5):6.2f} p99 {quantile(alone, 0.99):6.2f} ms   beside {2 * arguments.clients} slow clients "
                    f"p50 {quantile(beside, 0.5):7.2f} p99 {quantile(beside, 0.99):7.2f} ms (x {ratio:.2f})   {len(beside)} answered, {lost} not",
                    flush=True,
                )
                if front.endswith("off"):
                    right = failed == 0 and not beside
                else:
                    right = failed == lost == 0 and (ratio <= 2 or front == "nginx")
                if not (right and stayed):
                    print(f"{front}: FAILED{'' if stayed else ', slow clients ended'}", flush=True)
                    passed = False
                processes[-1].kill()
                processes.pop().wait()
        finally:
            for process in processes:
                process.kill()
                process.wait()
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
