"""The operator's settings: where they come from, and what is said of a wrong one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sseal.errors import InvalidInput
from sseal.hub_settings import HubSettings
from sseal.limits import Limits
from sseal.settings import Settings, config_errors, load, new_jwt_secret, warnings_of

GOOD = "correct-horse-battery-staple-0123456789"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start each test without settings, in a directory of its own."""
    import os

    for name in list(os.environ):
        if name.upper().startswith("SSEAL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def fault(**flags: object) -> str:
    """Return what `load` says of wrong settings."""
    with pytest.raises(InvalidInput) as caught:
        load(**flags)  # type: ignore[arg-type]
    return str(caught.value)


def test_without_any_source_the_hub_has_its_own_defaults() -> None:
    """Every default comes from HubSettings, but for CORS and the log: alone, it forgets nothing."""
    assert load().hub() == dataclasses.replace(HubSettings(), cors=True, broker="sqlite:///sseal.db")


def test_every_hub_setting_and_limit_can_be_set() -> None:
    """There is one list of settings: a field added to the hub's can be set at once."""
    loaded = load()
    for field in dataclasses.fields(HubSettings):
        assert hasattr(loaded, field.name)
    bounds = [field.name for field in dataclasses.fields(Limits) if field.name != "on_too_many"]
    assigned = {"limits.on_too_many": "refuse", **{f"limits.{name}": "7" for name in bounds}}
    limits = load(assigned=assigned).hub().limits
    assert (limits.on_too_many, {getattr(limits, name) for name in bounds}) == ("refuse", {7})


def test_flags_win_over_environment_over_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each source overrides those below it, setting by setting."""
    (tmp_path / "sseal.toml").write_text('host = "::1"\nport = 1111\nheartbeat = 5\n[limits]\nstreams = 1\nbody = 2\n')
    monkeypatch.setenv("SSEAL_PORT", "2222")
    monkeypatch.setenv("SSEAL_HEARTBEAT", "6")
    monkeypatch.setenv("SSEAL_LIMITS__STREAMS", "3")
    settings = load(heartbeat="7", port=None)
    assert (settings.host, settings.port, settings.hub().heartbeat) == ("::1", 2222, 7.0)
    assert (settings.hub().limits.streams, settings.hub().limits.body) == (3, 2)
    assert load(assigned={"limits.streams": "4"}).hub().limits == Limits(streams=4, body=2)


def test_a_file_is_found_by_flag_and_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """--config wins over SSEAL_CONFIG, and a named file has to exist."""
    for name, port in (("one.toml", 1), ("two.toml", 2)):
        (tmp_path / name).write_text(f"port = {port}\n")
    monkeypatch.setenv("SSEAL_CONFIG", "one.toml")
    assert load().port == 1
    assert load("two.toml").port == 2
    assert fault(config="three.toml") == "three.toml: there is no such file"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example,https://b.example", ("https://a.example", "https://b.example")),
        (" https://a.example , ", ("https://a.example",)),
        ('["https://a.example"]', ("https://a.example",)),
        ("", ()),
    ],
)
def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch, text: str, expected: tuple[str, ...]) -> None:
    """A list in the environment is separated by commas, or a JSON array."""
    monkeypatch.setenv("SSEAL_ALLOWED_ORIGINS", text)
    assert load().hub().allowed_origins == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("one,with,commas", ("one,with,commas",)), ('["new", "old"]', ("new", "old")), ("", ())]
)
def test_a_secret_may_hold_a_comma(monkeypatch: pytest.MonkeyPatch, text: str, expected: tuple[str, ...]) -> None:
    """SSEAL_JWT_SECRET is one secret with all its commas, or a JSON array, newest first."""
    monkeypatch.setenv("SSEAL_JWT_SECRET", text)
    assert load().hub().jwt_secret == expected


def test_key_files_are_read(tmp_path: Path) -> None:
    """jwt_public_key_file adds the texts of its files to jwt_public_key."""
    (tmp_path / "a.pem").write_text("first")
    (tmp_path / "b.pem").write_text("second")
    assert load(jwt_public_key_file="a.pem,b.pem").hub().jwt_public_key == ("first", "second")
    assert fault(jwt_public_key_file="none.pem").startswith("--jwt-public-key-file: none.pem cannot be read")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jwt_secrt = 'x'", "sseal.toml: jwt_secrt: is no setting; did you mean jwt_secret?"),
        ("streams = 1", "sseal.toml: streams: is no setting; did you mean limits.streams?"),
        ("[limits]\nstream = 1", "sseal.toml: limits.stream: is no setting; did you mean limits.streams?"),
        ("zzz = 1", "sseal.toml: zzz: is no setting"),
        ("port = 'x'", "sseal.toml: port: must be a whole number"),
        ("port = 70000", "sseal.toml: port: must be at most 65535"),
        ("workers = 0", "sseal.toml: workers: must be at least 1"),
        ("limits = 3", "sseal.toml: limits: must be a table"),
        ("jwt_secret = 4", "sseal.toml: jwt_secret: must be a list"),
        ("credentials = ['bearer', 'basic']", "sseal.toml: credentials: item 2: must be 'bearer', "),
        ("metrics = 'perhaps'", "sseal.toml: metrics: must be true or false"),
        ("heartbeat = 0", "sseal.toml: heartbeat: must be more than 0 seconds"),
        ("x = [", "sseal.toml: is not TOML: "),
    ],
)
def test_a_wrong_line_in_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    """An error names the file, the setting and what is wrong, and an unknown name the closest known one."""
    (tmp_path / "sseal.toml").write_text(text)
    assert fault().startswith(message)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "x", "SSEAL_PORT: must be a whole number"),
        ("PORT", "http://10.0.0.1:80", "SSEAL_PORT: must be a whole number"),
        ("LIMITS", "x", "SSEAL_LIMITS: is not a JSON object"),
        ("LIMITS__STREAMS", "x", "SSEAL_LIMITS__STREAMS: must be a whole number"),
        ("LIMITS__STREAMS", "-1", "SSEAL_LIMITS__STREAMS: must be a number of at least 0"),
        ("LIMITS__STREAM", "1", "SSEAL_LIMITS__STREAM: is no setting; did you mean SSEAL_LIMITS__STREAMS?"),
        ("LIMITS__ZZZ", "1", "SSEAL_LIMITS__ZZZ: is no setting"),
        ("JWT_SECRT", "x", "SSEAL_JWT_SECRT: is no setting; did you mean SSEAL_JWT_SECRET?"),
        ("HEARTBEET", "x", "SSEAL_HEARTBEET: is no setting; did you mean SSEAL_HEARTBEAT?"),
        ("CONFIGG", "x", "SSEAL_CONFIGG: is no setting; did you mean SSEAL_CONFIG?"),
        ("HEARTBEAT", "1w", "SSEAL_HEARTBEAT: must be a number of seconds, or a duration such as 90s, 15m, 1h or 2d"),
        ("ALLOWED_ORIGINS", "*", "SSEAL_ALLOWED_ORIGINS: '*' would let every site read"),
        ("RETRY_MS", "1", "SSEAL_RETRY_MS: must be from 500 to 60000"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    """An error names the environment variable a value came from."""
    monkeypatch.setenv(f"SSEAL_{name}", value)
    assert fault().startswith(message)


@pytest.mark.parametrize("pattern", ["user/*", "user/**", "*/*", "**"])
def test_a_pattern_over_everybodys_topics_is_refused(pattern: str) -> None:
    """No public topic opens what is for one person; that of a single name is the operator's choice."""
    assert fault(public_topics=pattern) == "--public-topics: must not cover user/*, everybody's own topics"
    assert load(public_topics="user/news").hub().public_topics == ("user/news",)


def test_a_wrong_flag_is_named() -> None:
    """An error names the flag a value came from, and --set with the name given to it."""
    assert fault(log_level="loud").startswith("--log-level: must be 'debug', ")
    assert fault(assigned={"limits.streams": "x"}) == "--set limits.streams: must be a whole number"
    assert fault(assigned={"limit.streams": "1"}) == "--set limit.streams: is no setting; did you mean limits.streams?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JWT_SECRET", '["hunter2-hunter2", 3]'),
        ("JWT_SECRET", "[hunter2"),
        ("BROKER", "rabbit://user:hunter2@rabbit.example"),
        ("PORT", "hunter2"),
        ("LOG_LEVEL", "hunter2"),
        ("LIMITS", '{"hunter2'),
        ("CREDENTIALS", "hunter2"),
    ],
)
def test_no_error_shows_a_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Any value may be a secret in the wrong place, so none is shown, and no exception below carries it."""
    monkeypatch.setenv(f"SSEAL_{name}", value)
    with pytest.raises(InvalidInput) as caught:
        load()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert "\n" not in str(caught.value)


def ready(**flags: object) -> Settings:
    """Return settings that serve, but for what is changed."""
    return load(**{"jwt_secret": [GOOD], **flags})  # type: ignore[arg-type]


def test_good_settings_are_not_refused() -> None:
    """A secret of 32 bytes is all `serve` needs, and so is any other key."""
    assert config_errors(ready()) == []
    assert config_errors(load(accounts="accounts.db")) == []
    assert config_errors(load(jwt_jwks_url="https://issuer.example/keys")) == []
    assert warnings_of(ready()) == []


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"jwt_secret": []}, "\n  SSEAL_JWT_SECRET="),
        ({"jwt_secret": ["short"]}, "\n  SSEAL_JWT_SECRET="),
        ({"insecure_cookies": True, "host": "0.0.0.0"}, "\n  SSEAL_INSECURE_COOKIES=false"),
        ({"workers": 2, "broker": "memory://", "store": "memory://"}, "\n  SSEAL_WORKERS=1"),
        ({"tls_cert_file": __file__}, "\n  SSEAL_TLS_KEY_FILE="),
        ({"tls_key_file": __file__}, "\n  SSEAL_TLS_CERT_FILE="),
        ({"root_path": "hub/"}, "\n  SSEAL_ROOT_PATH=/path"),
    ],
)
def test_a_refusal_names_the_line_to_add(flags: dict[str, object], line: str) -> None:
    """Whatever is unsafe or incomplete is refused with the line that mends it."""
    (text,) = config_errors(ready(**flags))
    assert line in text


def test_a_refusal_offers_a_fresh_secret_each_time() -> None:
    """The line to paste holds a secret of 43 characters that nobody has had before, and it is accepted."""
    lines = [config_errors(load())[0] for _ in range(2)]
    made = [line.partition("SSEAL_JWT_SECRET=")[2].split()[0] for line in lines]
    assert made[0] != made[1]
    assert [len(secret) for secret in made] == [43, 43]
    assert config_errors(load(jwt_secret=[made[0]])) == []
    assert len(new_jwt_secret()) == 43


def test_keys_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    """A private key, a text that is no key, and a PEM in the place of a secret are refused by name."""
    pem = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    (tmp_path / "key.pem").write_text(pem)
    assert "is a private key" in config_errors(ready(jwt_public_key_file="key.pem"))[0]
    assert config_errors(ready(jwt_secret=[pem]))[0].startswith("jwt_secret: ")
    assert config_errors(ready(jwt_algorithms="none"))[0].startswith("jwt_algorithms: ")
    assert "cannot be read" in config_errors(ready(tls_cert_file="no.pem", tls_key_file="key.pem"))[0]


def test_what_may_be_right_is_only_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens in the query, http for others, cookies without Secure and variables like a setting are warned of."""
    assert "tokens in the query" in warnings_of(ready(credentials="bearer,query"))[0]
    assert "without TLS" in warnings_of(ready(host="0.0.0.0"))[0]
    assert "without Secure" in warnings_of(ready(insecure_cookies=True))[0]
    monkeypatch.setenv("SSEAL_ORIGINS", "x")
    monkeypatch.setenv("SSEAL_URL", "http://localhost")
    monkeypatch.setenv("SSEAL_ELSEWHERE", "x")
    assert warnings_of(load()) == ["SSEAL_ORIGINS is no setting; did you mean SSEAL_ALLOWED_ORIGINS?"]


