"""What the concierge looks up (weather, time) and does to the caller's page (its look, lists)."""

import re

from sandbox import booking
from sandbox.spoken import CITIES, Said, nearest_city, read_cities
from sandbox.talk import Ask, Question, Reply, Say, Talk

# Where one wish ends and the next begins.
_SEAM = re.compile(r"\b(?:and|but|also)\b|(?= (?:whats|what|hows|how|tell me)\b)")


def two_wishes(talk: Talk, said: Said) -> Reply | None:
    """ "Book a table for two, and what's the weather in Rome?": notes the table, and does the other."""
    parts = [part.strip() for part in _SEAM.split(said.text) if part.strip()]
    others = [part for part in parts if any(pattern.search(part) for pattern in _ERRANDS)]
    if not others or len(parts) == len(others):
        return None
    first = parts.index(others[0])
    table = [
        part
        for place, part in enumerate(parts)
        if part not in others and (booking.BOOK.search(part) or (talk.draft and place < first))
    ]
    noted = booking.wish(talk, Said.of(" ".join(table))) if table else None
    if noted is None:
        return None
    question, talk.question = talk.question, None
    other = Said.of(" and ".join(part for part in parts if part not in table))
    reply = lookup(talk, other) or theme(talk, other)
    talk.question = talk.question or question
    if isinstance(noted, Say):
        return reply
    if isinstance(reply, Ask):
        talk.todo.insert(0, reply)
    return noted


# -- weather and time --------------------------------------------------------------------------

_WEATHER = re.compile(
    r"\b(?:weathers?|forecast|rain|raining|rainy|sunny|sunshine|sun|snow|snowing|temperature|degrees|umbrella|"
    r"cloudy|windy|how (?:hot|cold|warm)|(?:hot|cold|warm|nice) (?:is it )?in|"
    r"(?:wetter|leather|feather) (?:in|like))\b"
)
_TIME = re.compile(
    r"\b(?:what time is it|what time it is|whats the time|what is the time|(?:local|current) time|time is it|"
    r"(?:tell me|know|have) the time|the time there|what time (?:do they have|is it)|"
    r"time (?:now |right now )?(?:in|at) (?!the |a |an )[a-z]+|clock in)\b"
)
_FOLLOW_UP = re.compile(
    r"^(?:(?:ok|okay|thanks|thank you|great) )?(?:and|what about|how about|or|also|now)\b"
)
_NOT_NOW = re.compile(
    r"\b(?:tomorrow|week|weekend|next|monday|tuesday|wednesday|thursday|friday|saturday|sunday)\b"
)
_WRONG_CITY = re.compile(r"\b(?:wrong|another|other|different|not that) (?:city|town|place)\b")
_LOOKUPS = {"get_weather": _WEATHER, "get_time": _TIME}


def lookup(talk: Talk, said: Said) -> Reply | None:
    tools = [tool for tool, pattern in _LOOKUPS.items() if said.has(pattern)]
    if said.core() == "time" and not talk.draft:
        tools = ["get_time"]
    return _look_up(talk, tools, read_cities(said), said) if tools else None


def _look_up(talk: Talk, tools: list[str], cities: list[str], said: Said) -> Reply:
    if not cities and talk.question and talk.question.about == "topic":
        cities = [talk.question.value]
    if not cities and talk.city and re.search(r"\bthere\b", said.text):
        cities = [talk.city]
    if not cities:
        text = talk.vary("city?", "In which city?", "For which city?", "Which city would you like?")
        talk.question = Question("city", text, " ".join(tools))
        return Say(text)
    if len(cities) == 1 and cities[0] not in CITIES and (meant := nearest_city(cities[0])):
        talk.question = Question("meant", f"Did you mean {meant}?", " ".join([*tools, meant]))
        return Say(f"I heard {cities[0]}. {talk.question.text}")
    talk.question = None
    talk.topic, talk.city = tools[-1], cities[-1]
    if "get_weather" in tools and said.has(_NOT_NOW):
        talk.held.append("I only know what it is like right now.")
    first, *talk.todo = [Ask(tool, {"city": city}) for city in cities[:3] for tool in tools]
    return first


def known_city(talk: Talk, said: Said) -> Reply | None:
    """A city without a subject: the answer to "which city?", or a follow-up like "and in London?"."""
    cities = read_cities(said)
    asked = talk.question is not None and talk.question.about == "city"
    if not cities and talk.topic and said.has(_WRONG_CITY):
        return _look_up(talk, [talk.topic], cities, said)
    if not cities or (cities[0] not in CITIES and not asked and not (talk.topic and said.has(_FOLLOW_UP))):
        return None
    if talk.question and asked:
        return _look_up(talk, talk.question.value.split(), cities, said)
    if talk.topic:
        return _look_up(talk, [talk.topic], cities, said)
    talk.question = Question("topic", f"Would you like the weather or the time in {cities[0]}?", cities[0])
    return Say(talk.question.text)


