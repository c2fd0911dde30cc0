import random
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.following import events
from gateway.following.events import Hub
from gateway.following.live import Ending, LiveRequest
from gateway.metrics import Metrics
from orchestra.signing import EventSigner
from orchestra.transcript import Piece, text_of
from schemas.errors import ErrorCode
from schemas.events import CANCELLED, COMPLETED, DELTA, EXPIRED, FAILED, PIECE, RESTART, STARTED
from schemas.generation import Usage
from schemas.replies import RequestError
from schemas.status import Status
from tests.support import events as support
from tests.support.events import SIGNER

ID, CONVERSATION = uuid4(), str(uuid4())
REF = ("default", ID)


def make_hub(max_bytes: int = 1024 * 1024) -> Hub:
    return Hub(Metrics(), max_bytes, SIGNER)


def tell(hub: Hub, kind: str, id: UUID = ID, /, **said: Any) -> None:
    support.tell(hub, kind, id, **said)


def count(hub: Hub, name: str) -> float:
    found = hub._metrics.registry.get_sample_value(f"orchestra_gateway_{name}")
    assert found is not None
    return found


def text(live: LiveRequest) -> str:
    """The plain text so far."""
    return text_of(live.window.since(0) or [])


WEATHER = {"kind": "tool_call", "index": 0, "call_id": "call_1", "name": "weather"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city":'}


def test_life() -> None:
    """Events set the attempt, the text and the ending; the ending wakes waiting calls and never changes."""
    hub = make_hub()
    with hub.watch(REF) as live:
        tell(hub, STARTED, attempt=1, conversation_id=CONVERSATION)
        tell(hub, DELTA, attempt=1, at=0, text="Hel")
        tell(hub, DELTA, attempt=1, at=3, text="lo")
        assert (live.attempt, text(live), str(live.conversation_id)) == (1, "Hello", CONVERSATION)
        tell(hub, COMPLETED, attempt=1, reply="Hello", usage={"input_tokens": 1, "output_tokens": 2})
        assert live.ending == Ending(Status.COMPLETED, 1, "Hello", Usage(input_tokens=1, output_tokens=2))
        assert live.body_hash == "hash"


@pytest.mark.parametrize(
    ("kind", "value", "ending"),
    [
        (COMPLETED, {"reply": None, "usage": None}, Ending(Status.COMPLETED, 2, None, Usage())),
        (
            FAILED,
            {"code": "timeout", "detail": "slow"},
            Ending(Status.FAILED, 2, error=RequestError(code=ErrorCode.TIMEOUT, detail="slow")),
        ),
        (CANCELLED, {}, Ending(Status.CANCELLED, 2)),
        (EXPIRED, {}, Ending(Status.EXPIRED, 2)),
    ],
)
def test_endings(kind: str, value: dict[str, Any], ending: Ending) -> None:
    """Each kind of ending is parsed."""
    hub = make_hub()
    with hub.watch(REF) as live:
        tell(hub, kind, attempt=2, **value)
        assert live.ending == ending


def test_late_attempt() -> None:
    """Events of an earlier attempt are dropped; a later attempt voids the text."""
    hub = make_hub()
    with hub.watch(REF) as live:
        tell(hub, STARTED, attempt=1, conversation_id=CONVERSATION)
        tell(hub, DELTA, attempt=1, at=0, text="old")
        tell(hub, STARTED, attempt=2, conversation_id=CONVERSATION)
        tell(hub, DELTA, attempt=1, at=3, text=" more")
        tell(hub, DELTA, attempt=2, at=0, text="new")
        tell(hub, FAILED, attempt=1, code="timeout", detail="")
        tell(hub, STARTED, attempt=2, conversation_id=CONVERSATION)
        assert (live.attempt, text(live), live.ending) == (2, "new", None)
        tell(hub, RESTART, attempt=2, text="other")
        assert text(live) == "other"
        tell(hub, CANCELLED, attempt=2)
        tell(hub, DELTA, attempt=3, at=0, text="after the end")
        assert (live.attempt, text(live)) == (2, "other")
    assert count(hub, "events_stale_total") == 4


def test_a_failed_attempt_is_told() -> None:
    """A restart with an error marks its attempt as failed; a malformed one changes nothing."""
    hub, error = make_hub(), {"code": "rate_limited", "detail": "not now"}
    with hub.watch(REF) as live:
        tell(hub, RESTART, attempt=0, text="", last_error=error)
        assert (live.attempt, live.failed, live.last_error) == (0, True, RequestError.model_validate(error))
        tell(hub, STARTED, attempt=1, conversation_id=CONVERSATION)
        tell(hub, DELTA, attempt=1, at=0, text="old")
        tell(hub, RESTART, attempt=1, text="", last_error={"code": "nonsense"})
        tell(hub, RESTART, attempt=1, text="", last_error={**error, "detail": "x" * 1001})
        assert (live.failed, text(live)) == (False, "old")
        tell(hub, RESTART, attempt=1, text="", last_error=error)
        assert (live.failed, text(live)) == (True, "")


def test_why_an_answer_ended() -> None:
    """The finish reason is part of the ending; a record of an older release has none."""
    hub = make_hub()
    with hub.watch(REF) as live:
        tell(hub, COMPLETED, attempt=1, reply="Hel", usage={}, finish_reason="length")
        assert live.ending == Ending(Status.COMPLETED, 1, "Hel", Usage(), finish_reason="length")


def test_tenants_apart() -> None:
    """The same id in another tenant is another request."""
    hub = make_hub()
    with hub.watch(REF) as live:
        tell(hub, DELTA, tenant="other", attempt=1, at=0, text="theirs")
        assert live.attempt == 0


def test_other_body() -> None:
    """An event with another body hash than the ones before it does not belong to this request."""
    hub = make_hub()
    with hub.watch(REF) as live:
        tell(hub, DELTA, attempt=1, at=0, text="mine")
        tell(hub, COMPLETED, body_hash="other", attempt=1, reply="theirs", usage={})
        assert live.ending is None


def test_an_answer_of_more_than_a_text() -> None:
    """Pieces of every kind come in order; text behind another piece has the position of a piece."""
    hub = make_hub()
    with hub.watch(REF) as live:
        tell(hub, PIECE, attempt=1, n=0, kind="reasoning", text="Hm")
        tell(hub, DELTA, attempt=1, at=0, n=2, text="Hi")
        tell(hub, PIECE, attempt=1, n=4, **WEATHER)
        tell(hub, PIECE, attempt=1, n=5, kind="tool_arguments", index=0, text='{"city":')
        for _ in range(2):
            tell(hub, PIECE, attempt=1, n=9, kind="tool_arguments", index=0, text='ty":1}')
        tell(hub, PIECE, attempt=1, n=15, kind="refusal", text="No")
        assert live.window.since(0) == [
            Piece("reasoning", "Hm"),
            Piece("text", "Hi"),
            Piece("tool_call", "", 0, "call_1", "weather"),
            Piece("tool_arguments", '{"city":1}'),
            Piece("refusal", "No"),
        ]
        assert hub._bytes == live.size
        tell(hub, COMPLETED, attempt=1, reply="Hi", usage={}, output=[CALL])
        assert live.ending == Ending(Status.COMPLETED, 1, "Hi", Usage(), output=[CALL])
    assert count(hub, "events_stale_total") == 1
    assert count(hub, "events_skipped_total") == 0


def test_a_restart_has_the_answer_so_far() -> None:
    """A restart with items replaces all pieces; a restart with a text alone leaves that text only."""
    hub = make_hub()
    with hub.watch(REF) as live:
        tell(hub, RESTART, attempt=2, text="", output=[CALL])
        assert [piece.kind for piece in live.window.since(0) or []] == ["tool_call", "tool_arguments"]
        tell(hub, PIECE, attempt=2, n=9, kind="tool_arguments", index=0, text="1}")
        assert (live.window.since(1) or [])[0].text == '{"city":1}'
        tell(hub, RESTART, attempt=2, text="Hi")
        assert live.window.since(0) == [Piece("text", "Hi")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "text", "text": "x"},
        {"kind": ["refusal"], "text": "x"},
        {"kind": "refusal"},
        {"kind": "refusal", "text": 7},
        {"kind": "refusal", "text": "x", "n": -1},
        {"kind": "refusal", "text": "x", "n": 2**41},
        {"kind": "refusal", "text": "x", "n": None},
        {"kind": "tool_arguments", "text": "x"},
        {"kind": "tool_arguments", "text": "x", "index": 129},
        {"kind": "tool_arguments", "text": "x", "index": True},
        {**WEATHER, "index": -1},
        {**WEATHER, "call_id": None},
        {**WEATHER, "call_id": "x" * 513},
        {**WEATHER, "name": "x" * 513},
        {**WEATHER, "name": 7},
    ],
)
def test_a_piece_beyond_what_a_worker_writes(wrong: dict[str, Any]) -> None:
    """A piece without what its kind needs, or beyond its bounds, is skipped, whole."""
    hub = make_hub()
    with hub.watch(REF) as live:
        tell(hub, PIECE, **{"attempt": 1, "n": 0, **wrong})
        assert (live.version, live.attempt, live.window.end) == (0, 0, 0)
    assert count(hub, "events_skipped_total") == 1


