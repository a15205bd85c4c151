"""django-eventstream on uvicorn, without storage (so without ids and replay), with a token check."""

from __future__ import annotations

import json
import os

import django
from common import arguments, serve, verify
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    SECRET_KEY=os.environ["BENCH_SECRET"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django_eventstream"],
    MIDDLEWARE=[],
    DATABASES={},
    LOGGING_CONFIG=None,
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402 - after setup, as django asks for
from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402
from django.http.response import HttpResponseBase  # noqa: E402
from django.urls import path  # noqa: E402
from django_eventstream import send_event  # noqa: E402
from django_eventstream.views import events as stream  # noqa: E402


async def events(request: HttpRequest) -> HttpResponseBase:
    """Stream the common topic and the reader's own, or publish one event."""
    subject = verify(request.headers.get("Authorization"))
    if subject is None:
        return HttpResponse(status=401)
    if request.method == "POST":
        body = json.loads(request.body)
        send_event(body["topic"], "message", body["data"], json_encode=False)
        return JsonResponse({}, status=201)
    return stream(request, channels=["common", f"user/{subject}"])


urlpatterns = [path("events", events)]
app = get_asgi_application()

if __name__ == "__main__":
    serve(app, arguments().parse_args().port)