KUBERNETES = {
    "SSEAL_SERVICE_HOST": "10.0.0.1",
    "SSEAL_SERVICE_PORT": "8080",
    "SSEAL_SERVICE_PORT_HTTP": "8080",
    "SSEAL_PORT": "tcp://10.0.0.1:8080",
    "SSEAL_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "SSEAL_PORT_8080_TCP_PROTO": "tcp",
    "SSEAL_PORT_8080_TCP_PORT": "8080",
    "SSEAL_PORT_8080_TCP_ADDR": "10.0.0.1",
    "SSEAL_METRICS_SERVICE_HOST": "10.0.0.2",
    "SSEAL_METRICS_PORT": "udp://10.0.0.2:53",
}


def test_what_kubernetes_sets_for_a_service_is_ignored_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Variables of a service named sseal set nothing, its SSEAL_PORT included; one line says so and what ends it."""
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)
    (hint,) = warnings_of(load())
    assert hint.startswith("SSEAL_METRICS_PORT and 9 more in the environment: ignored")
    assert "enableServiceLinks: false" in hint
    assert load().port == 8000
    (tmp_path / "sseal.toml").write_text("port = 70000\n")
    assert fault() == "sseal.toml: port: must be at most 65535"


def test_a_number_in_the_port_variable_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """SSEAL_PORT is the setting as soon as it is no address of Kubernetes."""
    monkeypatch.setenv("SSEAL_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("SSEAL_PORT", "9000")
    assert load().port == 9000
    assert warnings_of(load())[0].startswith("SSEAL_SERVICE_HOST in the environment: ignored")


def durations() -> list[str]:
    """Return the names of all settings that are durations."""
    loaded = load()
    outer = [name for name in type(loaded).model_fields if isinstance(getattr(loaded, name), float)]
    return [*outer, *(f"limits.{f.name}" for f in dataclasses.fields(Limits) if isinstance(f.default, float))]


def test_every_duration_takes_a_unit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All settings that are seconds can be written with s, m, h or d, in the environment, the file and --set."""
    assert {"heartbeat", "session_ttl", "log_age", "keep_alive_timeout", "limits.ttl"} <= set(durations())
    for name in durations():
        value = load(assigned={"session_ttl": "1m", name: "2m"})
        for part in name.split("."):
            value = getattr(value, part)
        assert value == 120.0, name
    monkeypatch.setenv("SSEAL_SESSION_TTL", "2d")
    monkeypatch.setenv("SSEAL_LIMITS__TTL", "1h")
    (tmp_path / "sseal.toml").write_text('heartbeat = "90s"\nlog_age = "1.5h"\nresume_ttl = 60\n')
    hub = load().hub()
    assert (hub.session_ttl, hub.limits.ttl, hub.heartbeat, hub.log_age) == (172_800.0, 3600.0, 90.0, 5400.0)
    assert hub.resume_ttl == 60.0


@pytest.mark.parametrize("text", ["1w", "1 h", "h", "1h30m", "-1h", "1H", "soon", "", "\u0661h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """An error says in which forms a duration is written."""
    expected = "--set heartbeat: must be a number of seconds, or a duration such as 90s, 15m, 1h or 2d"
    assert fault(assigned={"heartbeat": text}) == expected


@pytest.mark.parametrize("name", ["*", "X Y", "", "X:Y", "é"])
def test_a_header_that_is_none_is_refused(name: str) -> None:
    """Each is named, as browsers ask for each by name; a star would be taken for permission of all."""
    with pytest.raises(InvalidInput, match="allowed_headers"):
        HubSettings(allowed_headers=(name,))
