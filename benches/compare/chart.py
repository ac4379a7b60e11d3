#!/usr/bin/env python3
"""Bars from the raw results of run.py, as an SVG for the README: chart.py RUN.jsonl… [-o chart.svg]

One bar for each scenario: the median, over all rounds of all runs that are named, of the processor time of a request as a ratio to nginx's in the same round; a
thin line from the lowest to the highest.
"""

import argparse
import json
import pathlib
import statistics

import scenarios
import tables

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SHOWN = {
    "plain": "1 KiB proxied",
    "browser": "browser-like, 12 KiB",
    "post": "8 KiB posted",
    "deny": "denied",
    "limited": "limited",
    "probe": "probe at the edge",
    "static": "file of 10 KiB",
    "tls": "TLS 1.3",
    "tls_new": "new TLS connection",
    "tls_h2": "HTTP/2 over TLS",
    "b100k": "100 KiB (tuned nginx)",
    "b10m": "10 MiB (tuned nginx)",
    "websocket": "WebSocket message",
}
LEFT, WIDTH, ROW = 190, 420, 26


def ratios(files):
    """Scenario to the ratios of its rounds."""
    found = {}
    for file in files:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        measured = {(row["peer"], row["scenario"], row["round"]): row for row in rows if "us" in row}
        for (peer, name, round_), row in measured.items():
            reference = measured.get((scenarios.ALL[name].reference, name, round_))
            if peer == "probegate" and reference:
                found.setdefault(name, []).append(tables.ratio(row, reference))
    return found


def draw(found):
    """The picture. Text has the colour that the page gives it."""
    names = [name for name in SHOWN if name in found]
    height = ROW * len(names) + 54
    most = max(1.2, max(max(found[name]) for name in names) * 1.05)

    def x(ratio):
        return LEFT + ratio / most * WIDTH

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 60} {height}" font-family="system-ui,sans-serif" font-size="13">',
        "<style>text{fill:#333}.axis{stroke:#888}.nginx{stroke:#b03030;stroke-dasharray:4 3}.bar{fill:#3a7ca5}.worse{fill:#b0893a}"
        ".spread{stroke:#222}@media(prefers-color-scheme:dark){text{fill:#ddd}.spread{stroke:#eee}}</style>",
        '<text x="8" y="18" font-weight="600">Processor time of a request: probegate as a ratio to nginx (less is better)</text>',
    ]
    for row, name in enumerate(names):
        values, y = found[name], 32 + row * ROW
        median = statistics.median(values)
        kind = "bar" if median <= 1 else "worse"
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{SHOWN[name]}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{x(median) - LEFT:.1f}" height="{ROW - 8}"/>',
            f'<line class="spread" x1="{x(min(values)):.1f}" x2="{x(max(values)):.1f}" y1="{y + 9}" y2="{y + 9}"/>',
            f'<text x="{x(max(max(values), 1)) + 6:.1f}" y="{y + 14}">{median:.2f}</text>',
        ]
    parts += [
        f'<line class="nginx" x1="{x(1):.1f}" x2="{x(1):.1f}" y1="26" y2="{height - 20}"/>',
        f'<text x="{x(1):.1f}" y="{height - 6}" text-anchor="middle">nginx</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("-o", "--out", type=pathlib.Path, default=ROOT / "benches/compare/chart.svg")
    options = parser.parse_args()
    options.out.write_text(draw(ratios(options.runs)))
    print(options.out)


if __name__ == "__main__":
    main()
