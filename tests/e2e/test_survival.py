"""The site's server goes away in mid-call and comes back: neither the call nor its log notices."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from playwright.sync_api import Error, expect

from tests.e2e.caller import PATIENCE_MS, Caller
from tests.e2e.conftest import NewContext
from tests.e2e.ear import likeness
from tests.e2e.record import browser_rows, expect_whole, prove, session_state, texts, unsent, wait_until
from tests.e2e.servers import Site
from tests.e2e.visitors import Watch


@pytest.fixture
def own_site(another_site: Callable[..., Site], watch: Watch) -> Site:
    """A site of the test's own, to be killed, which is asked in vain for the weather."""
    # Chromium's own line for a server that is not there.
    watch.allow(r"WebSocket connection to '.*/ws/sessions/.*' failed")
    return another_site(DJANGO_SETTINGS_MODULE="tests.e2e.hanging_weather")


@pytest.fixture
def caller(new_context: NewContext, own_site: Site) -> Caller:
    caller = Caller(new_context().new_page(), own_site.url).call()
    caller.watch_troubles()
    return caller


def expect_logged(caller: Caller, site: Site, kind: str) -> None:
    wait_until(
        caller.page,
        lambda: kind in [row.type for row in browser_rows(site, caller.session)],
        f"a {kind} is in the log",
    )


def test_killed_server_stops_neither_the_call_nor_its_log(caller: Caller, own_site: Site) -> None:
    asked = caller.say("long_question")
    caller.expect_speaking("agent", 2)
    own_site.release_port()
    own_site.end(signal.SIGKILL)
    logged = len(browser_rows(own_site, caller.session))
    caller.expect_turns("agent", 2)
    answer = caller.turn_texts("agent")[1]
    assert likeness(answer, caller.heard().since(asked.ends).words()) >= 0.8
    assert answer not in texts(browser_rows(own_site, caller.session), "agent")
    own_site.start()
    wait_until(
        caller.page,
        lambda: answer in texts(browser_rows(own_site, caller.session)[logged:], "agent"),
        "the page brings what was said meanwhile",
    )

    caller.ask_for("get_weather", "weather")
    expect_logged(caller, own_site, "tool_call")
    own_site.end(signal.SIGKILL)
    own_site.start()
    # Nobody knows any more whether the tool was carried out; the agent is told so, and tells the caller.
    expect(caller.tool("get_weather", "failed")).to_be_attached(timeout=PATIENCE_MS)
    replies = caller.turns("agent").count()
    failed_ms = caller.now_ms()
    caller.expect_audible(failed_ms)
    caller.expect_turns("agent", replies + 1)

    caller.ask("time", until="tokyo")
    assert caller.troubles() == []
    caller.hang_up()
    expect_whole(caller, own_site)
    assert prove(caller.page, own_site, caller.session) == ("complete", 0, 0)


def test_restarted_server_answers_for_its_tool_and_misses_nothing(caller: Caller, own_site: Site) -> None:
    caller.ask_for("get_weather", "weather")
    expect_logged(caller, own_site, "tool_call")
    replies = caller.turns("agent").count()
    own_site.release_port()
    assert own_site.end(signal.SIGTERM) == 0
    interrupted = caller.tool("get_weather", "failed")
    expect(interrupted).to_contain_text("get_weather was interrupted.")
    caller.expect_turns("agent", replies + 1)
    assert "interrupted" in caller.turn_texts("agent")[replies]

    # It stays away for so long that the caller should know.
    expect(caller.standing).to_have_text(
        "The transcript is being kept on this device until the site takes it.", timeout=PATIENCE_MS
    )
    caller.ask("hello")
    own_site.start()
    expect(caller.standing).to_be_hidden(timeout=PATIENCE_MS)
    caller.ask("time", until="tokyo")
    assert caller.troubles() == []
    caller.hang_up()
    expect_whole(caller, own_site)
    assert prove(caller.page, own_site, caller.session) == ("complete", 0, 0)


def test_page_reloaded_while_the_server_is_away_brings_its_leftovers(
    caller: Caller, own_site: Site, watch: Watch
) -> None:
    watch.allow(r"Failed to load resource: net::ERR_CONNECTION_REFUSED")
    session = caller.session
    caller.say("long_question")
    caller.expect_speaking("agent", 2)
    own_site.release_port()
    own_site.end(signal.SIGKILL)
    logged = len(browser_rows(own_site, session))
    with pytest.raises(Error, match="ERR_CONNECTION_REFUSED"):
        caller.page.reload()
    caller.page.wait_for_url("chrome-error://**")  # the browser's own page, in the same tab
    own_site.start()
    caller.open()
    wait_until(
        caller.page,
        lambda: session_state(own_site, session) == ("ended", "hang_up"),
        "the call that the reload has ended is over for the log, too",
    )
    rows = browser_rows(own_site, session)
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    assert [row.data.get("cut_by") for row in rows[logged:] if row.type == "response_text"] == ["page_closed"]
    assert (rows[-1].type, rows[-1].data) == ("hang_up", {"by": "page_closed"})
    wait_until(caller.page, lambda: unsent(caller.page) == [], "nothing is left over")

    caller.call().hang_up()
    expect_whole(caller, own_site)
