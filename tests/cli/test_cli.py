"""The `sseal` executable as a person or a script sees it."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest

from running import SECRET, SSEAL, Running, bearer, call, environment, eventually, running, serving, sseal
from sseal.auth.jwt import JwtVerifier
from sseal.clock import SystemClock

ISSUED = {"jwt_secret": SECRET}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, time_unit: float) -> Iterator[Running]:
    """A hub that goes on for all tests of this file."""
    with serving(tmp_path_factory.mktemp("hub"), time_unit) as server:
        yield server


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A token that may read and publish everything."""
    folder = tmp_path_factory.mktemp("token")
    made = sseal("token", "--sub", "alice", "--subscribe", "**", "--publish", "**", cwd=folder, **ISSUED)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_version_is_that_of_the_package(tmp_path: Path) -> None:
    """Both spellings print name and version."""
    for spelling in ("version", "--version"):
        done = sseal(spelling, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"sseal {version('sseal')}\n", "")


@pytest.mark.parametrize(
    "command",
    [
        "",
        "serve",
        "demo",
        "token",
        "publish",
        "listen",
        "user",
        "user add",
        "user remove",
        "user list",
        "user password",
    ],
)
def test_every_command_explains_itself(tmp_path: Path, command: str) -> None:
    """--help works everywhere, exits with 0 and says something."""
    done = sseal(*command.split(), "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: {' '.join(['sseal', *command.split()])}" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["serve", "--nonsense"], ["token"], ["serve", "--set", "x"], ["demo", "--port", "0"]],
)
def test_wrong_usage_is_two_lines_and_exit_code_2(tmp_path: Path, arguments: list[str]) -> None:
    """A mistake in the command itself is told in one line, with a pointer to the help."""
    done = sseal(*arguments, cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 2)
    assert lines[0].startswith("sseal: error: ")
    assert "--help" in lines[1]


# -- serve refuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"heartbeet": "5"}, "SSEAL_HEARTBEET: is no setting; did you mean SSEAL_HEARTBEAT?"),
        ({"heartbeat": "soon"}, "SSEAL_HEARTBEAT: must be a number of seconds, or a duration such as 90s"),
        ({"jwt_secret": ""}, "SSEAL_JWT_SECRET="),
        ({"jwt_secret": "too-short"}, "SSEAL_JWT_SECRET="),
        ({"insecure_cookies": "1", "host": "0.0.0.0"}, "SSEAL_INSECURE_COOKIES=false"),
        ({"workers": "2", "broker": "memory://"}, "SSEAL_WORKERS=1"),
        ({"tls_cert_file": "x.pem"}, "SSEAL_TLS_KEY_FILE="),
        ({"allowed_origins": "*"}, "SSEAL_ALLOWED_ORIGINS: '*' would let every site read"),
        ({"broker": "rabbit://user:hunter2@localhost"}, "SSEAL_BROKER: must be memory://, sqlite:///"),
        ({"port": "x"}, "SSEAL_PORT: must be a whole number"),
        ({"config": "none.toml"}, "none.toml: there is no such file"),
        ({"jwt_jwks_url": "http://issuer.example/keys"}, "must be https"),
    ],
)
def test_serve_refuses_and_names_the_line(tmp_path: Path, settings: dict[str, str], words: str) -> None:
    """An unsafe or incomplete configuration ends with exit code 2, the reason, and what to write instead."""
    done = sseal("serve", cwd=tmp_path, **{**ISSUED, **settings})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sseal: error: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
    assert "too-short" not in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"broker": "sqlite:///bad.db"}, "broker: {}/bad.db is damaged or no SQLite file"),
        ({"store": "sqlite:///bad.db"}, "store: {}/bad.db is damaged or no SQLite file"),
        ({"broker": "sqlite:///none/log.db"}, "broker: {}/none is no directory; make it"),
        ({"accounts": "bad.db"}, "bad.db: cannot be used as an accounts file"),
        ({"host": "192.0.2.1"}, "port: cannot listen on 192.0.2.1:8000"),
    ],
)
def test_what_keeps_serve_from_starting_is_one_sentence(
    tmp_path: Path, settings: dict[str, str], words: str, workers: str
) -> None:
    """A log, store or address that cannot be used is told once, with exit code 1 and nothing of the server's."""
    (tmp_path / "bad.db").write_text("this is no database, though it has some length to it" * 100)
    (tmp_path / "bad.db").chmod(0o600)
    ports = {} if "host" in settings else {"port": "0"}
    done = sseal("serve", cwd=tmp_path, workers=workers, **ISSUED, **ports, **settings)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert done.stderr.startswith(f"sseal: error: {words.format(tmp_path)}")


