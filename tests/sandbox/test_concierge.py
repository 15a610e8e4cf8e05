"""Whole conversations with the concierge, as scripts.

`C:` the caller says, `A:` the agent answers (parts that must occur, in order, between the …; [end]: the call
ends), `>` the agent asks the page for a tool, `<` the page answers otherwise than usual (`< silence`:
it gives none), `cut` the caller cuts in before the agent's sentence is over.
It is Sunday, November 22nd 2026, 3:05 p.m.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sandbox.concierge import TOOLS, Ask, Concierge, Say

SUNDAY = datetime(2026, 11, 22, 15, 5, tzinfo=ZoneInfo("Europe/Rome"))


def now() -> datetime:
    return SUNDAY


class Page:
    """Answers as the talk page and its server do."""

    def __init__(self) -> None:
        self.bookings = 1000

    def answer(self, ask: Ask) -> str:
        given: dict[str, Any] = dict(ask.arguments)
        match ask.tool:
            case "get_weather":
                return json.dumps({**given, "condition": "Sunny", "temperature_c": 21, "demo_data": True})
            case "get_time":
                return json.dumps({**given, "time": "21:05", "day": "Sunday", "time_zone": "Europe/Rome"})
            case "book_table":
                self.bookings += 1
                given.pop("name", None)
                return json.dumps({"reference": f"B{self.bookings}", **given})
            case "cancel_booking":
                return json.dumps({**given, "cancelled": True})
            case "show_list":
                return json.dumps({"shown": len(given["items"])})
        return json.dumps(given)


def play(script: str, **options: Any) -> Concierge:
    """Plays a script and compares each of the agent's lines with it."""
    concierge, page = Concierge(**({"now": now} | options)), Page()
    reply: Say | Ask = Say(concierge.greeting())
    lines = [line.strip() for line in script.strip().splitlines()]
    for index, line in enumerate(lines):
        kind, _, rest = line.partition(" ")
        context = f"{line!r} after:\n" + "\n".join(lines[max(0, index - 6) : index]) + f"\ngot: {reply}"
        if kind == "C:":
            assert isinstance(reply, Say), f"the agent still waits for the page, {context}"
            reply = concierge.heard(rest)
        elif kind == "A:":
            assert isinstance(reply, Say), context
            text = reply.text
            for part in rest.removesuffix("[end]").strip().split(" … "):
                assert part in text, context
                text = text.partition(part)[2]
            assert reply.end_call == rest.endswith("[end]"), context
        elif kind == ">":
            tool, *pairs = rest.split(", ")
            assert isinstance(reply, Ask), context
            assert reply.tool == tool, context
            assert {key: str(value) for key, value in reply.arguments.items()}.items() >= dict(
                pair.split("=", 1) for pair in pairs
            ).items(), context
            following = lines[index + 1] if index + 1 < len(lines) else ""
            if not following.startswith("<"):
                reply = concierge.answered(reply, page.answer(reply))
        elif kind == "<":
            assert isinstance(reply, Ask), context
            reply = (
                concierge.answered(reply, None, "timed out")
                if rest == "silence"
                else concierge.answered(reply, rest)
            )
        elif kind == "cut":
            concierge.cut(rest)
        else:
            pytest.fail(f"not a line of a script: {line!r}")
    return concierge


def test_booking_asks_for_what_is_missing_and_books_what_was_confirmed() -> None:
    play(
        """
        C: I would like to book a table.
        A: how many people?
        C: For four people.
        A: for four. … Which day
        C: For tomorrow, please.
        A: tomorrow, Monday, November 23rd. … At what time?
        C: At seven thirty in the evening.
        A: a table for four at 7:30 p.m. tomorrow, Monday, November 23rd. … Shall I book it?
        C: No.
        A: What should I change
        C: Make it five people.
        A: a table for five at 7:30 p.m. tomorrow
        C: Yes, please.
        > book_table, people=5, day=2026-11-23, time=19:30
        A: you have a table for five at 7:30 p.m. tomorrow, Monday, November 23rd. … B1001. … Anything else?
        C: No, thank you.
        A: Goodbye [end]
        """
    )


