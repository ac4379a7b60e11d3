"""One round of one scenario: every peer that takes part, in slices of a second that take turns.

All are started, checked and warmed up first. Then each slice visits them there, the next one back: a machine that becomes slower on the way hits both of a
pair, and neither is always the first. What went wrong with one does not keep the others from being measured.
"""

import contextlib
import http.client
import os
import statistics
import time

import load
import peers
import processes
import quota
import scenarios

PROXY_CORE, LOAD_CORE = os.environ.get("PROXY_CORE", "0"), os.environ.get("LOAD_CORE", "1")
IDLE_CONNECTIONS = 10000
# What can be wrong with one peer, and is told of it.
PROBLEMS = (load.Wrong, processes.Failed, OSError, ValueError, http.client.HTTPException)


def cores_of(scenario):
    """Those of the peer, and those of load and upstream."""
    if scenario and scenario.workers > 1:
        both = f"{PROXY_CORE},{LOAD_CORE}"
        return both, both
    return PROXY_CORE, LOAD_CORE


def configure(folder, source, scenario, more=()):
    """The peers' configurations as this scenario wants them."""
    workers = [(was, new.format(workers=scenario.workers if scenario else 1)) for was, new in peers.WORKERS]
    for file in source.iterdir():
        text = file.read_text()
        for peer in [one for one in peers.ALL.values() if one.configuration == file.name]:
            logs = [(was, new.replace("{folder}", str(folder))) for was, new in peer.changes] if scenario and scenario.log else []
            for was, becomes in [*more, *logs, *workers]:
                text = text.replace(was, becomes)
        (folder / file.name).write_text(text)


def start(name, binary, folder, scenario=None, group=None):
    """The peer, with the configuration that lies in the folder, and within a group of processes where there is one."""
    peer, workers = peers.ALL[name], scenario.workers if scenario else 1
    command, settings = peer.command(workers, folder, binary), peer.settings(workers)
    within = group.entering() if group else ()
    return processes.Process(name, command, peer.ports, cores_of(scenario)[0], folder, settings, within)


@contextlib.contextmanager
def bounded(name, options, folder, scenario):
    """The peer, with what the scenario lets it have of the processor, and what bounds it; None where this system can not, or where nothing is to."""
    with contextlib.ExitStack() as stack:
        bound = scenario.allowed and not options.no_quota
        group = stack.enter_context(quota.Group(name, scenario.allowed, scenario.period_us)) if bound else None
        yield stack.enter_context(start(name, options.probegate, folder, scenario, group)), group


def port_of(name, tls):
    return peers.ALL[name].tls_port if tls else peers.ALL[name].port


def measure_slice(process, upstream, drive, seconds, group=None):
    speed = processes.yardstick(PROXY_CORE)
    family = processes.descendants(process.pid)
    threads, periods = processes.thread_times(family), group.throttled() if group else (0, 0)
    upstream_before, began = processes.cpu_times(upstream.pid)[0], time.monotonic()
    before = processes.cpu_times(process.pid)
    counted = drive(seconds)
    after = processes.cpu_times(process.pid)
    worked = [now - threads.get(thread, 0) for thread, now in processes.thread_times(family).items()]
    throttled = [now - was for now, was in zip(group.throttled(), periods)] if group else (0, 0)
    return {
        "busiest": max(worked, default=0) / 1e9,
        "periods": throttled[0],
        "throttled": throttled[1],
        "wall": time.monotonic() - began,
        "exact": (after[0] - before[0]) / 1e9,
        "user": after[1] - before[1],
        "system": after[2] - before[2],
        "upstream": (processes.cpu_times(upstream.pid)[0] - upstream_before) / 1e9,
        "yardstick": speed,
        "rss_kib": processes.memory(process.pid)[0],
        "counted": counted,
    }


def combined(slices, scenario, group):
    """The row of a peer: sums over its slices, and what each of them cost."""

    def total(key):
        return sum(one[key] for one in slices)

    counted = [one["counted"] for one in slices]
    requests, seconds = sum(one["requests"] for one in counted), sum(one["seconds"] for one in counted)
    received = sum(one["bytes"] for one in counted)
    return {
        "us": total("exact") / requests * 1e6,
        "user_us": total("user") / requests * 1e6,
        "system_us": total("system") / requests * 1e6,
        "rps": requests / seconds,
        "mb_per_s": received / seconds / 1e6,
        # Near 1: the peer was the bottleneck. Its core is its own, so the time per request holds below that, too.
        "busy": total("exact") / total("wall"),
        "upstream_busy": total("upstream") / total("wall"),
        **allowed(slices, total, scenario, group),
        "rss_kib": slices[-1]["rss_kib"],
        "requests": requests,
        "seconds": seconds,
        "bytes": received,
        **{key: sum(one[key] for one in counted) for key in ("bad", "broken")},
        **{key: statistics.median(one[key] for one in counted) for key in counted[0] if key.startswith("p") or key in ("wanted_rps", "late_us")},
        **({"p99_slices_us": [one["p99_us"] for one in counted]} if scenario.share else {}),
        "slices": [one["exact"] / one["counted"]["requests"] * 1e6 for one in slices],
        "yardstick_us": [round(one["yardstick"], 1) for one in slices],
    }