def test_serve_passes_over_what_kubernetes_sets(tmp_path: Path, time_unit: float) -> None:
    """Behind a service named sseal it starts, and says once whose variables those are."""
    injected = {"port": "tcp://10.0.0.1:8080", "service_host": "10.0.0.1", "port_8080_tcp_addr": "10.0.0.1"}
    with serving(tmp_path, time_unit, **injected) as server:
        assert call(f"{server.url}/healthz")[0] == 200
        hints = [record["message"] for record in server.records() if "enableServiceLinks" in record["message"]]
    assert len(hints) == 1
    assert hints[0].startswith("SSEAL_PORT and 2 more in the environment: ignored")


def test_serve_accepts_the_line_it_offers(tmp_path: Path, time_unit: float) -> None:
    """What `serve` says to add can be pasted as it stands."""
    refused = sseal("serve", cwd=tmp_path).stderr
    secret = refused.partition("SSEAL_JWT_SECRET=")[2].split()[0]
    with serving(tmp_path, time_unit, jwt_secret=secret) as server:
        assert call(f"{server.url}/healthz")[0] == 200


def test_serve_refuses_a_secret_as_an_argument(tmp_path: Path) -> None:
    """What every user of the machine can read in the list of processes is no place for a secret."""
    done = sseal("serve", "--set", f"jwt_secret={SECRET}", cwd=tmp_path)
    assert done.returncode == 2
    assert "SSEAL_JWT_SECRET" in done.stderr
    assert SECRET not in done.stderr


def test_serve_says_when_the_port_is_taken(tmp_path: Path, hub: Running) -> None:
    """A second hub on the same port ends with one line and no traceback."""
    done = sseal("serve", "--port", str(hub.port), cwd=tmp_path, **ISSUED)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{hub.port}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# -- token, publish, listen -----------------------------------------------------------------------------


def test_token_prints_a_token_the_hub_accepts(tmp_path: Path) -> None:
    """Standard output is the token alone; it says what was asked for."""
    done = sseal(
        *("token", "--sub", "bob", "--subscribe", "news/*", "--publish", "**", "--admin", "--ttl", "1m"),
        cwd=tmp_path,
        **ISSUED,
    )
    assert (done.returncode, done.stderr) == (0, "")
    now = SystemClock().wall()
    identity = JwtVerifier(secrets=[SECRET], leeway=0).verify(done.stdout.strip(), now)
    assert (identity.subject, identity.grants.subscribe, identity.grants.publish) == ("bob", ("news/*",), ("**",))
    assert identity.grants.admin
    assert identity.token_id is not None
    assert identity.expires_at is not None
    assert 0 < identity.expires_at - now <= 60


def test_what_a_script_reads_is_json_where_it_asks(tmp_path: Path, hub: Running, token: str, time_unit: float) -> None:
    """--json makes each line of a result one object: token, version, publish, user list; listen has its own test."""
    made = sseal("token", "--sub", "bob", "--ttl", "1h", "--json", cwd=tmp_path, **ISSUED)
    fields = json.loads(made.stdout)
    identity = JwtVerifier(secrets=[SECRET], leeway=0).verify(fields["token"], SystemClock().wall())
    assert fields == {"token": fields["token"], "subject": "bob", "expires_at": identity.expires_at}
    assert identity.subject == "bob"
    done = sseal("version", "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == {"version": version("sseal")}
    client = {"url": hub.url, "token": token}
    told = json.loads(sseal("publish", "json", "1", "--json", cwd=tmp_path, **client).stdout)
    last = sseal("publish", "json", "2", cwd=tmp_path, **client).stdout.strip()
    done = sseal("listen", "json", "--last-event-id", told["id"], "--count", "1", "--json", cwd=tmp_path, **client)
    assert (set(told), json.loads(done.stdout)["id"]) == ({"id"}, last)
    for name in ("alice", "bob"):
        sseal("user", "add", name, cwd=tmp_path, stdin="wonderland-7\n", accounts="book.db")
    done = sseal("user", "list", "--json", cwd=tmp_path, accounts="book.db")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"name": "alice"}, {"name": "bob"}]


