"""The agent's voice in a room, there before its caller."""

import asyncio

from livekit import rtc

# Private; but the framework itself makes and publishes it only when the caller has come, who then waits for
# two more negotiations, 0.25 s, before the first word.
from livekit.agents.voice.room_io._output import _ParticipantAudioOutput

from sandbox.speech import VOICE_RATE


class Loudspeaker(_ParticipantAudioOutput):
    """`start` publishes it and returns when the caller is subscribed; what is said before waits for that."""

    def __init__(self, room: rtc.Room) -> None:
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        super().__init__(room, sample_rate=VOICE_RATE, num_channels=1, track_publish_options=options)

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        # Whoever is cut while waiting for the future itself cancels it, and with it all that is said later.
        await asyncio.shield(self.subscribed)
        await super().capture_frame(frame)
