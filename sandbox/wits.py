"""What the agent thinks with: the concierge's rules, or any OpenAI-compatible language model."""

import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Never

from livekit.agents import APIConnectOptions, APIError, RunContext, ToolError, function_tool, llm
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
from livekit.agents.voice import SpeechHandle

from sandbox.concierge import TOOLS, Ask, Concierge, Say, ToolSpec
from sandbox.wire import NoAnswerError

APOLOGY = "Sorry, I cannot think right now. Please ask me again in a moment."
FILLER = "One moment, please."
FILLER_AFTER_S = 2.5

DEFAULT_PROMPT = (
    "You are a friendly concierge on the phone. You tell the weather and the local time of cities, book"
    " restaurant tables, switch the page between dark and light and show lists on it, with your tools."
    " Before you book, ask for what is missing and have the caller confirm it."
)
_MANNER = (
    "Everything you write is spoken aloud: one to three short sentences of plain words, no markup, no links."
    " The caller's words come from speech recognition and may be misspelt."
)

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
    """The concierge in a language model's place. One for each call: the concierge remembers."""

    def __init__(self, concierge: Concierge, goodbye: Callable[[], None]) -> None:
        """`goodbye` is called when the words that come next are the call's last."""
        super().__init__()
        self._concierge = concierge
        self._goodbye = goodbye
        self._asked: dict[str, Ask] = {}

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
        for item in reversed(chat_ctx.items):
            if item.type == "function_call_output" and item.call_id in self._asked:
                ask = self._asked.pop(item.call_id)
                if item.is_error:
                    return self._concierge.answered(ask, None, item.output)
                return self._concierge.answered(ask, item.output)
            if item.type == "message" and item.role == "user":
                return self._concierge.heard(item.text_content or "")
        return None


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


def page_tools(ask: AskPage) -> list[llm.Tool]:
    """The concierge's tools, each run by the page."""
    return [_page_tool(spec, ask) for spec in TOOLS]


def _page_tool(spec: ToolSpec, ask: AskPage) -> llm.Tool:
    async def run(raw_arguments: dict[str, Any], ctx: RunContext[None]) -> str:
        async with ctx.with_filler(FILLER, delay=FILLER_AFTER_S):
            try:
                return await ask(spec, raw_arguments)
            except NoAnswerError as exc:
                raise ToolError(str(exc)) from exc

    return function_tool(
        run,
        raw_schema={
            "name": spec.name,
            "description": spec.description,
            "parameters": dict(spec.parameters),
        },
    )


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
