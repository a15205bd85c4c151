"""Who may read what, decided at every connect with the rights of now (W21)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sseal.auth.identity import Grants, Identity
from sseal.authorizer import MAX_PATTERNS, MAX_TOPICS, Authorizer
from sseal.errors import Forbidden, InvalidInput
from sseal.subscription import TopicSet

NOW = 1_800_000_000.0


def who(subject: str = "alice", *subscribe: str) -> Identity:
    """Return an identity with these grants."""
    return Identity(subject=subject, grants=Grants(subscribe=subscribe))


def answering(answer: Any) -> Callable[[Identity, list[str]], Awaitable[Any]]:
    """Return an ``authorize=`` that always answers the same."""

    async def authorize(identity: Identity, topics: list[str]) -> Any:
        return answer

    return authorize


ALLOWED = [
    # subject, grants, requested, granted
    ("alice", [], [], ["user/alice"]),
    ("alice", [], ["user/alice"], ["user/alice"]),
    ("alice", [], ["user/{sub}"], ["user/alice"]),
    ("alice", ["news/*"], ["news/a", "user/alice"], ["news/a", "user/alice"]),
    ("alice", ["news/*"], ["news/*"], ["news/*"]),
    ("alice", ["room/{sub}/**"], ["room/alice/1"], ["room/alice/1"]),
    ("alice", ["room/{sub}/**"], ["room/{sub}/**"], ["room/alice/**"]),
    ("a/b", [], [], ["user/a%2Fb"]),
    ("*", [], ["user/%2A"], ["user/%2A"]),
    ("alice", ["a"], ["a", "a"], ["a"]),
]


@pytest.mark.parametrize(("subject", "grants", "requested", "granted"), ALLOWED)
async def test_what_is_granted_may_be_read(
    subject: str, grants: list[str], requested: list[str], granted: list[str]
) -> None:
    """Grants and one's own topic are what the default policy allows."""
    subscription = await Authorizer().subscribe(who(subject, *grants), requested, NOW)
    assert list(subscription.topics.names) == granted


REFUSED = [
    # subject, grants, requested, refused
    ("alice", [], ["user/bob"], ["user/bob"]),
    ("alice", ["news/*"], ["user/bob", "news/a", "x"], ["user/bob", "x"]),
    ("alice", ["news/*"], ["news/**"], ["news/**"]),
    ("alice", ["news/*"], ["*/a"], ["*/a"]),
    ("alice", ["a/**"], ["a"], ["a"]),
    ("alice", [], ["user/*"], ["user/*"]),
    ("alice", [], ["**"], ["**"]),
    ("alice", [], ["user/alice/x"], ["user/alice/x"]),
    ("*", [], ["user/alice"], ["user/alice"]),
    ("*", [], ["user/*"], ["user/*"]),
    ("**", ["user/{sub}"], ["user/alice", "user/**"], ["user/alice", "user/**"]),
    ("alice/x", ["user/{sub}/**"], ["user/alice/x", "user/alice/x/y"], ["user/alice/x", "user/alice/x/y"]),
    ("{sub}", [], ["user/alice"], ["user/alice"]),
]


@pytest.mark.parametrize(("subject", "grants", "requested", "refused"), REFUSED)
async def test_a_refusal_lists_every_topic_that_is_not_allowed(
    subject: str, grants: list[str], requested: list[str], refused: list[str]
) -> None:
    """The whole request is granted or none of it, and the answer names all that stood in the way (W2, W21)."""
    with pytest.raises(Forbidden) as caught:
        await Authorizer().subscribe(who(subject, *grants), requested, NOW)
    assert list(caught.value.refused) == refused
    assert caught.value.code == "topic_refused"
    assert all(topic in caught.value.detail for topic in refused)


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (True, []),
        (False, ["a", "b"]),
        (["a", "b"], []),
        (["b"], ["a"]),
        ((), ["a", "b"]),
        ({"a": None, "b": 5.0}, []),
        ({"a": 5.0}, ["b"]),
        ({"a": True, "b": False}, ["b"]),
        ({"a": NOW, "b": NOW + 0.1}, ["b"]),  # not allowed yet
        (["a", "b", "c"], []),
    ],
)
async def test_an_authorize_decides_instead_of_the_grants(answer: Any, refused: list[str]) -> None:
    """With `authorize=` the claims of a token grant nothing by themselves (W21)."""
    authorizer = Authorizer(answering(answer))
    if not refused:
        subscription = await authorizer.subscribe(who("alice"), ["a", "b"], NOW)
        assert subscription.topics == TopicSet.of("a", "b")
        return
    with pytest.raises(Forbidden) as caught:
        await authorizer.subscribe(who("alice", "a", "b"), ["a", "b"], NOW)
    assert list(caught.value.refused) == refused


