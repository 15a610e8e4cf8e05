"""The agent: never there, there without a voice, gone without a goodbye, or with one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from playwright.sync_api import expect

from tests.e2e.lines import LineCaller, Lines
from tests.e2e.stand_in import Answer


@dataclass
class Slow:
    """Calls begun before the first test: an agent is given some time to come and to speak."""

    absent: LineCaller
    silent: LineCaller


@pytest.fixture(scope="module", autouse=True)
def slow(early_lines: Lines) -> Slow:
    absent = early_lines.visit(early_lines.open(Answer(has_agent=False), Answer())).open().start()
    mute = Answer(voice="none", greets=False)
    silent = early_lines.visit(early_lines.open(mute, Answer())).open().start()
    return Slow(absent, silent)


def test_agent_that_speaks_without_a_sound(lines: Lines) -> None:
    caller = lines.visit(lines.open(Answer(voice="silence"))).call()
    for word in range(1, 9):
        text = "word " * word
        caller.line.do(caller.agent.tell("response_text", text=text, turn_id="2", is_final=False))
    caller.expect_notice("agent_unheard")
    caller.expect_logged("agent_unheard")
    caller.expect_caller_heard()
    caller.agent.is_loud = True
    caller.expect_no_notice()
    caller.expect_logged("agent_heard")
    caller.expect_a_call()


def test_agent_that_leaves_without_a_goodbye(lines: Lines) -> None:
    caller = lines.visit().call()
    caller.line.do(caller.agent.leave())
    caller.expect_call_failed("agent_left")
    expect(caller.captions).to_contain_text("Hello, this is the line.")
    caller.expect_the_button_helps()


@pytest.mark.parametrize("leaves", [True, False], ids=["and leaves", "and stays"])
def test_agent_that_ends_the_call(leaves: bool, lines: Lines) -> None:
    caller = lines.visit().call()
    caller.line.do(caller.agent.tell("session_ended"))
    if leaves:
        caller.line.do(caller.agent.leave())
    caller.expect_state("ended")
    expect(caller.alert).to_be_hidden()
    caller.expect_plain()
    caller.expect_nothing_open()
    caller.expect_logged("session_ended")
    caller.start().expect_a_call()


def test_messages_that_nobody_understands_change_nothing(lines: Lines) -> None:
    caller = lines.visit().call()
    for text in ("", "null", "[1, 2]", "no JSON at all", '{"type": 5}', '{"type": "tool_call", "data": {}}'):
        caller.line.do(caller.agent.say(text))
    caller.line.do(caller.agent.tell("response_text", text="Still here.", turn_id="2"))
    caller.expect_said("agent", "Still here")
    caller.expect_plain()
    caller.expect_no_notice()
    caller.expect_a_call()


# ------------------------------------------------------------------ what takes its time


def test_agent_that_never_comes(slow: Slow) -> None:
    slow.absent.expect_call_failed("agent_absent")
    slow.absent.expect_the_button_helps()


def test_agent_that_comes_without_a_voice(slow: Slow) -> None:
    slow.silent.expect_call_failed("agent_silent")
    slow.silent.expect_the_button_helps()