def test_publish_takes_a_duration(tmp_path: Path, hub: Running, token: str) -> None:
    """--ttl has units like every duration; the hub's own bound still counts."""
    client = {"url": hub.url, "token": token}
    assert sseal("publish", "ttl", "x", "--ttl", "15m", cwd=tmp_path, **client).returncode == 0
    done = sseal("publish", "ttl", "x", "--ttl", "8d", cwd=tmp_path, **client)
    assert (done.returncode, "ttl" in done.stderr) == (2, True)


def test_token_follows_the_settings(tmp_path: Path) -> None:
    """Issuer, audience, claims and the newest secret are those the hub expects; --secret overrides one."""
    settings = {
        "jwt_secret": json.dumps([SECRET, "an-older-secret-that-is-also-long-enough"]),
        "jwt_issuer": "https://issuer.example",
        "jwt_audience": "hub",
        "subject_claim": "uid",
        "grants_claim": "rights",
        "jwt_algorithms": "RS256,HS512",
    }
    made = sseal("token", "--sub", "bob", cwd=tmp_path, **settings).stdout.strip()
    options = {"issuer": "https://issuer.example", "audience": "hub", "subject_claim": "uid", "grants_claim": "rights"}
    now = SystemClock().wall()
    assert JwtVerifier(secrets=[SECRET], algorithms=["HS512"], **options).verify(made, now).subject == "bob"
    other = "another-secret-that-is-long-enough-for-hs256"
    made = sseal("token", "--sub", "bob", "--secret", other, cwd=tmp_path).stdout.strip()
    assert JwtVerifier(secrets=[other]).verify(made, SystemClock().wall()).subject == "bob"


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (["--sub", "x"], {}, "SSEAL_JWT_SECRET"),
        (["--sub", ""], ISSUED, "--sub: must not be empty"),
        (["--sub", "x", "--subscribe", "a//b"], ISSUED, "--subscribe: "),
        (["--sub", "x", "--secret", "short"], {}, "--secret: "),
        (["--sub", "x"], {**ISSUED, "jwt_algorithms": "RS256"}, "jwt_algorithms: "),
        (
            ["--sub", "x"],
            {**ISSUED, "jwt_isuer": "me"},
            "SSEAL_JWT_ISUER: is no setting; did you mean SSEAL_JWT_ISSUER?",
        ),
        (["--sub", "x", "--ttl", "1w"], ISSUED, "--ttl: must be a number of seconds, or a duration such as 90s"),
        (["--sub", "x", "--ttl", "0"], ISSUED, "--ttl: must be at least 1 seconds"),
    ],
)
def test_token_says_what_is_missing(tmp_path: Path, arguments: list[str], settings: dict[str, str], words: str) -> None:
    """An error is one line, and stdout stays empty."""
    done = sseal("token", *arguments, cwd=tmp_path, **settings)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert words in done.stderr


def test_publish_and_listen_meet_at_the_hub(tmp_path: Path, hub: Running, token: str, time_unit: float) -> None:
    """What one terminal publishes, another prints: JSON as JSON, text as text, with id, topic and type."""
    client = {"url": hub.url, "token": token}
    arguments = ("listen", "news/*", "--json", "--count", "4")
    with running(tmp_path, time_unit, *arguments, **client) as reader:
        reader.wait_for("listening")
        ids = []
        for extra in (['{"n": 1}'], ['{"n": 1}', "--text"], ["just words", "--event", "shout"], ["-"]):
            done = sseal("publish", "news/today", *extra, cwd=tmp_path, stdin="from stdin\n", **client)
            assert (done.returncode, done.stderr) == (0, "")
            ids.append(done.stdout.strip())
        assert reader.process.wait(200 * time_unit) == 0
    events = [json.loads(line) for line in reader.stdout.read_text().splitlines()]
    assert [event["id"] for event in events] == ids
    assert [event["data"] for event in events] == ['{"n":1}', '{"n": 1}', "just words", "from stdin"]
    assert [event["type"] for event in events] == ["message", "message", "shout", "message"]
    assert {event["topic"] for event in events} == {"news/today"}


