"""What a conversation remembers, and what it may answer."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from sandbox.slots import Slot
from sandbox.tables import Draft, Table


@dataclass(frozen=True)
class Say:
    """Speak `text`; with `end_call`, leave after it (unless the caller cuts in and goes on talking)."""

    text: str
    end_call: bool = False


@dataclass(frozen=True)
class Ask:
    """Ask the caller's page for a tool, and give its output to `Concierge.answered`."""

    tool: str
    arguments: dict[str, str | int | bool | list[str]]


Reply = Say | Ask


About = Literal["city", "meant", "topic", "theme", "change", "number", "cancel", "which", "more", "book"]


@dataclass(frozen=True)
class Question:
    """An open question that is not the draft's own. `value`: its reference, number, city or tool."""

    about: About
    text: str
    value: str = ""


@dataclass
class Talk:
    """The one state of a conversation."""

    now: Callable[[], datetime]
    name: str = ""  # the caller's
    under: str = ""  # the name for bookings, if another
    agent: str = ""
    restaurant: str = ""
    draft: Draft | None = None
    question: Question | None = None
    booked: list[Table] = field(default_factory=list)
    topic: str = ""  # the tool that looked up the last city
    city: str = ""
    misses: int = 0  # utterances in a row that were not understood
    last: str = ""  # the last sentence worth repeating
    was_cut: bool = False
    paused: bool = False  # told to stop: an "okay" that follows agrees to nothing
    demo_said: bool = False
    served: bool = False  # something has been done for the caller
    another: str = ""  # the tool that could look up another city now
    todo: list[Ask] = field(default_factory=list)  # to be asked once the present one is answered
    held: list[str] = field(default_factory=list)  # answers that wait for the rest of `todo`
    used: Counter[str] = field(default_factory=Counter)

    @property
    def today(self) -> date:
        return self.now().date()

    @property
    def expecting(self) -> Slot | None:
        """The slot that the caller was last asked for."""
        if self.draft is None or (self.question and self.question.about in ("change", "number")):
            return None
        problem = self.draft.problem(self.now())
        return problem[0] if problem else self.draft.missing()

    def introduction(self) -> str:
        who = f"I'm {self.agent}, the concierge" if self.agent else "I'm the concierge"
        return f"{who} of {self.restaurant}" if self.restaurant else who

    def vary(self, key: str, *options: str) -> str:
        """The options in turn, so that nothing is said twice running."""
        self.used[key] += 1
        return options[(self.used[key] - 1) % len(options)]

    def open_question(self) -> str:
        """What the caller is to answer, said once more; empty if nothing is open."""
        if self.question and self.question.about != "more":
            return self.question.text
        return self.draft_question() if self.draft else ""

    def draft_question(self) -> str:
        draft = self.draft or Draft()
        if problem := draft.problem(self.now()):
            slot, why = problem
            return f"{why} {self._ask_instead(slot)}"
        match draft.missing():
            case "people":
                return self.vary("people", "For how many people?", "How many people will you be?")
            case "day":
                return self.vary("day", "Which day would you like?", "For which day?", "What day suits you?")
            case "time":
                return self.vary("time", "At what time?", "What time would you like?", "What time suits you?")
            case None if draft.replaces:
                return f"Shall I change your booking to {draft.describe(self.today)}?"
            case None:
                ask = self.vary("confirm", "Shall I book it?", "Is that right?", "Shall I book that?")
                return f"That would be {draft.describe(self.today)}. {ask}"

    def _ask_instead(self, slot: Slot) -> str:
        match slot:
            case "people":
                return self.vary(
                    "people!", "How many people will you be?", "For how many people shall I book?"
                )
            case "day":
                return self.vary(
                    "day!", "Which other day would you like?", "Which day would suit you instead?"
                )
            case "time":
                return self.vary("time!", "What other time would you like?", "Which time suits you instead?")

    def offer(self) -> str:
        """Offers to go on; once something has been done, "no" to it ends the call."""
        tool, self.another = self.another, ""
        if tool and self.vary("another", "offer", "") == "offer":
            self.question = Question("more", "Which city?", tool)
            return "Would you like another city?"
        if not self.served:
            self.question = None
            return self.vary("first", "What can I do for you?", "How can I help?", "What would you like?")
        self.question = Question("more", "What else can I do for you?")
        return self.vary(
            "offer", "Anything else?", "What else can I do for you?", "Can I do anything else for you?"
        )

    def go_on(self, text: str) -> Say:
        """Says `text`, then comes back to what is open, or offers to go on."""
        if self.question and self.question.about != "more":
            return Say(f"{text} {self.question.text}")
        if self.draft:
            return Say(f"{text} {self.draft_question()}")
        return Say(f"{text} {self.offer()}")
