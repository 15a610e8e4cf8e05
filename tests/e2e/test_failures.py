"""What goes wrong is said in a sentence, nothing is left open, and the next call works."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.e2e.caller import FAKE_DEVICES, Caller
from tests.e2e.conftest import Launch, NewContext, Watch
from tests.e2e.servers import Sandbox, Site

NETWORK_LOG = r"Failed to load resource: "  # Chromium's own line for an answer that is not 2xx


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ({"VATEL_BASE_URL": "http://127.0.0.1:9"}, "voice platform cannot be reached"),
        ({"VATEL_API_KEY": "not-the-key"}, "not set up correctly"),
        ({"VATEL_AGENTS": f"{uuid.UUID(int=9, version=4)}=Nobody"}, "does not know this agent"),
    ],
    ids=["platform down", "wrong key", "unknown agent"],
)
def test_platform_failure_is_said_and_the_page_can_start_again(
    broken: dict[str, str],
    sentence: str,
    another_site: Callable[..., Site],
    new_context: NewContext,
    watch: Watch,
    site: Site,
) -> None:
    watch.allow(NETWORK_LOG)
    caller = Caller(new_context().new_page(), another_site(**broken).url).open().start()
    caller.expect_state("failed")
    expect(caller.alert).to_contain_text(re.compile(sentence, re.IGNORECASE))
    expect(caller.alert).not_to_contain_text(re.compile(r"error:|exception|undefined|\{", re.IGNORECASE))
    caller.page.get_by_role("button", name="Try again").click()
    caller.expect_state("failed")

    caller.url = site.url
    caller.call().hang_up()


def test_denied_microphone_is_said_and_a_call_works_once_it_is_allowed(
    launch: Launch, new_context: NewContext, site: Site
) -> None:
    refusing = launch("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream=deny")
    caller = Caller(new_context(refusing, voice=False).new_page(), site.url).open().start()
    caller.expect_state("failed")
    expect(caller.alert).to_contain_text(re.compile("microphone", re.IGNORECASE))

    Caller(new_context(launch(*FAKE_DEVICES)).new_page(), site.url).call().hang_up()


def test_media_server_gone_in_mid_call_is_said_and_a_new_call_works(
    caller: Caller, sandbox: Sandbox, watch: Watch
) -> None:
    # Chromium's own lines for a signalling server that is not there.
    watch.allow(r"WebSocket connection to .* failed")
    watch.allow(NETWORK_LOG)
    caller.call()
    # Stopped, the sandbox cannot start another media server: it is gone for as long as the page keeps trying.
    whole = sandbox.livekit.parent()
    assert whole is not None
    media = sandbox.livekit
    whole.suspend()
    try:
        media.kill()
        expect(caller.status).to_contain_text(re.compile("reconnecting", re.IGNORECASE), timeout=30_000)
        caller.expect_state("failed", timeout_ms=90_000)
        expect(caller.alert).to_contain_text(re.compile("connection", re.IGNORECASE))
    finally:
        whole.resume()
    expect(caller.page.locator("#remote-audio audio")).to_have_count(0)
    with caller.page.expect_response("**/sessions/") as answer:
        caller.page.get_by_role("button", name="Try again").click()
    for _ in range(20):
        if answer.value.status == 201:
            break
        # The platform needs a moment: until then it says that it is busy, and the page says so too.
        caller.expect_state("failed")
        with caller.page.expect_response("**/sessions/") as answer:
            caller.page.get_by_role("button", name="Try again").click()
    caller.expect_state("live")
    caller.expect_turns("agent", 1)
    caller.hang_up()