def test_booking_in_one_sentence_as_a_recogniser_spells_it() -> None:
    play(
        """
        C: booker table for to to-morrow at ate
        A: With pleasure. … a table for two at 8 p.m. tomorrow, Monday, November 23rd.
        C: Yeah, that's right.
        > book_table, people=2, day=2026-11-23, time=20:00
        """
    )


def test_booking_takes_corrections_until_it_is_right() -> None:
    play(
        """
        C: A table for two on Friday at eight.
        A: a table for two at 8 p.m. on Friday, November 27th.
        C: Actually, at nine.
        A: Of course. … a table for two at 9 p.m. on Friday, November 27th.
        C: No, not Friday, Saturday, and we are six.
        A: a table for six at 9 p.m. on Saturday, November 28th.
        C: A different time, please.
        A: Of course. … time
        C: half past eight
        A: a table for six at 8:30 p.m. on Saturday, November 28th.
        C: Make it eight people.
        A: a table for eight at 8:30 p.m. on Saturday, November 28th.
        C: Yes, Saturday at half past eight.
        > book_table, people=8, day=2026-11-28, time=20:30
        """
    )


@pytest.mark.parametrize(
    "line", ["are you sure", "is that okay", "ok what's on the menu", "sure but do you have parking", "Yes?"]
)
def test_question_agrees_to_nothing(line: str) -> None:
    play(
        f"""
        C: A table for two tomorrow at eight.
        A: Shall I book it?
        C: {line}
        A: a table for two at 8 p.m. tomorrow
        C: yes
        > book_table, people=2
        A: B1001
        C: Cancel my booking.
        A: Shall I cancel
        C: {line}
        A: Shall I cancel
        """
    )


def test_booking_is_left_and_come_back_to() -> None:
    play(
        """
        C: Book a table, please.
        A: how many people?
        C: What's the weather in Rome?
        > get_weather, city=Rome
        A: My demo data says that it's 21 degrees and sunny in Rome. … table. … How many people
        C: thanks
        A: You're welcome. … many people
        C: Show me my bookings.
        A: not booked anything in this call yet. … many people
        C: two
        A: Which day
        C: What can you do?
        A: I'm booking you a table … day
        C: tonight
        A: time
        C: What time is it?
        A: city
        C: never mind
        A: No problem. … time
        C: At nine.
        A: a table for two at 9 p.m. tonight.
        C: Dark mode.
        > set_theme, theme=dark
        A: dark … a table for two at 9 p.m. tonight.
        C: Perfect.
        > book_table, people=2, day=2026-11-22, time=21:00
        """
    )


@pytest.mark.parametrize(
    "line",
    [
        "one of us is allergic to nuts",
        "two of us are vegetarians",
        "my friend and I want a window seat",
        "first I have a question",
    ],
)
def test_remark_changes_nothing_at_the_confirmation(line: str) -> None:
    play(
        f"""
        C: A table for four tomorrow at eight.
        A: a table for four
        C: {line}
        A: a table for four at 8 p.m. tomorrow
        """
    )


@pytest.mark.parametrize(
    ("first", "line", "table"),
    [
        ("A table for two tomorrow at eight.", "can we make it nine instead", "for two at 9 p.m."),
        ("A table at eight tomorrow for two.", "no I said three", "for three at 8 p.m."),
        ("A table for two tomorrow at eight.", "not two, three", "for three at 8 p.m."),
        ("A table at eight tomorrow for two.", "not eight, nine", "for two at 9 p.m."),
        ("A table at eight tomorrow for two.", "make it 22", "for two at 10 p.m."),
        ("A table for two tomorrow at eight.", "I said five", "for two at 5 p.m."),
    ],
)
def test_bare_number_corrects_what_was_said_last_or_is_denied(first: str, line: str, table: str) -> None:
    play(f"C: {first}\nA: a table\nC: {line}\nA: a table {table} tomorrow … ?")


def test_bare_number_corrects_the_people_while_the_day_is_asked_for() -> None:
    play("C: A table for two.\nA: day\nC: No, I said eight.\nA: for eight. … day")


