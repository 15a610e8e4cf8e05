"""The site, or the platform behind it, gives no call: said in a sentence, and the next try works."""

from __future__ import annotations

import uuid
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.lines import LineCaller, Lines
from tests.e2e.stand_in import Answer, error
from tests.e2e.visitors import Watch

NETWORK_LOG = r"Failed to load resource: "  # Chromium's own line for an answer that is not 2xx


@pytest.fixture(scope="module", autouse=True)
def slow(early_lines: Lines) -> LineCaller:
    """A caller whose platform takes longer than anybody waits."""
    early_lines.visitors.watch.allow(NETWORK_LOG)
    line = early_lines.open(Answer(after_s=3600), Answer())
    return early_lines.visit(line).open().start()


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("platform_rejected", Answer(status=400, body=error("agent_id: must be a UUID"))),
        ("platform_key_refused", Answer(status=401, body=error("missing or unknown API key"))),
        ("platform_agent_foreign", Answer(status=403, body=error("agent of another organization"))),
        ("platform_agent_unknown", Answer(status=404, body="")),
        ("platform_not_configured", Answer(status=503, body=error("WebRTC is not configured"))),
        ("platform_busy", Answer(status=503, body=error("all lines are busy"))),
        ("platform_failed", Answer(status=500, body="Traceback (most recent call last): Error: eyJ")),
        ("platform_bad_answer", Answer(body="<html>undefined</html>")),
        ("platform_no_token", Answer(change={"webrtc_token": None})),
        ("platform_media_origin", Answer(change={"url": "wss://elsewhere.example"})),
        ("platform_unreachable", Answer(is_hung_up=True)),
    ],
)
def test_platform_that_gives_no_call(code: str, answer: Answer, lines: Lines, watch: Watch) -> None:
    watch.allow(NETWORK_LOG)
    line = lines.open(answer, Answer())
    caller = lines.visit(line).open().start()
    caller.expect_call_failed(code, is_logged=False)
    caller.expect_the_button_helps()


@pytest.mark.parametrize("is_script_there", [True, False], ids=["with its script", "without its script"])
def test_site_that_does_not_answer(is_script_there: bool, lines: Lines, watch: Watch) -> None:
    """site_unreachable: before or after the page has fetched what a call needs."""
    watch.allow(NETWORK_LOG)
    caller = lines.visit().open()
    if is_script_there:
        with caller.page.expect_response("**/vatel-sdk*.js"):
            caller.start_button.hover()
        caller.page.wait_for_load_state("networkidle")
    caller.page.context.set_offline(True)
    caller.start()
    caller.expect_call_failed("site_unreachable", is_logged=False)
    caller.page.context.set_offline(False)
    caller.expect_the_button_helps()


def outdate(page: Page, name: str, value: str) -> None:
    """Make the page one that the site has given out before its settings were changed."""
    page.locator("#talk").evaluate("(main, [name, value]) => { main.dataset[name] = value; }", [name, value])


def expect_reload_helps(caller: LineCaller) -> None:
    with caller.page.expect_navigation():
        caller.way_out.click()
    caller.expect_state("idle")
    caller.start().expect_a_call()


def test_page_whose_cookies_are_gone(lines: Lines, watch: Watch) -> None:
    watch.allow(NETWORK_LOG)
    caller = lines.visit().open()
    caller.page.context.clear_cookies()
    caller.start()
    caller.expect_call_failed("csrf_failed", is_logged=False)
    expect_reload_helps(caller)


def test_page_that_the_site_does_not_understand(lines: Lines, watch: Watch) -> None:
    watch.allow(NETWORK_LOG)
    caller = lines.visit().open()

    def garble(route: Route) -> None:
        route.continue_(post_data='{"agent_id": 7}')

    caller.page.route("**/sessions/", garble)
    caller.start()
    caller.expect_call_failed("bad_request", is_logged=False)
    caller.page.unroute("**/sessions/")
    expect_reload_helps(caller)


def test_page_of_older_terms(lines: Lines, watch: Watch) -> None:
    watch.allow(NETWORK_LOG)
    caller = lines.visit().open()
    outdate(caller.page, "consent", "0123456789ab")
    caller.start()
    caller.expect_call_failed("consent_required", is_logged=False)
    assert caller.line.minted == 0
    expect_reload_helps(caller)


def test_agent_that_is_no_longer_offered(lines: Lines, watch: Watch) -> None:
    watch.allow(NETWORK_LOG)
    caller = lines.visit().open()
    outdate(caller.page, "agentId", str(uuid.UUID(int=999, version=4)))
    caller.start()
    caller.expect_call_failed("unknown_agent", is_logged=False)
    assert caller.line.minted == 0
    caller.way_out.click()
    expect(caller.page.get_by_role("heading", name="Who do you want to talk with?")).to_be_visible()
    caller.page.locator(f'a[href="{urlsplit(caller.url).path}"]').click()
    caller.start().expect_a_call()


def test_platform_that_takes_too_long(slow: LineCaller) -> None:
    slow.expect_call_failed("platform_timeout", is_logged=False)
    slow.expect_the_button_helps()