async def test_authorize_is_asked_with_bound_names_at_every_subscription() -> None:
    """The function sees what would be read, `{sub}` put in, and is asked again each time (W21)."""
    asked = []

    async def authorize(identity: Identity, topics: list[str]) -> bool:
        asked.append((identity.subject, topics))
        return True

    authorizer = Authorizer(authorize, ["news/*"])
    await authorizer.subscribe(who("a/b"), ["user/{sub}", "news/x"], NOW)
    await authorizer.subscribe(who("a/b"), [], NOW)
    assert asked == [("a/b", ["user/a%2Fb"]), ("a/b", ["user/a%2Fb"])]


async def test_a_grant_may_carry_a_since() -> None:
    """A grant given today does not replay yesterday (W21)."""
    subscription = await Authorizer(answering({"a": 5.0, "b": None})).subscribe(who(), ["a", "b"], NOW)
    assert subscription.since == {"a": 5.0}
    assert not subscription.visible(("a",), 4.9)
    assert subscription.visible(("a",), 5.0)
    assert subscription.visible(("b",), 0.0)
    assert subscription.visible(("a", "b"), 0.0)
    assert not subscription.visible(("c",), 9.0)


async def test_a_since_of_a_pattern_counts_for_what_it_matches() -> None:
    """A pattern's since hides older events of its topics, not those of another that covers them too."""
    subscription = await Authorizer(answering({"a/*": 5.0, "a/b": None})).subscribe(who(), ["a/*", "a/b"], NOW)
    assert subscription.visible(("a/b",), 0.0)
    assert not subscription.visible(("a/c",), 0.0)
    assert subscription.visible(("a/c",), 5.0)


async def test_authorize_may_not_answer_with_one_string() -> None:
    """A string is an iterable of characters, and surely a mistake."""
    with pytest.raises(TypeError, match="not one string"):
        await Authorizer(answering("ab")).subscribe(who(), ["a", "b"], NOW)


async def test_nobody_reads_public_topics_and_nothing_else() -> None:
    """The anonymous identity is never shown to `authorize=`, whatever that would say (W16)."""
    authorizer = Authorizer(answering(True), ["news/**"])
    subscription = await authorizer.subscribe(Identity.anonymous(), ["news/a", "news/b/*"], NOW)
    assert subscription.topics == TopicSet.of("news/a", "news/b/*")
    with pytest.raises(Forbidden) as caught:
        await authorizer.subscribe(Identity.anonymous(), ["news/a", "user/alice", "**"], NOW)
    assert caught.value.refused == ("user/alice", "**")


@pytest.mark.parametrize("requested", [[], ["user/{sub}"]])
async def test_nobody_has_no_topic_of_its_own(requested: list[str]) -> None:
    """An anonymous request must name its topics, and none by subject."""
    with pytest.raises(InvalidInput) as caught:
        await Authorizer(public=["**"]).subscribe(Identity.anonymous(), requested, NOW)
    assert caught.value.field == "topic"


@pytest.mark.parametrize(
    "requested",
    [
        [""],
        ["a//b"],
        ["**/a"],
        [f"t/{i}" for i in range(MAX_TOPICS + 1)],
        [f"t/{i}/*" for i in range(MAX_PATTERNS + 1)],
    ],
)
async def test_a_malformed_request_is_refused_before_anybody_is_asked(requested: list[str]) -> None:
    """Syntax and bounds come before rights."""

    async def authorize(identity: Identity, topics: list[str]) -> bool:
        raise AssertionError

    with pytest.raises(InvalidInput) as caught:
        await Authorizer(authorize).subscribe(who(), requested, NOW)
    assert caught.value.field == "topic"


def test_a_public_pattern_must_parse() -> None:
    """A configuration that means nothing is refused at the start."""
    with pytest.raises(InvalidInput) as caught:
        Authorizer(public=["a//b"])
    assert caught.value.field == "public_topics"


@pytest.mark.parametrize("since", ["5", float("nan"), float("inf"), []])
async def test_a_since_is_a_moment(since: Any) -> None:
    """What is no number of seconds is a mistake of the app, and not "no bound"."""
    with pytest.raises(TypeError, match="Unix seconds"):
        await Authorizer(answering({"a": since})).subscribe(who(), ["a"], NOW)