def test_bare_number_is_asked_about_where_nothing_tells() -> None:
    play(
        """
        C: A table for two tomorrow at eight.
        A: a table for two
        C: yes
        > book_table, people=2
        A: B1001
        C: Change my booking.
        A: What should I change
        C: one
        A: Do you mean one person, or 1 p.m.?
        C: What?
        A: one person, or 1 p.m.?
        C: Yes.
        A: one person, or 1 p.m.?
        C: The first.
        A: a table for one at 8 p.m.
        """
    )


@pytest.mark.parametrize("line", ["okay do it", "right", "yes", "nothing", "leave it like that"])
def test_what_to_change_is_left_for_the_confirmation(line: str) -> None:
    play(
        f"""
        C: A table for two tomorrow at eight.
        A: a table for two
        C: no
        A: What should I change
        C: {line}
        A: a table for two at 8 p.m. tomorrow … ?
        """
    )


def test_hours_from_now_and_later() -> None:
    play(
        """
        C: A table for two in three hours.
        A: a table for two at 6:05 p.m. tonight.
        C: Half an hour later, please.
        A: Of course. … a table for two at 6:35 p.m. tonight.
        C: On second thought make it nine o'clock.
        A: at 9 p.m. tonight
        C: an hour earlier
        A: at 8 p.m. tonight
        C: yes
        > book_table, people=2, day=2026-11-22, time=20:00
        A: B1001
        C: Actually, one hour later, please.
        A: change your booking to a table for two at 9 p.m.
        """
    )


@pytest.mark.parametrize(
    ("line", "ask", "then"),
    [
        ("Book a table for two tomorrow at eight and what's the weather like in Rome?", "get_weather",
         "a table for two at 8 p.m. tomorrow"),
        ("What time is it in Oslo, and I'd like a table for six.", "get_time, city=Oslo", "day"),
        ("A table for two tomorrow at eight. What's the weather in Rome?", "get_weather, city=Rome",
         "a table for two at 8 p.m. tomorrow"),
        ("Switch to dark mode and book a table for two tomorrow.", "set_theme, theme=dark", "time"),
        ("Book a table for two and how's the weather in Rome tomorrow?", "get_weather, city=Rome", "day"),
    ],
)  # fmt: skip
def test_two_wishes_in_one_sentence_are_both_met(line: str, ask: str, then: str) -> None:
    play(f"C: {line}\n> {ask}\nA: table. … {then}")


def test_wish_beside_an_answer_to_the_bookings_question() -> None:
    play(
        """
        C: A table tomorrow at eight.
        A: how many people?
        C: For two, and what's the weather in Rome?
        > get_weather, city=Rome
        A: a table for two at 8 p.m. tomorrow
        C: Yes, book it, and what time is it in London?
        > book_table, people=2
        > get_time, city=London
        A: B1001. … London
        C: what's the weather in Rome and Paris
        > get_weather, city=Rome
        > get_weather, city=Paris
        """
    )


def test_sentence_ends_with_one_dot() -> None:
    play("C: A table at nine.\nA: a table at 9 p.m. For how many people?")


@pytest.mark.parametrize(
    ("line", "table"),
    [
        ("one more person", "for three at 8 p.m."),
        ("plus two", "for four at 8 p.m."),
        ("there will be two more people", "for four at 8 p.m."),
        ("what was the day again", "for two at 8 p.m."),
        ("what time do you close", "for two at 8 p.m."),
    ],
)
def test_people_are_added_and_questions_change_nothing(line: str, table: str) -> None:
    play(f"C: A table for two tomorrow at eight.\nA: a table\nC: {line}\nA: a table {table} tomorrow")


def test_another_city_is_named_at_once() -> None:
    play(
        """
        C: Weather in Rome.
        > get_weather, city=Rome
        A: another city?
        C: Yes, Paris.
        > get_weather, city=Paris
        A: else
        C: And in London?
        > get_weather, city=London
        A: another city?
        C: Toke Gill.
        A: Did you mean Tokyo?
        """
    )


