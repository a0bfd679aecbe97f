#!/usr/bin/env python3
"""Runs the bench of messages through the client, and writes the table of docs/performance.md, "Through the client".

    python3 benches/client.py                run (about five minutes) and write
    python3 benches/client.py --no-run       from the run before
    python3 benches/client.py -- ARGUMENTS   pass them to criterion
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from table import DOCS, duration

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "client"
BEGIN, END = "<!-- client.py begins -->", "<!-- client.py ends -->"

STORES = ["memory", "redb", "vault"]
PEERS = [1, 100, 10_000]


def time(store, peers, column):
    """Nanoseconds, the median."""
    path = RESULTS / f"client-{store}-{peers}" / column / "new" / "estimates.json"
    return json.loads(path.read_text())["median"]["point_estimate"]


def table():
    head = ["store", "peers", "send", "receive", "a commit", "send, 100 in a commit", "receive, 100 in a commit"]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for store in STORES:
        for peers in PEERS:
            one = [duration(time(store, peers, column)) for column in ("send", "receive", "commit")]
            many = [duration(time(store, peers, f"{column}-100") / 100) for column in ("send", "receive")]
            lines.append("| " + " | ".join([store, f"{peers:,}", *one, *many]) + " |")
    return lines


def main():
    arguments = sys.argv[1:]
    at = arguments.index("--") if "--" in arguments else len(arguments)
    own, passed = arguments[:at], arguments[at + 1 :]
    if set(own) - {"--no-run"}:
        sys.exit(__doc__)
    if "--no-run" not in own:
        command = ["cargo", "bench", "--bench", "client", "--", *passed]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "CRITERION_HOME": str(RESULTS)}, check=True)
    page = DOCS / "performance.md"
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(before + "\n".join([BEGIN, "", *table(), "", END]) + after)


if __name__ == "__main__":
    main()
