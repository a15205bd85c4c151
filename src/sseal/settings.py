"""The operator's settings: flags over ``SSEAL_*`` environment over ``sseal.toml`` over defaults.

The hub's own settings are not listed here a second time: their names, types and defaults are read from
`sseal.hub_settings.HubSettings` and `sseal.limits.Limits`. No error shows the value of a setting, because any
value may turn out to be a secret in the wrong place; it names the setting and where it was set.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast, get_origin, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model
from pydantic import Field as ModelField
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from .auth.hosts import host_of
from .auth.jwt import JwtVerifier
from .auth.keys import MIN_SECRET
from .auth.origin import is_loopback
from .errors import InvalidInput
from .hub_settings import HubSettings
from .limits import Limits
from .sources import (
    DEFAULT_FILE,
    DURATION,
    NESTED,
    NOT_SETTINGS,
    PREFIX,
    WHOLE,
    duration,
    injected,
    items,
    misspelt,
    read_file,
    refuse_misspelt,
    whole,
)
from .storage.address import engine_of

__all__ = ["DEFAULT_FILE", "Settings", "config_errors", "load", "new_jwt_secret", "warnings_of"]

DEFAULT_ENGINE: Final = "sqlite:///sseal.db"
"""Where ``serve`` keeps its log, and its store if the log is in memory: a file in the working directory."""
_REMARKABLE: Final = 0.6
"""How alike a variable is to a setting so that it is remarked on: it may be somebody else's."""

TextList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(items)]
Seconds = Annotated[float, BeforeValidator(duration)]


