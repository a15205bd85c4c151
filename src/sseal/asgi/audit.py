"""What a refused request says to the audit log; see `sseal.audit`."""

from __future__ import annotations

from starlette.types import Scope

from ..audit import Audit, one_line
from ..auth.identity import Identity
from ..auth.origin import advice
from ..errors import CredentialInvalid, CredentialMissing, Forbidden, SsealError, TooManyRequests
from ..identity_sources.tickets import SpentTicket, VoidToken

__all__ = ["UnredactedQuery", "audit_refusal", "redacted_path", "whence", "who"]


class UnredactedQuery(CredentialInvalid):
    """A token in a query string that would get into logs which nobody redacts."""

    def __init__(self) -> None:
        super().__init__("?token= needs sseal.telemetry.redaction.install()", auth_method="query", kind="place")


def redacted_path(scope: Scope) -> str:
    """Return the path of a request with a ticket in it blanked out, and without its query."""
    path = one_line(scope["path"])
    head, found, tail = path.rpartition("/events/")
    return f"{head}{found}[ticket]" if found and tail else path


def whence(scope: Scope) -> dict[str, object]:
    """Return the fields that say where a request came from and what it asked for."""
    client = scope.get("client")
    return {"address": client[0] if client else None, "path": redacted_path(scope)}


def who(identity: Identity | None) -> dict[str, object]:
    """Return the fields that say who somebody is and how that was proven."""
    if identity is None:
        return {}
    return {"subject": identity.subject, "issuer": identity.issuer, "auth_method": identity.auth_method}


def audit_refusal(error: SsealError, scope: Scope) -> None:
    """Write down why a request was refused, if that is a matter of security."""
    audit: Audit | None = scope.get("sseal.audit")
    if audit is None:
        return
    where = whence(scope)
    match error:
        case VoidToken():
            return  # said with the end of its family
        case SpentTicket():
            audit.emit("ticket_reused", **where)
        case UnredactedQuery():
            audit.emit("query_token_refused", reason="unredacted", **where)
        case CredentialInvalid(auth_method="password"):
            return  # said by the login
        case CredentialInvalid():
            what = {
                "auth_method": error.auth_method or None,
                "reason": error.kind,
                "detail": error.reason,
                "subject": error.subject,
            }
            audit.emit("credential_refused", **what, **where)
        case CredentialMissing() if _has_token(scope):
            audit.emit("query_token_refused", reason="closed", **where)
        case Forbidden(code="origin_refused"):
            origin = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"), None)
            audit.emit("origin_refused", origin=origin, detail=f"{error.detail}{advice(origin)}", **where)
        case Forbidden(code="admin_required"):
            audit.emit("admin_refused", **who(scope.get("sseal.identity")), **where)
        case TooManyRequests() if error.code != "overloaded":
            identity = who(scope.get("sseal.identity"))
            audit.emit("rate_limited", code=error.code, detail=error.detail, **identity, **where)


def _has_token(scope: Scope) -> bool:
    query: bytes = scope.get("query_string", b"")
    return any(part.startswith(b"token=") for part in query.split(b"&"))
