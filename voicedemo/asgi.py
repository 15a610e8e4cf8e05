import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "voicedemo.settings")
try:
    http = get_asgi_application()
except ImproperlyConfigured as error:
    raise SystemExit(f"voicedemo: {error}") from None

# The apps must be loaded before anything that imports models.
from sessions_app.routing import websocket_urlpatterns
from voicedemo.middleware import SameOrigin

application = ProtocolTypeRouter({"http": http, "websocket": SameOrigin(URLRouter(websocket_urlpatterns))})
