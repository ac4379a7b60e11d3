"""What was measured, as tables. Rows are those of the raw results: one for each peer, scenario and round."""

import statistics

import scenarios

# A speed that differs by more within one round of a scenario is another speed.
STEADY = 1.08
# Who used less of what it may have was not what bounded the rate.
BOTTLENECK = 0.85
# How near to its share a reference has to be, as a part of it.
NEAR = 0.15


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


def why_not_measured(row):
    """Of a row whose scenario bounds its peers: why its rate, or the times at a share of a rate, are not the peer's; None where they are."""
    scenario = scenarios.ALL[row["scenario"]]
    if not scenario.share:
        bounded_by_others = scenario.quota and row.get("used", 0) < BOTTLENECK
        return f"it used {row.get('used', row.get('busy', 0)):.0%} of what it may have of the processor: load and app bounded the rate" if bounded_by_others else None
    if "aimed_used" not in row:
        return "taken before peers were bounded: load and app bounded the rate"
    if abs(row["aimed_used"] / scenario.share - 1) > NEAR:
        return f"no rate was found at which {scenario.reference} uses {scenario.share:.0%} of what it may have, but {row['aimed_used']:.0%}: load and app bounded it"
    if row["peer"] == scenario.reference and abs(row["used"] / scenario.share - 1) > 2 * NEAR:
        return f"it used {row['used']:.0%} of what it may have, and was to use {scenario.share:.0%}: the machine changed its speed"
    if row["rps"] < 0.95 * row["wanted_rps"]:
        return f"only {row['rps'] / row['wanted_rps']:.0%} of the rate was reached"
    if row["late_us"] > max(1000, row["p99_us"] / 2):
        return f"the load asked {row['late_us'] / 1000:.0f} ms late (p99), where answers took {row['p99_us'] / 1000:.0f} ms"
    return None


def as_wanted(rows):
    """Those of a peer's rounds that tell what they are to tell; and why others do not."""
    good = {number: row for number, row in rows.items() if not why_not_measured(row)}
    return good, "; ".join(sorted({why_not_measured(row) for row in rows.values()} - {None}))


def print_scenario(name, rows, names, failed):
    """Medians over the rounds; the ratio is taken within each round, and its extremes are shown."""
    scenario = scenarios.ALL[name]
    compared_with = [peer for peer in scenario.references if peer in names] or names[:1]
    references = {peer: of(rows, peer, name) for peer in compared_with}
    print(f"\n{name}: {scenario.about}")
    late = f"{'used':>7}{'p50 µs':>9}{'p99 µs':>9}{'p99.9':>9}{'late':>7}" if scenario.share else f"{'used':>7}" if scenario.quota else ""
    against = "".join(f"  {'x ' + peer:18}" for peer in compared_with).rstrip()
    print(f"  {'peer':14}{'µs/req':>10}{'user':>10}{'system':>10}{'req/s':>10}{'MB/s':>8}{'busy':>6}{late}{against}")
    for peer in names:
        own = of(rows, peer, name)
        if not own:
            print(f"  {peer:14}{why_missing(peer, name, failed)}")
            continue
        wanted, why_not = as_wanted(own)
        if scenario.share and not wanted:
            print(f"  {peer:14}not measured: {why_not}")
            continue
        own = wanted if scenario.share else own

        def median(key):
            return statistics.median(row[key] for row in own.values())

        times = f"{median('used'):7.0%}" if scenario.quota and all("used" in row for row in own.values()) else ""
        times += "".join(f"{median(key):9.0f}" for key in ("p50_us", "p99_us", "p99.9_us")) + f"{median('late_us'):7.0f}" if scenario.share else ""
        print(
            f"  {peer:14}{median('us'):10.2f}{median('user_us'):10.2f}{median('system_us'):10.2f}{median('rps'):10.0f}"
            f"{median('mb_per_s'):8.0f}{median('busy'):6.2f}{times}"
            + "".join(f"  {with_spread(ratios(own, reference)):18}" for reference in references.values()).rstrip()
            + (f"  ({why_not})" if why_not else "")
        )
    if scenario.share and any(as_wanted(of(rows, peer, name))[0] for peer in names):
        print("  late: by how many µs the load itself asked late, p99")
    print_steadiness(name, rows)


