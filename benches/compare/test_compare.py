"""The instrument itself: python3 -m unittest discover benches/compare. Needs nginx, wrk, openssl and setpriv; ports as run.py."""

import argparse
import contextlib
import dataclasses
import io
import itertools
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import bars
import chart
import load
import measuring
import peers
import processes
import quota
import results
import run as program
import scenarios
import tables

RUN = pathlib.Path(__file__).with_name("run.py")
# The upstream, what sends messages back, and nginx.
PORTS = (19080, 19081, 19101, 19111)


def run(*arguments, path=None):
    environment = {**os.environ, "PATH": os.pathsep.join([*([str(path)] if path else []), os.environ["PATH"]])}
    return subprocess.run(
        [sys.executable, RUN, "-p", "nginx", "-r", "1", "-d", "1", *arguments], capture_output=True, text=True, timeout=300, env=environment
    )


def eventually(condition):
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("not within a minute")
        time.sleep(0.05)


class Generators(unittest.TestCase):
    def setUp(self):
        self.addCleanup(setattr, load, "PATIENCE", load.PATIENCE)
        load.PATIENCE = 0.5

    def test_one_that_hangs_is_killed(self):
        with self.assertRaisesRegex(load.Wrong, "sleep was to run for 0 s and had not ended 0.5 s after that"):
            load.generate(["sleep", "3600"], 0, "0")

    def test_one_that_fails_says_why(self):
        with self.assertRaisesRegex(load.Wrong, "ls ended with 2: .*/nowhere"):
            load.generate(["ls", "/nowhere"], 5, "0")


class Ratios(unittest.TestCase):
    def test_a_machine_that_changes_its_speed_spoils_one_slice(self):
        reference = {"us": 12.5, "slices": [10.0, 10.0, 15.0, 15.0]}
        self.assertAlmostEqual(tables.ratio({"us": 13.125, "slices": [9.0, 13.5, 13.5, 13.5]}, reference), 0.9)

    def test_rows_of_earlier_runs_have_no_slices(self):
        self.assertAlmostEqual(tables.ratio({"us": 9.0}, {"us": 10.0}), 0.9)


class Bounds(unittest.TestCase):
    """What is told of peers that are to be the bottleneck."""

    AT = {"peer": "nginx", "scenario": "at_70", "round": 0, "rps": 990.0, "wanted_rps": 1000.0, "aimed_used": 0.71, "used": 0.68, "late_us": 40, "p99_us": 900}

    def test_a_share_of_what_somebody_else_bounded_is_not_measured(self):
        self.assertIsNone(tables.why_not_measured(self.AT))
        self.assertIsNone(tables.why_not_measured({**self.AT, "peer": "probegate", "used": 0.4}))
        self.assertIn("no rate was found at which nginx uses 70%", tables.why_not_measured({**self.AT, "aimed_used": 0.14}))
        self.assertIn("it used 98% of what it may have", tables.why_not_measured({**self.AT, "used": 0.98}))
        self.assertIn("only 50% of the rate", tables.why_not_measured({**self.AT, "rps": 500.0}))
        self.assertIn("the load asked 40 ms late", tables.why_not_measured({**self.AT, "late_us": 40000, "p99_us": 60000}))
        self.assertIn("before peers were bounded", tables.why_not_measured({"peer": "nginx", "scenario": "at_70", "rps": 500.0}))

    def test_the_table_says_so(self):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            tables.print_scenario("at_70", [{**self.AT, "yardstick_us": [1.0], "aimed_used": 0.14}], ["nginx"], {})
        self.assertRegex(out.getvalue(), r"nginx +not measured: .*load and app bounded it")

    def test_two_cores_are_compared_by_the_rate_where_the_peers_bounded_it(self):
        def rows(used):
            one = {"peer": "nginx", "scenario": "one_core", "round": 0, "us": 10.0, "rps": 100.0, "used": 0.99, "quota": 0.2}
            two = {**one, "scenario": "two_cores", "rps": 190.0, "us": 12.5, "used": used, "quota": 0.4}
            return [one, two, {"peer": "nginx", "scenario": "plain", "round": 0, "us": 10.0, "rps": 100.0}]

        self.assertEqual(tables.scaling(rows(0.98), "nginx"), ([1.9], True))
        self.assertEqual(tables.scaling(rows(0.5), "nginx"), ([1.6], False))

    def test_a_quota_holds(self):
        if why_not := quota.why_not():
            with self.assertRaises(OSError, msg=f"groups can be made, and yet: {why_not}"):
                folder = quota.hierarchy()[0] / f"{quota.NAME}{os.getpid()}-test"
                folder.mkdir()
                folder.rmdir()
            return
        with tempfile.TemporaryDirectory() as name, socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            free.close()
            busy = f"import socket\nheard = socket.create_server(('127.0.0.1', {port}))\nwhile True: pass"
            with quota.Group("test", 0.1, 10000) as group:
                command = [sys.executable, "-c", busy]
                with processes.Process("busy", command, (port,), "0", pathlib.Path(name), within=group.entering()) as process:
                    before, begun = processes.cpu_times(process.pid)[0], time.monotonic()

                    def share():
                        return (processes.cpu_times(process.pid)[0] - before) / 1e9 / (time.monotonic() - begun)

                    # The longer one looks, the nearer it comes to a tenth; where no quota holds, to the whole.
                    eventually(lambda: group.throttled()[1] > 50 and share() < 0.2)
            self.assertFalse(group.folder.exists())


