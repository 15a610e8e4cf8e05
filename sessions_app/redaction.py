"""What is left out of everything that is stored: e-mail addresses, phone and card numbers, patterns of the
site's own. The kind stays in their place: "write to [email]".

Off by default (REDACT, REDACT_PATTERNS), and then nothing here looks at anything. What is redacted once is
not changed by being redacted again, and two tellings of the same words, whatever their case, blanks and
encoding, come out the same: the log is compared with the platform's record after both were redacted.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from django.conf import settings

from sessions_app.events import UNSTORABLE
from sessions_app.patterns import BUILT_IN, FLAGS

KEPT = frozenset(
    {
        *("id", "turn_id", "toolCallId", "tool_call_id", "toolName", "tool_name", "runs_on"),
        *("agent_id", "room", "identity", "status", "code", "type", "differs_from"),
        *("created_at", "started_at", "ended_at"),
    }
)
"""Of a line's data: what lines find each other by, and words of the wire. Nobody has said them."""

IDENTIFIER = re.compile(r"[A-Za-z_]{1,64}")

DESCRIPTOR = frozenset({"name", "type", "dataType", "description", "required", "value"})
"""The keys of a tool's arguments on the wire; other keys inside of values are text like any other."""

LONG = 10**8
"""Smaller numbers of the wire measure something; in arguments and outputs they may be anything."""

MAX_ROUNDS = 5
"""What stands around a match may be one itself afterwards. With patterns of good sense, two are enough."""


def is_on() -> bool:
    return bool(settings.REDACT or settings.REDACT_PATTERNS)


def redact(data: dict[str, Any]) -> dict[str, Any]:
    """`data` of a line of the log, or the facts of the platform's record of a call. Leaves its argument as
    it is."""
    return _redactor().data(data) if is_on() else data


def redact_value(value: Any) -> Any:
    """A JSON value as tools take and give it: arguments by name, or an output."""
    return _redactor().value(value, 0) if is_on() else value


def redact_text(text: str) -> str:
    return _redactor().text(text) if is_on() else text


def redact_growing(data: dict[str, Any]) -> dict[str, Any]:
    """`data` of a caption that is still spoken: a number or an address at its end may be half of one."""
    if not is_on():
        return data
    return {
        key: value[:-END] + GROWING.sub("[…]", value[-END:])
        if isinstance(value, str) and key not in KEPT
        else value
        for key, value in redact(data).items()
    }


def is_redacted(value: Any) -> bool:
    """Whether something was taken out of a JSON value, by the look of it."""
    return is_on() and _redactor().mark.search(json.dumps(value)) is not None


# Numbers, in any script's digits. What may repeat without an end is possessive, or is all of a run that is
# looked at once: hostile text costs about 2 µs a character.

