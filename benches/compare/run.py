#!/usr/bin/env python3
"""probegate beside nginx, HAProxy, Envoy and Caddy: CPU time per request, as a ratio within one run.

    cargo build --release -p probegate
    benches/compare/run.py                                  # all scenarios, 5 rounds
    benches/compare/run.py -s plain,deny -p nginx,probegate -r 3 -d 3
    benches/compare/run.py -s edge -r 4 -d 3                # what is answered or passed on at the edge; `rest` is everything else
    benches/compare/run.py --check                          # only that all peers do the same work

Every peer runs one worker on core 0 in front of the same upstream; upstream and load generator (wrk) share core 1.
Rounds are interleaved: each scenario starts all its peers and visits them in turn, for a second at a time, so that a slow
moment of the machine hits all of them. Requests per second depend on who else uses core 1 and are shown for orientation;
what to trust is the CPU time of the proxy per request and its ratio to the reference of the same round.

Needs nginx, haproxy, wrk, h2load (nghttp2-client), openssl, taskset and setpriv; envoy and caddy take part where they are
installed, see benches/README.md. Raw results go to benches/runs/ as JSON lines. What fails is told at the end, with an exit
status that is not 0, and keeps nothing else from being measured.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import chart
import load
import measuring
import peers
import processes
import quota
import scenarios
import tables

HERE = pathlib.Path(__file__).resolve().parent
CONF = HERE / "conf"
UPSTREAM_PORT, ECHO_PORT = 19080, 19081
# Seconds that go by besides what is measured: for each slice, and for start, check and warming up.
PER_SLICE, PER_START = 0.1, 1.7


def prepare(folder):
    """The files that the upstream serves. Started by root, nginx works as a user who has to be let in."""
    folder.chmod(0o755)
    # Beside the certificate, which most look for where their configuration lies.
    shutil.copytree(CONF, folder, dirs_exist_ok=True)
    (folder / "www").mkdir()
    (folder / "tmp").mkdir()
    for name, size in (("10k", 10 << 10), ("100k", 100 << 10), ("10m", 10 << 20), ("page", 12 << 10)):
        (folder / "www" / name).write_bytes(b"x" * size)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder,
        capture_output=True,
        check=True,
    )
    (folder / "both.pem").write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())


def first_line(*command):
    """Of what a command says; None where it fails."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
        # Envoy says where it lies.
        return re.sub(r"^/\S*/", "", (done.stdout or done.stderr).strip().partition("\n")[0])
    except (OSError, subprocess.CalledProcessError):
        return None


def commit():
    """Of the repository that this lies in; None outside of one. Also where it belongs to somebody else, as in containers and under sudo."""
    return first_line("git", "-c", f"safe.directory={peers.ROOT}", "-C", peers.ROOT, "describe", "--always", "--dirty")


def tls_library(name):
    """Which one a peer has, and of which version; None where it does not say."""
    peer = peers.ALL[name]
    if name == "probegate":
        found = re.search(r'name = "rustls"\nversion = "([^"]+)"', (peers.ROOT / "Cargo.lock").read_text())
        return f"rustls {found[1]}"
    if not peer.tls_library:
        return None
    done = subprocess.run([peers.find(peer.program), *peer.tls_library], capture_output=True, text=True)
    # What it was built with, and then what it runs with.
    found = re.findall(r"OpenSSL \d[\w.]*", done.stdout + done.stderr)
    return found[-1] if found else None


def machine(options, negotiated):
    """What has to be known to compare a run with another one."""
    with open("/proc/cpuinfo") as file:
        cpu = next(
            (line.partition(":")[2].strip() for line in file if line.startswith("model name")), platform.machine()
        )
    versions = {name: first_line(peers.ALL[name].command(1, "", options.probegate)[0], *peers.ALL[name].version) for name in options.peers}
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
        "versions": {**versions, "commit": commit() or "unknown"},
        # The program need not be of that commit.
        "program": hashlib.sha256(options.probegate.read_bytes()).hexdigest()[:16] if "probegate" in options.peers else None,
        "tls": negotiated,
        "tls_libraries": {name: tls_library(name) for name in options.peers},
        "no_quota": options.no_quota,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "logs": options.logs,
    }


