"""Turns the outputs of tools into sentences, and keeps what they say about bookings."""

import json
import math
import re
from collections.abc import Callable
from datetime import date, time
from typing import Any, TypeVar

from sandbox.booking import WHAT_TO_CHANGE
from sandbox.spoken import DAYS, say_list, say_time
from sandbox.tables import Table
from sandbox.talk import Ask, Question, Talk

T = TypeVar("T")

_LONGEST = 300  # characters of a strange output that are spoken: some 20 seconds
# "18 degrees with light rain", but "18 degrees and sunny".
_NOUN = re.compile(
    r"(?:rain|showers?|snow|drizzle|fog|mist|haze|winds?|sunshine|sun|sky|skies|clouds?|storms?|"
    r"thunderstorms?|hail|spells)$"
)
_UNANSWERED = {
    "get_weather": "so I can't tell you the weather right now",
    "get_time": "so I can't tell you the time right now",
    "book_table": "so I don't know whether your table is booked",
    "cancel_booking": "so I don't know whether the booking is cancelled",
    "set_theme": "so it may look as before",
    "show_list": "so you may not see the list",
}


def spoken_outcome(talk: Talk, ask: Ask, output: str | None) -> str:
    """One or two sentences about `output`, the tool's string; None means that the page did not answer."""
    data = _parsed(output or "")
    if data in (None, "", [], {}):
        return _unanswered(talk, ask)
    if isinstance(data, dict) and data.get("error"):
        return _refused(talk, ask, data["error"])
    talk.served = True
    match ask.tool, data:
        case "get_weather", {
            "city": str(city),
            "condition": str(condition),
            "temperature_c": int() | float() as degrees,
        } if math.isfinite(degrees):
            return _weather(talk, city, condition, round(degrees), demo=bool(data.get("demo_data")))
        case "get_time", {"city": str(city), "time": str(clock)} if at := _read(time.fromisoformat, clock):
            return _local_time(talk, city, at, str(data.get("day", "")))
        case "book_table", {"reference": str(reference)}:
            return _booked(talk, ask, reference, data)
        case "cancel_booking", {"cancelled": True}:
            return _cancelled(talk, ask)
        case "set_theme", {"theme": "dark" | "light" as theme}:
            return talk.vary(
                "theme", f"The page is {theme} now.", f"Done, it's {theme} now.", f"There, {theme} it is."
            )
        case "show_list", {"shown": int()}:
            return _shown(talk, ask)
    if ask.tool == "book_table":
        talk.draft = None
    return f"The page says: {_plain(data)}"


def _parsed(output: str) -> Any:
    try:
        return json.loads(output)
    except (ValueError, RecursionError):
        return output.strip()


def _unanswered(talk: Talk, ask: Ask) -> str:
    if ask.tool == "book_table" and talk.draft:
        talk.question = Question("book", "Shall I try once more?")
    elif ask.tool == "cancel_booking":
        talk.question = Question("cancel", "Shall I try once more?", str(ask.arguments["reference"]))
    sorry = talk.vary(
        "unanswered", "I'm sorry, the page did not answer", "Sorry, there was no answer from the page"
    )
    return f"{sorry}, {_UNANSWERED.get(ask.tool, 'so I could not do that')}."


def _refused(talk: Talk, ask: Ask, why: object) -> str:
    if ask.tool == "book_table" and talk.draft:
        talk.question = Question("change", WHAT_TO_CHANGE)
    elif ask.tool in ("get_weather", "get_time") and not talk.draft and not talk.todo:
        talk.question = Question("city", "Which other city would you like?", ask.tool)
    sorry = talk.vary("refused", "I'm sorry.", "Sorry about that.")
    return f"{sorry} {_plain(why)}"


def _weather(talk: Talk, city: str, condition: str, degrees: int, *, demo: bool) -> str:
    talk.topic, talk.city = "get_weather", city
    talk.another = "get_weather"
    warmth = f"{'minus ' if degrees < 0 else ''}{abs(degrees)} degree{'' if abs(degrees) == 1 else 's'}"
    sky = f"{'with' if _NOUN.search(condition.lower()) else 'and'} {condition.lower()}"
    if demo and not talk.demo_said:
        talk.demo_said = True
        return f"My demo data says that it's {warmth} {sky} in {city}."
    return talk.vary("weather", f"In {city} it's {warmth} {sky}.", f"It's {warmth} {sky} in {city}.")


def _local_time(talk: Talk, city: str, at: time, day: str) -> str:
    talk.topic, talk.city, talk.another = "get_time", city, "get_time"
    elsewhere = f" on {day}" if day in DAYS and day != DAYS[talk.today.weekday()] else ""
    return talk.vary(
        "time is",
        f"It's {say_time(at)}{elsewhere} in {city}.",
        f"In {city}, it's {say_time(at)}{elsewhere} now.",
    )


def _booked(talk: Talk, ask: Ask, reference: str, data: dict[str, Any]) -> str:
    # What the tool says was booked counts; where it says nothing usable, what it was asked for.
    people = data.get("people")
    table = Table(
        reference,
        people if isinstance(people, int) else int(str(ask.arguments["people"])),
        _read(date.fromisoformat, data.get("day")) or date.fromisoformat(str(ask.arguments["day"])),
        _read(time.fromisoformat, data.get("time")) or time.fromisoformat(str(ask.arguments["time"])),
    )
    talk.booked.append(table)
    old, talk.draft = (talk.draft.replaces if talk.draft else ""), None
    if old:
        talk.todo.append(Ask("cancel_booking", {"reference": old}))
    done = talk.vary("booked", "Done: you have", "That's done: you have", "All done: you have")
    return f"{done} {table.describe(talk.today)}. Your reference is {reference}."


def _cancelled(talk: Talk, ask: Ask) -> str:
    reference = ask.arguments["reference"]
    talk.booked = [table for table in talk.booked if table.reference != reference]
    if talk.held:  # the new table has been told already
        return "Your old booking is cancelled."
    return talk.vary("cancelled", "Your booking is cancelled.", "Done, that booking is cancelled.")


def _shown(talk: Talk, ask: Ask) -> str:
    items = ask.arguments["items"]
    count = len(items) if isinstance(items, list) else 0
    title = str(ask.arguments["title"])
    what = {"Cities I know": f"the {count} cities I know", "Your bookings": "your bookings"}.get(
        title, "what I can do"
    )
    return talk.vary(
        "shown", f"There you are, the page shows {what}.", f"You can see {what} on the page now."
    )


def _read(parse: Callable[[str], T], value: object) -> T | None:
    try:
        return parse(str(value))
    except ValueError:
        return None


def _plain(data: object) -> str:
    """Any JSON value as a sentence for the ear: no braces, no addresses, not for ever."""
    if isinstance(data, dict):
        text = ", ".join(
            f"{str(key).replace('_', ' ')}: {_plain(value)}".rstrip(".") for key, value in data.items()
        )
    elif isinstance(data, list):
        text = say_list([_plain(item).rstrip(".") for item in data])
    else:
        text = " ".join(re.sub(r"https?://\S+", "", str(data)).split())
    if len(text) > _LONGEST:
        text = text[:_LONGEST].rsplit(" ", 1)[0]
    return text if text.endswith((".", "!", "?")) else f"{text}."
