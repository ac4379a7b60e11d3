#!/usr/bin/env python3
"""Instructions of what every request needs, compared with those that were recorded.

    cargo test --workspace --features probegate/fault-injection --no-run && benches/counts/run.py
    benches/counts/run.py --record      # after a change that is meant

Counted by callgrind, which executes them one by one: the same on a busy machine as on an idle one. It is called directly: gungraun, which wraps it, counts functions of a benchmark, and
the counts that matter most are those of the built program serving requests. The program is built as the tests are, not as
a release is: what counts here is the difference that a change makes. Records are of one compiler; where another one built the program, the counts are
shown and nothing is compared, which fails where CI is set.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import whole

HERE = pathlib.Path(__file__).resolve().parent
RECORD = HERE / "recorded.json"
FEW, MANY = 100, 1100
TOLERANCE = 0.03
# Of whole requests: ticks, and how reads and writes fall, are in them.
WHOLE_TOLERANCE = 0.04


def collected(program, name, times):
    """Instructions of a whole run."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(program), name, str(times)]
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        sys.exit(f"{name}: {done.stderr[-500:]}")
    return int(found[1])


def count(program, name):
    """Instructions of one time: what the start of the program needs is in both runs."""
    return round((collected(program, name, MANY) - collected(program, name, FEW)) / (MANY - FEW))


def main():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="keep what is counted")
    parser.add_argument("--program", type=pathlib.Path, default=target / "debug/examples/counts")
    parser.add_argument("--probegate", type=pathlib.Path, default=target / "debug/probegate")
    options = parser.parse_args()
    names = subprocess.run([options.program], capture_output=True, text=True, check=True).stderr.splitlines()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        counted = dict(zip(names, threads.map(lambda name: count(options.program, name), names)))
        probegate = options.probegate.resolve()
        counted |= zip(whole.CASES, threads.map(lambda name: whole.count(probegate, name), whole.CASES))
    compiler = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if options.record:
        RECORD.write_text(json.dumps({"compiler": compiler, "instructions": counted}, indent=2) + "\n")
    recorded = json.loads(RECORD.read_text())
    comparable = recorded["compiler"] == compiler
    worse = []
    for name, found in counted.items():
        known = recorded["instructions"].get(name)
        change = (found - known) / known if known else None
        print(f"{name:20}{found:8}" + (f"  recorded {known}, {change:+.1%}" if known else "  not recorded"))
        tolerance = WHOLE_TOLERANCE if name in whole.CASES else TOLERANCE
        if known is None or change > tolerance:
            worse.append(name)
        elif change < -tolerance:
            print(f"{'':20}fewer than recorded: --record keeps that")
    if os.environ.get("CARGO_PROFILE_DEV_OPT_LEVEL"):
        print("not compared: CARGO_PROFILE_DEV_OPT_LEVEL builds another program than the one that was recorded")
    elif not comparable:
        said = f"not compared: recorded with {recorded['compiler']}, built with {compiler}. --record makes it comparable"
        if os.environ.get("CI"):
            sys.exit(said)
        print(said)
    elif worse:
        sys.exit(f"more than {TOLERANCE:.0%} ({WHOLE_TOLERANCE:.0%} of whole requests) more instructions, or not recorded: {', '.join(worse)}")


if __name__ == "__main__":
    main()