def test_publish_with_the_same_key_publishes_once(tmp_path: Path, hub: Running, token: str) -> None:
    """A script may repeat a command with --key and gets the same id."""
    arguments = ("publish", "once", "data", "--key", "order-42", "--url", hub.url, "--token", token)
    first, second = (sseal(*arguments, cwd=tmp_path).stdout for _ in range(2))
    assert first == second != ""


def test_listen_with_a_ticket_shows_positions_only(tmp_path: Path, hub: Running, token: str, time_unit: float) -> None:
    """On a ticket stream the ids hold a resume token, which is a credential and not printed."""
    client = {"url": hub.url, "token": token}
    with running(tmp_path, time_unit, "listen", "quiet", "--ticket", "--count", "1", **client) as reader:
        reader.wait_for("listening")
        position = sseal("publish", "quiet", "a\nb", cwd=tmp_path, **client).stdout.strip()
        assert reader.process.wait(200 * time_unit) == 0
    assert reader.stdout.read_text() == f"{position} quiet a\n  b\n"


def test_listen_goes_on_after_an_id(tmp_path: Path, hub: Running, token: str) -> None:
    """--last-event-id replays what came after it."""
    client = {"url": hub.url, "token": token}
    first, second = (sseal("publish", "again", text, cwd=tmp_path, **client).stdout.strip() for text in "ab")
    done = sseal("listen", "again", "--last-event-id", first, "--count", "1", cwd=tmp_path, **client)
    assert (done.returncode, done.stdout) == (0, f"{second} again b\n")


NO_TOKEN = "no credential was presented: add --token JWT, or set SSEAL_TOKEN"
NOBODY = "could not be reached: connection refused; is `sseal serve` running there?"


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "words"),
    [
        (["publish", "a", "b"], {"token": ""}, 3, NO_TOKEN),
        (["listen", "a"], {"token": ""}, 3, NO_TOKEN),
        (["listen", "a", "--ticket"], {"token": ""}, 2, "--ticket: is bought with a token; add --token JWT, or set"),
        (["publish", "a", "b"], {"token": "nonsense"}, 3, "refused"),
        (["listen", "a"], {"token": "nonsense"}, 3, "refused"),
        (["publish", "a", "b"], {"token": "two words"}, 2, "--token: "),
        (["publish", "a//b", "b"], {}, 2, "topic"),
        (["listen", "a//b"], {}, 2, "topic"),
        (["publish", "a", "b"], {"url": "http://127.0.0.1:1"}, 4, NOBODY),
        (["publish", "a", "b", "--url"], {}, 4, "is --url the address of a hub?"),
        (["listen", "a", "--url"], {}, 4, "is --url the address of a hub?"),
        (["publish", "a", "b"], {"url": "http://hub.example"}, 2, "--insecure"),
        (["listen", "a"], {"url": "http://hub.example"}, 2, "--insecure"),
        (["listen", "a"], {"url": "localhost:8000"}, 2, "--url: has no scheme; did you mean http://localhost:8000?"),
        (
            ["publish", "a", "b"],
            {"url": "hub.example/x"},
            2,
            "--url: has no scheme; did you mean https://hub.example/x?",
        ),
        (["publish", "a", "b"], {"tokn": "x"}, 2, "SSEAL_TOKN: is no setting; did you mean SSEAL_TOKEN?"),
        (["publish", "a", "b", "--ttl", "1w"], {}, 2, "--ttl: must be a number of seconds, or a duration such as 90s"),
    ],
)
def test_clients_fail_in_one_line(
    tmp_path: Path, hub: Running, token: str, arguments: list[str], settings: dict[str, str], code: int, words: str
) -> None:
    """What goes wrong between client and hub is one line on stderr, and the exit code says of which kind it is."""
    client = {name: value for name, value in {"url": hub.url, "token": token, **settings}.items() if value}
    below = [f"{hub.url}/elsewhere"] if arguments[-1] == "--url" else []
    done = sseal(*arguments, *below, cwd=tmp_path, **client)
    assert (done.returncode, done.stdout) == (code, "")
    errors = [line for line in done.stderr.splitlines() if line.startswith("sseal: error: ")]
    assert len(errors) == 1
    assert words in errors[0]
    assert "Traceback" not in done.stderr
    assert token not in done.stderr


