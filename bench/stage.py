"""What the benchmarks measure, started: the whole product with a browser, or the site's server alone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.e2e import browser as chromium
from tests.e2e.caller import FAKE_DEVICES, FLAGS
from tests.e2e.servers import Sandbox, Site, open_site, site_environment, start_sandbox, start_site

AGENT = "5a1c0e5e-0000-4000-8000-000000000001"


@dataclass(frozen=True)
class Stage:
    """All that a call needs."""

    sandbox: Sandbox
    site: Site
    browser: Browser


@contextmanager
def stage() -> Iterator[Stage]:
    """Sandbox, site and a browser with a fake microphone. Raises SystemExit when there is no browser."""
    path = chromium.required()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sandbox = start_sandbox(folder)
        stack.callback(sandbox.stop)
        site = start_site(folder / "site", sandbox)
        stack.callback(site.stop)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *FAKE_DEVICES])
        stack.callback(browser.close)
        yield Stage(sandbox, site, browser)


def start_server(folder: Path, **env: str) -> Site:
    """The site's server alone, as shipped, with an empty database in `folder` (or at `DATABASE_URL`).

    There is no platform behind it: sockets, health and admin work, minting and the talk page do not.
    """
    return open_site(folder, server_environment(folder, **env))


def server_environment(folder: Path, **env: str) -> dict[str, str]:
    """The environment of `start_server`."""
    platform = {
        "VATEL_BASE_URL": "http://127.0.0.1:9",  # discard: nothing listens there
        "VATEL_API_KEY": "no-key",
        "VATEL_AGENT_IDS": AGENT,
        "VATEL_MEDIA_ORIGINS": "ws://127.0.0.1:9",
    }
    return site_environment(folder, **{**platform, **env})


@dataclass(frozen=True)
class Visitor:
    """A browser with calls of its own, as after a mint."""

    sessions: list[str]
    """Ids, for /ws/sessions/ID/."""
    cookie: str
    """The value of a Cookie header."""


SEED = """
import json
from uuid import uuid4
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from sessions_app.models import VoiceSession

browser = SessionStore()
browser["visitor"] = uuid4().hex
browser.create()
calls = VoiceSession.objects.bulk_create(
    VoiceSession(visitor=browser["visitor"], agent_id="{agent}", agent_name="Concierge") for _ in range({n})
)
print(json.dumps([str(call.pk) for call in calls]))
print(f"{{settings.SESSION_COOKIE_NAME}}={{browser.session_key}}")
"""


def seed(site: Site, n: int) -> Visitor:
    """Opens `n` calls of one visitor, more than MAX_CALLS allows if need be."""
    # In a process with the site's own environment: Django reads its settings once, and this process may
    # seed several sites, of SQLite and of PostgreSQL.
    said = site.manage("shell", "--verbosity", "0", "--command", SEED.format(agent=AGENT, n=n))
    sessions, cookie = said.splitlines()
    return Visitor(json.loads(sessions), cookie)