def test_booking_that_needs_no_change_stays() -> None:
    play(
        """
        C: A table for two tomorrow at eight.
        A: a table for two
        C: yes
        > book_table, people=2
        A: B1001
        C: Change my booking.
        A: What should I change
        C: Nothing.
        A: your booking stays as it was. … else
        """
    )


def test_one_of_two_times_days_or_numbers_is_asked_for() -> None:
    play(
        """
        C: A table for two tomorrow at seven or eight.
        A: a table for two tomorrow … Which one: seven or eight?
        C: eight
        A: a table for two at 8 p.m. tomorrow
        C: On Friday or on Saturday.
        A: Which one: Friday or Saturday?
        C: Saturday
        A: at 8 p.m. on Saturday
        C: two or three people
        A: Which one: two or three?
        C: three
        A: a table for three at 8 p.m. on Saturday
        C: seven or eight
        A: Which one: seven or eight?
        C: half past seven
        A: at 7:30 p.m. on Saturday
        C: at half past seven or eight
        A: Which one: half past seven or eight?
        """
    )


def test_name_for_the_booking_may_follow_under() -> None:
    play(
        """
        C: A table for two tomorrow at eight.
        A: a table for two
        C: under Smith, please
        A: Thank you, Smith. … a table for two
        C: yes
        > book_table, name=Smith
        """
    )


@pytest.mark.parametrize(
    "line",
    ["when is it", "Which day was that?", "what time was that", "say the reference again",
     "Can you repeat the reference?"],
)  # fmt: skip
def test_booking_is_told_again(line: str) -> None:
    play(
        f"""
        C: A table for two tomorrow at eight.
        A: a table for two
        C: yes
        > book_table, people=2
        A: B1001
        C: {line}
        A: You have booked a table for two at 8 p.m. tomorrow … reference B1001. … else
        """
    )


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("Show me the menu.", "waiter"),
        ("What's on the menu?", "waiter"),
        ("Book a flight to Paris.", "only book tables"),
        ("I'd like to book a hotel room.", "only book tables"),
    ],
)
def test_what_it_cannot_do_is_not_taken_for_what_it_can(line: str, answer: str) -> None:
    play(f"C: {line}\nA: {answer}")


def test_here_is_no_city() -> None:
    play("C: What time is it where I am?\nA: city\nC: where I am\nA: the name of a city")


def test_city_that_sounds_like_a_known_one_is_asked_about() -> None:
    play(
        """
        C: What's the weather in Toke Gill?
        A: I heard Toke Gill. Did you mean Tokyo?
        C: Yes.
        > get_weather, city=Tokyo
        A: Tokyo
        C: time in Vietnam
        A: I heard Vietnam. Did you mean Vienna?
        C: no
        A: city
        C: toke gill
        A: I heard Toke Gill. Did you mean Tokyo?
        C: no, Oslo
        > get_time, city=Oslo
        A: Oslo
        C: weather in Springfield
        > get_weather, city=Springfield
        """
    )


def test_booking_refuses_what_cannot_be() -> None:
    play(
        """
        C: I'd like to reserve a table.
        A: how many people?
        C: zero
        A: at least one person … How many people
        C: Twenty five.
        A: 25 is too many … up to 20 people. … how many people
        C: three
        A: day
        C: yesterday
        A: Saturday, November 21st is already over. … day
        C: today
        A: time
        C: at 2 p.m.
        A: already 3:05 p.m. now, so 2 p.m. today is over. … time
        C: 11 p.m.
        A: We can't seat you at 11 p.m. … from 11 a.m. to 10:30 p.m. … time
        C: ten thirty in the evening
        A: We can't seat you at 10:30 p.m.
        C: yes
        A: We can't seat you at 10:30 p.m.
        C: noon
        A: noon today is over
        C: tomorrow then
        A: a table for three at noon tomorrow
        C: ok
        > book_table, people=3, day=2026-11-23, time=12:00
        """
    )