def test_listen_says_that_nobody_is_there_and_goes_on(tmp_path: Path, time_unit: float) -> None:
    """Until there is a hub it tries again, and names what may be missing."""
    with running(tmp_path, time_unit, "listen", "a", url="http://127.0.0.1:1") as reader:
        reader.wait_for(r"127\.0\.0\.1:1: connection refused; is `sseal serve` running there\? \(next try in ")
        assert reader.end(signal.SIGINT) == 130


def test_a_reader_whose_rights_are_revoked_ends_as_refused(
    tmp_path: Path, hub: Running, token: str, time_unit: float
) -> None:
    """A stream that the hub ended for good is no success."""
    root = sseal("token", "--sub", "root", "--admin", cwd=tmp_path, **ISSUED).stdout.strip()
    mine = sseal("token", "--sub", "gone", cwd=tmp_path, **ISSUED).stdout.strip()
    with running(tmp_path, time_unit, "listen", url=hub.url, token=mine) as reader:
        reader.wait_for("listening")
        assert call(f"{hub.url}/admin/revocations", {"subject": "gone"}, headers=bearer(root))[0] == 201
        assert reader.process.wait(200 * time_unit) == 3
    assert reader.output().endswith("sseal: error: the stream was closed: revoked\n")


def test_ctrl_c_ends_listen_quietly(tmp_path: Path, hub: Running, token: str, time_unit: float) -> None:
    """SIGINT ends with exit code 130 and nothing more on stderr."""
    with running(tmp_path, time_unit, "listen", "none", url=hub.url, token=token) as reader:
        reader.wait_for("listening")
        assert reader.end(signal.SIGINT) == 130
    assert reader.output() == "sseal: listening\n"


def test_a_broken_pipe_is_quiet(tmp_path: Path, hub: Running, token: str, time_unit: float) -> None:
    """`sseal listen | head -1` ends when head has gone, without a traceback."""
    client = {"url": hub.url, "token": token}
    reader = subprocess.Popen(
        [SSEAL, "listen", "pipe"], env=environment(**client), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert reader.stdout is not None
        assert reader.stderr is not None
        assert reader.stderr.readline() == "sseal: listening\n"
        reader.stdout.close()

        def published() -> bool:
            sseal("publish", "pipe", "x", cwd=tmp_path, **client)
            return reader.poll() is not None

        eventually(published, 200 * time_unit, "listen ends")
        assert (reader.returncode, reader.stderr.read()) == (141, "")
    finally:
        if reader.poll() is None:
            reader.kill()
        reader.communicate()


# -- user -------------------------------------------------------------------------------------------------


def test_accounts_are_added_listed_changed_and_removed(tmp_path: Path) -> None:
    """The whole life of an account, passwords from stdin, names on stdout."""
    book = {"accounts": "book.db"}
    assert sseal("user", "add", "alice", cwd=tmp_path, stdin="wonderland-7\n", **book).returncode == 0
    added = sseal(*("user", "add", "bob", "--subscribe", "news/*", "--admin"), cwd=tmp_path, stdin="builder-42", **book)
    assert (added.returncode, added.stdout) == (0, "")
    assert sseal("user", "list", cwd=tmp_path, **book).stdout == "alice\nbob\n"
    with closing(sqlite3.connect(tmp_path / "book.db")) as file:
        (grants,) = file.execute("SELECT grants FROM account WHERE username = 'bob'")
    assert json.loads(grants[0]) == {"subscribe": ["news/*"], "publish": [], "admin": True}
    assert sseal("user", "password", "bob", cwd=tmp_path, stdin="another-one\n", **book).returncode == 0
    assert sseal("user", "remove", "bob", cwd=tmp_path, **book).returncode == 0
    assert sseal("user", "list", "--accounts", "book.db", cwd=tmp_path).stdout == "alice\n"
    assert b"wonderland-7" not in (tmp_path / "book.db").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["add", "carol"], "short\n", "8 to 1024 characters"),
        (["add", "carol"], "", "none on stdin"),
        (["add", "alice"], "wonderland-8\n", "exists already"),
        (["add", " carol"], "wonderland-8\n", "space at either end"),
        (["add", "carol", "--subscribe", "a//b"], "wonderland-8\n", "subscribe"),
        (["password", "nobody"], "wonderland-8\n", "there is no account 'nobody'"),
        (["remove", "nobody"], "", "there is no account 'nobody'"),
    ],
)
def test_user_says_what_is_wrong(tmp_path: Path, arguments: list[str], stdin: str, words: str) -> None:
    """An account command that cannot be done is one line on stderr."""
    book = {"accounts": "book.db"}
    sseal("user", "add", "alice", cwd=tmp_path, stdin="wonderland-7\n", **book)
    done = sseal("user", *arguments, cwd=tmp_path, stdin=stdin, **book)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert words in done.stderr
    assert "wonderland" not in done.stderr
    assert sseal("user", "list", cwd=tmp_path, **book).stdout == "alice\n"


