#!/usr/bin/env python3
"""The picture, the tables of benches/README.md, the figures of gateway/docs/capacity.md and the README's summary, from the raw results of run.py.

    chart.py RUN.jsonl…                 draws chart.svg and writes the results into benches/README.md, capacity.md and the README, between their markers
    chart.py RUN.jsonl… -o FILE.svg     draws the picture there, and nothing else
    chart.py --table RUN.jsonl…         prints the results as Markdown, and writes nothing

A bar is the median, over all rounds of all runs that are named, of the processor time of a request as a ratio to nginx's in the same round; a thin line goes from
the lowest to the highest. Picture and tables are of the same runs, and those are to be committed: `git add -f benches/runs/…`. The tests hold all pages to that.
"""

import argparse
import pathlib
import statistics

import capacity
import results
import scenarios
import tables

BENCHES = pathlib.Path(__file__).resolve().parent.parent
PICTURE, README = BENCHES / "compare/chart.svg", BENCHES / "README.md"
# What is written anew, and how.
PAGES = {
    README: lambda text, runs: results.replaced(text, results.markdown(runs)),
    capacity.PAGE: capacity.written,
    BENCHES.parent / "README.md": lambda text, runs: results.replaced(text, "\n".join(results.summary(runs)) + "\n", "<!-- costs -->", "<!-- /costs -->"),
}
SHOWN = {
    "plain": "1 KiB proxied",
    "browser": "browser-like, 12 KiB",
    "post": "8 KiB posted",
    "conn": "new TCP connection",
    "deny": "denied",
    "limited": "limited",
    "probe": "probe at the edge",
    "static": "file of 10 KiB",
    "static/nginx-tuned": "… (tuned nginx)",
    "tls": "TLS 1.3",
    "tls/nginx-tuned": "… (tuned nginx: same cipher)",
    "tls_new": "new TLS connection",
    "tls_h2": "HTTP/2, many streams",
    "tls_h2/nginx-tuned": "… (tuned nginx: same cipher)",
    "tls_h2_few": "HTTP/2, few streams",
    "tls_h2_few/nginx-tuned": "… (tuned nginx: same cipher)",
    "b100k": "100 KiB (tuned nginx)",
    "b10m": "10 MiB (tuned nginx)",
    "websocket": "WebSocket message",
}
LEFT, WIDTH, ROW = 230, 400, 26


def ratios(files):
    """Scenario to the ratios of its rounds; with the name of the reference, where that is not the first one."""
    rows, found = [row for row in results.load(files)[1] if "us" in row], {}
    for name, scenario in scenarios.ALL.items():
        for reference in scenario.references:
            values = tables.ratios(tables.of(rows, "probegate", name), tables.of(rows, reference, name))
            if values:
                found[name if reference == scenario.reference else f"{name}/{reference}"] = values
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
    parser.add_argument("-o", "--out", type=pathlib.Path, help="file for the picture alone")
    parser.add_argument("--table", action="store_true", help="print the results as Markdown")
    options = parser.parse_args()
    if options.table:
        print(results.markdown(options.runs), end="")
        return
    picture = options.out or PICTURE
    picture.write_text(draw(ratios(options.runs)))
    print(picture)
    if not options.out:
        for page, write in PAGES.items():
            page.write_text(write(page.read_text(), options.runs))
            print(page)


if __name__ == "__main__":
    main()
