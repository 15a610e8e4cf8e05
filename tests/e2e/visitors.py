"""Visitors' browser profiles: opened for a test, watched, and closed with traces of what went wrong."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from tests.e2e.caller import FAKE_DEVICES, give_ears, give_voice
from tests.e2e.servers import ROOT, Server

RESULTS = ROOT / "test-results"

Launch = Callable[..., Browser]


class Watch:
    """Collects what pages say on the console, and fails the test for errors that it did not announce."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.allowed: list[str] = []

    def allow(self, pattern: str) -> None:
        """Chromium itself reports failed requests as console errors: name the ones that the test provokes."""
        self.allowed.append(pattern)

    def page(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error.stack or error}"))

    def _console(self, message: ConsoleMessage) -> None:
        where = message.location.get("url", "")
        line = f"{message.type}: {message.text} ({where})"
        self.lines.append(line)
        if message.type == "error":
            self.errors.append(line)

    def verdict(self) -> list[str]:
        return [line for line in self.errors if not any(re.search(p, line) for p in self.allowed)]


class Visitors:
    """The browser profiles of one test, or of those pages of a module that are open all the while."""

    def __init__(self, name: str, launch: Launch, started: list[Server]) -> None:
        self.watch = Watch()
        self._name = name
        self._launch = launch
        self._started = started
        self._contexts: list[BrowserContext] = []

    def new(
        self,
        browser: Browser | None = None,
        *,
        voice: bool = True,
        ears: bool = True,
        script: str = "",
        **options: object,
    ) -> BrowserContext:
        """A visitor's browser profile. voice: a microphone that speaks on cue; ears: keeps the sound."""
        context = (browser or self._launch(*FAKE_DEVICES)).new_context(**options)  # type: ignore[arg-type]
        self._contexts.append(context)
        context.on("page", self.watch.page)
        if voice:
            give_voice(context)
        if ears:
            give_ears(context)
        if script:
            context.add_init_script(script)
        context.tracing.start(snapshots=True)
        return context

    def close(self, *, has_failed: bool) -> None:
        """Raises AssertionError for errors on the console that were not announced. Once is enough."""
        if not self._contexts:
            return
        bad = self.watch.verdict()
        if has_failed or bad:
            self._leave_traces()
        for context in self._contexts:
            context.close()
        self._contexts.clear()
        assert not bad, "errors on the console:\n" + "\n".join(bad)

    def _leave_traces(self) -> None:
        folder = RESULTS / re.sub(r"[^\w-]+", "_", self._name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "console.txt").write_text("\n".join([*self.watch.lines, "", *self.watch.errors]))
        for number, server in enumerate(self._started):
            shutil.copy(server.log, folder / f"{number}-{server.log.name}")
        for i, context in enumerate(self._contexts):
            context.tracing.stop(path=folder / f"trace-{i}.zip")
        for i, context in enumerate(self._contexts):
            for j, page in enumerate(context.pages):
                page.screenshot(path=folder / f"page-{i}-{j}.png", full_page=True)
