"""``sseal token``: a JWT for trying things out, and for scripts that publish."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ..auth.jwt import sign
from ..clock import SystemClock
from ..errors import InvalidInput
from ..identity_sources.secret import new_secret
from ..sources import Signing, seconds, signing
from ..topics import Pattern
from .output import AsJson, say, say_json

__all__ = ["token"]

_SIGNERS: Final = ("HS256", "HS384", "HS512")


def token(
    sub: Annotated[str, typer.Option(help="The subject: whom it speaks for.", metavar="NAME", show_default=False)],
    subscribe: Annotated[
        list[str] | None,
        typer.Option(help="A topic or pattern it may read; repeatable.", metavar="PATTERN", show_default=False),
    ] = None,
    publish: Annotated[
        list[str] | None,
        typer.Option(help="A topic or pattern it may publish to; repeatable.", metavar="PATTERN", show_default=False),
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="It may administer the hub.")] = False,
    ttl: Annotated[str, typer.Option(help="How long it is good: seconds, or 15m, 1h, 2d.", metavar="DURATION")] = "1h",
    secret: Annotated[
        str | None,
        typer.Option(
            help="Sign with this instead of jwt_secret; better in SSEAL_JWT_SECRET, where others cannot read it.",
            metavar="TEXT",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings file.", metavar="FILE", show_default="sseal.toml, if there is one")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a JWT, signed with the newest jwt_secret of the settings."""
    if not sub:
        raise InvalidInput("--sub", "must not be empty")
    life = seconds("--ttl", ttl, least=1)
    signer = signing(config)
    if signer is None or (secret is None and not signer.jwt_secret):
        signer = _checked(config)
    if secret is None and not signer.jwt_secret:
        raise InvalidInput("jwt_secret", "there is none to sign with; set SSEAL_JWT_SECRET, or name --config FILE")
    now = int(SystemClock().wall())
    claims: dict[str, Any] = {signer.subject_claim: sub, "iat": now, "exp": now + int(life), "jti": new_secret()}
    if signer.jwt_issuer is not None:
        claims["iss"] = signer.jwt_issuer
    if signer.jwt_audience:
        claims["aud"] = signer.jwt_audience[0]
    claims[signer.grants_claim] = {
        "subscribe": _patterns("--subscribe", subscribe),
        "publish": _patterns("--publish", publish),
        "admin": admin,
    }
    allowed = [name for name in signer.jwt_algorithms or _SIGNERS if name in _SIGNERS]
    if not allowed:
        raise InvalidInput("jwt_algorithms", f"allows none of {', '.join(_SIGNERS)}, which a secret signs with")
    try:
        made = sign(claims, signer.jwt_secret[0] if secret is None else secret, algorithm=allowed[0])
    except InvalidInput as error:
        raise InvalidInput("jwt_secret" if secret is None else "--secret", error.problem) from None
    if as_json:
        say_json(token=made, subject=sub, expires_at=claims["exp"])
    else:
        say(made)


def _checked(config: Path | None) -> Signing:
    """Return the same with every source checked: something is wrong with one, and this says what."""
    from ..settings import load  # its models take longer to load than a token to sign

    hub = load(config).hub()
    return Signing(**{item.name: getattr(hub, item.name) for item in fields(Signing)})


def _patterns(flag: str, texts: list[str] | None) -> list[str]:
    for text in texts or []:
        Pattern.parse(text, flag)
    return texts or []
