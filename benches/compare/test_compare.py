"""The instrument itself: python3 -m unittest discover benches/compare. Needs nginx, wrk, openssl and setpriv; ports as run.py."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import load
import peers
import processes
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
