#!/usr/bin/env python3
"""probegate beside nginx and HAProxy: CPU time per request, as a ratio within one run.

    cargo build --release -p probegate
    benches/compare/run.py                                  # all scenarios, 5 rounds
    benches/compare/run.py -s plain,deny -p nginx,probegate -r 3 -d 2
    benches/compare/run.py --check                          # only that all peers do the same work

Every peer runs one worker on core 0 in front of the same upstream; upstream and load generator (wrk) share core 1.
Rounds are interleaved: each scenario visits every peer in turn, freshly started, so that a slow minute of the machine
hits all of them. Requests per second depend on who else uses core 1 and are shown for orientation; what to trust is the
CPU time of the proxy per request and its ratio to the reference of the same round.

Needs nginx, haproxy, wrk, h2load (nghttp2-client), openssl and taskset. Raw results go to benches/runs/ as JSON lines.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import chart
import load
import processes
import scenarios

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CONF = HERE / "conf"
UPSTREAM_PORT, ECHO_PORT = 19080, 19081
PROXY_CORE, LOAD_CORE = os.environ.get("PROXY_CORE", "0"), os.environ.get("LOAD_CORE", "1")
IDLE_CONNECTIONS = 10000


def nginx(conf):
    return lambda folder, _: ["nginx", "-p", folder, "-c", pathlib.Path(folder) / conf, "-g", "daemon off;"]


def probegate(folder, binary):
    return [binary, "run", "-c", pathlib.Path(folder) / "probegate.yaml"]


# Name to (port, port with TLS, command in the foreground).
PEERS = {
    "nginx": (19101, 19111, nginx("nginx.conf")),
    "nginx-tuned": (19104, 19114, nginx("nginx-tuned.conf")),
    "haproxy": (19102, 19112, lambda _, __: ["haproxy", "-f", CONF / "haproxy.cfg", "-db"]),
    "probegate": (19103, 19113, probegate),
}
MEMORY = {"mem": False, "mem_tls": True}


def prepare(folder):
    """The files that the upstream serves. Started by root, nginx works as a user who has to be let in."""
    folder.chmod(0o755)
    # Beside the certificate, which nginx and probegate look for where their configuration lies.
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


def configure(folder, scenario):
    """The peers' configurations as this scenario wants them."""
    changes = []
    if scenario and scenario.log:
        changes += [
            ("access_log off;", "access_log access.log combined buffer=64k flush=1s;"),
            ("access: {format: off}", f"access: {{format: combined, to: {folder}/access.log}}"),
        ]
    if scenario and scenario.workers > 1:
        changes += [
            ("worker_processes 1;", f"worker_processes {scenario.workers};"),
            ("workers: 1", f"workers: {scenario.workers}"),
        ]
    for file in CONF.iterdir():
        text = file.read_text()
        for was, becomes in changes if file.name != "upstream.conf" else []:
            text = text.replace(was, becomes)
        (folder / file.name).write_text(text)


def cores_of(scenario):
    """Those of the peer, and those of load and upstream."""
    if scenario and scenario.workers > 1:
        both = f"{PROXY_CORE},{LOAD_CORE}"
        return both, both
    return PROXY_CORE, LOAD_CORE


def start(name, options, folder, scenario=None):
    port, _, command = PEERS[name]
    configure(folder, scenario)
    return processes.Process(name, command(folder, options.probegate), port, cores_of(scenario)[0], folder)


def port_of(name, tls):
    return PEERS[name][1 if tls else 0]


def capacity(options, folder):
    """Requests in a second that the reference reaches in `plain`, here and now."""
    scenario = scenarios.ALL["plain"]
    with start(scenario.reference, options, folder, scenario):
        port = port_of(scenario.reference, False)
        load.drive(port, scenario, 1, LOAD_CORE)
        counted = load.drive(port, scenario, options.seconds, LOAD_CORE)
    return counted["requests"] / counted["seconds"]


def measure(peer, upstream, name, scenario, seconds, rate):
    port, core = port_of(name, scenario.tls), cores_of(scenario)[1]
    load.check_scenario(port, scenario)

    def drive(seconds):
        if rate:
            return load.drive_at(port, scenario, rate, seconds, core)
        return load.drive(port, scenario, seconds, core)

    drive(1)  # connections to the upstream, caches, tables
    upstream_before, began = processes.cpu_times(upstream.pid)[0], time.monotonic()
    before = processes.cpu_times(peer.pid)
    counted = drive(seconds)
    after = processes.cpu_times(peer.pid)
    wall = time.monotonic() - began
    requests = counted["requests"]
    return {
        "us": (after[0] - before[0]) / requests / 1e3,
        "user_us": (after[1] - before[1]) / requests * 1e6,
        "system_us": (after[2] - before[2]) / requests * 1e6,
        "rps": requests / counted["seconds"],
        "mb_per_s": counted["bytes"] / counted["seconds"] / 1e6,
        # Near 1: the peer was the bottleneck. Its core is its own, so the time per request holds below that, too.
        "busy": (after[0] - before[0]) / 1e9 / wall,
        "upstream_busy": (processes.cpu_times(upstream.pid)[0] - upstream_before) / 1e9 / wall,
        "rss_kib": processes.memory(peer.pid)[0],
        **counted,
    }