def arguments():
    def names(known):
        def parse(text):
            sets = scenarios.SETS if known is scenarios.NAMES else {}
            chosen = [name for part in text.split(",") for name in sets.get(part, [part])]
            unknown = [name for name in chosen if name not in known]
            if unknown:
                raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are: {', '.join(known)}")
            return chosen

        return parse

    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", peers.ROOT / "target"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-p", "--peers", type=names(peers.ALL), metavar="NAME,…", help=", ".join(peers.ALL))
    parser.add_argument(
        "-s", "--scenarios", type=names(scenarios.NAMES), default=scenarios.NAMES, metavar="NAME,…", help=", ".join([*scenarios.NAMES, *scenarios.SETS])
    )
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("-d", "--seconds", type=int, default=4, help="of each measurement, in slices of one; an odd number, so that a median is one of them")
    parser.add_argument("-o", "--out", type=pathlib.Path, help="file for the raw results")
    parser.add_argument(
        "--probegate", type=lambda text: pathlib.Path(text).resolve(), default=target.resolve() / "release/probegate"
    )
    parser.add_argument("--chart", type=pathlib.Path, help="file for a picture of the ratios, as SVG")
    parser.add_argument(
        "--patience", type=float, default=load.PATIENCE, help="seconds after its time until a load generator is taken to hang"
    )
    parser.add_argument("--logs", action="store_true", help="with access logs in every scenario")
    parser.add_argument("--check", action="store_true", help="compare the answers, measure nothing")
    options = parser.parse_args()
    if options.chart and not options.check and not commit():
        parser.error("--chart: a picture is of a commit, and this is no checkout of one: git describe --always --dirty says nothing")
    missing = [name for name, peer in peers.ALL.items() if peer.optional and not peers.find(peer.program)]
    if options.peers and set(missing) & set(options.peers):
        parser.error(f"not installed: {', '.join(name for name in options.peers if name in missing)}; see benches/README.md")
    if not options.peers:
        options.peers = [name for name in peers.ALL if name not in missing]
        for name in missing:
            print(f"{name} is not installed and left out; benches/README.md says how to install it", flush=True)
    if "probegate" in options.peers and not options.probegate.exists():
        parser.error(f"{options.probegate} is missing: cargo build --release -p probegate, or -p nginx,nginx-tuned,haproxy")
    return options


def taking_part(name, options, failed):
    """The peers of a scenario: without those that can not do it, that nothing is compared with, or that do not do the same work."""
    return [
        peer
        for peer in options.peers
        if not scenarios.why_left_out(peer, name) and (peer, None) not in failed and (peer, name) not in failed
    ]


def expected(options):
    """Seconds that all of it takes, where nobody else works."""
    total = 0.0
    for name in options.scenarios:
        count, scenario = len(taking_part(name, options, {})), scenarios.ALL.get(name)
        if not scenario:
            # Once. Connections that shake hands take longer.
            total += count * (45 if scenarios.MEMORY[name] else 28)
            continue
        slices = (scenario.slices or options.seconds) * (scenario.slice_seconds + PER_SLICE)
        total += options.rounds * (count * (slices + PER_START) + (8 if scenario.share else 0))
    return total


def check(options, folder):
    """That all peers do the same work. Peer and scenario, or peer and None where nothing of it can be compared, to what they do not; and what each negotiates."""
    failed, negotiated = {}, {}
    measuring.configure(folder, CONF, None)
    for name in options.peers:
        peer = peers.ALL[name]
        try:
            with measuring.start(name, options.probegate, folder):
                load.check_same_work(peer.port, peer.tls_port, limits=not peer.why_not("limited", False))
                negotiated[name] = load.negotiated(peer.tls_port)
                for scenario in scenarios.ALL.values():
                    if scenario.name in options.scenarios and name in taking_part(scenario.name, options, failed):
                        try:
                            load.check_scenario(measuring.port_of(name, scenario.tls), scenario)
                        except measuring.PROBLEMS as problem:
                            failed[name, scenario.name] = problem
        except measuring.PROBLEMS as problem:
            failed[name, None] = problem
        if "three" in options.scenarios and name in taking_part("three", options, failed):
            try:
                measuring.check_three(name, options, folder, CONF)
            except measuring.PROBLEMS as problem:
                failed[name, "three"] = problem
    return failed, negotiated


