"""The pages as people see them: phone and desktop, light and dark. `make pictures` puts some into docs/."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.sync_api import Page, ViewportSize

from tests.e2e.caller import Caller
from tests.e2e.conftest import NewContext
from tests.e2e.servers import ROOT, Site

PICTURES = ROOT / "build" / "pictures"
SCREENS: dict[str, ViewportSize] = {
    "phone": {"width": 390, "height": 844},
    "desktop": {"width": 1280, "height": 800},
}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def take(page: Page, name: str) -> None:
    """Keep a picture of each screen size in light and dark; nothing may run out of the page sideways."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for screen, size in SCREENS.items():
        page.set_viewport_size(size)
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            # The admin fades from one scheme into the other.
            page.screenshot(path=PICTURES / f"{name}-{screen}-{scheme}.png", animations="disabled")
        wide = page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{name} is {wide} px wider than a {screen}"


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
    session = caller.main.get_attribute("data-session") or ""
    caller.hang_up()
    take(caller.page, "talk-ended")
    return session


def test_pages_fit_phones_and_desktops(session: str, staff: Page, site: Site) -> None:
    staff.goto(f"{site.url}/admin/sessions_app/voicesession/{session}/change/")
    staff.get_by_role("button", name="Compare").click()
    take(staff, "admin-transcript")
    staff.goto(f"{site.url}/admin/sessions_app/voicesession/")
    take(staff, "admin-sessions")
