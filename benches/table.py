#!/usr/bin/env python3
"""Runs the benches beside floors and peers; writes docs/performance.md and docs/performance.svg; checks the bars.

    python3 benches/table.py                run everything (ten to twenty minutes), write, say which bars hold
    python3 benches/table.py --check        the same, and fail where one does not
    python3 benches/table.py --no-run       from the run before
    python3 benches/table.py -- ARGUMENTS   pass them to criterion, e.g. a filter or --sample-size 10

Each row is timed in rounds, in each round ours, the floor and the peers right after one another. A time is the median
over the rounds (of criterion's medians); a ratio is the median of the rounds' ratios, so that a machine that is slower
for a while does not tip it.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path
from statistics import median

BENCHES = Path(__file__).resolve().parent
DOCS = BENCHES.parent / "docs"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", BENCHES.parent / "target")).resolve()
RESULTS = TARGET / "beside"
FIGURES = RESULTS / "figures.tsv"
BEGIN, END = "<!-- table.py begins -->", "<!-- table.py ends -->"

PEERS = ["vodozemac", "ratchetx2", "age", "openmls", "mls-rs"]
# Between two, and in groups: the rows of the latter begin so.
TABLES = [(False, ["vodozemac", "ratchetx2", "age"]), (True, ["vodozemac", "openmls", "mls-rs"])]
OF_GROUPS = "group-"
FASTER = [("vodozemac", 1), ("openmls", 1), ("mls-rs", 1)]
THREE_TIMES = [("vodozemac", 3), ("openmls", 3), ("mls-rs", 3)]

# Row, title, what one iteration is divided by, bars. A bar is one of
#   ("floor", most)        ours / floor
#   ("without", most)      ours / the same without
#   (peer, least)          peer / ours
#   ("time", most)         nanoseconds, on a quiet machine of the kind that the page names
#   ("linear", row, keys)  time for each key skipped, at most 1.15 times that of another row
ROWS = [
    ("prekeys-100", "100 one-time sets of prekeys, signed", 1, [("floor", 1.1)]),
    ("handshake-initiator", "handshake, initiator: bundle to first message", 1, [("floor", 1.1)]),
    ("handshake-responder", "handshake, responder: to first plaintext", 1, [("floor", 1.1)]),
    ("encrypt-64", "encrypt 64 B", 1, [("floor", 1.35), ("vodozemac", 7)]),
    ("encrypt-1k", "encrypt 1 KiB", 1, []),
    ("encrypt-64k", "encrypt 64 KiB", 1, [("floor", 1.1), ("vodozemac", 2.2)]),
    ("decrypt-64", "decrypt 64 B", 1, [("floor", 1.35), ("vodozemac", 1)]),
    ("decrypt-1k", "decrypt 1 KiB", 1, []),
    ("decrypt-64k", "decrypt 64 KiB", 1, [("floor", 1.1), ("vodozemac", 1.1)]),
    ("ping-pong", "ping-pong round trip, 64 B, over two epochs", 87, [("floor", 1.1), ("vodozemac", 1), ("ratchetx2", 1)]),
    ("reverse-1000", "1,000 messages in reverse", 1, [("floor", 1.35)]),
    ("jump-2000", "jump over 2,000", 1, [("floor", 1.35)]),
    ("jump-25000", "jump over 25,000", 1, [("floor", 1.35), ("linear", "jump-2000", 12.5)]),
    ("decrypt-holding", "decrypt 64 B, 2,000 skipped keys held", 1, [("without", 1.1)]),
    ("reject-1", "refuse a forgery", 1, [("floor", 1.5), ("time", 1_000)]),
    ("reject-16-chains", "refuse a forgery, 16 skipped chains", 1, [("floor", 1.5), ("time", 6_000)]),
    ("reject-5-sessions", "refuse a forgery, 5 sessions", 1, []),
    ("store-fresh", "store and load, fresh", 1, [("time", 3_000)]),
    ("store-1000", "store and load, 1,000 skipped keys", 1, [("time", 40_000)]),
    ("seal-4m", "seal a file of 4 MiB", 1, [("floor", 1.1), ("age", 1.5)]),
    ("open-4m", "open a file of 4 MiB", 1, [("floor", 1.1), ("age", 1.5)]),
    ("seal-4m-2", "seal a file of 4 MiB, two threads", 1, [("floor", 0.56), ("age", 2.5)]),
    ("open-4m-2", "open a file of 4 MiB, two threads", 1, [("floor", 0.56), ("age", 2.5)]),
    ("seal-256m", "seal a file of 256 MiB", 1, [("floor", 1.1), ("age", 1.5)]),
    ("open-256m", "open a file of 256 MiB", 1, [("floor", 1.1), ("age", 1.5)]),
    ("seal-256m-2", "seal a file of 256 MiB, two threads", 1, [("floor", 0.56), ("age", 2.5)]),
    ("open-256m-2", "open a file of 256 MiB, two threads", 1, [("floor", 0.56), ("age", 2.5)]),
    ("group-encrypt-64", "group: encrypt 64 B", 1, [("floor", 1.1), *FASTER]),
    ("group-encrypt-64k", "group: encrypt 64 KiB", 1, [("floor", 1.1), *THREE_TIMES]),
    ("group-decrypt-64", "group: decrypt 64 B", 1, [("floor", 1.1), *FASTER]),
    ("group-decrypt-64k", "group: decrypt 64 KiB", 1, [("floor", 1.1), *THREE_TIMES]),
    ("group-reverse-1000", "group: 1,000 messages in reverse", 1, [("floor", 1.1), ("vodozemac", 1)]),
    ("group-jump-999", "group: jump over 999", 1, [("floor", 1.35)]),
    ("group-backlog-64", "group: 64 messages in order", 1, [("floor", 1.1), ("vodozemac", 1)]),
]

# The figures that are not criterion's.
FIGURE_TITLES = {
    "ping-pong-worst": "worst single message of the ping-pong (median over 41 pairs of epochs), encrypted and decrypted",
    "overhead-regular": "regular message, less its plaintext of 64 B",
    "overhead-initial": "initial message, less its plaintext of 64 B",
    "bundle": "prekey bundle, with a one-time prekey",
    "session-fresh": "stored session, fresh",
    "session-worst": "stored session, longest within 4 epochs without losses",
    "session-skipped": "stored session, for each skipped message",
    "group-overhead": "group message, less its content of 64 B",
    "group-record": "what is stored of another device's chain",
}

CRATES = [
    "subrosa", "vodozemac", "ratchetx2", "age", "openmls", "mls-rs", "curve25519-dalek", "ed25519-dalek",
    "libcrux-ml-kem", "chacha20",
    "libcrux-poly1305", "chacha20poly1305", "sha2", "ring", "criterion",
]


def run(arguments):
    """The benches, their output shown as it comes."""
    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir(parents=True)
    command = ["cargo", "bench", "--bench", "beside", "--", *arguments]
    environment = {**os.environ, "CRITERION_HOME": str(RESULTS)}
    figures = []
    with subprocess.Popen(command, cwd=BENCHES / "peers", env=environment, stdout=subprocess.PIPE, text=True) as bench:
        for line in bench.stdout:
            print(line, end="", flush=True)
            if line.startswith("figure\t"):
                figures.append(line)
    if bench.returncode != 0:
        sys.exit(f"the bench failed: {bench.returncode}")
    FIGURES.write_text("".join(figures))


def read():
    """{row: {of: [nanoseconds in each round]}} and {figure: {of: (value, unit)}}"""
    rows = {}
    for estimates in RESULTS.glob("*/*/new/estimates.json"):
        (row, number), of = estimates.parts[-4].rsplit(".", 1), estimates.parts[-3]
        value = json.loads(estimates.read_text())["median"]["point_estimate"]
        rows.setdefault(row, {}).setdefault(of, {})[int(number)] = value
    divisors = {row: divisor for row, _, divisor, _ in ROWS}
    times = {
        row: {of: [rounds[number] / divisors[row] for number in sorted(rounds)] for of, rounds in columns.items()}
        for row, columns in rows.items()
    }
    figures = {}
    for line in FIGURES.read_text().splitlines() if FIGURES.exists() else []:
        _, figure, of, value, unit = line.split("\t")
        figures.setdefault(figure, {})[of] = (int(value), unit)
    return times, figures


def ratio(times, row, above, below):
    """Of two columns of a row, round by round."""
    columns = times.get(row, {})
    if above not in columns or below not in columns:
        return None
    return median(one / other for one, other in zip(columns[above], columns[below]))


def check(times):
    """A line for each bar, and how many do not hold."""
    missed = 0
    for row, title, _, bars in ROWS:
        if "ours" not in times.get(row, {}):
            print(f"{'none':6}{title}: not in this run")
            continue
        for kind, limit, *rest in bars:
            if kind in ("floor", "without"):
                value, most = ratio(times, row, "ours", kind), True
                text = "{:.2f} times " + ("its floor" if kind == "floor" else "the same without")
            elif kind == "time":
                value, most, text = median(times[row]["ours"]) / 1_000, True, "{:.2f} us"
                limit /= 1_000
            elif kind == "linear":
                other, factor = limit, rest[0]
                limit, most, text = 1.15, True, "{:.2f} times the time for each key of " + other
                one = times.get(other, {}).get("ours")
                value = one and median(times[row]["ours"]) / median(one) / factor
            else:
                value, most, text = ratio(times, row, kind, "ours"), False, "{:.2f} times faster than " + kind
            if value is None:
                print(f"{'none':6}{title}: nothing to compare with in this run")
                continue
            holds = value <= limit if most else value >= limit
            missed += not holds
            bar = f"at {'most' if most else 'least'} {limit:g}"
            print(f"{'holds' if holds else 'MISS':6}{title}: {text.format(value)} ({bar})")
    return missed


def duration(nanoseconds):
    for unit, size in (("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            value = nanoseconds / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return f"{nanoseconds:.0f} ns"


def times_of(value):
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}" if value >= 3 else f"{value:.2f}"


def table(times, of_groups, peers):
    head = ["row", "ours", "floor", "ours / floor"]
    for peer in peers:
        head += [peer, f"{peer} / ours"]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for row, title, _, _ in ROWS:
        columns = times.get(row)
        if columns is None or row.startswith(OF_GROUPS) != of_groups:
            continue
        shown = {of: duration(median(rounds)) for of, rounds in columns.items()}
        if (without := ratio(times, row, "ours", "without")) is not None:
            title += f" ({times_of(without)} times the same without)"
        cells = [title, shown.get("ours", ""), shown.get("floor", ""), times_of(ratio(times, row, "ours", "floor"))]
        for peer in peers:
            cells += [shown.get(peer, ""), times_of(ratio(times, row, peer, "ours"))]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def figure_table(figures):
    columns = ["ours", *PEERS]
    lines = ["| figure | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for figure, title in FIGURE_TITLES.items():
        values = figures.get(figure, {})
        show = lambda value, unit: duration(value) if unit == "ns" else f"{value:,} B"
        cells = [show(*values[of]) if of in values else "" for of in columns]
        lines.append("| " + " | ".join([title, *cells]) + " |")
    return lines


def versions():
    """{crate: its versions} in the lock file of this run"""
    lock = (BENCHES.parent / "Cargo.lock").read_text()
    found = {}
    for name, version in re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', lock):
        found.setdefault(name, []).append(version)
    return found


def machine():
    try:
        info = Path("/proc/cpuinfo").read_text()
        model = re.search(r"^model name\s*: (.*)$", info, re.MULTILINE)[1]
        flags = set(re.search(r"^flags\s*: (.*)$", info, re.MULTILINE)[1].split())
    except (OSError, TypeError):
        model, flags = platform.machine(), set()
    known = {"avx2": "AVX2", "avx512f": "AVX-512", "sha_ni": "SHA extensions"}
    extensions = [name for flag, name in known.items() if flag in flags]
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    found = versions()
    crates = ", ".join(f"{crate} {' and '.join(found[crate])}" for crate in CRATES if crate in found)
    cores = f"{os.cpu_count()} cores"
    return [
        f"- Machine: {', '.join([model, cores, *extensions])}; {platform.system()}, {platform.machine()}.",
        f"- Compiler: rustc {rustc}, `cargo bench` as it comes, no flags.",
        f"- Crates: {crates}.",
    ]


def write(times, figures):
    page = DOCS / "performance.md"
    text = page.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    tables = [line for kind in TABLES for line in [*table(times, *kind), ""]]
    made = [BEGIN, "", *machine(), "", *tables, *figure_table(figures), "", END]
    page.write_text(before + "\n".join(made) + after)
    (DOCS / "performance.svg").write_text(picture(times))


# The picture: each row in multiples of ours, so that a bar longer than ours is slower than ours.
WIDTH, LEFT, SCALE, MOST = 960, 300, 68, 8
BAR, STEP, GAP, TOP = 9, 12, 12, 76

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f; }
  .small { font-size: 10px; fill: #57606a; paint-order: stroke; stroke: #ffffff; stroke-width: 3px; } .title { font-size: 15px; font-weight: 600; }
  .grid { stroke: #d0d7de; } .one { stroke: #57606a; stroke-dasharray: 2 2; }
  .ours { fill: #0969da; } .floor { fill: #8c959f; } .vodozemac { fill: #d4821e; } .ratchetx2 { fill: #2da172; }
  .age { fill: #8250df; } .openmls { fill: #8250df; } .mls-rs { fill: #bf3989; }
  .break { stroke: #ffffff; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .small { fill: #9198a1; stroke: #0d1117; }
    .grid { stroke: #30363d; } .one { stroke: #9198a1; }
    .ours { fill: #4493f8; } .floor { fill: #6e7681; } .vodozemac { fill: #e3a04f; } .ratchetx2 { fill: #3fb984; }
    .age { fill: #a371f7; } .openmls { fill: #ab7df8; } .mls-rs { fill: #f778ba; }
    .break { stroke: #0d1117; }
  }
"""


