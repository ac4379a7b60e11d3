"""What is to be reached, whether it is, and of what is not: what limits it, and what would come next."""

import json
import pathlib
import statistics
from dataclasses import dataclass

import scenarios
import tables

OURS = "probegate"
COUNTED = pathlib.Path(__file__).resolve().parent.parent / "counts/recorded.json"
# Bytes for an idle connection.
CONNECTION = {"mem": 4 << 10, "mem_tls": 16 << 10}
# Of what idle connections took, 15 s after they left.
GIVEN_BACK = 0.8
TWO_CORES = 1.8
THREE_LIMITS = 1.05

EDGE = (
    "One `recvfrom` and one `sendto`, as in nginx. A program in C that does nothing but those two and `epoll_wait` needs 0.78 (0.73–0.85) of nginx's time, all but 0.17 µs of it in the kernel: "
    "that is the floor. What is above it is user time, which follows the distinct lines of code that a request touches (table below)",
    "a build guided by a profile (table below). Of the floor itself `io_uring` takes a twentieth, and container runtimes forbid it by default; code in pages of 2 MiB gains nothing",
)
LOGGED = "The line: composed by the worker, written by another thread on the same core"
LIMITS = {
    "plain": (
        "Two reads and two writes, as in nginx; what is above a spike without a gateway's work (0.80) is its policies, deadlines and counters",
        "a build guided by a profile: 0.83 (0.82–0.84) in four rounds",
    ),
    "deny": EDGE,
    "limited": (
        EDGE[0] + "; here the limit that is reached beside the one that is not (1,500 instructions more than denied, most of them the hash of its key), and an answer of twice nginx's length",
        "one hash for all limits of one key; " + EDGE[1],
    ),
    "probe": EDGE,
    "b100k": (
        "The first read is copied; what it leaves is spliced where it is more than 16 KiB (39.4 µs; 43.4 where it had to be more than 64, in the same slices)",
        "a first read that takes little more than the head",
    ),
    "b10m": ("`splice` through a pipe of 256 KiB; what is left is the kernel's", "none in the gateway"),
    "post": (
        "Six calls of the kernel beside eight in nginx",
        "reading the body with the head where it comes with it, at the price of larger buffers for heads that never end",
    ),
    "tls": (
        "System calls are four, where nginx has seven. Sealing, opening and records are 8,100 instructions in a spike without a gateway's work (0.69 in the run in which the gateway had 0.81) and "
        "9,700 here; what is between the two is the request itself: 19,800 instructions without TLS, 6,000 there",
        "every thousand instructions less is about one percent; a build guided by a profile: 0.77 (0.74–0.79)",
    ),
    "tls_new": (
        "The handshake's arithmetic takes half of nginx's user time; the kernel's part is above that of nginx, which has two reads less (a look whether something has come before a buffer is lent, one whether "
        "something is unread before the close). In five rounds of their own 0.57 (0.44–0.58), 0.55 of tuned nginx",
        "without the second read a close could reset the connection and take the answer with it; without the first, an idle connection would hold a buffer",
    ),
    "tls_h2_few": (
        "User time: frames, header coding and streams of the `h2` library; the kernel's part is three quarters of nginx's. The ratio goes with the machine: in the same run 0.83 of nginx with a cheaper cipher, which came out "
        "dearer than nginx without, 0.85 with logs, and 0.77 to 0.88 in runs before",
        "more rounds; a build guided by a profile",
    ),
    "at_70": (
        "p99 is that of the periods in which the quota ran out, which are few: of four rounds with slices of 20 s, two had times of 2.4 to 3.7 ms for both, two of 0.7 to 0.9 ms",
        "a machine with a core for the load, and no quota",
    ),
}


@dataclass(frozen=True)
class Bar:
    """Something to be reached, and what was measured of it: a figure for each round."""

    name: str
    about: str
    wanted: float
    found: list[float]
    form: str = "{:.2f}"
    at_least: bool = False

    @property
    def met(self):
        middle = statistics.median(self.found)
        return middle >= self.wanted if self.at_least else middle <= self.wanted

    @property
    def now(self):
        """The median, with the lowest and the highest. Where it would look as if it were met, more exactly."""
        middle = statistics.median(self.found)
        said = self.form.format(middle)
        if not self.met and said == self.form.format(self.wanted):
            said = f"{middle:.4g}"
        spread = f" ({self.form.format(min(self.found))}–{self.form.format(max(self.found))})" if len(self.found) > 1 else ""
        return f"**{said}**{spread}"

    @property
    def said(self):
        """What is wanted, and whether it is so."""
        return f"{'≥' if self.at_least else '≤'} {self.form.format(self.wanted)}", "yes" if self.met else "**no**"


def given_back(rows):
    """Of what idle connections took, the part that is there no more."""
    return [(row["held_kib"] - row["later_kib"]) / max(1, row["held_kib"] - row["idle_kib"]) for row in rows if "later_kib" in row]


def all_of(rows):
    """Every bar there is; those that nothing was measured of have no figures."""
    found = {}

    def add(name, about, wanted, figures, **more):
        found[name] = Bar(name, about, wanted, figures, **more)

    for name, scenario in scenarios.ALL.items():
        if scenario.bar:
            add(name, f"`{name}`", scenario.bar, tables.ratios(tables.of(rows, OURS, name), tables.of(rows, scenario.reference, name)))
    good = [tables.as_wanted(tables.of(rows, peer, "at_70"))[0] for peer in (OURS, scenarios.ALL["at_70"].reference)]
    add("at_70", "`at_70`: p99, as a ratio to nginx's", 1.0, tables.p99_ratios(*good))
    for name, most in CONNECTION.items():
        own = tables.of(rows, OURS, name).values()
        add(name, f"`{name}`: bytes for each idle connection", most, [row["bytes_per_connection"] for row in own], form="{:,.0f}")
        add(f"{name}_back", f"`{name}`: given back of that after 15 s", GIVEN_BACK, given_back(own), form="{:.0%}", at_least=True)
    add("two_cores", "`two_cores`: as a multiple of `one_core`", TWO_CORES, tables.scaling(rows, OURS)[0], at_least=True)
    counted = json.loads(COUNTED.read_text())["instructions"]
    add("three_limits", "three limits: instructions, as a ratio to those with one", THREE_LIMITS, [counted["whole/three limits"] / counted["whole/plain"]])
    return found


def limits(bar, missed):
    """What limits one that is not met, and the next lever. `missed` are all such."""
    without = bar.name.removesuffix("_log")
    if without != bar.name:
        more = f", and what limits `{without}`" if without in {one.name for one in missed} else ""
        return LOGGED + more, f"as `{without}`" if more else "a profile"
    return LIMITS.get(bar.name, ("Not looked into yet", ""))
