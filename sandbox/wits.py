"""What the agent thinks with: the concierge's rules, or any OpenAI-compatible language model."""

import asyncio
import json
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Never

from livekit.agents import APIConnectOptions, APIError, RunContext, ToolError, function_tool, llm
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
from livekit.agents.voice import SpeechHandle

from sandbox.concierge import Concierge
from sandbox.talk import Ask, Say
from sandbox.tools import TOOLS, ToolSpec
from sandbox.wire import NoAnswerError

APOLOGY = "Sorry, I cannot think right now. Please ask me again in a moment."
FILLER = "One moment, please."
FILLER_AFTER_S = 2.5
WAIT = "Just a moment, please."
STILL_THERE = "Are you still there?"
HANGING_UP = "I can't hear you any more, so I'll hang up. Goodbye!"

DEFAULT_PROMPT = (
    "You are a friendly concierge on the phone. You tell the weather and the local time of cities, book"
    " restaurant tables, switch the page between dark and light and show lists on it, with your tools."
    " Before you book, ask for what is missing and have the caller confirm it."
)
_MANNER = (
    "Everything you write is spoken aloud: one to three short sentences of plain words, no markup, no links."
    " The caller's words come from speech recognition and may be misspelt."
)

# An outcome of which the caller heard fewer words than this is said once more.
_HEARD_WORDS = 3
_LAST_QUESTION = re.compile(r"\s*[^.!?]*\?\s*$")

AskPage = Callable[[ToolSpec, dict[str, Any]], Awaitable[str]]


@dataclass(frozen=True)
class LlmConfig:
    """An OpenAI-compatible server; `base_url` ends where `/chat/completions` begins."""

    base_url: str
    api_key: str = field(repr=False)
    model: str


def language_model(config: LlmConfig) -> llm.LLM[Never]:
    """A client for one call: its connections belong to the event loop that makes it."""
    from livekit.plugins import openai  # 20 MB that only those with a model should pay for

    return openai.LLM(model=config.model, base_url=config.base_url, api_key=config.api_key, max_retries=0)


def instructions(prompt: str | None, variables: Mapping[str, str]) -> str:
    """The model's system prompt: `prompt` or the concierge's own, and what is known about this call."""
    known = "".join(f"\n- {name}: {value}" for name, value in variables.items())
    parts = [prompt or DEFAULT_PROMPT, _MANNER]
    if known:
        parts.append(f"What you know about this call:{known}")
    return "\n\n".join(parts)


class ConciergeLLM(llm.LLM[Never]):
    """The concierge in a language model's place. One for each call: the concierge remembers.

    Callers talk at any time, so a tool's outcome may come when nobody can listen. It is never lost: each
    output is given to the concierge once, before anything that was said later, and an outcome that was cut
    before it was heard goes before the next words. While a tool is out nothing is given to the concierge:
    it has one thing on its mind, and a "yes" that is said twice must not book twice.
    """

    def __init__(self, concierge: Concierge, goodbye: Callable[[], None], begun: Set[str]) -> None:
        """`goodbye` is called when the words that come next are the call's last. `begun`: see page_tools."""
        super().__init__()
        self._concierge = concierge
        self._goodbye = goodbye
        self._begun = begun
        self._asked: dict[str, Ask] = {}
        self._heard_id = ""  # of the last message that was dealt with
        self._unheard = ""  # the outcome that the caller has yet to hear
        self._last = concierge.greeting()
        self._was_cut = False

    def said(self, text: str) -> None:
        """The caller has heard this much of what the agent said."""
        words, outcome = text.split(), self._unheard.split()
        if len(words) >= min(_HEARD_WORDS, len(outcome)) and words[:1] == outcome[:1]:
            self._unheard = ""

    def cut(self, heard: str) -> None:
        """The caller cut the last words; only `heard` was heard."""
        self._was_cut = len(heard) < len(self._last)
        self._concierge.cut(heard)

    def nudge(self) -> str:
        """For a caller who is silent: the last words again if they were cut, else only their question."""
        if self._was_cut:
            self._was_cut = False
            return self._last
        # A "yes" to a mere "Are you still there?" would be taken for an answer to the question before it.
        question = _LAST_QUESTION.search(self._last)
        return f"{STILL_THERE} {question[0].strip()}" if question else STILL_THERE

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
    ) -> llm.LLMStream:
        return _ConciergeStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)

    def think(self, chat_ctx: llm.ChatContext) -> llm.ChoiceDelta | None:
        """The concierge's next step after what was heard, or answered, last."""
        step = self._step(chat_ctx)
        if isinstance(step, Ask):
            call_id = uuid.uuid4().hex
            self._asked[call_id] = step
            call = llm.FunctionToolCall(name=step.tool, arguments=json.dumps(step.arguments), call_id=call_id)
            return llm.ChoiceDelta(role="assistant", tool_calls=[call])
        if step is None:
            return None
        if step.end_call:
            self._goodbye()
        return llm.ChoiceDelta(role="assistant", content=step.text)

    def _step(self, chat_ctx: llm.ChatContext) -> Say | Ask | None:
        step: Say | Ask | None = None
        for item in chat_ctx.items:
            # A call that still runs is shown with an output of the framework's own making.
            if item.type != "function_call_output" or item.id.endswith("_running_output"):
                continue
            if (ask := self._asked.pop(item.call_id, None)) is None:
                continue
            output = (None, item.output) if item.is_error else (item.output, None)
            step = self._concierge.answered(ask, *output)
            if isinstance(step, Ask):
                return step
            self._unheard = _joined(self._unheard, step.text)
        words = next((m for m in reversed(chat_ctx.messages()) if m.role == "user"), None)
        if words is not None and words.id != self._heard_id:
            self._heard_id = words.id
            # One that was not begun never will be: the caller went on talking before its turn came.
            if self._begun & self._asked.keys():
                return Say(WAIT)
            step = self._concierge.heard(words.text_content or "")
        if not isinstance(step, Say):
            return step
        self._last, self._was_cut = _joined(self._unheard, step.text), False
        return replace(step, text=self._last)


