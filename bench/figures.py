"""What a benchmark returns: named figures with units and, where there is one, a goal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """`value` in `unit`; `goal` is the largest value that is good enough, None where nothing is promised."""

    name: str
    value: float
    unit: str
    goal: float | None = None


def table(figures: list[Figure]) -> str:
    rows = [("figure", "value", "unit", "goal")]
    for figure in figures:
        goal = (
            ""
            if figure.goal is None
            else f"<= {figure.goal:g} {'met' if figure.value <= figure.goal else 'MISSED'}"
        )
        rows.append((figure.name, f"{figure.value:,.6g}", figure.unit, goal))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
