"""Who may call, and how often: each refusal has its own sentence, and ends when its reason does."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.e2e.lines import LineCaller, Lines
from tests.e2e.provoke import INSECURE, OWN_DEVICES
from tests.e2e.servers import Server, Site, collect_static, open_site, site_environment
from tests.e2e.stand_in import Answer, StandIn
from tests.e2e.visitors import Launch, Visitors

NO_LIMIT = {
    f"MAX_{what}{of}": "1000" for what in ("CALLS", "STARTS") for of in ("", "_PER_VISITOR", "_PER_ADDRESS")
}
NETWORK_LOG = r"Failed to load resource: "
WAIT = re.compile(r"[Tt]ry again in \d+ (second|minute|hour)s?\.|[Tt]ry again in an hour")


@pytest.fixture(scope="module")
def own_site(
    started: list[Server], stand_in: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Behind a proxy, so that a visitor's address is what the test says; the limits are each test's own."""
    folder = tmp_path_factory.mktemp("limited-site")
    environ = site_environment(folder, **stand_in.environment(), **NO_LIMIT, TRUST_PROXY="1")
    collect_static(environ)
    server = open_site(folder, environ)
    started.append(server)
    yield server
    server.stop()
    started.remove(server)


Limited = Callable[..., Lines]


@pytest.fixture
def limited(stand_in: StandIn, own_site: Site, visitors: Visitors, launch: Launch) -> Iterator[Limited]:
    """Lines of a site with these limits, which has had no starts in the last hour."""
    visitors.watch.allow(NETWORK_LOG)
    lines = Lines(stand_in, own_site, visitors, launch(*OWN_DEVICES, INSECURE))

    def limit(**env: str) -> Lines:
        own_site.end()
        forget_starts(own_site)
        own_site.env |= {**NO_LIMIT, "CALL_ACCESS": "public", **env}
        own_site.start()
        return lines

    yield limit
    lines.close()


def forget_starts(site: Site) -> None:
    """An hour passes for all calls so far."""
    with closing(sqlite3.connect(site.env["DATABASE_PATH"])) as database:
        database.execute("UPDATE sessions_app_voicesession SET created_at = datetime(created_at, '-2 hours')")
        database.commit()


def visit_from(lines: Lines, address: str, *answers: Answer) -> LineCaller:
    headers = {"X-Forwarded-For": address}
    return lines.visit(lines.open(*answers), extra_http_headers=headers).open()


@pytest.mark.parametrize(
    ("code", "limit", "is_same_visitor", "address"),
    [
        ("too_many_calls", "MAX_CALLS", False, "192.0.2.2"),
        ("too_many_calls_of_visitor", "MAX_CALLS_PER_VISITOR", True, "192.0.2.2"),
        ("too_many_calls_of_address", "MAX_CALLS_PER_ADDRESS", False, "192.0.2.1"),
    ],
)
def test_call_beside_too_many_others(
    code: str, limit: str, is_same_visitor: bool, address: str, limited: Limited
) -> None:
    lines = limited(**{limit: "1"})
    first = visit_from(lines, "192.0.2.1")
    first.start().expect_live()
    second = visit_from(lines, address)
    if is_same_visitor:
        second.page.context.add_cookies(first.page.context.cookies())  # type: ignore[arg-type]
        second.open()
    second.start().expect_call_failed(code, is_logged=False)
    assert second.line.minted == 0
    first.expect_agent_heard()
    first.hang_up()
    first.expect_logged("hang_up")
    second.expect_the_button_helps()


@pytest.mark.parametrize(
    ("code", "limit", "is_same_visitor", "address"),
    [
        ("too_many_starts", "MAX_STARTS", False, "192.0.2.2"),
        ("too_many_starts_of_visitor", "MAX_STARTS_PER_VISITOR", True, "192.0.2.2"),
        ("too_many_starts_of_address", "MAX_STARTS_PER_ADDRESS", False, "192.0.2.1"),
    ],
)
def test_call_after_too_many_others(
    code: str, limit: str, is_same_visitor: bool, address: str, limited: Limited
) -> None:
    lines = limited(**{limit: "1"})
    first = visit_from(lines, "192.0.2.1", Answer(status=500))
    first.start().expect_failure("platform_failed")
    second = visit_from(lines, address)
    if is_same_visitor:
        second.page.context.add_cookies(first.page.context.cookies())  # type: ignore[arg-type]
        second.open()
    second.start().expect_call_failed(code, WAIT, is_logged=False)
    assert second.line.minted == 0
    second.way_out.click()
    second.expect_call_failed(code, WAIT, is_logged=False)
    forget_starts(lines.site)
    second.expect_the_button_helps()


def test_visitor_who_is_logged_in_no_more(limited: Limited, tmp_path_factory: pytest.TempPathFactory) -> None:
    """login_required"""
    lines = limited(CALL_ACCESS="login")
    account = tmp_path_factory.mktemp("account") / "account.txt"
    lines.site.manage("staff_account", "--file", str(account))
    user, password = (line.split(": ", 1)[1] for line in account.read_text().strip().splitlines()[-2:])

    def log_in(caller: LineCaller) -> None:
        caller.page.get_by_label("Username").fill(user)
        caller.page.get_by_label("Password").fill(password)
        caller.page.get_by_role("button", name="Log in").click()
        caller.expect_state("idle")

    caller = visit_from(lines, "192.0.2.1")
    log_in(caller)
    caller.page.context.clear_cookies(name="sessionid")
    caller.start().expect_call_failed("login_required", is_logged=False)
    assert caller.line.minted == 0
    caller.way_out.click()
    log_in(caller)
    caller.start().expect_a_call()