def test_booking_can_be_dropped_before_it_is_made() -> None:
    play(
        """
        C: A table for two tomorrow at eight.
        A: a table for two at 8 p.m.
        C: No, cancel that.
        A: I have not booked anything.
        C: Cancel my booking.
        A: nothing to cancel
        """
    )


def test_booking_is_dropped_after_four_answers_that_say_nothing() -> None:
    concierge = play(
        """
        C: Book a table.
        A: how many people?
        C: dunno
        A: many people … for example, four.
        C: whatever you like
        A: many people … for example, four.
        C: nope
        A: many people … say, cancel
        C: green
        A: Let's leave the table for now.
        """
    )
    assert "people" not in _said(concierge.heard("hello"))


def test_booked_table_is_cancelled_by_its_reference_after_a_yes() -> None:
    play(
        """
        C: A table for two tomorrow at eight.
        A: table for two
        C: yes
        > book_table, people=2
        A: B1001
        C: Cancel the booking.
        A: Shall I cancel your table for two at 8 p.m. tomorrow
        C: No.
        A: stays booked
        C: Cancel the booking be 1001.
        A: cancel your table for two
        C: Yes.
        > cancel_booking, reference=B1001
        A: cancelled
        C: What have I booked?
        A: You have not booked anything
        """
    )


def test_one_of_two_bookings_is_chosen() -> None:
    play(
        """
        C: A table for two tomorrow at eight.
        A: table for two
        C: yes
        > book_table, people=2
        A: B1001
        C: Book another table for six on Friday at noon.
        A: a table for six at noon on Friday, November 27th.
        C: Yes.
        > book_table, people=6
        A: B1002
        C: Show my bookings.
        > show_list, title=Your bookings
        A: your bookings
        C: Cancel a booking.
        A: You have two bookings. … the table for two … or the table for six
        C: The one on Friday.
        A: cancel your table for six
        C: Yes.
        > cancel_booking, reference=B1002
        A: cancelled
        """
    )


def test_booked_table_is_changed_by_booking_anew_then_giving_the_old_one_back() -> None:
    play(
        """
        C: A table for two tomorrow at eight.
        A: table for two
        C: yes
        > book_table, people=2
        A: B1001
        C: Actually, make it three people.
        A: Shall I change your booking to a table for three at 8 p.m. tomorrow
        C: yes
        > book_table, people=3, day=2026-11-23, time=20:00
        > cancel_booking, reference=B1001
        A: table for three … B1002. … old booking is cancelled.
        C: I'd like to change my booking.
        A: What should I change
        C: the time
        A: time
        C: at nine
        A: change your booking to a table for three at 9 p.m.
        C: never mind
        A: your booking stays as it was.
        """
    )


def test_weather_and_time_follow_up_on_each_other() -> None:
    play(
        """
        C: What is the weather like in pairs?
        > get_weather, city=Paris
        A: My demo data says that it's 21 degrees and sunny in Paris. … another city?
        C: And in London?
        > get_weather, city=London
        A: In London it's 21 degrees and sunny.
        C: What time is it there?
        > get_time, city=London
        A: 9:05 p.m. in London.
        C: yes
        A: Which city?
        C: Oslo
        > get_time, city=Oslo
        A: In Oslo, it's 9:05 p.m.
        C: weather and time in Tokyo
        > get_weather, city=Tokyo
        > get_time, city=Tokyo
        A: in Tokyo. … 9:05 p.m.
        """
    )


def test_weather_asks_for_the_city() -> None:
    play(
        """
        C: How's the weather?
        A: city
        C: here
        A: the name of a city
        C: Springfield
        > get_weather, city=Springfield
        < {"error": "I do not know the city Springfield"}
        A: I do not know the city Springfield. … Which other city
        C: Lisbon.
        > get_weather, city=Lisbon
        < {"city": "Lisbon", "condition": "light rain", "temperature_c": -1.2, "demo_data": true}
        A: My demo data says that it's minus 1 degree with light rain in Lisbon.
        C: And what's the weather tomorrow in Madrid?
        > get_weather, city=Madrid
        A: right now … Madrid
        """
    )