class Published(unittest.TestCase):
    """Every page shows what the committed runs say."""

    README = chart.README.read_text()

    def runs(self):
        names = re.findall(r"`runs/([^`]+\.jsonl)`", results.between(self.README).partition("\n")[0])
        self.assertTrue(names)
        return [chart.BENCHES / "runs" / name for name in names]

    def test_every_page_is_of_the_runs_that_are_named(self):
        for page, written in chart.PAGES.items():
            with self.subTest(page):
                text = page.read_text()
                self.assertEqual(text, written(text, self.runs()), "benches/compare/chart.py RUN.jsonl… writes it")

    def test_the_picture_is_of_the_same_runs(self):
        self.assertEqual(chart.PICTURE.read_text(), chart.draw(chart.ratios(self.runs())), "benches/compare/chart.py RUN.jsonl… draws it")

    def test_the_runs_are_committed(self):
        if not program.commit():
            # Not a checkout: they came with it, or the others would have failed.
            return
        listed = ["git", "-c", f"safe.directory={peers.ROOT}", "-C", peers.ROOT, "ls-files", "--error-unmatch", *self.runs()]
        done = subprocess.run(listed, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, f"git add -f: {done.stderr}")


class Peers(unittest.TestCase):
    def test_who_is_left_out_is_left_out_of_something(self):
        for name, peer in peers.ALL.items():
            self.assertLessEqual(set(peer.left_out), set(scenarios.NAMES), name)

    def test_what_is_written_otherwise_is_there(self):
        """In the file of the peer itself: not in that of the upstream, nor in that of another."""
        for name, peer in peers.ALL.items():
            text = RUN.with_name("conf").joinpath(peer.configuration).read_text()
            for was, becomes in (*peer.changes, *(change for strict in peer.strict.values() for change in strict)):
                self.assertIn(was, text, name)
                self.assertNotEqual(was, becomes)
            told = "{workers}" in "".join([*peer.arguments, *peer.environment.values()])
            self.assertEqual(sum(was in text for was, _ in peers.WORKERS), 0 if told else 1, name)
            self.assertEqual(bool(peer.log), not peer.no_logs, name)
            self.assertEqual(set(peer.strict), set() if peer.why_not("three", False) else set(peers.THREE), name)