def picture(times):
    columns = ["ours", "floor", *PEERS]
    rows = [(row, title) for row, title, _, _ in ROWS if "ours" in times.get(row, {})]
    bars = [[of for of in columns if of in times[row]] for row, _ in rows]
    height = TOP + sum(len(shown) * STEP + GAP for shown in bars) + 12
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' aria-label="Time for each row, in multiples of ours">',
        f"<style>{STYLE}</style>",
        '<text class="title" x="16" y="26">Time, in multiples of ours: shorter is faster</text>',
    ]
    for number, of in enumerate(columns):
        x = LEFT + number * 105
        out.append(f'<rect class="{of}" x="{x}" y="36" width="12" height="12" rx="2"/>')
        out.append(f'<text x="{x + 17}" y="46">{of}</text>')
    for at in range(MOST + 1):
        x, kind = LEFT + at * SCALE, "one" if at == 1 else "grid"
        out.append(f'<line class="{kind}" x1="{x}" y1="{TOP - 6}" x2="{x}" y2="{height - 8}"/>')
        out.append(f'<text class="small" x="{x}" y="{TOP - 10}" text-anchor="middle">{at}</text>')
    y = TOP
    for (row, title), shown in zip(rows, bars):
        middle = y + len(shown) * STEP / 2 + 3
        out.append(f'<text x="{LEFT - 10}" y="{middle:.0f}" text-anchor="end">{escape(title)}</text>')
        for of in shown:
            value = ratio(times, row, of, "ours")
            length = min(value, MOST) * SCALE
            out.append(f'<rect class="{of}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="1.5"/>')
            label = duration(median(times[row][of]))
            if value > MOST:
                x = LEFT + length - 14
                out.append(f'<path class="break" d="M{x:.0f} {y + BAR + 1} l4 {-BAR - 2} m4 0 l-4 {BAR + 2}"/>')
                label += f", {times_of(value)} times"
            out.append(f'<text class="small" x="{LEFT + length + 5:.1f}" y="{y + BAR - 0.5}">{label}</text>')
            y += STEP
        y += GAP
    return "\n".join([*out, "</svg>", ""])


def main():
    arguments = sys.argv[1:]
    at = arguments.index("--") if "--" in arguments else len(arguments)
    own, passed = arguments[:at], arguments[at + 1 :]
    if set(own) - {"--check", "--no-run"}:
        sys.exit(__doc__)
    if "--no-run" not in own:
        run(passed)
    times, figures = read()
    write(times, figures)
    missed = check(times)
    print(f"{missed} bars missed" if missed else "all bars hold")
    sys.exit(1 if missed and "--check" in own else 0)


if __name__ == "__main__":
    main()
