"""What is wrong with how a page looks, and for whom: axe's rules, and what axe does not measure."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, ViewportSize

from tests.e2e.servers import ROOT

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SMALL_PHONE: ViewportSize = {"width": 320, "height": 640}
PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
LAPTOP: ViewportSize = {"width": 1366, "height": 620}
"""What a browser leaves of a small one's 768 lines."""
DESKTOP_AT_200_PERCENT: ViewportSize = {"width": 640, "height": 400}
"""What a zoom does to a page: it has half the CSS pixels."""

RUN_AXE = "tags => axe.run(document, {runOnly: tags, resultTypes: ['violations']})"


class Eye:
    """Looks at pages in one state after the other, and keeps what it finds."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.seen: list[str] = []

    def look(self, state: str, page: Page) -> None:
        """Everything below, in light and dark, from a small phone to a desktop and zoomed."""
        self.glance(state, page)
        self.note(state, page.evaluate("() => eye.unfocused()"))
        self.note(f"{state}, dark", axe(page, "dark"))
        page.set_viewport_size(LAPTOP)
        self.note(f"{state}, light", axe(page, "light"))
        page.emulate_media(forced_colors="active")
        self.note(f"{state}, forced colours", page.evaluate("() => eye.edgeless()"))
        page.emulate_media(forced_colors="none")

    def glance(self, state: str, page: Page) -> None:
        """What the page's size alone can spoil; and that what a laptop shows, the others show."""
        self.seen.append(state)
        prepare(page)
        everything: list[str] = []
        for size in (LAPTOP, DESKTOP_AT_200_PERCENT, SMALL_PHONE):
            page.set_viewport_size(size)
            where = f"{state}, {size['width']}x{size['height']}"
            for measure, found in page.evaluate("() => eye.look()").items():
                self.note(f"{where}, {measure}", found)
            said = page.evaluate("() => eye.said()")
            everything = everything or said
            self.note(f"{where}, lost", [text for text in everything if text not in said])

    def note(self, where: str, what: list[str]) -> None:
        self.found += [f"{where}: {one}" for one in what]


def axe(page: Page, scheme: Any) -> list[str]:
    """What axe finds in this colour scheme, a line for each element."""
    page.emulate_media(color_scheme=scheme)
    result = page.evaluate(RUN_AXE, TAGS)
    return [
        f"{violation['id']}: {violation['help']}: {' '.join(map(str, node['target']))}: "
        + re.sub(r"\s+", " ", node["failureSummary"])
        for violation in result["violations"]
        for node in violation["nodes"]
    ]


def prepare(page: Page) -> None:
    """Bring what looks into the page; by the debugger, as its policy forbids foreign scripts."""
    if not page.evaluate("() => 'eye' in window"):
        page.evaluate(source(ROOT / "node_modules" / "axe-core" / "axe.min.js"))
        page.evaluate(source(Path(__file__).with_name("eye.js")))


@functools.cache
def source(path: Path) -> str:
    # As the body of a function, for an expression's value would be brought back.
    return f"() => {{{path.read_text()}}}"
