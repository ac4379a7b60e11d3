"""The instrument itself: python3 -m unittest discover benches/compare. Needs nginx, wrk, openssl and setpriv; ports as run.py."""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import chart
import load
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
            # What is said of it then is all there is to see.
            self.assertTrue(why_not)
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
    """The README shows what the committed runs say."""

    README = chart.README.read_text()

    def runs(self):
        names = re.findall(r"`runs/([^`]+\.jsonl)`", results.between(self.README).partition("\n")[0])
        self.assertTrue(names)
        return [chart.BENCHES / "runs" / name for name in names]

    def test_the_tables_are_those_of_the_runs_they_name(self):
        self.assertEqual(results.between(self.README), results.markdown(self.runs()), "benches/compare/chart.py RUN.jsonl… writes them")

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
        texts = "".join(file.read_text() for file in RUN.with_name("conf").iterdir())
        for was, _ in [*peers.WORKERS, *(change for peer in peers.ALL.values() for change in peer.changes)]:
            self.assertIn(was, texts)


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
        self.assertTrue(head["versions"]["commit"])
        self.assertEqual((peers.ROOT / ".git").exists(), head["versions"]["commit"] != "unknown")
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
        done = run("-s", "at_70", "-o", self.out)
        self.assertEqual(done.returncode, 0, done.stderr)
        row = self.rows()[0]
        self.assertEqual(row["quota"], None if quota.why_not() else 0.2)
        self.assertGreaterEqual(row["p99_us"], row["p50_us"])
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