class Sets(unittest.TestCase):
    def test_they_are_all_there_is(self):
        self.assertEqual(sorted(name for names in scenarios.SETS.values() for name in names), sorted(scenarios.NAMES))
        self.assertTrue(set(scenarios.SETS).isdisjoint(scenarios.NAMES))

    def test_a_peer_that_nothing_is_compared_with_is_left_out(self):
        options = argparse.Namespace(peers=["nginx", "nginx-tuned", "haproxy", "probegate"], rounds=2, seconds=3, scenarios=["b100k"])
        self.assertEqual(program.taking_part("b100k", options, {}), ["nginx-tuned", "haproxy", "probegate"])
        self.assertEqual(program.taking_part("mem", options, {}), ["nginx", "probegate"])
        self.assertEqual(program.taking_part("at_70", options, {}), ["nginx", "probegate"])
        # Two rounds of three peers, each of which is looked at for three seconds.
        self.assertGreater(program.expected(options), 18)


def row(peer, name, us, **more):
    return {"peer": peer, "scenario": name, "round": 0, "us": us, "user_us": us, "system_us": 0.0, "yardstick_us": [1.0], **more}


class Bars(unittest.TestCase):
    def of(self, *rows):
        return bars.all_of(list(rows))

    def test_one_that_is_missed_by_little_is_missed_and_says_so(self):
        for us, met, now in ((0.88, True, "**0.88**"), (0.884, False, "**0.884**"), (0.95, False, "**0.95**")):
            bar = self.of(row("nginx", "plain", 1.0), row("probegate", "plain", us))["plain"]
            self.assertEqual((bar.met, bar.now), (met, now))

    def test_every_kind_is_judged(self):
        memory = {"bytes_per_connection": 5000, "idle_kib": 1000, "held_kib": 11000, "later_kib": 5000}
        found = self.of(row("probegate", "mem", 1.0, **memory), row("probegate", "mem_tls", 1.0, **{**memory, "later_kib": 1500}))
        self.assertEqual([found[name].met for name in ("mem", "mem_back", "mem_tls", "mem_tls_back")], [False, False, True, True])
        at = {"rps": 1000.0, "wanted_rps": 1000.0, "aimed_used": 0.7, "used": 0.7, "late_us": 40}
        at_70 = row("nginx", "at_70", 1.0, **at, p99_us=900, p99_slices_us=[900, 1000, 800]), row("probegate", "at_70", 1.0, **at, p99_us=9, p99_slices_us=[990, 500, 960])
        self.assertEqual(self.of(*at_70)["at_70"].now, "**1.10** (0.50–1.20)")
        cores = (row("probegate", name, 1.0, rps=rps, used=1.0, quota=quota) for name, rps, quota in (("one_core", 100.0, 0.2), ("two_cores", 179.0, 0.4)))
        self.assertFalse(self.of(*cores)["two_cores"].met)

    def test_none_is_left_out_of_what_is_said(self):
        rows = [row("nginx", "plain", 1.0), row("probegate", "plain", 0.9), row("nginx", "plain_log", 1.0), row("probegate", "plain_log", 0.9)]
        first, *lines = results.not_met(rows)
        self.assertIn("2 are met", first)
        for name in ("deny", "mem_tls", "two_cores", "at_70"):
            self.assertIn(f"`{name}`", first)
        self.assertEqual([line.partition(":")[0] for line in lines[3:]], ["| `plain` | **0.90** | ≤ 0.88 | 0.9 + 0.0 (1.0 + 0.0) | " + bars.LIMITS["plain"][0] + " | " + bars.LIMITS["plain"][1].partition(":")[0]])


