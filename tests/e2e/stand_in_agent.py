"""An agent that does what the test says: a real participant of a LiveKit room, with a tone for a voice."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import numpy as np
from livekit import rtc

Voice = Literal["tone", "silence", "none"]
TOPIC = "messages"
RATE = 16000
FRAME_MS = 50  # each costs the same, and five agents with shorter ones keep a core busy
FRAME = RATE * FRAME_MS // 1000
TONE = (8000 * np.sin(2 * np.pi * 440 * np.arange(FRAME) / RATE)).astype(np.int16)  # 22 whole periods
GREETING = "Hello, this is the line."


class Agent:
    """One stay in one room. Its coroutines run in the stand-in's event loop, see `Line`."""

    def __init__(self, call_id: str, *, greets: bool) -> None:
        self.room = rtc.Room()
        self.is_loud = True
        self.peak = 0
        """The loudest sample that came from the caller since it was last set to 0; full scale is 32768."""
        self._call_id = call_id
        self._greets = greets
        self._tasks: set[asyncio.Task[None]] = set()

    async def join(self, url: str, token: str, voice: Voice) -> None:
        self.room.on("track_subscribed", lambda track, *_: self._start(self._listen(track)))
        # Before it is active, a caller on a busy machine may miss a message.
        self.room.on("participant_active", lambda _: self._start(self._greet()))
        await self.room.connect(url, token)
        if voice != "none":
            self.is_loud = voice == "tone"
            await self._publish()
        if self.room.remote_participants:
            await self._greet()

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.room.disconnect()

    async def say(self, text: str) -> None:
        """Send any text as a message."""
        await self.room.local_participant.send_text(text, topic=TOPIC)

    async def tell(self, kind: str, **data: Any) -> None:
        """Send a message of the wire."""
        await self.say(json.dumps({"type": kind, "data": data}))

    async def _publish(self) -> None:
        source = rtc.AudioSource(RATE, 1, queue_size_ms=100)  # its usual second would delay each change
        track = rtc.LocalAudioTrack.create_audio_track("agent", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await self.room.local_participant.publish_track(track, options)
        self._start(self._sound(source))

    async def _sound(self, source: rtc.AudioSource) -> None:
        while True:
            pcm = (TONE * self.is_loud).astype(np.int16).tobytes()
            await source.capture_frame(rtc.AudioFrame(pcm, RATE, 1, FRAME))

    async def _greet(self) -> None:
        if self._greets:
            self._greets = False
            await self.tell("session_started", id=self._call_id)
            await self.tell("response_text", text=GREETING, turn_id="greeting", is_final=True)

    async def _listen(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1, frame_size_ms=FRAME_MS)
        try:
            async for event in stream:
                samples = np.frombuffer(event.frame.data, np.int16).astype(np.int32)
                self.peak = max(self.peak, int(np.abs(samples).max()))
        finally:
            await stream.aclose()

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
