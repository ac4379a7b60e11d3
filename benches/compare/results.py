"""The results in Markdown, from the raw results of run.py: what stands in benches/README.md between its markers, and nobody writes by hand."""

import json
import re
import statistics

import scenarios
import tables

BEGIN, END = "<!-- results -->", "<!-- /results -->"
OURS = "probegate"
TITLES = {"nginx": "nginx", "nginx-tuned": "tuned nginx", "haproxy": "HAProxy", "envoy": "Envoy", "caddy": "Caddy", OURS: OURS}
# What probegate is to reach: the ratio to the first reference of each scenario.
BARS = {
    "plain": 0.88,
    "browser": 0.90,
    "deny": 0.92,
    "limited": 0.92,
    "probe": 0.90,
    "b100k": 0.95,
    "b10m": 0.85,
    "static": 0.95,
    "post": 0.95,
    "tls": 0.72,
    "tls_new": 0.58,
    "tls_h2": 0.90,
    "tls_h2_few": 0.90,
    "plain_log": 0.93,
    "deny_log": 0.97,
}
# Of what memory is looked at, in the order of the table.
RESIDENT = ("idle_kib", "held_kib", "after_kib", "later_kib")


def load(files):
    """The heads of some runs, and their rows; a round is one of one run."""
    heads, rows = [], []
    for number, file in enumerate(files):
        head, *measured = map(json.loads, file.read_text().splitlines())
        heads.append(head)
        rows += [{**row, "round": (number, row["round"])} for row in measured]
    return heads, rows


def named(rows):
    """The peers that were measured."""
    return [name for name in TITLES if any(row["peer"] == name for row in rows)]


def row_of(*cells):
    return "| " + " | ".join(cells) + " |"


def heading(*cells):
    return [row_of(*cells), "|" + "---|" * len(cells)]


def median(rows, key):
    return statistics.median(row[key] for row in rows.values())


def ratio(values):
    """As in the printed tables, with the median standing out."""
    if not values:
        return ""
    middle, _, spread = tables.with_spread(values).partition(" ")
    return f"**{middle}** {spread}"


def sources(files, heads):
    """Where the figures come from."""

    def all_of(key):
        return ", ".join(sorted({str(key(head)) for head in heads if key(head)}))

    versions = {name: version for head in heads for name, version in head["versions"].items() if name != "commit" and version}
    numbers = {name: re.search(r"\d+\.\d+\.\d+", said) for name, said in versions.items()}
    loads = [head["load_before"] for head in heads]
    commits = sorted({head["versions"].get("commit") or "unknown" for head in heads})
    unknown = [file.name for file, head in zip(files, heads) if (head["versions"].get("commit") or "unknown") == "unknown"]
    of_unknown = f" (unknown: {', '.join(f'`{name}`' for name in unknown)})" if unknown else ""
    return [
        "Raw results: " + ", ".join(f"`runs/{file.name}`" for file in files) + ".",
        f"Taken {all_of(lambda head: head['when'][:10])} on {all_of(lambda head: head['cores'])} cores of {all_of(lambda head: head['cpu'])}, "
        f"Linux {all_of(lambda head: head['kernel'])}, load before {min(loads):.1f} to {max(loads):.1f}; "
        f"commit {', '.join(commits)}{of_unknown}; " + ", ".join(f"{TITLES[name]} {found[0]}" for name, found in numbers.items() if found) + ".",
        "Microseconds are of the processor, for a request; ratios are medians over the rounds, with the lowest and the highest.",
    ]


def costs(rows):
    """What a request costs: one row for each scenario, beside its references."""
    shown = [name for name in scenarios.BOTH if any(row["peer"] == name for row in rows)]
    titles = [TITLES[name] for name in shown]
    lines = heading("Scenario", *(f"{title} µs" for title in titles), f"{OURS} µs", *(f"{OURS} / {title}" for title in titles), "bar", "rounds")
    for name, scenario in scenarios.ALL.items():
        own = tables.of(rows, OURS, name)
        if not own or scenario.quota or not any(tables.of(rows, peer, name) for peer in scenario.references):
            continue
        others = {peer: tables.of(rows, peer, name) for peer in shown if peer in scenario.references}
        lines.append(
            row_of(
                f"`{name}`: {scenario.about}",
                *(f"{median(others[peer], 'us'):.1f}" if others.get(peer) else "" for peer in shown),
                f"{median(own, 'us'):.1f}",
                *(ratio(tables.ratios(own, others[peer])) if others.get(peer) else "" for peer in shown),
                f"{BARS[name]:.2f}" if name in BARS else "",
                str(len(own)),
            )
        )
    return lines