def test_a_city_alone_is_asked_about() -> None:
    play(
        """
        C: Vienna
        A: the weather or the time in Vienna?
        C: The weather.
        > get_weather, city=Vienna
        """
    )


@pytest.mark.parametrize(
    ("line", "theme"),
    [
        ("Please switch the page to dark mode.", "dark"),
        ("Fleece which the page to dark mof.", "dark"),
        ("light mood please", "light"),
        ("Light mode", "light"),
        ("lite theme please", "light"),
        ("Turn off the lights.", "dark"),
        ("It's too dark.", "light"),
        ("Turn dark mode off", "light"),
        ("Make the page darker", "dark"),
        ("dark", "dark"),
    ],
)
def test_theme(line: str, theme: str) -> None:
    play(f"C: {line}\n> set_theme, theme={theme}\nA: {theme}")


def test_theme_asks_which() -> None:
    play("C: Change the colours.\nA: dark or light?\nC: light\n> set_theme, theme=light\nA: light")


def test_light_lunch_is_a_table_and_not_a_theme() -> None:
    play("C: I'd like a light lunch tomorrow.\nA: tomorrow, Monday … people")


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("Show me a list of what you can do.", "What I can do"),
        ("Show me our list of the cities that you know.", "Cities I know"),
        ("Which cities do you know?", "Cities I know"),
        ("Jumia list of the cities that you know.", "Cities I know"),
        ("Put it on the page.", "What I can do"),
    ],
)
def test_list_shows_what_was_asked_for(line: str, title: str) -> None:
    play(f"C: {line}\n> show_list, title={title}\nA: page")


def test_list_of_no_bookings_offers_to_book() -> None:
    play(
        "C: Show me my bookings.\nA: not booked anything … Shall I book a table\nC: Yes.\nA: how many people?"
    )


def test_repeat_gives_the_whole_sentence_after_a_cut_a_stop_and_noise() -> None:
    play(
        """
        C: A table for two tomorrow at eight.
        A: a table for two at 8 p.m. tomorrow, Monday, November 23rd. Shall I book it?
        cut With pleasure. That would be
        C: Stop.
        A: Okay.
        C: What did you say?
        A: With pleasure. That would be a table for two at 8 p.m. … Shall I book it?
        C: uh
        A: catch that
        C: Repeat that, please.
        A: With pleasure. That would be a table for two
        cut With pleasure.
        C: um
        A: With pleasure. That would be a table for two at 8 p.m.
        C: Yes.
        > book_table, people=2
        """
    )


def test_okay_after_a_stop_agrees_to_nothing() -> None:
    play(
        """
        C: A table for two tomorrow at eight.
        A: Shall I book it?
        C: Hang on.
        A: Okay.
        C: Okay.
        A: a table for two at 8 p.m. tomorrow
        C: Okay, book it.
        > book_table, people=2
        """
    )


def test_repeat_of_the_opening_line() -> None:
    play("C: Pardon?\nA: Welcome to the house.", first_message="Welcome to the house.")


@pytest.mark.parametrize(
    "line",
    [
        "Stop.",
        "Stop, please.",
        "okay stop",
        "be quiet",
        "Wait.",
        "one moment please",
        "give me a second",
        "just a second let me check",
        "all right hold on a second",
        "one second please let me ask my wife",
        "wait for a moment",
    ],
)
def test_stop_answers_with_a_word_and_waits(line: str) -> None:
    assert play("C: hello").heard(line) == Say("Okay.")


@pytest.mark.parametrize(
    "line", ["Goodbye.", "Good-bye", "Thank you. Goodbye.", "bye", "by", "That's all, thanks."]
)
def test_goodbye_ends_the_call(line: str) -> None:
    play(f"C: {line}\nA: Goodbye, Anna, and have a lovely day! [end]", variables={"name": "Anna"})


