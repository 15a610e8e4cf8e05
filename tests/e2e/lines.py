"""Visitors who call a line of the stand-in, and what has to be true when a call fails or is in trouble."""

from __future__ import annotations

import re
from typing import Self

from playwright.sync_api import Browser, Page, expect

from tests.e2e import provoke
from tests.e2e.caller import PATIENCE_MS, Caller
from tests.e2e.media_server import MediaServer
from tests.e2e.record import browser_rows, wait_until
from tests.e2e.servers import Site
from tests.e2e.stand_in import Answer, Line, StandIn
from tests.e2e.stand_in_agent import Agent
from tests.e2e.visitors import Visitors

LOUD = 500  # of 32768; a fake microphone's beep is far above it


class LineCaller(Caller):
    """A visitor on the page of one line."""

    def __init__(self, page: Page, url: str, line: Line, site: Site) -> None:
        super().__init__(page, url)
        self.line = line
        self.site = site

    @property
    def agent(self) -> Agent:
        return self.line.agent

    def call(self) -> Self:
        """Open the page, start a call and wait until it is live and the agent has greeted."""
        self.open().start()
        self.expect_live()
        return self

    def expect_live(self) -> None:
        self.expect_state("live")
        self.expect_turns("agent", 1)

    def expect_call_failed(
        self, code: str, sentence: str | re.Pattern[str] = "", *, is_logged: bool = True
    ) -> None:
        """The failure is said in full, nothing is left open, and the log knows of it.

        is_logged: whether the page had a call of the site's by then.
        """
        self.expect_failure(code, sentence)
        self.expect_nothing_open()
        if is_logged:
            self.expect_logged("call_failed", code=code)

    def expect_nothing_open(self) -> None:
        """Nobody of this line's callers is in a room, and the page holds no microphone and no connection."""
        wait_until(self.page, lambda: self.line.callers() == [], "LiveKit has seen the caller go")
        for _ in range(50):
            if (left := self.page.evaluate(provoke.LEFT_OPEN)) == []:
                break
            self.page.wait_for_timeout(100)
        assert left == [], "the page lets go of all"

    def expect_logged(self, kind: str, *, session: str = "", **data: object) -> None:
        """Wait for an entry of the log of a call; if nothing is said, of the one that the page shows."""
        if not session:
            expect(self.main).to_have_attribute("data-session", re.compile("."), timeout=PATIENCE_MS)
            session = self.session

        def is_there() -> bool:
            rows = [row for row in browser_rows(self.site, session) if row.type == kind]
            return any(data.items() <= row.data.items() for row in rows)

        wait_until(self.page, is_there, f"{kind} {data or ''} is in the log")

    def expect_the_button_helps(self) -> None:
        """The failure's one button leads to a call that works."""
        self.way_out.click()
        self.expect_a_call()

    def expect_a_call(self) -> None:
        """The call that is under way becomes one in which both hear each other; then hang up."""
        self.expect_live()
        self.expect_agent_heard()
        self.expect_caller_heard()
        self.hang_up()
        self.expect_nothing_open()

    def expect_agent_heard(self) -> None:
        """Wait until more sound of the agent arrives."""
        before = self.page.evaluate(provoke.HEARS)
        wait_until(
            self.page, lambda: self.page.evaluate(provoke.HEARS) > before + 1e-3, "the agent is heard here"
        )

    def expect_caller_heard(self) -> None:
        """Wait until the agent hears something of the caller that is said from now on."""
        agent = self.agent
        agent.peak = 0
        wait_until(self.page, lambda: agent.peak > LOUD, "the caller is heard there")

    def expect_caller_silent(self) -> None:
        """Wait for 1.5 s of which the agent hears nothing; a fake microphone beeps each second."""
        agent = self.agent

        def is_silent() -> bool:
            agent.peak = 0
            self.page.wait_for_timeout(1500)
            return agent.peak < LOUD

        wait_until(self.page, is_silent, "nothing of the caller is heard there")


class Lines:
    """Opens lines, and visitors' pages to call them."""

    def __init__(self, stand_in: StandIn, site: Site, visitors: Visitors, browser: Browser) -> None:
        self.site = site
        self.visitors = visitors
        self.browser = browser
        """Has microphones; who asks for one is answered by the context's permissions."""
        self._stand_in = stand_in
        self._open: list[Line] = []

    def open(self, *answers: Answer, media: MediaServer | None = None, gated: bool = False) -> Line:
        line = self._stand_in.open_line(*answers, media=media, gated=gated)
        self._open.append(line)
        return line

    def visit(
        self,
        line: Line | None = None,
        *scripts: str,
        browser: Browser | None = None,
        is_granted: bool = True,
        **options: object,
    ) -> LineCaller:
        """A visitor who has not been here before, on no page yet. scripts: run in each of their pages."""
        context = self.visitors.new(
            browser or self.browser,
            voice=False,
            ears=False,
            # The blank page before the first one has no devices.
            script=";\n".join([provoke.WITNESS, "if (navigator.mediaDevices) {", *scripts, "}"]),
            **options,
        )
        if is_granted:
            context.grant_permissions(provoke.PERMISSIONS)
        return self.in_tab(context.new_page(), line or self.open())

    def in_tab(self, page: Page, line: Line) -> LineCaller:
        return LineCaller(page, f"{self.site.url}/agents/{line.agent_id}/", line, self.site)

    def close(self) -> None:
        for line in self._open:
            self._stand_in.close_line(line)