def measure_memory(peer, name, tls):
    idle, idle_anonymous = processes.memory(peer.pid)
    sockets = load.idle_connections(port_of(name, tls), IDLE_CONNECTIONS, tls)
    held, _ = processes.memory(peer.pid)
    alive = sum(map(load.still_open, sockets))
    for connection in sockets:
        connection.close()
    time.sleep(1)
    if alive < IDLE_CONNECTIONS:
        raise load.Wrong(f"mem: {IDLE_CONNECTIONS - alive} of {IDLE_CONNECTIONS} idle connections were closed")
    return {
        "idle_kib": idle,
        "idle_anonymous_kib": idle_anonymous,
        "held_kib": held,
        "bytes_per_connection": (held - idle) * 1024 / IDLE_CONNECTIONS,
        "after_kib": processes.memory(peer.pid)[0],
    }


def machine(options):
    """What has to be known to compare a run with another one."""

    def first_line(*command):
        try:
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
            return (done.stdout or done.stderr).strip().partition("\n")[0]
        except (OSError, subprocess.CalledProcessError):
            return None

    with open("/proc/cpuinfo") as file:
        cpu = next(
            (line.partition(":")[2].strip() for line in file if line.startswith("model name")), platform.machine()
        )
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
        "versions": {
            "nginx": first_line("nginx", "-v"),
            "haproxy": first_line("haproxy", "-v"),
            "probegate": first_line(options.probegate, "--version"),
            "commit": first_line("git", "-C", ROOT, "describe", "--always", "--dirty"),
        },
        "rounds": options.rounds,
        "seconds": options.seconds,
    }


def spread(values):
    return f"{min(values):.2f}–{max(values):.2f}"


def print_table(name, rows, peers):
    """Medians over the rounds; the ratio is taken within each round, and its extremes are shown."""
    scenario = scenarios.ALL[name]
    compared_with = scenario.reference if scenario.reference in peers else peers[0]
    print(f"\n{name}: {scenario.about}")
    late = f"{'p50 µs':>9}{'p99 µs':>9}{'p99.9':>9}" if scenario.share else ""
    print(
        f"  {'peer':14}{'µs/req':>10}{'user':>10}{'system':>10}{'req/s':>10}{'MB/s':>8}{'busy':>6}{late}  x {compared_with}"
    )
    for peer in peers:
        own = [row for row in rows if (row["peer"], row["scenario"]) == (peer, name)]
        if not own:
            continue
        median = {
            key: statistics.median(row[key] for row in own)
            for key in ("us", "user_us", "system_us", "rps", "mb_per_s", "busy")
        }
        reference = {row["round"]: row["us"] for row in rows if (row["peer"], row["scenario"]) == (compared_with, name)}
        if late:
            late = "".join(f"{statistics.median(row[key] for row in own):9.0f}" for key in ("p50_us", "p99_us", "p99.9_us"))
        ratios = [row["us"] / reference[row["round"]] for row in own if row["round"] in reference]
        against = f"{statistics.median(ratios):.2f} ({spread(ratios)})" if ratios else "-"
        print(
            f"  {peer:14}{median['us']:10.2f}{median['user_us']:10.2f}{median['system_us']:10.2f}{median['rps']:10.0f}"
            f"{median['mb_per_s']:8.0f}{median['busy']:6.2f}{late}  {against}"
        )


def print_scaling(rows, peers):
    """How much more two cores do than one: twice, if a request costs the same on both. From the cost, because load and upstream need the cores, too."""
    for peer in peers:
        cost = {
            name: {row["round"]: row["us"] for row in rows if (row["peer"], row["scenario"]) == (peer, name)}
            for name in ("plain", "two_cores")
        }
        times = [2 * us / cost["two_cores"][number] for number, us in cost["plain"].items() if number in cost["two_cores"]]
        if times:
            print(f"\n{peer}: two cores do {statistics.median(times):.2f} ({spread(times)}) times what one does")


def print_limits(rows, peers):
    """What two limits more add to a request, as a ratio to the one with one."""
    for peer in peers:
        cost = {
            name: {row["round"]: row["us"] for row in rows if (row["peer"], row["scenario"]) == (peer, name)}
            for name in ("plain", "three")
        }
        ratios = [us / cost["plain"][number] for number, us in cost["three"].items() if number in cost["plain"]]
        if ratios:
            print(f"\n{peer}: with three limits a request costs {statistics.median(ratios):.2f} ({spread(ratios)}) of one with one")


def print_memory(name, rows, peers):
    print(f"\n{name}: resident KiB alone, with {IDLE_CONNECTIONS} idle connections, after them; bytes for each connection")
    print(f"  {'peer':14}{'alone':>9}{'with':>9}{'after':>9}{'bytes':>8}")
    for peer in peers:
        own = [row for row in rows if (row["peer"], row["scenario"]) == (peer, name)]
        if own:
            print(
                f"  {peer:14}"
                + "".join(
                    f"{statistics.median(row[key] for row in own):{width}.0f}"
                    for key, width in (("idle_kib", 9), ("held_kib", 9), ("after_kib", 9), ("bytes_per_connection", 8))
                )
            )


