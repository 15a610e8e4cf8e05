"""The product as it is shipped, in a real browser. What fails leaves its traces in test-results/."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    BrowserType,
    ConsoleMessage,
    Page,
    Playwright,
    sync_playwright,
)

from tests.e2e import browser as chromium
from tests.e2e.caller import FAKE_DEVICES, FLAGS, Caller, give_ears, give_voice
from tests.e2e.servers import ROOT, Sandbox, Server, Site, start_sandbox, start_site

RESULTS = ROOT / "test-results"
failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[failed] = True
    return report


# ------------------------------------------------------------------ servers


@pytest.fixture(scope="session")
def started() -> list[Server]:
    """Every server of this run, for the logs of a test that fails."""
    return []


@pytest.fixture(scope="session")
def sandbox(started: list[Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    server = start_sandbox(tmp_path_factory.mktemp("platform"))
    started.append(server)
    yield server
    assert server.stop() == 0, "the sandbox did not end cleanly"


@pytest.fixture(scope="session")
def site(started: list[Server], sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    server = start_site(tmp_path_factory.mktemp("site"), sandbox)
    started.append(server)
    yield server
    server.stop()


@pytest.fixture
def another_site(started: list[Server], sandbox: Sandbox, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Starts a site of the test's own, with other settings."""
    own: list[Site] = []

    def start(**env: str) -> Site:
        own.append(start_site(tmp_path / f"site-{len(own)}", sandbox, **env))
        started.append(own[-1])
        return own[-1]

    yield start
    for server in own:
        server.stop()
        started.remove(server)


# ------------------------------------------------------------------ browsers


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


Launch = Callable[..., Browser]


@pytest.fixture(scope="package")
def launch(playwright: Playwright) -> Iterator[Launch]:
    """Starts a Chromium with flags beyond the usual ones; it lives as long as the package's tests."""
    try:
        path = chromium.required()
    except SystemExit as missing:
        pytest.fail(str(missing), pytrace=False)
    kind: BrowserType = playwright.chromium
    browsers: dict[tuple[str, ...], Browser] = {}

    def start(*flags: str) -> Browser:
        if flags not in browsers:
            browsers[flags] = kind.launch(executable_path=path, args=[*FLAGS, *flags])
        return browsers[flags]

    yield start
    for browser in browsers.values():
        browser.close()


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


@pytest.fixture
def watch() -> Watch:
    return Watch()


NewContext = Callable[..., BrowserContext]


@pytest.fixture
def new_context(
    request: pytest.FixtureRequest, launch: Launch, started: list[Server], site: Site, watch: Watch
) -> Iterator[NewContext]:
    """Opens a visitor's browser profile. voice: a microphone that speaks on cue; ears: keeps the sound."""
    contexts: list[BrowserContext] = []

    def new(
        browser: Browser | None = None, *, voice: bool = True, ears: bool = True, **options: object
    ) -> BrowserContext:
        context = (browser or launch(*FAKE_DEVICES)).new_context(**options)  # type: ignore[arg-type]
        context.on("page", watch.page)
        if voice:
            give_voice(context)
        if ears:
            give_ears(context)
        context.tracing.start(snapshots=True)
        contexts.append(context)
        return context

    yield new
    bad = watch.verdict()
    if request.node.stash.get(failed, False) or bad:
        leave_traces(request.node.name, contexts, started, watch)
    for context in contexts:
        context.close()
    assert not bad, "errors on the console:\n" + "\n".join(bad)


def leave_traces(name: str, contexts: list[BrowserContext], servers: list[Server], watch: Watch) -> None:
    folder = RESULTS / re.sub(r"[^\w-]+", "_", name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "console.txt").write_text("\n".join(watch.lines))
    for number, server in enumerate(servers):
        shutil.copy(server.log, folder / f"{number}-{server.log.name}")
    for i, context in enumerate(contexts):
        context.tracing.stop(path=folder / f"trace-{i}.zip")
    for i, context in enumerate(contexts):
        for j, page in enumerate(context.pages):
            page.screenshot(path=folder / f"page-{i}-{j}.png", full_page=True)


@pytest.fixture
def page(new_context: NewContext) -> Page:
    return new_context().new_page()


@pytest.fixture
def caller(page: Page, site: Site) -> Caller:
    return Caller(page, site.url)


@pytest.fixture(scope="session")
def staff_account(site: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """User name and password of a member of staff."""
    path = tmp_path_factory.mktemp("staff") / "account.txt"
    site.manage("staff_account", "--file", str(path))
    found = dict(line.split(": ", 1) for line in path.read_text().strip().splitlines())
    return found["user"], found["password"]


@pytest.fixture
def staff(new_context: NewContext, site: Site, staff_account: tuple[str, str]) -> Page:
    """A page in which a member of staff has logged in by the admin's form."""
    page = new_context(voice=False, ears=False).new_page()
    page.goto(f"{site.url}/admin/")
    page.get_by_label("Username").fill(staff_account[0])
    page.get_by_label("Password").fill(staff_account[1])
    page.get_by_role("button", name="Log in").click()
    return page
