"""The concierge in the framework's hands: outcomes and words in any order that callers bring about."""

import pytest
from livekit.agents import llm

from sandbox.concierge import Concierge
from sandbox.wits import STILL_THERE, WAIT, ConciergeLLM

WEATHER = '{"city": "Paris", "condition": "sunny", "temperature_c": 21}'
BOOKED = '{"reference": "KX7", "people": 2, "day": "2030-01-02", "time": "19:00"}'


class Talk:
    """A conversation as the framework has it."""

    def __init__(self) -> None:
        self.goodbyes = 0
        self.chat = llm.ChatContext()
        self._begun: set[str] = set()
        self.wits = ConciergeLLM(Concierge(), self._goodbye, self._begun)

    def _goodbye(self) -> None:
        self.goodbyes += 1

    def hears(self, words: str) -> str | llm.FunctionToolCall:
        """The next words, or the tool that is to be asked."""
        self.chat.add_message(role="user", content=words)
        return self.thinks()

    def thinks(self) -> str | llm.FunctionToolCall:
        delta = self.wits.think(self.chat)
        assert delta is not None
        return delta.tool_calls[0] if delta.tool_calls else str(delta.content)

    def asks(self, words: str) -> llm.FunctionToolCall:
        """The tool that the words lead to; the page is being asked."""
        call = self.hears(words)
        assert isinstance(call, llm.FunctionToolCall)
        self._begun.add(call.call_id)
        return call

    def answers(self, call: llm.FunctionToolCall, output: str) -> None:
        self.chat.items.append(
            llm.FunctionCallOutput(call_id=call.call_id, name=call.name, output=output, is_error=False)
        )

    def running(self, call: llm.FunctionToolCall) -> None:
        """What the framework shows of a call while it runs."""
        self.chat.items.append(
            llm.FunctionCallOutput(
                id="item_1_running_output",
                call_id=call.call_id,
                name=call.name,
                output="The tool call is still in progress.",
                is_error=False,
            )
        )


@pytest.fixture
def talk() -> Talk:
    return Talk()


def books(talk: Talk) -> llm.FunctionToolCall:
    talk.hears("Book a table for two tomorrow at seven pm.")
    call = talk.asks("Yes.")
    assert call.name == "book_table"
    return call


def test_a_yes_said_twice_books_once(talk: Talk) -> None:
    call = books(talk)
    talk.running(call)
    assert talk.hears("Yes, please.") == WAIT
    talk.chat.items.pop(-2)
    talk.answers(call, BOOKED)
    told = talk.thinks()
    assert isinstance(told, str)
    assert "KX7" in told


def test_an_outcome_that_came_while_the_caller_talked_goes_before_the_answer(talk: Talk) -> None:
    call = books(talk)
    talk.answers(call, BOOKED)
    told = talk.hears("What can you do?")
    assert isinstance(told, str)
    assert told.index("KX7") < told.index("weather")
    assert told.count("?") == 1


@pytest.mark.parametrize("heard", ["", "Done,"])
def test_an_outcome_that_was_cut_is_said_with_the_next_reply_and_then_no_more(talk: Talk, heard: str) -> None:
    talk.answers(talk.asks("What's the weather in Paris?"), WEATHER)
    outcome = talk.thinks()
    assert isinstance(outcome, str)
    assert "21" in outcome
    talk.wits.said(outcome.split()[0] if heard else "")
    talk.wits.cut(heard)
    told = talk.hears("How are you?")
    assert isinstance(told, str)
    assert "21" in told
    assert "well" in told
    talk.wits.said(told)
    assert "21" not in str(talk.hears("Are you a robot?"))


def test_an_outcome_goes_with_that_of_the_next_tool(talk: Talk) -> None:
    talk.answers(talk.asks("What's the weather in Paris?"), WEATHER)
    talk.thinks()
    talk.wits.cut("")
    talk.answers(talk.asks("Make the page dark."), '{"theme": "dark"}')
    told = talk.thinks()
    assert isinstance(told, str)
    assert told.index("21") < told.index("dark")


def test_a_tool_that_was_never_begun_keeps_nobody_waiting(talk: Talk) -> None:
    call = talk.hears("What's the weather in Paris?")
    assert isinstance(call, llm.FunctionToolCall)
    assert isinstance(talk.hears("What's the weather in Rome?"), llm.FunctionToolCall)


def test_a_silent_caller_is_asked_the_open_question(talk: Talk) -> None:
    assert talk.wits.nudge() == f"{STILL_THERE} How can I help?"
    asked = talk.hears("Book a table for two tomorrow at seven pm.")
    assert isinstance(asked, str)
    assert talk.wits.nudge().startswith(STILL_THERE)
    assert asked.endswith(talk.wits.nudge().removeprefix(STILL_THERE))
    talk.wits.cut(asked[:12])
    assert talk.wits.nudge() == asked