def arguments():
    def names(known):
        def parse(text):
            chosen = text.split(",")
            unknown = [name for name in chosen if name not in known]
            if unknown:
                raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are: {', '.join(known)}")
            return chosen

        return parse

    every = [*scenarios.ALL, *MEMORY]
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "-p", "--peers", type=names(PEERS), default=list(PEERS), metavar="NAME,…", help=", ".join(PEERS)
    )
    parser.add_argument("-s", "--scenarios", type=names(every), default=every, metavar="NAME,…", help=", ".join(every))
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("-d", "--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("-o", "--out", type=pathlib.Path, help="file for the raw results")
    parser.add_argument(
        "--probegate", type=lambda text: pathlib.Path(text).resolve(), default=target.resolve() / "release/probegate"
    )
    parser.add_argument("--chart", type=pathlib.Path, help="file for a picture of the ratios, as SVG")
    parser.add_argument("--check", action="store_true", help="compare the answers, measure nothing")
    return parser.parse_args()


def check(options, chosen, folder):
    """That all peers do the same work; what they do not."""
    wrong = []
    for name in options.peers:
        port = PEERS[name][0]
        with start(name, options, folder):
            for question in [load.check_same_work, *(lambda _, s=s: load.check_scenario(port_of(name, s.tls), s) for s in chosen if name not in s.without)]:
                try:
                    question(port)
                except (load.Wrong, OSError, ValueError) as problem:
                    wrong.append(f"{name}: {problem}")
    return wrong


def measure_all(options, chosen, upstream, folder, raw):
    """Every measurement of every round, written as it is made; and what went wrong."""
    rows, wrong = [], []
    raw.write(json.dumps(machine(options)) + "\n")
    shares = any(name not in MEMORY and scenarios.ALL[name].share for name in options.scenarios)
    for number in range(options.rounds):
        reached = capacity(options, folder) if shares else 0
        for name in options.scenarios:
            # Peers side by side: the machine's speed drifts less over seconds than over minutes.
            for peer_name in options.peers:
                # HAProxy wants two descriptors for each connection that may come, more than many machines let a process have.
                if peer_name in (("haproxy",) if name in MEMORY else scenarios.ALL[name].without):
                    continue
                # Started anew for each: no scenario inherits the connections and tables of another.
                with start(peer_name, options, folder, None if name in MEMORY else scenarios.ALL[name]) as peer:
                    try:
                        if name in MEMORY:
                            result = measure_memory(peer, peer_name, MEMORY[name])
                        else:
                            scenario = scenarios.ALL[name]
                            rate = scenario.share * reached
                            result = measure(peer, upstream, peer_name, scenario, options.seconds, rate)
                    except (load.Wrong, OSError) as problem:
                        wrong.append(f"{peer_name}: {problem}")
                        continue
                rows.append({"peer": peer_name, "scenario": name, "round": number, **result})
                raw.write(json.dumps(rows[-1]) + "\n")
                raw.flush()
                figure = f"{result['held_kib']:8.0f} KiB" if name in MEMORY else f"{result['us']:8.2f} µs"
                print(f"round {number + 1}/{options.rounds}  {peer_name:12} {name:10} {figure}", flush=True)
    return rows, wrong


def main():
    options = arguments()
    if "probegate" in options.peers and not options.probegate.exists():
        sys.exit(f"{options.probegate} is missing: cargo build --release -p probegate, or -p nginx,nginx-tuned,haproxy")
    processes.allow_many_files()
    chosen = [scenarios.ALL[name] for name in options.scenarios if name not in MEMORY]

    with tempfile.TemporaryDirectory(prefix="probegate-bench-") as name:
        folder = pathlib.Path(name)
        prepare(folder)
        command = ["nginx", "-p", folder, "-c", CONF / "upstream.conf", "-g", "daemon off;"]
        echo = [sys.executable, HERE / "websocket.py", "app", ECHO_PORT]
        with (
            processes.Process("echo", echo, ECHO_PORT, LOAD_CORE, folder),
            processes.Process("upstream", command, UPSTREAM_PORT, LOAD_CORE, folder) as upstream,
        ):
            wrong = check(options, chosen, folder)
            if options.check and not wrong:
                print(f"{', '.join(options.peers)}: the same answers")
            if not options.check and not wrong:
                out = options.out or ROOT / "benches/runs" / time.strftime("%Y%m%d-%H%M%S.jsonl")
                out.parent.mkdir(parents=True, exist_ok=True)
                with out.open("w") as raw:
                    rows, wrong = measure_all(options, chosen, upstream, folder, raw)
                for scenario in chosen:
                    print_table(scenario.name, rows, options.peers)
                print_scaling(rows, options.peers)
                print_limits(rows, options.peers)
                for memory in MEMORY.keys() & set(options.scenarios):
                    print_memory(memory, rows, options.peers)
                if options.chart:
                    options.chart.write_text(chart.draw(chart.ratios([out])))
                print(f"\nraw results: {out}")
    for problem in wrong:
        print(f"WRONG {problem}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
