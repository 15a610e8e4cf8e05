"""Reads people, day and time of a table out of what a caller said.

Each kind is a table of patterns, tried from the most telling to the vaguest. What one pattern has read is
dotted out, so that "two people on the 24th at 8" gives each number once.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Literal, NamedTuple

from sandbox.guests import GUESTS, HOMOPHONES, MORE, NUMBER, read_people, value_of
from sandbox.rules import Rule, dotted, last
from sandbox.spoken import DAYS, MONTHS, Said, say_number

Half = Literal["am", "pm"]
Slot = Literal["people", "day", "time"]


class Clock(NamedTuple):
    """A time as it was said; `half` is None where the words do not tell morning from evening."""

    hour: int
    minute: int
    half: Half | None


class Choice(NamedTuple):
    """Two values of which the caller named neither, as a voice reads them: "seven or eight"."""

    slot: Slot | None
    words: str


@dataclass(frozen=True)
class Slots:
    """What an utterance says about a table.

    `shift` moves the time that is known ("an hour later"), `extra` adds people ("one more person"),
    `number` could as well be people as a time, `choice` is to be asked about,
    `latest` is which of the two was said last.
    """

    people: int | None = None
    day: date | None = None
    clock: Clock | None = None
    shift: timedelta | None = None
    extra: int | None = None
    number: int | None = None
    choice: Choice | None = None
    latest: Slot | None = field(default=None, compare=False)

    def __bool__(self) -> bool:
        return self != Slots()

    @property
    def count(self) -> int:
        return sum(value is not None for value in (self.people, self.day, self.clock))


def read_slots(said: Said, now: datetime, expecting: Slot | None = None) -> Slots:
    """Reads an utterance; `expecting` is what was asked for, and so what a bare number means."""
    today = now.date()
    half = _half_of_day(said.text)
    ahead, text, _ = last(said.figures, _AHEAD)
    shift, text, _ = last(text, _LATER)
    choice = next((_choice(match, expecting) for match in _EITHER.finditer(text)), None)
    text = dotted(_EITHER, dotted(_IDLE, text))
    day, text, _ = last(text, _day_rules(today))
    clock, text, clock_at = last(text, _clock_rules(half))
    extra, text, _ = last(text, MORE)
    people, text, people_at = read_people(text, for_is_people=expecting not in ("day", "time"))
    number, _, _ = last(text, [(_BARE, lambda m: int(m[1]))])
    if ahead:
        then = now + ahead
        day, clock = then.date(), Clock(then.hour, then.minute, "am" if then.hour < 12 else "pm")
    if number is None and expecting:
        number = HOMOPHONES.get(said.core()) or HOMOPHONES.get(said.text)
    if number is not None and expecting == "people" and people is None:
        people, number = number, None
    elif number is not None and expecting == "day" and day is None and f"for {number}" not in text:
        day, number = _day_of_month(number, today), None
    elif number is not None and expecting in ("day", "time") and clock is None and number <= 24:
        clock, number = Clock(number % 24, 0, half), None
    latest: Slot | None = "time" if clock else None
    if people is not None and people_at >= clock_at:
        latest = "people"
    number = None if clock or people is not None else number
    return Slots(people, day, clock, shift, extra, number, choice, latest)


_BARE = re.compile(r"\b(\d{1,3})(?:st|nd|rd|th)?\b")

# -- spans of time -----------------------------------------------------------------------------

_SPAN = r"(half an|quarter of an|an|\d{1,2})( and a half)? (hours?|minutes|mins)( and a half)?"
_FRACTIONS = {"half an": 0.5, "quarter of an": 0.25, "an": 1.0}


def _span(match: re.Match[str]) -> timedelta:
    count = _FRACTIONS.get(match[1]) or float(match[1])
    count += 0.5 if match[2] or match[4] else 0
    return timedelta(hours=count) if match[3].startswith("hour") else timedelta(minutes=count)


_AHEAD: list[Rule[timedelta]] = [
    (re.compile(rf"\bin (?:about |around )?{_SPAN}\b(?: time\b)?"), _span),
    (re.compile(rf"\b{_SPAN} from now\b"), _span),
]
_LATER: list[Rule[timedelta]] = [
    (re.compile(rf"\b{_SPAN} (?:later|after that)\b"), _span),
    (re.compile(rf"\b{_SPAN} (?:earlier|before that)\b"), lambda m: -_span(m)),
]
# "For two hours", "give me one second": says nothing of the table, but "ten minutes to eight" does.
_IDLE = re.compile(
    rf"\b(?:for )?(?:{_SPAN}|(?:a|\d{{1,2}}) (?:more )?(?:seconds?|secs?|moments?|minutes?))\b"
    r"(?! (?:past|after|to|too|till)\b)|\b(?:first|second|third|last|other|that|this|which) 1\b"
)


# -- one of two --------------------------------------------------------------------------------

_VALUE = (
    r"((?:(?:half|quarter) (?:past|to) )?\d{1,2}(?::\d\d)?(?: (?:am|pm|oclock)\b)?|"
    rf"(?:{'|'.join(DAYS)}|today|tonight|tomorrow)\b)"
)
_EITHER = re.compile(
    rf"\b(?:(at|around|about|by|on|for|of) )*{_VALUE} or (?:maybe )?(?:(?:at|on|for) )?{_VALUE}"
    r"( people| persons| guests)?(?!\w)",
    re.IGNORECASE,
)


def _choice(match: re.Match[str], expecting: Slot | None) -> Choice:
    lead, first, second, guests = match.groups()
    slot = expecting
    if first[0].isalpha():
        slot = "day"
    elif guests or (lead in ("for", "of") and expecting is None):
        slot = "people"
    elif lead in ("at", "around", "about", "by") or re.search(r"[:a-z]", first + second):
        slot = "time"
    names = [re.sub(r"\b\d+$", lambda m: say_number(int(m[0])), word) for word in (first, second)]
    return Choice(slot, " or ".join(word.title() if word.title() in DAYS else word for word in names))


# -- times -------------------------------------------------------------------------------------

_EVENING = re.compile(r"\b(?:evening|tonight|afternoon|night|dinner|supper)\b")
_MORNING = re.compile(r"\b(?:morning|breakfast)\b")
_GREETING = re.compile(r"\bgood (?:morning|afternoon|evening|night)\b")


def _half_of_day(text: str) -> Half | None:
    text = _GREETING.sub("", text)
    return "pm" if _EVENING.search(text) else "am" if _MORNING.search(text) else None


_AT = r"\b(?:(?:at|around|about|by|from) )*"
_H = r"(\d{1,2}|ate)"
_PM = r"(?: (am|pm)\b| oclock\b(?: (am|pm)\b)?)?"
# "at 8, 10 people" is not 8:10.
_NO_GUESTS = rf"\b(?! {GUESTS})"
_CLOCKS: list[tuple[re.Pattern[str], Callable[[re.Match[str]], tuple[int, int]]]] = [
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (rf"{_AT}(?:12 )?(?:noon|midday)\b", lambda m: (12, 0)),
        (rf"{_AT}(?:12 )?midnight\b", lambda m: (0, 0)),
        (rf"{_AT}half (?:past )?{_H}{_PM}", lambda m: (value_of(m[1]), 30)),
        (rf"{_AT}(?:a )?quarter (?:past|after) {_H}{_PM}", lambda m: (value_of(m[1]), 15)),
        (rf"{_AT}(?:a )?quarter (?:to|too|2|till|of) {_H}{_PM}", lambda m: (value_of(m[1]) - 1, 45)),
        (
            rf"{_AT}(5|10|20|25)(?: minutes)? (?:past|after) {_H}{_PM}",
            lambda m: (value_of(m[2]), value_of(m[1])),
        ),
        (
            rf"{_AT}(5|10|20|25)(?: minutes)? (?:to|till) {_H}{_PM}",
            lambda m: (value_of(m[2]) - 1, 60 - value_of(m[1])),
        ),
        (rf"{_AT}{_H}:(\d\d)\b{_PM}", lambda m: (value_of(m[1]), int(m[2]))),
        (rf"{_AT}{_H} (?:oh|o|0) (\d)\b{_PM}", lambda m: (value_of(m[1]), int(m[2]))),
        (rf"{_AT}{_H} (\d\d){_NO_GUESTS}{_PM}", lambda m: (value_of(m[1]), int(m[2]))),
        # "730", "1930", but neither "a table for 150" nor "100".
        (
            rf"(?<!\btable for )(?<!\bparty of ){_AT}([1-9]|1\d|2[0-3])([0-5]\d){_NO_GUESTS}(?<!\b\d00){_PM}",
            lambda m: (value_of(m[1]), int(m[2])),
        ),
        (rf"{_AT}{_H} (?:(am|pm)|oclock(?: (am|pm))?)\b", lambda m: (value_of(m[1]), 0)),
        (rf"{_AT}{_H}(?= (?:in the|at night|tonight|this|sharp)\b)", lambda m: (value_of(m[1]), 0)),
        (rf"\bat (?:about |around )?{NUMBER}{_NO_GUESTS}", lambda m: (value_of(m[1]), 0)),
        (rf"\b(?:around|about|by|after|before) {_H}{_NO_GUESTS}", lambda m: (value_of(m[1]), 0)),
    )
]


def _clock_rules(half: Half | None) -> list[Rule[Clock]]:
    def rule(meaning: Callable[[re.Match[str]], tuple[int, int]]) -> Callable[[re.Match[str]], Clock | None]:
        def clock(match: re.Match[str]) -> Clock | None:
            hour, minute = meaning(match)
            if not (0 <= hour <= 24 and 0 <= minute < 60):
                return None
            said: Half | None = "am" if "am" in match.groups() else "pm" if "pm" in match.groups() else half
            return Clock(hour % 24, minute, said)

        return clock

    return [(pattern, rule(meaning)) for pattern, meaning in _CLOCKS]


# -- days --------------------------------------------------------------------------------------

_MONTH = "|".join([*MONTHS, *(f"{month[:3]}" for month in MONTHS), "sept"]).lower()
_WEEKDAY = "|".join(DAYS).lower()
_TH = r"(\d{1,2})(?:st|nd|rd|th)"
_YEAR = r"(?: 20 ?\d\d)?"
_Day = Callable[[re.Match[str], date], date | None]
_CALENDAR: list[tuple[re.Pattern[str], _Day]] = [
    (re.compile(rf"\b(?:on )?{pattern}\b"), meaning)
    for pattern, meaning in (
        # With "th" first: "2 November 24th" begins with people, "24th November 7 30" ends with a time.
        (rf"({_MONTH}) (?:the )?{_TH}{_YEAR}", lambda m, today: _date(m[1], m[2], today)),
        (rf"(?:the )?{_TH}(?: of)? ({_MONTH}){_YEAR}", lambda m, today: _date(m[2], m[1], today)),
        (rf"({_MONTH}) (?:the )?(\d{{1,2}}){_YEAR}", lambda m, today: _date(m[1], m[2], today)),
        (rf"(?:the )?(\d{{1,2}})(?: of)? ({_MONTH}){_YEAR}", lambda m, today: _date(m[2], m[1], today)),
        (r"christmas eve", lambda m, today: _date("dec", "24", today)),
        (r"christmas(?: day)?", lambda m, today: _date("dec", "25", today)),
        (r"new years eve", lambda m, today: _date("dec", "31", today)),
        (r"(?:the )?day after tomorrow", lambda m, today: today + timedelta(2)),
        (r"(?:a|1) week (?:from )?(?:today|now)", lambda m, today: today + timedelta(7)),
        (r"(?:a|1) week (?:from )?tomorrow", lambda m, today: today + timedelta(8)),
        (r"tomorrow", lambda m, today: today + timedelta(1)),
        (r"yesterday", lambda m, today: today - timedelta(1)),
        (r"(?:today|tonight|this (?:evening|afternoon|lunchtime|morning))", lambda m, today: today),
        (r"in (a|\d{1,2}) (days?|weeks?)", lambda m, today: today + _days(m[1], m[2])),
        (
            r"(?:((?:a|1) week (?:from|on)|next week(?: on)?|next|this|the coming|coming) )?"
            rf"({_WEEKDAY})s?(?: (next week|week))?",
            lambda m, today: _weekday(m[2], f"{m[1] or ''} {m[3] or ''}".strip(), today),
        ),
        (
            rf"(?:the )?{_TH}",
            lambda m, today: _day_of_month(int(m[1]), today),
        ),
        (
            rf"the (\d{{1,2}})(?! (?:{GUESTS}|of us|am|pm|oclock))",
            lambda m, today: _day_of_month(int(m[1]), today),
        ),
    )
]


def _day_rules(today: date) -> list[Rule[date]]:
    def rule(meaning: _Day) -> Callable[[re.Match[str]], date | None]:
        return lambda match: meaning(match, today)

    return [(pattern, rule(meaning)) for pattern, meaning in _CALENDAR]


def _days(count: str, unit: str) -> timedelta:
    return timedelta((1 if count == "a" else int(count)) * (7 if unit.startswith("week") else 1))


def _date(month: str, day: str, today: date) -> date | None:
    """The day in this year; in the next if it lies months back, for then nobody means the past."""
    number = next(index for index, name in enumerate(MONTHS, 1) if name.lower().startswith(month[:3]))
    try:
        found = date(today.year, number, int(day))
        return found.replace(year=today.year + 1) if found < today - timedelta(60) else found
    except ValueError:
        return None


def _day_of_month(day: int, today: date) -> date | None:
    """The next day with this number, today included."""
    ahead = (today + timedelta(days) for days in range(62))
    return next((found for found in ahead if found.day == day), None)


def _weekday(name: str, modifier: str, today: date) -> date:
    """ "Friday" is the coming one, "this Friday" may be today, "next Friday" is in the next calendar week."""
    weekday = [day.lower() for day in DAYS].index(name)
    ahead = (weekday - today.weekday()) % 7
    if modifier == "week" or modifier.startswith(("a week", "1 week")):
        return today + timedelta((ahead or 7) + 7)
    if "next" in modifier:
        return today + timedelta(7 - today.weekday() + weekday)
    return today + timedelta(ahead if modifier == "this" else ahead or 7)
