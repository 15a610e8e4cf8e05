"""The recordings: what is in them and when, how they are served, and what bounds them."""

import asyncio
import logging
import os
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientResponse, ClientSession
from aiohttp.test_utils import TestServer
from numpy.typing import NDArray

from sandbox import recordings
from sandbox.api import CONCIERGE
from sandbox.calls import CallRecord
from sandbox.recordings import AGENT, CALLER, RATE, Recording, Recordings, Resampler
from sandbox.speech import VOICE_RATE, Recogniser
from tests.e2e.ear import likeness
from tests.sandbox.caller import Line, final, line, read_wav
from tests.sandbox.test_api import AUTHORIZED, Platform

Samples = NDArray[np.int16]

TICK = RATE // 50
SPEECH = Path(__file__).parents[1] / "e2e" / "speech"


class Tape:
    """A recording whose clock stands until it is told to go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0
        self.recording = Recordings(folder).begin("call")
        self.recording._clock = lambda: self.now
        self.recording.start(0)

    def caller_says(self, sound: Samples, *, at_once: bool = False) -> None:
        """In frames of 20 ms, each when it is complete, or all of them when the last one is."""
        frames = sound[: len(sound) // TICK * TICK].reshape(-1, TICK)
        if at_once:
            self.now += len(frames) * TICK / RATE
        for frame in frames:
            if not at_once:
                self.now += TICK / RATE
            self.recording.caller(frame)

    def agent_says(self, sound: Samples, queue_s: float = 0.2) -> None:
        """24 kHz in frames of 50 ms, as fast as the queue takes them."""
        queued_until = self.now
        for frame in np.split(sound, range(1200, len(sound), 1200)):
            self.recording.agent(frame, max(0.0, queued_until - self.now))
            queued_until = max(queued_until, self.now) + len(frame) / VOICE_RATE
            self.now = max(self.now, queued_until - queue_s)

    def close(self) -> Samples:
        self.recording.close()
        path = Recordings(self.folder).find("call")
        assert path is not None
        return sides(path)


def sides(path: Path) -> Samples:
    """Of a recording: one row of samples for the caller, one for the agent."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 2, 2)
        assert path.stat().st_size == 44 + file.getnframes() * 4
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2).T


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).normal(0, 3000, round(seconds * rate)).astype(np.int16)


def tone(seconds: float, rate: int = VOICE_RATE) -> Samples:
    return (8000 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.int16)


@pytest.fixture
def tape(tmp_path: Path) -> Tape:
    return Tape(tmp_path)


def test_each_side_stands_at_its_time_and_silence_between(tape: Tape) -> None:
    hello, answer = noise(1.5), tone(2)
    tape.now += 7
    tape.caller_says(hello)
    tape.now += 20
    tape.agent_says(answer)
    tape.now += 1.2
    heard = tape.close()
    assert heard.shape == (2, round((tape.now - 1000) * RATE))
    begins = 7 * RATE
    assert (heard[CALLER, begins : begins + len(hello)] == hello).all()
    assert not heard[CALLER, :begins].any()
    assert not heard[CALLER, begins + len(hello) :].any()
    begins = round(28.5 * RATE)
    said = heard[AGENT, begins : begins + 2 * RATE]
    assert np.abs(said - tone(2, RATE).astype(int))[100:-100].max() < 200
    assert not heard[AGENT, : begins - TICK].any()
    assert not heard[AGENT, begins + 2 * RATE :].any()


