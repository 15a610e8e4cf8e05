"""A language model in the concierge's place, behind a small server that speaks the OpenAI protocol."""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from sandbox.calls import CallRecord
from sandbox.wits import APOLOGY, LlmConfig
from tests.sandbox.caller import Caller, Line, final, line

WEATHER = '{"city": "Paris", "condition": "sunny"}'
KEY = "a-key-that-must-never-be-logged"


class FakeModel:
    """Answers by the last message, streamed in pieces. Runs in a thread of its own."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        self._runner = web.AppRunner(app)
        self.base_url = asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result()

    async def _serve(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        body = await request.json()
        self.requests.append(body)
        last = body["messages"][-1]
        text = str(last["content"]).lower()
        if "table" in text:
            return web.json_response({"error": {"message": "out of thoughts"}}, status=500)
        if "stop" in text:
            return web.json_response({"error": {"message": f"unknown key {KEY}"}}, status=401)
        deltas: list[dict[str, Any]]
        if "weather" in text:
            deltas = _tool_call("get_weather", '{"city": ', '"Paris"}')
        elif "bye" in text and last["role"] == "user":
            deltas = _tool_call("end_call", "{", "}")
        elif last["role"] == "tool" and "sunny" in text:
            deltas = [{"content": "It is sunny "}, {"content": "in Paris."}]
        elif last["role"] == "tool":
            deltas = [{"content": "See you soon."}]
        else:
            deltas = [{"content": "I can "}, {"content": "help you."}]
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for delta in deltas:
            await answer.write(_event({"index": 0, "delta": delta, "finish_reason": None}))
        reason = "tool_calls" if "tool_calls" in deltas[-1] else "stop"
        await answer.write(_event({"index": 0, "delta": {}, "finish_reason": reason}))
        await answer.write(b"data: [DONE]\n\n")
        return answer


def _event(choice: dict[str, Any]) -> bytes:
    chunk = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    }
    return f"data: {json.dumps(chunk)}\n\n".encode()


def _tool_call(name: str, *pieces: str) -> list[dict[str, Any]]:
    first = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": name, "arguments": ""},
    }
    rest = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
    return [{"role": "assistant", "content": None, "tool_calls": [call]} for call in (first, *rest)]


@pytest.fixture(scope="module")
def model() -> Iterator[FakeModel]:
    it = FakeModel()
    yield it
    it.stop()


@pytest.fixture(scope="module")
def phone(model: FakeModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    config = LlmConfig(model.base_url, KEY, "test-model")
    assert KEY not in repr(config)
    with line(tmp_path_factory.mktemp("sandbox"), config) as it:
        yield it


def test_a_call_with_a_model(phone: Line, model: FakeModel) -> None:
    model.requests.clear()

    async def call() -> tuple[Caller, CallRecord]:
        async with phone.call(
            {"get_weather": WEATHER},
            first_message="Yes?",
            prompt="You sell umbrellas.",
            variables={"name": "Ada"},
        ) as (caller, call_id):
            await caller.message("response_text", final("yes?"))
            await caller.ask("hello", "response_text", final("i can help you."))
            asked = await caller.ask("weather", "tool_call")
            assert asked["data"]["toolName"] == "get_weather"
            assert asked["data"]["arguments"][0]["value"] == "Paris"
            await caller.message("response_text", final("it is sunny in paris."))
            await caller.ask("goodbye", "response_text", final("see you soon."))
            await caller.until(lambda: not caller.connected, "the agent's hanging up")
            return caller, await phone.record(call_id)

    caller, record = asyncio.run(call())
    assert caller.messages[-1]["type"] == "session_ended"
    assert record["termination_reason"] == "agent_ended"
    system = model.requests[0]["messages"][0]
    assert system["role"] == "system"
    assert "You sell umbrellas." in system["content"]
    assert "name: Ada" in system["content"]
    tools = {tool["function"]["name"] for tool in model.requests[0]["tools"]}
    assert tools >= {"get_weather", "get_time", "book_table", "set_theme", "show_list", "end_call"}
    # The page's own tools only: hanging up is the agent's business.
    asked_for = {m["data"]["toolName"] for m in caller.messages if m["type"] == "tool_call"}
    assert asked_for == {"get_weather"}


def test_a_model_that_fails_is_apologised_for_and_the_call_goes_on(
    phone: Line, caplog: pytest.LogCaptureFixture
) -> None:
    async def call() -> None:
        async with phone.call(first_message="Yes?") as (caller, _):
            await caller.message("response_text", final("yes?"))
            await caller.ask("table", "response_text", final(APOLOGY.lower()))
            await caller.ask("stop", "response_text", final(APOLOGY.lower()))
            await caller.ask("hello", "response_text", final("i can help you."))

    with caplog.at_level(logging.WARNING):
        asyncio.run(call())
    problems = [r.getMessage() for r in caplog.records if "language model" in r.getMessage()]
    assert any(problem.endswith("APIStatusError 401") for problem in problems)
    assert not any("\n" in problem for problem in problems)
    assert not [r for r in caplog.records if r.exc_info]
    assert KEY not in caplog.text