BEFORE, AFTER = r"(?<!\w)(?<!\d[,.])", r"(?!\w)"
HYPHEN = r"\-\u2010-\u2015"
NO_NUMBER = "|".join(
    (
        r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",  # a UUID
        r"\d{4}-\d\d-\d\d(?:[t\s]\s*+\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:z|[+-]\d\d:?\d\d)?)?",
        r"\d{1,2}([./-])\d{1,2}\1\d{4}",  # a day
        r"\d{1,2}:\d\d(?::\d\d)?",  # a time of day
    )
)
GAP = rf"(?:\s*+[()/{HYPHEN}]\s*+|\s++|\.(?=\d)){{0,3}}+"
BLANK = rf"(?:\s*+[)/{HYPHEN}]\s*+|\s++)"
PAUSE = rf"(?:{BLANK}|,\s++)"
PHONES = "|".join(
    (
        rf"\+{GAP}\d(?:{GAP}\d){{6,14}}",  # +44 20 7946 0958
        rf"00{GAP}[1-9](?:{GAP}\d){{7,13}}",  # 0044 …
        rf"\(?0[1-9](?:{GAP}\d){{7,11}}",  # 020 7946 0958, 06.12.34.56.78
        r"1?[2-9]\d{9}",
        r"(?:1\.)?\d{3}\.\d{3}\.\d{4}",
        rf"(?:1{PAUSE})?\(?\d{{3}}{PAUSE}\d{{3}}{PAUSE}\d{{4}}",
        rf"\(?(?:\d{{3}}{BLANK}\d{{3}}{BLANK}\d{{3}}|\d{{3}}{BLANK}\d{{4}}{BLANK}\d{{4}}|\d{{3}}(?:{BLANK}\d\d){{3,4}}"
        rf"|\d{{4}}{BLANK}\d{{3}}{BLANK}\d{{3,4}}|\d{{5}}{BLANK}\d{{5,6}}|\d{{3}}{BLANK}\d{{6,8}})",
        rf"\d(?:{PAUSE}\d(?!\d)){{8,14}}",  # digit by digit
        r"[2-9]\d\d-\d{4}",
    )
)
ADDRESS = r"\w\u0300-\u036f-"
LOCAL = rf".+%'\u2019{ADDRESS}"
EMAIL = rf"(?<![{LOCAL}])[{LOCAL}]++@[{ADDRESS}]++(?:\.[{ADDRESS}]++)++"
PHONE = rf"{BEFORE}(?:{NO_NUMBER}){AFTER}|{BEFORE}(?P<hit>{PHONES})(?:{AFTER}|(?=x\d))"
CARD = rf"{BEFORE}(?:{NO_NUMBER}){AFTER}|{BEFORE}(?<!\+)(?P<hit>\d[\d\s{HYPHEN}]{{11,}}\d){AFTER}"
"""Where a card's number may be, or several, with other numbers beside them; see _cards."""

GROWING = re.compile(rf"\S*@\S*$|\+?\d(?:[\s()./{HYPHEN}]*\d){{3,}}[\s()./{HYPHEN}]*$")
END = 64
"""Characters in which it is looked for."""


def _cards(run: str) -> Iterator[tuple[int, int]]:
    """Where in a run of digits, blanks and hyphens the numbers of cards are.

    All of it, if it has 13 to 19 digits and the right checksum; else what begins and ends with a group of
    its digits, has the right checksum, and the first digit and the length of a known issuer's: of so many
    parts, each tenth has the checksum by chance.
    """
    groups = [match.span() for match in re.finditer(r"\d+", run)]
    places = [place for start, end in groups for place in range(start, end)]
    digits = [int(run[place]) for place in places]
    number = len(digits)
    if number < 13:
        return
    starts, ends, reached = [], set(), 0
    for start, end in groups:
        starts.append(reached)
        reached += end - start
        ends.add(reached)
    # Sums up to each digit with every other one doubled, beginning with the first or with the second.
    sums: tuple[list[int], list[int]] = ([0], [0])
    for place, digit in enumerate(digits):
        doubled = digit * 2 - 9 * (digit > 4)
        sums[0].append(sums[0][-1] + (doubled if place % 2 == 0 else digit))
        sums[1].append(sums[1][-1] + (digit if place % 2 == 0 else doubled))

    def has_checksum(start: int, end: int) -> bool:
        right = sums[end % 2]  # the last digit is not doubled
        return (right[end] - right[start]) % 10 == 0

    # A moment in milliseconds or less has the length of a card's number, and no card begins with 0 or 1 so.
    is_moment = len(groups) == 1 and digits[0] == 1 and number in (13, 16, 19)
    if number <= 19 and has_checksum(0, number) and digits[0] and not is_moment:
        yield groups[0][0], groups[-1][1]
        return
    free = 0
    for start in starts:
        for length in ISSUED.get(digits[start], ()) if start >= free else ():
            if start + length in ends and has_checksum(start, start + length):
                free = start + length
                yield places[start], places[free - 1] + 1
                break


ISSUED = {2: (16,), 3: (16, 15, 14), 4: (19, 16, 13), 5: (16,), 6: (19, 18, 17, 16)}
"""Lengths of cards' numbers by their first digit."""


