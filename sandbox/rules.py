"""Readings of a text: patterns, each with what it means, of which the last word counts."""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

_NEGATED = re.compile(r"\b(?:not|instead of|rather than|isnt)(?: (?:on|at|for|the|a))*\s*$")

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], T | None]]
"""A pattern, and what a match means; None: nothing after all."""


def last(text: str, rules: Iterable[Rule[T]]) -> tuple[T | None, str, int]:
    """The last reading ("seven, no, eight") that is not negated ("not Friday"), the text without what was
    read, and where that reading began (-1: nowhere).
    """
    original = text
    found: list[tuple[int, T]] = []
    for pattern, meaning in rules:
        for match in pattern.finditer(text):
            value = meaning(match)
            if value is not None:
                found.append((match.start(), value))
                # As long as what it replaces, so that later matches keep their places.
                text = text[: match.start()] + "." * len(match[0]) + text[match.end() :]
    found = [(start, value) for start, value in found if not _NEGATED.search(original[:start])]
    if not found:
        return None, text, -1
    place, reading = max(found, key=lambda item: item[0])
    return reading, text, place


def dotted(pattern: re.Pattern[str], text: str) -> str:
    """The text without what the pattern finds; everything else keeps its place."""
    return pattern.sub(lambda match: "." * len(match[0]), text)
