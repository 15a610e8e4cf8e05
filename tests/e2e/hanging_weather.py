"""Settings of a site as shipped, with one more app: its weather comes from a service that never answers."""

from threading import Event
from typing import Any

from django.apps import AppConfig

from voicedemo.settings import *  # noqa: F403  settings of Django are made so
from voicedemo.settings import INSTALLED_APPS as SHIPPED_APPS


class HangingWeather(AppConfig):
    name = "tests.e2e.hanging_weather"

    def ready(self) -> None:
        # Models can only be imported from here on.
        from sessions_app.models import VoiceSession
        from sessions_app.tools import tool

        @tool
        def get_weather(session: VoiceSession, city: str) -> dict[str, Any]:
            """The weather in a city, one day."""
            Event().wait()
            return {"city": city}


INSTALLED_APPS = [*SHIPPED_APPS, "tests.e2e.hanging_weather.HangingWeather"]