def test_a_position_of_text_is_one() -> None:
    """A delta whose position in the answer is no number is skipped."""
    hub = make_hub()
    with hub.watch(REF) as live:
        for n in ("1", -1, 2**41, True, 1.5):
            tell(hub, DELTA, attempt=1, at=0, n=n, text="x")
        assert live.version == 0
    assert count(hub, "events_skipped_total") == 5


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["attempt", "at", "text"]), inner),
    max_leaves=6,
)
kinds = st.sampled_from([STARTED, DELTA, PIECE, RESTART, COMPLETED, FAILED, CANCELLED, EXPIRED, "x"])
NAMES = "attempt at text reply usage code conversation_id n kind index call_id name output".split()


@given(
    kind=kinds,
    value=st.fixed_dictionaries(
        {}, optional={**dict.fromkeys(NAMES, values), "kind": values | st.sampled_from(["tool_call", "refusal"])}
    ),
)
def test_nonsense(kind: str, value: dict[str, Any]) -> None:
    """Whatever a record contains, the hub neither raises nor changes a request halfway."""
    hub = make_hub()
    with hub.watch(REF) as live:
        try:
            tell(hub, kind, **value)
        except TypeError:
            return  # An integer that 64-bit JSON cannot hold: nothing was applied.
        assert count(hub, "events_skipped_total") == (live.version == 0 and live.body_hash is None)


