"""The results in Markdown, from the raw results of run.py: what stands in benches/README.md between its markers, and nobody writes by hand."""

import json
import re
import statistics

import bars
import scenarios
import tables

BEGIN, END = "<!-- results -->", "<!-- /results -->"
OURS = bars.OURS
TITLES = {"nginx": "nginx", "nginx-tuned": "tuned nginx", "haproxy": "HAProxy", "envoy": "Envoy", "caddy": "Caddy", OURS: OURS}
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
    libraries = sorted({f"{TITLES[name]} {said}" for head in heads for name, said in head.get("tls_libraries", {}).items() if said})
    of_unknown = f" (unknown: {', '.join(f'`{name}`' for name in unknown)})" if unknown else ""
    return [
        "Raw results: " + ", ".join(f"`runs/{file.name}`" for file in files) + ".",
        f"Taken {all_of(lambda head: head['when'][:10])} on {all_of(lambda head: head['cores'])} cores of {all_of(lambda head: head['cpu'])}, "
        f"Linux {all_of(lambda head: head['kernel'])}, load before {min(loads):.1f} to {max(loads):.1f}; "
        f"program {', '.join(sorted({head.get('program') or 'unknown' for head in heads}))} (SHA-256), measured from a checkout of {', '.join(commits)}{of_unknown}; " + ", ".join(f"{TITLES[name]} {found[0]}" for name, found in numbers.items() if found) + ".",
        *([f"TLS libraries: {', '.join(libraries)}."] if libraries else []),
        "Microseconds are of the processor, for a request; ratios are medians over the rounds, with the lowest and the highest. `other speed`: in so many rounds the machine changed its speed "
        f"by more than {tables.STEADY - 1:.0%} while they were measured.",
    ]


def judged(bar):
    """Two cells: what is wanted, and whether it is so."""
    return bar.said if bar and bar.found else ("", "")


def costs(rows):
    """What a request costs: one row for each scenario, beside its references."""
    shown = [name for name in scenarios.BOTH if any(row["peer"] == name for row in rows)]
    titles, wanted = [TITLES[name] for name in shown], bars.all_of(rows)
    ratios_to = [f"{OURS} / {title}" for title in titles]
    lines = heading("Scenario", *(f"{title} µs" for title in titles), f"{OURS} µs", *ratios_to, "HAProxy / the first of these", "bar", "met", "rounds", "other speed")
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
                tables.with_spread(tables.ratios(tables.of(rows, "haproxy", name), others.get(scenario.reference, {}))).strip("-"),
                *judged(wanted.get(name)),
                str(len(own)),
                str(tables.unsteady(name, rows)[0] or ""),
            )
        )
    return lines


def beside(rows):
    """Those that need not be there, as ratios to nginx."""
    others = [name for name in named(rows) if name in ("envoy", "caddy")]
    if not others:
        return []
    lines = heading("As a ratio to nginx", *(TITLES[name] for name in others))
    for name, scenario in scenarios.ALL.items():
        reference = tables.of(rows, scenario.reference, name)
        found = [tables.ratios(tables.of(rows, peer, name), reference) for peer in others]
        if not scenario.quota and any(found):
            lines.append(row_of(f"`{name}`" + (", to tuned nginx" if scenario.reference != "nginx" else ""), *map(ratio, found)))
    return lines


def shares(rows):
    """Times of answers at a share of a rate."""
    measured = [(name, peer) for name, one in scenarios.ALL.items() if one.share for peer in named(rows) if tables.of(rows, peer, name)]
    if not measured:
        return []
    lines = heading("At a share of the rate", "peer", "requests/s", "µs", "used of what it may have", "p50", "p99", "p99.9", "asked late, p99", "p99 / nginx's", "bar", "met", "slices", "other speed")
    for name, peer in measured:
        scenario = scenarios.ALL[name]
        good, why_not = tables.as_wanted(tables.of(rows, peer, name))
        if good:
            times = (f"{median(good, key) / 1000:.2f} ms" for key in ("p50_us", "p99_us", "p99.9_us", "late_us"))
            reference = tables.as_wanted(tables.of(rows, scenario.reference, name))[0]
            bar = bars.all_of(rows).get(name) if peer == OURS else None
            compared = ratio(tables.p99_ratios(good, reference)) if peer != scenario.reference else ""
            count = sum(len(row["slices"]) for row in good.values())
            length = statistics.median(row["seconds"] / len(row["slices"]) for row in good.values())
            changed = str(tables.unsteady(name, rows)[0] or "")
            cells = (f"{median(good, 'wanted_rps'):,.0f}", f"{median(good, 'us'):.1f}", f"{median(good, 'used'):.0%}", *times, compared, *judged(bar), f"{count} of {length:.0f} s", changed)
        else:
            cells = (f"not measured: {why_not}", *[""] * 11)
        lines.append(row_of(f"`{name}`: {scenario.about}", TITLES[peer], *cells))
    return lines


def memory(rows):
    names = [(name, peer) for name in scenarios.MEMORY for peer in named(rows) if tables.of(rows, peer, name)]
    if not names:
        return []
    wanted = bars.all_of(rows)
    lines = heading("10,000 idle connections", "peer", "bytes for each", "bar", "met", "resident alone", "with them", "1 s after", "15 s after", "given back", "bar", "met")
    for name, peer in names:
        own = tables.of(rows, peer, name)
        # Earlier runs looked once after the connections had left.
        held = [f"{median(own, key) / 1024:.0f} MiB" if all(key in row for row in own.values()) else "?" for key in RESIDENT]
        bytes_each, back = (judged(wanted.get(key) if peer == OURS else None) for key in (name, f"{name}_back"))
        given = bars.given_back(own.values())
        over = "over TLS" if scenarios.MEMORY[name] else "plain"
        share = f"{statistics.median(given):.0%}" if given else ""
        lines.append(row_of(f"`{name}`: {over}", TITLES[peer], f"{median(own, 'bytes_per_connection'):,.0f}", *bytes_each, *held, share, *back))
    return lines