def test_what_a_cut_kept_from_the_room_is_not_in_it(tape: Tape) -> None:
    tape.agent_says(tone(3), queue_s=0.2)
    cut_at = round((tape.now - 1000) * RATE)
    tape.recording.cut()
    tape.now += 0.5
    tape.agent_says(tone(1))
    heard = tape.close()[AGENT]
    assert np.abs(heard[cut_at - 200 : cut_at]).max() > 5000
    assert not heard[cut_at : cut_at + RATE // 2 - 1].any()
    assert np.abs(heard[cut_at + RATE // 2 :]).max() > 5000


def test_what_was_still_queued_at_the_end_is_not_in_it(tape: Tape) -> None:
    tape.agent_says(tone(3), queue_s=0.2)
    assert tape.close().shape[1] == pytest.approx(2.8 * RATE, abs=2)


def test_a_lazy_event_loop_tears_no_hole_into_the_callers_words(tape: Tape) -> None:
    sound = noise(6)
    parts = np.split(sound, [3 * RATE, round(3.6 * RATE)])
    tape.caller_says(parts[0])
    tape.caller_says(parts[1], at_once=True)
    tape.caller_says(parts[2])
    assert (tape.close()[CALLER] == sound).all()


def test_a_caller_who_comes_back_after_a_gap_is_heard_at_that_time(tape: Tape) -> None:
    before, after = noise(2), noise(4, seed=1)
    for gap_s in (0.7, 30):
        tape.caller_says(before)
        tape.now += gap_s
        tape.caller_says(after)
    heard = tape.close()[CALLER]
    # A short gap is told from lateness within a second, a long one at once.
    assert (heard[round(5.7 * RATE) : round(6.7 * RATE)] == after[-RATE:]).all()
    begins = round((6.7 + 2 + 30) * RATE)
    assert (heard[begins : begins + 4 * RATE] == after).all()


def test_the_voice_keeps_its_pitch_and_loudness_at_the_recordings_rate() -> None:
    resample = Resampler()
    blocks = np.split(tone(1), [1200, 1931, 2000, 2001, 9000])  # also odd ones
    sound = np.concatenate([resample(block) for block in blocks])
    assert abs(len(sound) - RATE) <= 16
    assert np.abs(sound - tone(1, RATE)[: len(sound)].astype(int))[100:-100].max() < 200
    too_high = (8000 * np.sin(2 * np.pi * 10_500 * np.arange(VOICE_RATE) / VOICE_RATE)).astype(np.int16)
    assert np.abs(Resampler()(too_high)[100:-100]).max() < 400


def test_a_call_that_never_started_leaves_nothing(tmp_path: Path) -> None:
    recording = Recordings(tmp_path).begin("call")
    recording.caller(noise(0.02))
    recording.agent(noise(0.05), 0.0)
    recording.cut()
    recording.close()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_dies_leaves_what_was_said_till_then(tape: Tape) -> None:
    sound = noise(10)
    tape.caller_says(sound)
    assert tape.recording._file is not None
    tape.recording._file.close()
    left = tape.folder / "call.part"
    with left.open("ab") as file:
        file.write(b"\1")  # half a sample
    (tape.folder / "empty.part").write_bytes(b"RIFF")
    path = Recordings(tape.folder).find("call")
    assert path is not None
    heard = sides(path)[CALLER]
    assert len(heard) >= 7 * RATE
    assert (heard == sound[: len(heard)]).all()
    assert [file.name for file in tape.folder.glob("*.*")] == ["call.wav"]


def test_a_long_call_is_recorded_up_to_a_limit(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "LONGEST_S", 5)
    sound = noise(9)
    tape.caller_says(sound)
    tape.agent_says(tone(1))
    heard = tape.close()
    assert heard.shape == (2, 5 * RATE)
    assert (heard[CALLER] == sound[: 5 * RATE]).all()
    assert not heard[AGENT].any()


def test_the_newest_recordings_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "KEPT_BYTES", 3000)
    for number in range(4):
        kept = tmp_path / f"old-{number}.wav"
        kept.write_bytes(bytes(1000))
        os.utime(kept, (number, number))
    recording = Recordings(tmp_path).begin("new")
    recording.start(0.01)
    recording.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.wav", "old-2.wav", "old-3.wav"]


def test_a_disk_that_is_full_ends_the_recording_and_not_the_call(
    tape: Tape, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Recording, up_to: int) -> None:
        raise OSError(28, "No space left on device")

    tape.caller_says(noise(5))
    monkeypatch.setattr(Recording, "_write", full)
    with caplog.at_level(logging.ERROR):
        tape.caller_says(noise(5))
    assert caplog.messages == ["call: the recording ends here: [Errno 28] No space left on device"]
    assert tape.close().shape[1] >= 2 * RATE


# ------------------------------------------------------------------ over HTTP


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    platform = Platform(tmp_path)
    yield platform
    platform.calls.close()


def recorded_call(platform: Platform, sound: Samples) -> str:
    """An ended call's id."""
    call_id = platform.calls.open_call(CONCIERGE, "room", "caller", 9)
    assert call_id is not None
    platform.calls.set_status(call_id, "in_progress")
    recording = platform.recordings.begin(call_id)
    recording.start(len(sound) / RATE)
    recording._caller_next = 0
    recording._put(CALLER, 0, sound)
    recording.close()
    platform.calls.end_call(call_id, "caller_left")
    return call_id


@asynccontextmanager
async def asking(platform: Platform, path: str, **headers: str) -> AsyncIterator[ClientResponse]:
    server = TestServer(platform.api.application())
    await server.start_server()
    try:
        async with ClientSession() as http:
            url = server.make_url(path)
            async with http.get(url, headers={**AUTHORIZED, **headers}) as answer:
                yield answer
    finally:
        await server.close()


def test_the_whole_of_it_and_parts(platform: Platform) -> None:
    sound = noise(1)
    path = f"/v1/calls/{recorded_call(platform, sound)}/recording"

    async def get(wanted: str = "") -> tuple[int, str, bytes]:
        async with asking(platform, path, **({"Range": wanted} if wanted else {})) as answer:
            body = await answer.read()
            if answer.status < 400:
                assert answer.headers["Content-Length"] == str(len(body))
                assert answer.headers["Content-Type"] == "audio/wav"
                assert answer.headers["Accept-Ranges"] == "bytes"
            return answer.status, answer.headers.get("Content-Range", ""), body

    async def ask() -> None:
        status, _, whole = await get()
        size = len(whole)
        assert (status, whole[:4], whole[8:12]) == (200, b"RIFF", b"WAVE")
        assert (np.frombuffer(whole[44:], np.int16)[::2][: len(sound)] == sound).all()
        assert await get("bytes=0-99") == (206, f"bytes 0-99/{size}", whole[:100])
        assert await get("bytes=100-") == (206, f"bytes 100-{size - 1}/{size}", whole[100:])
        assert await get("bytes=-7") == (206, f"bytes {size - 7}-{size - 1}/{size}", whole[-7:])
        assert await get(f"bytes={size}-") == (416, f"bytes */{size}", b"")

    asyncio.run(ask())


def test_there_is_none(platform: Platform) -> None:
    call_id = platform.calls.open_call(CONCIERGE, "room", "caller", 9)
    assert call_id is not None
    path = f"/v1/calls/{call_id}/recording"
    assert platform.get(path) == (
        404,
        {"error": "the call is not over yet, and its recording comes at the end"},
    )
    platform.calls.end_call(call_id, "nobody_joined")
    assert platform.get(path) == (
        404,
        {"error": "there is no recording: the call never began, or newer calls took its place"},
    )


# ------------------------------------------------------------------ real calls


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    with line(tmp_path_factory.mktemp("sandbox")) as it:
        yield it


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser()


def recorded(phone: Line, call_id: str) -> Samples:
    path = phone.recordings.find(call_id)
    assert path is not None
    return sides(path)


def place(record: CallRecord, entry: int) -> int:
    """The sample of the recording at which an entry of the record begins."""
    begun = datetime.fromisoformat(record["transcript"]["entries"][entry]["createdAt"])
    return round((begun - datetime.fromisoformat(record["started_at"])).total_seconds() * RATE)


def onset(sound: NDArray[Any], level: float) -> int:
    """The first sample around which it is so loud."""
    return int(np.argmax(np.convolve(np.abs(sound.astype(float)), np.ones(160) / 160, "same") > level))


def test_what_was_recorded_is_what_was_said_and_when(phone: Line, recogniser: Recogniser) -> None:
    async def call() -> CallRecord:
        async with phone.call(first_message="Good day. What can I do for you?") as (caller, call_id):
            await caller.message("response_text", final("do for you"))
            await caller.ask("hello", "response_text", final())
        return await phone.record(call_id)

    record = asyncio.run(call())
    heard = recorded(phone, record["id"])
    assert heard.shape[1] / RATE == pytest.approx(record["duration_seconds"], abs=0.5)
    entries = record["transcript"]["entries"]
    for role, side in (("assistant", AGENT), ("user", CALLER)):
        said = " ".join(entry["message"] for entry in entries if entry["role"] == role)
        words = recogniser.transcribe(heard[side])
        assert likeness(said, words) > 0.7, (said, words)

    # The caller's words stand where their record says that they began, and sound as they were spoken.
    first = next(n for n, entry in enumerate(entries) if entry["role"] == "user")
    spoken = read_wav(SPEECH / "hello.wav").astype(float)
    begins = onset(heard[CALLER], 500)
    assert begins / RATE == pytest.approx(place(record, first) / RATE, abs=0.5)
    part = heard[CALLER, begins - onset(spoken, 500) :][: len(spoken)].astype(float)
    likenesses = np.correlate(part, spoken, "full") / np.sqrt((part**2).sum() * (spoken**2).sum())
    assert likenesses.max() > 0.5  # Opus changes the wave, and another sentence reaches 0.1

    # So do the agent's, whose record begins with the first word that the caller was shown.
    assert onset(heard[AGENT], 300) / RATE == pytest.approx(place(record, 0) / RATE, abs=0.5)


def test_what_the_caller_cut_off_is_not_in_it(phone: Line, recogniser: Recogniser) -> None:
    message = "Here are all of our dishes. First comes the soup, then the salad, and then the roasted fish."

    async def call() -> CallRecord:
        async with phone.call(first_message=f"{message} After that we have cake and coffee.") as (
            caller,
            call_id,
        ):
            await caller.message("response_text", lambda data: data["text"].count(" ") > 6)
            await caller.say("long_question")
            await caller.message("response_text", lambda data: data["turn_id"] == "agent-2")
        return await phone.record(call_id)

    record = asyncio.run(call())
    assert record["transcript"]["entries"][1]["type"] == "interruption"
    heard = recorded(phone, record["id"])[AGENT]
    words = recogniser.transcribe(heard[: place(record, 1) + 2 * RATE])
    assert "dishes" in words.lower()
    assert "coffee" not in recogniser.transcribe(heard).lower()
    cut = place(record, 1)
    assert not heard[cut + RATE // 5 : cut + RATE // 2].any()
