"""The product as it is shipped, in a real browser. What fails leaves its traces in test-results/."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    BrowserType,
    Page,
    Playwright,
    sync_playwright,
)

from tests.e2e import browser as chromium
from tests.e2e.caller import FLAGS, Caller
from tests.e2e.lines import Lines
from tests.e2e.media_server import MediaServer, start_media_server
from tests.e2e.provoke import INSECURE, INSECURE_HOST, OWN_DEVICES
from tests.e2e.servers import (
    Sandbox,
    Server,
    Site,
    collect_static,
    open_site,
    site_environment,
    start_sandbox,
    start_site,
)
from tests.e2e.stand_in import StandIn
from tests.e2e.visitors import Launch, Visitors, Watch

failed = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    # The stand-in's agents: livekit itself has let go of some tracks of a room that was joined anew.
    ignored = "Exception ignored in. <function FfiHandle.__del__"
    config.addinivalue_line("markers", "spoken: the sandbox's agent listens, with nothing beside it")
    config.addinivalue_line("filterwarnings", f"ignore:{ignored}:pytest.PytestUnraisableExceptionWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests in which the sandbox's agent listens: with others beside them, it mishears."""
    for item in items:
        if "sandbox" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.spoken)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for node in item.listchain():  # its module, too, for pages that are open all the while
            node.stash[failed] = True
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


# ------------------------------------------------------------------ a platform that fails on request


@pytest.fixture(scope="session")
def media_server(started: list[Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[MediaServer]:
    """The media server of the stand-in's calls. Whoever wants to hurt one takes `own_media_server`."""
    server = start_media_server(tmp_path_factory.mktemp("media"))
    started.append(server)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def own_media_server(
    started: list[Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], MediaServer]]:
    """Starts a media server to be hurt. Pages reach it through gates only."""
    own: list[MediaServer] = []

    def start() -> MediaServer:
        own.append(start_media_server(tmp_path_factory.mktemp("own-media")))
        started.append(own[-1])
        return own[-1]

    yield start
    for server in own:
        server.stop()
        started.remove(server)


@pytest.fixture(scope="session")
def stand_in(media_server: MediaServer) -> Iterator[StandIn]:
    platform = StandIn(media_server)
    platform.start()
    yield platform
    platform.stop()


@pytest.fixture(scope="session")
def stand_in_site(
    started: list[Server], stand_in: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The site of the stand-in's visitors."""
    folder = tmp_path_factory.mktemp("stand-in-site")
    hosts = f"127.0.0.1,{INSECURE_HOST}"
    environ = site_environment(folder, **stand_in.environment(), ALLOWED_HOSTS=hosts, MAX_CALLS="1000")
    collect_static(environ)
    server = open_site(folder, environ)
    started.append(server)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def login_site(
    started: list[Server],
    stand_in: StandIn,
    stand_in_site: Site,  # has collected what browsers load
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """A site of the stand-in with one agent, where calls need an account."""
    folder = tmp_path_factory.mktemp("login-site")
    platform = stand_in.environment()
    one_agent = platform["VATEL_AGENT_IDS"].split(",")[0]
    environ = site_environment(folder, **{**platform, "VATEL_AGENT_IDS": one_agent, "CALL_ACCESS": "login"})
    server = open_site(folder, environ)
    started.append(server)
    yield server
    server.stop()
    started.remove(server)


@pytest.fixture(scope="module")
def account(login_site: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """User name and password of somebody who may call there."""
    return new_account(login_site, tmp_path_factory.mktemp("account"))


@pytest.fixture
def lines(
    request: pytest.FixtureRequest, stand_in: StandIn, stand_in_site: Site, visitors: Visitors, launch: Launch
) -> Iterator[Lines]:
    """Opens lines of the stand-in, and visitors' pages to call them."""
    lines = Lines(stand_in, stand_in_site, visitors, launch(*OWN_DEVICES, INSECURE))
    yield lines
    # First the pages: traces show them before their agents leave.
    try:
        visitors.close(has_failed=request.node.stash.get(failed, False))
    finally:
        lines.close()


@pytest.fixture(scope="module")
def early_lines(
    request: pytest.FixtureRequest,
    launch: Launch,
    started: list[Server],
    stand_in: StandIn,
    stand_in_site: Site,
) -> Iterator[Lines]:
    """The same for calls that take long to fail: begun before the module's first test, judged by its last."""
    visitors = Visitors(f"{request.node.name}-early", launch, started)
    lines = Lines(stand_in, stand_in_site, visitors, launch(*OWN_DEVICES, INSECURE))
    yield lines
    try:
        visitors.close(has_failed=request.node.stash.get(failed, False))
    finally:
        lines.close()


# ------------------------------------------------------------------ browsers


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


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


@pytest.fixture
def visitors(request: pytest.FixtureRequest, launch: Launch, started: list[Server]) -> Iterator[Visitors]:
    visitors = Visitors(request.node.name, launch, started)
    yield visitors
    visitors.close(has_failed=request.node.stash.get(failed, False))


@pytest.fixture
def watch(visitors: Visitors) -> Watch:
    return visitors.watch


NewContext = Callable[..., BrowserContext]


@pytest.fixture
def new_context(visitors: Visitors) -> NewContext:
    """Opens a visitor's browser profile: see `Visitors.new`."""
    return visitors.new


@pytest.fixture
def page(new_context: NewContext) -> Page:
    return new_context().new_page()


@pytest.fixture
def caller(site: Site, page: Page) -> Caller:
    return Caller(page, site.url)


@pytest.fixture(scope="session")
def staff_account(site: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """User name and password of a member of staff."""
    return new_account(site, tmp_path_factory.mktemp("staff"))


def new_account(site: Site, folder: Path) -> tuple[str, str]:
    path = folder / "account.txt"
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
