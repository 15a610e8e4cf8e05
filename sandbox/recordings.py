"""The sound of each call as WAV: what the room got from either side, on the call's own clock."""

import logging
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Samples = NDArray[np.int16]

RATE = 16_000  # Hz; stereo, 16 bit: 64 kB for each second
CALLER, AGENT = 0, 1  # left, right

LONGEST_S = 3600  # of one call: 230 MB
KEPT_BYTES = 1 << 30  # of all calls together; the oldest make room for the newest

_HEADER = 44  # bytes before the sound
_FRAME = 4  # bytes: a sample of either side

# What is older than _LATE_S is written. Until then a cut can take back what the room had not got yet, and the
# caller's sound may be late: the call's event loop is, at times.
_LATE_S = 1
_WINDOW = 4 * RATE
# The event loop's lateness passes; what stays for a whole second is a gap in the sound.
_LAG = RATE // 20
_GAP = 2 * RATE
_SECOND = RATE

_log = logging.getLogger(__name__)


class Recordings:
    """A folder of them, `<call id>.wav`; while a call is being recorded, `<call id>.part`."""

    def __init__(self, folder: Path) -> None:
        """Nobody else may record into the folder. What a dead process has left in it is made whole."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._tidying = threading.Lock()  # calls end in threads of their own
        for left in folder.glob("*.part"):
            _finish(left)

    def begin(self, call_id: str) -> "Recording":
        """For a new call. Nothing is kept of one that never starts."""
        return Recording(self._folder / f"{call_id}.part", self._make_room)

    def find(self, call_id: str) -> Path | None:
        """The whole recording of an ended call, if it is (still) kept."""
        path = self._folder / f"{call_id}.wav"
        return path if path.is_file() else None

    def _make_room(self) -> None:
        with self._tidying:
            found = [(path.stat(), path) for path in self._folder.glob("*.wav")]
            kept = 0
            for stat, path in sorted(found, key=lambda pair: pair[0].st_mtime, reverse=True):
                kept += stat.st_size
                if kept > KEPT_BYTES:
                    path.unlink()


class Recording:
    """Of one call. Lives on the call's event loop; nothing in here waits but for the disk's cache.

    A disk that fails ends the recording, and not the call.
    """

    def __init__(
        self, path: Path, on_close: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._on_close = on_close
        self._clock = clock
        self._file: BinaryIO | None = None
        self._is_started = False
        self._zero = 0.0  # the clock at the first sample
        self._window = np.zeros((_WINDOW, 2), np.int16)
        self._written = 0  # samples in the file, where the window begins
        self._caller_next: int | None = None
        self._lags: list[int] = []
        self._agent_next = 0
        self._resample = Resampler()

    def start(self, ago_s: float) -> None:
        """The call's clock has begun so long ago. The first start counts."""
        if self._is_started:
            return
        self._is_started = True
        self._zero = self._clock() - ago_s
        try:
            self._file = self._path.open("wb")
            self._file.write(wav_header(0))
        except OSError as problem:
            self._give_up(problem)

    def caller(self, sound: Samples) -> None:
        """Sound of the caller's (RATE) that has just come, without gaps as long as their track lives."""
        if self._file is None:
            return
        due = self._now() - len(sound)
        at = due if self._caller_next is None else self._caller_next
        self._lags.append(due - at)
        if not 0 <= self._lags[-1] < _GAP:
            at = due
            self._lags.clear()
        elif len(self._lags) * len(sound) >= _SECOND:
            if min(self._lags) > _LAG:
                at += min(self._lags)
            self._lags.clear()
        self._put(CALLER, at, sound)
        self._caller_next = at + len(sound)

    def agent(self, sound: Samples, queued_s: float) -> None:
        """Sound of the agent's (24 kHz) that the room gets in `queued_s`, when it has what came before."""
        if self._file is None:
            return
        at = self._now() + round(queued_s * RATE)
        if not queued_s or abs(at - self._agent_next) > RATE // 10:
            self._agent_next = at
            self._resample = Resampler()
        sound = self._resample(sound)
        self._put(AGENT, self._agent_next, sound)
        self._agent_next += len(sound)

    def cut(self) -> None:
        """The room gets no more of what the agent had queued."""
        self._window[max(0, self._now() - self._written) :, AGENT] = 0

    def close(self) -> None:
        """The call is over; what was still queued is not in it."""
        if self._file is None:
            return
        try:
            self._write(self._now())
            with self._file:
                self._file.truncate(_HEADER + self._written * _FRAME)  # it may end in a hole
            _finish(self._path)
            self._on_close()
        except OSError as problem:
            self._give_up(problem)
        self._file = None

    def _now(self) -> int:
        return round((self._clock() - self._zero) * RATE)

    def _put(self, side: int, at: int, sound: Samples) -> None:
        now = self._now()
        if now - self._written > 2 * _LATE_S * RATE:
            try:
                self._write(now - _LATE_S * RATE)
            except OSError as problem:
                self._give_up(problem)
        first = at - self._written
        sound = sound[max(0, -first) :]
        first = max(0, first)
        room = self._window[first : first + len(sound), side]
        room[:] = sound[: len(room)]

    def _write(self, up_to: int) -> None:
        """Everything before `up_to`; beyond the window there was silence. Raises OSError."""
        assert self._file is not None  # noqa: S101 - all callers look
        up_to = min(up_to, LONGEST_S * RATE)
        done = min(up_to - self._written, _WINDOW)
        if done > 0:
            self._file.write(self._window[:done].tobytes())
            self._file.seek(_HEADER + up_to * _FRAME)  # a hole in the file reads as silence
            self._file.flush()
            self._window[: _WINDOW - done] = self._window[done:]
            self._window[_WINDOW - done :] = 0
            self._written = up_to

    def _give_up(self, problem: OSError) -> None:
        _log.error("%s: the recording ends here: %s", self._path.stem, problem)
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        self._file = None
        with suppress(OSError):
            _finish(self._path)


