"""What follows from the measurements for one core, a machine and a fleet: the parts of gateway/docs/capacity.md that stand between markers.

All of them are computed from the committed runs and from the few figures at the top of this file, which the benchmarks do not measure.
"""

import math
import pathlib

import results
import scenarios
import tables

PAGE = pathlib.Path(__file__).resolve().parent.parent.parent / "gateway/docs/capacity.md"
# Microseconds of Redis's one thread for a request, by how many shared limits it has. The page has the command.
REDIS = {1: 6.5, 2: 10.4}
# Bytes of an idle connection where the runs have none: the gateway's and nginx's, of an earlier run.
CONNECTION = {"mem": (1783, 527), "mem_tls": (11074, 15313)}
# Of the kernel, for a socket: what the system's list of its memory (/proc/slabinfo) says of TCP, its file, its names and its place in epoll.
SOCKET = {"TCP": 2368, "sock_inode_cache": 832, "filp": 192, "dentry": 192, "eventpoll_epi": 128}
# Of a core, what is planned with; cores of a machine; gateways of a fleet, of which one may be missing; its network card, and the time that an app takes.
HALF, CORES, GATEWAYS, CARD, APP_SECONDS = 0.5, 8, 5, 10e9, 0.05
# What a request at work holds over HTTP/1, as the page says.
AT_WORK = 34 << 10
ROWS = {
    "deny": "refused at the edge",
    "probe": "a probe answered at the edge",
    "static": "a file of 10 KiB, served",
    "plain": "1 KiB from an app, connections kept",
    "tls": "the same over TLS 1.3",
    "browser": "a browser's request, 12 KiB back",
    "post": "8 KiB posted",
    "tls_h2_few": "1 KiB over HTTP/2 and TLS, two at a time",
    "b100k": "100 KiB",
    "tls_new": "1 KiB on a new TLS connection",
}
MACHINE = ("plain", "tls", "browser", "tls_new", "deny")


def about(number):
    """Two digits of it are more than it is good for."""
    return f"{float(f'{number:.2g}'):,.0f}"


class Figures:
    """What was measured, and what follows."""

    def __init__(self, files):
        self.files = files
        _, self.rows = results.load(files)

    def median(self, name, key, peer=results.OURS):
        own = tables.of(self.rows, peer, name)
        return results.median(own, key) if own else None

    def us(self, name):
        return self.median(name, "us")

    def bytes(self, name):
        """Of an answer with its head."""
        return self.median(name, "mb_per_s") * 1e6 / self.median(name, "rps")

    def core(self, name):
        """Requests that a busy core does in a second."""
        return 1e6 / self.us(name)

    def machine(self, name):
        """Requests in a second that a machine is planned for, and whether its card is the bound."""
        cores, card = CORES * HALF * self.core(name), CARD / 8 / self.bytes(name)
        return min(cores, card), card < cores

    def fleet(self, name):
        return (GATEWAYS - 1) * self.machine(name)[0]

    def connection(self, name, peer, place):
        return self.median(name, "bytes_per_connection", peer) or CONNECTION[name][place]


def one_core(figures):
    names = ", ".join(f"`{file.name}`" for file in figures.files)
    lines = [f"From {names}.", "", *results.heading("Request", "processor time, measured", "one busy core, in a second", "nginx beside it")]
    for name, what in ROWS.items():
        reference = scenarios.ALL[name].references[-1]
        if figures.us(name):
            gbit = figures.core(name) * figures.bytes(name) * 8 / 1e9
            rate = about(figures.core(name)) + (f" ({gbit:.0f} Gbit/s)" if gbit >= 4 else "")
            other = figures.median(name, "us", reference)
            lines.append(results.row_of(what, f"{figures.us(name):.1f} µs", rate, f"{other:.1f} µs{' (tuned)' if reference != 'nginx' else ''}" if other else ""))
    times = figures.us("tls_new") / figures.us("tls")
    return [*lines, "", f"A new TLS connection costs as much as {times:.0f} requests on a kept one."]


def one_machine(figures):
    lines = results.heading(f"{CORES} cores, {HALF:.0%} of each", "in a second, planned", "answers", "bound by")
    for name in MACHINE:
        rate, by_card = figures.machine(name)
        cores = rate / figures.core(name) / HALF
        bound = f"the card of {CARD / 1e9:.0f} Gbit/s, which {cores:.1f} cores fill" if by_card else "the cores"
        lines.append(results.row_of(ROWS[name], about(rate), f"{rate * figures.bytes(name) * 8 / 1e9:.1f} Gbit/s", bound))
    rate = figures.machine("plain")[0]
    at_work = rate * APP_SECONDS
    return [
        *lines,
        "",
        f"Answers are counted with their heads, without what TCP, TLS and the network add. An app that takes {APP_SECONDS * 1000:.0f} ms for each of {about(rate)} requests in a second has "
        f"{about(at_work)} of them at work at any time, which hold {about(at_work * AT_WORK / 1e6)} MB of [buffers](#memory-of-requests). Apps are mostly the bound long before the gateway is.",
    ]


