"""Topics, patterns and the grants made of them: what matches what, and what foreign text can never become."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseal.errors import InvalidInput
from sseal.subscription import TopicSet
from sseal.topics import MAX_SEGMENTS, MAX_TOPIC_LENGTH, Pattern, check_topic, is_pattern, literal, user_topic

NAMES = ("a", "b", "c")
FOREIGN = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
TRICKY = st.text("a/*{}%\x00\n\r\u2028é", min_size=1, max_size=12)
TOPICS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5)


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    """Draw a pattern without ``{sub}``."""
    body = draw(st.lists(st.sampled_from((*NAMES, "*")), min_size=0, max_size=4))
    tail = draw(st.sampled_from([[], ["**"]])) if body else ["**"]
    return Pattern.parse("/".join([*body, *tail]))


@st.composite
def members(draw: st.DrawFn, pattern: Pattern) -> str:
    """Draw a topic that matches a pattern, by the definition in prose: `*` is one segment, `**` one or more."""
    segments: list[str] = []
    for segment in pattern.segments:
        if segment == "**":
            segments += draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))
        else:
            segments.append(draw(st.sampled_from(NAMES)) if segment == "*" else segment)
    return "/".join(segments)


MATCHES = [
    # pattern, topic, whether it matches
    ("a", "a", True),
    ("a", "b", False),
    ("a", "a/b", False),
    ("a/b", "a", False),
    ("*", "a", True),
    ("*", "a/b", False),
    ("a/*", "a/b", True),
    ("a/*", "a", False),
    ("a/*", "a/b/c", False),
    ("*/b", "a/b", True),
    ("*/b", "a/c", False),
    ("a/*/c", "a/b/c", True),
    ("**", "a", True),
    ("**", "a/b/c", True),
    ("a/**", "a/b", True),
    ("a/**", "a/b/c/d", True),
    ("a/**", "a", False),  # (W21)
    ("a/**", "ab", False),
    ("a/**", "b/a", False),
    ("a/*/**", "a/b", False),
    ("a/*/**", "a/b/c", True),
    ("user/{sub}", "user/{sub}", False),  # an unbound pattern grants nothing
    ("A", "a", False),
]


@pytest.mark.parametrize(("pattern", "topic", "fits"), MATCHES)
def test_a_pattern_matches_by_whole_segments(pattern: str, topic: str, fits: bool) -> None:
    """`*` is one segment and a final `**` one or more, so that `a/**` does not match `a` (W21)."""
    assert Pattern.parse(pattern).matches(topic) is fits


COVERS = [
    # granted, requested, whether the whole request lies inside
    ("a", "a", True),
    ("a/*", "a/b", True),
    ("a/*", "a/*", True),
    ("a/*", "a/**", False),
    ("a/**", "a/*", True),
    ("a/**", "a/**", True),
    ("a/**", "a", False),
    ("a/**", "a/b/**", True),
    ("a/b/**", "a/**", False),
    ("**", "**", True),
    ("**", "*", True),
    ("*", "**", False),
    ("a/b", "a/*", False),
    ("*/b", "a/*", False),
    ("*/b", "a/b", True),
    ("a/*/**", "a/**", False),
    ("a/**", "a/*/**", True),
    ("*/*", "**", False),
    ("*/**", "**", False),
    ("{sub}", "{sub}", False),
    ("{sub}", "a", False),
    ("*", "{sub}", True),
]


@pytest.mark.parametrize(("granted", "requested", "inside"), COVERS)
def test_a_requested_pattern_must_lie_inside_one_granted(granted: str, requested: str, inside: bool) -> None:
    """A grant covers a request only if it covers all that the request can match (W21)."""
    assert Pattern.parse(granted).covers(Pattern.parse(requested)) is inside


@given(patterns(), patterns(), st.data())
def test_law_what_is_covered_is_matched(granted: Pattern, requested: Pattern, data: st.DataObject) -> None:
    """If a grant covers a request, every topic that matches the request matches the grant."""
    if granted.covers(requested):
        assert granted.matches(data.draw(members(requested)))


@given(patterns(), patterns(), st.data())
def test_law_a_topic_outside_the_grant_refutes_covering(
    granted: Pattern, requested: Pattern, data: st.DataObject
) -> None:
    """Whoever finds a topic of the request outside the grant has proven that the grant does not cover it."""
    if not granted.matches(data.draw(members(requested))):
        assert not granted.covers(requested)


@given(patterns(), st.data())
def test_law_a_pattern_matches_its_members(pattern: Pattern, data: st.DataObject) -> None:
    """Every topic made by the definition in prose matches."""
    assert pattern.matches(data.draw(members(pattern)))


@given(patterns(), patterns(), patterns())
def test_law_covering_is_an_order(one: Pattern, two: Pattern, three: Pattern) -> None:
    """Covering is reflexive and transitive."""
    assert one.covers(one)
    if one.covers(two) and two.covers(three):
        assert one.covers(three)


@given(TOPICS, patterns())
def test_law_an_exact_pattern_covers_what_it_matches(topic: list[str], pattern: Pattern) -> None:
    """For an exact request, covering and matching are the same."""
    text = "/".join(topic)
    assert pattern.covers(Pattern.parse(text)) is pattern.matches(text)


@given(st.lists(patterns(), max_size=4), TOPICS)
def test_law_a_set_matches_what_one_of_its_patterns_matches(several: list[Pattern], topic: list[str]) -> None:
    """However a set of patterns is scanned, it is their union."""
    text = "/".join(topic)
    assert TopicSet.of(*map(str, several)).matches((text,)) is any(pattern.matches(text) for pattern in several)


@given(FOREIGN | TRICKY)
def test_a_literal_topic_is_matched_by_itself_as_text(subject: str) -> None:
    """No character of a topic means anything else when topics are scanned."""
    topic = user_topic(subject)
    assert TopicSet.of(topic, f"{topic}/*").matches((f"{topic}/x",))
    assert TopicSet.of("*/*").matches((topic,))
    assert not TopicSet.of(f"{topic}/*").matches((topic,))


@given(patterns())
def test_a_pattern_prints_as_it_was_parsed(pattern: Pattern) -> None:
    """Text and pattern are the same thing in two forms."""
    assert Pattern.parse(str(pattern)) == pattern
    assert hash(Pattern.parse(str(pattern))) == hash(pattern)
    assert pattern.exact is not is_pattern(str(pattern))


@given(FOREIGN | TRICKY)
def test_foreign_text_is_always_one_literal_segment(text: str) -> None:
    """Whatever a subject is called, it enters a topic as one exact segment (W2)."""
    segment = literal(text)
    assert "/" not in segment
    assert check_topic(segment) == segment
    assert Pattern.parse(segment).exact
    assert Pattern.parse(f"user/{segment}").segments == ("user", segment)


@given(FOREIGN | TRICKY, FOREIGN | TRICKY)
def test_foreign_text_never_collides(one: str, two: str) -> None:
    """Different subjects have different segments, because the encoding can be undone (W2)."""
    assert unquote(literal(one), errors="strict") == one
    assert (literal(one) == literal(two)) is (one == two)


@pytest.mark.parametrize(
    ("subject", "topic"),
    [
        ("alice", "user/alice"),
        ("42", "user/42"),
        ("*", "user/%2A"),
        ("**", "user/%2A%2A"),
        ("alice/x", "user/alice%2Fx"),
        ("42/admin", "user/42%2Fadmin"),
        ("{sub}", "user/%7Bsub%7D"),
        ("100%", "user/100%25"),
        ("alice%2Fx", "user/alice%252Fx"),
        ("a\x00b", "user/a%00b"),
        ("a\nb", "user/a%0Ab"),
        ("é", "user/é"),
        ("\u2028", "user/%E2%80%A8"),
        ("a@b.example", "user/a@b.example"),
        ("a b", "user/a b"),
        ("..", "user/.."),
    ],
)
def test_a_subject_has_one_topic_of_its_own(subject: str, topic: str) -> None:
    """The table of the subjects that would otherwise widen a grant or steer a topic (W2)."""
    assert user_topic(subject) == topic


@pytest.mark.parametrize("subject", ["", "\ud800", "a\udfff/"])
def test_a_subject_that_is_no_text_is_refused(subject: str) -> None:
    """An empty subject and a lone surrogate are refused, never repaired (W2)."""
    with pytest.raises(InvalidInput) as caught:
        literal(subject)
    assert caught.value.field == "subject"


def test_the_subject_star_grants_nothing_but_itself() -> None:
    """A self-registered subject `*` reads `user/%2A` and nobody else's topic (W2)."""
    bound = Pattern.parse("user/{sub}").bind("*")
    assert bound is not None
    assert bound.exact
    assert not bound.matches("user/alice")
    assert bound.matches(user_topic("*"))