class Resampler:
    """The agent's 24 kHz to RATE, one block after the other: two samples for each three."""

    _TAPS = 24
    _AT = np.arange(_TAPS)[:, None] - (_TAPS / 2 - 1) - np.array([0.0, 1.5])  # from each of the two
    _FILTER = np.sinc(_AT * 2 / 3) * np.cos(np.pi * np.clip(_AT / _TAPS, -0.5, 0.5)) ** 2
    _FILTER = (_FILTER / _FILTER.sum(axis=0)).astype(np.float32)

    def __init__(self) -> None:
        self._rest = np.zeros(self._TAPS // 2 - 1, np.float32)

    def __call__(self, sound: Samples) -> Samples:
        sound_and_rest = np.concatenate([self._rest, sound.astype(np.float32)])
        steps = max(0, (len(sound_and_rest) - self._TAPS) // 3 + 1)
        self._rest = sound_and_rest[steps * 3 :]
        if not steps:
            return np.zeros(0, np.int16)
        blocks = sliding_window_view(sound_and_rest, self._TAPS)[: steps * 3 : 3]
        resampled: Samples = np.rint(blocks @ self._FILTER).clip(-32768, 32767).astype(np.int16).reshape(-1)
        return resampled


def wav_header(size: int) -> bytes:
    """Of `size` bytes of sound."""
    riff = struct.pack("<4sI4s", b"RIFF", size + _HEADER - 8, b"WAVE")
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, RATE, RATE * _FRAME, _FRAME, 16)
    return riff + form + struct.pack("<4sI", b"data", size)


def _finish(part: Path) -> None:
    """Give a recording that has ended, however it has, its header and its name."""
    size = part.stat().st_size - _HEADER
    if size < _FRAME:  # the process died, or the disk was full, before a sound was written
        part.unlink()
        return
    size -= size % _FRAME
    with part.open("r+b") as file:
        file.write(wav_header(size))
        file.truncate(_HEADER + size)
    part.rename(part.with_suffix(".wav"))
