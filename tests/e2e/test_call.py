"""A call, heard from both ends."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, expect

from tests.e2e.caller import FAKE_DEVICES, SPEECH, Caller
from tests.e2e.conftest import NewContext
from tests.e2e.ear import falls_silent, likeness
from tests.e2e.servers import Site
from tests.e2e.visitors import Launch

LEAD_IN_S = 12  # the greeting is over by then: the file plays from the moment the microphone opens


def microphone_file(folder: Path) -> Path:
    """A WAV (48 kHz, mono, 16 bit) that Chromium takes for its microphone: quiet, a question, quiet."""
    with wave.open(str(SPEECH / "weather.wav")) as source:
        speech = np.frombuffer(source.readframes(source.getnframes()), "<i2").astype(np.float64)
        ratio = 48000 // source.getframerate()
    upsampled = np.interp(np.arange(len(speech) * ratio) / ratio, np.arange(len(speech)), speech)
    noise = np.random.default_rng(0).normal(0, 20, 48000 * (LEAD_IN_S + 30))
    for start_s in (LEAD_IN_S, LEAD_IN_S + 15):  # once more, should the first be misheard
        noise[48000 * start_s :][: len(upsampled)] += upsampled
    path = folder / "microphone.wav"
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 48000, 0, "NONE", ""))
        out.writeframes(noise.astype("<i2").tobytes())
    return path


def test_whole_call_is_heard_captioned_and_logged(
    launch: Launch, new_context: NewContext, site: Site, staff: Page, tmp_path: Path
) -> None:
    browser = launch(*FAKE_DEVICES, f"--use-file-for-fake-audio-capture={microphone_file(tmp_path)}%noloop")
    caller = Caller(new_context(browser, voice=False).new_page(), site.url)

    caller.call()
    greeting = caller.turn_texts("agent")[0]
    assert likeness(greeting, caller.heard().words()) >= 0.8

    caller.expect_said("caller", "weather.*(paris|pairs)")  # the recogniser is small
    asked_ms = caller.now_ms()
    caller.expect_said("agent", "degrees.*paris")
    answer = caller.turn_texts("agent")[-1]
    assert likeness(answer, caller.heard().since(asked_ms - 1500).words()) >= 0.8

    question = caller.turn_texts("caller")[-1]
    caller.hang_up()

    staff.get_by_role("rowheader", name="Voice sessions").get_by_role("link").click()
    expect(staff.locator("#result_list")).to_contain_text("Concierge")
    staff.locator("#result_list tbody").get_by_role("link").first.click()
    transcript = staff.locator("#transcript")
    for text in (greeting, question, answer):
        expect(transcript).to_contain_text(text)


def test_barge_in_silences_the_agent_and_keeps_only_what_was_heard(caller: Caller) -> None:
    caller.call()
    caller.say("long_question")
    caller.expect_speaking("agent", 2)

    spoken = caller.say("long_question", to_the_end=False)
    caller.expect_silent(spoken.starts)
    silent = falls_silent(caller.heard(), spoken.starts)
    assert silent < spoken.ends, "the agent fell silent only after the caller had finished"

    cut = caller.captions.locator('li[data-role="agent"][data-cut][data-final="true"]').first
    expect(cut).to_be_attached()
    text = cut.locator("[data-text]").inner_text()
    heard = caller.heard().since(0).words()
    assert likeness(text, heard) >= 0.7
    caller.expect_turns("agent", 3)
    whole = caller.turn_texts("agent")[-1]
    assert len(text) < len(whole), "the same question is answered again in full, so the cut answer is shorter"
