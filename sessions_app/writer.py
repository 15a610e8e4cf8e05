"""The one writer of what pages report: the frames of all sockets are committed, then acknowledged."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection

from sessions_app import log
from sessions_app.events import EventError, Frame
from sessions_app.models import VoiceSession

logger = logging.getLogger(__name__)

MAX_BATCH = 500
"""Lines of one transaction: a commit's price for each is small by then, and the others do not wait long."""

LINGER_S = 0.005
"""Under load the writer waits so long for more, which halves the server's work; idle, it does not wait."""

BUSY = 8
"""A batch of so many lines counts as load."""

MAX_WAITING, MAX_WAITING_BYTES = 20_000, 64 * 1024 * 1024
"""What may wait for a database that does not answer; pages keep the rest."""

RETRY_S = 0.2


class Reporter(Protocol):
    """Who reports a call and waits to hear that it is stored: a page's socket."""

    @property
    def session_id(self) -> UUID: ...

    async def stored(self, frames: list[Frame]) -> None:
        """These are committed, in this order; of type REFUSED where the database would not take a frame."""

    async def lost(self, code: str) -> None:
        """One could not be stored, and none after it was: `not_yours` (no session any more) or `trouble`.

        It puts nothing more after this.
        """


class Line:
    """One frame on its way into the log."""

    __slots__ = ("frame", "reporter", "size", "trouble")

    def __init__(self, reporter: Reporter, frame: Frame, size: int) -> None:
        self.reporter = reporter
        self.frame = frame
        self.size = size
        self.trouble = ""


class Writer:
    """One for each process. Whatever comes while one batch is committed is the next one.

    A commit costs a wait for the disk, however many lines it holds: one transaction for all sockets stores
    ten times what one for each frame could. Its thread keeps a database connection of its own.
    """

    def __init__(self) -> None:
        self.waiting: deque[Line] = deque()
        self.waiting_bytes = 0
        self._seen: set[UUID] = set()
        self._task: asyncio.Task[None] | None = None
        self._full: asyncio.Event | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")

    @property
    def is_full(self) -> bool:
        """Too much waits for the database: take no more."""
        return len(self.waiting) >= MAX_WAITING or self.waiting_bytes >= MAX_WAITING_BYTES

    def put(self, reporter: Reporter, frame: Frame, size: int) -> None:
        """Takes the next frame of a session, of `size` bytes; the reporter is told when it is stored."""
        self.waiting.append(Line(reporter, frame, size))
        self.waiting_bytes += size
        if self._full is not None and len(self.waiting) >= MAX_BATCH:
            self._full.set()
        self._start()

    def seen(self, session_id: UUID) -> None:
        """The page of this call was heard of now."""
        self._seen.add(session_id)
        self._start()

    async def flush(self) -> None:
        """Waits until nothing waits any more."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    def close(self) -> None:
        """Gives the database connection back; the next batch opens another."""
        self._thread.submit(lambda: connection.close()).result()  # the connection of that thread

    def _start(self) -> None:
        # No task while there is nothing to do: none to stop, and none that belongs to a loop which is gone.
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        was_busy = False
        while self.waiting or self._seen:
            if was_busy and len(self.waiting) < MAX_BATCH:
                await self._gather()
            batch = [self.waiting.popleft() for _ in range(min(MAX_BATCH, len(self.waiting)))]
            seen, self._seen = self._seen, set()
            was_busy = len(batch) >= BUSY
            try:
                await loop.run_in_executor(self._thread, _store_all, batch, seen)
            except (OperationalError, InterfaceError) as error:
                # The database is gone, locked or full. Nothing of this batch is acknowledged; what of it was
                # stored is passed over the next time.
                self.waiting.extendleft(reversed(batch))
                self._seen |= seen
                logger.warning("%s frames wait for the database: %s", len(self.waiting), error)
                await asyncio.sleep(RETRY_S)
                continue
            except Exception:
                # A defect. Whoever waits for an acknowledgement is told that there will be none.
                logger.exception("%s frames could not be stored", len(batch))
                for line in batch:
                    line.trouble = "trouble"
            self.waiting_bytes -= sum(line.size for line in batch)
            if lost := await _tell(batch):
                self._drop(lost)

    def _drop(self, lost: Collection[Reporter]) -> None:
        """Forgets what else came from them: stored without what was lost, it would leave a gap for ever."""
        kept = [line for line in self.waiting if line.reporter not in lost]
        self.waiting_bytes -= sum(line.size for line in self.waiting) - sum(line.size for line in kept)
        self.waiting = deque(kept)

    async def _gather(self) -> None:
        self._full = asyncio.Event()
        try:
            async with asyncio.timeout(LINGER_S):
                await self._full.wait()
        except TimeoutError:
            pass
        finally:
            self._full = None


writer = Writer()


async def _tell(batch: Sequence[Line]) -> Collection[Reporter]:
    """One word to each reporter, and one ring for each session. Returns those of whom something was lost."""
    frames: dict[Reporter, list[Frame]] = {}
    troubles: dict[Reporter, str] = {}
    for line in batch:
        if line.trouble:
            troubles.setdefault(line.reporter, line.trouble)
        else:
            frames.setdefault(line.reporter, []).append(line.frame)
    for reporter, stored in frames.items():
        await _attempt(reporter.stored(stored), reporter.session_id)
    for reporter, code in troubles.items():
        await _attempt(reporter.lost(code), reporter.session_id)
    for session_id in {reporter.session_id for reporter in frames}:
        await _attempt(log.ring(session_id), session_id)
    return troubles.keys()


async def _attempt(telling: Awaitable[None], session_id: UUID) -> None:
    """What is stored is stored: a broken socket or doorbell keeps nobody else from hearing of theirs."""
    try:
        await telling
    except Exception:
        logger.exception("session %s: not everybody could be told what is stored", session_id)


def _store_all(batch: Sequence[Line], seen: set[UUID]) -> None:
    """In the writer's thread. Raises OperationalError and InterfaceError: try again later."""
    try:
        _store(batch, seen, set())
    except (OperationalError, InterfaceError):
        connection.close()
        raise