class Answers(unittest.TestCase):
    """What is asked before anything is measured, of somebody who does it wrong."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="probegate-bench-test-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        program.prepare(self.folder)

    @contextlib.contextmanager
    def nginx(self, *changes):
        """The peer and its app, with something written otherwise."""
        measuring.configure(self.folder, program.CONF, None, changes)
        app = ["nginx", "-p", self.folder, "-c", program.CONF / "upstream.conf", "-g", "daemon off;"]
        with processes.Process("upstream", app, (program.UPSTREAM_PORT,), "1", self.folder), measuring.start("nginx", None, self.folder):
            yield peers.ALL["nginx"]

    def test_a_client_or_a_rule_that_is_wrong_over_tls_is_found(self):
        for line, wrong in (("X-Forwarded-Proto $scheme", "X-Forwarded-Proto http"), ("X-Real-IP $remote_addr", "X-Real-IP 127.0.0.1")):
            with self.nginx((line, wrong)) as peer, self.assertRaises(load.Wrong):
                load.check_same_work(peer.port, peer.tls_port)
        with self.nginx(("deny all;", "allow all;")) as peer, self.assertRaisesRegex(load.Wrong, "/deny for 198.51.100.7: 200 instead of 403"):
            load.check_client_and_rules(lambda *question: load.asked_http2(peer.tls_port, *question), f"localhost:{peer.tls_port}", "https")

    def test_a_limit_that_three_does_not_count_for_is_found(self):
        strict = peers.ALL["nginx"].strict["third"]
        with self.nginx(*strict) as peer:
            load.check_counted(peer.port, "third")
        with self.nginx(*strict, ("limit_req zone=third burst=10 nodelay;", "")) as peer, self.assertRaisesRegex(load.Wrong, "`third` is reached: \\{200\\} "):
            load.check_counted(peer.port, "third")

    def test_bodies_over_http2_are_looked_at(self):
        shorter = dataclasses.replace(scenarios.ALL["tls_h2"], path="/version")
        with self.nginx() as peer, self.assertRaisesRegex(load.Wrong, "bodies were \\d+ bytes together, of 1024 each"):
            load.drive(peer.tls_port, shorter, 1, "1")

    def test_requests_without_a_line_are_found(self):
        log = self.folder / "access.log"
        log.write_text("a line\n" * 10)
        load.check_logged(log, 10)
        self.addCleanup(setattr, load, "LINES_WITHIN", load.LINES_WITHIN)
        load.LINES_WITHIN = 0.3
        with self.assertRaisesRegex(load.Wrong, "11 requests, and 10 lines"):
            load.check_logged(log, 11)

    def test_the_slowest_percent_is_what_it_is(self):
        """One in twenty takes a third of a second."""

        def serve(listening):
            with contextlib.suppress(OSError):
                while True:
                    connection = listening.accept()[0]
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()

        asked = itertools.count()

        def answer(connection):
            with contextlib.suppress(OSError), connection:
                while connection.recv(65536):
                    time.sleep(0.33 if next(asked) % 20 == 0 else 0)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=serve, args=(listening,), daemon=True).start()
            counted = load.drive_at(listening.getsockname()[1], dataclasses.replace(scenarios.ALL["at_70"], connections=8), 100, 2, "1")
        self.assertGreaterEqual(counted["p99_us"], 330000)
        self.assertLess(counted["p50_us"], 330000)


class Runs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="probegate-bench-test-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.out = self.folder / "out.jsonl"

    def rows(self):
        return [json.loads(line) for line in self.out.read_text().splitlines()][1:]

    def test_a_scenario_is_measured_in_slices(self):
        done = run("-s", "plain,post", "-d", "2", "-o", self.out)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("x nginx", done.stdout)
        self.assertEqual([(row["scenario"], len(row["slices"])) for row in self.rows()], [("plain", 2), ("post", 2)])
        for row in self.rows():
            self.assertGreater(row["us"], 0)
            self.assertGreater(row["requests"], 0)

    def test_the_head_says_what_was_measured(self):
        done = run("-s", "tls_full,tls_resumed", "-o", self.out)
        self.assertEqual(done.returncode, 0, done.stderr)
        head = json.loads(self.out.read_text().splitlines()[0])
        self.assertEqual(head["versions"]["commit"], program.commit() or "unknown")
        self.assertEqual((peers.ROOT / ".git").exists(), head["versions"]["commit"] != "unknown")
        self.assertRegex(head["tls_libraries"]["nginx"], r"^OpenSSL \d+\.\d")
        self.assertEqual(head["tls"]["nginx"]["version"], "TLSv1.3")
        self.assertGreater(head["tls"]["nginx"]["tickets"], 0)
        self.assertIn(f"  nginx: {tables.agreed(head['tls']['nginx'])}", done.stdout)
        self.assertRegex(done.stdout, r"nginx: a connection that resumes a session costs 0\.\d+ .* of one that does not")

    def test_an_unknown_commit_is_said_and_not_drawn(self):
        git = self.folder / "git"
        git.write_text("#!/bin/sh\nexit 128\n")
        git.chmod(0o755)
        done = run("-s", "plain", "--chart", self.folder / "chart.svg", path=self.folder)
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn("a picture is of a commit", done.stderr)
        done = run("-s", "plain", "-o", self.out, path=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("of an unknown commit", done.stdout)
        self.assertEqual(json.loads(self.out.read_text().splitlines()[0])["versions"]["commit"], "unknown")

    def test_answers_of_another_status_are_not_measured(self):
        with tempfile.TemporaryDirectory() as name, self.refusing(pathlib.Path(name)) as port:
            denied = scenarios.ALL["deny"]
            self.assertEqual(load.drive(port, denied, 1, "1")["bad"], 0)
            with self.assertRaisesRegex(load.Wrong, "^0 of \\d+ answers were 429"):
                load.drive(port, dataclasses.replace(denied, status=429), 1, "1")

    @contextlib.contextmanager
    def refusing(self, folder):
        """A server that has a 403 for everybody."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        text = f"pid nginx.pid; error_log stderr crit; events {{}} http {{ access_log off; server {{ listen 127.0.0.1:{port}; return 403; }} }}"
        (folder / "nginx.conf").write_text(text)
        command = ["nginx", "-p", folder, "-c", "nginx.conf", "-g", "daemon off;"]
        with processes.Process("refusing", command, (port,), "0", folder):
            yield port

    def test_a_share_of_the_rate_is_the_peers_or_is_not_measured(self):
        done = run("-s", "at_30", "-o", self.out)
        self.assertEqual(done.returncode, 0, done.stderr)
        row = self.rows()[0]
        self.assertEqual(row["quota"], None if quota.why_not() else 0.2)
        self.assertEqual((len(row["slices"]), len(row["p99_slices_us"])), (1, 1))
        # Whatever -d says.
        self.assertGreaterEqual(row["seconds"], scenarios.LONG)
        self.assertEqual(tables.why_not_measured(row) is not None, "not measured: " in done.stdout)

    def test_a_generator_that_hangs_fails_its_scenario_and_no_other(self):
        hanging = self.folder / "h2load"
        hanging.write_text("#!/bin/sh\nexec sleep 3600\n")
        hanging.chmod(0o755)
        done = run("-s", "tls_h2,plain", "--patience", "10", "-o", self.out, path=self.folder)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("FAILED nginx, tls_h2: round 1: h2load was to run for 1 s and had not ended 10.0 s after that", done.stderr)
        self.assertEqual([row["scenario"] for row in self.rows()], ["plain"])
        self.assertFalse(any(map(processes.is_open, PORTS)))

    def test_nothing_outlives_it_however_it_ends(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            with self.subTest(number):
                command = [sys.executable, RUN, "-p", "nginx", "-s", "plain", "-r", "1", "-d", "120", "-o", self.out]
                # Killed, it leaves its folder behind.
                environment = {**os.environ, "TMPDIR": str(self.folder)}
                child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=environment)
                try:
                    eventually(lambda: all(map(processes.is_open, PORTS)))
                finally:
                    child.send_signal(number)
                    child.wait(60)
                eventually(lambda: not any(map(processes.is_open, PORTS)))


if __name__ == "__main__":
    unittest.main()