class Settings(BaseSettings):
    """What ``sseal serve`` needs beside the hub's settings; made by `load`, which adds those.

    :param host: address to listen on.
    :param port: port to listen on; 0 for any that is free.
    :param workers: processes; more than one needs a broker they share.
    :param log_level: what is logged: this and everything more serious.
    :param log_format: ``console`` or ``json``; None for console on a terminal, else JSON.
    :param tls_cert_file: PEM file with the certificate chain; with the next one, serve https.
    :param tls_key_file: PEM file with its private key.
    :param forwarded_allow_ips: addresses and networks of proxies whose word on the client counts; ``*`` for whoever
        connects.
    :param forwarded_header: what they write: ``x-forwarded`` (-For and -Proto), or RFC 7239 ``forwarded``.
    :param keep_alive_timeout: a connection without a request is closed after so long.
    :param response_timeout: a client that takes nothing of its answer for so long is cut off.
    :param root_path: path under which a proxy publishes the hub.
    :param jwt_public_key_file: PEM files of public keys, newest first.
    :param metrics: answer ``GET /metrics``, which asks for no credential.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    host: str = "127.0.0.1"
    port: int = ModelField(default=8000, ge=0, le=65535)
    workers: int = ModelField(default=1, ge=1)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    forwarded_allow_ips: TextList = ("127.0.0.1",)
    forwarded_header: Literal["x-forwarded", "forwarded"] = "x-forwarded"
    keep_alive_timeout: Seconds = ModelField(default=5.0, gt=0, lt=1e6)
    response_timeout: Seconds = ModelField(default=30.0, gt=0, lt=1e6)
    root_path: str = ""
    jwt_public_key_file: TextList = ()
    metrics: bool = True

    def hub(self) -> HubSettings:
        """Return the hub's part, with the key files read.

        :raises InvalidInput: a value the hub refuses, or a key file that cannot be read; names the setting.
        """
        values = {item.name: getattr(self, item.name) for item in fields(HubSettings)}
        values["limits"] = Limits(**values["limits"].model_dump())
        values["jwt_public_key"] += tuple(_read_key(path) for path in self.jwt_public_key_file)
        if values["store"] is None and engine_of(values["broker"]) == "memory":
            values["store"] = DEFAULT_ENGINE  # a restart shall forget no session (W15)
        if not values["allowed_hosts"]:
            values["allowed_hosts"] = _hosts_of(values["public_url"], values["allowed_origins"])
        return HubSettings(**values)

    @property
    def tls(self) -> bool:
        """Whether to serve https."""
        return self.tls_cert_file is not None


def _hosts_of(public_url: str | None, origins: tuple[str, ...]) -> tuple[str, ...]:
    """Return the hosts of what an operator has named as the addresses of the site; none if nothing was named."""
    named = [*origins, *([public_url] if public_url else [])]
    return tuple(dict.fromkeys(filter(None, map(host_of, named))))


def _mirror(source: type, **options: Any) -> type[BaseModel]:
    """Return a pydantic model with the fields of a dataclass."""
    hints = get_type_hints(source)
    made: dict[str, Any] = {item.name: _field(item, hints[item.name]) for item in fields(source)}
    return create_model(source.__name__, **options, **made)


def _field(item: Field[Any], hint: Any) -> tuple[Any, Any]:
    """Return annotation and default as pydantic wants them."""
    if is_dataclass(hint):
        model = _mirror(cast("type", hint), __config__=ConfigDict(extra="forbid", frozen=True))
        return model, ModelField(default_factory=model)
    if hint is float:  # every one is a duration
        hint = Seconds
    elif get_origin(hint) is tuple:
        hint = Annotated[hint, NoDecode, BeforeValidator(whole if item.name in WHOLE else items)]
    return hint, item.default


# Alone, the hub answers preflights itself; mounted, that is the host app's part (W39). Alone, it forgets nothing
# when it is restarted; mounted, it makes no files that nobody asked for.
_Loaded = create_model(
    "Loaded",
    __base__=cast("type[Settings]", _mirror(HubSettings, __base__=Settings)),
    cors=(bool, True),
    broker=(str, DEFAULT_ENGINE),
)


def revive(dumped: Mapping[str, object]) -> Settings:
    """Return settings again from their ``model_dump``, in another process; all sources are in them already."""
    return _Loaded.model_validate(dumped)


def load(
    config: str | os.PathLike[str] | None = None, *, assigned: Mapping[str, str] | None = None, **flags: Any
) -> Settings:
    """Read all sources and check each value.

    :param config: the file to read; else ``SSEAL_CONFIG``, else ``sseal.toml`` if there is one.
    :param assigned: what ``--set NAME=VALUE`` said, nested names with a dot, values as in the environment.
    :param flags: what the other flags said; None stands for one that was not given.
    :raises InvalidInput: one sentence: where it was set, what is wrong, what to do. Never the value itself. So is a
        variable that is close to a setting's name, while those that Kubernetes sets are passed over.
    """
    assigned = assigned or {}
    given = {name: value for name, value in flags.items() if value is not None}
    path, written = read_file(config)
    known = _known()
    refuse_misspelt([*known, *NOT_SETTINGS])
    for name in _flatten(written):
        if name not in known:
            raise InvalidInput(f"{path}: {name}", f"is no setting{_closest(name, known)}")
    for name, text in assigned.items():
        if name not in known or name == "limits":
            raise InvalidInput(f"--set {name}", f"is no setting{_closest(name, known)}")
        outer, _, inner = name.partition(".")
        given[outer] = {**given.get(outer, {}), inner: text} if inner else text

    class Sourced(_Loaded):  # type: ignore[valid-type,misc]
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del dotenv_settings, file_secret_settings
            env_settings = cast("EnvSettingsSource", env_settings)
            env_settings.env_vars = {k: v for k, v in env_settings.env_vars.items() if not injected(k, v or "")}
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=written)

    def where(name: str) -> str:
        return f"--set {name}" if name in assigned else _where(name, flags, str(path))

    try:
        settings = cast("Settings", Sourced(**given))
        settings.hub()
    except ValidationError as error:
        raise _explained(error, where) from None
    except SettingsError:
        raise InvalidInput(
            f"{PREFIX}LIMITS", f"is not a JSON object; write {PREFIX}LIMITS{NESTED}STREAMS=100"
        ) from None
    except InvalidInput as error:
        raise InvalidInput(where(error.field), error.problem) from None
    return settings


def new_jwt_secret() -> str:
    """Return a fresh secret: 256 bits in 43 characters."""
    return secrets.token_urlsafe(32)


def config_errors(settings: Settings) -> list[str]:
    """Return why ``serve`` will not start with these settings, each with what to do; empty when it will."""
    hub = settings.hub()
    return [*_key_refusals(hub), *_safety_refusals(settings, hub)]


def _key_refusals(hub: HubSettings) -> Iterator[str]:
    if not (hub.jwt_secret or hub.jwt_public_key or hub.jwt_jwks_url or hub.accounts):
        yield (
            f"there is no key to check tokens with. Add this line to the environment:\n"
            f"  {PREFIX}JWT_SECRET={new_jwt_secret()}\n"
            f"or set {PREFIX}JWT_PUBLIC_KEY_FILE, {PREFIX}JWT_JWKS_URL, or {PREFIX}ACCOUNTS=accounts.db"
        )
    for number, secret in enumerate(hub.jwt_secret, start=1):
        if len(secret.encode("utf-8", "surrogatepass")) < MIN_SECRET:
            which = f" (number {number})" if len(hub.jwt_secret) > 1 else ""
            yield (
                f"jwt_secret{which} has fewer than {MIN_SECRET} bytes and can be guessed. Use a fresh one:\n"
                f"  {PREFIX}JWT_SECRET={new_jwt_secret()}"
            )
        else:
            yield from _key_fault("jwt_secret", secrets=[secret])
    for key in hub.jwt_public_key:
        yield from _key_fault("jwt_public_key", public_keys=[key])
    yield from _key_fault("jwt_algorithms", algorithms=hub.jwt_algorithms or None)


def _key_fault(name: str, **options: Any) -> Iterator[str]:
    try:
        JwtVerifier(**options)
    except InvalidInput as error:
        yield f"{name}: {error.problem}"


def _safety_refusals(settings: Settings, hub: HubSettings) -> Iterator[str]:
    if (settings.tls_cert_file is None) != (settings.tls_key_file is None):
        missing = "TLS_KEY_FILE" if settings.tls_key_file is None else "TLS_CERT_FILE"
        yield f"https needs a certificate and its key. Add this line:\n  {PREFIX}{missing}=/path/to/file.pem"
    for path in filter(None, (settings.tls_cert_file, settings.tls_key_file)):
        if not os.access(path, os.R_OK):
            yield f"{path} cannot be read; name another file, or make it readable for this user"
    if hub.insecure_cookies and not is_loopback(settings.host):
        yield (
            f"insecure_cookies sends sessions over the network in clear. Add one of these lines:\n"
            f"  {PREFIX}INSECURE_COOKIES=false\n  {PREFIX}HOST=127.0.0.1"
        )
    if settings.root_path and (not settings.root_path.startswith("/") or settings.root_path.endswith("/")):
        yield f"root_path starts with a slash and ends with none. Write it so:\n  {PREFIX}ROOT_PATH=/path"
    for text in settings.forwarded_allow_ips:
        try:
            ipaddress.ip_network("0.0.0.0/0" if text == "*" else text)
        except ValueError as error:
            yield (
                f"forwarded_allow_ips: {text!r} is neither an address nor a network ({error}). Write it so:\n"
                f"  {PREFIX}FORWARDED_ALLOW_IPS=127.0.0.1,10.0.0.0/8"
            )
    if settings.workers > 1 and "memory" in (engine_of(hub.broker), engine_of(hub.store or hub.broker)):
        yield (
            f"memory:// keeps what it knows in one process, and {settings.workers} workers would be as many islands. "
            f"Add one of these lines:\n  {PREFIX}BROKER={DEFAULT_ENGINE}\n  {PREFIX}WORKERS=1"
        )


def warnings_of(settings: Settings) -> list[str]:
    """Return what an operator should know at the start, though it may be right."""
    hub = settings.hub()
    found = []
    if "query" in hub.credentials:
        found.append("tokens in the query are accepted: addresses end up in the logs and histories of others")
    if not settings.tls and not is_loopback(settings.host):
        found.append(f"listening on {settings.host} without TLS: put a proxy that speaks https in front")
    if hub.insecure_cookies:
        found.append("session cookies are sent without Secure; good for http on this machine only")
    if "*" in settings.forwarded_allow_ips:
        found.append(
            "forwarded_allow_ips is *: whoever connects may say for which client and so get around every limit per "
            "address; name the networks of your proxies"
        )
    if hub.allowed_hosts and not (getattr(settings, "allowed_hosts", ()) or hub.public_url):
        found.append(
            f"only {', '.join(hub.allowed_hosts)} and this machine's own names are answered, as hosts of "
            "allowed_origins; if the hub has another name, set public_url or allowed_hosts"
        )
    if hub.public_url and not hub.public_url.rstrip("/").endswith(settings.root_path):
        found.append("public_url does not end with root_path; browsers are sent to public_url as it is")
    found += [
        f"{spelled} is no setting; did you mean {meant}?"
        for spelled, meant in misspelt([*_known(), *NOT_SETTINGS], similar=_REMARKABLE)
    ]
    if theirs := sorted(name for name, value in os.environ.items() if injected(name, value)):
        others = f" and {len(theirs) - 1} more" if len(theirs) > 1 else ""
        found.append(
            f"{theirs[0]}{others} in the environment: ignored, as Kubernetes sets them for a service named sseal; "
            "enableServiceLinks: false in the pod's spec keeps them away"
        )
    return found


def _read_key(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise InvalidInput("jwt_public_key_file", f"{path} cannot be read ({reason}); name a PEM file") from None


def _known() -> list[str]:
    """Return the names of all settings, nested ones with a dot."""
    names = [name for name in _Loaded.model_fields if name != "limits"]
    return [*names, "limits", *(f"limits.{item.name}" for item in fields(Limits))]


def _flatten(written: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in written.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")


def _closest(name: str, known: list[str]) -> str:
    inside = [full for full in known if full.endswith(f".{name}")]
    close = inside or difflib.get_close_matches(name.replace("-", "_"), known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _where(name: str, flags: Mapping[str, Any], path: str) -> str:
    """Return how the setting was set: as a flag, in the environment, in the file."""
    if flags.get(name) is not None:
        return f"--{name.replace('_', '-')}"
    present = {variable.upper(): variable for variable, value in os.environ.items() if not injected(variable, value)}
    for candidate in (name.replace(".", NESTED), name.partition(".")[0]):
        if (variable := present.get(f"{PREFIX}{candidate}".upper())) is not None:
            return variable
    return f"{path}: {name}"


def _explained(error: ValidationError, where: Callable[[str], str]) -> InvalidInput:
    """Turn the first fault pydantic found into one sentence, without the value."""
    fault = error.errors(include_url=False, include_input=False)[0]
    names = [str(part) for part in fault["loc"] if isinstance(part, str)]
    place = next((f" item {part + 1}:" for part in fault["loc"] if isinstance(part, int)), "")
    name = ".".join(names[:2] if names[0] == "limits" else names[:1])
    known = _known()
    if fault["type"] == "extra_forbidden":
        return InvalidInput(where(name), f"is no setting{_closest(name, known)}")
    spelled = where(name)
    problem = _problem(fault["type"], fault.get("ctx", {}), fault["msg"])
    return InvalidInput(spelled, f"{place} {problem}".strip())


_KINDS: Final = {"tuple_type": "a list", "string_type": "text", "model_type": "a table", "path_type": "a path"}


def _problem(kind: str, context: Mapping[str, Any], message: str) -> str:
    if kind.startswith("int_"):
        return "must be a whole number"
    if kind.startswith("float_"):
        return DURATION
    if kind.startswith("bool_"):
        return "must be true or false"
    if kind == "literal_error":
        return f"must be {context['expected']}"
    if kind == "greater_than_equal":
        return f"must be at least {context['ge']}"
    if kind == "greater_than":
        return f"must be more than {context['gt']:g}"
    if kind == "less_than":
        return f"must be less than {context['lt']:g}"
    if kind == "less_than_equal":
        return f"must be at most {context['le']}"
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}"
    return message.removeprefix("Value error, ").removeprefix("Input ")