@pytest.mark.parametrize(
    "line", ["No.", "No, thank you.", "nope, that's all", "no I'm good, thanks", "Nothing else.", "know"]
)
def test_no_to_anything_else_ends_the_call(line: str) -> None:
    play(f"C: Light mode.\n> set_theme, theme=light\nA: Anything else?\nC: {line}\nA: Goodbye [end]")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("that's wrong", "sorry"),
        ("I don't understand", "Anything else?"),
        ("I don't know", "All right."),
        ("not right", "sorry"),
        ("no problem", "All right."),
        ("no, a table for two", "day"),
    ],
)
def test_other_words_with_a_no_in_them_do_not_end_the_call(line: str, answer: str) -> None:
    play(f"C: Light mode.\n> set_theme, theme=light\nA: Anything else?\nC: {line}\nA: {answer}")


def test_wrong_city_is_looked_up_anew() -> None:
    play(
        """
        C: Weather in Rome.
        > get_weather, city=Rome
        A: another city?
        C: not Rome, Oslo
        > get_weather, city=Oslo
        A: Oslo … else
        C: no, London
        > get_weather, city=London
        A: London … another city?
        C: wrong city
        A: city
        C: Paris
        > get_weather, city=Paris
        """
    )


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("wrong day", "day … would you like?"),
        ("not tomorrow", "day … would you like?"),
        ("not tomorrow, Friday", "change your booking … on Friday"),
        ("the time is wrong", "time"),
    ],
)
def test_booking_that_came_out_wrong_is_changed(line: str, answer: str) -> None:
    play(
        f"""
        C: A table for two tomorrow at eight.
        A: Shall I book it?
        C: yes
        > book_table, people=2
        A: Anything else?
        C: {line}
        A: {answer}
        """
    )


@pytest.mark.parametrize(
    "line", ["no bye", "no thank you goodbye", "no, I have to go", "never mind, bye", "Goodbye.", "okay bye"]
)
def test_goodbye_is_heard_before_an_answer(line: str) -> None:
    play(f"C: A table for two tomorrow at eight.\nA: Shall I book it?\nC: {line}\nA: nothing for now [end]")
    play(f"C: Weather in Rome.\n> get_weather\nA: another city?\nC: {line}\nA: Goodbye [end]")


@pytest.mark.parametrize("line", ["yes, book it, bye", "yes that's it", "yes, see you then"])
def test_yes_with_a_goodbye_still_books(line: str) -> None:
    play(f"C: A table for two tomorrow at eight.\nA: Shall I book it?\nC: {line}\n> book_table, people=2")


def test_goodbye_in_a_booking_says_that_nothing_is_booked() -> None:
    play("C: A table for two.\nA: day\nC: Goodbye.\nA: I book nothing for now. Goodbye [end]")


def test_noise_is_answered_without_losing_the_thread() -> None:
    play(
        """
        C:
        A: didn't catch that. What can I do for you?
        C: uh, um
        A: again?
        C: Book a table for two.
        A: day
        C: hmm
        A: day
        C: [noise]
        A: day
        """
    )


def test_small_talk_never_ends_the_booking() -> None:
    play(
        """
        C: Hello!
        A: Hello! What can I do for you?
        C: Who are you?
        A: I'm Luca, the concierge of Verde
        C: How are you?
        A: very well
        C: Can you hear me?
        A: Yes, I can hear you well.
        C: My name is Anna.
        A: Nice to meet you, Anna.
        C: When do you close?
        A: from 11 a.m. to 10:30 p.m. … book a table
        C: Yes, for two tomorrow.
        A: time
        C: Tell me a joke.
        A: tomato … time
        C: eight
        A: table for two
        C: yes
        > book_table, people=2, day=2026-11-23, time=20:00, name=Anna
        """,
        variables={"restaurant": "Verde"},
        prompt="You are Luca, the concierge of a restaurant.",
    )


def test_fallback_names_three_things_in_other_words_each_time() -> None:
    concierge = Concierge(now=now)
    answers = [_said(concierge.heard("colourless green ideas")) for _ in range(4)]
    assert len(set(answers)) == 4
    for answer in answers:
        assert answer.count(",") >= 2 or answer.count(" or ") >= 2


def test_help_says_what_it_can_do() -> None:
    play(
        """
        C: Hello, what can you do?
        A: book you a table … weather … time … dark or light … list
        C: Help!
        A: You can say
        """
    )


