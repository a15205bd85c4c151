"""The session cookie: its name, Secure, SameSite, and where it may be given out (W23)."""

from __future__ import annotations

from http.cookies import Morsel

from ..auth.origin import is_loopback
from ..errors import Forbidden
from ..hub_settings import HubSettings
from .requests import HubRequest

__all__ = ["SessionCookie"]


class SessionCookie:
    """Writes the session cookie of one hub."""

    def __init__(self, settings: HubSettings) -> None:
        self._name = settings.session_cookie
        self._insecure = settings.insecure_cookies  # without Secure, for http on loopback only

    def set(self, value: str, max_age: float) -> str:
        """Return a Set-Cookie value (RFC 6265bis section 4.1): ours alone, for scripts of this site only.

        :param max_age: seconds, rounded down.
        """
        morsel: Morsel[str] = Morsel()
        morsel.set(self._name, value, value)
        morsel["path"] = "/"
        morsel["max-age"] = str(int(max_age))
        morsel["httponly"] = True
        morsel["samesite"] = "Strict"
        if not self._insecure:
            morsel["secure"] = True
        return morsel.OutputString()

    def delete(self) -> str:
        """Return the Set-Cookie value that makes a browser forget it."""
        return self.set("", 0.0)

    def check_host(self, request: HubRequest) -> None:
        """Refuse to give out a cookie without Secure to anything but loopback (W23).

        :raises Forbidden: code ``insecure_cookie``.
        """
        own = (request.own_origin or "").partition("://")[2]
        host = own.rpartition(":")[0] or own
        host = own if host.startswith("[") and not host.endswith("]") else host
        if self._insecure and not is_loopback(host):
            raise Forbidden("insecure cookies are for loopback only; unset insecure_cookies", code="insecure_cookie")