def test_user_asks_which_file(tmp_path: Path) -> None:
    """Without a file of accounts the command names the line to add; listing does not make one."""
    assert "SSEAL_ACCOUNTS=accounts.db" in sseal("user", "list", cwd=tmp_path).stderr
    assert "there is no such file" in sseal("user", "list", "--accounts", "no.db", cwd=tmp_path).stderr
    assert not (tmp_path / "no.db").exists()
    assert "cannot be opened" in sseal("user", "list", "--accounts", ".", cwd=tmp_path).stderr


@pytest.mark.parametrize(("second", "code"), [("wonderland-7", 0), ("wonderland-8", 2)])
def test_a_password_is_asked_for_twice_on_a_terminal(tmp_path: Path, second: str, code: int) -> None:
    """On a terminal the password is typed unseen, twice, and must be the same."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [SSEAL, "user", "add", "alice", "--accounts", "book.db"],
        cwd=tmp_path,
        env=environment(),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    try:
        shown = b""
        for prompt, answer in ((b"Password: ", "wonderland-7"), (b"Once more: ", second)):
            while prompt not in shown:
                shown += os.read(leader, 1024)
            os.write(leader, f"{answer}\n".encode())
        assert process.wait(60) == code
        assert b"wonderland" not in shown
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(leader)


def test_accounts_log_in_at_the_hub(tmp_path: Path, time_unit: float) -> None:
    """An account made on the command line logs in at a hub that has no other key."""
    sseal("user", "add", "alice", cwd=tmp_path, stdin="wonderland-7\n", accounts="book.db")
    with serving(tmp_path, time_unit, jwt_secret="", accounts="book.db", insecure_cookies="1") as server:
        login = {"username": "alice", "password": "wonderland-7"}
        status, headers, body = call(f"{server.url}/auth/login", login, headers={"Origin": server.url})
        assert status == 200
        assert json.loads(body)["subject"] == "alice"
        assert headers["set-cookie"].startswith("sseal-dev=")
        record = next(record for record in server.records() if record["message"] == "listening")
        assert (record["cookie"], "bearer" in record["auth_methods"]) == ("sseal-dev", False)


def test_admin_endpoints_take_a_token_of_the_command_line(tmp_path: Path, hub: Running) -> None:
    """`sseal token --admin` is enough to look at the hub."""
    token = sseal("token", "--sub", "root", "--admin", cwd=tmp_path, **ISSUED).stdout.strip()
    status, _, body = call(f"{hub.url}/admin/stats", headers=bearer(token))
    assert status == 200
    assert "streams" in json.loads(body)
