"""The agent's sound: held back by the browser, or played on a speaker that comes and goes."""

from __future__ import annotations

from tests.e2e import provoke
from tests.e2e.lines import Lines

PLAYS = """() => [...document.querySelectorAll("#remote-audio audio")].some((voice) => !voice.paused)"""
SINK = "() => devices.sinks.at(-1)"


def test_sound_that_the_browser_holds_back(lines: Lines) -> None:
    caller = lines.visit(None, provoke.PLAY_BLOCKED).call()
    caller.expect_notice("playback_blocked")
    caller.expect_logged("playback_blocked")
    assert not caller.page.evaluate(PLAYS)
    caller.expect_caller_heard()
    caller.notice_button("playback_blocked").click()
    caller.expect_no_notice()
    caller.expect_logged("playback_allowed")
    assert caller.page.evaluate(PLAYS)
    caller.expect_a_call()


def test_speaker_that_comes_and_goes(lines: Lines) -> None:
    """speaker_offered, then speaker_gone: in between the agent is heard on it."""
    caller = lines.visit(None, provoke.DEVICES).call()
    caller.page.evaluate("() => devices.plug('audiooutput', 'headset', 'Blue headset')")
    caller.expect_notice("speaker_offered", "Blue headset")
    caller.expect_logged("speaker_offered", label="Blue headset")
    caller.notice_button("speaker_offered").click()
    caller.expect_no_notice()
    caller.page.wait_for_function("() => devices.sinks.at(-1) === 'headset'")

    caller.page.evaluate("() => devices.unplug('headset')")
    caller.expect_notice("speaker_gone")
    caller.expect_logged("speaker_gone")
    caller.page.wait_for_function("() => devices.sinks.at(-1) !== 'headset'")
    assert caller.page.evaluate(PLAYS)
    caller.notice_button("speaker_gone").click()
    caller.expect_no_notice()
    caller.expect_a_call()


def test_speaker_that_cannot_be_used(lines: Lines) -> None:
    caller = lines.visit(None, provoke.DEVICES).call()
    caller.page.evaluate("() => void devices.broken.add('boxes')")
    caller.page.get_by_role("button", name="Settings").click()
    caller.page.get_by_label("Speaker").select_option(label="Boxes")
    caller.page.keyboard.press("Escape")
    caller.expect_notice("speaker_unusable")
    caller.expect_logged("speaker_unusable")
    assert caller.page.evaluate(PLAYS)
    caller.notice_button("speaker_unusable").click()
    caller.expect_no_notice()
    caller.expect_a_call()
