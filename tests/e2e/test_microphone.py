"""The microphone: refused, missing, taken, lost in mid-call. Each is said, and each has a way on."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.e2e import provoke
from tests.e2e.lines import Lines
from tests.e2e.record import wait_until
from tests.e2e.stand_in import Answer
from tests.e2e.visitors import Launch, Watch

# ------------------------------------------------------------------ no call without it


def test_page_on_an_insecure_address(lines: Lines, watch: Watch) -> None:
    watch.allow("The Cross-Origin-Opener-Policy header has been ignored")
    caller = lines.visit(is_granted=False)
    safe = caller.url
    caller.url = safe.replace("127.0.0.1", provoke.INSECURE_HOST)
    caller.open().expect_call_failed("insecure_origin", is_logged=False)
    with caller.page.expect_navigation():
        caller.way_out.click()
    caller.expect_call_failed("insecure_origin", is_logged=False)
    assert caller.line.minted == 0
    caller.page.context.grant_permissions(provoke.PERMISSIONS)
    caller.url = safe
    caller.open().start().expect_a_call()


def test_page_whose_policy_forbids_microphones(lines: Lines, watch: Watch) -> None:
    watch.allow("Permissions policy violation: microphone is not allowed")
    # A page that Playwright has answered comes from nowhere, for the browser.
    watch.allow("ERR_BLOCKED_BY_LOCAL_NETWORK_ACCESS_CHECKS")
    caller = lines.visit()
    provoke.add_headers(caller.page.context, "**/agents/*/", {"permissions-policy": "microphone=()"})
    caller.open().start().expect_call_failed("microphone_policy", is_logged=False)
    caller.page.context.unroute_all()
    with caller.page.expect_navigation():
        caller.way_out.click()
    caller.start().expect_a_call()


def test_visitor_who_says_no(lines: Lines) -> None:
    caller = lines.visit().open()
    provoke.set_microphone_permission(lines.browser, caller.page, "prompt")
    caller.start().expect_call_failed("microphone_denied", is_logged=False)
    assert caller.line.minted == 0
    provoke.set_microphone_permission(lines.browser, caller.page, "granted")
    caller.expect_the_button_helps()


def test_visitor_who_has_said_never(lines: Lines) -> None:
    caller = lines.visit().open()
    provoke.set_microphone_permission(lines.browser, caller.page, "denied")
    caller.start().expect_call_failed("microphone_blocked", is_logged=False)
    assert caller.line.minted == 0
    provoke.set_microphone_permission(lines.browser, caller.page, "granted")
    caller.expect_the_button_helps()


def test_computer_without_a_microphone(lines: Lines, launch: Launch) -> None:
    """Here the browser asks for none, so the site has opened a call by the time that none is found."""
    browser = launch(provoke.INSECURE)
    caller = lines.visit(None, provoke.MICROPHONE_TO_PLUG_IN, browser=browser).open().start()
    caller.expect_call_failed("microphone_missing", is_logged=False)
    caller.page.evaluate("() => window.plugIn()")
    caller.expect_the_button_helps()


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        ("microphone_blocked_by_system", "NotAllowedError", "Permission denied by system"),
        ("microphone_busy", "NotReadableError", "Could not start audio source"),
        ("microphone_failed", "UnknownError", "Error: undefined"),
    ],
)
def test_microphone_that_does_not_start(code: str, name: str, message: str, lines: Lines) -> None:
    caller = lines.visit(None, provoke.microphone_fails(name, message, times=1)).open().start()
    caller.expect_call_failed(code, is_logged=False)
    caller.expect_the_button_helps()


def test_prompt_that_nobody_ever_answers(lines: Lines) -> None:
    caller = lines.visit(None, provoke.PROMPT_OPEN, is_granted=False)
    caller.page.clock.install()
    caller.open().start()
    # The page says that it waits for the microphone before it may ask for it: only one tab may.
    is_open = "() => window.isPromptOpen()"
    wait_until(caller.page, lambda: caller.page.evaluate(is_open), "the browser asks")
    caller.expect_state("microphone")
    caller.page.clock.fast_forward(61_000)
    caller.expect_call_failed("microphone_ignored", is_logged=False)
    assert caller.line.minted == 0
    # The answer that comes too late opens a microphone for nobody; the next one is for the next call.
    caller.page.context.grant_permissions(provoke.PERMISSIONS)
    caller.page.evaluate("() => window.answerPrompt()")
    caller.expect_nothing_open()
    caller.expect_the_button_helps()


def test_prompt_out_of_sight(lines: Lines) -> None:
    caller = lines.visit(None, provoke.PROMPT_OPEN, is_granted=False).open().start()
    caller.expect_notice("microphone_unanswered")
    caller.expect_state("microphone")
    expect(caller.hang_up_button).to_be_visible()
    assert caller.line.minted == 0
    caller.page.context.grant_permissions(provoke.PERMISSIONS)
    caller.page.evaluate("() => window.answerPrompt()")
    caller.expect_live()
    caller.expect_no_notice()
    caller.expect_a_call()


def test_hang_up_while_the_prompt_is_open(lines: Lines) -> None:
    caller = lines.visit(None, provoke.PROMPT_OPEN, is_granted=False).open().start()
    caller.expect_state("microphone")
    caller.hang_up()
    caller.page.context.grant_permissions(provoke.PERMISSIONS)
    caller.page.evaluate("() => window.answerPrompt()")
    caller.expect_nothing_open()
    assert caller.page.evaluate("() => witness.tracks.length") == 1
    assert caller.line.minted == 0
    caller.start().expect_a_call()


# ------------------------------------------------------------------ while the call goes on


def test_microphone_that_is_pulled_out_and_put_back(lines: Lines) -> None:
    caller = lines.visit(None, provoke.DEVICES).call()
    caller.expect_caller_heard()
    caller.page.evaluate("() => devices.unplug('default', 'desk')")
    caller.expect_notice("microphone_lost")
    caller.expect_logged("microphone_lost")
    caller.expect_caller_silent()
    caller.page.evaluate("() => devices.plug('audioinput', 'default', 'Default')")
    caller.page.evaluate("() => devices.plug('audioinput', 'desk', 'Desk microphone')")
    caller.notice_button("microphone_lost").click()
    caller.expect_no_notice_of("microphone_lost")
    caller.expect_logged("microphone_restored")
    caller.expect_a_call()


def test_microphone_that_is_forbidden_in_mid_call(lines: Lines) -> None:
    """The browser ends the track for real, as it does when a device goes away: microphone_lost"""
    caller = lines.visit().call()
    provoke.set_microphone_permission(lines.browser, caller.page, "denied")
    caller.expect_notice("microphone_lost")
    provoke.set_microphone_permission(lines.browser, caller.page, "granted")
    caller.notice_button("microphone_lost").click()
    caller.expect_no_notice()
    caller.expect_a_call()


def test_microphone_whose_place_another_one_takes(lines: Lines) -> None:
    caller = lines.visit(None, provoke.DEVICES).call()
    caller.page.evaluate("() => devices.unplug('default')")
    caller.expect_notice("microphone_switched")
    caller.expect_logged("microphone_switched")
    caller.notice_button("microphone_switched").click()
    caller.expect_no_notice()
    caller.expect_a_call()


def test_headset_whose_switch_is_off(lines: Lines) -> None:
    caller = lines.visit(None, provoke.HARDWARE_SWITCH).call()
    caller.page.evaluate("() => switchMicrophone(false)")
    caller.expect_notice("microphone_muted_by_hardware")
    caller.expect_logged("microphone_muted_by_hardware")
    caller.page.evaluate("() => switchMicrophone(true)")
    caller.expect_no_notice()
    caller.expect_logged("microphone_restored")
    caller.expect_a_call()


def test_new_headset_is_offered_used_and_remembered(lines: Lines) -> None:
    caller = lines.visit(lines.open(Answer()), provoke.DEVICES).call()
    caller.page.evaluate("() => devices.plug('audioinput', 'headset', 'Blue headset')")
    caller.expect_notice("microphone_offered", "Blue headset")
    caller.expect_logged("microphone_offered", label="Blue headset")
    caller.notice_button("microphone_offered").click()
    caller.expect_no_notice()
    assert caller.page.evaluate("() => witness.tracks.at(-1).device") == "headset"
    caller.expect_caller_heard()
    caller.hang_up()
    caller.expect_nothing_open()
    caller.start().expect_live()
    assert caller.page.evaluate("() => witness.tracks.at(-1).device") == "headset"
    caller.expect_a_call()


def test_microphone_chosen_in_mid_call(lines: Lines) -> None:
    """microphone_unusable: one that does not start leaves the one before in its place."""
    caller = lines.visit(None, provoke.DEVICES).call()
    caller.page.get_by_role("button", name="Settings").click()
    choice = caller.page.get_by_label("Microphone")
    choice.select_option(label="Desk microphone")
    caller.expect_caller_heard()
    assert caller.page.evaluate("() => witness.tracks.at(-1).device") == "desk"
    caller.page.evaluate("() => void devices.broken.add('default')")
    choice.select_option(index=0)
    caller.page.keyboard.press("Escape")
    caller.expect_notice("microphone_unusable")
    caller.expect_logged("microphone_unusable")
    caller.notice_button("microphone_unusable").click()
    caller.expect_no_notice()
    caller.expect_a_call()


def test_microphone_from_which_no_sound_comes(lines: Lines) -> None:
    caller = lines.visit(None, provoke.SILENT_MICROPHONE).call()
    caller.expect_notice("microphone_silent")
    caller.expect_logged("microphone_silent")
    caller.expect_agent_heard()
    caller.page.evaluate("() => window.unmuteMicrophone()")
    caller.expect_no_notice()
    caller.expect_logged("microphone_heard")
    caller.expect_a_call()
