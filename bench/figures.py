"""What a benchmark returns: named figures with units and, where there is one, a goal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """`value` in `unit`. `goal` is the largest value that is good enough, `at_least` the smallest; None where
    nothing is promised."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_least: float | None = None

    @property
    def is_broken(self) -> bool:
        """A goal of 0 is a promise, which no slow machine excuses."""
        return self.goal == 0 and self.value > 0

    @property
    def verdict(self) -> str:
        """`<= 25 met`, `>= 1.5 MISSED`, or "" where nothing is promised."""
        if self.goal is not None:
            return f"<= {self.goal:g} {'met' if self.value <= self.goal else 'MISSED'}"
        if self.at_least is not None:
            return f">= {self.at_least:g} {'met' if self.value >= self.at_least else 'MISSED'}"
        return ""


def nested(figures: list[Figure]) -> dict[str, Any]:
    """Values by name; `a.b` is `b` within `a`."""
    values: dict[str, Any] = {}
    for figure in figures:
        *groups, name = figure.name.split(".")
        within = values
        for group in groups:
            within = within.setdefault(group, {})
        within[name] = figure.value
    return values


def table(figures: list[Figure]) -> str:
    rows = [
        ("figure", "value", "unit", "goal"),
        *((figure.name, f"{figure.value:,.6g}", figure.unit, figure.verdict) for figure in figures),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