def test_a_subject_with_a_slash_stays_outside_its_prefix() -> None:
    """The subject `alice/x` does not fall under what alice was granted (W2)."""
    alice = Pattern.parse("user/{sub}/**").bind("alice")
    assert alice is not None
    assert not alice.matches(user_topic("alice/x"))
    assert not alice.covers(Pattern.parse(user_topic("alice/x")))


@given(FOREIGN | TRICKY)
def test_binding_substitutes_after_parsing(subject: str) -> None:
    """A subject cannot become syntax, because the pattern was parsed before it came in (W2)."""
    bound = Pattern.parse("a/{sub}/b").bind(subject)
    assert bound is not None
    assert bound.segments == ("a", literal(subject), "b")


@pytest.mark.parametrize("subject", [None, ""])
def test_a_pattern_with_a_subject_grants_nobody_nothing(subject: str | None) -> None:
    """Without a subject `{sub}` is no pattern at all, and never an empty segment."""
    assert Pattern.parse("user/{sub}").bind(subject) is None
    public = Pattern.parse("news/*")
    assert public.bind(subject) is public


BAD_EVERYWHERE = [
    "",
    "/",
    "//",
    "/a",
    "a/",
    "a//b",
    "a\x00b",
    "a\nb",
    "a\rb",
    "a\x7f",
    "a\u2028b",
    "a\u00a0b",
    "\ud800",
    "a" * (MAX_TOPIC_LENGTH + 1),
    "/".join(["a"] * (MAX_SEGMENTS + 1)),
]
BAD_PATTERNS = ["**/a", "a/**/b", "a*", "*a", "a/b*c", "***", "{", "}", "{sub", "{user}", "a{sub}", "x/{sub}y", "{*}"]


