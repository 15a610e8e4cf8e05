"""The caller's voice on its way to the agent, recorded as it passes."""

import numpy as np
from livekit import rtc
from livekit.agents.voice import io

from sandbox.recordings import Recording


class Earpiece(io.AudioInput):
    """Between the room's sound (mono, the recording's rate) and whoever listens to it."""

    def __init__(self, source: io.AudioInput, recording: Recording) -> None:
        super().__init__(label="earpiece", source=source)
        self._recording = recording

    async def __anext__(self) -> rtc.AudioFrame:
        frame = await super().__anext__()
        self._recording.caller(np.frombuffer(frame.data, np.int16))
        return frame
