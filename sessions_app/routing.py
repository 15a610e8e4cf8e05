from channels.security.websocket import WebsocketDenier
from django.urls import path, re_path

from sessions_app.consumers import RelayConsumer, TranscriptConsumer

websocket_urlpatterns = [
    path("ws/sessions/<uuid:session_id>/", RelayConsumer.as_asgi()),
    path("ws/transcripts/<uuid:session_id>/", TranscriptConsumer.as_asgi()),
    re_path("", WebsocketDenier.as_asgi()),  # anything else is refused, not an unhandled error
]