def allowed(slices, total, scenario, group):
    """Of a scenario that bounds its peers: what it let them have, how much of that was used, in how many periods all of it, and by the busiest thread of what all used."""
    if not scenario.allowed:
        return {}
    # Without a bound, all the cores that it runs on.
    cores = group.cores if group else scenario.workers
    return {
        "quota": group.cores if group else None,
        "used": total("exact") / (sum(one["counted"]["seconds"] for one in slices) * cores),
        "throttled": total("throttled") / max(1, total("periods")),
        "busiest_thread": total("busiest") / max(1e-9, total("exact")),
    }


def measure(name, number, taking_part, options, upstream, folder, aimed=None):
    """Rows of one round by peer, and what was wrong with which."""
    scenario = scenarios.ALL[name]
    core, slices, wrong, running = cores_of(scenario)[1], {}, {}, {}
    rate, aimed = (aimed["aimed_rps"], aimed) if scenario.share else (0, {})

    def drive_of(peer):
        port = port_of(peer, scenario.tls)
        if scenario.share:
            return lambda seconds: load.drive_at(port, scenario, rate, seconds, core)
        return lambda seconds: load.drive(port, scenario, seconds, core)

    with contextlib.ExitStack() as stack:
        # Started anew for each: no scenario inherits the connections and tables of another.
        for peer in taking_part:
            try:
                running[peer] = stack.enter_context(bounded(peer, options, folder, scenario))
                load.check_scenario(port_of(peer, scenario.tls), scenario)
                drive_of(peer)(1)  # connections to the upstream, caches, tables
                slices[peer] = []
            except PROBLEMS as problem:
                wrong[peer] = problem
        count = scenario.slices or options.seconds
        for turn in range(count):
            for peer in list(slices)[:: 1 if (number + turn) % 2 == 0 else -1]:
                try:
                    drive, seconds = drive_of(peer), scenario.slice_seconds
                    slices[peer].append(measure_slice(running[peer][0], upstream, drive, seconds, running[peer][1]))
                except PROBLEMS as problem:
                    wrong[peer] = problem
                    del slices[peer]
        if scenario.log:
            for peer in list(slices):
                log = folder / peers.ALL[peer].log
                try:
                    load.check_logged(log, sum(one["counted"]["requests"] for one in slices[peer]))
                except PROBLEMS as problem:
                    wrong[peer] = problem
                    del slices[peer]
    for peer in taking_part if scenario.log else []:
        (folder / peers.ALL[peer].log).unlink(missing_ok=True)
    return {peer: {**combined(found, scenario, running[peer][1]), **aimed} for peer, found in slices.items()}, wrong


def check_three(name, options, folder, source):
    """That each of the limits of /three is asked: each is once one that is reached."""
    for limit, strict in peers.ALL[name].strict.items():
        configure(folder, source, None, strict)
        with start(name, options.probegate, folder):
            load.check_counted(peers.ALL[name].port, limit)
    configure(folder, source, None)


def rate_for(scenario, options, upstream, folder):
    """The rate at which the reference uses the share of what it may have, here and now: requests in a second, and what it used of it when that was looked at.

    Not a share of what it does at most: whoever is asked all at once does many requests for one look at who wants something, and each for less.
    """
    port, wanted = port_of(scenario.reference, False), scenario.share
    with bounded(scenario.reference, options, folder, scenario) as (process, group):
        most = load.drive(port, scenario, 1, LOAD_CORE)
        rate = most["requests"] / most["seconds"] * wanted / 2
        best = None
        for _ in range(8):
            found = measure_slice(process, upstream, lambda seconds: load.drive_at(port, scenario, rate, seconds, LOAD_CORE), 1, group)
            row = combined([found], scenario, group)
            off = abs(row["used"] / wanted - 1)
            if not best or off < best[0]:
                best = off, {"aimed_rps": rate, "aimed_used": row["used"]}
            if off < 0.05:
                break
            # Twice as much at a time at most: load and app may be what bounds it.
            rate *= min(2.0, max(0.5, wanted / row["used"]))
    return best[1]


def steady_memory(process):
    """Its memory once two looks find the same; the last look where that does not come."""
    before = processes.memory(process.pid)
    for _ in range(20):
        time.sleep(0.5)
        now = processes.memory(process.pid)
        if now == before:
            break
        before = now
    return before


def measure_memory(name, options, folder, tls):
    """What a peer holds alone, with idle connections, and after they left: at once, and when there was time to give it back."""
    with start(name, options.probegate, folder) as process:
        # What the first request and the rest of the start need is not what a connection needs.
        for connection in load.idle_connections(port_of(name, tls), 1, tls):
            connection.close()
        idle, idle_anonymous = steady_memory(process)
        sockets = load.idle_connections(port_of(name, tls), IDLE_CONNECTIONS, tls)
        held, _ = processes.memory(process.pid)
        alive = sum(map(load.still_open, sockets))
        for connection in sockets:
            connection.close()
        if alive < IDLE_CONNECTIONS:
            raise load.Wrong(f"{IDLE_CONNECTIONS - alive} of {IDLE_CONNECTIONS} idle connections were closed")
        time.sleep(1)
        after, _ = processes.memory(process.pid)
        time.sleep(14)
        return {
            "idle_kib": idle,
            "idle_anonymous_kib": idle_anonymous,
            "held_kib": held,
            "bytes_per_connection": (held - idle) * 1024 / IDLE_CONNECTIONS,
            "after_kib": after,
            "later_kib": processes.memory(process.pid)[0],
        }