@given(
    st.none() | st.binary(max_size=20),
    st.lists(
        st.tuples(
            st.sampled_from(["ce_type", "ce_subject", "orchestra-tenant", "orchestra-body-hash", "x"]),
            st.none() | st.binary(max_size=40),
        )
    ),
    st.none() | st.binary(),
)
def test_noise(key: bytes | None, headers: list[tuple[str, bytes | None]], value: bytes | None) -> None:
    """Records of random bytes are counted and skipped."""
    hub = make_hub()
    hub.take(key, headers, value)
    assert count(hub, "events_skipped_total") == 1
    assert not hub._live


def test_memory() -> None:
    """Over the memory limit the least recently changed texts go first; a client that watches one keeps its place."""
    hub, ids = make_hub(1024 * 1024), [uuid4() for _ in range(40)]
    with hub.watch(("default", ids[0])) as watched:
        for id in ids:
            tell(hub, DELTA, id, attempt=1, at=0, text="x" * 60_000)
            assert hub._bytes <= 1024 * 1024
        assert hub._bytes == sum(live.size for live in hub._live.values())
        assert watched.window.since(0) is None
        assert (watched.window.since(60_000), watched.attempt) == ([], 1)
        kept = [id for id in ids if ("default", id) in hub._live]
        assert kept == [ids[0], *ids[-len(kept) + 1 :]]
        tell(hub, DELTA, ids[0], attempt=1, at=60_000, text="more")
        assert watched.window.since(60_000) == [Piece("text", "more")]
    assert count(hub, "texts_dropped_total") > 0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3), st.integers(0, 50), st.text(max_size=30)), max_size=60))