def _joined(outcome: str, words: str) -> str:
    """Both, unless one holds the other. Of two questions in a row the first is left out."""
    if not outcome or outcome in words:
        return words
    return outcome if words in outcome else f"{_LAST_QUESTION.sub('', outcome)} {words}".strip()


class _ConciergeStream(llm.LLMStream):
    def __init__(
        self,
        owner: ConciergeLLM,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool],
        conn_options: APIConnectOptions,
    ) -> None:
        super().__init__(owner, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)
        self._owner = owner

    async def _run(self) -> None:
        delta = self._owner.think(self._chat_ctx)
        if delta is not None:
            self._event_ch.send_nowait(llm.ChatChunk(id=uuid.uuid4().hex, delta=delta))


def page_tools(ask: AskPage, begun: set[str]) -> list[llm.Tool]:
    """The concierge's tools, each run by the page. The ids of the calls that are run join `begun`."""
    return [_page_tool(spec, ask, begun) for spec in TOOLS]


def _page_tool(spec: ToolSpec, ask: AskPage, begun: set[str]) -> llm.Tool:
    async def run(raw_arguments: dict[str, Any], ctx: RunContext[None]) -> str:
        call_id = ctx.function_call.call_id
        begun.add(call_id)
        try:
            with _uncut(ctx.speech_handle):
                async with ctx.with_filler(FILLER, delay=FILLER_AFTER_S):
                    return await ask(spec, raw_arguments)
        except NoAnswerError as exc:
            raise ToolError(str(exc)) from exc
        except asyncio.CancelledError:
            begun.discard(call_id)  # there will be no output
            raise

    return function_tool(
        run,
        raw_schema={
            "name": spec.name,
            "description": spec.description,
            "parameters": dict(spec.parameters),
        },
    )


@contextmanager
def _uncut(speech: SpeechHandle) -> Iterator[None]:
    """Let nobody cut `speech` while it waits for a tool.

    A speech that is cut can end only after its tools have, and until then, or for 5 s, the framework answers
    nothing that the caller says; the outcome would then go unsaid. The holds are counted, for a language
    model may use two tools at once, and RunContext's own switch is not.
    """
    held = not speech.interrupted
    if held:
        speech._hold_interruptions()
    try:
        yield
    finally:
        if held:
            speech._release_interruptions()


def end_call_tool(goodbye: Callable[[SpeechHandle], None]) -> llm.Tool:
    """Lets a language model hang up; `goodbye` gets the speech that is to be the last."""

    async def run(raw_arguments: dict[str, Any], ctx: RunContext[None]) -> str:
        goodbye(ctx.speech_handle)
        return "The call ends after your next words: say goodbye in one short sentence."

    return function_tool(
        run,
        raw_schema={
            "name": "end_call",
            "description": "End the call, when the caller wants nothing more.",
            "parameters": {"type": "object", "properties": {}, "required": []},
        },
    )


def descriptors(spec: ToolSpec, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The arguments of a tool call as the wire spells them. What the schema does not name is left out."""
    schema = spec.parameters
    required = schema.get("required", ())
    return [
        {
            "name": name,
            "type": "number" if kind["type"] == "integer" else kind["type"],
            "dataType": kind["type"],
            "description": kind.get("description", ""),
            "required": name in required,
            **({"value": values[name]} if name in values else {}),
        }
        for name, kind in schema["properties"].items()
    ]


def _is_news(record: logging.LogRecord) -> bool:
    """False for the framework's traceback of a failed model: the call says it in one line."""
    return not (record.exc_info and isinstance(record.exc_info[1], APIError))


logging.getLogger("livekit.agents").addFilter(_is_news)
