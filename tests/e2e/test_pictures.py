"""The pages as people see them. `make screenshots` keeps pictures of every state, in build/pictures/."""

from __future__ import annotations

import os
import re
from itertools import chain
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from tests.e2e import tour
from tests.e2e.caller import Caller
from tests.e2e.conftest import NewContext
from tests.e2e.eye import DESKTOP, PHONE, SMALL_PHONE
from tests.e2e.lines import Lines
from tests.e2e.servers import Site
from tests.e2e.visitors import Watch

PICTURES = os.environ.get("PICTURES", "")
"""The folder to put them into. Without it nothing is kept: what stays is that nothing runs out of a page."""
SCREENS: dict[str, ViewportSize] = {"phone": PHONE, "small-phone": SMALL_PHONE, "desktop": DESKTOP}
HEIGHT = "() => document.documentElement.scrollHeight"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

every_state = pytest.mark.skipif(
    not PICTURES, reason="for `make screenshots`; test_access.py looks at each state"
)


def take(page: Page, name: str) -> None:
    """Keep a picture of each screen size in light and dark; nothing may run out of the page sideways."""
    for screen, size in SCREENS.items():
        page.set_viewport_size(size)
        if PICTURES:
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                keep(page, f"{name}-{screen}-{scheme}")
        wide = page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{name} is {wide} px wider than a {screen}"


def take_whole(page: Page, name: str) -> None:
    """Keep a picture of all that is on a page, for the documents."""
    if PICTURES:
        page.set_viewport_size({"width": 1280, "height": page.evaluate(HEIGHT)})
        page.emulate_media(color_scheme="light")
        keep(page, name)


def keep(page: Page, name: str) -> None:
    Path(PICTURES).mkdir(parents=True, exist_ok=True)
    # The admin fades from one scheme into the other.
    page.screenshot(path=Path(PICTURES) / f"{name}.png", animations="disabled")


def file_name(state: str) -> str:
    return re.sub(r"\W+", "-", state).strip("-")


@every_state
def test_pictures_of_a_call(lines: Lines, watch: Watch) -> None:
    watch.allow(r"WebSocket connection to .* failed")
    watch.allow(r"Failed to load resource: ")
    for number, (state, page) in enumerate(tour.first_call(lines), 1):
        take(page, f"call-{number:02}-{file_name(state)}")


@every_state
def test_pictures_of_other_pages(
    lines: Lines, login_site: Site, account: tuple[str, str], watch: Watch
) -> None:
    watch.allow(r"Failed to load resource: ")
    for state, page in chain(tour.other_pages(lines), tour.failures(lines, login_site, account)):
        take(page, f"other-{file_name(state)}")


@every_state
def test_pictures_of_the_catalogue(lines: Lines) -> None:
    looks: tuple[tuple[Literal["light", "dark"], ViewportSize], ...] = (
        ("light", SMALL_PHONE),
        ("dark", DESKTOP),
    )
    for state, page in tour.catalogue(lines):
        for scheme, size in looks:
            page.set_viewport_size(size)
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            keep(page, f"{file_name(state)}-{scheme}")


@pytest.fixture
def session(new_context: NewContext, site: Site) -> str:
    """A finished call with a tool of each kind; pictures are taken on the way."""
    caller = Caller(new_context().new_page(), site.url).open()
    take(caller.page, "talk-idle")
    caller.start()
    caller.expect_state("live")
    caller.expect_turns("agent", 1)
    caller.ask("hello")
    caller.ask("weather", until="paris")
    take(caller.page, "talk-live")
    caller.ask("list")
    take(caller.page, "talk-list")
    session = caller.session
    caller.hang_up()
    take(caller.page, "talk-ended")
    return session


def test_pages_fit_phones_and_desktops(session: str, staff: Page, site: Site) -> None:
    staff.goto(f"{site.url}/admin/sessions_app/voicesession/{session}/change/")
    staff.get_by_role("button", name="Compare").click()
    take(staff, "admin-transcript")
    take_whole(staff, "admin-transcript-whole")
    calls = f"{site.url}/admin/sessions_app/voicesession/"
    staff.goto(calls)
    take(staff, "admin-sessions")
    staff.goto(f"{calls}?q=paris")
    take(staff, "admin-search")
    site.manage("seed_calls", "--sessions", "300", "--events", "6000", "--seed", "5", "--add")
    staff.goto(f"{calls}overview/")
    expect(staff.locator(".uplot").first).to_be_visible()
    take(staff, "admin-overview")
