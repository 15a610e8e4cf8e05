"""Benchmarks: `python -m bench NAME [--json]` prints a table for people, or one JSON object."""

from __future__ import annotations

import argparse
import json
import sys

from bench import call, chaos, page, relay, review
from bench.figures import Figure, nested, table

BENCHMARKS = {
    "call": call.measure,
    "chaos": chaos.measure,
    "page": page.measure,
    "relay": relay.measure,
    "review": review.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measures the product as it is shipped."
    )
    parser.add_argument(
        "name",
        choices=BENCHMARKS,
        help="call: a caller's waits; page: its weight, Lighthouse's marks, what fetching late costs; "
        "relay: the way into the log under load; chaos: what the log holds after the servers were hurt; "
        "review: staff's pages with many calls",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout instead of a table")
    parser.add_argument("--calls", type=int, default=12, help="call, page: how many calls (default 12)")
    parser.add_argument("--rounds", type=int, default=3, help="relay: how often (default 3)")
    parser.add_argument(
        "--seconds", type=float, default=3, help="relay: how long each measurement of a round is (default 3)"
    )
    parser.add_argument("--minutes", type=float, default=1, help="chaos: how long in all (default 1)")
    parser.add_argument("--database", choices=[*chaos.DATABASES, "both"], default="both", help="chaos: which")
    parser.add_argument("--seed", type=int, help="chaos: of the choices; a random one is printed")
    parser.add_argument("--sessions", type=int, default=100_000, help="review: how many (default 100000)")
    parser.add_argument("--events", type=int, default=2_000_000, help="review: how many (default 2000000)")
    arguments = parser.parse_args()
    figures: list[Figure] = BENCHMARKS[arguments.name](arguments)
    print(json.dumps(nested(figures)) if arguments.json else table(figures))
    if any(figure.is_broken for figure in figures):
        sys.exit(1)


if __name__ == "__main__":
    main()
