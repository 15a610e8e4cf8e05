"""People, days and times as callers say them and recognisers spell them.

It is Sunday, November 22nd 2026, 3:05 p.m.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

import pytest

from sandbox.slots import Slot, Slots, read_slots
from sandbox.spoken import Said
from sandbox.tables import table_time

SUNDAY = datetime(2026, 11, 22, 15, 5)  # noqa: DTZ001 — the restaurant's clock; any zone will do


def read(line: str, expecting: Slot | None = None, now: datetime = SUNDAY) -> Slots:
    return read_slots(Said.of(line), now, expecting)


def at(line: str, expecting: Slot | None = "time") -> time | None:
    clock = read(line, expecting).clock
    return table_time(clock) if clock else None


@pytest.mark.parametrize(
    ("line", "people"),
    [
        ("Two.", 2),
        ("To", 2),
        ("too", 2),
        ("For", 4),
        ("for four people", 4),
        ("for people", 4),
        ("Ate.", 8),
        ("ate people", 8),
        ("One person", 1),
        ("just me", 1),
        ("Trust me.", 1),
        ("by myself", 1),
        ("me and my wife", 2),
        ("My husband and I", 2),
        ("a couple", 2),
        ("me and three friends", 4),
        ("two adults and three children", 5),
        ("there are six of us", 6),
        ("We're seven", 7),
        ("a party of nine", 9),
        ("half a dozen", 6),
        ("a dozen", 12),
        ("seven, no, eight", 8),
        ("not four, five", 5),
        ("five instead of four", 5),
        ("twenty one", 21),
        ("a hundred", 100),
        ("zero", 0),
        ("nobody", 0),
        ("minus two", -2),
        ("a family of five", 5),
        ("six of us", 6),
        ("the two of us", 2),
        ("me and two kids", 3),
        ("me and my two kids", 3),
        ("my wife, me and two kids", 4),
        ("my two kids and me", 3),
        ("my parents and me", 3),
        ("me and my parents", 3),
    ],
)
def test_people_when_asked(line: str, people: int) -> None:
    assert read(line, "people") == Slots(people=people)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seven thirty", time(19, 30)),
        ("7:30", time(19, 30)),
        ("7.30", time(19, 30)),
        ("7 30", time(19, 30)),
        ("730", time(19, 30)),
        ("Seven thirty p M.", time(19, 30)),
        ("7:30pm", time(19, 30)),
        ("half past seven", time(19, 30)),
        ("half seven", time(19, 30)),
        ("19:30", time(19, 30)),
        ("1930", time(19, 30)),
        ("nineteen thirty", time(19, 30)),
        ("at 7:30 in the evening", time(19, 30)),
        ("quarter to eight", time(19, 45)),
        ("quarter tape", time(19, 45)),
        ("quarter past ate", time(20, 15)),
        ("a quarter past eight", time(20, 15)),
        ("ten to eight", time(19, 50)),
        ("twenty past eight", time(20, 20)),
        ("seven oh five", time(19, 5)),
        ("Seven o five.", time(19, 5)),
        ("705", time(19, 5)),
        ("eight", time(20)),
        ("at ate", time(20)),
        ("Add eight", time(20)),
        ("for eight", time(20)),
        ("8 o'clock", time(20)),
        ("eight of clock", time(20)),
        ("eighteen hundred", time(18)),
        ("noon", time(12)),
        ("at 12 noon", time(12)),
        ("twelve", time(12)),
        ("midnight", time(0)),
        ("eleven", time(11)),
        ("eleven in the evening", time(23)),
        ("ten", time(22)),
        ("ten in the morning", time(10)),
        ("10 a.m.", time(10)),
        ("one", time(13)),
        ("around nine", time(21)),
        ("not seven, eight", time(20)),
        ("seven, no, half past eight", time(20, 30)),
    ],
)
def test_time_when_asked(line: str, expected: time | None) -> None:
    assert at(line) == expected


@pytest.mark.parametrize(
    ("line", "day", "clock"),
    [
        ("in two hours", 22, time(17, 5)),
        ("in an hour", 22, time(16, 5)),
        ("in half an hour please", 22, time(15, 35)),
        ("in an hour and a half", 22, time(16, 35)),
        ("in one and a half hours", 22, time(16, 35)),
        ("in twenty minutes", 22, time(15, 25)),
        ("two hours from now", 22, time(17, 5)),
        ("in ten hours", 23, time(1, 5)),
    ],
)
@pytest.mark.parametrize("expecting", ["people", "day", "time", None])
def test_hours_from_now(line: str, day: int, clock: time, expecting: Slot | None) -> None:
    slots = read(line, expecting)
    assert slots.day is not None
    assert slots.clock is not None
    assert (slots.people, slots.day.day, table_time(slots.clock), slots.number) == (None, day, clock, None)


@pytest.mark.parametrize(
    ("line", "minutes"),
    [
        ("half an hour later", 30),
        ("one hour later please", 60),
        ("two hours earlier", -120),
        ("fifteen minutes later", 15),
    ],
)
@pytest.mark.parametrize("expecting", ["people", "day", "time", None])
def test_hours_later_than_what_was_said(line: str, minutes: int, expecting: Slot | None) -> None:
    assert read(line, expecting) == Slots(shift=timedelta(minutes=minutes))


@pytest.mark.parametrize(
    "line",
    [
        "give me a second",
        "just a second let me check",
        "all right hold on a second",
        "one second please let me ask my wife",
        "two minutes please",
        "first I have a question",
        "first of all",
        "the second one",
        "the first time",
        "one of us is allergic to nuts",
        "two of us are vegetarians",
        "my friend and I want a window seat",
        "me and my friends",
    ],
)
@pytest.mark.parametrize("expecting", ["people", "day", "time", None])
def test_other_numbers_are_nothing_of_a_table(line: str, expecting: Slot | None) -> None:
    assert not read(line, expecting)


@pytest.mark.parametrize(
    "line", ["the second", "December second", "the first of December", "second December"]
)
def test_ordinals_are_days_where_they_stand_as_days(line: str) -> None:
    assert read(line).day in (date(2026, 12, 1), date(2026, 12, 2))


@pytest.mark.parametrize(
    ("line", "day"),
    [
        ("today", date(2026, 11, 22)),
        ("tonight", date(2026, 11, 22)),
        ("to night", date(2026, 11, 22)),
        ("this evening", date(2026, 11, 22)),
        ("For tomorrow, please.", date(2026, 11, 23)),
        ("to-morrow", date(2026, 11, 23)),
        ("the day after tomorrow", date(2026, 11, 24)),
        ("yesterday", date(2026, 11, 21)),
        ("Friday", date(2026, 11, 27)),
        ("on Fridays", date(2026, 11, 27)),
        ("Next by day.", date(2026, 11, 27)),
        ("next Friday", date(2026, 11, 27)),
        ("Friday next week", date(2026, 11, 27)),
        ("a week from Friday", date(2026, 12, 4)),
        ("Friday week", date(2026, 12, 4)),
        ("Sunday", date(2026, 11, 29)),
        ("this Sunday", date(2026, 11, 22)),
        ("wensday", date(2026, 11, 25)),
        ("the 24th", date(2026, 11, 24)),
        ("The twenty fourth", date(2026, 11, 24)),
        ("24", date(2026, 11, 24)),
        ("the 21st", date(2026, 12, 21)),
        ("the thirty first", date(2026, 12, 31)),
        ("November 24th", date(2026, 11, 24)),
        ("November twenty fourth, 2026", date(2026, 11, 24)),
        ("on the 24th of November", date(2026, 11, 24)),
        ("24 November", date(2026, 11, 24)),
        ("November 20th", date(2026, 11, 20)),
        ("January the fifth", date(2027, 1, 5)),
        ("Christmas Eve", date(2026, 12, 24)),
        ("in three days", date(2026, 11, 25)),
        ("in a week", date(2026, 11, 29)),
        ("in two weeks", date(2026, 12, 6)),
        ("not Friday, Saturday", date(2026, 11, 28)),
        ("the 32nd", None),
    ],
)
def test_day_when_asked(line: str, day: date | None) -> None:
    assert read(line, "day").day == day


@pytest.mark.parametrize(
    ("line", "monday"),
    [("Friday", date(2026, 11, 27)), ("next Friday", date(2026, 12, 4)), ("this Friday", date(2026, 11, 27))],
)
def test_next_friday_is_in_the_next_calendar_week(line: str, monday: date) -> None:
    assert read(line, "day", now=SUNDAY.replace(day=23)).day == monday


@pytest.mark.parametrize(
    ("line", "people", "day", "clock"),
    [
        ("I'd like a table for two tomorrow at seven thirty", 2, 23, time(19, 30)),
        ("a table at eight for six people the day after tomorrow", 6, 24, time(20)),
        ("table for to on Friday at ate", 2, 27, time(20)),
        ("table four for on Friday", 4, 27, None),
        ("a table for 10 at 10", 10, None, time(22)),
        ("at eight, ten people", 10, None, time(20)),
        ("two for tonight at seven", 2, 22, time(19)),
        ("My wife and I would like a table tomorrow", 2, 23, None),
        ("a table for two for two hours tomorrow", 2, 23, None),
        ("six of us tomorrow at eight", 6, 23, time(20)),
        ("we are six, two of us are children", 6, None, None),
        ("two November 24th at 19:30", None, 24, time(19, 30)),
        ("a table for two November 24th 7 30", 2, 24, time(19, 30)),
        ("24th November 7 30 for four", 4, 24, time(19, 30)),
        ("tonight at nine", None, 22, time(21)),
        ("a table for 150", 150, None, None),
        ("no, make it five people", 5, None, None),
        ("good evening, a table at 11", None, None, time(11)),
    ],
)
def test_several_slots_in_one_sentence(
    line: str, people: int | None, day: int | None, clock: time | None
) -> None:
    slots = read(line)
    assert (slots.people, slots.day.day if slots.day else None, at(line, None)) == (people, day, clock)


@pytest.mark.parametrize("line", ["make it eight", "no, eight"])
def test_bare_number_that_was_not_asked_for_stays_open(line: str) -> None:
    assert read(line) == Slots(number=8)


@pytest.mark.parametrize("line", ["", "hello", "what can you do", "I am fine", "may I ask you something"])
def test_nothing_is_read_where_nothing_was_said(line: str) -> None:
    assert not read(line)