def test_count_of_bytes(steps: list[tuple[int, int, int, str]]) -> None:
    """The bytes that the hub counts equal those of its requests, whatever happens to them."""
    hub, ids = make_hub(6000), [uuid4() for _ in range(5)]
    for which, attempt, at, text in steps:
        kind = random.Random(text).choice([DELTA, DELTA, PIECE, STARTED, RESTART, CANCELLED])
        tell(
            hub, kind, ids[which], attempt=attempt, at=at, text=text * 10, conversation_id=CONVERSATION, n=at,
            **{**WEATHER, "kind": random.Random(at).choice(["tool_call", "tool_arguments", "reasoning"])},
        )  # fmt: skip
        assert hub._bytes == sum(live.size for live in hub._live.values())


def test_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unwatched requests are dropped soon after they end or after a long silence; watched ones are never dropped."""
    hub, other = make_hub(), uuid4()
    with hub.watch(REF):
        tell(hub, CANCELLED, attempt=1)
        tell(hub, DELTA, other, attempt=1, at=0, text="x")
        now = events.time.monotonic()
        monkeypatch.setattr(events.time, "monotonic", lambda: now + 60)
        hub.forget_old()
        assert len(hub._live) == 2
    hub.forget_old()
    assert hub._live.keys() == {("default", other)}
    monkeypatch.setattr(events.time, "monotonic", lambda: now + 3600)
    hub.forget_old()
    assert not hub._live
    assert hub._bytes == 0


def test_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is looked up in Postgres when it has been watched for a second and has not ended."""
    hub, ended, unwatched = make_hub(), uuid4(), uuid4()
    tell(hub, DELTA, unwatched, attempt=1, at=0, text="x")
    with hub.watch(REF), hub.watch(("default", ended)):
        tell(hub, CANCELLED, ended, attempt=1)
        assert hub.due() == []
        in_a_second = events.time.monotonic() + 1
        monkeypatch.setattr(events.time, "monotonic", lambda: in_a_second)
        assert hub.due() == [REF]


def test_what_is_watched_for_long_is_looked_up_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks come after 1, 3, 7 and 15 seconds, then every ten; each new watcher starts again at one second."""
    hub, clock = make_hub(), 1000.0
    monkeypatch.setattr(events.time, "monotonic", lambda: clock)
    looks = []
    with hub.watch(REF):
        for second in range(50):
            clock = 1000.0 + second
            if due := hub.due():
                looks.append(second)
                hub.looked(due)
        with hub.watch(REF):
            clock += 1
            assert hub.due() == [REF]

    assert [1, 3, 7, 15, 25, 35, 45] == looks


def test_fail() -> None:
    """A request whose record became a dead letter fails for its watchers; without a watcher it is not remembered."""
    hub = make_hub()
    hub.fail(REF, ErrorCode.TOMBSTONE, "no value")
    assert not hub._live
    with hub.watch(REF) as live:
        hub.fail(REF, ErrorCode.TOMBSTONE, "no value")
        assert live.ending == Ending(Status.FAILED, 0, error=RequestError(code=ErrorCode.TOMBSTONE, detail="no value"))


def test_an_unsigned_ending_is_only_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unsigned ending is never shown; it triggers a look into Postgres, at most one per second."""
    hub, clock = make_hub(), 1000.0
    monkeypatch.setattr(events.time, "monotonic", lambda: clock)
    with hub.watch(REF) as live:
        assert (hub.due(), hub.hinted.is_set()) == ([], False)
        for kind in (COMPLETED, FAILED, CANCELLED, EXPIRED):
            tell(hub, kind, signer=None, attempt=1, reply="FORGED", usage={}, code="timeout", detail="")
            assert (live.ending, text(live)) == (None, "")
        assert (hub.due(), hub.hinted.is_set()) == ([REF], True)
        hub.looked([REF])
        tell(hub, CANCELLED, signer=None, attempt=1)
        assert hub.due() == []
        clock += 1
        assert hub.due() == [REF]
    assert count(hub, "events_unsigned_total") == 5