Rule = tuple[str, re.Pattern[str], Callable[[re.Match[str]], str]]
"""What a text must have, where a match is, and what is written in its place."""


class Redactor:
    """Takes out some kinds. `patterns`: the site's own, by kind, which come first."""

    def __init__(self, kinds: tuple[str, ...], patterns: tuple[tuple[str, str], ...]) -> None:
        marks = "|".join(re.escape(kind) for kind in (*BUILT_IN, *dict(patterns)))
        # Not a group: a pattern's own groups keep their numbers.
        mark = rf"\[(?:{marks})\]"
        self.mark = re.compile(mark, FLAGS)
        self._rules: list[Rule] = []
        for kind, pattern in patterns:
            self._rules.append(("", re.compile(f"{mark}|{pattern}", FLAGS), self._marking(kind)))
        builtin = {
            "email": ("@", EMAIL, self._marking("email")),
            "card": (r"\d", CARD, mark_cards),
            "phone": (r"\d", PHONE, mark_phone),
        }
        for kind in BUILT_IN:
            if kind in kinds:
                needed, pattern, marking = builtin[kind]
                self._rules.append((needed, re.compile(f"{mark}|{pattern}", FLAGS), marking))

    def _marking(self, kind: str) -> Callable[[re.Match[str]], str]:
        return lambda match: match[0] if not match[0] or self.mark.fullmatch(match[0]) else f"[{kind}]"

    def data(self, data: dict[str, Any]) -> dict[str, Any]:
        return {
            # A name of the wire's is a word; what is none was put there by somebody.
            key if IDENTIFIER.fullmatch(key) else self.text(key): value
            if key in KEPT
            else self.value(value, 0 if key == "arguments" else LONG)
            for key, value in data.items()
        }

    def value(self, value: Any, least: int) -> Any:
        """`least`: smaller numbers are left as they are."""
        match value:
            case str():
                return self.text(value)
            case bool():
                return value
            case int() | float() if abs(value) >= least:
                return self.number(value)
            case dict():
                return {
                    key if key in DESCRIPTOR else self.text(key): self.value(item, least)
                    for key, item in value.items()
                }
            case list():
                return [self.value(item, least) for item in value]
            case _:
                return value

    def number(self, value: int | float) -> int | float | str:
        if isinstance(value, float) and not value.is_integer():
            return value
        try:
            text = str(int(value))
        except ValueError:  # thousands of digits
            return value
        new = self.words(text)
        return value if new == text else new

    def text(self, text: str) -> str:
        """JSON stays JSON, as it stood unless there is something in it."""
        if text.lstrip()[:1] in ("{", "[", '"'):
            try:
                told = json.loads(text)
                new = self.value(told, 0)
                # Also for what JSON drops: of two equal keys, the first.
                return text if new == told and self.words(text) == text else as_json(new)
            except (ValueError, RecursionError):
                pass
        return self.words(text)

    def words(self, text: str) -> str:
        given = new = unicodedata.normalize("NFC", text)
        for _ in range(MAX_ROUNDS):
            before = new
            for needed, pattern, marking in self._rules:
                if re.search(needed, new):  # most words need no closer look
                    new = pattern.sub(marking, new)
            if new == before:
                break
        return text if new == given else new


def mark_phone(match: re.Match[str]) -> str:
    return match[0] if match["hit"] is None else "[phone]"


def mark_cards(match: re.Match[str]) -> str:
    run = match["hit"]
    if run is None:
        return match[0]
    parts, reached = [], 0
    for start, end in _cards(run):
        parts += [run[reached:start], "[card]"]
        reached = end
    return "".join([*parts, run[reached:]])


def as_json(value: Any) -> str:
    """With characters as they are, but for halves of them, which only JSON's escapes can carry."""
    text = json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if UNSTORABLE.search(text) else text


def _redactor() -> Redactor:
    return _made(settings.REDACT, tuple(settings.REDACT_PATTERNS.items()))


_made = lru_cache(maxsize=8)(Redactor)