def test_page_that_does_not_answer_is_said_and_gone_on_from() -> None:
    play(
        """
        C: What time is it in Rome?
        > get_time, city=Rome
        < silence
        A: the page did not answer, so I can't tell you the time right now. What can I do for you?
        C: A table for two tomorrow at eight.
        A: table for two
        C: yes
        > book_table, people=2
        < silence
        A: no answer from the page, so I don't know whether your table is booked. Shall I try once more?
        C: Yes.
        > book_table, people=2, day=2026-11-23, time=20:00
        A: B1001
        """
    )


def test_refused_booking_can_be_changed_and_tried_again() -> None:
    play(
        """
        C: A table for two tomorrow at eight.
        A: table for two
        C: yes
        > book_table, people=2
        < {"error": "We are full at that time."}
        A: sorry. We are full at that time. What should I change
        C: At nine.
        A: a table for two at 9 p.m. tomorrow
        C: yes
        > book_table, time=21:00
        A: B1001
        """
    )


@pytest.mark.parametrize(
    ("output", "spoken"),
    [
        ("It is nice out", "The page says: It is nice out. "),
        ('"quite warm"', "The page says: quite warm. "),
        ('{"temperature": 3, "wind_speed": "high"}', "The page says: temperature: 3, wind speed: high. "),
        ("[1, 2, 3]", "The page says: 1, 2 and 3. "),
        ('{"city": "Rome", "condition": null, "temperature_c": "hot"}', "city: Rome"),
        ("see https://example.com/x?y=1 now", "The page says: see now. "),
        ('{"city": "Rome", "condition": "sunny", "temperature_c": NaN}', "The page says: "),
        ("[" * 100_000, "The page says: "),
        ("", "did not answer"),
        ("null", "did not answer"),
        ('{"error": "No."}', "No. "),
        ('{"error": {"message": "Broken"}}', "message: Broken. "),
    ],
)
def test_strange_output_is_spoken_plainly(output: str, spoken: str) -> None:
    play(f"C: weather in Rome\n> get_weather, city=Rome\n< {output}\nA: {spoken.strip()}")


def test_endless_output_is_cut_short() -> None:
    concierge = Concierge(now=now)
    ask = concierge.heard("weather in Rome")
    assert isinstance(ask, Ask)
    assert len(_said(concierge.answered(ask, "word " * 1000))) < 400


@pytest.mark.parametrize(
    ("options", "greeting"),
    [
        ({}, "Hello! I'm the concierge. "),
        ({"variables": {"name": "Anna", "restaurant": "Verde"}}, "Hello, Anna! I'm the concierge of Verde. "),
        ({"prompt": "You are a helpful voice."}, "Hello! I'm the concierge. "),
        ({"prompt": "Your name is Luca. Be kind."}, "Hello! I'm Luca, the concierge. "),
    ],
)
def test_greeting_uses_what_it_is_told(options: dict[str, Any], greeting: str) -> None:
    assert Concierge(now=now, **options).greeting().startswith(greeting)


@pytest.mark.parametrize(
    ("hour", "line", "answer"),
    [
        (22, "A table for two today", "time"),
        (23, "A table for two today", "closed for today"),
        (9, "A table for two today at noon", "at noon today"),
    ],
)
def test_today_depends_on_the_hour(hour: int, line: str, answer: str) -> None:
    later: Callable[[], datetime] = lambda: SUNDAY.replace(hour=hour, minute=0)  # noqa: E731
    play(f"C: {line}\nA: {answer}", now=later)


def test_tools_describe_every_argument() -> None:
    assert [tool.name for tool in TOOLS] == [
        "get_weather",
        "get_time",
        "book_table",
        "cancel_booking",
        "set_theme",
        "show_list",
    ]
    for tool in TOOLS:
        assert set(tool.parameters["required"]) <= set(tool.parameters["properties"])
        assert all(each["description"] for each in tool.parameters["properties"].values())


def _said(reply: Say | Ask) -> str:
    assert isinstance(reply, Say)
    return reply.text
