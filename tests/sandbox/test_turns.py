"""Captions and records of turns, in the orders that are too rare to wait for in a call."""

import asyncio
from typing import Any

import pytest
from livekit.agents import llm
from livekit.agents.voice import (
    SpeechCreatedEvent,
    SpeechHandle,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
)

from sandbox.turns import AgentTurns, CallerTurns


class Paper:
    """What was sent and recorded."""

    def __init__(self) -> None:
        self.wire: list[tuple[str, dict[str, Any]]] = []
        self.entries: list[tuple[str, str, str]] = []
        self.times: list[tuple[float, int]] = []  # when each began (s), and its length (ms)
        self.cuts: list[str] = []

    def send(self, kind: str, **data: Any) -> None:
        self.wire.append((kind, data))

    def add_entry(
        self,
        *,
        role: str,
        turn_id: str,
        message: str = "",
        type: str = "message",  # noqa: A002 - the record's name
        started_at: float = 0,
        duration_ms: int = 0,
    ) -> None:
        self.entries.append((turn_id, type, message))
        self.times.append((started_at, duration_ms))

    def finals(self) -> list[tuple[str, str]]:
        return [(data["turn_id"], data["text"]) for _, data in self.wire if data.get("is_final")]


@pytest.fixture
def paper() -> Paper:
    return Paper()


def transcript(text: str, final: bool, at: float = 0) -> UserInputTranscribedEvent:
    return UserInputTranscribedEvent(transcript=text, is_final=final, created_at=at)


def speaking(now: bool, at: float = 0) -> UserStateChangedEvent:
    """The framework dates both back to the sound itself."""
    if now:
        return UserStateChangedEvent(old_state="listening", new_state="speaking", created_at=at)
    return UserStateChangedEvent(old_state="speaking", new_state="listening", created_at=at)


def reply(text: str, cut: bool = False) -> llm.ChatMessage:
    return llm.ChatMessage(role="assistant", content=[text], interrupted=cut)


class TestCallerTurns:
    def test_words_that_the_vad_missed_begin_a_turn_all_the_same(self, paper: Paper) -> None:
        turns = CallerTurns(paper.send, paper.add_entry)
        turns.on_transcript(transcript("Hello", final=False))
        turns.on_transcript(transcript("Hello there.", final=True))
        turns.on_state(speaking(True))
        turns.on_state(speaking(False))
        turns.on_transcript(transcript("Goodbye.", final=True))
        assert paper.wire == [
            ("speech_started", {"emulated": True}),
            ("input_audio_transcript", {"transcript": "Hello", "turn_id": "user-1", "is_final": False}),
            ("input_audio_transcript", {"transcript": "Hello there.", "turn_id": "user-1", "is_final": True}),
            ("speech_stopped", {}),
            ("speech_started", {"emulated": False}),
            ("speech_stopped", {}),
            ("input_audio_transcript", {"transcript": "Goodbye.", "turn_id": "user-2", "is_final": True}),
        ]
        assert paper.entries == [
            ("user-1", "message", "Hello there."),
            ("user-2", "message", "Goodbye."),
        ]

    def test_the_record_has_the_times_of_the_sound(self, paper: Paper) -> None:
        turns = CallerTurns(paper.send, paper.add_entry)
        turns.on_state(speaking(True, at=100.0))
        turns.on_state(speaking(False, at=101.5))
        turns.on_state(speaking(True, at=102.0))
        turns.on_transcript(transcript("One.", final=True, at=102.1))
        turns.on_state(speaking(False, at=104.0))
        turns.on_transcript(transcript("Two.", final=True, at=104.4))
        assert paper.times == [(100.0, 1500), (102.0, 2000)]

    def test_a_noise_without_words_takes_nothing_from_the_words_after_it(self, paper: Paper) -> None:
        turns = CallerTurns(paper.send, paper.add_entry)
        turns.on_state(speaking(True, at=100.0))
        turns.on_state(speaking(False, at=101.0))
        turns.on_transcript(transcript("One.", final=True, at=110.0))  # which the VAD missed
        turns.on_state(speaking(True, at=120.0))
        turns.on_state(speaking(False, at=121.0))
        turns.on_state(speaking(True, at=130.0))
        turns.on_state(speaking(False, at=131.0))
        turns.on_transcript(transcript("Two.", final=True, at=131.4))
        assert [data["emulated"] for kind, data in paper.wire if kind == "speech_started"] == [
            False,
            True,
            False,
            False,
        ]
        assert paper.times == [(110.0, 0), (130.0, 1000)]

    def test_a_final_that_comes_when_the_next_turn_has_begun_keeps_its_own_id(self, paper: Paper) -> None:
        turns = CallerTurns(paper.send, paper.add_entry)
        for now in (True, False, True):
            turns.on_state(speaking(now))
        turns.on_transcript(transcript("One.", final=True))
        turns.on_transcript(transcript("Two", final=False))
        turns.on_state(speaking(False))
        turns.on_transcript(transcript("Two.", final=True))
        assert [kind for kind, _ in paper.wire].count("speech_started") == 2
        assert paper.entries == [("user-1", "message", "One."), ("user-2", "message", "Two.")]


