"""A recording while it is read, from the platform or from the site's own copy; which part of it is wanted."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sessions_app import vatel
from sessions_app.vatel import CHUNK, VatelBadAnswerError, VatelTimeoutError, VatelUnreachableError

PART = 512 * 1024
"""Bytes of one answer to a range: about 8 s of the sandbox's sound. Players then ask for what follows; one
that is paused must not hold a connection to the platform, however much it has asked for."""
MAX_SOUND = 1024 * 1024 * 1024
"""Bytes of a recording: hours of it."""


@dataclass(frozen=True)
class Span:
    """The part that a Range header asks for: from `first` to `last` or the end; or the last `tail` bytes."""

    first: int = 0
    last: int | None = None
    tail: int = 0

    @classmethod
    def read(cls, header: str) -> Self | None:
        """None: all of it. That also answers what is not served in parts: several ranges, other units."""
        found = re.fullmatch(r"bytes=(?:([0-9]{1,15})-([0-9]{0,15})|-([0-9]{1,15}))", header.strip())
        if found is None:
            return None
        first, last, tail = (int(text) if text else None for text in found.groups())
        if first is None:
            return cls(tail=tail) if tail else None
        return None if last is not None and last < first else cls(first, last)

    @property
    def header(self) -> str:
        """The Range header of the part of this part that is served."""
        if self.tail:
            return f"bytes=-{self.tail}"
        end = self.first + PART - 1
        return f"bytes={self.first}-{end if self.last is None else min(self.last, end)}"

    def within(self, total: int) -> range:
        """The bytes to be served of a recording of so many; none if there is no such part."""
        first = max(0, total - self.tail) if self.tail else self.first
        end = total if self.last is None else min(total, self.last + 1)
        return range(first, min(end, first + PART))


class Sound:
    """An open recording. Closed from whichever thread, but only once nobody reads it any more."""

    def __init__(
        self, chunks: Iterable[bytes], at: int, total: int | None, kind: str, close: Callable[[], None]
    ) -> None:
        """`chunks` begin with byte `at` of `total` (None: nobody knows)."""
        self.total = total
        self.kind = kind
        self._at = at
        self._chunks = iter(chunks)
        self._close: Callable[[], None] | None = close
        self._reading = threading.Lock()

    def read(self, part: range, limit_s: float) -> bytes:
        """These bytes. Raises VatelError, also where the recording ends too early."""
        return b"".join(self._pieces(part.start, part.stop, limit_s))

    def pieces(self, limit_s: float) -> Iterator[bytes]:
        """All of them, one piece after the other. Raises VatelError."""
        return self._pieces(0, self.total, limit_s)

    def _pieces(self, first: int, end: int | None, limit_s: float) -> Iterator[bytes]:
        deadline = time.monotonic() + limit_s
        while end is None or self._at < end:
            with self._reading:
                chunk = next(self._chunks, b"") if self._close else b""
            if not chunk:
                if end is None:
                    return
                raise VatelUnreachableError(f"the recording ended at byte {self._at}, before {end}")
            if time.monotonic() > deadline:
                raise VatelTimeoutError(f"the recording was not complete after {limit_s:.0f} s")
            begins, self._at = self._at, self._at + len(chunk)
            if self._at > MAX_SOUND:
                raise VatelBadAnswerError(f"the recording is over {MAX_SOUND} bytes")
            if self._at > first:
                yield chunk[max(0, first - begins) : None if end is None else max(0, end - begins)]

    def close(self) -> None:
        """Waits until a read that is under way has ended, which it does in time."""
        with self._reading:
            close, self._close = self._close, None
        if close is not None:
            close()

    __del__ = close  # of a response that the browser did not wait for, nobody else closes it


def from_copy(path: Path, span: Span | None) -> Sound:
    """Raises FileNotFoundError."""
    file = path.open("rb")
    total = path.stat().st_size
    first = span.within(total).start if span else 0
    file.seek(first)
    return Sound(iter(lambda: file.read(CHUNK), b""), first, total, "audio/wav", file.close)


def from_platform(call_id: str, span: Span | None, close: Callable[[], None]) -> Sound:
    """From the part that is wanted, or from the beginning where the platform does not know Range. Raises
    VatelError; then, too, `close` is called."""
    try:
        recording = vatel.platform().open_recording(call_id, span.header if span else "")
    except BaseException:
        close()
        raise

    def close_both() -> None:
        recording.close()
        close()

    try:
        at, total = _place(recording, span)
        kind = _kind(recording)
    except vatel.VatelError:
        close_both()
        raise
    return Sound(recording.chunks, at, total, kind, close_both)


def _place(recording: vatel.Recording, span: Span | None) -> tuple[int, int | None]:
    """Where the platform's answer begins, and the length of the whole. Raises VatelBadAnswerError."""
    headers = recording.headers
    if recording.status == 200:
        length = headers.get("content-length", "")
        return 0, int(length) if re.fullmatch(r"[0-9]{1,15}", length) else None
    told = headers.get("content-range", "")
    found = re.fullmatch(r"bytes (?:([0-9]{1,15})-[0-9]{1,15}|\*)/([0-9]{1,15})", told)
    if span is None or found is None or (found[1] is None) != (recording.status == 416):
        raise VatelBadAnswerError(f"a recording was answered {recording.status} with Content-Range {told!r}")
    total = int(found[2])
    part = span.within(total)
    if recording.status == 206 and int(found[1]) != part.start:
        raise VatelBadAnswerError(f"asked for {span.header}, the platform sent {told!r}")
    if recording.status == 416 and part:
        raise VatelBadAnswerError(f"the platform refused {span.header} of {total} bytes")
    return part.start, total


def _kind(recording: vatel.Recording) -> str:
    """Its media type: never one that a browser would take for a page of this site."""
    told = recording.headers.get("content-type", "").partition(";")[0].strip().lower()
    if re.fullmatch(r"audio/[a-z0-9.+-]{1,40}", told):
        return told
    if recording.status == 416 or told in ("", "application/octet-stream", "binary/octet-stream"):
        return "audio/wav"
    raise VatelBadAnswerError(f"a recording that is {told!r}, and no sound")
