from channels.security.websocket import WebsocketDenier
from django.urls import path, re_path

from sessions_app.consumers import TranscriptConsumer
from sessions_app.relay import relay

websocket_urlpatterns = [
    path("ws/sessions/<uuid:session_id>/", relay),  # type: ignore[arg-type]  # any ASGI application will do
    path("ws/transcripts/<uuid:session_id>/", TranscriptConsumer.as_asgi()),
    re_path("", WebsocketDenier.as_asgi()),  # anything else is refused, not an unhandled error
]
