"""Calls to the agent over a real LiveKit server, with real sound both ways."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from livekit import rtc
from numpy.typing import NDArray

from sandbox import conversation
from sandbox.agent import DispatchError, VoiceAgent
from sandbox.calls import CallRecord, CallStore
from sandbox.loudspeaker import Loudspeaker
from sandbox.recordings import Recordings
from sandbox.speech import VOICE_RATE, Recogniser
from sandbox.wits import HANGING_UP, STILL_THERE, WAIT
from tests.e2e.ear import likeness
from tests.sandbox.caller import Caller, Line, final, line

WEATHER = '{"city": "Paris", "condition": "sunny", "temperature_c": 21, "demo_data": true}'


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    with line(tmp_path_factory.mktemp("sandbox"), join_timeout_s=8) as it:
        yield it


def kinds(caller: Caller) -> list[str]:
    return [message["type"] for message in caller.messages]


def said(record: CallRecord) -> list[tuple[str, str, str]]:
    """The spoken entries of a record: turn id, role, text."""
    entries = record["transcript"]["entries"]
    return [(e["turnId"], e["role"], e["message"]) for e in entries if e["type"] == "message"]


def captioned(caller: Caller) -> list[tuple[str, str, str]]:
    """The finals on the wire, in the same form."""
    roles = {"response_text": ("assistant", "text"), "input_audio_transcript": ("user", "transcript")}
    turns = []
    for message in caller.messages:
        data = message["data"]
        if message["type"] in roles and data["is_final"]:
            role, key = roles[message["type"]]
            turns.append((data["turn_id"], role, data[key]))
    return turns


async def transcribe(sound: NDArray[np.int16]) -> str:
    """The words in it, in small letters."""
    return (await asyncio.to_thread(Recogniser().transcribe, sound)).lower()


def test_a_whole_call(phone: Line) -> None:
    async def call() -> tuple[Caller, CallRecord]:
        async with phone.call({"get_weather": WEATHER}, variables={"name": "Ada"}) as (caller, call_id):
            greeting = await caller.message("response_text", final("hello, ada"))
            words = await transcribe(np.concatenate(caller.heard))
            assert "concierge" in words
            assert words.count(" ") == pytest.approx(greeting["data"]["text"].count(" "), abs=4)

            asked = await caller.ask("weather", "tool_call")
            await caller.message("response_text", final("sunny", "21"))
            assert asked["data"]["toolName"] == "get_weather"
            (city,) = asked["data"]["arguments"]
            assert city.pop("description")
            assert city == {
                "name": "city",
                "type": "string",
                "dataType": "string",
                "required": True,
                "value": "Paris",
            }
            await caller.ask("goodbye", "session_ended")
            await caller.until(lambda: not caller.connected, "the room's end")
            return caller, await phone.record(call_id)

    caller, record = asyncio.run(call())
    assert caller.messages[0]["type"] == "session_started"
    assert caller.messages[0]["data"] == {"id": record["id"]}
    assert kinds(caller).count("session_ended") == 1
    assert kinds(caller)[-1] == "session_ended"
    assert record["termination_reason"] == "agent_ended"

    assert said(record) == captioned(caller)
    turns = [turn for turn, *_ in said(record)]
    for party in ("agent", "user"):
        numbers = [int(turn.split("-")[1]) for turn in turns if turn.startswith(party)]
        assert numbers == list(range(1, len(numbers) + 1))
    texts = {turn: text for turn, _, text in said(record)}
    question = next(turn for turn, text in texts.items() if "weather" in text and turn.startswith("user"))
    interims = [
        m["data"]["transcript"]
        for m in caller.messages
        if m["type"] == "input_audio_transcript" and m["data"]["turn_id"] == question
    ][:-1]
    assert interims

    tool = next(e["toolCall"] for e in record["transcript"]["entries"] if e["type"] == "tool_call")
    assert tool["toolName"] == "get_weather"
    assert json.loads(tool["arguments"]) == {"city": "Paris"}
    assert tool["output"] == WEATHER
    assert tool["startedAt"] <= tool["endedAt"]


def test_the_voice_is_there_before_the_caller_who_misses_no_word(phone: Line) -> None:
    message = "Welcome to the old harbour. Your table by the window is ready, and so is the soup of the day."

    async def call() -> None:
        call_id, token = await asyncio.to_thread(phone.mint, first_message=message)
        await asyncio.to_thread(phone.wait_for_voice, call_id)
        caller = Caller({})
        await caller.join(phone.url, token)
        try:
            words = await caller.message("response_text", lambda data: data["text"].count(" ") > 8)
            heard = await transcribe(caller.heard_before(words))
            # In step with the voice; the last word may be half heard.
            assert heard.count(" ") == pytest.approx(words["data"]["text"].count(" "), abs=3)
            await caller.message("response_text", final("soup of the day"))
            heard = await transcribe(np.concatenate(caller.heard))
            assert heard.startswith("wel")
            assert likeness(message.replace("harbour", "harbor"), heard) > 0.8
        finally:
            await caller.leave()

    asyncio.run(call())


def test_a_cut_before_the_voice_can_be_heard_silences_no_later_word(tmp_path: Path) -> None:
    async def capture() -> int:
        speaker = Loudspeaker(rtc.Room(), Recordings(tmp_path).begin("nobody"))
        frame = rtc.AudioFrame.create(VOICE_RATE, 1, VOICE_RATE // 10)
        cut = asyncio.create_task(speaker.capture_frame(frame))
        await asyncio.sleep(0)
        cut.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cut
        speaker.subscribed.set_result(None)
        await speaker.capture_frame(frame)
        await speaker.aclose()
        return speaker.captured_playout_segments

    assert asyncio.run(capture()) == 1


def test_the_caller_cuts_in(phone: Line) -> None:
    async def call() -> tuple[Caller, CallRecord]:
        async with phone.call() as (caller, call_id):
            # In the middle of the greeting, and there is no reply to what is said until all of it is said.
            await caller.message("response_text", lambda data: data["text"].count(" ") > 6)
            await caller.until(caller.agent_speaks, "the agent's voice")  # there are pauses between words
            saying = asyncio.create_task(caller.say("long_question"))
            await caller.until(lambda: not caller.agent_speaks(), "the agent's silence")
            assert not saying.done()
            await saying
            await caller.message("input_audio_transcript", final())
            await caller.message("response_text", lambda data: data["turn_id"] == "agent-2")
        return caller, await phone.record(call_id)

    caller, record = asyncio.run(call())
    shown = kinds(caller)
    cut = shown.index("interruption")
    assert "speech_started" in shown[:cut]
    last = caller.messages[cut + 1]
    assert last["type"] == "response_text"
    assert (last["data"]["turn_id"], last["data"]["is_final"]) == ("agent-1", True)
    heard = last["data"]["text"]
    before = [m["data"]["text"] for m in caller.messages[:cut] if m["type"] == "response_text"]
    assert heard
    assert before[-1].startswith(heard)
    assert not any(
        m["data"]["turn_id"] == "agent-1" for m in caller.messages[cut + 2 :] if m["type"] == "response_text"
    )

    entries = record["transcript"]["entries"]
    assert [(e["type"], e["message"], e["turnId"]) for e in entries[:2]] == [
        ("message", heard, "agent-1"),
        ("interruption", "", "agent-1"),
    ]
    assert record["termination_reason"] == "caller_left"


def test_a_page_that_does_not_answer(phone: Line) -> None:
    async def call() -> tuple[Caller, CallRecord]:
        async with phone.call(first_message="Yes?") as (caller, call_id):
            await caller.message("response_text", final("yes?"))
            asked = await caller.ask("weather", "tool_call")
            # None of these is the answer.
            await caller.send("not JSON")
            await caller.send('["a list"]')
            await caller.send('{"type": "tool_call_output", "data": {"toolCallId": 7, "output": "sunny"}}')
            await caller.send(
                json.dumps({"type": "tool_call_output", "data": {"toolCallId": "another", "output": "sunny"}})
            )
            await caller.message("response_text", final("moment"))
            told = await caller.message("response_text", final("weather"), caller.messages.index(asked))
            assert "sunny" not in told["data"]["text"]
            await caller.ask("stop", "response_text", final("okay"))
        return caller, await phone.record(call_id)

    _, record = asyncio.run(call())
    entries = record["transcript"]["entries"]
    tool = next(e["toolCall"] for e in entries if e["type"] == "tool_call")
    assert (tool["output"], tool["endedAt"]) == (None, None)
    assert "tool_call_output" not in [e["type"] for e in entries]


def test_a_caller_who_talks_while_a_tool_is_out(phone: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "TOOL_LIMIT_S", 60)

    async def call() -> Caller:
        async with phone.call(first_message="Yes?") as (caller, _):
            await caller.message("response_text", final("yes?"))
            asked = await caller.ask("weather", "tool_call")
            await caller.ask("stop", "response_text", final(WAIT.lower()))
            # The answer comes in mid-sentence, so it can be spoken only after it.
            before = len(caller.messages)
            saying = asyncio.create_task(caller.say("long_question"))
            await caller.message("speech_started", skip=before)
            data = {"toolCallId": asked["data"]["toolCallId"], "output": WEATHER}
            await caller.send(json.dumps({"type": "tool_call_output", "data": data}))
            await saying
            await caller.message("response_text", final("sunny", "21"))
            return caller

    caller = asyncio.run(call())
    assert kinds(caller).count("tool_call") == 1


def test_a_caller_who_says_nothing(phone: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "AWAY_AFTER_S", 0.3)

    async def call() -> CallRecord:
        async with phone.call(first_message="Hello. Yes?") as (caller, call_id):
            await caller.until(lambda: not caller.connected, "the room's end")
            assert kinds(caller)[-1] == "session_ended"
            return await phone.record(call_id)

    record = asyncio.run(call())
    assert record["termination_reason"] == "agent_ended"
    nudge = f"{STILL_THERE} Yes?"
    assert [text for _, _, text in said(record)] == ["Hello. Yes?", nudge, nudge, nudge, HANGING_UP]


def test_nobody_comes(phone: Line) -> None:
    call_id, _ = phone.mint()

    async def another_call() -> Caller:
        async with phone.call(first_message="Yes?") as (caller, _):
            await caller.message("response_text", final("yes?"))
            await caller.ask("table", "response_text", final("people"))
            return caller

    # Nor does the line on which nobody speaks cost another caller the words in mid-sentence.
    another = asyncio.run(another_call())
    assert any(m["type"] == "input_audio_transcript" and not m["data"]["is_final"] for m in another.messages)
    record = asyncio.run(phone.record(call_id))
    assert record["termination_reason"] == "nobody_joined"
    assert record["transcript"]["entries"] == []
    assert record["started_at"] is None


def test_two_calls_at_once_know_nothing_of_each_other(phone: Line) -> None:
    async def call(name: str, question: str, answer: str) -> CallRecord:
        async with phone.call(first_message=f"Hello, {name}.") as (caller, call_id):
            await caller.message("response_text", final(name.lower()))
            await caller.ask(question, "response_text", final(answer))
            record = await phone.record(call_id, ended=False)
            assert record["status"] == "in_progress"
        return await phone.record(call_id)

    async def both() -> tuple[CallRecord, CallRecord]:
        return await asyncio.gather(call("Ada", "table", "people"), call("Bob", "stop", "okay"))

    ada, bob = asyncio.run(both())
    assert (ada["termination_reason"], bob["termination_reason"]) == ("caller_left", "caller_left")
    for record, name, word, others in ((ada, "Ada", "table", "stop"), (bob, "Bob", "stop", "table")):
        assert said(record)[0] == ("agent-1", "assistant", f"Hello, {name}.")
        heard = " ".join(text for _, role, text in said(record) if role == "user").lower()
        assert word in heard
        assert others not in heard


def test_an_agent_that_fails_leaves_no_caller_alone(phone: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("the VAD is broken")

    monkeypatch.setattr(conversation, "voice_activity", broken)

    async def call() -> CallRecord:
        async with phone.call() as (caller, call_id):
            await caller.until(lambda: not caller.connected, "the room's end")
            assert "session_ended" not in kinds(caller)
            return await phone.record(call_id)

    record = asyncio.run(call())
    assert record["termination_reason"] == "agent_failed"


def test_an_agent_that_never_ran_can_be_closed(tmp_path: Path) -> None:
    async def close() -> None:
        kept = CallStore(tmp_path / "calls.db"), Recordings(tmp_path / "recordings")
        agent = VoiceAgent(*kept, "ws://127.0.0.1:9", "key", "secret" * 6)
        await agent.aclose()
        await agent.run()  # and then does not begin

    asyncio.run(close())


def test_livekit_dies_and_comes_back_and_then_the_sandbox_stops(tmp_path: Path) -> None:
    with line(tmp_path) as phone:
        os.kill(phone.livekit_pid, signal.SIGKILL)
        phone.wait_until(lambda: not phone.agent.ready)
        with pytest.raises(DispatchError):
            phone.mint()
        phone.wait_until(lambda: phone.agent.ready)

        async def call() -> tuple[Caller, CallRecord]:
            async with phone.call() as (caller, call_id):
                await caller.message("response_text")
                await caller.ask("weather", "tool_call")  # and a tool that is out holds nothing up
                await asyncio.to_thread(phone.stop_agent)
                await caller.until(lambda: not caller.connected, "the room's end")
                return caller, await phone.record(call_id)

        caller, record = asyncio.run(call())
        assert kinds(caller)[-1] == "session_ended"
        assert record["termination_reason"] == "sandbox_stopped"
