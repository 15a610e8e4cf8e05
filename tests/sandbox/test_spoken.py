"""What words mean, and how things are written for a voice."""

from __future__ import annotations

from datetime import date, time

import pytest

from sandbox.spoken import Said, read_cities, read_name, say_day, say_list, say_number, say_time


@pytest.mark.parametrize(
    ("heard", "text"),
    [
        ("What's the weather in Rome?", "whats the weather in rome"),
        ("At 7.30 P.M., please!", "at 7:30 pm please"),
        ("Good-bye.", "goodbye"),
        ("booker table for to-morrow", "book a table for tomorrow"),
        ("Look a table four two", "book a table for two"),
        ("8 o'clock", "8 oclock"),
        ("Café Zürich", "cafe zurich"),
        ("[BLANK_AUDIO] (music)", ""),
        ("...", ""),
    ],
)
def test_text_is_made_plain(heard: str, text: str) -> None:
    assert Said.of(heard).text == text


@pytest.mark.parametrize(
    ("heard", "figures"),
    [
        ("seven thirty", "7 30"),
        ("seven forty five", "7 45"),
        ("twenty fourth", "24th"),
        ("nineteen thirty", "19 30"),
        ("a hundred", "100"),
        ("eighteen hundred", "1800"),
        ("one thousand and one", "1001"),
        ("be 1001", "be 1001"),
    ],
)
def test_number_words_become_figures(heard: str, figures: str) -> None:
    assert Said.of(heard).figures == figures


@pytest.mark.parametrize(
    ("line", "agrees"),
    [
        ("Yes, please.", True),
        ("Yeah, that's right.", True),
        ("okay", True),
        ("please", True),
        ("No problem", True),
        ("No, that's fine", True),
        ("mm hmm", True),
        ("yes do book it for us now", True),
        ("No.", False),
        ("nope", False),
        ("know", False),
        ("that's not right", False),
        ("I don't think so", False),
        ("that works", True),
        ("go for it", True),
        ("I guess so", True),
        ("why not", True),
        ("can you book it please", True),
        ("yes that's what I want", True),
        ("no, can I change it", False),
        ("are you sure", None),
        ("you sure", None),
        ("is that okay", None),
        ("is the food good", None),
        ("how do I do that", None),
        ("right so what about parking", None),
        ("ok what's on the menu", None),
        ("sure but do you have parking", None),
        ("that's fine but is there parking", None),
        ("okay?", None),
        ("The terrace is okay?", None),
        ("a different time, please", None),
        ("a good time would be later on", None),
        ("hello", None),
    ],
)
def test_yes_and_no(line: str, agrees: bool | None) -> None:
    assert Said.of(line).agrees() is agrees


@pytest.mark.parametrize(
    ("line", "cities"),
    [
        ("What's the weather in Rome?", ["Rome"]),
        ("weather in pairs", ["Paris"]),
        ("What time is it a new work?", ["New York"]),
        ("what time is it in mexico city", ["Mexico City"]),
        ("Paris and London", ["Paris", "London"]),
        ("London's weather", ["London"]),
        ("in Springfield right now please", ["Springfield"]),
        ("weather in new orleans today", ["New Orleans"]),
        ("a table in the evening", []),
        ("is there room", []),
        ("at the moment", []),
        ("here", []),
    ],
)
def test_cities(line: str, cities: list[str]) -> None:
    assert read_cities(Said.of(line)) == cities


@pytest.mark.parametrize(
    ("line", "cities"),
    [("Room", ["Rome"]), ("Springfield", ["Springfield"]), ("uh, frog", ["Prague"]), ("here", [])],
)
def test_city_that_was_asked_for(line: str, cities: list[str]) -> None:
    assert read_cities(Said.of(line), expected=True) == cities


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("My name is Anna.", "Anna"),
        ("a table under the name of Miller", "Miller"),
        ("my name is not important", ""),
    ],
)
def test_names(line: str, name: str) -> None:
    assert read_name(Said.of(line)) == name


def test_times_are_written_to_be_spoken() -> None:
    times = [time(19, 30), time(20), time(11), time(9, 5), time(12), time(12, 30), time(0), time(0, 15)]
    assert [say_time(at) for at in times] == [
        "7:30 p.m.",
        "8 p.m.",
        "11 a.m.",
        "9:05 a.m.",
        "noon",
        "12:30 p.m.",
        "midnight",
        "12:15 a.m.",
    ]


def test_days_numbers_and_lists_are_written_to_be_spoken() -> None:
    days = [date(2026, 11, 27), date(2026, 12, 1), date(2026, 12, 22), date(2026, 11, 23), date(2026, 11, 12)]
    assert [say_day(day) for day in days] == [
        "Friday, November 27th",
        "Tuesday, December 1st",
        "Tuesday, December 22nd",
        "Monday, November 23rd",
        "Thursday, November 12th",
    ]
    assert [say_number(number) for number in (1, 12, 20)] == ["one", "twelve", "20"]
    assert [say_list(["a"]), say_list(["a", "b"]), say_list(["a", "b", "c"], "or")] == [
        "a",
        "a and b",
        "a, b or c",
    ]
