"""What the relay is measured against: Channels as its tutorial has it. Answers each event, stores nothing."""

from __future__ import annotations

import secrets
from typing import Any

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path

settings.configure(
    SECRET_KEY=secrets.token_urlsafe(48),
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)


class Echo(AsyncJsonWebsocketConsumer):  # type: ignore[misc]  # Channels has no types
    async def receive_json(self, content: Any, **options: Any) -> None:
        await self.send_json(content)


application = ProtocolTypeRouter({"websocket": URLRouter([path("echo/", Echo.as_asgi())])})