def beside(rows):
    """Those that are no nginx, and probegate, as ratios to nginx."""
    others = [name for name in named(rows) if name not in scenarios.BOTH]
    if others in ([], [OURS]):
        return []
    lines = heading("As a ratio to nginx", *(TITLES[name] for name in others))
    for name, scenario in scenarios.ALL.items():
        reference = tables.of(rows, scenario.reference, name)
        found = [tables.ratios(tables.of(rows, peer, name), reference) for peer in others]
        if not scenario.quota and any(values for peer, values in zip(others, found) if peer != OURS):
            lines.append(row_of(f"`{name}`" + (", to tuned nginx" if scenario.reference != "nginx" else ""), *map(ratio, found)))
    return lines


def shares(rows):
    """Times of answers at a share of a rate."""
    measured = [(name, peer) for name, one in scenarios.ALL.items() if one.share for peer in named(rows) if tables.of(rows, peer, name)]
    if not measured:
        return []
    lines = heading("At a share of the rate", "peer", "µs", "used of what it may have", "p50", "p99", "p99.9", "asked late, p99")
    for name, peer in measured:
        good, why_not = tables.as_wanted(tables.of(rows, peer, name))
        if good:
            times = (f"{median(good, key) / 1000:.2f} ms" for key in ("p50_us", "p99_us", "p99.9_us", "late_us"))
            cells = (f"{median(good, 'us'):.1f}", f"{median(good, 'used'):.0%}", *times)
        else:
            cells = (f"not measured: {why_not}", "", "", "", "", "")
        lines.append(row_of(f"`{name}`: {scenarios.ALL[name].about}", TITLES[peer], *cells))
    return lines


def memory(rows):
    names = [(name, peer) for name in scenarios.MEMORY for peer in named(rows) if tables.of(rows, peer, name)]
    if not names:
        return []
    lines = heading("10,000 idle connections", "peer", "bytes for each", "resident alone", "with them", "1 s after", "15 s after")
    for name, peer in names:
        own = tables.of(rows, peer, name)
        # Earlier runs looked once after the connections had left.
        held = [f"{median(own, key) / 1024:.0f} MiB" if all(key in row for row in own.values()) else "?" for key in RESIDENT]
        over = "over TLS" if scenarios.MEMORY[name] else "plain"
        lines.append(row_of(f"`{name}`: {over}", TITLES[peer], f"{median(own, 'bytes_per_connection'):,.0f}", *held))
    return lines


def sentences(heads, rows):
    """What needs no table."""
    lines = []
    for peer in named(rows):
        if times := tables.resumption(rows, peer):
            lines.append(f"- {TITLES[peer]}: a connection that resumes a TLS session costs {ratio(times)} of one that does not.")
        times, by_rate = tables.scaling(rows, peer)
        if times:
            how = "requests in a second" if by_rate else "from what a request costs; the rate was not the peer's"
            lines.append(f"- {TITLES[peer]}: two cores do {ratio(times)} times what one does ({how}{tables.busiest(rows, peer)}).")
        plain, three = tables.of(rows, peer, "plain"), tables.of(rows, peer, "three")
        if times := tables.ratios(three, plain):
            lines.append(f"- {TITLES[peer]}: with three limits, a request costs {ratio(times)} of one with one.")
    for peer in TITLES:
        if said := sorted({tables.agreed(head["tls"][peer]) for head in heads if peer in head.get("tls", {})}):
            lines.append(f"- TLS with {TITLES[peer]}: {' or '.join(said)}.")
    return lines


def markdown(files):
    """All of it."""
    heads, rows = load(files)
    parts = (sources(files, heads), costs(rows), beside(rows), shares(rows), memory(rows), sentences(heads, rows))
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def between(text):
    """What stands between the markers."""
    return text.partition(BEGIN + "\n")[2].partition(END)[0]


def replaced(text, new):
    before, found, rest = text.partition(BEGIN + "\n")
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise SystemExit(f"no {BEGIN} and {END} to write between")
    return before + BEGIN + "\n" + new + END + after
