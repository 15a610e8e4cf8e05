"""What a page played, and which words are in it."""

from __future__ import annotations

import base64
import difflib
import functools
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from moonshine_voice import ModelArch, Transcriber, get_assets_path
from numpy.typing import NDArray

RATE = 16000  # Hz, of everything here
LOUD = 0.01  # RMS of a 20 ms window, full scale 1: speech is far above it, Opus' comfort noise far below


@dataclass(frozen=True)
class Sound:
    """Mono PCM at 16 kHz, -1..1, and the page's clock (ms, `performance.now`) at its first sample."""

    pcm: NDArray[np.float32]
    started_ms: float

    @classmethod
    def from_page(cls, taken: dict[str, Any]) -> Sound:
        raw = np.frombuffer(base64.b64decode(taken["pcm"]), "<i2")
        return cls((raw / 32768).astype(np.float32), taken["startedAt"] or 0.0)

    def since(self, at_ms: float) -> Sound:
        """The part from the page's time `at_ms` on."""
        skipped = max(0, int((at_ms - self.started_ms) / 1000 * RATE))
        return Sound(self.pcm[skipped:], self.started_ms + skipped / RATE * 1000)

    def loud(self) -> list[float]:
        """The page's times (ms) of each 20 ms window in which something is heard."""
        size = RATE // 50
        windows = self.pcm[: len(self.pcm) // size * size].reshape(-1, size)
        level = np.sqrt((windows**2).mean(axis=1)) if len(windows) else np.zeros(0)
        return [self.started_ms + 20 * int(i) for i in np.nonzero(level > LOUD)[0]]

    def words(self) -> str:
        """What is said in it, as the recogniser writes it."""
        # A tail of silence: without it the recogniser's own voice detection stays "on" for the next sound.
        padded = np.concatenate([self.pcm, np.zeros(RATE // 2, np.float32)])
        with _lock:
            lines = _recogniser().transcribe_without_streaming(padded.tolist(), RATE).lines
        return " ".join(line.text for line in lines)


_lock = threading.Lock()


@functools.cache
def _recogniser() -> Any:
    return Transcriber(str(Path(get_assets_path()) / "tiny-en"), ModelArch.TINY)


PAUSE_MS = 600  # a gap this long in the agent's sound is silence, not a breath between sentences


def falls_silent(sound: Sound, after_ms: float) -> float:
    """When the agent, speaking at the page's time `after_ms`, made its last sound before a pause (ms).

    Raises AssertionError if nothing was heard around `after_ms`: then there was nothing to silence.
    """
    loud = sound.loud()
    assert any(abs(at - after_ms) < PAUSE_MS for at in loud), "the agent was not speaking"
    last = after_ms
    for at in (at for at in loud if at > after_ms):
        if at - last > PAUSE_MS:
            break
        last = at + 20
    return last


def likeness(expected: str, heard: str) -> float:
    """The share of `expected`'s words that are in `heard`, in order: 1.0 is all of them."""
    wanted, got = _plain(expected), _plain(heard)
    blocks = difflib.SequenceMatcher(None, wanted, got, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / max(1, len(wanted))


def _plain(text: str) -> list[str]:
    return re.sub(r"[^a-z0-9 ]", " ", text.lower().replace("'", "")).split()