def test_an_unsigned_ending_that_nobody_waits_for_is_nothing() -> None:
    """An unsigned ending of a request without watchers triggers no look, and nothing is remembered."""
    hub = make_hub()
    tell(hub, CANCELLED, signer=None, attempt=1)
    assert (hub.hinted.is_set(), len(hub._live)) == (False, 0)


def test_events_of_an_older_release_are_shown() -> None:
    """While no event of a request is signed, the text of the unsigned events is shown."""
    hub = make_hub()
    with hub.watch(REF) as live:
        tell(hub, STARTED, signer=None, attempt=1, conversation_id=CONVERSATION)
        tell(hub, DELTA, signer=None, attempt=1, at=0, text="Hello")
        assert (live.attempt, text(live), str(live.conversation_id)) == (1, "Hello", CONVERSATION)
        tell(hub, RESTART, signer=None, attempt=2, text="other")
        assert (live.attempt, text(live)) == (2, "other")


FORGED = {"text": "FORGED", "conversation_id": str(uuid4()), "n": 4, "kind": "refusal"}


@pytest.mark.parametrize("kind", [STARTED, DELTA, PIECE, RESTART])
def test_what_a_worker_signs_alone_counts(kind: str) -> None:
    """After a signed event no unsigned one of the same request is shown, whatever attempt it names."""
    hub = make_hub()
    with hub.watch(REF) as live:
        tell(hub, DELTA, attempt=1, at=0, text="true")
        for attempt in (1, 2, 2**31 - 1):
            tell(hub, kind, signer=None, attempt=attempt, at=4, **FORGED)
        assert (live.attempt, text(live), live.conversation_id) == (1, "true", None)
        tell(hub, DELTA, attempt=1, at=4, text=" text")
        assert live.window.since(0) == [Piece("text", "true text")]


@pytest.mark.parametrize("attempt", [1, 2**31 - 1])
@pytest.mark.parametrize("kind", [STARTED, DELTA, PIECE, RESTART])
def test_what_was_forged_before_is_void(kind: str, attempt: int) -> None:
    """The first signed event takes everything unsigned back: text, attempt, conversation and body hash."""
    hub = make_hub()
    with hub.watch(REF) as live:
        tell(hub, kind, body_hash="forged", signer=None, attempt=attempt, at=0, **{**FORGED, "n": 0})
        live.check_hash("hash")
        epoch = live.epoch
        tell(hub, DELTA, attempt=1, at=0, text="true")
        assert (live.attempt, text(live), live.conversation_id, live.body_hash) == (1, "true", None, "hash")
        assert live.epoch > epoch
        assert hub._bytes == live.size


def test_a_bad_signature_is_none() -> None:
    """A signature with another secret or of another event counts as no signature."""
    hub, record = make_hub(), SIGNER.sign(DELTA.encode(), str(ID).encode(), b"hash", b"other tenant", b"{}")
    with hub.watch(REF) as live:
        tell(hub, DELTA, attempt=1, at=0, text="true")
        tell(hub, DELTA, signer=EventSigner([b"x" * 32]), attempt=1, at=4, text="FORGED")
        names = {"ce_type": DELTA, "orchestra-tenant": "default", "orchestra-body-hash": "hash"}
        for signature in (record, b"", b"\xff", record * 2):
            headers = [(name, text.encode()) for name, text in names.items()]
            hub.take(
                str(ID).encode(),
                [*headers, ("orchestra-signature", signature)],
                b'{"attempt": 1, "at": 4, "text": "FORGED"}',
            )
        assert text(live) == "true"
    assert count(hub, "events_unsigned_total") == 5


def test_signatures_while_the_secret_changes() -> None:
    """A gateway that knows the old secret accepts the events of workers that still sign with it."""
    old, new = b"o" * 32, b"n" * 32
    hub = Hub(Metrics(), 2**20, EventSigner([new, old]))
    with hub.watch(REF) as live:
        tell(hub, DELTA, signer=EventSigner([old]), attempt=1, at=0, text="a")
        tell(hub, DELTA, signer=EventSigner([new, old]), attempt=1, at=1, text="b")
        assert (text(live), live.signed) == ("ab", True)