class TestAgentTurns:
    def test_words_after_the_final_are_no_new_turn(self, paper: Paper) -> None:
        async def talk() -> None:
            turns = AgentTurns(paper.send, paper.add_entry, lambda: None, paper.cuts.append)
            await turns.capture_text("Hello ")
            turns.on_message(reply("Hello there."))
            await turns.capture_text("there.")
            turns.flush()
            await turns.capture_text("Yes?")
            turns.flush()
            turns.on_message(reply("Yes?"))

        asyncio.run(talk())
        assert paper.finals() == [("agent-1", "Hello there."), ("agent-2", "Yes?")]
        assert paper.entries == [
            ("agent-1", "message", "Hello there."),
            ("agent-2", "message", "Yes?"),
        ]

    def test_a_say_that_is_cut_at_its_first_word_gets_an_empty_final(self, paper: Paper) -> None:
        async def talk() -> None:
            speech = SpeechHandle.create()
            turns = AgentTurns(paper.send, paper.add_entry, lambda: speech, paper.cuts.append)
            turns.on_speech(SpeechCreatedEvent(user_initiated=True, source="say", speech_handle=speech))
            await turns.capture_text("Hello ")
            speech.interrupt()
            turns.flush()
            speech._mark_done()  # what the framework does when the voice has stopped
            await speech

        asyncio.run(talk())
        assert paper.wire == [
            ("response_text", {"text": "Hello", "turn_id": "agent-1", "is_final": False}),
            ("interruption", {}),
            ("response_text", {"text": "", "turn_id": "agent-1", "is_final": True}),
        ]
        assert paper.entries == [("agent-1", "message", ""), ("agent-1", "interruption", "")]
        assert paper.cuts == [""]

    def test_a_voice_that_fails_is_no_interruption(self, paper: Paper) -> None:
        async def talk() -> None:
            speech = SpeechHandle.create()
            turns = AgentTurns(paper.send, paper.add_entry, lambda: speech, paper.cuts.append)
            await turns.capture_text("Hello ")
            turns.flush()
            turns.on_message(reply("Hello", cut=True))

        asyncio.run(talk())
        assert paper.entries == [("agent-1", "message", "Hello")]
        assert paper.cuts == []

    def test_a_say_that_nobody_heard_leaves_no_trace(self, paper: Paper) -> None:
        async def talk() -> None:
            speech = SpeechHandle.create()
            turns = AgentTurns(paper.send, paper.add_entry, lambda: speech, paper.cuts.append)
            turns.on_speech(SpeechCreatedEvent(user_initiated=True, source="say", speech_handle=speech))
            speech.interrupt()
            speech._mark_done()
            await speech

        asyncio.run(talk())
        assert (paper.wire, paper.entries, paper.cuts) == ([], [], [""])
