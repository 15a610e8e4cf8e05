"""The tools of the restaurant's concierge."""

import unicodedata
import zlib
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django.utils import timezone

from sessions_app.models import Booking, ToolRun, VoiceSession
from sessions_app.redaction import redact_text
from sessions_app.tools import ToolError, tool

WEATHER = {
    "amsterdam": ("light rain", 12),
    "athens": ("sunny", 27),
    "barcelona": ("sunny", 24),
    "berlin": ("cloudy", 14),
    "cairo": ("sunny", 33),
    "chicago": ("windy", 11),
    "copenhagen": ("cloudy", 11),
    "dublin": ("light rain", 12),
    "istanbul": ("partly cloudy", 19),
    "lisbon": ("sunny", 23),
    "london": ("light rain", 13),
    "los angeles": ("sunny", 25),
    "madrid": ("sunny", 26),
    "mexico city": ("partly cloudy", 21),
    "mumbai": ("humid", 31),
    "new york": ("partly cloudy", 17),
    "oslo": ("snow", -2),
    "paris": ("cloudy", 16),
    "rome": ("sunny", 22),
    "san francisco": ("fog", 15),
    "sydney": ("sunny", 22),
    "tokyo": ("cloudy", 18),
    "vienna": ("partly cloudy", 15),
    "zurich": ("cloudy", 13),
}
CONDITIONS = ("sunny", "partly cloudy", "cloudy", "light rain", "windy")

ZONES = {
    "abu dhabi": "Asia/Dubai",
    "barcelona": "Europe/Madrid",
    "beijing": "Asia/Shanghai",
    "boston": "America/New_York",
    "cape town": "Africa/Johannesburg",
    "delhi": "Asia/Kolkata",
    "frankfurt": "Europe/Berlin",
    "geneva": "Europe/Zurich",
    "hamburg": "Europe/Berlin",
    "kyoto": "Asia/Tokyo",
    "las vegas": "America/Los_Angeles",
    "miami": "America/New_York",
    "milan": "Europe/Rome",
    "montreal": "America/Toronto",
    "mumbai": "Asia/Kolkata",
    "munich": "Europe/Berlin",
    "new delhi": "Asia/Kolkata",
    "new york city": "America/New_York",
    "osaka": "Asia/Tokyo",
    "rio de janeiro": "America/Sao_Paulo",
    "saint petersburg": "Europe/Moscow",
    "san diego": "America/Los_Angeles",
    "san francisco": "America/Los_Angeles",
    "seattle": "America/Los_Angeles",
    "tel aviv": "Asia/Jerusalem",
    "washington": "America/New_York",
}
"""Cities that the time zone database does not name."""

OPENS, LAST_BOOKING = time(11, 0), time(22, 30)
MAX_PEOPLE = 20
MAX_AHEAD = timedelta(days=365)


@tool
def get_weather(session: VoiceSession, city: str) -> dict[str, Any]:
    """The weather in a city. Demonstration data, not a forecast."""
    key = plain(city)
    if not key:
        raise ToolError("I need the name of a city.")
    # The same city always has the same weather, so that a demonstration can be repeated.
    chance = zlib.crc32(key.encode())
    made_up = (CONDITIONS[chance % len(CONDITIONS)], 8 + chance // 7 % 20)
    condition, temperature = WEATHER.get(key, made_up)
    return {
        "city": city.strip(),
        "condition": condition,
        "temperature_c": temperature,
        "demo_data": True,
    }


@tool
def get_time(session: VoiceSession, city: str) -> dict[str, Any]:
    """The local time in a city."""
    zone = ZONES.get(plain(city)) or zones_by_city().get(plain(city))
    if zone is None:
        raise ToolError(f"I do not know the city {city.strip()!r:.60}.")
    now = timezone.now().astimezone(ZoneInfo(zone))
    return {"city": city.strip(), "time": f"{now:%H:%M}", "day": f"{now:%A}", "time_zone": zone}


@tool(writes=True)
def book_table(run: ToolRun, people: int, day: date, time: time, name: str = "") -> dict[str, Any]:
    """Books a table. The time is the restaurant's."""
    at = datetime.combine(day, time.replace(second=0, microsecond=0, tzinfo=timezone.get_default_timezone()))
    if not 1 <= people <= MAX_PEOPLE:
        raise ToolError(f"A table is for 1 to {MAX_PEOPLE} people.")
    if not OPENS <= at.time() <= LAST_BOOKING:
        raise ToolError(f"Tables can be booked from {OPENS:%H:%M} to {LAST_BOOKING:%H:%M}.")
    if at <= timezone.now():
        raise ToolError("That time has passed already.")
    if at.date() > timezone.localdate() + MAX_AHEAD:
        raise ToolError("Tables can be booked for up to a year ahead.")
    booking = Booking.objects.create(
        session_id=run.session_id,
        tool_call_id=run.tool_call_id,
        people=people,
        at=at,
        name=redact_text(name.strip())[:100],
    )
    return {"reference": booking.reference, "people": people, "day": f"{at:%Y-%m-%d}", "time": f"{at:%H:%M}"}


@tool(writes=True)
def cancel_booking(session: VoiceSession, reference: str) -> dict[str, Any]:
    """Cancels a table that this caller has booked."""
    # As spoken or spelt: "B1007", "b 1007", "1007".
    number = "".join(character for character in reference if character.isdecimal())
    booking = None
    if 4 <= len(number) <= 9:
        booking = Booking.objects.filter(
            pk=int(number) - Booking.FIRST_REFERENCE, session__visitor=session.visitor
        ).first()
    if booking is None:
        raise ToolError(f"I find no booking {reference!r:.40} of yours.")
    booking.cancel(timezone.now())
    return {"reference": booking.reference, "cancelled": True}


def plain(city: str) -> str:
    """A city's name as a key: no accents, no capitals, nothing around it."""
    letters = unicodedata.normalize("NFKD", city.casefold())
    kept = "".join(
        letter if letter.isalnum() else " " for letter in letters if not unicodedata.combining(letter)
    )
    return " ".join(kept.split())


@cache
def zones_by_city() -> dict[str, str]:
    """Last parts of the time zones' names: "America/New_York" knows the time in New York."""
    zones = sorted(zone for zone in available_timezones() if not zone.startswith("Etc/"))
    return {plain(zone.rpartition("/")[2]): zone for zone in reversed(zones)}