def meant_city(talk: Talk, said: Said) -> Reply | None:
    """The answer to "did you mean Tokyo?"."""
    if talk.question is None or talk.question.about != "meant":
        return None
    words = talk.question.value.split()
    tools = [word for word in words if word in _LOOKUPS]
    cities = read_cities(said)
    agreed = said.agrees()
    if not cities and agreed is None:
        return None
    if not cities and agreed:
        cities = [" ".join(words[len(tools) :])]
    return _look_up(talk, tools, cities, said)


def unknown_city(talk: Talk, said: Said) -> Reply | None:
    """Asked for a city, the caller said what no other rule knows: the page may know it as a city."""
    if talk.question is None or talk.question.about not in ("city", "more") or not talk.question.value:
        return None
    cities = read_cities(said, expected=True)
    if talk.question.about == "more" and not (cities and nearest_city(cities[0])):
        return None
    if cities:
        return _look_up(talk, talk.question.value.split(), cities, said)
    talk.misses += 1
    if talk.misses > 2:
        talk.question = None
        return None
    return Say("Sorry, I need the name of a city, for example, Lisbon. Which one would you like?")


# -- the page ----------------------------------------------------------------------------------

_MODE = r"(?:mode|theme|page|version|look|background|colou?rs?|one|screen|site|website)"
_DO = r"(?:make|turn|switch|go|change|set|want|like|put|prefer|get|have|use)"
_LOOKS = (
    # "Turn dark mode off" asks for light, so it goes first.
    ("light", re.compile(r"\btoo dark\b|\bdark\b.*\boff\b|\boff\b.*\bdark\b|\bnot? (?:more )?dark\b")),
    (
        "dark",
        re.compile(
            rf"\b(?:dark|dock|duck|night|black) {_MODE}\b|\b{_DO}\b.*\b(?:dark|darker|black)\b|^dark(?:er)?$|"
            r"\blights? (?:off|out)\b|\boff the lights?\b|\btoo (?:bright|light)\b|\bdim the\b"
        ),
    ),
    (
        "light",
        re.compile(
            rf"\b(?:day|like) (?:mode|theme)\b|\b(?:light|bright|white) {_MODE}\b|^light(?:er)?$|^brighter$|"
            rf"\b{_DO}\b.*\b(?:lights?|lighter|bright|brighter|white)\b(?! (?:lunch|dinner|meal|snack))"
        ),
    ),
)
_LOOK = re.compile(
    r"\b(?:theme|colou?rs?|appearance|(?:change|switch) the (?:page|look|screen)|look of the page)\b"
)
_SHOW = re.compile(
    r"\b(?:list|lists|show|display|write (?:it|that|them) down|on (?:the|my|this) (?:page|screen))\b"
)
FOOD = re.compile(r"\b(?:menu|menus|dish|dishes|specials?|wine list|vegan|vegetarians?|allergic|allergies)\b")
_WHICH_CITIES = re.compile(r"\b(?:what|which) (?:cities|towns|places)\b|^(?:the )?cities$")
_ABILITIES = [
    "The weather in a city",
    "The local time in a city",
    "Book, change or cancel a table",
    "A dark or a light page",
    "A list on the page",
]

_ERRANDS = (_WEATHER, _TIME, _LOOK, *(pattern for _, pattern in _LOOKS))


def theme(talk: Talk, said: Said) -> Reply | None:
    asked = talk.question is not None and talk.question.about == "theme"
    core = Said(said.core(), "")
    for look, pattern in _LOOKS:
        if said.has(pattern) or core.has(pattern) or (asked and re.search(rf"\b{look}\b", said.text)):
            talk.question = None
            return Ask("set_theme", {"theme": look})
    if said.has(_LOOK):
        talk.question = Question("theme", "Would you like the page dark or light?")
        return Say(talk.question.text)
    return None


def show(talk: Talk, said: Said) -> Reply | None:
    if said.has(FOOD):
        return None
    if said.has(_WHICH_CITIES) or (said.has(_SHOW) and re.search(r"\b(?:cit\w+|towns|places)\b", said.text)):
        return Ask("show_list", {"title": "Cities I know", "items": list(CITIES)})
    if not said.has(_SHOW):
        return None
    if re.search(r"\b(?:book\w*|reserv\w*|tables?)\b", said.text):
        if not talk.booked:
            return booking.nothing_booked(talk)
        lines = [f"{table.describe(talk.today, 'A')} ({table.reference})" for table in talk.booked]
        return Ask("show_list", {"title": "Your bookings", "items": lines})
    return Ask("show_list", {"title": "What I can do", "items": _ABILITIES})