def _store(lines: Sequence[Line], seen: set[UUID], lost: set[UUID]) -> None:
    """Stores all that can be stored. A line that the database refuses is found by halving and refused alone.

    `lost`: sessions of which a line could not be stored at all; no later one may be, or there were a gap.
    """
    lines = [line for line in lines if not _is_lost(line, lost)]
    if not lines and not seen:
        return
    try:
        log.commit(_frames(lines), seen)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        match len(lines):
            case 0:
                raise
            case 1:
                _refuse(lines[0], error, lost)
            case number:
                _store(lines[: number // 2], seen, lost)
                _store(lines[number // 2 :], set(), lost)


def _is_lost(line: Line, lost: set[UUID]) -> bool:
    session_id = line.reporter.session_id
    if line.trouble:  # found when this batch was tried before
        lost.add(session_id)
    elif session_id in lost:
        line.trouble = "trouble"
    return bool(line.trouble)


def _refuse(line: Line, error: Exception, lost: set[UUID]) -> None:
    """The refusal takes the line's place, so that the numbers stay gapless."""
    session_id = line.reporter.session_id
    if not VoiceSession.objects.filter(pk=session_id).exists():
        line.trouble = "not_yours"
        lost.add(session_id)
        return
    logger.error("session %s: line %s was refused: %s", session_id, line.frame.seq, error)
    refusal = EventError("not_storable", "the database does not take this event", line.frame.seq)
    refusal.type, refusal.at_ms = line.frame.type, line.frame.at_ms
    line.frame = refusal.as_frame()
    try:
        log.commit(_frames([line]), set())
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        # Without this line there may be none after it; the page comes back, and the next try may succeed.
        logger.exception("session %s: line %s cannot be stored", session_id, line.frame.seq)
        line.trouble = "trouble"
        lost.add(session_id)


def _frames(lines: Sequence[Line]) -> list[tuple[UUID, Frame]]:
    return [(line.reporter.session_id, line.frame) for line in lines]
