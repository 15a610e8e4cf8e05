"""The agent's wits without a language model: a concierge that converses by rules.

`Concierge` is pure: it takes what was heard, and says what to say or which tool to ask. What it remembers
is in `Talk`; each rule is a small function that answers an utterance or leaves it to the next one.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from sandbox import booking, courtesy, errands
from sandbox.outcome import spoken_outcome
from sandbox.spoken import Said
from sandbox.talk import Ask, Reply, Say, Talk
from sandbox.tools import TOOLS, ToolSpec

__all__ = ["TOOLS", "Ask", "Concierge", "Say", "ToolSpec"]

Rule = Callable[[Talk, Said], Reply | None]


class Concierge:
    """One conversation.

    `variables`: "name" is the caller's, "restaurant" the restaurant's. `prompt` instructs a language model;
    rules cannot follow it: only the agent's name is taken from it ("You are Luca, …", "Your name is Luca").
    `now` gives the time in the restaurant's zone. `first_message` stands in place of the greeting, so that
    the caller can have it repeated.
    """

    def __init__(
        self,
        *,
        variables: Mapping[str, str] | None = None,
        prompt: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC).astimezone(),
        first_message: str | None = None,
    ) -> None:
        values = {
            key.strip().lower(): " ".join(value.split())[:60] for key, value in (variables or {}).items()
        }
        self._talk = Talk(
            now,
            name=values.get("name", ""),
            agent=_own_name(prompt or ""),
            restaurant=values.get("restaurant", ""),
        )
        self._talk.last = first_message or _greeting(self._talk)
        self._greeting = self._talk.last

    def greeting(self) -> str:
        """The opening line."""
        return self._greeting

    def heard(self, text: str) -> Reply:
        """Answers what the caller said."""
        talk, said = self._talk, Said.of(text)
        talk.todo.clear()
        talk.held.clear()
        talk.another = ""
        misses = talk.misses
        rule, reply = next((rule, reply) for rule in _RULES if (reply := rule(talk, said)))
        if talk.misses == misses:
            talk.misses = 0
        talk.paused = rule is courtesy.stop
        if isinstance(reply, Say):
            talk.was_cut = False
            if rule not in _PASSING:
                talk.last = reply.text
        return reply

    def answered(self, ask: Ask, output: str | None, error: str | None = None) -> Reply:
        """Speaks of a tool's output; `error`, or no output at all, means that the page did not answer."""
        talk = self._talk
        talk.held.append(spoken_outcome(talk, ask, None if error is not None else output))
        if talk.todo:
            return talk.todo.pop(0)
        text = " ".join(talk.held)
        talk.held.clear()
        if talk.draft and not talk.question:
            text += talk.vary(
                "back", " Now, back to your table.", " So, about your table.", " Now, your table."
            )
        say = talk.go_on(text)
        talk.last, talk.was_cut = say.text, False
        return say

    def cut(self, heard_text: str) -> None:
        """The caller cut the last Say short; "repeat", or a mere noise, brings it again as a whole."""
        self._talk.was_cut = len(heard_text) < len(self._talk.last)


def _own_name(prompt: str) -> str:
    found = re.search(
        r"\b[Yy]ou are (?:called |named )?([A-Z][\w'-]*)|\b[Yy]our name is ([A-Z][\w'-]*)", prompt
    )
    name = (found[1] or found[2]) if found else ""
    return "" if name in ("A", "An", "The", "I") else name


def _greeting(talk: Talk) -> str:
    hello = f"Hello, {talk.name}!" if talk.name else "Hello!"
    offer = "I can book you a table, or tell you the weather in a city"
    return f"{hello} {talk.introduction()}. {offer}. How can I help?"


# The first rule that answers wins. What the caller asks for by name goes before what may be an answer to the
# open question, so that a topic can be switched in the middle of a booking; guesses come last.
_RULES: tuple[Rule, ...] = (
    courtesy.unheard,
    courtesy.stop,
    courtesy.repeat,
    courtesy.name,
    errands.meant_city,
    errands.two_wishes,
    errands.lookup,
    errands.theme,
    errands.show,
    courtesy.help_,
    courtesy.farewell,
    booking.cancel,
    booking.bookings,
    booking.answer,
    booking.change,
    courtesy.offered,
    courtesy.goodbye,
    courtesy.hours,
    booking.start,
    errands.known_city,
    courtesy.small_talk,
    errands.unknown_city,
    booking.ask_again,
    courtesy.lost,
)
# What these say is not worth repeating.
_PASSING = (courtesy.unheard, courtesy.stop, courtesy.repeat)
