"""A caller without a browser (real sound both ways, every message kept), and a line for it to call on."""

import asyncio
import json
import secrets
import threading
import time
import uuid
import wave
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from livekit import api, rtc
from numpy.typing import NDArray

from sandbox.agent import VoiceAgent
from sandbox.calls import CallRecord, CallStore
from sandbox.conversation import CallRequest
from sandbox.livekit import LiveKitServer
from sandbox.livekit_binary import find
from sandbox.recordings import Recordings
from sandbox.wits import LlmConfig

SPEECH = Path(__file__).parent.parent / "e2e" / "speech"
RATE = 16_000  # Hz, mono, both ways
STEP = RATE // 100
LOUD = 150  # root mean square of a frame in which somebody speaks

T = TypeVar("T")
Message = dict[str, Any]
Where = Callable[[Message], object]


def read_wav(path: Path) -> NDArray[np.int16]:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def anything(_: Message) -> bool:
    return True


def final(*words: str) -> Where:
    """Passes a final text with all these words in it."""

    def passes(data: Message) -> bool:
        text = str(data.get("text", data.get("transcript"))).lower()
        return bool(data["is_final"]) and all(word in text for word in words)

    return passes


class Caller:
    """`tools` gives the output for a tool's name; a tool that it lacks gets no answer."""

    def __init__(self, tools: dict[str, str]) -> None:
        self.messages: list[Message] = []
        self.heard: list[NDArray[np.int16]] = []  # all that came from the agent, 10 ms each
        self._heard_at: list[int] = []  # how much of it was there when each message came
        self.connected = True
        self._tools = tools
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = rtc.Room()
        self._source = rtc.AudioSource(RATE, 1, queue_size_ms=50)
        self._streams: asyncio.Queue[rtc.TextStreamReader] = asyncio.Queue()
        self._to_say = np.zeros(0, np.int16)
        self._news = asyncio.Condition()

    async def join(self, url: str, token: str) -> None:
        self._room.on("track_subscribed", lambda track, *_: self._start(self._listen(track)))
        self._room.on("disconnected", lambda *_: self._start(self._on_disconnected()))
        self._room.register_text_stream_handler(
            "messages", lambda reader, _: self._streams.put_nowait(reader)
        )
        self._start(self._receive())
        await self._room.connect(url, token)
        microphone = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False)
        await self._room.local_participant.publish_track(microphone, options)
        self._start(self._speak())

    async def leave(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._source.aclose()
        await self._room.disconnect()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def say(self, name: str) -> None:
        """Speak a recording of tests/e2e/speech; returns when the last sample has left."""
        self._to_say = read_wav(SPEECH / f"{name}.wav")
        await self.until(lambda: not len(self._to_say), f"said {name}")

    async def until(self, condition: Callable[[], T], what: str, timeout_s: float = 30) -> T:
        """Wait until `condition` holds, and return what it returned."""
        async with self._news:
            try:
                async with asyncio.timeout(timeout_s):
                    while not (found := condition()):
                        await self._news.wait()
            except TimeoutError:
                kinds = "\n".join(f"{m['type']} {m['data']}" for m in self.messages)
                raise AssertionError(f"waited in vain: {what}; there came\n{kinds}") from None
        return found

    async def message(
        self, kind: str, where: Where = anything, skip: int = 0, timeout_s: float = 30
    ) -> Message:
        """The first message of this type, after the first `skip` messages, whose data pass `where`."""

        def found() -> Message | None:
            return next((m for m in self.messages[skip:] if m["type"] == kind and where(m["data"])), None)

        found_message = await self.until(found, f"a {kind}", timeout_s)
        assert found_message is not None
        return found_message

    async def ask(self, name: str, kind: str, where: Where = anything) -> Message:
        """Say a recording and wait for what must follow. As people do, say it again when nothing comes of it:
        a machine under load tears sentences apart."""
        start = len(self.messages)
        for _ in range(2):
            await self.say(name)
            with suppress(AssertionError):
                return await self.message(kind, where, start, timeout_s=10)
        await self.say(name)
        return await self.message(kind, where, start)

    def heard_before(self, message: Message) -> NDArray[np.int16]:
        """All that had come from the agent when this message came."""
        return np.concatenate(self.heard[: self._heard_at[self.messages.index(message)]])

    def agent_speaks(self) -> bool:
        """The agent has been heard in the last 100 ms that came."""
        return any(_is_loud(frame) for frame in self.heard[-10:])

    async def send(self, text: str) -> None:
        await self._room.local_participant.send_text(text, topic="messages")

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _on_disconnected(self) -> None:
        self.connected = False
        await self._notify()

    async def _receive(self) -> None:
        while True:
            # One stream after another, or a short message could overtake a long one.
            reader = await self._streams.get()
            message: Message = json.loads(await reader.read_all())
            self.messages.append(message)
            self._heard_at.append(len(self.heard))
            await self._notify()
            data = message["data"]
            if message["type"] == "tool_call" and data["toolName"] in self._tools:
                answer = {"toolCallId": data["toolCallId"], "output": self._tools[data["toolName"]]}
                await self.send(json.dumps({"type": "tool_call_output", "data": answer}))

    async def _listen(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1, frame_size_ms=10)
        try:
            async for event in stream:
                self.heard.append(np.frombuffer(event.frame.data, np.int16))
                await self._notify()
        finally:
            await stream.aclose()

    async def _speak(self) -> None:
        hiss = np.random.default_rng(0)
        while True:
            frame = hiss.normal(0, 20, STEP)
            said, self._to_say = self._to_say[:STEP], self._to_say[STEP:]
            frame[: len(said)] += said
            samples = np.clip(frame, -32768, 32767).astype(np.int16).tobytes()
            await self._source.capture_frame(rtc.AudioFrame(samples, RATE, 1, STEP))
            await self._notify()


def _is_loud(frame: NDArray[np.int16]) -> bool:
    return bool(np.sqrt(np.mean(frame.astype(float) ** 2)) > LOUD)


class Line:
    """A LiveKit server and the agent in a thread of their own, and the records that it leaves."""

    def __init__(self, data: Path, llm: LlmConfig | None, join_timeout_s: float) -> None:
        self.calls = CallStore(data / "calls.db")
        self._key, self._secret = "test-key", secrets.token_urlsafe(32)
        self._livekit = LiveKitServer(find(), self._key, self._secret)
        self.recordings = Recordings(data / "recordings")
        server = self._livekit.url, self._key, self._secret
        self.agent = VoiceAgent(self.calls, self.recordings, *server, llm, join_timeout_s)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def start(self) -> None:
        self._thread.start()
        self._do(self._livekit.start())
        self._work = asyncio.run_coroutine_threadsafe(self.agent.run(), self._loop)
        self._do(self.agent.load())
        self._do(self.agent.wait_ready())

    def stop_agent(self) -> None:
        self._do(self.agent.aclose())
        self._work.result(5)

    def stop(self) -> None:
        self.stop_agent()
        self._do(self._livekit.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.calls.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    @property
    def url(self) -> str:
        return self._livekit.url

    def wait_for_voice(self, call_id: str) -> None:
        """Return when somebody, so the agent, can be heard in the call's room."""
        self.wait_until(lambda: self._do(self._voices(f"call-{call_id}")))

    async def _voices(self, room: str) -> int:
        http = self.url.replace("ws", "http", 1)
        async with api.LiveKitAPI(http, self._key, self._secret) as livekit:
            there = await livekit.room.list_participants(api.ListParticipantsRequest(room=room))
        return sum(len(participant.tracks) for participant in there.participants)

    @property
    def livekit_pid(self) -> int:
        pid = self._livekit.pid
        assert pid is not None
        return pid

    def wait_until(self, condition: Callable[[], object], timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)

    def mint(self, **request: Any) -> tuple[str, str]:
        """Open a call and send the agent; returns the call's id and the caller's token."""
        identity = f"caller-{secrets.token_hex(4)}"
        call_id = self.calls.open_call(str(uuid.uuid4()), "call-{call_id}", identity, limit=9)
        assert call_id is not None
        room = f"call-{call_id}"
        self._do(self.agent.dispatch(CallRequest(call_id, "agent", identity, **request), room))
        grants = api.VideoGrants(room_join=True, room=room)
        token = api.AccessToken(self._key, self._secret).with_identity(identity).with_grants(grants)
        return call_id, token.to_jwt()

    @asynccontextmanager
    async def call(
        self, tools: dict[str, str] | None = None, **request: Any
    ) -> AsyncIterator[tuple[Caller, str]]:
        """A caller in a new call, and the call's id; leaves at the end."""
        call_id, token = await asyncio.to_thread(self.mint, **request)
        caller = Caller(tools or {})
        await caller.join(self.url, token)
        try:
            yield caller, call_id
        finally:
            await caller.leave()

    async def record(self, call_id: str, ended: bool = True) -> CallRecord:
        """The platform's record, once the call has ended."""
        async with asyncio.timeout(30):
            while True:
                record = self.calls.get(call_id)
                assert record is not None
                if record["status"] == "ended" or not ended:
                    return record
                await asyncio.sleep(0.05)


@contextmanager
def line(data: Path, llm: LlmConfig | None = None, join_timeout_s: float = 20) -> Iterator[Line]:
    it = Line(data, llm, join_timeout_s)
    it.start()
    try:
        yield it
    finally:
        it.stop()
