"""What people do to a page that calls: leave it, come back, open it twice, click twice, close the lid."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e import provoke
from tests.e2e.lines import LineCaller, Lines
from tests.e2e.record import wait_until
from tests.e2e.stand_in import Answer
from tests.e2e.visitors import Watch

ROOMS = "() => witness.rooms"
HANG_UP = """() => {
  document.querySelector("#hang-up").click();
  return document.querySelector("#talk").dataset.state;
}"""
"""The state right after the click: nothing is waited for."""

BROKEN_ONCE = """
  if (!sessionStorage.getItem("was-broken")) {
    sessionStorage.setItem("was-broken", "yes");
    navigator.locks.request = async () => { throw new TypeError("undefined is not a function"); };
  }
"""
"""What no code foresees, in the first page that is loaded."""


def second_tab(lines: Lines, caller: LineCaller) -> LineCaller:
    return lines.in_tab(caller.page.context.new_page(), lines.open()).open()


def test_call_in_another_tab(lines: Lines) -> None:
    """call_elsewhere, then moved_to_another_tab: one of two tabs talks, and the visitor says which."""
    first = lines.visit().call()
    second = second_tab(lines, first)
    second.start().expect_call_failed("call_elsewhere", is_logged=False)
    assert second.line.minted == 0
    first.expect_agent_heard()

    second.way_out.click()
    second.expect_live()
    first.expect_call_failed("moved_to_another_tab")
    second.expect_agent_heard()

    first.way_out.click()
    first.expect_failure("call_elsewhere")
    second.expect_a_call()
    first.way_out.click()
    first.expect_a_call()


def leave_and_come_back(page: Page) -> None:
    page.goto("about:blank")
    page.go_back()


@pytest.mark.parametrize(
    "leave", [lambda page: page.reload(), leave_and_come_back], ids=["reloaded", "left and found again"]
)
def test_page_that_was_left_in_mid_call(leave: Callable[[Page], None], lines: Lines) -> None:
    """page_left, said on return; the call itself ended at once."""
    caller = lines.visit().call()
    session = caller.session
    leave(caller.page)
    caller.expect_failure("page_left")
    caller.expect_nothing_open()
    caller.expect_logged("hang_up", session=session, by="page_closed")
    caller.expect_the_button_helps()
    caller.page.reload()
    caller.expect_state("idle")


def test_page_that_the_device_has_put_to_sleep(lines: Lines) -> None:
    caller = lines.visit().call()
    provoke.freeze(caller.page)
    caller.expect_call_failed("page_asleep")
    caller.expect_the_button_helps()


def test_laptop_whose_lid_was_closed(lines: Lines) -> None:
    """page_asleep: the log has the nap; a call that outlives it goes on, else it is told why it ended."""
    caller = lines.visit()
    caller.page.clock.install()
    caller.call()
    caller.page.clock.fast_forward(60_000)
    caller.expect_logged("page_asleep")
    caller.expect_no_notice()
    caller.expect_agent_heard()

    def is_removed() -> bool:
        # LiveKit's own timers jumped, too: its client may be on its way back in, past one removal.
        if caller.line.callers():
            caller.line.remove_caller()
        return caller.main.get_attribute("data-state") == "failed"

    wait_until(caller.page, is_removed, "the caller is out of the room for good")
    caller.expect_call_failed("page_asleep")
    caller.expect_the_button_helps()


def test_page_that_breaks(lines: Lines, watch: Watch) -> None:
    watch.allow("The call failed")
    caller = lines.visit(None, BROKEN_ONCE).open().start()
    caller.expect_call_failed("page_error", is_logged=False)
    with caller.page.expect_navigation():
        caller.way_out.click()
    caller.expect_state("idle")
    caller.start().expect_a_call()


def test_double_click_on_start_makes_one_call(lines: Lines) -> None:
    caller = lines.visit().open()
    caller.start_button.dblclick()
    caller.expect_live()
    assert caller.line.minted == 1
    assert caller.page.evaluate(ROOMS) == 1
    caller.expect_a_call()


@pytest.mark.parametrize("where", ["the site", "the media server"])
def test_hang_up_while_connecting_leaves_nothing_open(where: str, lines: Lines, watch: Watch) -> None:
    watch.allow("WebSocket connection to .* failed")
    line = lines.open(Answer(after_s=2 if where == "the site" else 0), Answer(), gated=True)
    assert line.gate
    caller = lines.visit(line).open()
    if where == "the media server":
        line.gate.mode = "silent"
    caller.start().expect_state("connecting")
    expect(caller.hang_up_button).to_be_visible()
    assert caller.page.evaluate(HANG_UP) == "ended"
    line.gate.mode = "pass"
    # The credential that nobody wants any more is handed back.
    wait_until(caller.page, lambda: line.minted == 1, "the platform has answered")
    caller.expect_logged("hang_up", by="caller")
    caller.expect_nothing_open()
    caller.start().expect_a_call()