def connections(figures):
    earlier = "" if all(tables.of(figures.rows, results.OURS, name) for name in CONNECTION) else " (of an earlier run)"
    lines = results.heading(f"Each of 10,000 idle connections, in the process{earlier}", "probegate", "nginx")
    for name, what in (("mem", "HTTP/1"), ("mem_tls", "HTTP/1 over TLS 1.3")):
        lines.append(results.row_of(what, *(f"{figures.connection(name, peer, place):,.0f} B" for place, peer in enumerate((results.OURS, "nginx")))))
    plain, tls = (figures.connection(name, results.OURS, 0) / 1e3 for name in ("mem", "mem_tls"))
    kernel = sum(SOCKET.values())
    parts = ", ".join(f"`{name}` {size}" for name, size in SOCKET.items())
    return [
        *lines,
        "",
        f"The kernel adds its own for each socket, which no process shows: {kernel:,} B while nothing is in flight (`/proc/slabinfo` of Linux 6.18: {parts}). So a million connections take {plain:.1f} GB of "
        f"the gateway over plain HTTP/1, or {tls:.0f} GB over TLS, and {kernel / 1e3:.1f} GB of the kernel.",
    ]


def fleet(figures):
    rates = {name: figures.fleet(name) for name in ("plain", "tls", "browser")}
    card = {name: CARD / 8 / figures.bytes(name) for name in ("plain", "browser")}
    by_card = " with a card of 10 Gbit/s each" if figures.machine("browser")[1] else ""
    return [
        f"So **{GATEWAYS} gateways of {CORES} cores** carry what {GATEWAYS - 1} are planned for: {about(rates['plain'])} requests of 1 KiB in a second, {about(rates['tls'])} over TLS, or "
        f"{about(rates['browser'])} of browsers{by_card}.",
        "",
        f"**The balancer's own bound** is its network where answers pass through it: a card of {CARD / 1e9:.0f} Gbit/s is full with {about(card['plain'])} answers of 1 KiB or {about(card['browser'])} of "
        f"12 KiB in a second. The fleet above fills {math.ceil(rates['plain'] / card['plain'])} with the ones or {math.ceil(rates['browser'] / card['browser'])} with the others. Where that is not to be had, answers "
        f"go past it (direct return, ECMP in the routers): then only what clients send passes, some three packets for each request of a kept connection, {about(3 * rates['plain'] / 1e6)} million in a second here. What a balancer does of those was not measured.",
    ]


def shared(figures):
    most = {count: 1e6 / us for count, us in REDIS.items()}
    busy = {count: rate / figures.core("plain") for count, rate in most.items()}
    needed = {name: math.ceil(figures.fleet(name) / (most[1] * HALF)) for name in ("plain", "browser")}
    return [
        f"**One Redis with a core to itself carries some {about(most[1])} such requests in a second, or {about(most[2])} with two limits**, whatever the number of gateways; planned with half of it, as the gateways "
        f"are, {about(most[1] * HALF)} and {about(most[2] * HALF)}. Plain requests at {figures.us('plain'):.1f} µs each keep {busy[1]:.1f} cores of gateways busy at {about(most[1])} in a second, and {busy[2]:.1f} "
        f"at {about(most[2])}: a single machine meets that bound, if all of its requests count. What the round trip to the store costs the gateway itself is not in these figures and was not "
        "measured: it makes the cores more, and not the requests.",
        "",
        f"The {GATEWAYS} gateways above, with one shared limit on each of {about(figures.fleet('plain'))} requests in a second, need {needed['plain']} masters of a cluster, planned with half of each; with "
        f"{about(figures.fleet('browser'))} of browsers, {needed['browser']}. Each master has replicas besides.",
    ]


PARTS = {"one core": one_core, "one machine": one_machine, "connections": connections, "fleet": fleet, "shared": shared}


def written(page, files):
    """The page with all parts as these runs have them."""
    figures = Figures(files)
    for name, part in PARTS.items():
        page = results.replaced(page, "\n".join(part(figures)) + "\n", f"<!-- {name} -->", f"<!-- /{name} -->")
    return page
