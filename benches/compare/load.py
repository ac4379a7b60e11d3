"""Asking a peer: once, to see that its answer is right; then as fast as it answers; or idly, for its memory."""

import http.client
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import time

REPORT = pathlib.Path(__file__).with_name("report.lua")
# Seconds beyond its time after which a load generator is taken to hang. Set by run.py.
PATIENCE = 30
# Seconds after which a line of an access log is taken to be missing: one peer writes them every ten.
LINES_WITHIN = 15


class Wrong(Exception):
    """A peer does not do the same work as the others, or could not be asked."""


def generate(command, seconds, core, settings=None, given=None):
    """Runs a load generator that is to end after some seconds; what it printed. It is killed when it does not end."""
    program = pathlib.Path(command[0] if command[0] != sys.executable else command[1]).name
    try:
        done = subprocess.run(
            # With whoever started it, however that ends.
            ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", core, *map(str, command)],
            input=given,
            capture_output=True,
            text=True,
            timeout=seconds + PATIENCE,
            env={**os.environ, **(settings or {})},
        )
    except subprocess.TimeoutExpired:
        raise Wrong(f"{program} was to run for {seconds} s and had not ended {PATIENCE} s after that") from None
    if done.returncode:
        raise Wrong(f"{program} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def trusting():
    """A client's side of TLS that believes the certificate made for the run, as wrk and h2load do."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def asked(port, path, headers=(), tls=False, body=0):
    """The answer, its header fields and its body."""
    if tls:
        connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=trusting())
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST" if body else "GET", path, b"x" * body if body else None, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def ask(*arguments):
    """As `asked`, without the fields."""
    status, _, body = asked(*arguments)
    return status, body


def expect(what, found, wanted):
    if found != wanted:
        raise Wrong(f"{what}: {found!r} instead of {wanted!r}")


def check_scenario(port, scenario):
    for _ in range(scenario.reached_after):
        if ask(port, scenario.path, scenario.headers, scenario.tls)[0] == scenario.status:
            break
    status, body = ask(port, scenario.path, scenario.headers, scenario.tls, scenario.body)
    expect("status", status, scenario.status)
    if scenario.length is not None:
        expect("length", len(body), scenario.length)
    if scenario.body:
        # As the app counts it, head and body; what is longer in a head that announces a body is its length, its kind and its method.
        without, with_body = (int(asked(port, "/received", (), scenario.tls, size)[1]["X-Received"]) for size in (0, scenario.body))
        if not scenario.body <= with_body - without <= scenario.body + 200:
            raise Wrong(f"of a body of {scenario.body} bytes, {with_body - without} arrived")


def asked_http2(port, path, headers=()):
    """Status and body of an answer over HTTP/2 and TLS."""
    fields = [part for name, value in dict(headers).items() for part in ("-H", f"{name}: {value}")]
    command = ["nghttp", "--no-verify-peer", *fields, f"https://localhost:{port}{path}"]

    def said(*more):
        return subprocess.run([command[0], *more, *command[1:]], capture_output=True, timeout=20).stdout

    status = re.search(rb":status: (\d+)", said("-nv"))
    if not status:
        raise Wrong(f"no answer over HTTP/2 for {path}")
    return int(status[1]), said()


def check_same_work(port, tls_port, limits=True):
    """That the peer establishes the client, judges by it, counts for limits where it has some, and tells the app, as every other does: over HTTP/1, over TLS and over HTTP/2."""
    check_client_and_rules(lambda *question: ask(port, *question), f"127.0.0.1:{port}", "http")
    check_client_and_rules(lambda path, headers=(): ask(tls_port, path, headers, True), f"localhost:{tls_port}", "https")
    check_client_and_rules(lambda *question: asked_http2(tls_port, *question), f"localhost:{tls_port}", "https")
    if limits:
        # A denied request counts: of one client, the first are told that they may not, and then that they are too many.
        statuses = [ask(port, "/deny_limited", {"X-Forwarded-For": "198.51.100.9"})[0] for _ in range(100)]
        expect("/deny_limited: first, and later", (statuses[0], set(statuses), 429 in statuses[-50:]), (403, {403, 429}, True))


def check_client_and_rules(question, host, scheme):
    def told(headers=()):
        status, body = question("/told", headers)
        expect("/told: status", status, 200)
        return json.loads(body)

    direct = told()
    expect("request id, at least 16 characters", len(direct.pop("request_id")) >= 16, True)
    expect(
        "told of a direct client",
        direct,
        {"for": "127.0.0.1", "real_ip": "127.0.0.1", "proto": scheme, "host": host, "port": host.partition(":")[2]},
    )
    # The leftmost address is whatever the client wrote; HAProxy looks at the last one only.
    named = told({"X-Forwarded-For": "198.51.100.7", "Forwarded": "for=10.9.9.9", "X-Real-IP": "10.9.9.9"})
    # Spaces are anybody's choice (RFC 9110 §5.6.1).
    hops = [hop.strip() for hop in named["for"].split(",")]
    expect("client named by a trusted proxy", (named["real_ip"], hops), ("198.51.100.7", ["198.51.100.7", "127.0.0.1"]))
    for client, status in (("10.1.2.3", 200), ("198.51.100.7", 403)):
        expect(f"/deny for {client}", question("/deny", {"X-Forwarded-For": client})[0], status)
    for client, status in (("127.0.0.7", 200), ("198.51.100.7", 403)):
        expect(f"/version for {client}", question("/version", {"X-Forwarded-For": client})[0], status)
    answer = json.loads(question("/version")[1])
    expect("/version", answer, {"service": "app", "environment": "local", "version": "unknown"})


def check_counted(port, limit):
    """That a request to /three counts for a limit, which is one that is reached: the others are not."""
    statuses = {ask(port, "/three")[0] for _ in range(300)}
    expect(f"/three, where the limit `{limit}` is reached", statuses, {200, 429})


def check_logged(log, requests):
    """That every request which was counted has its line. They may come a moment later."""
    deadline, lines = time.monotonic() + LINES_WITHIN, 0
    while lines < requests and time.monotonic() < deadline:
        time.sleep(0.2)
        with log.open("rb") as file:
            lines = sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))
    if lines < requests:
        raise Wrong(f"{requests} requests, and {lines} lines in the access log")


def negotiated(port):
    """What the server chooses of what a client of OpenSSL offers, as wrk, h2load and Python do: version, cipher, group, and how many tickets it sends."""
    request = b"GET /1k HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    # Until the server closes: tickets may come with the answer.
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", "-ign_eof"]
    said = subprocess.run(command, input=request, capture_output=True, timeout=20).stdout.decode(errors="replace")
    chosen = re.search(r"New, (TLSv\S+), Cipher is (\S+)", said)
    if not chosen:
        raise Wrong(f"no TLS: {said.strip()[-300:]}")
    group = re.search(r"(?:Server Temp Key|Peer Temp Key|Negotiated TLS1.3 group): ([^,\s]+)", said)
    tickets = said.count("Post-Handshake New Session Ticket arrived")
    return {"version": chosen[1], "cipher": chosen[2], "group": group[1] if group else None, "tickets": tickets}


def number(pattern, output, program):
    """What a load generator printed after some words."""
    found = re.search(pattern, output)
    if not found:
        raise Wrong(f"{program} does not say {pattern!r}: {output.strip()[-300:]}")
    return found[1]


def drive_http2(port, scenario, seconds, core):
    """Load over HTTP/2 for some seconds; what h2load counted."""
    command = ["h2load", f"-D{seconds}", f"-c{scenario.connections}", f"-m{scenario.streams}", "-t1"]
    output = generate([*command, f"https://localhost:{port}{scenario.path}"], seconds, core)
    succeeded, failed = (int(number(rf"(\d+) {word}", output, "h2load")) for word in ("succeeded", "failed"))
    received = int(number(r"traffic: .*?\((\d+)\) total", output, "h2load"))
    expect("protocol", number(r"Application protocol: (\S+)", output, "h2load"), "h2")
    bad = sum(int(count) for count in re.findall(r"(\d+) [345]xx", output))
    body = int(number(r"traffic: .*?\((\d+)\) data", output, "h2load"))
    if scenario.length and body < succeeded * scenario.length:
        raise Wrong(f"{succeeded} bodies were {body} bytes together, of {scenario.length} each")
    if not succeeded or bad or failed > scenario.connections * scenario.streams:  # those in flight at the end
        raise Wrong(f"{succeeded} answers, {failed} failed, {bad} of the wrong status")
    return {"requests": succeeded, "bytes": received, "seconds": seconds, "bad": bad, "broken": 0}


def drive_script(core, seconds, script, *arguments, given=None):
    """Load by one of the scripts beside this one; what it counted."""
    counted = json.loads(generate([sys.executable, REPORT.with_name(script), *arguments], seconds, core, given=given))
    expect(f"{script}: something was answered", counted["requests"] > 0, True)
    return counted


def drive_at(port, scenario, rate, seconds, core):
    """Load at a fixed rate; how long answers took, in microseconds."""
    fields = {"Host": "localhost", **dict(scenario.headers)}
    request = f"GET {scenario.path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
    counted = drive_script(core, seconds, "pace.py", port, rate, seconds, scenario.connections, given=request)
    if counted["bad"] or counted["broken"]:
        raise Wrong(f"{counted['bad']} of {counted['requests']} answers were not {scenario.status}, {counted['broken']} did not come")
    return counted


def drive(port, scenario, seconds, core):
    """Load for some seconds; what wrk counted."""
    if scenario.how == "websocket":
        return drive_script(core, seconds, "websocket.py", "clients", port, seconds, scenario.connections)
    if scenario.how in ("full", "resumed"):
        return drive_script(core, seconds, "resume.py", port, scenario.path, seconds, scenario.how)
    if scenario.streams:
        return drive_http2(port, scenario, seconds, core)
    fields = [part for name, value in scenario.headers for part in ("-H", f"{name}: {value}")]
    # On a machine that many want, an answer may take longer than the two seconds after which wrk counts it as an error.
    command = ["wrk", "-t1", f"-c{scenario.connections}", f"-d{seconds}s", "--timeout", "30s", "-s", REPORT, *fields]
    # By name: a server with several certificates has to be told which one is meant.
    command += [f"https://localhost:{port}{scenario.path}" if scenario.tls else f"http://127.0.0.1:{port}{scenario.path}"]
    output = generate(command, seconds, core, {"BODY": str(scenario.body), "STATUS": str(scenario.status)})
    counted = json.loads(output.rpartition("@@")[2])
    if not counted["requests"]:
        raise Wrong("no answer")
    # Broken connections, and answers of the wrong kind, would be measured as something they are not.
    right = counted["requests"] - counted["bad"]
    if right < 0.99 * counted["requests"] or counted["broken"]:
        raise Wrong(
            f"{right} of {counted['requests']} answers were {scenario.status}, {counted['broken']} connections broke"
        )
    # A success of another kind would be shorter.
    if scenario.length and counted["bytes"] < counted["requests"] * scenario.length:
        raise Wrong(f"{counted['requests']} answers were {counted['bytes']} bytes together, of {scenario.length} and their heads each")
    return counted


def idle_connections(port, count, tls=False):
    """Opens connections that had one answer each, and keeps them."""
    request, sockets = b"GET /1k HTTP/1.1\r\nHost: localhost\r\n\r\n", []
    context, deadline = trusting(), time.monotonic() + 10 * PATIENCE
    for _ in range(count):
        if time.monotonic() > deadline:
            raise Wrong(f"{len(sockets)} of {count} idle connections took {10 * PATIENCE} s")
        connection = socket.create_connection(("127.0.0.1", port), 10)
        # Else the request may wait for 40 ms until the end of the handshake is acknowledged.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            connection = context.wrap_socket(connection, server_hostname="localhost")
        connection.sendall(request)
        received = b""
        while len(received.partition(b"\r\n\r\n")[2]) < 1024:
            part = connection.recv(65536)
            if not part:
                raise Wrong("a connection was closed before its answer was complete")
            received += part
        sockets.append(connection)
    time.sleep(1)
    return sockets


def still_open(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