def print_tls(name, names, negotiated):
    """What was agreed upon with each, without which its figures can not be compared."""
    if scenarios.ALL[name].tls:
        for peer in names:
            if peer in negotiated:
                print(f"  {peer}: {agreed(negotiated[peer])}")


def agreed(of_peer):
    tickets = of_peer["tickets"]
    return f"{of_peer['version']}, {of_peer['cipher']}, {of_peer['group']}, {tickets} {'ticket' if tickets == 1 else 'tickets'}"


def why_missing(peer, name, failed):
    reason = scenarios.why_left_out(peer, name)
    if reason:
        return f"left out: {reason}"
    return "FAILED, see the end" if (peer, name) in failed or (peer, None) in failed else "not measured"


def unsteady(name, rows):
    """In how many rounds of a scenario the machine changed its speed, and of how many."""
    speeds = {}
    for row in rows:
        if row["scenario"] == name:
            speeds.setdefault(row["round"], []).extend(row["yardstick_us"])
    return sum(max(times) > STEADY * min(times) for times in speeds.values()), len(speeds)


def print_steadiness(name, rows):
    """Whether the machine was as fast for each of the peers."""
    changed, rounds = unsteady(name, rows)
    if changed:
        print(f"  the machine changed its speed within {changed} of {rounds} rounds")


def p99_ratios(rows, references):
    """Of the time of the slowest percent, by slice: those of earlier runs have one."""
    return [
        mine / theirs
        for number, row in rows.items()
        if number in references
        for mine, theirs in zip(row.get("p99_slices_us", [row["p99_us"]]), references[number].get("p99_slices_us", [references[number]["p99_us"]]))
    ]


def scaling(rows, peer):
    """How much more two cores do than one, by round: from the rates, with so much of a core for each worker that load and app bound nothing. Else from what a request
    costs, which is twice as much if it costs the same on both; and which of the two it is."""
    (one, _), (two, _) = as_wanted(of(rows, peer, "one_core")), as_wanted(of(rows, peer, "two_cores"))
    rates = [two[number]["rps"] / row["rps"] for number, row in one.items() if number in two and row.get("quota")]
    if rates:
        return rates, True
    alone, both = of(rows, peer, "plain"), of(rows, peer, "two_cores")
    return [2 * row["us"] / both[number]["us"] for number, row in alone.items() if number in both], False


def print_scaling(rows, names):
    for peer in names:
        times, by_rate = scaling(rows, peer)
        if times:
            how = "requests in a second" if by_rate else "from what a request costs: the rate was not the peer's"
            print(f"\n{peer}: two cores do {with_spread(times)} times what one does ({how}{busiest(rows, peer)})")


def busiest_part(rows, peer):
    """Of the work of two workers, that of the thread which did most; None where nobody looked."""
    parts = [row["busiest_thread"] for row in of(rows, peer, "two_cores").values() if "busiest_thread" in row]
    return statistics.median(parts) if parts else None


def busiest(rows, peer):
    """Whether both workers did something."""
    part = busiest_part(rows, peer)
    return f"; the busiest thread had {part:.0%} of the work" if part else ""


def resumption(rows, peer):
    """What a resumed session costs of a full handshake, by round."""
    full, resumed = of(rows, peer, "tls_full"), of(rows, peer, "tls_resumed")
    return [resumed[number]["us"] / row["us"] for number, row in full.items() if number in resumed]


def print_resumption(rows, names):
    for peer in names:
        if times := resumption(rows, peer):
            print(f"\n{peer}: a connection that resumes a session costs {with_spread(times)} of one that does not")


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