def scaling(rows):
    """What two cores do."""
    measured = [peer for peer in named(rows) if tables.scaling(rows, peer)[0]]
    if not measured:
        return []
    lines = heading("Two workers with a fifth of a core each, and one", "peer", "times as much", "bar", "met", "by", "the busiest thread's part")
    for peer in measured:
        times, by_rate = tables.scaling(rows, peer)
        how = "requests in a second" if by_rate else "what a request costs; the rate was not the peer's"
        busiest = tables.busiest_part(rows, peer)
        bar = bars.all_of(rows)["two_cores"] if peer == OURS else None
        lines.append(row_of("`two_cores` / `one_core`", TITLES[peer], ratio(times), *judged(bar), how, f"{busiest:.0%}" if busiest else ""))
    return lines


def parts(name, rows):
    """What a request costs in the program and in the kernel, and what it costs the reference."""
    if not scenarios.ALL.get(name) or not scenarios.ALL[name].bar:
        return ""
    own, other = ([f"{median(tables.of(rows, peer, name), key):.1f}" for key in ("user_us", "system_us")] for peer in (OURS, scenarios.ALL[name].reference))
    return f"{' + '.join(own)} ({' + '.join(other)})"


def not_met(rows):
    """How many bars are met; of each that is not, what limits it; and those of which nothing was measured."""
    all_bars = bars.all_of(rows).values()
    measured = [bar for bar in all_bars if bar.found]
    missed = [bar for bar in measured if not bar.met]
    unknown = [bar.about for bar in all_bars if not bar.found]
    lines = [f"Of {len(all_bars)} bars {len(measured) - len(missed)} are met, by the median." + (f" Not measured in these runs: {', '.join(unknown)}." if unknown else "")]
    if missed:
        lines += ["", *heading("Not met", "now", "bar", "µs of user and system (reference)", "what limits it", "next lever")]
        told = {}
        for bar in missed:
            why = bars.limits(bar, missed)
            known = told.setdefault(why, bar.about)
            lines.append(row_of(bar.about, bar.now, bar.said[0], parts(bar.name, rows), *(why if known == bar.about else (f"as {known}", ""))))
    return lines


def sentences(heads, rows):
    """What needs no table."""
    lines = []
    for peer in named(rows):
        if times := tables.resumption(rows, peer):
            lines.append(f"- {TITLES[peer]}: a connection that resumes a TLS session costs {ratio(times)} of one that does not.")
    three = bars.all_of(rows)["three_limits"]
    lines.append(f"- Three limits: {three.found[0]:.3f} times the instructions of a proxied request with one (`counts/`); bar {' '.join(three.said)}.")
    for peer in TITLES:
        if said := sorted({tables.agreed(head["tls"][peer]) for head in heads if peer in head.get("tls", {})}):
            lines.append(f"- TLS with {TITLES[peer]}: {' or '.join(said)}.")
    return lines


def markdown(files):
    """All of it."""
    heads, rows = load(files)
    parts = (sources(files, heads), costs(rows), beside(rows), shares(rows), scaling(rows), memory(rows), sentences(heads, rows), not_met(rows))
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


SUMMARY = (
    ("a browser's request takes", "browser"),
    ("1 KiB from an app", "plain"),
    ("8 KiB posted", "post"),
    ("TLS on kept connections", "tls"),
    ("a new TLS connection", "tls_new"),
    ("HTTP/2 with many streams", "tls_h2"),
    ("a new TCP connection", "conn"),
)


def summary(files):
    """What the project's page says of them, in a few lines."""
    heads, rows = load(files)

    def middle(name, reference):
        found = tables.ratios(tables.of(rows, OURS, name), tables.of(rows, reference, name))
        return f"{statistics.median(found):.2f}" if found else None

    said = []
    for what, name in SUMMARY:
        same_cipher = middle(name, "nginx-tuned") if "nginx-tuned" in scenarios.ALL[name].references and scenarios.ALL[name].tls else None
        if found := middle(name, "nginx"):
            said.append(f"{what} {found}" + (f" ({same_cipher} with the same cipher)" if same_cipher else ""))
    edge = sorted(found for name in ("deny", "limited", "probe") if (found := middle(name, "nginx")))
    all_bars = bars.all_of(rows).values()
    met, known = sum(bar.met for bar in all_bars if bar.found), sum(bool(bar.found) for bar in all_bars)
    rounds = sorted({str(head["rounds"]) for head in heads})
    return [
        f"Beside nginx doing the same work (identity, rules, a limit, forwarding fields), in the same run, as a part of its processor time: {', '.join(said)}; an answer at the edge {edge[0]} to {edge[-1]}. "
        f"Of {len(all_bars)} bars that were set, {met} are met" + (f" and {len(all_bars) - known} not measured" if known < len(all_bars) else "") + ". "
        f"Measured on two cores of a virtual machine with neighbours, {' or '.join(rounds)} rounds.",
    ]


def between(text, begin=BEGIN, end=END):
    """What stands between the markers."""
    return text.partition(begin + "\n")[2].partition(end)[0]


def replaced(text, new, begin=BEGIN, end=END):
    before, found, rest = text.partition(begin + "\n")
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"no {begin} and {end} to write between")
    return before + begin + "\n" + new + end + after