def measure_all(options, upstream, folder, raw, unequal, negotiated):
    """Every measurement of every round, written as it is made; and what failed besides what did not do the same work."""
    rows, failed = [], {}
    raw.write(json.dumps(machine(options, negotiated)) + "\n")

    def keep(peer, name, number, result, figure):
        rows.append({"peer": peer, "scenario": name, "round": number, **result})
        raw.write(json.dumps(rows[-1]) + "\n")
        raw.flush()
        print(f"round {number + 1}/{options.rounds}  {peer:12} {name:10} {figure}", flush=True)

    def fail(peer, name, number, problem):
        failed[peer, name] = f"round {number + 1}: {problem}"
        print(f"round {number + 1}/{options.rounds}  {peer:12} {name:10} FAILED: {problem}", flush=True)

    for number in range(options.rounds):
        for name in options.scenarios:
            chosen = taking_part(name, options, unequal)
            scenario = scenarios.ALL.get(name)
            measuring.configure(folder, CONF, scenario)
            if name in scenarios.MEMORY:
                # Memory does not depend on the moment: once is enough.
                for peer in chosen if number == 0 else []:
                    try:
                        result = measuring.measure_memory(peer, options, folder, scenarios.MEMORY[name])
                        keep(peer, name, number, result, f"{result['held_kib']:8.0f} KiB")
                    except measuring.PROBLEMS as problem:
                        fail(peer, name, number, problem)
                continue
            aimed = None
            if scenario.share:
                try:
                    aimed = measuring.rate_for(scenario, options, upstream, folder)
                except measuring.PROBLEMS as problem:
                    fail(scenario.reference, name, number, f"the rate at which it uses its share: {problem}")
                    continue
            found, wrong = measuring.measure(name, number, chosen, options, upstream, folder, aimed)
            for peer, result in found.items():
                keep(peer, name, number, result, f"{result['us']:8.2f} µs")
            for peer, problem in wrong.items():
                fail(peer, name, number, problem)
    return rows, failed


def measure_and_print(options, upstream, folder, unequal, negotiated):
    """What failed, besides what did not do the same work."""
    out = options.out or peers.ROOT / "benches/runs" / time.strftime("%Y%m%d-%H%M%S.jsonl")
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w") as raw:
        rows, failed = measure_all(options, upstream, folder, raw, unequal, negotiated)
    for name in options.scenarios:
        if name in scenarios.MEMORY:
            tables.print_memory(name, rows, options.peers, {**unequal, **failed}, measuring.IDLE_CONNECTIONS)
        else:
            tables.print_scenario(name, rows, options.peers, {**unequal, **failed})
            tables.print_tls(name, options.peers, negotiated)
    if options.no_quota:
        print(f"\nno peer was bounded: {options.no_quota}")
    tables.print_scaling(rows, options.peers)
    tables.print_resumption(rows, options.peers)
    if options.chart:
        options.chart.write_text(chart.draw(chart.ratios([out])))
    print(f"\nraw results: {out}" + ("" if commit() else ", of an unknown commit: nothing to draw or to publish"))
    return failed


def main():
    # As Ctrl-C: whatever was started is stopped on the way out.
    for ended in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ended, lambda number, _: sys.exit(128 + number))
    options = arguments()
    load.PATIENCE = options.patience
    if options.logs:
        scenarios.ALL.update({name: dataclasses.replace(one, log=True) for name, one in scenarios.ALL.items()})
    processes.allow_many_files()
    options.no_quota = None
    if not options.check and any(scenarios.ALL[name].quota for name in options.scenarios if name in scenarios.ALL):
        options.no_quota = quota.why_not()
        if options.no_quota:
            print(f"peers can not be bounded, so that load and app may bound the rate: {options.no_quota}", flush=True)

    with tempfile.TemporaryDirectory(prefix="probegate-bench-") as name:
        folder = pathlib.Path(name)
        prepare(folder)
        command = ["nginx", "-p", folder, "-c", CONF / "upstream.conf", "-g", "daemon off;"]
        echo = [sys.executable, HERE / "websocket.py", "app", ECHO_PORT]
        try:
            with (
                processes.Process("echo", echo, (ECHO_PORT,), measuring.LOAD_CORE, folder),
                processes.Process("upstream", command, (UPSTREAM_PORT,), measuring.LOAD_CORE, folder) as upstream,
            ):
                failed, negotiated = check(options, folder)
                if options.check and not failed:
                    print(f"{', '.join(options.peers)}: the same answers")
                if not options.check:
                    print(f"it takes about {expected(options) / 60:.0f} minutes", flush=True)
                    failed |= measure_and_print(options, upstream, folder, failed, negotiated)
        except processes.Failed as problem:
            sys.exit(str(problem))
    for (peer, name), problem in failed.items():
        print(f"FAILED {peer}{f', {name}' if name else ''}: {problem}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
