"""What was measured, as tables. Rows are those of the raw results: one for each peer, scenario and round."""

import statistics

import peers
import scenarios

# A speed that differs by more within one round of a scenario is another speed.
STEADY = 1.08


def of(rows, peer, scenario):
    """Its rows by round."""
    return {row["round"]: row for row in rows if (row["peer"], row["scenario"]) == (peer, scenario)}


def ratio(row, reference):
    """Of what a request costs, within one round: the median over its slices, so that a machine which changes its speed while one of two is measured spoils one slice."""
    own, other = row.get("slices", []), reference.get("slices", [])
    if own and len(own) == len(other):
        return statistics.median(mine / theirs for mine, theirs in zip(own, other))
    return row["us"] / reference["us"]


def ratios(rows, references):
    """Those of the rounds that both have."""
    return [ratio(row, references[number]) for number, row in rows.items() if number in references]


def with_spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})" if values else "-"


def print_scenario(name, rows, names, failed):
    """Medians over the rounds; the ratio is taken within each round, and its extremes are shown."""
    scenario = scenarios.ALL[name]
    compared_with = scenario.reference if scenario.reference in names else names[0]
    references = of(rows, compared_with, name)
    print(f"\n{name}: {scenario.about}")
    late = f"{'p50 µs':>9}{'p99 µs':>9}{'p99.9':>9}" if scenario.share else ""
    print(f"  {'peer':14}{'µs/req':>10}{'user':>10}{'system':>10}{'req/s':>10}{'MB/s':>8}{'busy':>6}{late}  x {compared_with}")
    for peer in names:
        own = of(rows, peer, name)
        if not own:
            print(f"  {peer:14}{why_missing(peer, name, failed)}")
            continue

        def median(key):
            return statistics.median(row[key] for row in own.values())

        times = "".join(f"{median(key):9.0f}" for key in ("p50_us", "p99_us", "p99.9_us")) if scenario.share else ""
        # A rate that was not reached is another rate.
        slow = scenario.share and median("rps") < 0.95 * median("wanted_rps")
        print(
            f"  {peer:14}{median('us'):10.2f}{median('user_us'):10.2f}{median('system_us'):10.2f}{median('rps'):10.0f}"
            f"{median('mb_per_s'):8.0f}{median('busy'):6.2f}{times}  {with_spread(ratios(own, references))}"
            + (f"  only {median('rps') / median('wanted_rps'):.0%} of the rate was reached" if slow else "")
        )
    print_steadiness(name, rows)


def why_missing(peer, name, failed):
    reason = peers.ALL[peer].why_not(name, name in scenarios.ALL and scenarios.ALL[name].log)
    if reason:
        return f"left out: {reason}"
    return "FAILED, see the end" if (peer, name) in failed or (peer, None) in failed else "not measured"


def print_steadiness(name, rows):
    """Whether the machine was as fast for each of the peers."""
    speeds = {}
    for row in rows:
        if row["scenario"] == name:
            speeds.setdefault(row["round"], []).extend(row["yardstick_us"])
    changed = [number for number, times in speeds.items() if max(times) > STEADY * min(times)]
    if changed:
        print(f"  the machine changed its speed within {len(changed)} of {len(speeds)} rounds")


def print_scaling(rows, names):
    """How much more two cores do than one: twice, if a request costs the same on both. From the cost, because load and upstream need the cores, too."""
    for peer in names:
        plain, two = of(rows, peer, "plain"), of(rows, peer, "two_cores")
        times = [2 * row["us"] / two[number]["us"] for number, row in plain.items() if number in two]
        if times:
            print(f"\n{peer}: two cores do {with_spread(times)} times what one does")


def print_limits(rows, names):
    """What two limits more add to a request, as a ratio to the one with one."""
    for peer in names:
        plain, three = of(rows, peer, "plain"), of(rows, peer, "three")
        times = [three[number]["us"] / row["us"] for number, row in plain.items() if number in three]
        if times:
            print(f"\n{peer}: with three limits a request costs {with_spread(times)} of one with one")


def print_memory(name, rows, names, failed, count):
    print(f"\n{name}: resident KiB alone, with {count} idle connections, 1 s and 15 s after them; bytes for each connection")
    print(f"  {'peer':14}{'alone':>9}{'with':>9}{'1 s':>9}{'15 s':>9}{'bytes':>8}")
    for peer in names:
        own = of(rows, peer, name)
        if not own:
            print(f"  {peer:14}{why_missing(peer, name, failed)}")
            continue
        figures = (("idle_kib", 9), ("held_kib", 9), ("after_kib", 9), ("later_kib", 9), ("bytes_per_connection", 8))
        print(f"  {peer:14}" + "".join(f"{statistics.median(row[key] for row in own.values()):{width}.0f}" for key, width in figures))