@pytest.mark.parametrize("text", BAD_EVERYWHERE)
def test_what_is_no_topic_is_refused(text: str) -> None:
    """Empty segments, unprintable characters and excess are refused by topics and patterns alike."""
    for read in (check_topic, Pattern.parse):
        with pytest.raises(InvalidInput) as caught:
            read(text, "some.field")
        assert caught.value.field == "some.field"


@pytest.mark.parametrize("text", BAD_PATTERNS)
def test_what_is_no_pattern_is_refused(text: str) -> None:
    """Wildcards are whole segments, and `**` the last one."""
    with pytest.raises(InvalidInput):
        Pattern.parse(text)
    with pytest.raises(InvalidInput):
        check_topic(text)


@pytest.mark.parametrize("text", ["*", "**", "a/*", "a/**", "{sub}", "user/{sub}"])
def test_a_pattern_is_no_exact_topic(text: str) -> None:
    """An exact topic holds no segment that stands for another (W2)."""
    Pattern.parse(text)
    with pytest.raises(InvalidInput):
        check_topic(text)


@pytest.mark.parametrize("value", [None, 1, True, [], {}, b"a"])
def test_a_topic_is_a_string(value: object) -> None:
    """Another type is refused with the field's name, not with a TypeError."""
    with pytest.raises(InvalidInput, match="must be a string"):
        check_topic(value)  # type: ignore[arg-type]


def test_the_limits_of_a_topic_are_inclusive() -> None:
    """The longest and the deepest topic are topics."""
    assert check_topic("a" * MAX_TOPIC_LENGTH)
    assert check_topic("/".join(["a"] * MAX_SEGMENTS))


@given(st.text(max_size=20))
def test_a_topic_that_is_accepted_cannot_break_a_line(text: str) -> None:
    """Topics stand in a line of the stream, so none that passes holds CR, LF or NUL."""
    try:
        check_topic(text)
    except InvalidInput:
        return
    assert not {"\r", "\n", "\0"} & set(text)
    assert "" not in text.split("/")
