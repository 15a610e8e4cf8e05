"""Staff's socket: it only says that there is something new; the page reads it from the log."""

import asyncio
import json
import logging
from typing import Any
from uuid import UUID

from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth import get_user
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest

from sessions_app import log
from sessions_app.relay import Close, browser_of, in_thread, watchers

logger = logging.getLogger(__name__)


class TranscriptConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no types
    """Log → staff."""

    RECHECK_S = 30.0
    """A logout, or a permission withdrawn, ends the watching within this time, and the page looks again."""

    async def dispatch(self, message: dict[str, Any]) -> None:
        # Without Channels' visit to the one database thread before every message; see in_thread.
        await getattr(self, message["type"].replace(".", "_"))(message)

    @property
    def session_id(self) -> UUID:
        session_id: UUID = self.scope["url_route"]["kwargs"]["session_id"]
        return session_id

    async def close(self, code: int | bool | None = None, reason: str | None = None) -> None:
        # Under Daphne, autobahn refuses a code whose type is not int itself, as that of an enum's member.
        await super().close(code if code is None else int(code), reason)

    async def say(self, message: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps(message))

    async def connect(self) -> None:
        self.guard: asyncio.Task[None] | None = None
        await self.accept()
        if not await in_thread(may_watch)(browser_of(self.scope)):
            await self.close(Close.NOT_YOURS)
            return
        await self.channel_layer.group_add(log.group(self.session_id), self.channel_name)
        watchers.add(self)
        self.guard = asyncio.create_task(self.keep_checking())
        # The page was rendered some time before it was heard of here: let it look once.
        await self.say({"type": "recorded"})

    async def disconnect(self, code: int) -> None:
        watchers.discard(self)
        if self.guard is not None:
            self.guard.cancel()
            await self.channel_layer.group_discard(log.group(self.session_id), self.channel_name)

    async def keep_checking(self) -> None:
        code: int = 0
        while not code:
            await asyncio.sleep(self.RECHECK_S)
            try:
                code = 0 if await in_thread(may_watch)(browser_of(self.scope)) else Close.NOT_YOURS
            except Exception:
                # Whatever it is, nobody goes on watching without having been checked.
                logger.exception("session %s: permission to watch could not be checked", self.session_id)
                code = Close.TROUBLE
            if not code:
                # For what other processes have recorded, as `sweep`: the doorbell rings in this one only.
                await self.say({"type": "recorded"})
        await self.close(code)

    async def event_recorded(self, message: dict[str, Any]) -> None:
        await self.say({"type": "recorded"})

    async def event_interim(self, message: dict[str, Any]) -> None:
        await self.say({"type": "interim", "frame": message["frame"]})


def may_watch(browser: SessionBase) -> bool:
    """Whether this session, not read before, is one of staff who may see calls, now."""
    request = HttpRequest()
    request.session = browser
    user = get_user(request)
    return user.is_active and user.is_staff and user.has_perm("sessions_app.view_voicesession")
