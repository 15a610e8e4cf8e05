"""The agent's voice in a room, there before its caller."""

import asyncio

import numpy as np
from livekit import rtc

# Private; but the framework itself makes and publishes it only when the caller has come, who then waits for
# two more negotiations, 0.25 s, before the first word.
from livekit.agents.voice.room_io._output import _ParticipantAudioOutput

from sandbox.recordings import Recording
from sandbox.speech import VOICE_RATE

_QUEUE_MS = 200  # the framework's own


class Loudspeaker(_ParticipantAudioOutput):
    """`start` publishes it and returns when the caller is subscribed; what is said before waits for that."""

    def __init__(self, room: rtc.Room, recording: Recording) -> None:
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        super().__init__(room, sample_rate=VOICE_RATE, num_channels=1, track_publish_options=options)
        self._audio_source = _RecordedSource(recording)

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        # Whoever is cut while waiting for the future itself cancels it, and with it all that is said later.
        await asyncio.shield(self.subscribed)
        await super().capture_frame(frame)


class _RecordedSource(rtc.AudioSource):
    """The last place before the room: it knows when a frame is sent, and what a cut kept from being sent."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(VOICE_RATE, 1, queue_size_ms=_QUEUE_MS)
        self._recording = recording

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        self._recording.agent(np.frombuffer(frame.data, np.int16), self.queued_duration)
        await super().capture_frame(frame)

    def clear_queue(self) -> None:
        self._recording.cut()
        super().clear_queue()
